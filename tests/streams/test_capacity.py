"""Bands of alerts as the stream stores them, and days with more of them than the team can read."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from functools import partial

import psycopg
import pytest

from include import queries
from include.features import behaviour
from include.settings import Settings
from include.streams import scoring, store
from include.streams.store import Range, Record, Writer
from tests.builders import NOW
from tests.conftest import read
from tests.payments import detector, events, payments

STREAM, CAPACITY = "fraud_stream", 6
pytestmark = pytest.mark.services

FLAGS = 'select transaction_id, score, band, capacity from shop.fraud_alerts order by score desc, "offset"'
HELD = "select transaction_id from monitoring.held_back_alerts order by rank"


@pytest.fixture
def write(connection, shop: Settings):
    """Writes events with a forest that flags half of all payments: the population has changed."""
    fitted, _ = detector()
    scorer = fitted.scorer(threshold=0.45, version=3, feature_set=behaviour.FEATURE_SET)
    scorer = replace(scorer, capacity=CAPACITY, block_threshold=0.6)

    def write(values: list[bytes], partition: int = 0, **changed: object):
        records = [Record(i, NOW + timedelta(minutes=1), None, value) for i, value in enumerate(values)]
        span = Range.of(STREAM, "transactions-data", "id-1", partition, records)
        handler = partial(scoring.scores, replace(scorer, **changed))
        return store.write(connection, Writer(shop, STREAM, 0), span, handler)

    return write


def test_alerts_have_their_band_and_the_capacity_of_the_model(connection, write):
    summary = write(events(payments(300)))
    alerts = read(connection, FLAGS)
    assert len(alerts) == summary.alerts and {row[3] for row in alerts} == {CAPACITY}
    assert {band for _, _, band, _ in alerts} == {"alert", "block"}
    assert all((band == "block") == (score >= 0.6) for _, score, band, _ in alerts)


def test_beyond_the_capacity_of_a_day_the_least_suspicious_are_held_back_and_none_is_lost(connection, write):
    write(events(payments(200)), partition=0)
    write(events(payments(200, seed=2)), partition=1)
    alerts = read(connection, FLAGS)
    held = {name for (name,) in read(connection, HELD)}
    days = read(connection, "select alerts, capacity, held_back from monitoring.alert_days")
    assert days == [(len(alerts), CAPACITY, len(alerts) - CAPACITY)] and len(alerts) > 5 * CAPACITY
    assert {name for name, *_ in alerts[:CAPACITY]}.isdisjoint(held) and len(held) == len(alerts) - CAPACITY


def test_the_same_alerts_are_held_back_whatever_partition_is_written_first(connection, write, shop):
    others = [fields | {"user_id": f"other-{fields['user_id']}"} for fields in payments(200, seed=2)]
    first, second = events(payments(200)), events(others)
    held = []
    for order in ((0, 1), (1, 0)):
        with psycopg.connect(shop.conninfo("owner"), autocommit=True) as owner:
            owner.execute("truncate shop.stream_offsets, shop.scored_ids, shop.fraud_scores, shop.fraud_alerts, "
                          "shop.user_state, shop.merchant_state, shop.day_state")  # fmt: skip
        for partition in order:
            write((first, second)[partition], partition=partition)
        held.append(read(connection, HELD))
    assert held[0] == held[1] and held[0]


def test_an_alert_that_was_read_keeps_its_place_and_a_more_suspicious_one_takes_that_of_an_unread_one(
    connection, write, shop
):
    write(events(payments(300)))
    shown = [row for row in read(connection, FLAGS)][:CAPACITY]
    last, before_last = shown[-1][0], shown[-2][0]
    with psycopg.connect(shop.conninfo("owner"), autocommit=True) as owner:
        owner.execute("insert into shop.verdicts (transaction_id, topic, partition, \"offset\", is_fraud, analyst) "
                      "select transaction_id, topic, partition, \"offset\", false, 'ann' from shop.fraud_alerts "
                      "where transaction_id = %s", [last])  # fmt: skip
        owner.execute("insert into shop.fraud_alerts (transaction_id, user_id, timestamp, amount, score, threshold, "
                      "model_version, topic, partition, \"offset\", band, capacity) select 'new', user_id, timestamp, "
                      "amount, 0.99, threshold, model_version, topic, 7, 0, 'block', capacity from shop.fraud_alerts "
                      "where transaction_id = %s", [last])  # fmt: skip
    held = {name for (name,) in read(connection, HELD)}
    assert before_last in held and last not in held and "new" not in held


def test_the_inbox_shows_what_can_be_read_and_counts_the_rest(connection, write, shop):
    write(events(payments(300)))
    alerts = len(read(connection, FLAGS))
    engine = queries.engine(shop, "app")
    inbox = {
        name: queries.frame(engine, "alerts", inbox=name, limit=1000) for name in ("open", "held_back", "all")
    }
    counts = queries.frame(engine, "alert_counts").iloc[0]
    engine.dispose()
    assert [len(rows) for rows in inbox.values()] == [CAPACITY, alerts - CAPACITY, alerts]
    assert (counts["open"], counts["held_back"], counts["alerts"]) == (CAPACITY, alerts - CAPACITY, alerts)
    assert inbox["open"]["score"].min() >= inbox["held_back"].query("band == 'alert'")["score"].max()


def test_where_no_model_says_what_can_be_read_nothing_is_held_back(connection, write):
    write(events(payments(200)), capacity=None, block_threshold=None)
    assert read(connection, HELD) == []
    assert read(connection, "select held_back from monitoring.alert_days") == [(0,)]
    assert {row[2] for row in read(connection, FLAGS)} == {"alert"}
