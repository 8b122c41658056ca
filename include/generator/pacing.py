"""When a simulated transaction is sent: at its own time, and a backlog no faster than a multiple of the rate."""

from __future__ import annotations

import bisect
import time
from collections.abc import Sequence

from include.generator.volume import SECOND

CATCH_UP = 2.0  # after an outage, at most this many times the rate
BURST_SECONDS = 0.25  # of that speed may come at once
CLOCK_JUMP = 60 * SECOND  # a larger one (a machine that slept) is not caught up
SHORTEST_PAUSE, LONGEST_PAUSE = 0.01, 0.2  # seconds


class Clock:
    """Microseconds since 1970 that flow evenly, whatever is done to the machine's clock."""

    def __init__(self) -> None:
        self._wall, self._monotonic = time.time_ns(), time.monotonic_ns()

    def now(self) -> int:
        return (self._wall + time.monotonic_ns() - self._monotonic) // 1000

    def drift(self) -> int:
        """By how much the machine's clock is ahead of this one."""
        return time.time_ns() // 1000 - self.now()

    def jumped(self) -> bool:
        """True when the machine's clock went elsewhere meanwhile."""
        return abs(self.drift()) > CLOCK_JUMP


class Pacer:
    """Lets records go when they are due.

    Args:
        rate: records per second, on average.

    Attributes:
        behind: how late the first record that waits is, in seconds.
    """

    def __init__(self, clock: Clock, rate: float):
        self._clock = clock
        self._fastest = CATCH_UP * rate
        self._allowed = 1.0
        self._asked_at = time.monotonic()
        self.behind = 0.0

    def due(self, times: Sequence[int], first: int) -> int:
        """How far records may be sent now: those from `first` up to it, itself left out.

        Args:
            times: when each is due, ascending, in microseconds since 1970.
        """
        now, asked_at = self._clock.now(), time.monotonic()
        most = max(1.0, self._fastest * BURST_SECONDS)
        self._allowed = min(self._allowed + self._fastest * (asked_at - self._asked_at), most)
        self._asked_at = asked_at
        end = min(bisect.bisect_right(times, now, lo=first), first + int(self._allowed))
        self._allowed -= end - first
        self.behind = max(0, now - times[end]) / SECOND if end < len(times) else 0.0
        return end

    def pause(self, due: int) -> float:
        """Seconds to wait before asking again for a record that is due at a time."""
        wait = (due - self._clock.now()) / SECOND
        return min(max(wait if wait > 0 else 1 / self._fastest, SHORTEST_PAUSE), LONGEST_PAUSE)
