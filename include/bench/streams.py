"""The two Spark streams beside a hand-written process and the usual append, on real Kafka, PostgreSQL and Spark."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
from confluent_kafka import KafkaError, Message, Producer
from pyspark.sql import DataFrame, Row, SparkSession
from pyspark.sql import functions as F

from include.bench import START, hand_written
from include.bench.compare import BenchmarkFailed, Comparison, Side, compare_pairs
from include.bench.services import services
from include.bench.store import COLUMNS, INSERT, PLAIN_TABLE
from include.broker import kafka
from include.features.behaviour import FEATURE_SET, FEATURES
from include.generator.config import Config
from include.generator.profiles import simulation
from include.models.isolation_forest import IsolationForestDetector
from include.models.scorer import Scorer
from include.platform import jars
from include.platform.spark import DRIVER_MEMORY, java_options
from include.settings import Settings
from include.sql import one_row
from include.streams import FRAUD_STREAM, TRANSACTION_STREAM, ingest, known_labels, runner, scoring, store
from include.streams.checkpoint import Checkpoint

KINDS = {"timestamp": "timestamp", "amount": "double", "latitude": "double", "longitude": "double"}
JSON_SCHEMA = ", ".join(f"{name} {KINDS.get(name, 'string')}" for name in COLUMNS)
EMPTY = """
truncate shop.transactions, shop.transaction_ids, shop.fraud_transactions, shop.dead_letters, shop.fraud_scores,
    shop.scored_ids, shop.fraud_alerts, shop.user_state, shop.merchant_state, shop.day_state, shop.known_labels,
    shop.known_frauds, shop.stream_offsets, bench.transactions"""


def measure(rounds: int = 3, events: int = 200_000) -> list[Comparison]:
    """Cost of an event once a stream is under way: its first commit and what came before are left out.

    The hand-written sides are one process each, without Spark (include.bench.hand_written). The plain side does no
    more than tutorials do: `from_json`, then `executemany` in each partition; it has no validation, no key, no ledger
    and no score. The scores are those of a forest of 100 trees.
    """
    with services(kafka=True) as settings, spark_session() as spark:
        with psycopg.connect(settings.conninfo("owner"), autocommit=True) as owner:
            owner.execute(PLAIN_TABLE)
            owner.execute(hand_written.TABLES)
        settings = settings.model_copy(update={"max_offsets_per_trigger": min(40_000, max(1, events // 5))})
        count = fill(settings, events)
        stores = Side(
            TRANSACTION_STREAM, partial(_streamed, settings, spark, transaction_job(settings), count)
        )
        scores = Side(FRAUD_STREAM, partial(_streamed, settings, spark, fraud_job(settings), count))
        plain = Side("plain append", partial(_appended, settings, spark, count))
        stored_by_hand = Side("hand-written, stores", partial(_written, settings, "stores", count))
        scored_by_hand = Side("hand-written, scores", partial(_written, settings, "scores", count))
        pairs = [
            (stores, stored_by_hand),
            (scores, scored_by_hand),
            (stores, plain),
            (scores, plain),
        ]
        return compare_pairs("streams", "event", pairs, rounds)


@contextmanager
def spark_session() -> Iterator[SparkSession]:
    """Two cores, and the options with which the embedded platform starts a driver."""
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    options: dict[str, Any] = {
        "spark.jars": ",".join(jars.spark_classpath()),
        "spark.driver.memory": DRIVER_MEMORY,
        "spark.ui.showConsoleProgress": "false",
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.driver.extraJavaOptions": java_options(Path(tempfile.gettempdir())),
    }
    spark = SparkSession.builder.master("local[2]").config(map=runner.SPARK | options).getOrCreate()
    try:
        yield spark
    finally:
        spark.stop()


def fill(settings: Settings, events: int) -> int:
    """Puts about `events` generated transactions into the topic; returns how many."""
    failed: list[KafkaError] = []

    def note(error: KafkaError | None, _message: Message[bytes, bytes]) -> None:
        if error is not None:
            failed.append(error)

    producer = Producer(kafka.client_config(settings, linger_ms=20, partitioner="murmur2_random"))
    count = 0
    for batch in simulation(Config()).between(START, START + timedelta(days=20), events=events):
        for _, key, value in batch.transactions():
            producer.produce(settings.transactions_topic, value, key, on_delivery=note)
            count += 1
            if count % 1_000 == 0:
                producer.poll(0)
        producer.flush()
    if failed:
        raise BenchmarkFailed(f"Kafka refused {len(failed)} events: {failed[0]}")
    return count


def transaction_job(settings: Settings) -> runner.StreamDefinition:
    handlers = {settings.transactions_topic: ingest.transactions, settings.labels_topic: ingest.labels}
    return runner.StreamDefinition(TRANSACTION_STREAM, tuple(handlers), lambda spark: handlers)


def fraud_job(settings: Settings) -> runner.StreamDefinition:
    read_ahead = {settings.labels_topic: known_labels.labels}
    topics = (settings.transactions_topic,)
    return runner.StreamDefinition(
        FRAUD_STREAM, topics, _Handlers(settings.transactions_topic), read_ahead=read_ahead
    )


class _Handlers:
    """Scores with a forest fitted on noise: only its cost matters here."""

    def __init__(self, topic: str):
        self._topic = topic
        self._handlers: dict[str, store.Handler] | None = None

    def __call__(self, spark: SparkSession) -> dict[str, store.Handler]:
        if self._handlers is None:
            sent = spark.sparkContext.broadcast(_scorer())
            self._handlers = {self._topic: partial(scoring.scores_by, sent)}
        return self._handlers


def _scorer() -> Scorer:
    X = np.random.default_rng(0).standard_normal((20_000, len(FEATURES))).astype(np.float32)
    detector = IsolationForestDetector().fit(X)
    return detector.scorer(threshold=0.99, version=1, feature_set=FEATURE_SET)


def _streamed(
    settings: Settings, spark: SparkSession, definition: runner.StreamDefinition, count: int
) -> float:
    """Seconds an event of one of our streams, which reads the topic from its beginning."""
    _reset(settings, definition.stream)
    stopping, failed = threading.Event(), []

    def work() -> None:
        try:
            runner.run_stream(settings, definition, stopping, lambda *_: spark)
        except runner.StreamFailed as error:
            failed.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        with psycopg.connect(settings.conninfo("owner"), autocommit=True) as connection:
            done = "select coalesce(sum(next_offset), 0) from shop.stream_offsets where stream = %s and topic = %s"
            key = definition.stream, settings.transactions_topic
            return _steady(lambda: int(one_row(connection.execute(done, key))[0]), count, thread.is_alive)
    finally:
        stopping.set()
        thread.join()
        if failed:
            raise BenchmarkFailed(str(failed[0])) from failed[0]


def _written(settings: Settings, side: str, count: int) -> float:
    """Seconds an event of a hand-written process, which reads the topic from its beginning."""
    with psycopg.connect(settings.conninfo("owner"), autocommit=True) as owner:
        owner.execute(hand_written.EMPTY[side])
    write = hand_written.store if side == "stores" else hand_written.Scoring(_scorer())
    return hand_written.read(settings, side, write, count)


def _appended(settings: Settings, spark: SparkSession, count: int) -> float:
    """Seconds an event of the plain stream, as tutorials have it."""
    _reset(settings, "plain")
    source = (
        spark.readStream.format("kafka")
        .options(**kafka.spark_options(settings))
        .option("subscribe", settings.transactions_topic)
        .option("startingOffsets", "earliest")
        .option("maxOffsetsPerTrigger", settings.max_offsets_per_trigger)
        .load()
    )
    parsed = source.select(F.from_json(F.col("value").cast("string"), JSON_SCHEMA).alias("event")).select(
        "event.*"
    )
    insert = partial(_insert, settings.conninfo("stream_writer"))

    def append(frame: DataFrame, _batch: int) -> None:
        frame.foreachPartition(insert)

    query = (
        parsed.writeStream.foreachBatch(append)
        .option("checkpointLocation", Checkpoint(settings, "plain").folder.as_uri())
        .start()
    )
    try:
        return _steady(
            lambda: sum(progress["numInputRows"] for progress in query.recentProgress),
            count,
            lambda: query.isActive,
        )
    finally:
        query.stop()


def _insert(conninfo: str, rows: Iterator[Row]) -> None:
    with psycopg.connect(conninfo) as connection, connection.cursor() as cursor:
        cursor.executemany(INSERT, list(rows))


def _steady(done: Callable[[], int], count: int, alive: Callable[[], bool]) -> float:
    """Seconds an event from the first events that are done to the last.

    Raises:
        BenchmarkFailed: it ended early, or all was done at once.
    """
    begin, first = None, 0
    while (now := done()) < count:
        if now and begin is None:
            begin, first = time.perf_counter(), now
        if not alive():
            raise BenchmarkFailed(f"the stream ended after {now:,} of {count:,} events")
        time.sleep(0.01)
    if begin is None:
        raise BenchmarkFailed(f"{count:,} events are too few to measure a stream")
    return (time.perf_counter() - begin) / (count - first)


def _reset(settings: Settings, name: str) -> None:
    """Nothing is stored, and the next stream reads from the beginning."""
    shutil.rmtree(Checkpoint(settings, name).folder, ignore_errors=True)
    with psycopg.connect(settings.conninfo("owner"), autocommit=True) as owner:
        owner.execute(EMPTY)
