"""The scaffolding of the streaming jobs: Spark reads Kafka's records, `include.streams.store` writes them exactly once.

A Spark task reads a range of one Kafka partition and writes it; only counts come back to the driver. Spark's
checkpoint says where to go on, and the ledger in PostgreSQL decides what is new.
"""

from __future__ import annotations

import json
import logging
import os
import re
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import psycopg
import pyarrow as pa
from py4j.protocol import Py4JError
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.streaming import StreamingQuery

from include.broker import kafka
from include.settings import Settings
from include.streams import store
from include.streams.failpoint import Failpoint
from include.streams.lease import Lease, LeaseLost
from include.streams.orphan import exit_when_orphaned
from include.streams.read_ahead import ReadAhead
from include.streams.store import Handler, Range, Record, StoreError, Summary, Writer

log = logging.getLogger(__name__)

TOPIC_CHECK_SECONDS = 5.0
LOG_SECONDS = 10.0
POLL_SECONDS = 0.2
AHEAD_SECONDS = 60.0  # a batch waits so long for a broker that does not give what is to be read ahead

SPARK = {
    "spark.ui.enabled": "false",
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.adaptive.enabled": "false",
    # The default manager and its checksums take 85 ms of each batch; these take 17.
    "spark.sql.streaming.checkpointFileManagerClass": "org.apache.spark.sql.execution.streaming.checkpointing."
    "FileSystemBasedCheckpointFileManager",
    "spark.sql.streaming.checkpoint.fileChecksum.enabled": "false",
    "spark.sql.streaming.minBatchesToRetain": "10",
    "spark.sql.streaming.noDataMicroBatches.enabled": "false",
    # One write transaction each: large enough to be fast, small enough to fit into memory whatever comes.
    "spark.sql.execution.arrow.maxRecordsPerBatch": "30000",
    "spark.sql.execution.arrow.maxBytesPerBatch": str(64 * 1024 * 1024),
    **kafka.SPARK_REDACTION,
}
SPARK_ERRORS = (PySparkException, Py4JError, OSError)  # the last two: its JVM is gone
COLUMNS = ("topic", "partition", "offset", "timestamp", "key", "value")
SUMMARY = "topic string, " + ", ".join(f"{name} long" for name in Summary._fields[1:])


class StreamFailed(RuntimeError):
    """The stream stopped for a reason that its message tells an operator."""


class CheckpointDamaged(StreamFailed):
    """Spark's checkpoint cannot be read."""


class MixedRange(StoreError):
    """A task got records of more than one Kafka partition."""


@dataclass(frozen=True)
class StreamDefinition:
    """What a stream does.

    handlers: for the next batch, what writes the records of each topic; sent to Spark's workers.
    waits_for: why no batch may be read yet; empty when it may.
    report: detail and model version for the lease's report.
    read_ahead: topics that the driver reads to their end before each batch, and what writes them.
    """

    stream: str
    topics: tuple[str, ...]
    handlers: Callable[[SparkSession], Mapping[str, Handler]]
    waits_for: Callable[[], str] = lambda: ""
    report: Callable[[], tuple[str, int | None]] = lambda: ("", None)
    read_ahead: Mapping[str, Handler] = field(default_factory=dict)


def main(settings: Settings, definition: StreamDefinition) -> int:
    """Runs a stream until it is asked to stop; the exit status of its process.

    SIGTERM, SIGINT and the lease's stop request end it after the current batch with status 0. Any failure ends
    it with status 1 and one line that says why; whoever started it starts it again.
    """
    logging.basicConfig(
        stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    logging.getLogger("py4j").setLevel(logging.ERROR)
    logging.getLogger("httpx").setLevel(logging.WARNING)  # the registry is asked every few seconds
    stopping = threading.Event()

    def started(settings: Settings, name: str) -> SparkSession:
        spark = session(settings, name)
        _stop_on_signals(stopping)  # Spark puts its own in the place of SIGINT's
        return spark

    _stop_on_signals(stopping)
    exit_when_orphaned(stopping.set, grace=20)
    try:
        run(settings, definition, stopping, started)
    except StreamFailed as error:
        log.error("%s stopped: %s", definition.stream, error)
        return 1
    log.info("%s stopped as asked", definition.stream)
    return 0


def _stop_on_signals(stopping: threading.Event) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())


