"""How tests wait for what other threads and processes do."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

PATIENCE = 180.0  # seconds; a machine that does other work at the same time is slow
Result = TypeVar("Result")


def until(
    condition: Callable[[], Result], seconds: float = PATIENCE, alive: Callable[[], object] = lambda: True
) -> Result:
    """Waits until the condition holds and returns what it gave.

    Fails when `alive` no longer holds, or with the error that it raises.
    """
    deadline = time.monotonic() + seconds
    while not (result := condition()):
        assert alive(), "it ended before that happened"
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.05)
    return result
