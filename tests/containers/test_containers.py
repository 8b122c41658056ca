"""docker-compose.yaml, run for real: `make test-containers`, before each release.

Needs Docker Engine 25 or newer with Compose, its images (or stand-ins of the same names), 16 GiB of memory, and the
right to kill a container's main process from outside, as a crash would. It works on a copy of the project with secrets,
ports, volumes and a project name of its own, and removes them at the end. Grafana is left out where its image cannot be
had.

Tests run in the order of the file, on one platform.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from include.platform import ports
from include.platform.http import answers
from include.settings import PROJECT_ROOT
from include.streams import STREAMS

pytestmark = [pytest.mark.containers, pytest.mark.timeout(1800)]

PAGES = {
    "airflow-api-server": ("FRAUDSTREAM_AIRFLOW_PORT", "/api/v2/monitor/health"),
    "mlflow": ("FRAUDSTREAM_MLFLOW_PORT", "/health"),
    "streamlit": ("FRAUDSTREAM_STREAMLIT_PORT", "/_stcore/health"),
}
ONE_SHOT = {"provision", "start"}
LEFT_BEHIND = shutil.ignore_patterns(
    ".git", ".venv", ".fraudstream", "secrets", "__pycache__", ".*_cache", ".env"
)
PATIENCE = 600.0  # seconds; how long a recovery took is printed, not asserted


class Platform:
    """The compose project `name` in a folder."""

    def __init__(self, folder: Path, name: str):
        self.folder, self.name = folder, name
        variables = [*(variable for variable, _ in PAGES.values()), "GRAFANA_PORT"]
        self.ports = dict(zip(variables, ports.free(len(variables)), strict=True))
        self._environment = os.environ | {variable: str(port) for variable, port in self.ports.items()}
        self._command = ["docker", "compose", "--project-name", name]
        self.services: list[str] = []  # to start; all of them when empty

    def run(self, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """Runs a compose command, however it ends."""
        command = [*self._command, *arguments]
        return subprocess.run(command, cwd=self.folder, env=self._environment, text=True, **options)

    def compose(self, *arguments: str, **options: Any) -> str:
        """Output of a compose command.

        Raises:
            AssertionError: it failed; the message has its output.
        """
        done = self.run(*arguments, capture_output=True, **options)
        assert done.returncode == 0, f"{' '.join(arguments)}: {done.stdout[-3000:]} {done.stderr[-3000:]}"
        return done.stdout

    def up(self, *arguments: str) -> None:
        """Starts everything and waits for the end of `start`: a scored live transaction."""
        self.compose("up", "--detach", *arguments, *self.services)
        wait_for("the end of `start`", lambda: self.state("start")["State"] == "exited")
        assert self.state("start")["ExitCode"] == 0, self.compose("logs", "start")

    def containers(self) -> dict[str, list[dict[str, Any]]]:
        """Facts of all containers by service."""
        by_service: dict[str, list[dict[str, Any]]] = {}
        for line in self.compose("ps", "--all", "--format", "json").splitlines():
            container = json.loads(line)
            by_service.setdefault(container["Service"], []).append(container)
        return by_service

    def state(self, service: str) -> dict[str, Any]:
        return self.containers()[service][0]

    def inspect(self, service: str) -> dict[str, Any]:
        name = self.state(service)["Name"]
        shown = subprocess.run(["docker", "inspect", name], check=True, capture_output=True, text=True)
        (facts,) = json.loads(shown.stdout)
        return facts

    def unhealthy(self) -> dict[str, str]:
        """Long-running services whose container is not healthy."""
        return {
            service: container["Health"] or container["State"]
            for service, containers in self.containers().items()
            for container in containers
            if service not in ONE_SHOT and container["Health"] != "healthy"
        }

    def status(self) -> dict[str, Any]:
        """`fraudstream status --json`; empty while it cannot be asked."""
        arguments = ("exec", "--no-TTY", "airflow-scheduler", "fraudstream", "status", "--json")
        done = self.run(*arguments, capture_output=True, timeout=60)
        try:
            status: dict[str, Any] = json.loads(done.stdout)
        except json.JSONDecodeError:
            return {}
        return status

    def scored(self) -> int:
        return int(self.status()["counts"]["scored"])

    def recover(self, what: str, began: float | None = None) -> None:
        """Waits until both streams run and further transactions are scored, then compares the books."""
        began = began or time.monotonic()
        wait_for(f"an answer about the streams after {what}", lambda: bool(self.status()))
        scored = self.scored()

        def scores_again() -> bool:
            status = self.status()
            if not status:
                return False
            states = {status["streams"].get(name, {}).get("state") for name in STREAMS}
            return states == {"running"} and status["counts"]["scored"] > scored + 2

        wait_for(f"live scores after {what}", scores_again)
        print(f"{what}: live scores again after {time.monotonic() - began:.0f} s")
        wait_for(f"every service healthy after {what}", lambda: not self.unhealthy())
        self.compose("exec", "--no-TTY", "airflow-scheduler", "fraudstream", "reconcile")


def wait_for(what: str, happened: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not happened():
        assert time.monotonic() < end, f"waited {PATIENCE:.0f} s for {what}"
        time.sleep(2)


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    folder = tmp_path_factory.mktemp("containers") / "project"
    shutil.copytree(PROJECT_ROOT, folder, ignore=LEFT_BEHIND)
    platform = Platform(folder, f"fraudstream-test-{os.getpid()}")
    subprocess.run(["sh", "docker/make-secrets.sh"], cwd=folder, check=True, capture_output=True)
    services = json.loads(platform.compose("config", "--format", "json"))["services"]
    grafana = services["grafana"]["image"]
    known = subprocess.run(["docker", "image", "inspect", grafana], capture_output=True).returncode == 0
    if not known and subprocess.run(["docker", "pull", "--quiet", grafana], capture_output=True).returncode:
        print(f"{grafana} cannot be had: Grafana is left out")
        platform.services = [service for service in services if service != "grafana"]
    platform.compose("build", "--quiet")
    try:
        yield platform
    finally:
        logs = platform.compose("logs", "--no-color", "--timestamps")
        (folder.parent / "logs.txt").write_text(logs)
        platform.compose("down", "--volumes", "--timeout", "30")


def test_up_ends_with_the_first_scored_transaction_and_everything_is_healthy(platform: Platform):
    platform.up()
    wait_for("every service to be healthy", lambda: not platform.unhealthy())
    assert platform.scored() > 0


@pytest.mark.parametrize("service", PAGES)
def test_pages_answer_on_this_machine(platform: Platform, service: str):
    variable, path = PAGES[service]
    assert answers(f"http://127.0.0.1:{platform.ports[variable]}{path}")


@pytest.mark.parametrize(
    "service", ["spark-worker", "kafka", "postgres", "airflow-scheduler", "airflow-api-server"]
)
def test_a_killed_container_comes_back_and_the_books_agree(platform: Platform, service: str):
    before, began = platform.inspect(service), time.monotonic()
    os.kill(before["State"]["Pid"], signal.SIGKILL)
    wait_for(
        f"{service} to restart", lambda: platform.inspect(service)["RestartCount"] > before["RestartCount"]
    )
    platform.recover(f"{service} killed", began)


@pytest.mark.parametrize("service", ["airflow-scheduler", "airflow-api-server", "mlflow", "streamlit"])
def test_a_service_that_hangs_is_restarted_and_the_books_agree(platform: Platform, service: str):
    before, began = platform.inspect(service), time.monotonic()
    for process in reversed(served_by(before["State"]["Pid"])):
        process.suspend()
    wait_for(
        f"{service} to restart", lambda: platform.inspect(service)["RestartCount"] > before["RestartCount"]
    )
    platform.recover(f"{service} hung", began)


def served_by(pid: int) -> list[psutil.Process]:
    """The service with all that it started, under the container's init and the watchdog that keeps it."""
    (keeper,) = psutil.Process(pid).children()
    (service,) = keeper.children()
    return [service, *service.children(recursive=True)]


