"""Dead letters go to a real Kafka again and through the store into a real PostgreSQL."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime

import psycopg
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from include.broker.kafka import client_config, end_offsets, ensure_topics
from include.operations import dead_letters
from include.operations.dead_letters import ReplayFailed, replay
from include.settings import Settings
from include.streams import ingest, store
from include.streams.store import Range, Record, Writer
from tests.builders import event_bytes
from tests.waiting import PATIENCE

pytestmark = pytest.mark.services

LONG_AGO = "2020-01-01T00:00:00Z"


class Shop:
    """A topic of its own, and the way from it to the tables in the steps of a stream."""

    def __init__(self, settings: Settings):
        self.settings = settings
        self.topic = settings.transactions_topic
        self.producer = Producer(client_config(settings))
        self.owner = psycopg.connect(settings.conninfo("owner"), autocommit=True)

    def produce(self, *values: bytes | None, key: bytes | None = b"user-0001", partition: int = 0) -> None:
        for value in values:
            self.producer.produce(self.topic, key=key, value=value, partition=partition)
        assert self.producer.flush(PATIENCE) == 0

    def records(self, partition: int = 0) -> list[Record]:
        """All that lies in a partition."""
        end = end_offsets(self.settings, self.topic)[partition]
        consumer = Consumer(client_config(self.settings, group_id="test", auto_offset_reset="earliest"))
        consumer.assign([TopicPartition(self.topic, partition, 0)])
        records = []
        while len(records) < end:
            message = consumer.poll(PATIENCE)
            assert message is not None and message.error() is None
            at = datetime.fromtimestamp(message.timestamp()[1] / 1000, UTC)
            records.append(Record(message.offset(), at, message.key(), message.value()))
        consumer.close()
        return records

    def ingest(self, partition: int = 0, **settings) -> store.Summary:
        changed = self.settings.model_copy(update=settings)
        span = Range.of("transaction_stream", self.topic, "id-1", partition, self.records(partition))
        with store.connect(changed) as connection:
            return store.write(connection, Writer(changed, span.stream, 0), span, ingest.transactions)

    def one(self, query: str):
        return self.owner.execute(query).fetchone()[0]

    def stored(self) -> int:
        return self.one("select count(*) from shop.transactions")

    def open_letters(self) -> int:
        return self.one("select count(*) from shop.dead_letters where replayed_at is null")


@pytest.fixture
def shop(clean_postgres: Settings, kafka: Settings):
    name = uuid.uuid4().hex[:8]
    changed = {"transactions_topic": f"t-{name}", "labels_topic": f"l-{name}", "kafka_partitions": 2}
    settings = kafka.model_copy(update=changed)
    ensure_topics(settings)
    shop = Shop(settings)
    yield shop
    shop.owner.close()


def test_letters_are_stored_once_after_the_fix_however_often_they_are_replayed(shop):
    shop.produce(*(event_bytes(timestamp=LONG_AGO) for _ in range(5)))
    assert shop.ingest(max_event_bytes=300).dead_letters == 5
    assert replay(shop.settings) == {"too_large": 5}
    assert shop.ingest().stored == 5
    assert (shop.stored(), shop.open_letters()) == (5, 0)
    assert replay(shop.settings) == {}
    assert len(shop.records()) == 10


def test_a_crash_before_the_mark_writes_them_again_and_stores_them_once(shop, monkeypatch):
    shop.produce(*(event_bytes(timestamp=LONG_AGO) for _ in range(5)))
    shop.ingest(max_event_bytes=300)

    def crash(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(dead_letters, "_mark", crash)
        replay(shop.settings)
    assert shop.open_letters() == 5
    assert replay(shop.settings) == {"too_large": 5}
    summary = shop.ingest()
    assert (summary.stored, summary.duplicates, summary.dead_letters) == (5, 5, 0)
    assert (shop.stored(), shop.open_letters()) == (5, 0)


def test_key_value_and_partition_come_back_untouched(shop):
    letters = [(None, None), (b"", b""), (b"\x00\xff", b"\x1f\x8b\x00"), (b"k", b"x" * 70_000)]
    for key, value in letters:
        shop.produce(value, key=key, partition=1)
    shop.ingest(partition=1)
    assert sum(replay(shop.settings).values()) == 4
    assert [(record.key, record.value) for record in shop.records(1)] == letters * 2
    assert shop.records(0) == []


def test_what_is_still_wrong_becomes_a_new_letter_and_the_replay_ends(shop, monkeypatch):
    monkeypatch.setattr(dead_letters, "BATCH", 2)
    send = dead_letters._send

    def send_while_the_stream_runs(producer, letters, timeout):
        sent = send(producer, letters, timeout)
        shop.ingest()
        return sent

    monkeypatch.setattr(dead_letters, "_send", send_while_the_stream_runs)
    shop.produce(b"{", b"[]", b"", b"null", b"{")
    shop.ingest()
    assert replay(shop.settings) == {"invalid_json": 3, "not_an_object": 2}
    assert shop.open_letters() == 5
    assert shop.one("select count(*) from shop.dead_letters") == 10


def test_only_a_reason_and_only_so_many(shop):
    shop.produce(b"{", b"[]", b"", b"null", b"{")
    shop.ingest()
    assert replay(shop.settings, "not_an_object") == {"not_an_object": 2}
    assert replay(shop.settings, limit=1) == {"invalid_json": 1}
    assert replay(shop.settings, limit=0) == {}
    assert shop.open_letters() == 2
    with pytest.raises(ValueError, match="no_such"):
        replay(shop.settings, "no_such")


def test_two_replays_at_once_write_each_letter_once(shop):
    shop.produce(b"{", b"[]", b"")
    shop.ingest()
    with shop.owner.transaction():
        shop.owner.execute('select from shop.dead_letters where "offset" < 2 for update')
        assert replay(shop.settings) == {"invalid_json": 1}
    assert replay(shop.settings) == {"invalid_json": 1, "not_an_object": 1}
    assert len(shop.records()) == 6


def test_what_kafka_refuses_stays_open_and_the_rest_is_marked(shop):
    shop.produce(b"{", b"[]")
    shop.ingest()
    shop.owner.execute('update shop.dead_letters set partition = 77 where "offset" = 0')
    with pytest.raises(ReplayFailed, match="1 dead letters were not confirmed") as caught:
        replay(shop.settings, timeout=3)
    assert caught.value.counts == {"not_an_object": 1}
    assert shop.one('select "offset" from shop.dead_letters where replayed_at is null') == 0


def test_without_a_broker_it_says_so_and_all_stay_open(shop):
    shop.produce(b"{")
    shop.ingest()
    nowhere = shop.settings.model_copy(update={"kafka_bootstrap_servers": "127.0.0.1:1"})
    with pytest.raises(ReplayFailed, match="127.0.0.1:1"):
        replay(nowhere, timeout=1)
    assert shop.open_letters() == 1
