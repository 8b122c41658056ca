"""Scores, alerts and states of ranges in a real PostgreSQL, with a small real forest."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from pathlib import Path

import numpy as np
import psycopg
import pytest

from include.events.transaction import CATEGORIES, NUMBERS, Transaction
from include.features import behaviour, closed_days, extra_fields
from include.features.behaviour import FEATURES
from include.models.scorer import Scorer
from include.settings import Settings
from include.streams import scoring, store
from include.streams.store import Range, Record, Writer
from tests.builders import NOW, event_bytes, transaction
from tests.conftest import read
from tests.payments import detector, events, payments, vectors_of

STREAM = "fraud_stream"
BROKER_TIME = NOW + timedelta(minutes=1)

pytestmark = pytest.mark.services


@pytest.fixture(scope="module")
def forest() -> Scorer:
    return detector()[0].scorer(threshold=detector()[1], version=3, feature_set=behaviour.FEATURE_SET)


@pytest.fixture
def write(connection, shop: Settings, forest: Scorer):
    def write(values: list[bytes], first: int = 0, partition: int = 0, scorer: Scorer = forest):
        records = [Record(first + i, BROKER_TIME, None, value) for i, value in enumerate(values)]
        span = Range.of(STREAM, "transactions-data", "id-1", partition, records)
        return store.write(connection, Writer(shop, STREAM, 0), span, partial(scoring.scores, scorer))

    return write


def vectors(connection: psycopg.Connection) -> np.ndarray:
    stored = read(connection, "select features from shop.fraud_scores order by transaction_id")
    return np.array([vector for (vector,) in stored], np.float32)


def test_what_is_stored_is_what_one_pass_over_the_log_computes(connection, write, forest):
    fields = payments(300)
    values = events(fields)
    for first, end in ((0, 1), (1, 120), (120, 300)):
        write(values[first:end], first)
    expected = vectors_of([transaction(**values) for values in fields])
    assert np.array_equal(vectors(connection), expected)
    stored = read(
        connection,
        "select score, is_alert, model_version, feature_set, topic, partition, broker_time "
        "from shop.fraud_scores order by transaction_id",
    )
    scores = forest.score(expected)
    assert np.array_equal([row[0] for row in stored], scores)
    assert [row[1] for row in stored] == (scores >= forest.threshold).tolist()
    assert {row[2:] for row in stored} == {(3, behaviour.FEATURE_SET, "transactions-data", 0, BROKER_TIME)}


def test_alerts_have_the_threshold_and_reasons(connection, write, forest):
    summary = write(events(payments(300)))
    alerts = read(
        connection,
        "select a.score, s.score, s.is_alert, a.threshold, a.model_version, a.reasons, a.amount "
        "from shop.fraud_alerts a join shop.fraud_scores s using (transaction_id, topic, partition)",
    )
    assert len(alerts) == summary.alerts > 3
    assert [(len(read(connection, "select from shop.fraud_scores where is_alert")))] == [len(alerts)]
    for score, same, is_alert, threshold, version, reasons, amount in alerts:
        assert score == same >= threshold == forest.threshold and is_alert and version == 3 and amount > 0
        assert 1 <= len(reasons) <= 3 and {"feature", "value", "text"} == reasons[0].keys()


def test_the_truth_in_an_event_changes_nothing(connection, write, shop):
    fields = payments(120)
    query = "select score, features from shop.fraud_scores order by transaction_id"
    write(events(fields))
    without = read(connection, query)
    with psycopg.connect(shop.conninfo("owner"), autocommit=True) as owner:
        owner.execute(
            "truncate shop.stream_offsets, shop.scored_ids, shop.fraud_scores, shop.fraud_alerts, "
            "shop.user_state, shop.merchant_state, shop.day_state"
        )
    write([event_bytes(**values, is_fraud=i % 2 == 0) for i, values in enumerate(fields)])
    assert read(connection, query) == without


def test_the_scoring_module_has_no_way_to_the_truth():
    assert "is_fraud" not in {field for field in Transaction.__struct_fields__}
    with open(scoring.__file__) as source:
        assert "is_fraud" not in source.read()


def test_a_replay_changes_no_score_and_no_state(connection, write):
    values = events(payments(50))
    write(values)
    state = "select user_id, state from shop.user_state union all select merchant_id, state from shop.merchant_state "
    state += "union all select id, state from shop.day_state"
    before = read(connection, state), read(connection, "select * from shop.fraud_scores")
    assert write(values).skipped == 50
    assert (read(connection, state), read(connection, "select * from shop.fraud_scores")) == before


def test_duplicates_conflicts_and_rejects_are_counted_and_leave_no_trace_in_the_state(connection, write):
    fields = payments(40)
    values = events(fields)
    other = event_bytes(**{**fields[5], "amount": 999_999})
    write([*values[:20], values[3], other, b"{}"])
    write([*values[20:], values[0], other], first=23)
    assert np.array_equal(vectors(connection), vectors_of([transaction(**values) for values in fields]))
    books = read(connection, "select stored, dead_letters, duplicates from shop.stream_offsets")
    assert books == [(40, 3, 2)]
    assert read(connection, "select count(*) from shop.dead_letters") == [(0,)]


def test_the_same_event_in_two_partitions_is_scored_in_each(connection, write):
    values = events(payments(1))
    write(values, partition=0)
    write(values, partition=1)
    assert read(connection, "select partition from shop.fraud_scores order by 1") == [(0,), (1,)]


def test_a_user_who_moves_to_a_new_partition_keeps_the_newest_history(connection, write):
    fields = payments(90, users=1)
    values = events(fields)
    write(values[:30], partition=0)
    write(values[30:60], partition=5)  # goes on from partition 0
    write(values[60:], partition=2)  # goes on from partition 5
    expected = vectors_of([transaction(**values) for values in fields])
    own = [not name.startswith("merchant_") for name in behaviour.FEATURES]
    assert np.array_equal(vectors(connection)[:, own], expected[:, own])


def test_each_partition_has_its_own_state_from_then_on(connection, write):
    write(events(payments(30, users=1)), partition=0)
    write(events(payments(30, users=1, seed=2)), partition=1)
    states = dict(read(connection, "select partition, state from shop.user_state"))
    assert states.keys() == {0, 1} and states[0] != states[1]


def test_a_merchant_is_new_in_each_partition_whichever_is_written_first(connection, write):
    fields = [{**values, "user_id": f"user-{i:04d}"} for i, values in enumerate(payments(60))]
    write(events(fields[:30]), partition=0)
    write(events(fields[30:]), partition=1)
    expected = [vectors_of([transaction(**values) for values in half]) for half in (fields[:30], fields[30:])]
    assert np.array_equal(vectors(connection), np.concatenate(expected))


def test_a_state_of_another_layout_is_not_used(connection, write):
    fields = payments(20, users=1)
    write(events(fields[:10]))
    connection.execute("update shop.user_state set layout = layout + 1")
    connection.execute("update shop.merchant_state set layout = layout + 1")
    write(events(fields[10:]), first=10)
    expected = vectors_of([transaction(**values) for values in fields[10:]])
    assert np.array_equal(vectors(connection)[10:], expected)
    assert read(connection, "select distinct layout from shop.user_state") == [(behaviour.LAYOUT,)]


def test_a_state_that_was_stored_before_shops_had_fields_of_their_own_goes_on(connection, write):
    """Their bytes end where those of a customer without such fields do."""
    none = dict.fromkeys((*NUMBERS, *CATEGORIES))
    fields = [values | none for values in payments(40, users=3)]
    write(events(fields[:20]))
    before = behaviour.STATE.fields["number_latest"][1], closed_days.DAY_STATE.fields["closed_sums"][1]
    for table, width in zip(("user_state", "day_state"), before, strict=True):
        rows = read(connection, f"select ctid, state from shop.{table}")
        assert rows and all(len(state) <= width for _, state in rows)
        for at, state in rows:  # as it was stored then: in its whole width
            connection.execute(
                f"update shop.{table} set state = %s where ctid = %s", (state.ljust(width, b"\0"), at)
            )
    fields[20:] = [values | {"number_1": 5.0 + i} for i, values in enumerate(fields[20:])]
    write(events(fields[20:]), first=20)
    expected = vectors_of([transaction(**values) for values in fields])
    assert np.array_equal(vectors(connection), expected)
    assert expected[:, FEATURES.index("number_1_ratio")].any()


def test_an_alert_speaks_of_the_shops_own_fields_by_their_names(connection, write, forest):
    extra_fields.keep(
        connection, {"category_1": "e-mail domain", "number_1": "balance"}, Path("mapping.yaml")
    )
    rare = {"category_1": "odd.example", "number_1": 9e9, "amount": 40_000.0}
    usual = {"category_1": "post.example", "number_1": 100.0}
    fields = [values | (rare if i == 199 else usual) for i, values in enumerate(payments(200, users=2))]
    write(events(fields), scorer=Everything(forest))
    ((reasons,),) = read(
        connection, "select reasons from shop.fraud_alerts where transaction_id = 't-1-00199'"
    )
    text = " / ".join(reason["text"] for reason in reasons)
    assert "e-mail domain odd.example" in text and "balance of 9,000,000,000" in text


class Everything:
    """Alerts of all payments, for the fields of the shop's own."""

    def __init__(self, forest: Scorer):
        self.version, self.feature_set, self.threshold = forest.version, forest.feature_set, 0.5

    def score(self, X: np.ndarray) -> np.ndarray:
        return np.ones(len(X))

    def is_alert(self, score: np.ndarray) -> np.ndarray:
        return score >= self.threshold

    capacity = None

    def bands(self, scores: np.ndarray) -> list[str]:
        return ["alert"] * len(scores)

    def evidence(self, X: np.ndarray) -> np.ndarray:
        own = [name.endswith(("number_1_ratio", "category_1")) for name in FEATURES]
        return np.tile(np.array(own, float), (len(X), 1))

    attributions = evidence


def test_real_arrays_are_what_postgresql_reads(connection):
    matrix = np.array([[0.1, -2.5e30, 3.0], [1e-30, 0.0, -0.0]], np.float32)
    for raw, row in zip(scoring.real_arrays(matrix), matrix, strict=True):
        assert connection.execute("select array_send(%s::real[])", (row.tolist(),)).fetchone() == (raw,)
