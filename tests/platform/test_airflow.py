"""The client of Airflow's API against an imitated server, and what a killed scheduler leaves behind."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys

import httpx
import psutil
import pytest

from include.platform import airflow
from include.platform.airflow import AirflowError, Client
from tests.waiting import PATIENCE


class Server:
    """Knows one token at a time, as an API server does whose tokens expire or whose key was changed."""

    def __init__(self):
        self.number = 0
        self.asked: list[str] = []

    @property
    def token(self) -> str:
        return f"token-{self.number}"

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request.url.path)
        if request.url.path == "/auth/token":
            return httpx.Response(201, json={"access_token": self.token})
        if request.headers["Authorization"] != f"Bearer {self.token}":
            return httpx.Response(401, json={"detail": "Invalid JWT token"})
        return httpx.Response(200, json={"dags": [{"dag_id": "a", "is_paused": False}]})


@pytest.fixture
def server(monkeypatch) -> Server:
    server = Server()
    http = httpx.Client(transport=httpx.MockTransport(server))
    monkeypatch.setattr(airflow, "client", lambda: http)
    return server


def test_a_token_that_is_no_longer_accepted_is_replaced_once(server, settings):
    client = Client(settings)
    assert client.dags() == {"a": False} == client.dags()
    assert server.asked.count("/auth/token") == 1
    server.number += 1
    assert client.dags() == {"a": False}
    assert server.asked.count("/auth/token") == 2


def test_a_token_that_is_refused_at_once_is_an_error(server, settings, monkeypatch):
    monkeypatch.setattr(Server, "token", property(lambda self: f"token-{len(self.asked)}"))
    with pytest.raises(AirflowError, match="GET /dags.*401"):
        Client(settings).dags()
    assert server.asked.count("/auth/token") == 2


WORKER = """
import subprocess, sys, time
from setproctitle import setproctitle
setproctitle(sys.argv[1])
print(subprocess.Popen(["sleep", "60"]).pid, flush=True)
time.sleep(60)
"""


@pytest.fixture
def worker():
    started = []

    def start(title: str) -> tuple[subprocess.Popen, int]:
        """A process with this title in a group of its own, and the number of its child."""
        process = subprocess.Popen(
            [sys.executable, "-c", WORKER, title], stdout=subprocess.PIPE, text=True, process_group=0
        )
        started.append(process)
        return process, int(process.stdout.readline())

    yield start
    for process in started:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(PATIENCE)
        process.stdout.close()


def test_workers_of_a_killed_scheduler_and_what_they_run_are_ended(worker, tmp_path, settings):
    own = settings.model_copy(update={"home": tmp_path})
    left, child = worker("airflow worker -- LocalExecutor: <idle>")
    another, _ = worker("airflow worker -- LocalExecutor: <idle>")
    stranger, _ = worker("something else, which got the number of the group meanwhile")

    airflow.end_workers_left_behind(own)  # no scheduler was started yet
    assert psutil.pid_exists(left.pid)
    for process in (left, stranger):
        airflow.scheduler_group(own).write_text(str(process.pid))
        airflow.end_workers_left_behind(own)
    assert not psutil.pid_exists(left.pid) and not psutil.pid_exists(child)
    assert psutil.pid_exists(another.pid) and psutil.pid_exists(stranger.pid)


def test_the_pool_is_made_once_and_never_asked_for_in_vain(settings, monkeypatch):
    """Airflow answers a second POST with 409, and logs the database's error with a traceback."""
    pools: list[str] = ["default_pool"]

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/auth/token":
            return httpx.Response(201, json={"access_token": "token"})
        if request.method == "POST":
            pools.append(json.loads(request.content)["name"])
            return httpx.Response(409 if pools.count(pools[-1]) > 1 else 201, json={})
        name = request.url.path.removeprefix("/api/v2/pools/")
        return httpx.Response(200, json={"name": name}) if name in pools else httpx.Response(404, json={})

    http = httpx.Client(transport=httpx.MockTransport(answer))
    monkeypatch.setattr(airflow, "client", lambda: http)
    for _ in range(3):
        Client(settings).ensure_pool("streams", 8, "")
    assert pools == ["default_pool", "streams"]
