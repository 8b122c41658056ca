"""Topics where not every offset holds a record: transactions, compaction, deleted records; real broker and Spark."""

from __future__ import annotations

import shutil
from functools import partial

import psycopg
import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    ResourceType,
)

from include.broker import kafka
from include.features import behaviour
from include.operations import reconcile
from include.platform.status import status
from include.settings import Settings
from include.streams import ingest, known_labels, runner, scoring
from include.streams.checkpoint import Checkpoint
from tests.builders import event_bytes, label_bytes
from tests.payments import detector
from tests.stream_runs import (
    Running,
    follow,
    forget_checkpoint,
    own,
    produce,
    query,
    running,
    transaction,
)
from tests.waiting import PATIENCE, until

STORES, SCORES = "transaction_stream", "fraud_stream"

pytestmark = pytest.mark.services


@pytest.fixture
def shop(clean_postgres: Settings, kafka: Settings, tmp_path) -> Settings:
    return own(clean_postgres, tmp_path)


@pytest.fixture
def stores(shop: Settings) -> runner.StreamDefinition:
    handlers = {shop.transactions_topic: ingest.transactions, shop.labels_topic: ingest.labels}
    return runner.StreamDefinition(STORES, tuple(handlers), lambda spark: handlers)


@pytest.fixture
def scores(shop: Settings) -> runner.StreamDefinition:
    forest, threshold = detector()
    scorer = forest.scorer(threshold=threshold, version=1, feature_set=behaviour.FEATURE_SET)
    handlers = {shop.transactions_topic: partial(scoring.scores, scorer)}
    read_ahead = {shop.labels_topic: known_labels.labels}
    return runner.StreamDefinition(SCORES, tuple(handlers), lambda spark: handlers, read_ahead=read_ahead)


def events(count: int) -> list[bytes]:
    return [event_bytes() for _ in range(count)]


def ledger(shop: Settings, topic: str, stream: str = STORES) -> dict[int, tuple[int, int, int]]:
    """For each partition that was read: the next offset, stored records, and offsets without a record."""
    rows = query(
        shop,
        "select partition, next_offset, stored, without_record from shop.stream_offsets "
        f"where stream = '{stream}' and topic = '{topic}' and next_offset > 0",
    )
    return {partition: tuple(counts) for partition, *counts in rows}


def is_at_the_end(shop: Settings, stream: str = STORES) -> bool:
    """True when the ledger has reached the end of both topics."""
    topics = (shop.transactions_topic, shop.labels_topic)
    return all(
        ledger(shop, topic, stream).get(partition, (0,))[0] == end
        for topic in topics
        for partition, end in kafka.end_offsets(shop, topic).items()
    )


def read_all(shop: Settings, definition: runner.StreamDefinition, session) -> None:
    with running(shop, definition, session) as active:
        active.until(lambda: is_at_the_end(shop, definition.stream))


def delete_records(shop: Settings, before: int, partition: int = 0) -> None:
    admin = AdminClient(kafka.client_config(shop))
    for future in admin.delete_records([TopicPartition(shop.transactions_topic, partition, before)]).values():
        future.result(PATIENCE)


def test_committed_transactions_are_stored_and_the_ledger_passes_their_markers(shop, stores, session):
    topic = shop.transactions_topic
    with transaction(shop) as send:
        send(topic, events(10))
    read_all(shop, stores, session)
    assert ledger(shop, topic) == {0: (11, 10, 1)}
    with transaction(shop) as send:
        send(topic, events(5))
    read_all(shop, stores, session)
    assert ledger(shop, topic) == {0: (17, 15, 2)}
    forget_checkpoint(shop, STORES)
    with transaction(shop) as send:
        send(topic, events(3))
    read_all(shop, stores, session)
    assert ledger(shop, topic) == {0: (21, 18, 3)}
    assert query(shop, "select count(*), count(distinct transaction_id) from shop.transactions") == [(18, 18)]
    assert reconcile.reconcile(shop) == []
    assert status(shop)["streams"][STORES]["lag"] == 0


def test_aborted_events_are_not_stored_and_stop_nothing(shop, stores, session):
    topic = shop.transactions_topic
    produce(shop, topic, events(1), partition=0)
    with transaction(shop, commit=False) as send:
        send(topic, events(5))
        send(topic, events(7), 1)
    with running(shop, stores, session) as active:
        active.until(lambda: ledger(shop, topic) == {0: (7, 1, 6), 1: (8, 0, 8)})
        with transaction(shop, commit=False) as send:
            send(topic, events(2), 1)
        active.until(lambda: ledger(shop, topic) == {0: (7, 1, 6), 1: (11, 0, 11)})
        produce(shop, topic, events(1), partition=0)
        active.until(lambda: ledger(shop, topic)[0] == (8, 2, 6))
    assert query(shop, "select count(*) from shop.transactions") == [(2,)]
    assert reconcile.reconcile(shop) == []


