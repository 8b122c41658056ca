"""The watchdog against real processes: stopped ones are noticed and end, whatever they started."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import psutil
import psycopg
import pytest

from include.platform import ports, processes, secrets, services, supervisor, up, watch, watchdog
from include.platform import postgres as postgres_server
from include.platform.http import answers
from include.platform.watch import Answer, Hang
from include.settings import PROJECT_ROOT, Settings
from tests.waiting import PATIENCE, until

pytestmark = pytest.mark.services


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Iterator[Settings]:
    """supervisord with the platform's real configuration, and no service running."""
    home = tmp_path_factory.mktemp("supervised")
    postgres, streamlit, *others = ports.free(6)
    names = ("kafka_port", "kafka_controller_port", "mlflow_port", "airflow_port")
    settings = Settings(
        _env_file=None,
        home=home,
        postgres_port=postgres,
        streamlit_port=streamlit,
        **dict(zip(names, others, strict=True)),
    )
    (home / "logs").mkdir()
    secrets.ensure(settings)
    postgres_server.initialise(settings)
    supervisor.ensure(settings)
    try:
        yield settings
    finally:
        supervisor.shutdown(settings)
        until(lambda: not processes.ours(settings))


def suspended(settings: Settings, name: str) -> list[psutil.Process]:
    """The processes of a service, all of which are stopped now."""
    main = psutil.Process(supervisor.processes(settings)[name])
    members = [main, *main.children(recursive=True)]
    for member in members:
        member.suspend()
    return members


def restarted(settings: Settings, name: str, members: list[psutil.Process]) -> bool:
    pid = supervisor.processes(settings).get(name)
    return pid not in (None, members[0].pid) and services.SERVICES[name].ready(settings)


def test_postgres_starts_though_its_number_from_before_a_reboot_is_another_process_now(small):
    """PostgreSQL takes any process of its own user for the server that its lock file names."""
    other = subprocess.Popen(postgres_server.unprivileged(["sleep", "600"]), cwd="/")
    lock = postgres_server.data_folder(small) / "postmaster.pid"
    data = postgres_server.data_folder(small)
    try:
        lock.write_text(f"{other.pid}\n{data}\n1\n{small.postgres_port}\n\n127.0.0.1\n1 1\nready\n")
        os.utime(lock, (1, 1))
        supervisor.start(small, "postgres", timeout=60)
    finally:
        other.kill()
        other.wait(PATIENCE)


def test_a_watchdog_that_runs_as_a_service_restarts_what_hangs_and_says_so(small):
    """PostgreSQL and Streamlit are stopped: the first is restarted, and then the second, which needs it."""
    supervisor.start(small, "postgres", "streamlit", services.WATCHDOG, timeout=120)
    postgres_server.provision(small)
    assert watch.works(small)
    until(lambda: {"postgres", "streamlit"} <= watch.read(small)["silent_seconds"].keys())
    time.sleep(3 * watchdog.LOOK_SECONDS)  # they are seen to live: a start would be given more time
    victims = {name: suspended(small, name) for name in ("postgres", "streamlit")}
    assert not services.SERVICES["postgres"].ready(small) and not services.SERVICES["streamlit"].ready(small)
    for name, members in victims.items():
        until(lambda name=name, members=members: restarted(small, name, members), 240)
        until(lambda members=members: not any(member.is_running() for member in members))
    parts = [restart["part"] for restart in watch.read(small)["restarts"]]
    assert parts == ["postgres", "streamlit"]
    with psycopg.connect(small.conninfo("owner")) as connection:
        assert connection.execute("select 1").fetchone() == (1,)
    supervisor.stop(small, services.WATCHDOG)


def test_a_supervisor_that_hangs_is_noticed(small, monkeypatch):
    monkeypatch.setattr(supervisor, "ANSWER_SECONDS", 1.0)
    pid = int((small.home / "supervisord.pid").read_text())
    daemon = psutil.Process(pid)
    daemon.suspend()
    try:
        assert not supervisor.running(small)
        assert supervisor.processes(small) == {}
    finally:
        daemon.resume()
    until(lambda: supervisor.running(small))


def test_a_watchdog_that_hangs_itself_is_ended_by_up(small, monkeypatch):
    supervisor.start(small, services.WATCHDOG, timeout=60)
    (hung,) = suspended(small, services.WATCHDOG)
    monkeypatch.setattr(watch, "STALE_SECONDS", 4.0)
    until(lambda: not watch.works(small))
    up.start_watchdog(small)
    assert watch.works(small) and not hung.is_running()
    pid = supervisor.processes(small)[services.WATCHDOG]
    up.start_watchdog(small)
    assert supervisor.processes(small)[services.WATCHDOG] == pid  # one that works is left alone
    supervisor.stop(small, services.WATCHDOG)


def test_a_supervisor_that_runs_learns_of_a_service_that_is_new(small, monkeypatch):
    """As after an update of the code beside a platform that runs."""
    known = supervisor.states(small).keys()
    another = dataclasses.replace(services.SERVICES["watchdog"], name="another")
    monkeypatch.setitem(services.SERVICES, "another", another)
    supervisor.ensure(small)
    assert supervisor.states(small).keys() == known | {"another"}


