"""Logged vectors against those of the stored transactions, as two streams wrote them, and what a difference blocks."""

from __future__ import annotations

from datetime import timedelta
from functools import partial

import psycopg
import pytest

from include.features.behaviour import FEATURE_SET, FEATURES
from include.operations import parity_check
from include.settings import Settings
from include.streams import ingest, known_labels, scoring, store
from include.streams.store import Range, Record, Writer
from include.training import promotion
from include.training.feature_differences import ParityBroken
from tests.builders import NOW, event_bytes, label_bytes
from tests.payments import detector, events, payments

pytestmark = pytest.mark.services

BROKER_TIME = NOW + timedelta(minutes=1)
SET = 'update shop.fraud_scores set features[%s] = features[%s] + %s where partition = %s and "offset" = %s'
ROWS = 300


def write(
    shop: Settings,
    values: list[bytes],
    *,
    partition: int = 0,
    first: int = 0,
    streams=("stores", "scores"),
    topic_id="id-1",
):
    """Writes a range as both streams do, or as one of them."""
    forest = detector()[0].scorer(threshold=0.99, version=1, feature_set=FEATURE_SET)
    handlers = {
        "stores": ("transaction_stream", ingest.transactions),
        "scores": ("fraud_stream", partial(scoring.scores, forest)),
    }
    records = [Record(first + i, BROKER_TIME, None, value) for i, value in enumerate(values)]
    with store.connect(shop) as connection:
        for stream, handler in (handlers[name] for name in streams):
            span = Range.of(stream, "transactions-data", topic_id, partition, records)
            store.write(connection, Writer(shop, stream, 0), span, handler)


@pytest.fixture
def shop(clean_postgres: Settings) -> Settings:
    """Two partitions with customers of their own and the merchants of both, of which one has a known fraud."""
    known = label_bytes(
        merchant_id="merchant-1", timestamp=NOW - timedelta(days=3), known_at=NOW - timedelta(days=2)
    )
    with store.connect(clean_postgres) as connection:
        span = Range.of(
            "fraud_stream", "transaction-labels", "id-2", 0, [Record(0, BROKER_TIME, None, known)]
        )
        store.write(connection, Writer(clean_postgres, "fraud_stream", 0), span, known_labels.labels)
    for partition in (0, 1):
        fields = [
            fields | {"user_id": f"{fields['user_id']}-{partition}"}
            for fields in payments(ROWS, seed=partition + 1)
        ]
        for first in (0, 120):
            write(shop=clean_postgres, values=events(fields)[first:][: 120 if first == 0 else None],
                  partition=partition, first=first)  # fmt: skip
    return clean_postgres


def execute(shop: Settings, statement: str, parameters=()) -> None:
    with psycopg.connect(shop.conninfo("owner")) as connection:
        connection.execute(statement, parameters)


def alter(shop: Settings, feature: str, by: float, offset: int, partition: int = 0) -> None:
    at = FEATURES.index(feature) + 1
    execute(shop, SET, (at, at, by, partition, offset))


def blocked(shop: Settings) -> str:
    return promotion.obstacle(shop)


def test_what_the_stream_logged_is_what_its_transactions_give(shop, monkeypatch):
    monkeypatch.setattr(parity_check, "BATCH", 70)
    result = parity_check.require(parity_check.check(shop))
    assert (result.rows, result.merchants, result.left_out, result.share) == (2 * ROWS, 2 * ROWS, 0, 1.0)
    with psycopg.connect(shop.conninfo("app")) as connection:
        frauds = "select count(*) from shop.fraud_scores where features[%s] > 0"
        assert connection.execute(frauds, [FEATURES.index("merchant_frauds_30d") + 1]).fetchone() > (50,)
        kept = connection.execute("select feature_set, rows, mismatches from shop.parity_checks").fetchall()
    assert kept == [(FEATURE_SET, 2 * ROWS, [])]


def test_an_altered_vector_is_named_and_blocks_until_it_is_repaired(shop, monkeypatch):
    monkeypatch.setattr(parity_check, "BATCH", 70)
    assert "no parity check has compared" in blocked(shop)
    parity_check.check(shop)
    assert blocked(shop) == ""

    alter(shop, "growth", 0.5, offset=200)
    alter(shop, "growth", 2.0, offset=40, partition=1)
    alter(shop, "merchant_tiny", float("nan"), offset=7)
    result = parity_check.check(shop)
    assert [(difference.feature, difference.rows) for difference in result.differences] == [
        ("merchant_tiny", 1),
        ("growth", 2),
    ]
    assert result.differences[1].largest == pytest.approx(2.0)
    with pytest.raises(ParityBroken, match=r"merchant_tiny in 1 rows, where one is not a number \(partition 0, "
                       r"offset 7\); growth in 2 rows, by up to 2 \(partition 1, offset 40\)"):  # fmt: skip
        parity_check.require(result)
    assert "growth in 2 rows, by up to 2" in blocked(shop) and "run the DAG parity" in blocked(shop)

    alter(shop, "growth", -0.5, offset=200)
    alter(shop, "growth", -2.0, offset=40, partition=1)
    assert "merchant_tiny" in blocked(shop)  # until it was looked again
    at = FEATURES.index("merchant_tiny") + 1
    execute(shop, f"update shop.fraud_scores s set features[{at}] = 0 where features[{at}] = 'NaN'")
    result = parity_check.check(shop)
    assert {difference.feature for difference in result.differences} <= {
        "merchant_tiny"
    }  # its true value was not 0
    execute(shop, 'delete from shop.fraud_scores where partition = 0 and "offset" >= 7')
    parity_check.require(parity_check.check(shop))
    assert blocked(shop) == ""


