"""Restarts the part of the platform that hangs: `python -m include.platform.watchdog`, itself a service.

It ends the part's process, which supervisord (or Docker, see `keep`) then starts again. Airflow needs it most: when
its database crashes, the scheduler's loop ends, but its process waits for endless tasks and does nothing ever after.

What it sees and did is in `watchdog.json` of the state folder, for `fraudstream status`.
"""

from __future__ import annotations

import logging
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from typing import NamedTuple

import psutil
import psycopg
from psycopg.pq import PGconn, Ping

from include.platform import airflow, processes, services, spark, supervisor, watch
from include.platform.watch import Answer, Hang, Part, Process, Watch
from include.settings import Settings, load
from include.streams import STREAMS

log = logging.getLogger(__name__)

LOOK_SECONDS = 2.0  # between two looks
ANSWER_SECONDS = 5.0  # a part that takes longer has not answered
JOBS_REPORTS = (
    "select stream, holder, heartbeat_at from shop.stream_leases where state not in ('stopped', 'failed')"
)

Probe = Callable[[Settings], Mapping[str, Answer]]
"""Asks one or more parts; those that do not answer are left out."""


class Job(NamedTuple):
    """A job that Airflow runs. Its driver reports to PostgreSQL every second."""

    name: str
    patience: float = 30.0
    needs: tuple[str, ...] = ("postgres",)


JOBS = tuple(map(Job, (*STREAMS, "producer")))


def ask_database(settings: Settings) -> dict[str, Answer]:
    """PostgreSQL, by a query that also gives the jobs' last reports."""
    try:
        with psycopg.connect(settings.conninfo("owner"), connect_timeout=3, autocommit=True) as connection:
            connection.execute("set statement_timeout = '3s'")
            rows = connection.execute(JOBS_REPORTS).fetchall()
    except psycopg.errors.ConnectionTimeout:
        return {}
    except psycopg.OperationalError:  # it is down, or it refuses
        return ping_database(settings)
    except psycopg.ProgrammingError:  # it has no tables yet
        rows = []
    answers = {"postgres": Answer(time.monotonic())}
    for job, holder, reported_at in rows:
        host, _, pid = holder.rpartition(":")
        if host == socket.gethostname() and _runs(settings, int(pid), job):
            answers[job] = Answer(reported_at, pid=int(pid))
    return answers


def _runs(settings: Settings, pid: int, job: str) -> bool:
    """True when the process is a driver of this platform: after a reboot another one may have its number."""
    with suppress(psutil.Error, OSError):
        process = psutil.Process(pid)
        return processes.is_ours(settings, process) and str(spark.job_file(job)) in process.cmdline()
    return False


def ping_database(settings: Settings) -> dict[str, Answer]:
    """PostgreSQL, without a log-in. One that recovers from a crash lives and serves nobody yet."""
    state = PGconn.ping(settings.conninfo("owner").encode())
    if state not in (Ping.OK, Ping.REJECT):
        return {}
    return {"postgres": Answer(time.monotonic(), usable=state == Ping.OK)}


def ask_airflow(settings: Settings) -> dict[str, Answer]:
    """The API server, by its answer; that has the other parts' heartbeats, which it reads from the database."""
    health = airflow.Client(settings).health()
    if not health:
        return {}
    beats = {
        f"airflow-{name.replace('_', '-')}": Answer(state.heartbeat)
        for name, state in health.items()
        if state.heartbeat
    }
    usable = health["metadatabase"].status == "healthy"
    return beats | {"airflow-api-server": Answer(time.monotonic(), usable=usable)}


def ask(name: str, settings: Settings) -> dict[str, Answer]:
    """A service that is asked as `fraudstream status` does."""
    return {name: Answer(time.monotonic())} if services.SERVICES[name].ready(settings) else {}


PROBES: Mapping[str, Probe] = {
    "postgres": ask_database,
    "airflow": ask_airflow,
    **{name: partial(ask, name) for name in ("kafka", "mlflow", "streamlit", "relay")},
}


