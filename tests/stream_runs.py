"""What tests of the streams share: topics of their own, records in them, and streams that run until a test is done."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import psutil
import psycopg
from confluent_kafka import KafkaError, Message, Producer
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource
from pyspark.sql import SparkSession

from include.broker import kafka
from include.platform import jars, processes, spark
from include.settings import Settings
from include.streams import current_model, ingest, known_labels, runner
from include.streams.checkpoint import Checkpoint
from tests.waiting import PATIENCE, Result, until

ANY_PARTITION = -1  # by the key, in librdkafka's words


def own(settings: Settings, home: Path, **more: object) -> Settings:
    """Settings with topics and a checkpoint folder of this test's own; the topics are created."""
    name = uuid.uuid4().hex[:8]
    topics = {"transactions_topic": f"transactions-{name}", "labels_topic": f"labels-{name}"}
    changed = settings.model_copy(update={"home": home, "trigger_interval_ms": 50, **topics, **more})
    kafka.ensure_topics(changed)
    return changed


def use_producer_time(settings: Settings, topic: str) -> None:
    """Lets the topic's records carry any time that their producer gives them, as topics of others may do."""
    values = {kafka.TIME_OF_RECORDS: "CreateTime", "message.timestamp.after.max.ms": str(2**63 - 1)}
    entries = [
        ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
        for name, value in values.items()
    ]
    changed = ConfigResource("TOPIC", topic, incremental_configs=entries)
    admin = AdminClient(kafka.client_config(settings))
    admin.incremental_alter_configs([changed])[changed].result(30)


def produce(
    settings: Settings, topic: str, values: Sequence[bytes | None], partition: int | None = None
) -> None:
    """Sends records and waits until the broker has them all."""
    failures: list[KafkaError] = []
    producer = Producer(kafka.client_config(settings, enable_idempotence=True, linger_ms=5))

    def delivered(error: KafkaError | None, _: object) -> None:
        if error is not None:
            failures.append(error)

    for i, value in enumerate(values):
        producer.produce(
            topic,
            value,
            key=f"user-{i % 13}",
            partition=ANY_PARTITION if partition is None else partition,
            on_delivery=delivered,
        )
        producer.poll(0)
    assert producer.flush(60) == 0 and not failures


@contextmanager
def transaction(settings: Settings, commit: bool = True) -> Iterator[Callable[..., None]]:
    """A transaction of a producer, open in the block and then committed or aborted.

    Gives `send(topic, values, partition=0)`, which waits until the broker has the values. After the block readers can
    pass the transaction: the broker answers a commit before it has written the markers.
    """
    producer = Producer(kafka.client_config(settings, transactional_id=uuid.uuid4().hex), logger=kafka.QUIET)
    producer.init_transactions(30)
    producer.begin_transaction()
    last: dict[tuple[str, int], int] = {}

    def delivered(_: object, message: Message) -> None:
        topic, partition, offset = message.topic(), message.partition(), message.offset()
        assert topic is not None and partition is not None and offset is not None
        last[topic, partition] = offset

    def send(topic: str, values: Sequence[bytes], partition: int = 0) -> None:
        for i, value in enumerate(values):
            producer.produce(topic, value, key=f"user-{i % 13}", partition=partition, on_delivery=delivered)
        assert producer.flush(30) == 0

    yield send
    if commit:
        producer.commit_transaction(30)
    else:
        producer.abort_transaction(30)
    for (topic, partition), offset in last.items():
        until(lambda: kafka.end_offsets(settings, topic)[partition] > offset)  # noqa: B023


def query(settings: Settings, text: str) -> list[Any]:
    with psycopg.connect(settings.conninfo("owner"), autocommit=True) as connection:
        cursor = connection.execute(text)
        return cursor.fetchall() if cursor.description else []


def forget_checkpoint(settings: Settings, stream: str) -> None:
    shutil.rmtree(Checkpoint(settings, stream).folder)


def follow(settings: Settings, error: Exception | None, stream: str) -> None:
    """Does what the message of a stream's error tells, word for word."""
    message = str(error)
    assert "delete its checkpoint's folder" in message
    if Checkpoint(settings, stream).folder.exists():
        forget_checkpoint(settings, stream)
    words = "as the database's owner: "
    query(settings, message[message.index(words) + len(words) :])


def recreate(settings: Settings, *topics: str) -> None:
    """Deletes topics and creates them again, as soon as the broker allows it."""
    admin = AdminClient(kafka.client_config(settings))
    for future in admin.delete_topics(list(topics)).values():
        future.result(30)

    def created() -> bool:
        try:
            kafka.ensure_topics(settings)
        except kafka.KafkaError:
            return False
        return True

    until(created)


def books(settings: Settings, name: str) -> tuple[int, int, int, int]:
    """Offsets, stored, dead letters and duplicates of a stream, over all its partitions."""
    row: tuple[int, int, int, int] = query(
        settings,
        "select coalesce(sum(next_offset - first_offset), 0)::int, coalesce(sum(stored), 0)::int, "
        "coalesce(sum(dead_letters), 0)::int, coalesce(sum(duplicates), 0)::int "
        f"from shop.stream_offsets where stream = '{name}'",
    )[0]
    return row