def test_what_comes_after_an_open_transaction_waits_for_its_end_and_is_no_lag(shop, stores, session):
    topic = shop.transactions_topic
    with running(shop, stores, session) as active:
        with transaction(shop) as send:
            send(topic, events(3))
            produce(shop, topic, events(4), partition=0)
            produce(shop, topic, events(2), partition=1)
            active.until(lambda: ledger(shop, topic) == {1: (2, 2, 0)})
            assert kafka.end_offsets(shop, topic)[0] == 0
            assert status(shop)["streams"][STORES]["lag"] == 0
        active.until(lambda: ledger(shop, topic) == {0: (8, 7, 1), 1: (2, 2, 0)})


def test_labels_of_a_transaction_are_read_ahead_and_an_open_one_holds_no_payment_up(shop, scores, session):
    labels, topic = shop.labels_topic, shop.transactions_topic
    with transaction(shop) as send:
        send(labels, [label_bytes() for _ in range(4)])
    produce(shop, topic, events(1), partition=0)
    with running(shop, scores, session) as active:
        active.until(lambda: ledger(shop, topic, SCORES) == {0: (1, 1, 0)})
        assert ledger(shop, labels, SCORES) == {0: (5, 4, 1)}
        with transaction(shop, commit=False) as send:
            send(labels, [label_bytes() for _ in range(2)])
            produce(shop, labels, [label_bytes()], partition=1)
            produce(shop, topic, events(1), partition=0)
            active.until(lambda: ledger(shop, topic, SCORES) == {0: (2, 2, 0)})
            assert ledger(shop, labels, SCORES) == {0: (5, 4, 1), 1: (1, 1, 0)}
        produce(shop, topic, events(1), partition=0)
        active.until(lambda: ledger(shop, topic, SCORES) == {0: (3, 3, 0)})
        assert ledger(shop, labels, SCORES) == {0: (8, 4, 4), 1: (1, 1, 0)}
    assert query(shop, "select count(*) from shop.known_labels") == [(5,)]


@pytest.mark.parametrize("checkpoint", ["kept", "deleted"])
def test_a_driver_that_dies_before_it_wrote_the_ends_reads_on_without_a_gap(
    shop, stores, session, monkeypatch, checkpoint
):
    topic = shop.transactions_topic

    def dies(*_):
        raise psycopg.OperationalError("the database is away")

    with transaction(shop) as send:
        send(topic, events(10))
    with monkeypatch.context() as patched:
        patched.setattr(runner._Run, "_write_ends", dies)
        assert "the database is away" in str(Running(shop, stores, session).ended())
    assert ledger(shop, topic) == {0: (10, 10, 0)}
    if checkpoint == "deleted":
        forget_checkpoint(shop, STORES)
    with transaction(shop) as send:
        send(topic, events(5))
    read_all(shop, stores, session)
    assert ledger(shop, topic) == {0: (17, 15, 2)}


@pytest.fixture
def compacted(shop: Settings) -> Settings:
    """The transactions' topic keeps the last record of each key only, and the broker soon deletes the others."""
    admin = AdminClient(kafka.client_config(shop))
    for future in admin.delete_topics([shop.transactions_topic]).values():
        future.result(PATIENCE)
    often = ConfigEntry("log.cleaner.backoff.ms", "100", incremental_operation=AlterConfigOpType.SET)
    brokers = map(str, admin.list_topics(timeout=30).brokers)
    changes = [ConfigResource(ResourceType.BROKER, name, incremental_configs=[often]) for name in brokers]
    for future in admin.incremental_alter_configs(changes).values():
        future.result(PATIENCE)
    config = {"cleanup.policy": "compact", "segment.ms": "50", "min.cleanable.dirty.ratio": "0.001"}
    topic = NewTopic(shop.transactions_topic, 1, 1, config=config)

    def created() -> bool:
        try:
            next(iter(admin.create_topics([topic]).values())).result(PATIENCE)
        except kafka.KafkaException:  # the old one is still being deleted
            return False
        return True

    until(created)
    return shop


