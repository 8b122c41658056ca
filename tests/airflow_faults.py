"""What tests need to hurt the Airflow of a running platform, and to see its streams come back."""

from __future__ import annotations

import json
import os
import time
import uuid
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import psutil
import psycopg

from include.broker import kafka
from include.faults.victims import main_process, runs
from include.platform import secrets
from include.settings import Settings
from include.streams import STREAMS
from tests.builders import event_bytes
from tests.stream_runs import produce
from tests.waiting import until

_LEDGER = "select stream, partition, epoch, next_offset from shop.stream_offsets where topic = '{}'"
_STALE = """
select count(*) from (
    select epoch, max(epoch) over (partition by stream, topic, partition order by id) as newest
    from campaign.journal) j
where epoch < newest"""


def refuse_tokens(settings: Settings) -> None:
    """Gives Airflow's API another key: it refuses every token that was made before, as it does expired ones."""
    path = secrets.folder(settings) / "secrets.json"
    known = json.loads(path.read_text())
    secrets.write_private(path, json.dumps(known | {"airflow_jwt": uuid.uuid4().hex * 2}))
    main_process(settings, "airflow-api-server").kill()


class Watch:
    """The streams of a platform from before a fault until they have come back.

    Args:
        query: runs a statement on the platform's database.
        drivers: the Java and Python processes of a job.
    """

    def __init__(
        self,
        settings: Settings,
        query: Callable[[str], list[tuple[Any, ...]]],
        drivers: Callable[[str], list[psutil.Process]],
    ):
        self.settings = settings
        self._query = query
        self._drivers = drivers
        self._before = self._epochs()
        self.victims = {job: _with_children(drivers(job)) for job in STREAMS}
        assert all(self.victims.values()), "a stream does not run yet"
        self.load = os.getloadavg()[0]
        self.began = time.monotonic()

    def _epochs(self) -> dict[str, int]:
        return dict(self._query("select stream, epoch from shop.stream_leases"))

    def back(
        self, what: str, restarted: Sequence[str] = (), kept: Sequence[str] = (), seconds: float = 600
    ) -> float:
        """Waits until each stream commits what was sent after the fault; the seconds since the fault.

        Args:
            restarted: the streams of which a new driver must do so, and the old one be gone.
            kept: the streams whose driver must still be the same.
        """
        topic = self.settings.transactions_topic
        sent: dict[int, int] = {}
        sent_at = 0.0

        def committed() -> bool:
            nonlocal sent, sent_at
            if time.monotonic() - sent_at > 2:  # the producer is a task, too: it may be away
                for partition in range(self.settings.kafka_partitions):
                    value = event_bytes(transaction_id=f"after-{uuid.uuid4()}", timestamp=datetime.now(UTC))
                    produce(self.settings, topic, [value], partition=partition)
                sent = sent or kafka.end_offsets(self.settings, topic)
                sent_at = time.monotonic()
            try:
                rows = self._query(_LEDGER.format(topic))
            except psycopg.OperationalError:  # PostgreSQL may be what was hurt
                return False
            done = {
                (stream, partition)
                for stream, partition, epoch, following in rows
                if following >= sent[partition] and (stream not in restarted or epoch > self._before[stream])
            }
            return done >= {(stream, partition) for stream in STREAMS for partition in sent}

        until(committed, seconds)
        taken = time.monotonic() - self.began
        print(f"\n{what}: {taken:.1f} s to the next commit of both streams, load {self.load:.1f} before")
        old = [process for job in restarted for process in self.victims[job]]
        until(lambda: not any(map(runs, old)), 60)
        for job in kept:
            assert all(map(runs, self.victims[job][:2])), f"{job} was restarted"
        until(lambda: all(self._jvms(job) == 1 for job in STREAMS), 60)
        assert self._query(_STALE) == [(0,)], "a driver wrote after its successor"
        return taken

    def _jvms(self, job: str) -> int:
        return sum("java" in driver.name() for driver in self._drivers(job))

    def steady(self, quiet: float = 20, seconds: float = 180) -> None:
        """Waits until no stream has changed its driver for `quiet` seconds."""
        known, since = self._epochs(), time.monotonic()

        def unchanged() -> bool:
            nonlocal known, since
            time.sleep(1)
            if (now := self._epochs()) != known:
                known, since = now, time.monotonic()
            return time.monotonic() - since > quiet

        until(unchanged, seconds)


def _with_children(parents: list[psutil.Process]) -> list[psutil.Process]:
    return parents + [child for parent in parents for child in parent.children(recursive=True)]