def test_workers_are_added_while_the_streams_run(platform: Platform):
    platform.compose("up", "--detach", "--no-recreate", "--scale", "spark-worker=2", *platform.services)
    wait_for("two healthy workers", lambda: not platform.unhealthy())
    assert len(platform.containers()["spark-worker"]) == 2
    platform.recover("a worker added")


def test_down_and_up_keep_everything(platform: Platform):
    before = platform.status()
    platform.compose("down")
    platform.up()
    after = platform.status()
    assert after["champion"] == before["champion"]
    assert all(after["counts"][name] >= before["counts"][name] for name in before["counts"])
    platform.recover("down and up")


def test_a_backup_is_restored_after_database_and_artifacts_were_lost(platform: Platform):
    """The commands of docs/deploy.md; the broker still has what came after the backup."""
    folder = "/var/lib/fraudstream/mlflow-artifacts"
    password = "PGPASSWORD=$(cat /run/secrets/postgres)"
    client = "--host=127.0.0.1 --username=postgres"
    dump = platform.compose("exec", "--no-TTY", "postgres", "sh", "-c", f"{password} pg_dumpall {client}")
    tar = platform.folder.parent / "artifacts.tar"
    with tar.open("wb") as archive:
        platform.run(
            "exec", "--no-TTY", "mlflow", "tar", "--create", "--directory", folder, ".", stdout=archive
        )
    before = platform.status()
    platform.compose("down")
    for volume in ("postgres", "mlflow-artifacts", "state"):
        subprocess.run(
            ["docker", "volume", "rm", f"{platform.name}_{volume}"], check=True, capture_output=True
        )

    platform.compose("up", "--detach", "--wait", "postgres")
    platform.compose(
        "exec", "--no-TTY", "postgres", "sh", "-c", f"{password} psql --quiet {client} >/dev/null", input=dump
    )
    platform.compose("up", "--detach", "--wait", "mlflow")
    with tar.open("rb") as archive:
        platform.run("exec", "--no-TTY", "mlflow", "tar", "--extract", "--directory", folder, stdin=archive)
    platform.up()
    after = platform.status()
    assert after["champion"] == before["champion"]
    platform.recover("a restore")
    counts = platform.status()["counts"]
    assert all(counts[name] >= before["counts"][name] for name in ("transactions", "scored", "alerts"))
