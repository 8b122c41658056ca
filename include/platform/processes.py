"""Finds the processes of a platform: each carries its `FRAUDSTREAM_HOME` in its environment."""

from __future__ import annotations

import contextlib
import os

import psutil

from include.settings import PREFIX, Settings


def ours(settings: Settings) -> list[psutil.Process]:
    """All processes of this state folder but the caller and its ancestors, as far as this user may see them."""
    own = {psutil.Process().pid, *(each.pid for each in psutil.Process().parents())}
    return [
        each for each in psutil.process_iter() if each.pid not in own and _home(each) == str(settings.home)
    ]


def _home(process: psutil.Process) -> str | None:
    try:
        return process.environ().get(f"{PREFIX}HOME")
    except (psutil.Error, OSError):
        return None


def of_group(group: int, title: str) -> list[psutil.Process]:
    """Processes of a process group whose command line begins with `title`, and all below them."""
    found: dict[int, psutil.Process] = {}
    for each in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if os.getpgid(each.pid) == group and " ".join(each.cmdline()).startswith(title):
                found.update((one.pid, one) for one in (each, *each.children(recursive=True)))
    return list(found.values())


def end(processes: list[psutil.Process], grace: float) -> int:
    """Terminates, and after `grace` seconds kills; returns how many had to be killed."""
    for each in processes:
        _quietly(each.terminate)
    _, alive = psutil.wait_procs(processes, timeout=grace)
    for each in alive:
        _quietly(each.kill)
    psutil.wait_procs(alive, timeout=5)
    return len(alive)


def _quietly(action) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):  # it ended by itself meanwhile
        action()
