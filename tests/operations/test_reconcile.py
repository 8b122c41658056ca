"""The books between broker, ledger and rows: what is open is named with its range, and nothing else is."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import partial

import psycopg
import pytest
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from include.broker import kafka
from include.features import behaviour
from include.operations import reconcile
from include.operations.reconcile import BooksOpen, OpenRange
from include.platform.status import status
from include.settings import Settings
from include.streams import ingest, scoring, store
from include.streams.store import Range, Record, Writer
from tests.builders import NOW, event_bytes, label_bytes
from tests.payments import detector
from tests.stream_runs import own, produce, query, use_producer_time
from tests.waiting import PATIENCE

STORES, SCORES = "transaction_stream", "fraud_stream"
LIMIT = timedelta(minutes=10)

pytestmark = pytest.mark.services


@pytest.fixture
def shop(clean_postgres: Settings, kafka: Settings, tmp_path) -> Settings:
    return own(clean_postgres, tmp_path)


class Streams:
    """Writes for both streams what the broker has, without Spark."""

    def __init__(self, settings: Settings):
        self.settings = settings
        forest, threshold = detector()
        scorer = forest.scorer(threshold=threshold, version=1, feature_set=behaviour.FEATURE_SET)
        self.handlers = {STORES: ingest.transactions, SCORES: partial(scoring.scores, scorer)}

    def produce(self, values: list[bytes], partition: int = 0, age: timedelta = timedelta(0)) -> None:
        """Sends records that are as old as said."""
        producer = Producer(kafka.client_config(self.settings))
        for value in values:
            at = int((datetime.now(UTC) - age).timestamp() * 1000)
            producer.produce(self.settings.transactions_topic, value, partition=partition, timestamp=at)
        assert producer.flush(PATIENCE) == 0

    def write(self, stream: str, values: list[bytes], first: int = 0, partition: int = 0, **more) -> None:
        topic = more.get("topic", self.settings.transactions_topic)
        handle = more.get("handle", self.handlers[stream])
        records = [Record(first + i, NOW, None, value) for i, value in enumerate(values)]
        span = Range.of(stream, topic, kafka.topic_id(self.settings, topic), partition, records)
        with store.connect(self.settings) as connection:
            store.write(connection, Writer(self.settings, stream, 0), span, handle)

    def all(self, values: list[bytes], first: int = 0, partition: int = 0) -> None:
        """Records that are sent, stored and scored."""
        self.produce(values, partition)
        self.write(STORES, values, first, partition)
        self.write(SCORES, values, first, partition)


@pytest.fixture
def streams(shop: Settings) -> Streams:
    return Streams(shop)


def events(count: int) -> list[bytes]:
    return [event_bytes() for _ in range(count)]


def mixed(count: int) -> list[bytes]:
    """Events, with one that is sent twice and one that is poison."""
    values = events(count - 2)
    return [*values, values[0], b"poison"]


def checked(settings: Settings, topic: str) -> dict[tuple[str, int], int]:
    rows = query(
        settings, f"select stream, partition, next_offset from shop.reconciled where topic = '{topic}'"
    )
    return {row[:2]: row[2] for row in rows}


def test_books_that_close_are_remembered(shop, streams):
    streams.all(mixed(20))
    streams.all(mixed(30), partition=1)
    labels = [label_bytes(), b"poison"]
    produce(shop, shop.labels_topic, labels, partition=0)
    streams.write(STORES, labels, topic=shop.labels_topic, handle=ingest.labels)
    assert reconcile.reconcile(shop) == []
    expected = {(STORES, 0): 20, (STORES, 1): 30, (SCORES, 0): 20, (SCORES, 1): 30}
    assert checked(shop, shop.transactions_topic) == expected
    assert checked(shop, shop.labels_topic)[STORES, 0] == 2
    streams.all(mixed(5), first=20)
    assert reconcile.open_ranges(shop) == []
    assert checked(shop, shop.transactions_topic) == expected
    assert reconcile.reconcile(shop) == []
    assert checked(shop, shop.transactions_topic) == expected | {(STORES, 0): 25, (SCORES, 0): 25}


def test_rows_that_retention_deletes_later_are_not_missed(shop, streams):
    streams.all(events(20))
    assert reconcile.reconcile(shop) == []
    query(shop, "delete from shop.transactions")
    query(shop, "delete from shop.fraud_scores")
    streams.all(events(5), first=20)
    assert reconcile.reconcile(shop) == []


@pytest.mark.parametrize(
    ("stream", "table", "why"),
    [
        (STORES, "transactions", "the ledger counts 18 rows in shop.transactions, there are 17"),
        (STORES, "dead_letters", "the ledger counts 1 rows in shop.dead_letters, there are 0"),
        (SCORES, "fraud_scores", "the ledger counts 18 rows in shop.fraud_scores, there are 17"),
    ],
)
def test_a_row_that_is_gone_is_named_with_its_range_until_it_is_accepted(shop, streams, stream, table, why):
    streams.all(mixed(10), partition=1)
    assert reconcile.reconcile(shop) == []
    streams.all(mixed(20), first=10, partition=1)
    query(shop, f'delete from shop.{table} where "offset" = (select max("offset") from shop.{table})')
    for _ in range(2):
        open_ranges = [
            open_range for open_range in reconcile.reconcile(shop) if "the ledger counts" in open_range.why
        ]
        assert [open_range[:5] for open_range in map(_fields, open_ranges)] == [
            (stream, shop.transactions_topic, 1, 10, 30)
        ]
        assert open_ranges[0].why.startswith(why)
    assert f"{stream}: offsets 10 to 29 of partition 1 of {shop.transactions_topic}: {why}" in str(
        open_ranges[0]
    )
    incidents = "select kind, subject, closed_at is null from shop.incidents"
    assert query(shop, incidents) == [("books-open", stream, True)]
    reconcile.reconcile(shop, accept=True)
    assert reconcile.reconcile(shop) == []
    assert query(shop, incidents) == [("books-open", stream, False)]


def test_a_row_too_many_is_named(shop, streams):
    streams.all(events(20))
    query(shop, "insert into shop.transactions select * from shop.transactions limit 1")
    assert "counts 20 rows in shop.transactions, there are 21" in str(reconcile.open_ranges(shop)[0])


def test_a_score_of_another_event_does_not_count(shop, streams):
    streams.all(events(20))
    query(shop, """update shop.fraud_scores set transaction_id = 'another' where "offset" = 7""")
    (open_range,) = reconcile.open_ranges(shop)
    assert _fields(open_range)[:5] == (SCORES, shop.transactions_topic, 0, 7, 8)
    assert open_range.why.startswith("1 stored transactions have no score")


@pytest.mark.parametrize("ahead", [STORES, SCORES])
def test_a_stream_that_is_ahead_of_the_other_is_no_difference(shop, streams, ahead):
    values = events(30)
    streams.produce(values)
    behind = {STORES: SCORES, SCORES: STORES}[ahead]
    streams.write(ahead, values)
    streams.write(behind, values[:10])
    assert reconcile.reconcile(shop) == []
    streams.write(behind, values[10:], first=10)
    query(shop, """delete from shop.fraud_scores where "offset" = 20""")
    assert any(
        "1 stored transactions have no score" in open_range.why for open_range in reconcile.reconcile(shop)
    )


def test_a_record_may_wait_but_not_for_too_long(shop, streams):
    use_producer_time(shop, shop.transactions_topic)
    streams.produce(events(3), partition=1, age=LIMIT * 2)
    streams.produce(events(4), partition=1)
    streams.write(STORES, events(1), partition=1)
    query(
        shop, f"update shop.stream_leases set state = 'failed', detail = 'no room' where stream = '{STORES}'"
    )
    by_stream = {open_range.stream: open_range for open_range in reconcile.reconcile(shop)}
    assert _fields(by_stream[STORES])[2:5] == (1, 1, 7)
    assert (
        by_stream[STORES].why
        == "the first of them has waited for more than 10 minutes; it is failed, no room"
    )
    assert _fields(by_stream[SCORES])[2:5] == (1, 0, 7)
    assert by_stream[SCORES].why == "the first of them has waited for more than 10 minutes; it has never run"


def test_records_that_the_broker_deleted_unread_are_named(shop, streams):
    streams.all(events(5))
    streams.produce(events(10))
    admin = AdminClient(kafka.client_config(shop))
    for future in admin.delete_records([TopicPartition(shop.transactions_topic, 0, 12)]).values():
        future.result(PATIENCE)
    for open_range in reconcile.reconcile(shop):
        assert _fields(open_range)[1:] == (
            shop.transactions_topic,
            0,
            5,
            12,
            "the broker deleted them before they were read",
        )


def test_a_broker_that_lost_records_is_named(shop, streams):
    values = events(5)
    streams.produce(values[:3])
    streams.write(STORES, values)
    (open_range,) = reconcile.open_ranges(shop)
    assert (
        _fields(open_range)[:5] == (STORES, shop.transactions_topic, 0, 3, 5)
        and "the broker has lost them" in open_range.why
    )


def test_a_ledger_that_was_set_back_is_named(shop, streams):
    streams.all(events(20))
    assert reconcile.reconcile(shop) == []
    query(shop, f"update shop.stream_offsets set next_offset = 12, stored = 12 where stream = '{STORES}'")
    (open_range,) = reconcile.open_ranges(shop)
    assert "offsets 12 to 19" in str(open_range) and "set back" in str(open_range)


def test_the_dag_fails_with_every_line():
    reconcile.require([])
    open_ranges = [OpenRange(STORES, "t", 1, 5, 9, "gone"), OpenRange(SCORES, "t", 2, 1, 2, "gone, too")]
    with pytest.raises(
        BooksOpen, match="offsets 5 to 8 of partition 1 of t: gone\n.*partition 2 of t: gone, too"
    ):
        reconcile.require(open_ranges)


def test_the_status_shows_what_is_open(shop, streams):
    streams.all(events(20))
    assert not [problem for problem in status(shop, books=True)["problems"] if "offsets" in problem]
    query(shop, "delete from shop.transactions")
    assert any(
        "offsets 0 to 19 of partition 0" in problem for problem in status(shop, books=True)["problems"]
    )


def test_without_a_broker_it_says_so(shop):
    with pytest.raises(kafka.KafkaError):
        reconcile.reconcile(shop.model_copy(update={"kafka_bootstrap_servers": "127.0.0.1:1"}))


def test_a_command_user_cannot_write_what_was_checked(shop):
    with (
        psycopg.connect(shop.conninfo("stream_writer")) as connection,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        connection.execute("delete from shop.reconciled")


def _fields(open_range: OpenRange) -> tuple:
    return tuple(vars(open_range).values())
