"""Labels on a real broker, read by the scoring stream on real Spark before the payments that may know them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import partial

import numpy as np
import psycopg
import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient, NewPartitions

from include.broker import kafka
from include.broker.kafka import Bounds
from include.features import behaviour, known_frauds
from include.operations.figures import lag
from include.settings import Settings
from include.streams import known_labels, runner, scoring
from include.streams.read_ahead import ReadAhead
from include.streams.store import Writer
from include.training import feature_differences, recompute
from tests.builders import event_bytes, label_bytes, transaction
from tests.payments import detector
from tests.stream_runs import Running, own, produce, query, running
from tests.waiting import PATIENCE

NAME = "fraud_stream"
START = datetime(2026, 10, 1, tzinfo=UTC)

pytestmark = pytest.mark.services


@pytest.fixture
def shop(clean_postgres: Settings, kafka: Settings, tmp_path) -> Settings:
    return own(clean_postgres, tmp_path)


@pytest.fixture
def definition(shop: Settings) -> runner.StreamDefinition:
    forest, threshold = detector()
    scorer = forest.scorer(threshold=threshold, version=1, feature_set=behaviour.FEATURE_SET)
    handlers = {shop.transactions_topic: partial(scoring.scores, scorer)}
    read_ahead = {shop.labels_topic: known_labels.labels}
    return runner.StreamDefinition(NAME, tuple(handlers), lambda spark: handlers, read_ahead=read_ahead)


def read(shop: Settings, topic: str) -> int:
    rows = query(
        shop,
        f"select coalesce(sum(stored), 0)::int from shop.stream_offsets where stream = '{NAME}' and topic = '{topic}'",
    )
    return rows[0][0]


def payments(days: int) -> list[dict]:
    """Five payments a day of two customers at two merchants."""
    return [
        {
            "transaction_id": f"p{day}-{i}",
            "user_id": f"user-{i % 2}",
            "merchant_id": f"m{(day + i) % 2}",
            "timestamp": START + timedelta(days=day, hours=4 * i + 1),
        }
        for day in range(days)
        for i in range(5)
    ]


def labels(paid: list[dict]) -> list[tuple[datetime, bytes]]:
    """When each third payment is reported, after 20 hours, and each sixth is corrected, two days later."""
    labels = []
    for number, payment in enumerate(paid[::3]):
        about = {name: payment[name] for name in ("transaction_id", "timestamp", "merchant_id")}
        known_at = payment["timestamp"] + timedelta(hours=20)
        labels.append((known_at, label_bytes(**about, known_at=known_at)))
        if number % 2:
            corrected = known_at + timedelta(days=2)
            labels.append((corrected, label_bytes(**about, known_at=corrected, is_fraud=False)))
    return labels


def logged(shop: Settings) -> dict[str, list[float]]:
    return dict(query(shop, "select transaction_id, features from shop.fraud_scores"))


def empty(shop: Settings) -> None:
    query(
        shop,
        "truncate shop.stream_offsets, shop.scored_ids, shop.fraud_scores, shop.fraud_alerts, shop.user_state, "
        "shop.merchant_state, shop.day_state, shop.known_labels, shop.known_frauds",
    )


def test_at_full_speed_it_knows_what_it_knew_day_by_day(
    clean_postgres, kafka, tmp_path, definition, shop, session
):
    paid = payments(6)
    reported = labels(paid)
    with running(shop, definition, session) as active:
        sent = 0
        for day in range(6):
            until = START + timedelta(days=day)
            new = [value for at, value in reported if until - timedelta(days=1) <= at < until]
            produce(shop, shop.labels_topic, new, partition=day % 2)
            of_day = [payment for payment in paid if payment["timestamp"].date() == until.date()]
            for payment in of_day:
                produce(
                    shop,
                    shop.transactions_topic,
                    [event_bytes(**payment)],
                    partition=int(payment["user_id"][-1]),
                )
            sent += len(of_day)
            active.until(lambda: read(shop, shop.transactions_topic) == sent)  # noqa: B023
    lived_through = logged(shop)
    assert len(lived_through) == 30

    empty(shop)
    again = own(clean_postgres, tmp_path / "again")
    produce(again, again.labels_topic, [value for _, value in reversed(reported)])
    for partition in (1, 0):
        values = [event_bytes(**payment) for payment in paid if payment["user_id"] == f"user-{partition}"]
        produce(again, again.transactions_topic, values, partition=partition)
    fast = runner.StreamDefinition(
        NAME,
        (again.transactions_topic,),
        lambda spark: {again.transactions_topic: next(iter(definition.handlers(spark).values()))},
        read_ahead={again.labels_topic: known_labels.labels},
    )
    with running(again, fast, session) as active:
        active.until(lambda: read(again, again.transactions_topic) == 30)
    assert logged(again) == lived_through

    rows = [transaction(**payment) for payment in paid]
    with psycopg.connect(shop.conninfo("trainer")) as connection:
        known = known_frauds.as_read(connection)
    vectors = recompute.recompute(rows, [int(payment["user_id"][-1]) for payment in paid], known)
    feature_differences.require(np.array([lived_through[row.transaction_id] for row in rows]), vectors)
    assert vectors[:, behaviour.FEATURES.index("merchant_frauds_30d")].max() >= np.float32(np.log(3))


def test_labels_alone_are_read_too_and_once(shop, definition, session):
    produce(shop, shop.labels_topic, [label_bytes() for _ in range(30)])
    with running(shop, definition, session) as active:
        active.until(lambda: read(shop, shop.labels_topic) == 30)
    produce(shop, shop.labels_topic, [label_bytes() for _ in range(5)])
    with running(shop, definition, session) as active:
        active.until(lambda: read(shop, shop.labels_topic) == 35)
        admin = AdminClient(kafka.client_config(shop))
        for future in admin.create_partitions([NewPartitions(shop.labels_topic, 6)]).values():
            future.result(PATIENCE)
        kafka.ensure_topics(shop)
        produce(shop, shop.labels_topic, [label_bytes() for _ in range(3)], partition=5)
        active.until(lambda: read(shop, shop.labels_topic) == 38)
    assert query(shop, "select count(*) from shop.known_labels") == [(38,)]
    assert query(shop, "select count(*) from shop.fraud_transactions") == [(0,)]


def test_labels_without_a_value_are_counted_as_rejected(shop, definition, session):
    produce(shop, shop.labels_topic, [None, b"", label_bytes(), None], partition=0)
    with running(shop, definition, session) as active:
        active.until(lambda: query(shop, "select max(next_offset) from shop.stream_offsets") == [(4,)])
    counts = "select stored, dead_letters, without_record from shop.stream_offsets where next_offset > 0"
    assert query(shop, counts) == [(1, 3, 0)]


def test_labels_that_the_broker_deleted_unread_stop_it_with_the_remedy(shop, definition, session):
    produce(shop, shop.labels_topic, [label_bytes() for _ in range(10)], partition=0)
    with running(shop, definition, session) as active:
        active.until(lambda: read(shop, shop.labels_topic) == 10)
    produce(shop, shop.labels_topic, [label_bytes() for _ in range(10)], partition=0)
    admin = AdminClient(kafka.client_config(shop))
    for future in admin.delete_records([TopicPartition(shop.labels_topic, 0, 15)]).values():
        future.result(PATIENCE)
    error = str(Running(shop, definition, session).ended())
    assert "offsets 10 to 14 of partition 0" in error and "update shop.stream_offsets" in error


def test_a_broker_that_is_away_is_named(shop):
    away = shop.model_copy(update={"kafka_bootstrap_servers": "127.0.0.1:1"})
    handlers = {shop.labels_topic: known_labels.labels}
    ahead = ReadAhead(Writer(away, NAME, 0), handlers, {}, lambda topic: {0: 0})
    with pytest.raises(kafka.KafkaUnavailable, match=f"{shop.labels_topic} at 127.0.0.1:1 could not be read"):
        ahead.catch_up(0.5)
    assert ahead.catch_up(60, lambda: True) is False
    ahead.close()


def test_the_status_counts_labels_that_the_scores_do_not_know_yet(shop):
    bounds = {
        shop.transactions_topic: {0: Bounds(0, 7)},
        shop.labels_topic: {0: Bounds(0, 5), 1: Bounds(0, 2)},
    }
    row = {"stream": NAME, "positions": [{"topic": shop.labels_topic, "partition": 0, "next": 3}]}
    assert lag(row, bounds) == 7 + 2 + 2
