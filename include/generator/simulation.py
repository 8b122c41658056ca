"""What every profile can do: a history, live transactions, or any stretch of time."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from datetime import datetime

from include.events.times import micros
from include.generator.batch import Batch
from include.generator.config import Config
from include.generator.volume import DAY, SECOND, Flat, Growth, Volume


class Simulation(ABC):
    """Generates any slot of time by itself: the same configuration, volume and slot give the same bytes.

    All times are aware datetimes or microseconds since 1970 UTC.
    """

    longest_campaign = 0
    """How long payments go on that began in a slot, in microseconds."""

    def __init__(self, config: Config):
        self.config = config

    @abstractmethod
    def slot(self, start: int, volume: Volume) -> Batch:
        """All transactions of the slot that begins at `start`, a multiple of its length, `volume.slot(start)`."""

    def history(self, end: datetime | int, resume_at: datetime | int | None = None) -> Iterator[Batch]:
        """The history before `end`, which grows to the configured rate; from the slot of `resume_at` if given."""
        volume = self.growth(end)
        if volume.length:
            yield from self._slots(max(volume.start, _micros(resume_at or volume.start)), volume.end, volume)

    def growth(self, end: datetime | int) -> Growth:
        """Volume of the history before `end`."""
        config = self.config
        return Growth(_micros(end), config.history_days * DAY, config.history_events, config.rate)

    def live(self, start: datetime | int, rate: float | None = None) -> Iterator[Batch]:
        """Transactions from `start` on, without end, at a constant rate per second (default: the configured one)."""
        yield from self._slots(_micros(start), None, Flat(rate or self.config.rate))

    def between(
        self, start: datetime | int, end: datetime | int, events: int | None = None, rate: float | None = None
    ) -> Iterator[Batch]:
        """Transactions in [start, end) at a constant rate: about `events` of them, or `rate` per second."""
        begin, stop = _micros(start), _micros(end)
        if events is not None:
            rate = events / ((stop - begin) / SECOND)
        yield from self._slots(begin, stop, Flat(rate or self.config.rate))

    def _slots(self, start: int, end: int | None, volume: Volume) -> Iterator[Batch]:
        at = start // volume.slot(start) * volume.slot(start)
        while end is None or at < end:
            following = at + volume.slot(at)
            stop = following if end is None else min(end, following)
            if volume.count(at - self.longest_campaign, stop):
                batch = self.slot(at, volume).between(max(start, at), stop)
                if len(batch):
                    yield batch
            at = following


def _micros(time: datetime | int) -> int:
    return time if isinstance(time, int) else micros(time)
