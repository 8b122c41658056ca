"""Processes that are started again whenever they end, as Airflow and supervisord do in the platform."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import psutil


class End(NamedTuple):
    """When a process ended (seconds since 1970) and its exit status."""

    at: float
    status: int


class Child:
    """A process that a `Keeper` keeps running while it is `wanted`.

    Args:
        command: the command line of the next start.
        environment: the whole environment of the next start.
        pause: seconds between an end and the next start.
        once: exit status 0 is the end of its work, after which it is not started again.
    """

    def __init__(
        self,
        name: str,
        command: Callable[[], list[str]],
        environment: Callable[[], Mapping[str, str]],
        log: Path,
        pause: float = 0.5,
        once: bool = False,
    ):
        self.name, self.log = name, log
        self.process: subprocess.Popen[bytes] | None = None
        self.wanted = False
        self.ends: list[End] = []
        self._command, self._environment, self._pause, self._once = command, environment, pause, once
        self._down_since: float | None = None

    def start(self) -> None:
        self.adopt(self.spawn())

    def spawn(self) -> subprocess.Popen[bytes]:
        """A process of the next start, which is not kept running before it is adopted."""
        with self.log.open("ab") as output:
            return subprocess.Popen(
                self._command(),
                env=dict(self._environment()),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd="/",
                start_new_session=True,
            )

    def adopt(self, process: subprocess.Popen[bytes]) -> None:
        self.process, self.wanted, self._down_since = process, True, None

    def look(self) -> None:
        """Notes an end, and starts the process again when it is time."""
        if not self.wanted or self.main.poll() is None or self.finished:
            return
        if self._down_since is None:
            self._down_since = time.time()
            self.ends.append(End(self._down_since, self.main.returncode))
        elif time.time() - self._down_since >= self._pause:
            self.start()

    @property
    def finished(self) -> bool:
        return self._once and self.process is not None and self.process.poll() == 0

    @property
    def main(self) -> subprocess.Popen[bytes]:
        """The process of the last start.

        Raises:
            RuntimeError: it was never started.
        """
        if self.process is None:
            raise RuntimeError(f"{self.name} was never started")
        return self.process

    def members(self) -> list[psutil.Process]:
        return members(self.process)

    def stop(self, number: int = signal.SIGTERM, grace: float = 30) -> bool:
        """Ends it for good with all that it started; False when something had to be killed."""
        self.wanted = False
        if self.process is None:
            return True
        left = self.members()
        send(left, signal.SIGCONT)
        if left:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, number)
        deadline = time.monotonic() + grace
        while (left := [member for member in left if _runs(member)]) and time.monotonic() < deadline:
            self.process.poll()  # or it would be left as a zombie
            time.sleep(0.05)
        left += self.members()  # what was started meanwhile
        send(left, signal.SIGKILL)
        self.process.wait(10)
        return not left


class Keeper:
    """A thread that keeps children running, between `with` and the end of its block, which stops them all.

    Attributes:
        lock: held by whoever changes what runs.
    """

    def __init__(self, children: Iterable[Child]):
        self.children = list(children)
        self.lock = threading.RLock()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="keeper", daemon=True)

    def __enter__(self) -> Keeper:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closed.set()
        self._thread.join()
        for child in reversed(self.children):
            child.stop(signal.SIGINT, grace=5)

    def _run(self) -> None:
        while not self._closed.wait(0.05):
            for child in self.children:
                with self.lock:
                    child.look()


def members(process: subprocess.Popen[bytes] | None) -> list[psutil.Process]:
    """What runs of a process, its session (also of those whose parent died) and its children in other sessions."""
    if process is None or (process.poll() is not None and psutil.pid_exists(process.pid)):
        return []  # never started, or ended with all of its session: its number is another process's now
    running = {member.pid: member for member in psutil.process_iter() if _session(member.pid) == process.pid}
    with suppress(psutil.NoSuchProcess):
        running |= {child.pid: child for child in psutil.Process(process.pid).children(recursive=True)}
    return [member for member in running.values() if _runs(member)]


def send(processes: Iterable[psutil.Process], number: int) -> None:
    """Sends a signal to those that still run."""
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.send_signal(number)


def _session(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return None


def _runs(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
