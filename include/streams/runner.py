"""The scaffolding of the streaming jobs: Spark reads Kafka's records, `include.streams.store` writes them exactly once.

A Spark task reads a range of one Kafka partition and writes it; only counts come back to the driver. The driver then
writes what is left of the batch's ranges: offsets at their ends that hold no committed record. Spark's checkpoint says
where to go on, and the ledger in PostgreSQL decides what is new.
"""

from __future__ import annotations

import gc
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
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial

import psycopg
import pyarrow as pa
from py4j.protocol import Py4JError
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, Row, SparkSession
from pyspark.sql.streaming.query import StreamingQuery

from include.broker import kafka
from include.broker.kafka import Bounds
from include.events import mapping
from include.events.mapping import MappingError
from include.features import extra_fields
from include.settings import Settings
from include.streams import store
from include.streams.checkpoint import Checkpoint, CheckpointDamaged, Offsets
from include.streams.failpoint import Failpoint
from include.streams.lease import Lease, LeaseLost
from include.streams.orphan import exit_when_orphaned
from include.streams.pulse import Pulse
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
OUR_ERRORS = (CheckpointDamaged, StoreError, LeaseLost, MappingError, kafka.KafkaError, psycopg.Error)
SPARK_ERRORS = (PySparkException, Py4JError, OSError)  # the last two: its JVM is gone
LOSS = re.compile("data loss|DATA_LOSS|data may have been lost", re.IGNORECASE)  # in Spark's words
COLUMNS = ("topic", "partition", "offset", "timestamp", "key", "value")
SUMMARY = "topic string, " + ", ".join(f"{name} long" for name in Summary._fields[1:])


class StreamFailed(RuntimeError):
    """The stream stopped for a reason that its message tells an operator."""


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
        run_stream(settings, definition, stopping, started)
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
    options: dict[str, bool | float | int | str | None] = {**SPARK, "spark.app.name": name}
    if settings.spark_master.startswith("local"):
        options |= {"spark.driver.host": "127.0.0.1", "spark.driver.bindAddress": "127.0.0.1"}
    return SparkSession.builder.config(map=options).getOrCreate()


