"""Ends a job whose parents died: nobody could stop it any more, and its successor may run already."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable

import psutil

log = logging.getLogger(__name__)

ORPHANED = 75  # EX_TEMPFAIL: the exit status of a job that ended itself


def ancestors() -> list[psutil.Process]:
    """This process's parent, its parent and so on, without process 1."""
    return [parent for parent in psutil.Process().parents() if parent.pid > 1]


def died(process: psutil.Process) -> bool:
    """True when a process ended, even if its number was given to another one or nobody has collected its status."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def exit_when_orphaned(
    on_exit: Callable[[], object], grace: float = 10.0, interval: float = 0.5
) -> threading.Thread:
    """Watches all of this process's present ancestors from a thread; when one dies, the job ends.

    Between a job and the Airflow worker that launched it stand a JVM and a shell, which outlive a killed worker.

    Args:
        on_exit: asks the job to end; called once, from a thread. It may fail or hang: `grace` still holds.
        grace: seconds after which the process exits with status `ORPHANED` in any case.
        interval: seconds between two looks.
    """
    watched = ancestors()
    thread = threading.Thread(
        target=_watch, args=(watched, on_exit, grace, interval), name="orphan-guard", daemon=True
    )
    thread.start()
    return thread


def _watch(
    watched: list[psutil.Process], on_exit: Callable[[], object], grace: float, interval: float
) -> None:
    while not (dead := next((process for process in watched if died(process)), None)):
        time.sleep(interval)
    log.warning("process %d, which this job belongs to, died: the job ends itself", dead.pid)
    threading.Thread(target=on_exit, name="orphan-exit", daemon=True).start()
    time.sleep(grace)
    log.error("the job did not end within %.0f s and is ended now", grace)
    os._exit(ORPHANED)