def session(settings: Settings, name: str) -> SparkSession:
    """The Spark session of a job; its master comes from spark-submit."""
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)  # or the workers take the system's Python
    options = SPARK | {"spark.app.name": name}
    if settings.spark_master.startswith("local"):
        options |= {"spark.driver.host": "127.0.0.1", "spark.driver.bindAddress": "127.0.0.1"}
    return SparkSession.builder.config(map=options).getOrCreate()


def checkpoint_folder(settings: Settings, stream: str) -> Path:
    return settings.home / "checkpoints" / stream


def run(
    settings: Settings,
    definition: StreamDefinition,
    stopping: threading.Event,
    session: Callable[[Settings, str], SparkSession] = session,
) -> None:
    """Takes the stream's lease, waits for what the definition waits for, and reads until `stopping` or a stop request.

    Raises:
        StreamFailed: it cannot go on; the lease's detail says the same.
    """
    try:
        lease = Lease(settings, definition.stream)
    except psycopg.Error as error:
        raise StreamFailed(f"PostgreSQL cannot be reached: {_line(error)}") from error
    try:
        if lease.take(stopping):
            log.info("%s: epoch %d", definition.stream, lease.epoch)
            _Run(settings, definition, lease, stopping, session(settings, definition.stream)).run()
    except (StreamFailed, StoreError, LeaseLost, kafka.KafkaError, psycopg.Error, *SPARK_ERRORS) as error:
        if isinstance(error, SPARK_ERRORS) and stopping.is_set():
            lease.release()  # the signal that asked us to stop has ended Spark's JVM meanwhile
            return
        message = explain(error)
        lease.release("failed", message)
        raise StreamFailed(message) from error
    lease.release()