def run_stream(
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
            _keep_names(settings)
            spark = session(settings, definition.stream)
            pulse = Pulse(spark)
            lease.works = pulse.responds
            try:
                _Run(settings, definition, lease, stopping, spark).run()
            finally:
                pulse.end()
    except (StreamFailed, *OUR_ERRORS, *SPARK_ERRORS) as error:
        if isinstance(error, SPARK_ERRORS) and stopping.is_set():
            lease.release()  # the signal that asked us to stop has ended Spark's JVM meanwhile
            return
        message = explain(error)
        lease.release("failed", message)
        raise StreamFailed(message) from error
    lease.release()


def _keep_names(settings: Settings) -> None:
    """Remembers what the mapping of the topic, if there is one, calls the fields without a name of their own."""
    if settings.mapping is not None:
        with store.connection(settings) as connection:
            extra_fields.keep(connection, mapping.load(settings.mapping).names, settings.mapping)


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
        self.checkpoint = Checkpoint(settings, definition.stream)
        self.writer = Writer(
            settings, definition.stream, lease.epoch, Failpoint(settings.failpoint, os.getpid())
        )
        self.topic_ids: dict[str, str] = {}
        self.checked_topics_at = 0.0
        self.read_ahead: ReadAhead | None = None
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
        logged = ""
        while reason := self.definition.waits_for():
            self.lease.set_state("waiting", reason)
            if reason != logged:
                log.info("%s: %s", self.definition.stream, reason)
                logged = reason
            if self._should_stop():
                return False
            self.stopping.wait(POLL_SECONDS)
        return not self._should_stop()

    def _start(self) -> StreamingQuery:
        next_offsets = self._next_offsets()
        starting = {topic: next_offsets[topic] for topic in self.definition.topics}
        if self.definition.read_ahead:
            self.read_ahead = ReadAhead(self.writer, self.definition.read_ahead, self.topic_ids, self._open)
        self.checkpoint.check()
        reader = (
            self.spark.readStream.format("kafka")
            .options(**kafka.spark_options(self.settings))
            .option("subscribe", ",".join(self.definition.topics))
            .option("startingOffsets", json.dumps(starting))  # for a checkpoint that is new
            .option("failOnDataLoss", "true")
            .option("maxOffsetsPerTrigger", self.settings.max_offsets_per_trigger)
            .option("groupIdPrefix", f"fraudstream-{self.definition.stream}")
            .option("kafka.isolation.level", "read_committed")
            .option("kafka.fetch.max.wait.ms", "50")
        )
        return (
            reader.load()
            .writeStream.queryName(self.definition.stream)
            .foreachBatch(self._batch)
            .option("checkpointLocation", self.checkpoint.folder.as_uri())
            .trigger(processingTime=f"{self.settings.trigger_interval_ms} milliseconds")
            .start()
        )

    def _next_offsets(self) -> dict[str, dict[str, int]]:
        """Where each partition goes on by the ledger, which gets the topics' new partitions.

        Raises:
            OffsetGap, TopicRecreated, Fenced: the broker and the ledger do not fit.
        """
        return {
            topic: {str(partition): offset for partition, offset in self._open(topic).items()}
            for topic in (*self.definition.topics, *self.definition.read_ahead)
        }

    def _open(self, topic: str) -> dict[int, int]:
        self.topic_ids[topic] = kafka.topic_id(self.settings, topic)
        bounds = kafka.bounds(self.settings, topic)
        with store.connect(self.settings) as connection:
            return store.open_ledger(connection, self.writer, topic, self.topic_ids[topic], bounds)

    def _batch(self, frame: DataFrame, batch_id: int) -> None:
        """Writes a micro-batch; called from Spark's own thread."""
        with self.busy:
            if self.closing:
                raise StreamFailed("no further batch: the stream is stopping")
            try:
                self._check_topics()
                if self.read_ahead and not self.read_ahead.catch_up(AHEAD_SECONDS, self._ending):
                    raise StreamFailed("no further batch: the stream is stopping")
                ranges = self.checkpoint.ranges(batch_id)
                begins = {key: begin for key, (begin, _) in ranges.items()}
                handlers = self.definition.handlers(self.spark)
                write = partial(write_partition, self.writer, self.topic_ids, handlers, begins)
                rows = frame.select(*COLUMNS).mapInArrow(write, SUMMARY).collect()
                self._write_ends(ranges, rows, handlers)
            except BaseException as error:
                self.error = error
                raise
            self.batches += 1
            self.tally.add(rows)
            self.writer.failpoint.reach("before_checkpoint")

    def _write_ends(
        self, ranges: Mapping[tuple[str, int], Bounds], rows: Iterable[Row], handlers: Mapping[str, Handler]
    ) -> None:
        """Brings the ledger from the last record of each range to its end; from its begin where it has no record."""
        written: Offsets = {key: begin for key, (begin, _) in ranges.items()}
        for row in rows:
            key = row["topic"], row["partition"]
            written[key] = max(written[key], row["next_offset"])
        for (topic, partition), (_, end) in ranges.items():
            first = written[topic, partition]
            if first < end:
                span = Range(self.writer.stream, topic, self.topic_ids[topic], partition, first, end, [])
                with store.connection(self.settings) as connection:
                    store.write(connection, self.writer, span, handlers[topic])

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
        if self.read_ahead is None or time.monotonic() - self.read_ahead.at < TOPIC_CHECK_SECONDS:
            return
        if not self.busy.acquire(blocking=False):
            return  # a batch does it
        try:
            self.read_ahead.catch_up(TOPIC_CHECK_SECONDS, self._ending)
        except kafka.KafkaUnavailable as error:
            log.warning("%s", error)  # the next batch fails if it lasts
            self.read_ahead.at = time.monotonic()
        finally:
            self.busy.release()

    def _ending(self) -> bool:
        return self.closing or self.stopping.is_set() or self.lease.stop_requested.is_set()

    def _cause(self, query: StreamingQuery) -> BaseException:
        """Why the query ended."""
        error = self.error or query.exception() or StreamFailed("the query ended by itself")
        if LOSS.search(str(error)):
            try:
                self._next_offsets()  # names what is lost and the remedy
            except StoreError as precise:
                return precise
            return CheckpointDamaged(
                "the broker has deleted records that the checkpoint would read again and the ledger has: "
                f"{self.checkpoint.remedy}"
            )
        if self.batches == 0 and self.error is None and not self.checkpoint.is_new:
            return CheckpointDamaged(
                f"{_line(error)} - nothing was read yet; if it is the checkpoint, {self.checkpoint.remedy}"
            )
        return error

    def _finish(self, query: StreamingQuery) -> None:
        """Lets the batch that is being written end, and starts no other."""
        self.closing = True
        with self.busy:
            if self.read_ahead is not None:
                self.read_ahead.close()
        deadline = time.monotonic() + 2
        while query.isActive and query.status["isTriggerActive"] and time.monotonic() < deadline:
            time.sleep(0.02)  # the batch is being recorded in the checkpoint
        query.stop()


def write_partition(
    writer: Writer,
    topic_ids: Mapping[str, str],
    handlers: Mapping[str, Handler],
    begins: Mapping[tuple[str, int], int],
    batches: Iterable[pa.RecordBatch],
) -> Iterator[pa.RecordBatch]:
    """Writes the records of one task, which Spark gives in batches; yields a `Summary` for each.

    Runs in a Spark worker. Without `minPartitions` a task has records of one Kafka partition only, in order: all that
    is committed from the offset in `begins` on.

    Raises:
        MixedRange: it has not.
        StoreError, psycopg.Error: from `include.streams.store.write`.
    """
    first = None
    for batch in batches:
        if batch.num_rows == 0:
            continue
        with collector_paused():
            span = to_range(writer.stream, topic_ids, batch)
            span = span._replace(first=begins[span.topic, span.partition] if first is None else first)
            first = span.end
            with store.connection(writer.settings) as connection:
                summary = store.write(connection, writer, span, handlers[span.topic])
        yield pa.RecordBatch.from_pylist([summary._asdict()])


@contextmanager
def collector_paused() -> Iterator[None]:
    """No search for cycles within the block.

    A range makes a million objects and hardly a cycle; looking through them again and again took 40 % of its time.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def to_range(stream: str, topic_ids: Mapping[str, str], batch: pa.RecordBatch) -> Range:
    """The range of the records in an Arrow batch with the columns `COLUMNS` of Spark's Kafka source.

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
    return Range.of(stream, topics[0], topic_ids[topics[0]], partitions[0], records)


def explain(error: BaseException) -> str:
    """One line for an operator: the error of ours or of PostgreSQL that a worker raised, or Spark's own words."""
    ours = re.findall(r"^(?:include|psycopg)\.[\w.]+: (.+)$", str(error), re.MULTILINE)
    return ours[-1].strip() if ours else _line(error)


def _line(error: BaseException) -> str:
    message = re.split(r"\n=== Streaming Query ===|\n+JVM stacktrace|\n\s+at ", str(error))[0]
    return " ".join(message.split()) or type(error).__name__


class _Tally:
    """Logs what was written, at most once in `LOG_SECONDS`."""

    def __init__(self, stream: str):
        self._stream = stream
        self._counts: Counter[str] = Counter()
        self._since = time.monotonic()

    def add(self, rows: Iterable[Row]) -> None:
        for row in rows:
            self._counts.update({name: row[name] for name in Summary._fields[4:]})
        seconds = time.monotonic() - self._since
        if seconds >= LOG_SECONDS and any(self._counts.values()):
            counts = ", ".join(f"{name} {count}" for name, count in self._counts.items() if count)
            log.info("%s: in %.0f s %s", self._stream, seconds, counts)
            self._counts.clear()
            self._since = time.monotonic()
