"""Steps on the terminal, each with its elapsed time."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console


class Step:
    """One running step; `note` adds a remark to its line."""

    def __init__(self) -> None:
        self.remark = ""

    def note(self, text: str) -> None:
        self.remark = f": {text}"


class Progress:
    """Prints a line when a step ends; safe for steps that run at the same time."""

    def __init__(self, console: Console | None = None):
        self._console = console or Console(highlight=False, soft_wrap=True)
        self._lock = threading.Lock()
        self.started = time.monotonic()

    @contextmanager
    def step(self, name: str) -> Iterator[Step]:
        began, step = time.monotonic(), Step()
        try:
            yield step
        except BaseException as error:
            step.note(str(error) or type(error).__name__)
            self._line("[red]failed[/red]", name, began, step)
            raise
        self._line("[green]done[/green]  ", name, began, step)

    def say(self, text: str) -> None:
        with self._lock:
            self._console.print(text)

    def elapsed(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.started

    def _line(self, mark: str, name: str, began: float, step: Step) -> None:
        took = time.monotonic() - began
        with self._lock:
            self._console.print(f"{self.elapsed():6.1f} s  {mark}  {name} ({took:.1f} s){step.remark}")
