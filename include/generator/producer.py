"""Publishes a simulated world: its history first where it is missing, then live transactions until it is stopped."""

from __future__ import annotations

import logging
import threading
import time
from operator import itemgetter

from include.broker.publish import Headers, Publisher
from include.events.times import from_micros
from include.generator.batch import Batch
from include.generator.config import Config
from include.generator.pacing import Clock, Pacer
from include.generator.profiles import simulation
from include.generator.resume import Mark, fingerprint, published_history
from include.generator.simulation import Simulation
from include.generator.volume import DAY, SECOND
from include.settings import Settings

log = logging.getLogger("producer")

PROGRESS_SECONDS = 10.0
FLUSH_SECONDS = 30.0
LONGEST_GAP = 600 * SECOND

TimedRecord = tuple[int, str, bytes, bytes]
"""When a record is due (microseconds since 1970), its topic, key and value."""


class ProducerRun:
    """One run of the producer.

    Attributes:
        state: `starting`, `history`, `running`, and at the end `stopped` or `failed`.
    """

    def __init__(self, settings: Settings, config: Config):
        self.settings = settings
        self.config = config
        self.stopping = threading.Event()
        self.publisher = Publisher(settings, self.stopping)
        self.simulation: Simulation = simulation(config)
        self.clock = Clock()
        self.pacer = Pacer(self.clock, config.rate)
        self.state = "starting"
        self._day: int | None = None
        self._logged = (time.monotonic(), 0, 0)

    def stop(self, reason: str) -> None:
        if not self.stopping.is_set():
            log.info("stopping: %s", reason)
            self.stopping.set()

    def report(self) -> tuple[str, str]:
        """State and detail for shop.stream_leases."""
        publisher = self.publisher
        detail = f"{publisher.acknowledged:,} acknowledged, {publisher.waiting:,} waiting"
        if publisher.problem:
            detail += f"; {publisher.problem}"
        return self.state, detail

    def publish(self, with_history: bool) -> int:
        """Publishes until it is stopped; the number of records that could not be delivered."""
        start = self.clock.now()
        if with_history:
            start = self.history(start)
        if not self.stopping.is_set():
            self.state = "running"
            self.live(start)
        return self.publisher.flush(FLUSH_SECONDS)

    def history(self, now: int) -> int:
        """Publishes what is missing of the history; the time at which live transactions begin."""
        published = published_history(self.settings)
        if not published.empty and published.unfinished is None:
            log.info("the topic has its history")
            return now
        own = fingerprint(self.config)
        mark = published.unfinished or Mark(now // SECOND * SECOND, 0, own)
        if mark.config != own:
            log.warning("the topic has a part of another configuration's history, which is left as it is")
            return now
        self.state = "history"
        log.info("publishing the history before %s from %s on", from_micros(mark.end), from_micros(mark.slot))
        for batch in self.simulation.history(mark.end, resume_at=mark.slot or None):
            headers = mark._replace(slot=int(batch.time[0])).headers()
            for record in records(self.settings, batch):
                if not self._send(record, headers):
                    return mark.end
            self.publisher.poll()
            self._log_progress()
            if self.stopping.is_set():
                return mark.end
        self.publisher.flush()
        log.info("the history is published")
        # What happened while the history was sent is caught up; a longer gap stays one.
        return mark.end if now - mark.end < LONGEST_GAP else now

    def live(self, start: int) -> None:
        """Publishes each transaction when its time has come."""
        log.info("publishing %g transactions per second", self.config.rate)
        while not self.stopping.is_set():
            for batch in self.simulation.live(start):
                if not self._send_in_time(records(self.settings, batch)):
                    break
            self.clock = Clock()
            self.pacer = Pacer(self.clock, self.config.rate)
            start = self.clock.now()

    def _send_in_time(self, waiting: list[TimedRecord]) -> bool:
        """Sends records at their times; False when asked to stop, or when the machine's clock jumped."""
        times = [due for due, *_ in waiting]
        first = 0
        while first < len(waiting) and not self.stopping.is_set():
            if self.clock.jumped():
                jump = self.clock.drift() / SECOND
                log.warning("the clock jumped by %.0f s: going on from the present", jump)
                return False
            end = self.pacer.due(times, first)
            for record in waiting[first:end]:
                if not self._send(record):
                    return False
            first = end
            self.publisher.poll()
            if first < len(waiting):
                self.stopping.wait(self.pacer.pause(times[first]))
            self._log_progress()
        return not self.stopping.is_set()

    def _send(self, record: TimedRecord, headers: Headers | None = None) -> bool:
        """Sends a record; False when asked to stop.

        Before the first record of a day the labels of the days before are acknowledged, as features of the day's
        payments count them (docs/events.md).
        """
        due, topic, key, value = record
        day = due // DAY
        if self._day is not None and day > self._day and self.publisher.flush():
            return False
        self._day = day if self._day is None else max(day, self._day)
        return self.publisher.send(topic, key, value, headers)

    def _log_progress(self) -> None:
        """A line every ten seconds."""
        logged_at, sent, acknowledged = self._logged
        publisher, now = self.publisher, time.monotonic()
        if now - logged_at < PROGRESS_SECONDS:
            return
        self._logged = (now, publisher.sent, publisher.acknowledged)
        log.info(
            "%d sent (%.1f/s), %d acknowledged (%.1f/s), %d waiting, %d sent again, %.1f s behind%s",
            publisher.sent,
            (publisher.sent - sent) / (now - logged_at),
            publisher.acknowledged,
            (publisher.acknowledged - acknowledged) / (now - logged_at),
            publisher.waiting,
            publisher.failed,
            self.pacer.behind,
            f"; {publisher.problem}" if publisher.problem else "",
        )


def records(settings: Settings, batch: Batch) -> list[TimedRecord]:
    """A batch's records in order of time; a label follows its transaction."""
    both = [(time, settings.transactions_topic, key, value) for time, key, value in batch.transactions()]
    both += [(time, settings.labels_topic, key, value) for time, key, value in batch.label_records()]
    return sorted(both, key=itemgetter(0))
