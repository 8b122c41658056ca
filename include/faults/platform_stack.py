"""The embedded platform with Airflow, in a folder of its own and on free ports, as what a campaign hurts.

It is what `make up` starts, without the pages, without MLflow (the scoring stream runs on the kept champion) and
without the platform's producer, whose events a campaign does not know. Clients reach the broker through a proxy.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from rich.console import Console

from include.faults import victims
from include.faults.acknowledged import Acknowledged
from include.faults.children import Keeper
from include.faults.events import Events
from include.faults.proxy import Proxy
from include.faults.stack import CampaignFailed, Stack
from include.platform import airflow, down, ports, services, supervisor, up
from include.platform.progress import Progress
from include.platform.status import DAG_OF
from include.platform.temporary import temporary_settings

INTERRUPTION = 5.0  # seconds without a commit: a stream is away
QUIET = 20.0  # so long both streams must commit before they count as recovered: a restart may come late
STOP_SECONDS = 60.0
STARTED = ("postgres", "kafka", *(f"airflow-{component}" for component in airflow.COMPONENTS))
COMMITS = """
select extract(epoch from at)::float8 from campaign.journal
where stream = %s and topic = %s and at > to_timestamp(%s) order by at"""


class PlatformStream(NamedTuple):
    """A stream that Airflow runs; its log is a folder, with one for each run."""

    name: str
    dag_id: str
    log: Path


class PlatformStack(Stack):
    """supervisord, the watchdog, PostgreSQL, the broker, Airflow, and both streams as its DAGs."""

    streams: Mapping[str, PlatformStream]
    fault_seconds = 75.0
    recovery_seconds = 420.0

    def __init__(self, home: Path, events: Events, count: int):
        (port,) = ports.free(1)
        settings = temporary_settings(home, kafka_bootstrap_servers=f"127.0.0.1:{port}")
        super().__init__(home, events, count, settings)
        self.proxy = Proxy(port, settings.kafka_port)
        logs = home / "logs" / "airflow"
        self.streams = {
            name: PlatformStream(name, dag_id, logs / f"dag_id={dag_id}") for name, dag_id in DAG_OF.items()
        }
        self._keeper = Keeper([self.producer])
        self._airflow = airflow.Client(settings)

    def start(self) -> None:
        self._keeper.__enter__()
        self.proxy.start()
        with (self.settings.home / "logs" / "up.log").open("w") as log:
            progress = Progress(Console(file=log))
            try:
                up.start_services(self.settings, progress, pages=())
                self._advertise_proxy()
                self.install()
                up.wait_for_dags(self._airflow)
            except (up.NotReady, supervisor.SupervisorError, airflow.AirflowError) as error:
                raise CampaignFailed(f"the platform did not start: {error}") from error
        for stream in self.streams.values():
            self._airflow.unpause(stream.dag_id)
        self.allow(0)
        self.producer.start()

    def _advertise_proxy(self) -> None:
        """Clients that connected go on with the address that the broker names to them."""
        path = self.settings.home / "kafka.properties"
        own, proxy = (f"PLAINTEXT://127.0.0.1:{port}\n" for port in (self.proxy.target, self.proxy.port))
        path.write_text(
            path.read_text().replace(f"advertised.listeners={own}", f"advertised.listeners={proxy}")
        )
        supervisor.stop(self.settings, "kafka")
        supervisor.start(self.settings, "kafka")

    def stop(self) -> None:
        self._keeper.__exit__()
        with (self.settings.home / "logs" / "down.log").open("w") as log:
            down.down(self.settings, Progress(Console(file=log)))
        self.proxy.close()

    def stop_streams(self) -> list[str]:
        for stream in self.streams.values():
            self._airflow.stop(stream.dag_id)
        deadline = time.monotonic() + STOP_SECONDS
        while left := [name for name in self.streams if victims.drivers(self.settings, name)]:
            if time.monotonic() > deadline:
                break
            time.sleep(0.5)
        return left

    def recovered(self, at: float, streams: Sequence[str], first: Acknowledged) -> float | None:
        """When the last interruption after a fault ended, once every service is healthy and both streams stay.

        A fault may end a stream long after: Airflow ends a task whose heartbeats its API server did not take.
        """
        time.sleep(1)
        if super().recovered(at, streams, first) is None or not self._healthy():
            return None
        topic = self.settings.transactions_topic
        commits = [[row[0] for row in self.query(COMMITS, (name, topic, at))] for name in streams]
        ends = [last_interruption(at, times) for times in commits]
        now = time.time()
        steady = all(
            now - times[-1] < INTERRUPTION and now - end > QUIET
            for times, end in zip(commits, ends, strict=True)
        )
        return max(ends) if steady else None

    def _healthy(self) -> bool:
        return supervisor.processes(self.settings).keys() >= set(STARTED) and all(
            services.SERVICES[name].ready(self.settings) for name in STARTED
        )


def last_interruption(at: float, commits: Sequence[float]) -> float:
    """The end of the last pause in the commits after a fault at `at`; the first commit without such a pause.

    Args:
        commits: their times in order, all after `at`, at least one.
    """
    end, before = commits[0], at
    for time_of in commits:
        if time_of - before > INTERRUPTION:
            end = time_of
        before = time_of
    return end
