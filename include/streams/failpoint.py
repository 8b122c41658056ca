"""Failpoints: named points of the write path at which a test lets the driver die.

They do nothing unless the setting `failpoint` names one.
"""

from __future__ import annotations

import os
import signal
from collections import Counter
from dataclasses import dataclass
from typing import Literal

Point = Literal["before_write", "mid_copy", "after_commit", "before_checkpoint"]

_passed: Counter[str] = Counter()  # per process: a Failpoint is sent to the workers anew with each batch


@dataclass(frozen=True)
class Failpoint:
    """The armed point (`None`: nothing is armed), as `name` or `name:n`, and the driver's process id."""

    armed: str | None = None
    driver: int = 0

    def reach(self, point: Point) -> None:
        """Kills the driver and this process with SIGKILL when `point` is armed and passed the n-th time."""
        if self.armed is None:
            return
        name, _, nth = self.armed.partition(":")
        if name != point:
            return
        _passed[point] += 1
        if _passed[point] == int(nth or 1):
            os.kill(self.driver, signal.SIGKILL)
            os.kill(os.getpid(), signal.SIGKILL)
