"""Topics that change under both streams: created again, and with partitions that are added between two looks."""

from __future__ import annotations

from datetime import timedelta
from functools import partial

import pytest
from confluent_kafka.admin import AdminClient, NewPartitions, TopicMetadata

from include.broker import kafka as broker
from include.features import behaviour
from include.operations import parity_check, reconcile
from include.settings import Settings
from include.streams import ingest, known_labels, runner, scoring
from include.training import promotion
from tests.builders import NOW, event_bytes, label_bytes
from tests.payments import detector, payments
from tests.stream_runs import Running, follow, own, produce, query, recreate
from tests.waiting import PATIENCE

STORES, SCORES = "transaction_stream", "fraud_stream"

pytestmark = pytest.mark.services


@pytest.fixture
def shop(clean_postgres: Settings, kafka: Settings, tmp_path) -> Settings:
    return own(clean_postgres, tmp_path)


@pytest.fixture
def streams(shop: Settings) -> tuple[runner.StreamDefinition, ...]:
    stored = {shop.transactions_topic: ingest.transactions, shop.labels_topic: ingest.labels}
    forest, threshold = detector()
    scorer = forest.scorer(threshold=threshold, version=1, feature_set=behaviour.FEATURE_SET)
    scored = {shop.transactions_topic: partial(scoring.scores, scorer)}
    read_ahead = {shop.labels_topic: known_labels.labels}
    return (
        runner.StreamDefinition(STORES, tuple(stored), lambda spark: stored),
        runner.StreamDefinition(SCORES, tuple(scored), lambda spark: scored, read_ahead=read_ahead),
    )


def read(shop: Settings, definition: runner.StreamDefinition, session, offsets: int) -> Exception | None:
    """Runs a stream until it has read so many offsets; the error with which it ended before."""
    count = "select coalesce(sum(next_offset), 0)::int from shop.stream_offsets where stream = '{}'"
    active = Running(shop, definition, session)
    if not active.reaches(lambda: query(shop, count.format(definition.stream)) == [(offsets,)]):
        return active.error
    active.stopping.set()
    return active.ended()


def read_all(shop: Settings, streams: tuple[runner.StreamDefinition, ...], session, offsets: int) -> None:
    """As `read`, one stream after the other, and does what a failing one tells."""
    for definition in streams:
        while error := read(shop, definition, session, offsets):
            follow(shop, error, definition.stream)


def test_the_books_close_parity_holds_and_a_model_may_be_promoted(shop, streams, session):
    """Both topics are deleted after 60 and 2 records; the new ones use the same offsets for other events."""
    old = payments(60, seed=1)
    times = {"timestamp": NOW - timedelta(days=3), "known_at": NOW - timedelta(days=2)}
    labels = [label_bytes(**times, merchant_id=f"merchant-{number}") for number in (1, 2)]
    produce(shop, shop.labels_topic, labels, partition=0)
    produce(shop, shop.transactions_topic, [event_bytes(**fields) for fields in old], partition=0)
    read_all(shop, streams, session, 62)
    assert reconcile.reconcile(shop) == []
    recreate(shop, shop.transactions_topic, shop.labels_topic)

    # Half of the customers go on in the new topic; one event claims the id of an old one and is refused.
    values = [event_bytes(**fields) for fields in payments(40, seed=2)]
    values[7] = event_bytes(**(payments(1, seed=3)[0] | {"transaction_id": old[7]["transaction_id"]}))
    # A label that comes too late for the old payments, which were scored without it.
    produce(shop, shop.labels_topic, [label_bytes(**times, merchant_id="merchant-1")], partition=0)
    produce(shop, shop.transactions_topic, values, partition=0)
    read_all(shop, streams, session, 41)

    rows = query(shop, "select count(*) from shop.transactions group by generation order by generation")
    assert rows == [(60,), (39,)]
    assert reconcile.reconcile(shop) == []
    check = parity_check.check(shop)
    assert (check.rows, check.merchants, check.left_out, check.differences) == (99, 99, 0, ())
    assert promotion.obstacle(shop) == ""
    assert query(shop, "select count(*) from monitoring.labelled_scores") == [(99,)]


@pytest.mark.parametrize("changed", ["transactions_topic", "labels_topic"])
@pytest.mark.parametrize("number", [0, 1], ids=[STORES, SCORES])
def test_partitions_added_after_the_topics_were_looked_up_are_read(
    shop, streams, session, monkeypatch, number, changed
):
    """They are there before the offsets of the others are asked for. The next run reads them at the latest."""
    topic, definition = getattr(shop, changed), streams[number]
    admin = AdminClient(broker.client_config(shop))
    looks = [shop.transactions_topic, shop.labels_topic]
    topics = broker._Admin.topics

    def topics_before_it_grew(self: broker._Admin) -> dict[str, TopicMetadata]:
        before = topics(self)
        if looks and looks.pop(0) == topic:
            admin.create_partitions([NewPartitions(topic, 5)])[topic].result(PATIENCE)
        return before

    monkeypatch.setattr(broker._Admin, "topics", topics_before_it_grew)
    produce(shop, shop.transactions_topic, [event_bytes() for _ in range(3)], partition=0)
    error = read(shop, definition, session, 3)
    assert looks == []
    produce(shop, topic, [event_bytes() if topic == shop.transactions_topic else label_bytes()], partition=4)
    assert read(shop, definition, session, 4) is None
    assert error is None or "startingOffsets" in str(error)
