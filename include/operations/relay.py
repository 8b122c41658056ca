"""The relay does what is to be told to others: a thread for each kind of work, so that a slow one holds up no other.

It is a service of its own, outside Airflow, and tells of a dead Airflow, too.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import partial
from threading import Event
from typing import Any

import psycopg

from include.operations import notices, outbox
from include.operations.incidents import SEVERITIES, Kind
from include.operations.receivers import Mail, Slack, Topic, Webhook
from include.operations.watch import DOWN_SECONDS, Watch
from include.settings import Settings, SettingsError

log = logging.getLogger(__name__)

LABELS = "labels"
WATCH = "watch"
IDLE_SECONDS = 1.0  # between two looks when there was nothing to do
AWAY_SECONDS = 2.0  # between two attempts to reach PostgreSQL
BEAT_SECONDS = 90.0  # a thread that was silent for longer hangs

Work = Callable[[psycopg.Connection[Any]], int]
"""Does some of what waits; returns how much, 0 when nothing waits."""


def senders(settings: Settings) -> dict[str, outbox.Sender]:
    """Who sends the messages of which channel."""
    chosen: dict[str, outbox.Sender] = {LABELS: Topic(settings, settings.labels_topic)}
    if settings.fraud_alerts_topic:
        chosen[notices.ALERT_RECORDS] = Topic(settings, settings.fraud_alerts_topic)
    if settings.alarm_webhook_url:
        if not settings.alarm_webhook_secret:
            raise SettingsError(
                "FRAUDSTREAM_ALARM_WEBHOOK_URL is set: FRAUDSTREAM_ALARM_WEBHOOK_SECRET is missing"
            )
        secret = settings.alarm_webhook_secret.get_secret_value()
        chosen[notices.WEBHOOK] = Webhook(settings.alarm_webhook_url, secret)
    if settings.alarm_slack_url:
        chosen[notices.SLACK] = Slack(settings.alarm_slack_url.get_secret_value())
    if settings.alarm_mail_to:
        chosen[notices.MAIL] = Mail(settings)
    return chosen


def work(settings: Settings, silent: Callable[[], Collection[str]] = tuple) -> dict[str, Work]:
    """All that a relay does, by name.

    Args:
        silent: gives the names of the services that do not answer.
    """
    sending: dict[str, Work] = {
        channel: partial(outbox.deliver, channel=channel, sender=sender)
        for channel, sender in senders(settings).items()
    }
    telling = (notices.tell_of_incidents, notices.tell_of_alerts, notices.record_alerts)
    return (
        sending
        | {tell.__name__: partial(tell, settings=settings) for tell in telling}
        | {WATCH: Watch(settings, silent)}
    )


@dataclass
class Relay:
    """Works until `stopping` is set.

    Args:
        work: by name; each has a thread and a connection of its own.
    """

    settings: Settings
    work: Mapping[str, Work]
    stopping: Event

    def __post_init__(self) -> None:
        self._beats = dict.fromkeys(self.work, time.monotonic())
        self._away_since: float | None = None
        self._told_away = False

    @property
    def works(self) -> bool:
        """True while no thread hangs."""
        return time.monotonic() - min(self._beats.values()) < BEAT_SECONDS

    def run(self) -> None:
        """Returns when `stopping` is set and each thread has finished its batch; raises what ended a thread."""
        with ThreadPoolExecutor(len(self.work)) as pool:
            threads = [pool.submit(self._serve, name) for name in self.work]
            done, _ = wait(threads, return_when=FIRST_COMPLETED)
            self.stopping.set()
        for thread in done:
            thread.result()

    def _serve(self, name: str) -> None:
        while not self.stopping.is_set():
            try:
                self._work(name)
            except psycopg.OperationalError as error:
                log.warning("%s: PostgreSQL: %s", name, str(error).strip())
                self._beats[name] = time.monotonic()
                if name == WATCH:
                    self._miss_database()
                self.stopping.wait(AWAY_SECONDS)

    def _miss_database(self) -> None:
        """Tells once of a database that has been away for long: no message can wait in it."""
        now = time.monotonic()
        self._away_since = self._away_since or now
        if self._told_away or now - self._away_since < DOWN_SECONDS:
            return
        self._told_away = True
        alarm = {
            "event": "opened",
            "kind": str(Kind.SERVICE_DOWN),
            "subject": "postgres",
            "severity": SEVERITIES[Kind.SERVICE_DOWN],
            "summary": f"no connection for {now - self._away_since:.0f} s",
            "runbook": str(Kind.SERVICE_DOWN),
        }
        notices.tell_directly(self.settings, senders(self.settings), alarm)

    def _work(self, name: str) -> None:
        with psycopg.connect(self.settings.conninfo("relay"), autocommit=True) as connection:
            if name == WATCH:
                self._away_since, self._told_away = None, False
            while not self.stopping.is_set():
                self._beats[name] = time.monotonic()
                if not self.work[name](connection):
                    self.stopping.wait(IDLE_SECONDS)