class _Run:
    """One run of a stream from its lease to its end."""

    def __init__(
        self,
        settings: Settings,
        definition: StreamDefinition,
        lease: Lease,
        stopping: threading.Event,
        spark: SparkSession,
    ):
        self.settings = settings
        self.definition = definition
        self.lease = lease
        self.stopping = stopping
        self.spark = spark
        self.checkpoint = checkpoint_folder(settings, definition.stream)
        self.writer = Writer(
            settings, definition.stream, lease.epoch, Failpoint(settings.failpoint, os.getpid())
        )
        self.topic_ids: dict[str, str] = {}
        self.checked_topics_at = 0.0
        self.ahead: ReadAhead | None = None
        self.closing = False
        self.busy = threading.Lock()
        self.error: BaseException | None = None
        self.batches = 0
        self.tally = _Tally(definition.stream)

    def run(self) -> None:
        if not self._wait():
            return
        query = self._start()
        try:
            while not self._should_stop():
                if not query.isActive:
                    raise self._cause(query)
                self.lease.set_state("running", *self.definition.report())
                self._catch_up_when_idle()
                self.stopping.wait(POLL_SECONDS)
        except LeaseLost:
            query.stop()  # the batch that is being written must end now
            raise
        self.lease.set_state("stopping", *self.definition.report())
        self._finish(query)

    def _should_stop(self) -> bool:
        if self.lease.lost:
            raise self.lease.lost
        return self.stopping.is_set() or self.lease.stop_requested.is_set()

    def _wait(self) -> bool:
        """False when the stream was asked to stop before it may read."""
        said = ""
        while reason := self.definition.waits_for():
            self.lease.set_state("waiting", reason)
            if reason != said:
                log.info("%s: %s", self.definition.stream, reason)
                said = reason
            if self._should_stop():
                return False
            self.stopping.wait(POLL_SECONDS)
        return not self._should_stop()

    def _start(self) -> StreamingQuery:
        positions = self._positions()
        starting = {topic: positions[topic] for topic in self.definition.topics}
        if self.definition.read_ahead:
            self.ahead = ReadAhead(self.writer, self.definition.read_ahead, self.topic_ids, self._places)
        check_checkpoint(self.checkpoint)
        reader = (
            self.spark.readStream.format("kafka")
            .options(**kafka.spark_options(self.settings))
            .option("subscribe", ",".join(self.definition.topics))
            .option("startingOffsets", json.dumps(starting))  # for a checkpoint that is new
            .option("failOnDataLoss", "true")
            .option("maxOffsetsPerTrigger", self.settings.max_offsets_per_trigger)
            .option("groupIdPrefix", f"fraudstream-{self.definition.stream}")
            .option("kafka.fetch.max.wait.ms", "50")
        )
        return (
            reader.load()
            .writeStream.queryName(self.definition.stream)
            .foreachBatch(self._batch)
            .option("checkpointLocation", self.checkpoint.as_uri())
            .trigger(processingTime=f"{self.settings.trigger_interval_ms} milliseconds")
            .start()
        )

    def _positions(self) -> dict[str, dict[str, int]]:
        """Where each partition goes on by the ledger, which gets the topics' new partitions.

        Raises:
            OffsetGap, TopicRecreated, Fenced: the broker and the ledger do not fit.
        """
        return {
            topic: {str(partition): offset for partition, offset in self._places(topic).items()}
            for topic in (*self.definition.topics, *self.definition.read_ahead)
        }

    def _places(self, topic: str) -> dict[int, int]:
        self.topic_ids[topic] = kafka.topic_id(self.settings, topic)
        ends = kafka.end_offsets(self.settings, topic)
        begins = kafka.begin_offsets(self.settings, topic)
        with store.connect(self.settings) as connection:
            return store.open_ledger(connection, self.writer, topic, self.topic_ids[topic], begins, ends)

    def _batch(self, frame: DataFrame, batch_id: int) -> None:
        """Writes a micro-batch; called from Spark's own thread."""
        with self.busy:
            if self.closing:
                raise StreamFailed("no further batch: the stream is stopping")
            try:
                self._check_topics()
                if self.ahead and not self.ahead.catch_up(AHEAD_SECONDS, self._ending):
                    raise StreamFailed("no further batch: the stream is stopping")
                write = partial(
                    write_partition, self.writer, self.topic_ids, self.definition.handlers(self.spark)
                )
                rows = frame.select(*COLUMNS).mapInArrow(write, SUMMARY).collect()
            except BaseException as error:
                self.error = error
                raise
            self.batches += 1
            self.tally.add(rows)
            self.writer.failpoint.reach("before_checkpoint")

    def _check_topics(self) -> None:
        """A topic that is recreated while its stream runs is noticed within seconds."""
        if time.monotonic() - self.checked_topics_at < TOPIC_CHECK_SECONDS:
            return
        try:
            for topic in (*self.definition.topics, *self.definition.read_ahead):
                self.topic_ids[topic] = kafka.topic_id(self.settings, topic)
        except kafka.KafkaUnavailable as error:
            log.warning("%s: the topics could not be checked: %s", self.definition.stream, error)
            return
        self.checked_topics_at = time.monotonic()

    def _catch_up_when_idle(self) -> None:
        """What is read ahead does not wait for ever for a batch."""
        if self.ahead is None or time.monotonic() - self.ahead.at < TOPIC_CHECK_SECONDS:
            return
        if not self.busy.acquire(blocking=False):
            return  # a batch does it
        try:
            self.ahead.catch_up(TOPIC_CHECK_SECONDS, self._ending)
        except kafka.KafkaUnavailable as error:
            log.warning("%s", error)  # the next batch fails if it lasts
            self.ahead.at = time.monotonic()
        finally:
            self.busy.release()

    def _ending(self) -> bool:
        return self.closing or self.stopping.is_set() or self.lease.stop_requested.is_set()

    def _cause(self, query: StreamingQuery) -> BaseException:
        """Why the query ended."""
        error = self.error or query.exception() or StreamFailed("the query ended by itself")
        text = str(error)
        if "data loss" in text.lower() or "DATA_LOSS" in text:
            try:
                self._positions()  # says the same with range and remedy
            except StoreError as precise:
                return precise
        if self.batches == 0 and self.error is None and (self.checkpoint / "metadata").exists():
            return CheckpointDamaged(
                f"{_line(error)} - nothing was read yet; if it is the checkpoint, {_remedy(self.checkpoint)}"
            )
        return error

    def _finish(self, query: StreamingQuery) -> None:
        """Lets the batch that is being written end, and starts no other."""
        self.closing = True
        with self.busy:
            if self.ahead is not None:
                self.ahead.close()
        deadline = time.monotonic() + 2
        while query.isActive and query.status["isTriggerActive"] and time.monotonic() < deadline:
            time.sleep(0.02)  # the batch's place is being written into the checkpoint
        query.stop()


