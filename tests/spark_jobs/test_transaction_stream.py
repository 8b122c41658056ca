"""The stream of transactions as Airflow starts it, killed at each point of a write, and its database killed too."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import psutil
import psycopg
import pytest

from include.platform import watchdog
from include.settings import Settings
from include.streams import store
from include.streams.lease import HANGS
from tests.builders import event_bytes
from tests.stream_runs import Submitted, books, lease, own, produce, query
from tests.waiting import until

NAME = "transaction_stream"

pytestmark = [pytest.mark.services, pytest.mark.timeout(1_200)]  # many starts of a JVM


@pytest.fixture
def shop(clean_postgres: Settings, kafka: Settings, tmp_path: Path) -> Settings:
    return own(clean_postgres, tmp_path)


class Sent:
    """Events that the broker acknowledged, with a poison record and a duplicate in each lot."""

    def __init__(self, settings: Settings):
        self.settings = settings
        self.ids: set[str] = set()
        self.lots = 0

    def lot(self, size: int = 300) -> None:
        ids = [f"lot-{self.lots}-{i}" for i in range(size)]
        values = [event_bytes(transaction_id=transaction_id) for transaction_id in ids]
        produce(
            self.settings, self.settings.transactions_topic, [*values, b"poison"], partition=self.lots % 2
        )
        produce(self.settings, self.settings.transactions_topic, values[:1], partition=self.lots % 2)
        self.ids.update(ids)
        self.lots += 1

    def offsets(self) -> int:
        return len(self.ids) + 2 * self.lots

    def all_accounted_for(self) -> bool:
        return books(self.settings, NAME) == (self.offsets(), len(self.ids), self.lots, self.lots)

    def assert_stored_once(self) -> None:
        stored = [
            transaction_id
            for (transaction_id,) in query(self.settings, "select transaction_id from shop.transactions")
        ]
        assert len(stored) == len(self.ids) and set(stored) == self.ids
        assert query(self.settings, "select count(*) from shop.dead_letters") == [(self.lots,)]


@pytest.fixture
def sent(shop: Settings) -> Sent:
    return Sent(shop)


def test_killed_at_each_failpoint_nothing_is_lost_and_nothing_twice(shop, sent, tmp_path):
    log = tmp_path / "job.log"
    for point in ("after_commit", "before_checkpoint", "before_write", "mid_copy:2"):
        before = books(shop, NAME)[0]
        sent.lot()
        with Submitted(shop, NAME, log, failpoint=point) as job:
            assert job.ended() != 0, log.read_text()
        assert "stopped:" not in log.read_text()  # it was killed, it did not fail
        written = books(shop, NAME)[0] - before
        assert (written > 0) == (point == "after_commit"), (
            point
        )  # before_checkpoint repeats after_commit's batch
        assert lease(shop, NAME)[0] in ("starting", "running")  # it could not say that it died

    sent.lot()
    with Submitted(shop, NAME, log) as job:
        job.until(sent.all_accounted_for)
        sent.assert_stored_once()
        job.terminate()
        until(lambda: lease(shop, NAME) == ("stopped", ""))
        until(lambda: not job.left())


def test_it_ends_with_its_database_or_its_jvm_and_goes_on_when_started_again(shop, sent, tmp_path):
    log = tmp_path / "job.log"
    sent.lot()
    with Submitted(shop, NAME, log) as job:
        job.until(sent.all_accounted_for)
        crash(shop)
        sent.lot()
        assert job.ended() == 1, log.read_text()
    assert "transaction_stream stopped: " in log.read_text()

    with Submitted(shop, NAME, log) as job:
        job.until(sent.all_accounted_for)
        driver = job.driver()
        os.kill(job.process.pid, signal.SIGKILL)  # the JVM; the Python driver must not live on
        until(lambda: not driver.is_running() or driver.status() == psutil.STATUS_ZOMBIE)

    sent.lot()
    with Submitted(shop, NAME, log) as job:
        job.until(sent.all_accounted_for)
    sent.assert_stored_once()


def test_a_jvm_that_hangs_is_noticed_though_its_driver_lives(shop, sent, tmp_path):
    sent.lot()
    dog = watchdog.Watchdog(
        shop, [watchdog.Job(NAME, patience=8.0)], {"postgres": watchdog.ask_database}, dict
    )
    with Submitted(shop, NAME, tmp_path / "job.log") as job:
        job.until(sent.all_accounted_for)
        driver = job.driver()
        until(lambda: not dog.look() and NAME in dog.silent() and dog.silent()[NAME] < 2)
        os.kill(job.process.pid, signal.SIGSTOP)  # the JVM
        (hang,) = until(dog.look)
        assert (hang.part, hang.pid) == (NAME, driver.pid)
        assert lease(shop, NAME) == ("running", HANGS)
        until(lambda: not job.left())

    sent.lot()
    with Submitted(shop, NAME, tmp_path / "job.log") as job:
        job.until(sent.all_accounted_for)
    sent.assert_stored_once()


def crash(settings: Settings) -> None:
    """Kills a process of PostgreSQL, which then ends all connections and recovers."""
    with psycopg.connect(settings.conninfo("owner")) as victim:
        os.kill(victim.info.backend_pid, signal.SIGKILL)

    def back() -> bool:
        try:
            with store.connect(settings):
                return True
        except psycopg.OperationalError:
            return False

    until(back)