def lease(settings: Settings, name: str) -> tuple[str, str]:
    row: tuple[str, str] = query(
        settings, f"select state, detail from shop.stream_leases where stream = '{name}'"
    )[0]
    return row


class Running:
    """A stream in a thread of this process."""

    def __init__(self, settings: Settings, definition: runner.StreamDefinition, spark: SparkSession):
        self.stopping = threading.Event()
        self.error: Exception | None = None
        self._thread = threading.Thread(target=self._run, args=(settings, definition, spark))
        self._thread.start()

    def _run(self, settings: Settings, definition: runner.StreamDefinition, spark: SparkSession) -> None:
        try:
            runner.run_stream(settings, definition, self.stopping, lambda *_: spark)
        except Exception as error:  # noqa: BLE001 - whatever it is, the test that waits for the stream raises it
            self.error = error

    def alive(self) -> bool:
        return self._thread.is_alive()

    def works(self) -> bool:
        """Whether it still runs; raises the error that it ended with."""
        if not self.alive() and self.error is not None:
            raise self.error
        return self.alive()

    def ended(self, seconds: float = PATIENCE) -> Exception | None:
        """Waits for its end; the error that it ended with."""
        self._thread.join(seconds)
        assert not self._thread.is_alive(), "the stream did not end"
        return self.error

    def until(self, condition: Callable[[], Result]) -> Result:
        """Waits until the condition holds; raises the stream's own error as soon as it ends with one."""
        return until(condition, alive=self.works)

    def reaches(self, condition: Callable[[], object]) -> bool:
        """Waits until the condition holds; False when the stream ended before."""
        until(lambda: condition() or not self.alive())
        return self.alive()


@contextmanager
def running(
    settings: Settings, definition: runner.StreamDefinition, spark: SparkSession
) -> Iterator[Running]:
    """A stream that must not fail while the block runs, and is then asked to stop."""
    active = Running(settings, definition, spark)
    try:
        yield active
    finally:
        active.stopping.set()
        error = active.ended()
        if error:
            raise error


class Waiting(Protocol):
    """Waits until a condition holds and returns what it gave."""

    def __call__(self, condition: Callable[[], Result]) -> Result: ...


@contextmanager
def both_streams(settings: Settings, spark: SparkSession) -> Iterator[Waiting]:
    """transaction_stream and fraud_stream, until the block ends.

    Gives `until(condition)`, which raises a stream's own error as soon as it ends with one.
    """
    handlers = {settings.transactions_topic: ingest.transactions, settings.labels_topic: ingest.labels}
    storing = runner.StreamDefinition("transaction_stream", tuple(handlers), lambda spark: handlers)
    model = current_model.CurrentModel(settings)
    scoring = runner.StreamDefinition(
        "fraud_stream",
        (settings.transactions_topic,),
        model.handlers,
        waits_for=model.waits_for,
        report=model.report,
        read_ahead={settings.labels_topic: known_labels.labels},
    )
    try:
        with running(settings, storing, spark) as store, running(settings, scoring, spark) as score:

            def wait(condition: Callable[[], Result]) -> Result:
                return until(condition, alive=lambda: store.works() and score.works())

            yield wait
    finally:
        model.close()


class Submitted:
    """A job as Airflow starts it: spark-submit, in a process group of its own, whose output goes to a log.

    What is left of the group is killed at the end of the block. `more` changes the job's settings.
    """

    def __init__(self, settings: Settings, job: str, log: Path, **more: object):
        command = [
            str(Path(sys.executable).with_name("spark-submit")), "--master", "local[2]",
            "--driver-memory", spark.DRIVER_MEMORY,
            "--jars", ",".join(jars.spark_classpath()),
            "--conf", f"spark.driver.extraJavaOptions={spark.java_options(log.parent)}",
            str(spark.job_file(job)),
        ]  # fmt: skip
        own_settings = settings.model_copy(update=more).as_environment()
        self.log = log
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                command,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                cwd=log.parent,
                env={
                    **os.environ,
                    **processes.mark(settings),
                    "PYSPARK_PYTHON": sys.executable,
                    **own_settings,
                },
            )

    def __enter__(self) -> Submitted:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.left():
            process.kill()
        self.process.wait(30)

    def until(self, condition: Callable[[], Result], seconds: float = 240) -> Result:
        """Waits until the condition holds, and fails with the end of the log when the job ends before."""
        try:
            return until(condition, seconds, lambda: self.process.poll() is None)
        except AssertionError as error:
            raise AssertionError(f"{error}:\n{self.log.read_text()[-3000:]}") from None

    def ended(self, seconds: float = 240.0) -> int:
        return self.process.wait(seconds)

    def driver(self) -> psutil.Process:
        """The Python driver, which the JVM starts."""
        return next(
            child for child in psutil.Process(self.process.pid).children() if "python" in child.name()
        )

    def left(self) -> list[psutil.Process]:
        """The processes of the group that still run."""
        left = []
        for process in psutil.process_iter():
            try:
                if os.getsid(process.pid) == self.process.pid and process.status() != psutil.STATUS_ZOMBIE:
                    left.append(process)
            except (ProcessLookupError, psutil.NoSuchProcess):
                continue
        return left

    def terminate(self) -> None:
        """SIGTERM to the whole group, as Airflow does when a task is marked as failed."""
        os.killpg(self.process.pid, signal.SIGTERM)