JOB = """
import subprocess, sys, time
if sys.argv[1:]:
    print(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)", sys.argv[1]]).pid, flush=True)
time.sleep(600)
"""


@pytest.fixture
def job(clean_postgres, tmp_path) -> Iterator[tuple[psutil.Process, psutil.Process]]:
    """A driver that reported and hangs, and the JVM that launched it."""
    jvm = tmp_path / "java"
    jvm.symlink_to(sys.executable)
    script = str(PROJECT_ROOT / "spark_jobs" / "fraud_stream.py")
    marked = os.environ | processes.mark(clean_postgres)
    with subprocess.Popen([jvm, "-c", JOB, script], env=marked, stdout=subprocess.PIPE, text=True) as parent:
        driver = psutil.Process(int(parent.stdout.readline()))
        try:
            yield driver, psutil.Process(parent.pid)
        finally:
            for process in (driver, parent):
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()


def report(connection: psycopg.Connection, holder: str, state: str = "running") -> None:
    connection.execute(
        "update shop.stream_leases set state = %s, holder = %s, heartbeat_at = clock_timestamp()"
        " where stream = 'fraud_stream'",
        [state, holder],
    )


def test_a_job_is_known_by_its_report_and_ended_with_the_jvm_that_launched_it(clean_postgres, job):
    driver, jvm = job
    host = socket.gethostname()
    with psycopg.connect(clean_postgres.conninfo("owner"), autocommit=True) as connection:
        report(connection, f"{host}:{driver.pid}")
        first = watchdog.ask_database(clean_postgres)
        assert first.keys() == {"postgres", "fraud_stream"} and first["fraud_stream"].pid == driver.pid
        assert watchdog.ask_database(clean_postgres)["fraud_stream"].beat == first["fraud_stream"].beat
        report(connection, f"{host}:{driver.pid}")
        assert watchdog.ask_database(clean_postgres)["fraud_stream"].beat != first["fraud_stream"].beat
        for holder, state in (
            (f"{host}:{os.getpid()}", "running"),  # the number is another process's now
            (f"another-machine:{driver.pid}", "running"),
            (f"{host}:{driver.pid}", "failed"),
            ("", "running"),
        ):
            report(connection, holder, state)
            assert watchdog.ask_database(clean_postgres).keys() == {"postgres"}, (holder, state)
    watchdog.end(Hang("fraud_stream", driver.pid, 30.0, 0))
    until(lambda: not driver.is_running() and jvm.status() == psutil.STATUS_ZOMBIE)


def test_a_database_that_refuses_lives_and_one_that_is_down_or_hangs_does_not(postgres, monkeypatch):
    unknown = postgres.model_copy(update={"postgres_database": "unknown"})
    assert watchdog.ask_database(unknown)["postgres"].usable
    with socket.create_server(("127.0.0.1", 0)) as silent:
        hung = postgres.model_copy(update={"postgres_port": silent.getsockname()[1]})
        assert watchdog.ask_database(hung) == {}
    assert watchdog.ask_database(hung) == {}


def test_an_answer_that_is_late_holds_up_no_other_and_counts_when_it_comes(settings):
    come = threading.Event()

    def late(_: Settings) -> dict[str, Answer]:
        come.wait(PATIENCE)
        return {"late": Answer(1)}

    asker = watchdog.Asker(settings, {"late": late, "other": lambda _: {"other": Answer(1)}})
    assert asker.answers(0.2).keys() == {"other"}
    come.set()
    assert asker.answers(10).keys() == {"late", "other"}


KEEP = """
import dataclasses, sys
from include.platform import services, watchdog
from include.settings import load

settings = load()
services.SERVICES["streamlit"] = dataclasses.replace(services.SERVICES["streamlit"], patience=3.0)
command = [sys.executable, "-c", sys.argv[1], str(settings.streamlit_port)]
sys.exit(watchdog.keep(settings, "streamlit", command, {}))
"""
SERVER = """
import http.server, signal, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


@pytest.fixture
def kept(postgres) -> Iterator[tuple[subprocess.Popen, psutil.Process]]:
    """A program as a container runs it, and the service that is its child and answers."""
    environment = os.environ | postgres.as_environment()
    process = subprocess.Popen([sys.executable, "-c", KEEP, SERVER], env=environment)
    try:
        url = f"http://127.0.0.1:{postgres.streamlit_port}/_stcore/health"
        until(lambda: answers(url), alive=lambda: process.poll() is None)
        (child,) = psutil.Process(process.pid).children()
        yield process, child
    finally:
        for member in psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []:
            member.kill()
        process.kill()
        process.wait(PATIENCE)


def test_a_service_that_hangs_ends_its_container(kept):
    process, child = kept
    time.sleep(5)  # it is seen to live; so is PostgreSQL, which it needs
    assert process.poll() is None
    child.suspend()
    assert process.wait(PATIENCE) == 128 + signal.SIGKILL
    assert not child.is_running()


def test_a_container_that_is_asked_to_stop_lets_its_service_stop(kept):
    process, _ = kept
    process.terminate()
    assert process.wait(PATIENCE) == 7


def test_a_container_whose_service_ends_by_itself_ends_with_its_status(kept):
    process, child = kept
    child.kill()
    assert process.wait(PATIENCE) == 128 + signal.SIGKILL
