"""What a campaign hurts: PostgreSQL, a broker, both streams and a producer, in a folder of their own.

In the `BareStack` the streams are the platform's own jobs under spark-submit, started again when they end. Airflow,
which does that in the platform, is left out: with it, many fewer faults fit into ten minutes on two cores.
`include.faults.platform_stack` has it.
"""

from __future__ import annotations

import shutil
import signal
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol, Self

import psutil
import psycopg

from include.broker import kafka
from include.faults import champion
from include.faults.acknowledged import LIST, Acknowledged
from include.faults.children import Child, Keeper
from include.faults.events import Events
from include.faults.proxy import Proxy
from include.platform import broker as broker
from include.platform import jars, ports, postgres, secrets, spark
from include.platform.temporary import environment, temporary_settings
from include.settings import Settings
from include.sql import statement
from include.streams import STREAMS

JOBS = {name: spark.job_file(name) for name in STREAMS}
START_SECONDS = 180
COMMITTED = """
select extract(epoch from min(at))::float8 from campaign.journal
where stream = %s and topic = %s and partition = %s and next_offset > %s"""


class CampaignFailed(RuntimeError):
    """The campaign itself cannot go on; the message says why and names a log."""


class Stream(Child):
    """A stream under spark-submit. It reaches PostgreSQL through a proxy of its own."""

    def __init__(self, name: str, job: Path, settings: Settings, port: int, environment: Mapping[str, str]):
        super().__init__(
            name, self._submit, self._variables, settings.home / "logs" / f"{name}.log", pause=1.0
        )
        self.settings = settings.model_copy(update={"postgres_port": port})
        self.proxy = Proxy(port, settings.postgres_port)
        self.checkpoint = settings.home / "checkpoints" / name
        self.armed: str | None = None
        self._job, self._more, self._starts = job, environment, 0

    def arm(self, failpoint: str) -> None:
        """The next start dies at this failpoint."""
        self.armed = failpoint

    def python(self) -> list[psutil.Process]:
        """The Python driver."""
        return [member for member in self.members() if _runs_script(member, self._job)]

    def workers(self) -> list[psutil.Process]:
        """The Python processes that write, or the one that starts them when there are none."""
        daemons = self.worker_tree()
        return [worker for worker in daemons if worker.parent() in daemons] or daemons

    def worker_tree(self) -> list[psutil.Process]:
        """The Python processes that write and the one that starts them."""
        return [member for member in self.members() if "pyspark.daemon" in _command(member)]

    def _submit(self) -> list[str]:
        temporary = self._temporary()
        return [
            str(Path(sys.prefix) / "bin" / "spark-submit"), "--master", "local[2]", "--driver-memory", "1g",
            "--jars", ",".join(jars.spark_classpath()),
            "--conf", f"spark.driver.extraJavaOptions={spark.java_options(temporary)}",
            str(self._job),
        ]  # fmt: skip

    def _variables(self) -> dict[str, str]:
        settings = self.settings.model_copy(update={"failpoint": self.armed})
        self.armed = None
        more = {"PYSPARK_PYTHON": sys.executable, "SPARK_LOCAL_DIRS": str(self._folder(self._starts))}
        return environment(settings) | more | dict(self._more)

    def _temporary(self) -> Path:
        """A new folder for what Spark leaves behind when it is killed; older ones are deleted."""
        self._starts += 1
        shutil.rmtree(self._folder(self._starts - 3), ignore_errors=True)
        self._folder(self._starts).mkdir(parents=True)
        return self._folder(self._starts)

    def _folder(self, start: int) -> Path:
        return self.settings.home / "tmp" / f"{self.name}-{start}"


class Target(Protocol):
    """What a campaign waits for; its log says why it does not come."""

    @property
    def name(self) -> str: ...
    @property
    def log(self) -> Path: ...


