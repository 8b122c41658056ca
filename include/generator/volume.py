"""How many transactions happen when: a constant rate, or a history whose level weeks end at the live rate."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

SECOND = 1_000_000  # all times are microseconds since 1970, UTC
HOUR = 3600 * SECOND
DAY = 24 * HOUR
RAMP = 0.1  # share of a history's transactions in which its customers grow to those who are there live
SLOT_EVENTS = 20_000  # a slot fits in the processor's cache and fills in some tens of milliseconds


class Volume:
    """Counts of transactions over time, in slots that divide an hour; both kinds below are one."""

    def slot(self, at: int) -> int:
        """Length of the slots in the hour of `at`, in microseconds: the unit in which a world generates."""
        rate = self.rate_at(at // HOUR * HOUR + HOUR)
        return next((s for s in (3600, 600, 60, 10) if s * rate <= SLOT_EVENTS), 1) * SECOND

    def rate_at(self, at: int) -> float:
        """Transactions per second, which never fall with time."""
        raise NotImplementedError

    def count(self, start: int, end: int) -> int:
        """Transactions in [start, end); counts of adjacent ranges add up exactly."""
        return self.total(end) - self.total(start)

    def total(self, at: int) -> int:
        raise NotImplementedError

    def clip(self, start: int, end: int) -> tuple[int, int]:
        """The part of [start, end) in which there are transactions."""
        return start, end

    def population(self, start: int, end: int) -> float:
        """Share of all customers that are customers already in [start, end)."""
        raise NotImplementedError

    @property
    def key(self) -> tuple[int, ...]:
        """Numbers that tell this volume from any other."""
        raise NotImplementedError


@dataclass(frozen=True)
class Flat(Volume):
    """A constant rate with all customers present."""

    rate: float

    def rate_at(self, at: int) -> float:
        return self.rate

    def total(self, at: int) -> int:
        return math.floor(self.rate * (at / SECOND))

    def population(self, start: int, end: int) -> float:
        return 1.0

    @property
    def key(self) -> tuple[int, ...]:
        return 1, round(self.rate * 1e6)


@dataclass(frozen=True)
class Growth(Volume):
    """`events` transactions in [end - length, end): level over its weeks, then growing to `final_rate` per second.

    The last `RAMP` of them grow exponentially, while the customers join who are there live: customers grow as their
    payments do, so each customer's own rate stays the same. When `events` is at least what `final_rate` gives in that
    time, the whole history is level: its rate is `events` / length.
    """

    end: int
    length: int
    events: int
    final_rate: float

    @property
    def start(self) -> int:
        return self.end - self.length

    @cached_property
    def level(self) -> float:
        """Transactions per second before the growth: level (length - ramp) = (1 - RAMP) events."""
        seconds = self.length / SECOND
        if not self.events or self.events >= self.final_rate * seconds:
            return self.events / seconds if seconds else 0.0
        low, high = 0.0, self.final_rate
        for _ in range(100):
            middle = (low + high) / 2
            size = middle * (seconds - self._ramp(middle))
            low, high = (middle, high) if size < (1 - RAMP) * self.events else (low, middle)
        return high

    @cached_property
    def ramp(self) -> float:
        """Seconds of growth."""
        return self._ramp(self.level) if 0 < self.level < self.final_rate else 0.0

    def _ramp(self, level: float) -> float:
        """Seconds in which RAMP events come while the rate grows exponentially from a level to the final rate."""
        growth = (self.final_rate - level) / (RAMP * self.events)
        return math.log(self.final_rate / level) / growth

    def rate_at(self, at: int) -> float:
        left = max(0, self.end - at) / SECOND
        if left >= self.ramp:
            return self.level
        return self.level * (self.final_rate / self.level) ** (1 - left / self.ramp)

    def total(self, at: int) -> int:
        at = min(max(at, self.start), self.end)
        if at == self.end:
            return self.events if self.length else 0
        left, seconds = (self.end - at) / SECOND, self.length / SECOND
        if left >= self.ramp:
            return math.floor(self.level * (seconds - left))
        share = (self.rate_at(at) - self.level) / (self.final_rate - self.level)
        return math.floor(self.level * (seconds - self.ramp) + share * RAMP * self.events)

    def clip(self, start: int, end: int) -> tuple[int, int]:
        return max(start, self.start), min(end, self.end)

    def population(self, start: int, end: int) -> float:
        start, end = self.clip(start, end)
        if end <= start:
            return self.rate_at(start) / self.final_rate
        return min(1.0, self.count(start, end) / ((end - start) / SECOND) / self.final_rate)

    @property
    def key(self) -> tuple[int, ...]:
        return 2, self.end, self.length, self.events, round(self.final_rate * 1e6)
