"""The producer as its own process, on a real broker and a real PostgreSQL."""

import os
import re
import signal
import subprocess
import sys

import psycopg
import pytest

from include.broker.kafka import end_offsets
from include.platform import ports
from include.settings import PREFIX, PROJECT_ROOT, Settings
from spark_jobs import producer
from tests.generator.test_producer import produce
from tests.generator.topics import WORLD, ids, own_topics, sent
from tests.waiting import until

pytestmark = pytest.mark.services


@pytest.fixture
def shop(kafka: Settings, clean_postgres: Settings) -> Settings:
    return own_topics(kafka, **WORLD)


class Process:
    """The producer as its own process."""

    def __init__(self, settings: Settings, *arguments: str, launcher: tuple = (), **changed: str):
        shown = ("home", "kafka_port", "postgres_port", "transactions_topic", "labels_topic", *WORLD)
        values = {f"{PREFIX}{name.upper()}": str(getattr(settings, name)) for name in shown} | changed
        self.process = subprocess.Popen(
            [*launcher, sys.executable, str(PROJECT_ROOT / "spark_jobs" / "producer.py"), *arguments],
            env=os.environ | values, stderr=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip

    def end(self) -> tuple[int, str]:
        try:
            output = self.process.communicate(timeout=60)[1]
        finally:
            self.process.kill()
        return self.process.returncode, output


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_flushes_and_ends_with_status_0(shop, number):
    job = Process(shop, "--rate", "50")
    until(lambda: sent(shop) > 20)
    job.process.send_signal(number)
    status, output = job.end()
    assert status == 0, output
    reported, acknowledged = map(
        int, re.search(r"(\d+) sent, (\d+) acknowledged$", output, re.MULTILINE).groups()
    )
    assert reported == acknowledged
    assert sent(shop) + sum(end_offsets(shop, shop.labels_topic).values()) == reported


def test_it_stops_when_the_database_says_so_and_reports_its_state(shop):
    job = Process(shop, "--rate", "50")

    def lease():
        with psycopg.connect(shop.conninfo("owner")) as connection:
            query = "select state, detail from shop.stream_leases where stream = 'producer'"
            return connection.execute(query).fetchone()

    until(lambda: lease()[0] == "running")
    until(lambda: "acknowledged" in lease()[1])
    with psycopg.connect(shop.conninfo("owner")) as connection:
        connection.execute("update shop.stream_leases set stop_requested = true")
    status, output = job.end()
    assert status == 0 and "asked to stop" in output
    assert lease()[0] == "stopped"


def test_without_postgresql_it_produces(shop):
    job = Process(shop, "--rate", "50", **{f"{PREFIX}POSTGRES_PORT": str(ports.free(1)[0])})
    until(lambda: sent(shop) > 20)
    job.process.terminate()
    status, output = job.end()
    assert status == 0 and "goes on without it" in output


def test_a_killed_producer_leaves_whole_records_and_its_successor_goes_on(shop):
    job = Process(shop, "--rate", "500")
    until(lambda: sent(shop) > 200)
    job.process.kill()
    job.end()
    produce(shop, False, lambda successor: successor.publisher.acknowledged > 50)
    stored = ids(shop)
    assert len(set(stored)) == len(stored) > 250


def test_an_orphaned_producer_ends_itself(shop):
    job = Process(shop, "--rate", "50", launcher=("sh", "-c", '"$@"; true', "launcher"))
    until(lambda: sent(shop) > 20)
    job.process.kill()  # the shell only
    status, output = job.end()  # the pipe closes when the producer has ended too
    assert status == -signal.SIGKILL
    assert "a parent process died" in output and re.search(
        r"(\d+) sent, \1 acknowledged$", output, re.MULTILINE
    )


@pytest.mark.parametrize(
    ("arguments", "changed", "message"),
    [
        (["--fraud-rate", "0.9"], {}, "fraud_rate cannot be 0.9"),
        ([], {"CUSTOMERS": "2"}, "FRAUDSTREAM_CUSTOMERS"),
        ([], {"KAFKA_PARTITIONS": "0"}, "FRAUDSTREAM_KAFKA_PARTITIONS"),
    ],
)
def test_what_cannot_work_ends_with_a_clear_message(shop, arguments, changed, message):
    job = Process(shop, *arguments, **{PREFIX + name: value for name, value in changed.items()})
    status, output = job.end()
    assert status == 1 and message in output and "Traceback" not in output


def test_no_broker_ends_with_a_clear_message(shop, monkeypatch):
    monkeypatch.setattr(producer, "ensure_topics", lambda settings: producer_ensure(settings, timeout=1))
    nobody = Settings(_env_file=None, home=shop.home, kafka_port=ports.free(1)[0])
    monkeypatch.setattr(producer, "load", lambda: nobody)
    assert producer.main([]) == 1


def producer_ensure(settings: Settings, timeout: float) -> None:
    from include.broker.kafka import ensure_topics

    ensure_topics(settings, timeout)
