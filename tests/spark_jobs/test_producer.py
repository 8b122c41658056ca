"""The producer job on a real broker and a real PostgreSQL."""

import json
import logging
import os
import re
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from datetime import UTC, datetime

import psycopg
import pytest

from include.broker.kafka import end_offsets
from include.generator.config import Config
from include.generator.resume import HEADER
from include.platform import ports
from include.settings import PREFIX, PROJECT_ROOT, Settings
from spark_jobs import producer
from spark_jobs.producer import Clock, Job
from tests.generator.topics import own_topics, read_all

pytestmark = pytest.mark.services

WORLD = {
    "customers": 200,
    "merchants": 50,
    "history_days": 5,
    "history_events": 3_000,
    "rate_per_second": 20.0,
}


@pytest.fixture
def shop(kafka: Settings, clean_postgres: Settings) -> Settings:
    return own_topics(kafka, **WORLD)


def ids(settings: Settings) -> list[str]:
    records = read_all(settings, settings.transactions_topic)
    return [json.loads(record.value())["transaction_id"] for record in records]


def sent(settings: Settings) -> int:
    return sum(end_offsets(settings, settings.transactions_topic).values())


def until(condition, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def run(settings: Settings, with_history: bool, enough, **changed) -> Job:
    """Runs a job until `enough(job)`."""
    job = Job(settings, replace(Config.from_settings(settings), **changed))
    threading.Thread(target=lambda: (until(lambda: enough(job)), job.stop("test")), daemon=True).start()
    assert job.run(with_history) == 0
    return job


def live_records(number: int):
    """True when a job has had that many live records acknowledged."""
    before = []

    def enough(job: Job) -> bool:
        if job.state == "running":
            before.append(job.publisher.acknowledged)
        return bool(before) and job.publisher.acknowledged >= before[0] + number

    return enough


def test_it_publishes_its_history_once_and_then_live(shop):
    before = datetime.now(UTC)
    first = run(shop, True, live_records(5))
    transactions = read_all(shop, shop.transactions_topic)
    labels = read_all(shop, shop.labels_topic)
    assert first.publisher.acknowledged == len(transactions) + len(labels)
    marked = [record for record in transactions if record.headers()]
    assert 2_950 < len(marked) <= 3_000 and all(record.headers()[0][0] == HEADER for record in marked)
    times = {True: [], False: []}
    for record in transactions:
        event = json.loads(record.value())
        assert record.key().decode() == event["user_id"]
        times[bool(record.headers())].append(datetime.fromisoformat(event["timestamp"]))
    assert max(times[True]) < min(times[False]) and times[False]
    assert max(times[True]) <= before and max(times[False]) <= datetime.now(UTC)
    known = {json.loads(record.value())["transaction_id"] for record in transactions}
    assert labels and all(json.loads(label.value())["transaction_id"] in known for label in labels)

    second = run(shop, True, live_records(5))
    assert second.publisher.acknowledged < 500
    assert len(set(ids(shop))) == sent(shop)


def test_labels_are_acknowledged_before_the_next_day_begins(shop, monkeypatch):
    """A label that is sent on a day may count on the next one."""
    job = Job(shop, Config.from_settings(shop, rate=0.05))
    sent, waiting, real_send = [], [], job.publisher.send

    def send(topic, key, value, headers=None):
        day = json.loads(value)["timestamp"][:10]
        if sent and day > sent[-1]:
            waiting.append(job.publisher.waiting)
        sent.append(day)
        return real_send(topic, key, value, headers)

    monkeypatch.setattr(job.publisher, "send", send)
    job.history(job.clock.now())
    assert len(waiting) >= 5 and not any(waiting)


def test_an_interrupted_history_is_resumed_with_the_same_transactions(shop, monkeypatch):
    config = Config.from_settings(shop, rate=0.05)
    stopped = Job(shop, config)
    real_send = stopped.publisher.send

    def send(*arguments):
        if stopped.publisher.sent == 1_500:
            stopped.stop("test")
        return real_send(*arguments) and not stopped.stopping.is_set()

    monkeypatch.setattr(stopped.publisher, "send", send)
    assert stopped.run(True) == 0
    interrupted = ids(shop)
    assert 1_300 < len(interrupted) <= 1_501
    run(shop, True, lambda job: job.state == "running", rate=0.05)
    found = ids(shop)
    assert set(interrupted) <= set(found)
    marked = {
        json.loads(record.value())["transaction_id"]
        for record in read_all(shop, shop.transactions_topic)
        if record.headers()
    }
    assert 2_950 < len(marked) <= 3_000
    assert len(found) - len(set(found)) < 400  # only the slot that was interrupted comes twice


def test_another_configuration_does_not_touch_an_unfinished_history(shop, monkeypatch):
    first = Job(shop, Config.from_settings(shop))
    monkeypatch.setattr(first, "live", lambda start: None)
    assert first.run(True) == 0
    other = run(shop, True, lambda job: job.publisher.acknowledged > 2, seed=99)
    assert other.publisher.acknowledged < 500


def test_live_transactions_keep_their_times_and_the_rate(shop):
    job = run(shop, False, lambda job: job.publisher.acknowledged >= 60, rate=30.0)
    assert job.behind < 1
    for record in read_all(shop, shop.transactions_topic):
        at = datetime.fromisoformat(json.loads(record.value())["timestamp"])
        assert 0 <= record.timestamp()[1] / 1000 + 0.001 - at.timestamp() < 2


def test_a_backlog_is_caught_up_at_no_more_than_twice_the_rate(shop, monkeypatch):
    job = Job(shop, replace(Config.from_settings(shop), rate=50.0))
    start = job.clock.now() - 10_000_000
    began = time.monotonic()
    thread = threading.Thread(target=job.live, args=(start,))
    thread.start()
    until(lambda: job.publisher.sent >= 150)
    took = time.monotonic() - began
    job.stop("test")
    thread.join()
    assert job.publisher.flush(10) == 0
    assert took >= 150 / 100 * 0.75  # a quarter of a second's worth may come at once


def test_a_machine_that_slept_goes_on_from_the_present(shop, monkeypatch, caplog):
    caplog.set_level(logging.WARNING)
    job = Job(shop, Config.from_settings(shop))
    job.clock._wall -= 3_600 * 10**9  # an hour passed while the monotonic clock stood still
    thread = threading.Thread(target=job.live, args=(job.clock.now(),))
    thread.start()
    until(lambda: job.publisher.sent >= 10)
    job.stop("test")
    thread.join()
    assert job.publisher.flush(10) == 0
    assert "clock jumped" in caplog.text
    first = json.loads(read_all(shop, shop.transactions_topic)[0].value())
    assert (datetime.now(UTC) - datetime.fromisoformat(first["timestamp"])).total_seconds() < 60


def test_the_original_profile_tells_the_truth_in_the_event(shop):
    run(shop, False, lambda job: job.publisher.acknowledged > 20, profile="original", truth_in_events=True)
    events = [json.loads(record.value()) for record in read_all(shop, shop.transactions_topic)]
    assert all(isinstance(event["is_fraud"], bool) for event in events)
    assert len({event["user_id"] for event in events}) == len(events)


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
    told, acknowledged = map(
        int, re.search(r"(\d+) sent, (\d+) acknowledged$", output, re.MULTILINE).groups()
    )
    assert told == acknowledged
    assert sent(shop) + sum(end_offsets(shop, shop.labels_topic).values()) == told


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
    run(shop, False, lambda successor: successor.publisher.acknowledged > 50)
    found = ids(shop)
    assert len(set(found)) == len(found) > 250


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
    ("arguments", "changed", "said"),
    [
        (["--fraud-rate", "0.9"], {}, "fraud_rate cannot be 0.9"),
        ([], {"CUSTOMERS": "2"}, "FRAUDSTREAM_CUSTOMERS"),
        ([], {"KAFKA_PARTITIONS": "0"}, "FRAUDSTREAM_KAFKA_PARTITIONS"),
    ],
)
def test_what_cannot_work_ends_with_a_clear_message(shop, arguments, changed, said):
    job = Process(shop, *arguments, **{PREFIX + name: value for name, value in changed.items()})
    status, output = job.end()
    assert status == 1 and said in output and "Traceback" not in output


def test_no_broker_ends_with_a_clear_message(shop, monkeypatch):
    monkeypatch.setattr(producer, "ensure_topics", lambda settings: producer_ensure(settings, timeout=1))
    nobody = Settings(_env_file=None, home=shop.home, kafka_port=ports.free(1)[0])
    monkeypatch.setattr(producer, "load", lambda: nobody)
    assert producer.main([]) == 1


def producer_ensure(settings: Settings, timeout: float) -> None:
    from include.broker.kafka import ensure_topics

    ensure_topics(settings, timeout)


def test_the_clock_flows_evenly():
    clock = Clock()
    first, second = clock.now(), clock.now()
    assert first <= second and abs(clock.drift()) < 1_000_000