def write_partition(
    writer: Writer,
    topic_ids: Mapping[str, str],
    handlers: Mapping[str, Handler],
    batches: Iterable[pa.RecordBatch],
) -> Iterator[pa.RecordBatch]:
    """Writes the records of one task, which Spark gives in batches; yields a `Summary` for each.

    Runs in a Spark worker. Without `minPartitions` a task has records of one Kafka partition only, in order.

    Raises:
        MixedRange: it has not.
        StoreError, psycopg.Error: from `include.streams.store.write`.
    """
    for batch in batches:
        if batch.num_rows == 0:
            continue
        span = to_range(writer.stream, topic_ids, batch)
        with store.connection(writer.settings) as connection:
            summary = store.write(connection, writer, span, handlers[span.topic])
        yield pa.RecordBatch.from_pylist([summary._asdict()])


def to_range(stream: str, topic_ids: Mapping[str, str], batch: pa.RecordBatch) -> Range:
    """The records of an Arrow batch with the columns `COLUMNS` of Spark's Kafka source.

    Raises:
        MixedRange: they come from more than one partition.
    """
    topics, partitions = batch["topic"].unique().to_pylist(), batch["partition"].unique().to_pylist()
    if len(topics) > 1 or len(partitions) > 1:
        raise MixedRange(f"{stream}: a task got records of several partitions: {partitions} of {topics}")
    limits = store.EARLIEST_TIME * 10**6, store.LATEST_TIME * 10**6
    micros = batch["timestamp"].cast(pa.int64()).to_numpy().clip(*limits)
    times = [datetime.fromtimestamp(micro / 1e6, UTC) for micro in micros.tolist()]
    columns = batch["offset"].to_pylist(), times, batch["key"].to_pylist(), batch["value"].to_pylist()
    records = list(map(Record, *columns))
    return Range(stream, topics[0], topic_ids[topics[0]], partitions[0], records)


def check_checkpoint(folder: Path) -> None:
    """Reads the newest files of a checkpoint as Spark will.

    Raises:
        CheckpointDamaged: one is cut off or unreadable.
    """
    metadata = folder / "metadata"
    if not metadata.exists() and not (folder / "offsets").exists():
        return
    files = [metadata]
    for kind in ("offsets", "commits"):
        numbered = [path for path in (folder / kind).glob("*") if path.name.isdecimal()]
        files += sorted(numbered, key=lambda path: int(path.name))[-2:]
    for path in files:
        try:
            lines = path.read_text().splitlines()
            if path is not metadata and not re.fullmatch(r"v\d+", lines.pop(0)):
                raise ValueError("it has no version")
            if not lines:
                raise ValueError("it ends early")
            for line in lines:
                if line != "-":
                    json.loads(line)
        except (OSError, ValueError, IndexError) as error:
            raise CheckpointDamaged(
                f"the checkpoint is damaged, {path} cannot be read: {error}; {_remedy(folder)}"
            ) from error


def _remedy(folder: Path) -> str:
    return f"delete the folder {folder}: the ledger in PostgreSQL knows exactly where to go on"


def explain(error: BaseException) -> str:
    """One line for an operator: the error of ours or of PostgreSQL that a worker raised, or Spark's own words."""
    found = re.findall(r"^(?:include|psycopg)\.[\w.]+: (.+)$", str(error), re.MULTILINE)
    return found[-1].strip() if found else _line(error)


def _line(error: BaseException) -> str:
    said = re.split(r"\n=== Streaming Query ===|\n+JVM stacktrace", str(error))[0]
    return " ".join(said.split()) or type(error).__name__


class _Tally:
    """Logs what was written, at most once in `LOG_SECONDS`."""

    def __init__(self, stream: str):
        self._stream = stream
        self._counts: Counter[str] = Counter()
        self._since = time.monotonic()

    def add(self, rows: Iterable) -> None:
        for row in rows:
            self._counts.update({name: row[name] for name in Summary._fields[4:]})
        seconds = time.monotonic() - self._since
        if seconds >= LOG_SECONDS and any(self._counts.values()):
            counts = ", ".join(f"{name} {count}" for name, count in self._counts.items() if count)
            log.info("%s: in %.0f s %s", self._stream, seconds, counts)
            self._counts.clear()
            self._since = time.monotonic()
