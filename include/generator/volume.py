"""How many transactions happen when: a constant rate, or a history that grows towards its end."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

SECOND = 1_000_000  # all times are microseconds since 1970, UTC
HOUR = 3600 * SECOND
DAY = 24 * HOUR
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

    def population(self, at: int) -> float:
        """Share of all customers that are customers already."""
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

    def population(self, at: int) -> float:
        return 1.0

    @property
    def key(self) -> tuple[int, ...]:
        return 1, round(self.rate * 1e6)


@dataclass(frozen=True)
class Growth(Volume):
    """`events` transactions in [end - length, end), growing exponentially to `final_rate` per second.

    Customers grow with them, so each customer's own rate stays the same. When `events` is at least what
    `final_rate` gives in that time, the history is level: its rate is `events` / length.
    """

    end: int
    length: int
    events: int
    final_rate: float

    @property
    def start(self) -> int:
        return self.end - self.length

    def rate_at(self, at: int) -> float:
        level = self.events / (self.length / SECOND) if self.length else 0.0
        return self.final_rate * self.population(at) if self.growth else level

    @cached_property
    def growth(self) -> float:
        """Growth constant g, per second: rate (1 - exp(-g length)) / g = events."""
        seconds = self.length / SECOND
        if self.events == 0 or self.events >= self.final_rate * seconds:
            return 0.0
        low, high = 0.0, self.final_rate / self.events  # at `high` even an endless history is not larger
        for _ in range(100):
            middle = (low + high) / 2
            size = self.final_rate * -math.expm1(-middle * seconds) / middle
            low, high = (middle, high) if size > self.events else (low, middle)
        return (low + high) / 2

    def total(self, at: int) -> int:
        at = min(max(at, self.start), self.end)
        seconds, since = self.length / SECOND, (at - self.start) / SECOND
        if at == self.end or self.growth == 0:
            return round(self.events * since / seconds) if seconds else 0
        share = (math.exp(-self.growth * (seconds - since)) - math.exp(-self.growth * seconds)) / -math.expm1(
            -self.growth * seconds
        )
        return math.floor(self.events * share)

    def clip(self, start: int, end: int) -> tuple[int, int]:
        return max(start, self.start), min(end, self.end)

    def population(self, at: int) -> float:
        return math.exp(-self.growth * max(0, self.end - at) / SECOND)

    @property
    def key(self) -> tuple[int, ...]:
        return 2, self.end, self.length, self.events, round(self.final_rate * 1e6)