def test_a_topic_that_was_created_again_goes_on_after_the_old_one(shop):
    """The new topic's offsets are those of the old one; its customers and merchants have a past."""
    execute(shop, "delete from shop.stream_offsets where topic = 'transactions-data'")
    new = [fields | {"user_id": f"{fields['user_id']}-0"} for fields in payments(90, seed=3)]
    write(shop, events(new), topic_id="id-9")
    result = parity_check.require(parity_check.check(shop))
    # Partition 1 is not opened yet.
    assert (result.rows, result.merchants, result.left_out) == (ROWS + 90, ROWS + 90, 0)
    assert blocked(shop) == ""

    oldest = "generation = (select min(generation) from shop.fraud_scores)"
    execute(shop, f'delete from shop.fraud_scores where partition = 0 and {oldest} and "offset" < 10')
    result = parity_check.require(parity_check.check(shop))
    assert result.rows < ROWS + 90 and result.merchants == 0  # the past of many is gone


def test_a_changed_transaction_is_found(shop):
    execute(shop, 'update shop.transactions set amount = amount + 500 where partition = 1 and "offset" = 100')
    assert "amount" in {difference.feature for difference in parity_check.check(shop).differences}


def test_what_is_scored_but_not_stored_yet_waits(shop):
    later = [event_bytes(user_id="user-0001-0", timestamp=NOW)]
    write(shop, later, first=ROWS, streams=["scores"])
    result = parity_check.require(parity_check.check(shop))
    assert (result.rows, result.left_out) == (2 * ROWS, 0)
    write(shop, later, first=ROWS, streams=["stores"])
    assert parity_check.require(parity_check.check(shop)).rows == 2 * ROWS + 1


def test_an_event_whose_id_another_owns_hides_only_its_customer_and_the_partitions_merchants(shop):
    taken = event_bytes(transaction_id=payments(1)[0]["transaction_id"], user_id="user-0002-1", timestamp=NOW)
    after = events([
        fields | {"user_id": f"user-000{i % 3}-1", "timestamp": NOW + timedelta(seconds=i), "merchant_id": "merchant-1"}
        for i, fields in enumerate(payments(30, seed=9))
    ])  # fmt: skip
    write(shop, [taken, *after], partition=1, first=ROWS)
    result = parity_check.require(parity_check.check(shop))
    assert (result.rows, result.left_out) == (2 * ROWS + 20, 11)
    assert result.merchants == 2 * ROWS


def test_a_customer_in_two_partitions_is_left_out(shop):
    write(
        shop,
        events([fields | {"user_id": "user-0001-0"} for fields in payments(5, seed=8)]),
        partition=1,
        first=ROWS,
    )
    result = parity_check.require(parity_check.check(shop))
    with psycopg.connect(shop.conninfo("owner")) as connection:
        (own,) = connection.execute(
            "select count(*) from shop.fraud_scores where user_id = 'user-0001-0'"
        ).fetchone()
    assert result.left_out == own > 5


def test_of_very_many_rows_some_customers_are_compared_with_their_whole_history(shop):
    result = parity_check.require(parity_check.check(shop, max_rows=300))
    assert 0 < result.rows < 2 * ROWS and result.merchants == 0 and result.share == 0.5
    alter(shop, "merchant_history", 1.0, offset=290)
    parity_check.require(parity_check.check(shop, max_rows=300))
    execute(shop, "update shop.fraud_scores set features[1] = 99")
    assert [difference.feature for difference in parity_check.check(shop, max_rows=300).differences] == [
        "amount"
    ]


def test_vectors_of_another_feature_set_are_not_compared_but_count_as_history(shop, monkeypatch):
    execute(
        shop,
        f"update shop.fraud_scores set feature_set = {FEATURE_SET - 1}, features = '{{1}}' where \"offset\" < 200",
    )
    assert parity_check.require(parity_check.check(shop)).rows == 2 * (ROWS - 200)
    alter(shop, "amount", 1.0, offset=250)
    parity_check.check(shop)
    assert blocked(shop)
    monkeypatch.setattr(promotion, "FEATURE_SET", FEATURE_SET + 1)
    assert blocked(shop) == ""  # nothing of the new set is logged


def test_a_check_of_nothing_says_nothing(clean_postgres):
    assert parity_check.require(parity_check.check(clean_postgres)).rows == 0
    assert blocked(clean_postgres) == ""


def test_where_old_scores_are_gone_only_customers_who_begin_later_are_compared(shop):
    late = [fields | {"user_id": f"user-9-{i % 2}"} for i, fields in enumerate(payments(20, seed=7))]
    write(shop, events(late), first=ROWS)
    execute(shop, 'delete from shop.fraud_scores where partition = 0 and "offset" < 100')
    result = parity_check.require(parity_check.check(shop))
    assert (result.rows, result.merchants, result.left_out) == (ROWS + 20, ROWS, ROWS - 100)
    alter(shop, "amount", 1.0, offset=ROWS + 3)
    assert [difference.rows for difference in parity_check.check(shop).differences] == [1]