def held(shop: Settings) -> int:
    """How many records the broker has in the transactions' topic."""
    topic = shop.transactions_topic
    return sum(1 for _ in kafka.records(shop, topic, kafka.bounds(shop, topic)))


def compact(shop: Settings) -> None:
    """Waits until the broker has deleted records; a record after a pause begins the segment that is not compacted."""

    def is_compacted() -> bool:
        produce(shop, shop.transactions_topic, events(1), partition=0)
        return held(shop) < kafka.end_offsets(shop, shop.transactions_topic)[0] / 2

    until(is_compacted)


def test_a_compacted_topic_is_read_to_its_end(compacted, stores, session):
    shop, topic = compacted, compacted.transactions_topic
    produce(shop, topic, events(60), partition=0)
    read_all(shop, stores, session)
    assert ledger(shop, topic) == {0: (60, 60, 0)}
    compact(shop)
    produce(shop, topic, events(60), partition=0)
    with transaction(shop) as send:
        send(topic, events(60))
    compact(shop)
    read_all(shop, stores, session)
    end, stored, without_record = ledger(shop, topic)[0]
    assert stored + without_record == end and without_record >= 60
    forget_checkpoint(shop, STORES)
    produce(shop, topic, events(60), partition=0)
    compact(shop)
    read_all(shop, stores, session)
    end, stored, without_record = ledger(shop, topic)[0]
    assert stored + without_record == end
    assert query(shop, "select count(*) from shop.transactions") == [(stored,)]
    assert [open_range for open_range in reconcile.reconcile(shop) if open_range.stream == STORES] == []


def test_records_deleted_after_they_were_read_are_no_loss(shop, stores, session):
    topic = shop.transactions_topic
    produce(shop, topic, events(20), partition=0)
    read_all(shop, stores, session)
    delete_records(shop, 20)
    produce(shop, topic, events(5), partition=0)
    read_all(shop, stores, session)
    forget_checkpoint(shop, STORES)
    delete_records(shop, 25)
    produce(shop, topic, events(5), partition=0)
    read_all(shop, stores, session)
    assert ledger(shop, topic) == {0: (30, 30, 0)}
    assert reconcile.reconcile(shop) == []


@pytest.mark.parametrize("transactional", [False, True])
def test_records_deleted_unread_while_it_runs_are_named_with_a_remedy_that_works(
    shop, stores, session, transactional
):
    topic = shop.transactions_topic
    active = Running(shop, stores, session)
    with psycopg.connect(shop.conninfo("owner")) as holder:
        holder.execute("lock table shop.transactions in access exclusive mode")
        produce(shop, topic, events(10), partition=0)
        waits = "select count(*) from pg_locks where not granted and relation = 'shop.transactions'::regclass"
        active.until(lambda: query(shop, waits) == [(1,)])
        if transactional:
            with transaction(shop) as send:
                send(topic, events(39))
        else:
            produce(shop, topic, events(40), partition=0)
        delete_records(shop, 30)
    error = active.ended()
    assert f"offsets 10 to 29 of partition 0 of {topic} are missing" in str(error)
    assert "the broker deleted them before they were read" in str(reconcile.reconcile(shop)[0])
    follow(shop, error, STORES)
    read_all(shop, stores, session)
    assert ledger(shop, topic) == {0: (50, 29, 1) if transactional else (50, 30, 0)}
    assert query(shop, "select sum(lost) from shop.stream_offsets") == [(20,)]
    assert reconcile.reconcile(shop) == []


def test_a_checkpoint_that_is_older_than_the_log_is_named_with_a_remedy_that_works(
    shop, stores, session, monkeypatch
):
    topic = shop.transactions_topic
    produce(shop, topic, events(10), partition=0)
    read_all(shop, stores, session)
    write_ends = runner._Run._write_ends

    def dies(*arguments):
        write_ends(*arguments)
        raise psycopg.OperationalError("the database is away")

    produce(shop, topic, events(10), partition=0)
    with monkeypatch.context() as patched:
        patched.setattr(runner._Run, "_write_ends", dies)
        Running(shop, stores, session).ended()
    delete_records(shop, 20)
    error = str(Running(shop, stores, session).ended())
    folder = Checkpoint(shop, STORES).folder
    assert "the broker has deleted records that the checkpoint would read again and the ledger has" in error
    assert f"delete the folder {folder}" in error
    shutil.rmtree(folder)
    produce(shop, topic, events(5), partition=0)
    read_all(shop, stores, session)
    assert ledger(shop, topic) == {0: (25, 25, 0)}
