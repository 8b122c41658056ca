"""What a campaign hurts: the embedded PostgreSQL and broker, both streams and a producer, in a folder of their own.

The streams are the platform's own jobs under spark-submit, started again when they end. Airflow, which does that in
the platform, is left out: with its gigabyte and a half, a campaign would not fit into ten minutes on two cores.
"""

from __future__ import annotations

import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import psycopg

from include.broker import kafka
from include.faults import champion
from include.faults.acknowledged import LIST
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
        return [each for each in self.members() if _runs_script(each, self._job)]

    def workers(self) -> list[psutil.Process]:
        """The Python processes that write, or the one that starts them when there are none."""
        daemons = self.worker_tree()
        return [each for each in daemons if each.parent() in daemons] or daemons

    def worker_tree(self) -> list[psutil.Process]:
        """The Python processes that write and the one that starts them."""
        return [each for each in self.members() if "pyspark.daemon" in _command(each)]

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
        return environment(settings) | more | self._more

    def _temporary(self) -> Path:
        """A new folder for what Spark leaves behind when it is killed; older ones are deleted."""
        self._starts += 1
        shutil.rmtree(self._folder(self._starts - 3), ignore_errors=True)
        self._folder(self._starts).mkdir(parents=True)
        return self._folder(self._starts)

    def _folder(self, start: int) -> Path:
        return self.settings.home / "tmp" / f"{self.name}-{start}"


class Stack:
    """All of it, between `with` and the end of its block.

    Args:
        home: an empty folder.
        events, count: what the producer sends, and how many.
        jobs: the scripts of the streams by name.
        variables: more environment for the streams.

    Raises:
        CampaignFailed: something did not get ready.
    """

    def __init__(
        self,
        home: Path,
        events: Events,
        count: int,
        jobs: Mapping[str, Path] = JOBS,
        variables: Mapping[str, str] | None = None,
    ):
        (home / "logs").mkdir()
        self.settings = settings = temporary_settings(home)
        proxies = ports.free(len(jobs))
        self.events, self.count = events, count
        self.postgres = self._server("postgres", postgres.command)
        self.kafka = self._server("kafka", broker.command)
        self.streams = {
            name: Stream(name, job, settings, port, variables or {})
            for (name, job), port in zip(jobs.items(), proxies, strict=True)
        }
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
        self._keeper = Keeper([self.postgres, self.kafka, *self.streams.values(), self.producer])
        self.lock = self._keeper.lock
        self._kept = threading.local()  # each thread's connection

    def _server(self, name: str, command: Callable[[Settings], list[str]]) -> Child:
        settings, log = self.settings, self.settings.home / "logs" / f"{name}.log"
        return Child(name, lambda: command(settings), lambda: environment(settings), log)

    def __enter__(self) -> Stack:
        try:
            self._keeper.__enter__()
            for stream in self.streams.values():
                stream.proxy.start()
            with ThreadPoolExecutor() as pool:
                serving = pool.submit(self._start_kafka)
                self._start_postgres()
                serving.result()
        except BaseException:
            self.__exit__()
            raise
        self.allow(0)
        for child in (self.producer, *self.streams.values()):
            child.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._keeper.__exit__()
        for stream in self.streams.values():
            stream.proxy.close()

    def _start_postgres(self) -> None:
        secrets.ensure(self.settings)
        postgres.initialise(self.settings)
        self.postgres.start()
        self.wait("PostgreSQL is ready", lambda: postgres.ready(self.settings), self.postgres)
        postgres.provision(self.settings)
        with psycopg.connect(self.settings.conninfo("owner")) as connection:
            connection.execute(statement("faults/journal"))
        champion.install(self.settings, self.events)

    def _start_kafka(self) -> None:
        jars.fetch()
        broker.initialise(self.settings)
        self.kafka.start()
        self.wait("the broker is ready", lambda: broker.ready(self.settings), self.kafka)
        kafka.ensure_topics(self.settings)

    def wait(
        self, what: str, condition: Callable[[], object], child: Child, seconds: float = START_SECONDS
    ) -> None:
        """Waits until the condition holds.

        Raises:
            CampaignFailed: it does not within `seconds`; names the log of `child`.
        """
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                raise CampaignFailed(f"it did not happen within {seconds:.0f} s that {what}: see {child.log}")
            time.sleep(0.05)

    def allow(self, events: int) -> None:
        """The producer may send the events before this number."""
        part = self.settings.home / "allowed.part"
        part.write_text(str(events))
        part.replace(self.settings.home / "allowed")

    def query(self, statement: str, arguments: Sequence[object] = ()) -> list[tuple]:
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

    def stop_streams(self) -> list[str]:
        """Asks the streams to end as Airflow does; the names of those that did not within 30 s."""
        with self.lock:
            return [name for name, stream in self.streams.items() if not stream.stop(signal.SIGTERM)]


def _rows(connection: psycopg.Connection, statement: str, arguments: Sequence[object]) -> list[tuple]:
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
