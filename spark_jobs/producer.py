"""Publishes simulated transactions: their history first where it is missing, then live ones until it is stopped."""

from __future__ import annotations

import argparse
import bisect
import logging
import signal
import sys
import threading
import time
from datetime import datetime
from operator import itemgetter

from include.broker.kafka import KafkaError, ensure_topics
from include.broker.publish import DeliveryFailed, Publisher
from include.events.times import from_micros
from include.generator.batch import Batch
from include.generator.config import Config, GeneratorError
from include.generator.heartbeat import Heartbeat
from include.generator.profiles import PROFILES, simulation
from include.generator.resume import Mark, fingerprint, progress
from include.generator.simulation import Simulation
from include.generator.volume import SECOND
from include.settings import Settings, SettingsError, load
from include.streams.orphan import exit_when_orphaned

log = logging.getLogger("producer")

PROGRESS_SECONDS = 10.0
FLUSH_SECONDS = 30.0
CATCH_UP = 2.0  # after an outage, at most this many times the rate
LONGEST_GAP = 600 * SECOND
DAY = 86_400 * SECOND
CLOCK_JUMP = 60 * SECOND  # a larger one (a machine that slept) is not caught up


class Clock:
    """Microseconds since 1970 that flow evenly, whatever is done to the machine's clock."""

    def __init__(self):
        self._wall, self._monotonic = time.time_ns(), time.monotonic_ns()

    def now(self) -> int:
        return (self._wall + time.monotonic_ns() - self._monotonic) // 1000

    def drift(self) -> int:
        """By how much the machine's clock is ahead of this one."""
        return time.time_ns() // 1000 - self.now()


