"""A run of the producer on a real broker and a real PostgreSQL."""

import json
import logging
import threading
from datetime import UTC, datetime

import pytest

from include.generator.config import Config
from include.generator.producer import ProducerRun
from include.generator.resume import HEADER
from include.settings import Settings
from tests.generator.topics import WORLD, ids, own_topics, read_all, sent
from tests.waiting import PATIENCE, until

pytestmark = pytest.mark.services


@pytest.fixture
def shop(kafka: Settings, clean_postgres: Settings) -> Settings:
    return own_topics(kafka, **WORLD)


def produce(settings: Settings, with_history: bool, enough, **changed) -> ProducerRun:
    """Runs the producer until `enough(run)`."""
    run = ProducerRun(settings, Config.from_settings(settings, **changed))
    threading.Thread(target=lambda: (until(lambda: enough(run)), run.stop("test")), daemon=True).start()
    assert run.publish(with_history) == 0
    return run


def live_records(number: int):
    """True when a run has had that many live records acknowledged."""
    before = []

    def enough(run: ProducerRun) -> bool:
        if run.state == "running":
            before.append(run.publisher.acknowledged)
        return bool(before) and run.publisher.acknowledged >= before[0] + number

    return enough


def test_it_publishes_its_history_once_and_then_live(shop):
    before = datetime.now(UTC)
    first = produce(shop, True, live_records(5))
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

    second = produce(shop, True, live_records(5))
    assert second.publisher.acknowledged < 500
    assert len(set(ids(shop))) == sent(shop)


def test_labels_are_acknowledged_before_the_next_day_begins(shop, monkeypatch):
    """A label that is sent on a day may count on the next one."""
    run = ProducerRun(shop, Config.from_settings(shop, rate=0.0075))  # as busy on each day
    sent, waiting, real_send = [], [], run.publisher.send

    def send(topic, key, value, headers=None):
        day = json.loads(value)["timestamp"][:10]
        if sent and day > sent[-1]:
            waiting.append(run.publisher.waiting)
        sent.append(day)
        return real_send(topic, key, value, headers)

    monkeypatch.setattr(run.publisher, "send", send)
    run.history(run.clock.now())
    assert len(waiting) >= 5 and not any(waiting)


def test_an_interrupted_history_is_resumed_with_the_same_transactions(shop, monkeypatch):
    config = Config.from_settings(shop, rate=0.05)
    stopped = ProducerRun(shop, config)
    real_send = stopped.publisher.send

    def send(*arguments):
        if stopped.publisher.sent == 1_500:
            stopped.stop("test")
        return real_send(*arguments) and not stopped.stopping.is_set()

    monkeypatch.setattr(stopped.publisher, "send", send)
    assert stopped.publish(True) == 0
    interrupted = ids(shop)
    assert 1_300 < len(interrupted) <= 1_501
    produce(shop, True, lambda run: run.state == "running", rate=0.05)
    stored = ids(shop)
    assert set(interrupted) <= set(stored)
    marked = {
        json.loads(record.value())["transaction_id"]
        for record in read_all(shop, shop.transactions_topic)
        if record.headers()
    }
    assert 2_950 < len(marked) <= 3_000
    assert len(stored) - len(set(stored)) < 400  # only the slot that was interrupted comes twice


def test_another_configuration_does_not_touch_an_unfinished_history(shop, monkeypatch):
    first = ProducerRun(shop, Config.from_settings(shop))
    monkeypatch.setattr(first, "live", lambda start: None)
    assert first.publish(True) == 0
    other = produce(shop, True, lambda run: run.publisher.acknowledged > 2, seed=99)
    assert other.publisher.acknowledged < 500


def test_live_transactions_keep_their_times_and_the_rate(shop):
    run = produce(shop, False, lambda run: run.publisher.acknowledged >= 60, rate=30.0)
    assert run.pacer.behind < 1
    for record in read_all(shop, shop.transactions_topic):
        at = datetime.fromisoformat(json.loads(record.value())["timestamp"])
        assert 0 <= record.timestamp()[1] / 1000 + 0.001 - at.timestamp() < 2


def test_a_machine_that_slept_goes_on_from_the_present(shop, monkeypatch, caplog):
    caplog.set_level(logging.WARNING)
    run = ProducerRun(shop, Config.from_settings(shop))
    run.clock._wall -= 3_600 * 10**9  # an hour passed while the monotonic clock stood still
    thread = threading.Thread(target=run.live, args=(run.clock.now(),))
    thread.start()
    until(lambda: run.publisher.sent >= 10)
    run.stop("test")
    thread.join()
    assert run.publisher.flush(PATIENCE) == 0
    assert "clock jumped" in caplog.text
    first = json.loads(read_all(shop, shop.transactions_topic)[0].value())
    assert (datetime.now(UTC) - datetime.fromisoformat(first["timestamp"])).total_seconds() < 60


def test_the_original_profile_tells_the_truth_in_the_event(shop):
    produce(
        shop, False, lambda run: run.publisher.acknowledged > 20, profile="original", truth_in_events=True
    )
    events = [json.loads(record.value()) for record in read_all(shop, shop.transactions_topic)]
    assert all(isinstance(event["is_fraud"], bool) for event in events)
    assert len({event["user_id"] for event in events}) == len(events)
