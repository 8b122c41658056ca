"""Incidents queue their alarms, and the outbox sends each message or shows it as undeliverable."""

from __future__ import annotations

import json
from datetime import timedelta
from itertools import pairwise
from threading import Event, Thread

import psycopg
import pytest
from confluent_kafka import Consumer, TopicPartition

from include.broker import kafka as broker
from include.operations import outbox, relay
from include.operations.incidents import SEVERITIES, Kind, close_incident, open_incident
from include.operations.outbox import FIRST_PAUSE, LONGEST_PAUSE, SendFailed, SendRefused, deliver, pause, put
from include.operations.receivers import ID_HEADER

pytestmark = pytest.mark.services
ROWS = "select sent_at is not null, undeliverable, attempts, last_error from shop.outbox order by id"


class Receiver:
    """A sender that keeps what it was given, or fails as it is told."""

    def __init__(self, batch=1, patience=None, refuses=lambda message: False):
        self.batch, self.patience, self.refuses = batch, patience, refuses
        self.failing = False
        self.taken = []

    def send(self, messages):
        if self.failing:
            raise SendFailed("down")
        if any(map(self.refuses, messages)):
            raise SendRefused("never")
        self.taken += [message.value for message in messages]


@pytest.fixture
def connection(clean_postgres):
    with psycopg.connect(clean_postgres.conninfo("relay"), autocommit=True) as opened:
        yield opened


def alarms(connection):
    query = "select value from shop.outbox where channel = 'alarms' order by id"
    return [value for (value,) in connection.execute(query)]


def test_an_incident_is_opened_once_and_told_twice(connection):
    first = open_incident(connection, Kind.STREAM_SILENT, "fraud_stream", "silent for 61 s", {"seconds": 61})
    again = open_incident(connection, Kind.STREAM_SILENT, "fraud_stream", "silent for 90 s", {"seconds": 90})
    other = open_incident(connection, Kind.STREAM_SILENT, "transaction_stream", "silent for 61 s")
    assert first == again != other
    assert close_incident(connection, Kind.STREAM_SILENT, "fraud_stream")
    assert not close_incident(connection, Kind.STREAM_SILENT, "fraud_stream")
    told = [(alarm["event"], alarm["subject"], alarm["incident"]) for alarm in alarms(connection)]
    assert told == [
        ("opened", "fraud_stream", first),
        ("opened", "transaction_stream", other),
        ("closed", "fraud_stream", first),
    ]
    summary = connection.execute("select summary from shop.incidents where id = %s", [first]).fetchone()
    assert summary == ("silent for 90 s",)
    assert open_incident(connection, Kind.STREAM_SILENT, "fraud_stream", "again") != first


def test_what_is_rolled_back_is_not_told(connection):
    with connection.transaction(force_rollback=True):
        open_incident(connection, Kind.BOOKS_OPEN, "fraud_stream", "differ")
    assert alarms(connection) == []


def test_every_kind_has_a_severity():
    assert {*SEVERITIES} == {*Kind}


def test_a_failed_message_is_sent_again_later_and_a_sent_one_never(connection):
    receiver = Receiver()
    put(connection, "any", {"n": 1})
    receiver.failing = True
    assert deliver(connection, "any", receiver) == 1
    assert deliver(connection, "any", receiver) == 0  # not due yet
    assert connection.execute(ROWS).fetchall() == [(False, False, 1, "down")]
    receiver.failing = False
    connection.execute("update shop.outbox set next_attempt_at = clock_timestamp()")
    deliver(connection, "any", receiver)
    deliver(connection, "any", receiver)
    assert receiver.taken == [{"n": 1}]
    assert connection.execute(ROWS).fetchall() == [(True, False, 2, "down")]


def test_a_message_that_waited_for_too_long_is_shown_as_undeliverable(connection):
    receiver = Receiver(patience=timedelta(hours=1))
    receiver.failing = True
    put(connection, "any", {})
    deliver(connection, "any", receiver)
    assert connection.execute(ROWS).fetchall() == [(False, False, 1, "down")]
    connection.execute(
        "update shop.outbox set created_at = created_at - interval '1 hour', next_attempt_at = now()"
    )
    deliver(connection, "any", receiver)
    assert connection.execute(ROWS).fetchall() == [(False, True, 2, "down")]
    assert deliver(connection, "any", receiver) == 0


def test_a_refused_message_does_not_hold_up_the_others(connection):
    receiver = Receiver(batch=10, refuses=lambda message: message.value == {"n": 1})
    for n in range(3):
        put(connection, "any", {"n": n})
    deliver(connection, "any", receiver)
    assert receiver.taken == [{"n": 0}, {"n": 2}]
    assert [undeliverable for _, undeliverable, *_ in connection.execute(ROWS)] == [False, True, False]


def test_two_relays_do_not_send_the_same_message(connection, clean_postgres):
    put(connection, "any", {})

    class Slow(Receiver):
        def send(self, messages):
            with psycopg.connect(clean_postgres.conninfo("relay"), autocommit=True) as other:
                assert deliver(other, "any", Receiver()) == 0
            super().send(messages)

    slow = Slow()
    assert deliver(connection, "any", slow) == 1 and slow.taken == [{}]


def test_pauses_grow_and_end():
    pauses = [pause(attempts) for attempts in range(100)]
    assert pauses[0] == FIRST_PAUSE and pauses[-1] == LONGEST_PAUSE
    assert all(before <= after for before, after in pairwise(pauses))


def test_the_app_may_only_queue(clean_postgres):
    with psycopg.connect(clean_postgres.conninfo("app"), autocommit=True) as connection:
        outbox.put(connection, relay.LABELS, {"transaction_id": "t"}, key="user-1")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("update shop.outbox set sent_at = now()")


def test_a_label_arrives_in_its_topic_under_its_key_and_id(connection, kafka):
    broker.ensure_topics(kafka, timeout=60)
    before = broker.bounds(kafka, kafka.labels_topic)
    put(connection, relay.LABELS, {"transaction_id": "t1"}, key="user-1")
    stopping = Event()
    running = relay.Relay(kafka, relay.work(kafka), stopping)
    thread = Thread(target=running.run)
    thread.start()
    while thread.is_alive() and not sent(connection):
        stopping.wait(0.05)
    stopping.set()
    thread.join()
    consumer = Consumer(broker.reader_config(kafka, "test"))
    consumer.assign(
        [TopicPartition(kafka.labels_topic, partition, end) for partition, (_, end) in before.items()]
    )
    record = None
    while record is None or record.error():
        record = consumer.poll(90)
        assert record is not None
    consumer.close()
    ((id,),) = connection.execute("select id from shop.outbox").fetchall()
    assert (record.key(), json.loads(record.value())) == (b"user-1", {"transaction_id": "t1"})
    assert dict(record.headers())[ID_HEADER] == str(id).encode()


def sent(connection):
    return connection.execute("select bool_and(sent_at is not null) from shop.outbox").fetchone()[0]