class Asker:
    """Asks all probes at the same time; one that hangs holds up neither the others nor the next look."""

    def __init__(self, settings: Settings, probes: Mapping[str, Probe]):
        self._settings, self._probes = settings, probes
        self._pool = ThreadPoolExecutor(len(probes))
        self._asked: dict[str, Future[Mapping[str, Answer]]] = {}

    def answers(self, timeout: float = ANSWER_SECONDS) -> dict[str, Answer]:
        """What was answered within `timeout` seconds."""
        for name, probe in self._probes.items():
            if name not in self._asked:
                self._asked[name] = self._pool.submit(probe, self._settings)
        wait(self._asked.values(), timeout)
        done = [name for name, future in self._asked.items() if future.done()]
        return {part: answer for name in done for part, answer in self._asked.pop(name).result().items()}


class Watchdog:
    """Looks at parts and ends those that hang.

    Args:
        parts: those that are watched.
        pids: the process ids of those that run, where no answer names them.
    """

    def __init__(
        self,
        settings: Settings,
        parts: Iterable[Part],
        probes: Mapping[str, Probe],
        pids: Callable[[], Mapping[str, int]],
    ):
        self._watch = Watch(list(parts))
        self._asker = Asker(settings, probes)
        self._pids = pids

    def look(self) -> list[Hang]:
        """Looks once; what hangs is ended when this returns."""
        answers = self._asker.answers()
        pids = dict(self._pids()) | {name: answer.pid for name, answer in answers.items() if answer.pid}
        hangs = self._watch.look(time.monotonic(), _with_ages(pids), answers)
        for hang in hangs:
            log.error(
                "%s has not responded for %.0f s: process %d is killed", hang.part, hang.silent, hang.pid
            )
            end(hang)
        return hangs

    def silent(self) -> dict[str, float]:
        """Seconds since the last sign of life, of the parts that have a process."""
        return {name: round(seconds, 1) for name, seconds in self._watch.silent(time.monotonic()).items()}


def _with_ages(pids: Mapping[str, int]) -> dict[str, Process]:
    aged = {}
    for name, pid in pids.items():
        with suppress(psutil.NoSuchProcess):
            aged[name] = Process(pid, time.time() - psutil.Process(pid).create_time())
    return aged


def end(hang: Hang) -> None:
    """Kills the part's process with all that it started: one that hangs obeys no other signal.

    Of the scheduler only itself: its workers are ended, more gently, when the next one starts.
    """
    with suppress(psutil.NoSuchProcess):
        process = psutil.Process(hang.pid)
        victims = [process]
        if hang.part != "airflow-scheduler":
            victims += process.children(recursive=True)
        if (
            hang.part in {job.name for job in JOBS}
            and (parent := process.parent())
            and "java" in parent.name()
        ):
            victims.append(parent)  # Spark's JVM, which launched the driver and whose end Airflow waits for
        for victim in victims:
            with suppress(psutil.NoSuchProcess):
                victim.kill()


def keep(settings: Settings, name: str, command: Sequence[str], environment: Mapping[str, str]) -> int:
    """Runs a service as a child, and ends it when it hangs; returns its exit status, for a container to end with.

    Docker then starts the container again. Signals that ask it to stop are passed on.
    """
    child = subprocess.Popen(command, env=dict(environment))
    stopping = threading.Event()

    def stop(number: int, _: object) -> None:
        stopping.set()
        child.send_signal(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    parts: list[Part] = [services.SERVICES[name]]
    probes = {"postgres": ping_database}
    if name == "airflow-scheduler":  # its tasks run in its container, which has the owner's password
        parts += JOBS
        probes["postgres"] = ask_database
    asked = "airflow" if name.startswith("airflow") else name
    watchdog = Watchdog(settings, parts, probes | {asked: PROBES[asked]}, lambda: {name: child.pid})
    while True:
        with suppress(subprocess.TimeoutExpired):
            status = child.wait(LOOK_SECONDS)
            return status if status >= 0 else 128 - status
        if not stopping.is_set():
            watchdog.look()


def main() -> None:
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)  # it would log every question
    settings = load()
    parts: list[Part] = [*services.WATCHED, *JOBS]
    watchdog = Watchdog(settings, parts, PROBES, partial(supervisor.processes, settings))
    restarts = watch.read(settings)["restarts"]
    while True:
        for hang in watchdog.look():
            now = datetime.now(UTC).isoformat(timespec="seconds")
            restarts.append(
                watch.Restart(
                    part=hang.part, at=now, silent_seconds=round(hang.silent, 1), in_a_row=hang.repeated + 1
                )
            )
        watch.write(settings, watch.Record(silent_seconds=watchdog.silent(), restarts=restarts))
        time.sleep(LOOK_SECONDS)


if __name__ == "__main__":
    main()
