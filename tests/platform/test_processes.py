"""`down` ends the platform's processes, and nothing that merely knows its folder."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from io import StringIO

import psutil
import pytest
from rich.console import Console

from include.platform import down, processes, secrets, services
from include.platform.progress import Progress
from include.settings import Settings

SHELL_WITH_A_CHILD = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "print('up', flush=True); import time; time.sleep(60)"])
child.wait()
"""


@pytest.fixture
def settings(tmp_path) -> Settings:
    settings = Settings(_env_file=None, home=tmp_path / "home")
    secrets.ensure(settings)
    return settings


@pytest.fixture
def start() -> Iterator[Callable[[dict[str, str]], list[psutil.Process]]]:
    """Starts a process and its child in an environment, and ends them after the test."""
    started: list[psutil.Process] = []

    def start(environment: dict[str, str]) -> list[psutil.Process]:
        parent = subprocess.Popen(
            [sys.executable, "-c", SHELL_WITH_A_CHILD], env=environment, stdout=subprocess.PIPE
        )
        assert parent.stdout.readline() == b"up\n"
        family = [psutil.Process(parent.pid), *psutil.Process(parent.pid).children()]
        started.extend(family)
        return family

    yield start
    processes.end(started, grace=5)


def test_down_ends_what_the_platform_started_and_no_shell_that_exported_its_home(settings, start):
    users = start(os.environ | settings.as_environment())
    other = settings.model_copy(update={"home": settings.home.parent / "other"})
    neighbours = start(services.environment(other))
    ours = start(services.environment(settings))
    assert set(processes.ours(settings)) == set(ours)

    down.down(settings, Progress(Console(file=StringIO())))
    assert not any(process.is_running() and process.status() != "zombie" for process in ours)
    assert all(process.is_running() for process in (*users, *neighbours))


def test_the_mark_stays_the_same_and_only_its_owner_can_read_it(settings):
    assert processes.mark(settings) == processes.mark(settings)
    path = secrets.folder(settings) / "platform-mark"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_folder_that_was_never_a_platforms_has_no_processes_and_stays_empty(tmp_path):
    assert processes.ours(Settings(_env_file=None, home=tmp_path)) == []
    assert list(tmp_path.iterdir()) == []