class Job:
    """One run of the producer."""

    def __init__(self, settings: Settings, config: Config):
        self.settings = settings
        self.config = config
        self.stopping = threading.Event()
        self.publisher = Publisher(settings, self.stopping)
        self.simulation: Simulation = simulation(config)
        self.clock = Clock()
        self.state = "starting"
        self.behind = 0.0
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

    def run(self, with_history: bool) -> int:
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
        found = progress(self.settings)
        if not found.empty and found.unfinished is None:
            log.info("the topic has its history")
            return now
        own = fingerprint(self.config)
        mark = found.unfinished or Mark(now // SECOND * SECOND, 0, own)
        if mark.config != own:
            log.warning("the topic has a part of another configuration's history, which is left as it is")
            return now
        self.state = "history"
        log.info("publishing the history before %s from %s on", from_micros(mark.end), from_micros(mark.slot))
        for batch in self.simulation.history(mark.end, resume_at=mark.slot or None):
            headers = mark._replace(slot=int(batch.time[0])).headers()
            for record in records(self.settings, batch):
                if not self._send(*record, headers):
                    return mark.end
            self.publisher.poll()
            self.log_progress()
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
            start = self.clock.now()

    def _send(self, at: int, topic: str, key: bytes, value: bytes, headers: list | None = None) -> bool:
        """Sends a record; False when asked to stop.

        Before the first record of a day the labels of the days before are acknowledged, as features of the day's
        payments count them (docs/events.md).
        """
        day = at // DAY
        if self._day is not None and day > self._day and self.publisher.flush():
            return False
        self._day = day if self._day is None else max(day, self._day)
        return self.publisher.send(topic, key, value, headers)

    def _send_in_time(self, sending: list[tuple[int, str, bytes, bytes]]) -> bool:
        """Sends records at their times; False when asked to stop, or when the machine's clock jumped."""
        times = [record[0] for record in sending]
        most = CATCH_UP * self.config.rate
        allowed, last, position = 1.0, time.monotonic(), 0
        while position < len(sending) and not self.stopping.is_set():
            if abs(self.clock.drift()) > CLOCK_JUMP:
                log.warning(
                    "the clock jumped by %.0f s: going on from the present", self.clock.drift() / SECOND
                )
                return False
            now, elapsed = self.clock.now(), time.monotonic() - last
            last += elapsed
            allowed = min(allowed + most * elapsed, max(1.0, most / 4))
            due = min(bisect.bisect_right(times, now), position + int(allowed))
            for record in sending[position:due]:
                if not self._send(*record):
                    return False
            allowed -= due - position
            position = due
            self.publisher.poll()
            if position < len(sending):
                self.behind = max(0, now - times[position]) / SECOND
                pause = (times[position] - now) / SECOND if times[position] > now else 1 / most
                self.stopping.wait(min(max(pause, 0.01), 0.2))
            self.log_progress()
        return not self.stopping.is_set()

    def log_progress(self) -> None:
        """A line every ten seconds."""
        at, sent, acknowledged = self._logged
        publisher, now = self.publisher, time.monotonic()
        if now - at < PROGRESS_SECONDS:
            return
        self._logged = (now, publisher.sent, publisher.acknowledged)
        log.info(
            "%d sent (%.1f/s), %d acknowledged (%.1f/s), %d waiting, %d sent again, %.1f s behind%s",
            publisher.sent,
            (publisher.sent - sent) / (now - at),
            publisher.acknowledged,
            (publisher.acknowledged - acknowledged) / (now - at),
            publisher.waiting,
            publisher.failed,
            self.behind,
            f"; {publisher.problem}" if publisher.problem else "",
        )


def records(settings: Settings, batch: Batch) -> list[tuple[int, str, bytes, bytes]]:
    """Time, topic, key and value of a batch's records in order of time; a label follows its transaction."""
    both = [(at, settings.transactions_topic, key, value) for at, key, value in batch.transactions()]
    both += [(at, settings.labels_topic, key, value) for at, key, value in batch.label_records()]
    return sorted(both, key=itemgetter(0))


def arguments(argv: list[str] | None, settings: Settings) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="producer", description=__doc__)
    parser.add_argument(
        "--rate", type=float, help=f"transactions per second (default {settings.rate_per_second:g})"
    )
    parser.add_argument(
        "--fraud-rate",
        type=_fraud_rate,
        help="share of fraud; own: the setting's or profile's (default: own)",
    )
    parser.add_argument("--profile", choices=sorted(PROFILES), help=f"default {settings.profile}")
    parser.add_argument("--seed", type=int, help=f"default {settings.seed}")
    parser.add_argument(
        "--drift-at", type=datetime.fromisoformat, help="from then on amounts, devices and fraud change"
    )
    parser.add_argument(
        "--history",
        action=argparse.BooleanOptionalAction,
        default=False,
        help="publish the history first, once",
    )
    return parser.parse_args(argv)


def _fraud_rate(text: str) -> float | None:
    return None if text == "own" else float(text)


def main(argv: list[str] | None = None) -> int:
    """Exit status 0 after a stop that was asked for with all delivered, else 1."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    try:
        settings = load()
        asked = arguments(argv, settings)
        config = Config.from_settings(
            settings,
            rate=asked.rate,
            fraud_rate=asked.fraud_rate,
            profile=asked.profile,
            seed=asked.seed,
            drift_at=asked.drift_at,
        )
        ensure_topics(settings)
        job = Job(settings, config)
        exit_when_orphaned(lambda: job.stop("a parent process died"), grace=FLUSH_SECONDS + 5)
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, lambda received, _: job.stop(signal.Signals(received).name))
        with Heartbeat(settings, job.report, job.stop):
            try:
                undelivered = job.run(asked.history)
                job.state = "stopped"
            except BaseException:
                job.state = "failed"
                raise
    except (SettingsError, GeneratorError, KafkaError, DeliveryFailed) as error:
        log.error("%s", error)
        return 1
    publisher = job.publisher
    log.info("%d sent, %d acknowledged", publisher.sent, publisher.acknowledged)
    if undelivered:
        log.error(
            "%d records were not acknowledged within %.0f s: %s",
            undelivered,
            FLUSH_SECONDS,
            publisher.problem,
        )
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