class Stack(ABC):
    """What a campaign hurts, between `with` and the end of its block, which stops it all.

    Attributes:
        streams: by name.
        producer: sends the events.
        fault_seconds: what a fault and its recovery probably take.
        recovery_seconds: after which a stream has not recovered.

    Args:
        home: an empty folder.
        events, count: what the producer sends, and how many.
    """

    streams: Mapping[str, Target]
    fault_seconds = 12.0
    recovery_seconds = 180.0

    def __init__(self, home: Path, events: Events, count: int, settings: Settings):
        (home / "logs").mkdir(exist_ok=True)
        self.settings, self.events, self.count = settings, events, count
        sending = [sys.executable, "-m", "include.faults.producer", str(home), str(events.seed)]
        sending += [events.start.isoformat(), str(count)]
        self.producer = Child(
            "producer",
            lambda: sending,
            lambda: environment(settings),
            home / "logs" / "producer.log",
            once=True,
        )
        self.list = home / LIST
        self._kept = threading.local()  # each thread's connection

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @abstractmethod
    def start(self) -> None:
        """Starts all of it.

        Raises:
            CampaignFailed: something did not get ready.
        """

    @abstractmethod
    def stop(self) -> None:
        """Stops what runs of it."""

    @abstractmethod
    def stop_streams(self) -> list[str]:
        """Asks the streams to end; the names of those that did not."""

    def install(self) -> None:
        """What the provisioned database needs for a campaign: the journal of commits, and a champion."""
        with psycopg.connect(self.settings.conninfo("owner")) as connection:
            connection.execute(statement("faults/journal"))
        champion.install(self.settings, self.events)

    def recovered(self, at: float, streams: Sequence[str], first: Acknowledged) -> float | None:
        """When the streams had recovered from a fault (seconds since 1970); None as long as they have not.

        Args:
            at: when the fault happened.
            first: the first event that the broker acknowledged after it.
        """
        position = self.settings.transactions_topic, first.partition, first.offset
        commits = [self.query(COMMITTED, (stream, *position))[0][0] for stream in streams]
        return None if None in commits else max(commits)

    def wait(
        self, what: str, condition: Callable[[], object], target: Target, seconds: float = START_SECONDS
    ) -> None:
        """Waits until the condition holds.

        Raises:
            CampaignFailed: it does not within `seconds`; names the log of `target`.
        """
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                raise CampaignFailed(
                    f"it did not happen within {seconds:.0f} s that {what}: see {target.log}"
                )
            time.sleep(0.05)

    def allow(self, events: int) -> None:
        """The producer may send the events before this number."""
        part = self.settings.home / "allowed.part"
        part.write_text(str(events))
        part.replace(self.settings.home / "allowed")

    def query(self, statement: str, arguments: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """Rows that the superuser reads, past the proxies.

        Raises:
            psycopg.OperationalError: PostgreSQL is down.
        """
        kept = getattr(self._kept, "connection", None)
        if kept is not None and not kept.closed:
            try:
                return _rows(kept, statement, arguments)
            except psycopg.OperationalError:  # it may be up again since
                kept.close()
        limited = f"{self.superuser()} options='-c statement_timeout=60s'"
        self._kept.connection = psycopg.connect(limited, autocommit=True)
        return _rows(self._kept.connection, statement, arguments)

    def superuser(self) -> str:
        return self.settings.conninfo("owner").replace("user=owner", "user=postgres")


class BareStack(Stack):
    """The embedded PostgreSQL and broker, and both streams under spark-submit, without Airflow.

    Args:
        jobs: the scripts of the streams by name.
        variables: more environment for the streams.
    """

    streams: Mapping[str, Stream]

    def __init__(
        self,
        home: Path,
        events: Events,
        count: int,
        jobs: Mapping[str, Path] = JOBS,
        variables: Mapping[str, str] | None = None,
    ):
        super().__init__(home, events, count, temporary_settings(home))
        self.postgres = self._server("postgres", postgres.command)
        self.kafka = self._server("kafka", broker.command)
        self.streams = {
            name: Stream(name, job, self.settings, port, variables or {})
            for (name, job), port in zip(jobs.items(), ports.free(len(jobs)), strict=True)
        }
        self._keeper = Keeper([self.postgres, self.kafka, *self.streams.values(), self.producer])
        self.lock = self._keeper.lock

    def _server(self, name: str, command: Callable[[Settings], list[str]]) -> Child:
        settings, log = self.settings, self.settings.home / "logs" / f"{name}.log"
        return Child(name, lambda: command(settings), lambda: environment(settings), log)

    def start(self) -> None:
        self._keeper.__enter__()
        for stream in self.streams.values():
            stream.proxy.start()
        with ThreadPoolExecutor() as pool:
            serving = pool.submit(self._start_kafka)
            self._start_postgres()
            serving.result()
        self.allow(0)
        for child in (self.producer, *self.streams.values()):
            child.start()

    def stop(self) -> None:
        self._keeper.__exit__()
        for stream in self.streams.values():
            stream.proxy.close()

    def _start_postgres(self) -> None:
        secrets.ensure(self.settings)
        postgres.initialise(self.settings)
        self.postgres.start()
        self.wait("PostgreSQL is ready", lambda: postgres.ready(self.settings), self.postgres)
        postgres.provision(self.settings)
        self.install()

    def _start_kafka(self) -> None:
        jars.fetch()
        broker.initialise(self.settings)
        self.kafka.start()
        self.wait("the broker is ready", lambda: broker.ready(self.settings), self.kafka)
        kafka.ensure_topics(self.settings)

    def stop_streams(self) -> list[str]:
        """Asks the streams to end as Airflow does; the names of those that did not within 30 s."""
        with self.lock:
            return [name for name, stream in self.streams.items() if not stream.stop(signal.SIGTERM)]


def _rows(
    connection: psycopg.Connection[Any], statement: str, arguments: Sequence[object]
) -> list[tuple[Any, ...]]:
    cursor = connection.execute(statement, arguments)
    return cursor.fetchall() if cursor.description else []


def _command(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return ""


def _runs_script(process: psutil.Process, script: Path) -> bool:
    try:
        return "python" in process.name() and str(script) in process.cmdline()
    except psutil.NoSuchProcess:
        return False
