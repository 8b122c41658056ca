"""Finds the processes of a platform by the mark that only the platform gives to what it starts."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Callable

import psutil

from include.platform.secrets import folder, write_private
from include.settings import PREFIX, Settings

MARK = f"{PREFIX}PLATFORM_MARK"


def mark(settings: Settings) -> dict[str, str]:
    """The variable that marks a process as this platform's: random, made once, kept in a private file.

    FRAUDSTREAM_HOME is no such mark: people export it in their shells.
    """
    path = folder(settings) / "platform-mark"
    if not path.exists():
        write_private(path, secrets.token_urlsafe(16))
    return {MARK: path.read_text()}


def ours(settings: Settings) -> list[psutil.Process]:
    """All processes of this platform but the caller and its ancestors, as far as this user may see them."""
    own = {psutil.Process().pid, *(parent.pid for parent in psutil.Process().parents())}
    return [
        process for process in psutil.process_iter() if process.pid not in own and is_ours(settings, process)
    ]


def is_ours(settings: Settings, process: psutil.Process) -> bool:
    """True when the process carries this platform's mark, as far as this user may see it."""
    if not folder(settings).exists():
        return False
    try:
        return process.environ().get(MARK) == mark(settings)[MARK]
    except (psutil.Error, OSError):
        return False


def of_group(group: int, title: str) -> list[psutil.Process]:
    """Processes of a process group whose command line begins with `title`, and all below them."""
    members: dict[int, psutil.Process] = {}
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if os.getpgid(process.pid) == group and " ".join(process.cmdline()).startswith(title):
                members.update(
                    (member.pid, member) for member in (process, *process.children(recursive=True))
                )
    return list(members.values())


def end(processes: list[psutil.Process], grace: float) -> int:
    """Terminates, and after `grace` seconds kills; returns how many had to be killed."""
    for process in processes:
        _quietly(process.terminate)
    _, alive = psutil.wait_procs(processes, timeout=grace)
    for process in alive:
        _quietly(process.kill)
    psutil.wait_procs(alive, timeout=5)
    return len(alive)


def _quietly(action: Callable[[], None]) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):  # it ended by itself meanwhile
        action()
