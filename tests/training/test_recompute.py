"""Recomputed vectors against features computed in one go from the same stored transactions."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import psycopg
import pytest

from include.events.transaction import Transaction
from include.features import behaviour, closed_days, entities
from include.features.definitions import KNOWN_FRAUD_FEATURES, LIFT_FEATURES
from include.features.entities import FIELDS, KINDS, coded
from include.features.known_frauds import WINDOWS
from include.training import recompute
from include.training.recompute import States
from tests import stored_world

pytestmark = pytest.mark.services

START, END = datetime(2020, 6, 1, tzinfo=UTC), datetime(2030, 1, 1, tzinfo=UTC)


def test_states_are_kept_for_each_id_however_many_there_are():
    states = States(behaviour.new_state)
    assert states.index(coded(["a", None, "b", "a"])).tolist() == [0, -1, 1, 0]
    many = states.index(coded([str(i) for i in range(5_000)]))
    assert len(states.states) > many.max() and states.index(coded(["b"])).tolist() == [1]


@pytest.fixture
def world(clean_postgres):
    stored_world.fill(clean_postgres, history_events=2_000)
    return clean_postgres


def recomputed(settings, start=START, end=END, **given):
    with psycopg.connect(settings.conninfo("trainer")) as connection:
        return recompute.recomputed_rows(connection, start, end, **given)


def known_frauds(connection, transaction: Transaction) -> list[list[int]]:
    """Payments of each kind of entity whose latest label on the day before says fraud, by kind and window."""
    midnight = transaction.timestamp.replace(hour=0, minute=0, second=0, microsecond=0)
    known = connection.execute(
        f"""
        select known_at, {", ".join(FIELDS.values())} from (
            select distinct on (transaction_id) l.is_fraud, l.known_at, t.*
            from shop.fraud_transactions l join shop.transactions t using (transaction_id)
            where l.known_at < %s order by transaction_id, l.known_at desc) known
        where is_fraud""",
        (midnight,),
    ).fetchall()
    named = [(at, entities.named(dict(zip(FIELDS.values(), texts, strict=True)))) for at, *texts in known]
    ours = entities.entities_of(transaction)
    return [
        [
            sum(kind == "shop" or (kind in ours and theirs.get(kind) == ours[kind]) for at, theirs in named
                if at >= midnight - timedelta(days=window))
            for window in WINDOWS
        ]
        for kind in KINDS
    ]  # fmt: skip


def test_a_recomputation_gives_what_the_log_gives_in_one_go(world, monkeypatch):
    monkeypatch.setattr(recompute, "BATCH", 700)
    rows = recomputed(world)
    seen = 0
    with psycopg.connect(world.conninfo("owner")) as connection:
        names = ", ".join(
            name if name != "amount" else "amount::float8" for name in Transaction.__struct_fields__
        )
        for partition in range(stored_world.PARTITIONS):
            stored = connection.execute(
                f"select shop.event_key(transaction_id, timestamp), {names} from shop.transactions "
                'where partition = %s order by "offset"',
                (partition,),
            ).fetchall()
            transactions = [Transaction(*row[1:]) for row in stored]
            customers, customer = np.unique([t.user_id for t in transactions], return_inverse=True)
            given = np.array([t.merchant_id is not None for t in transactions])
            merchants, merchant = np.unique([t.merchant_id or "" for t in transactions], return_inverse=True)
            columns = behaviour.columns(transactions)
            values, day_of = closed_days.values_of(columns.entities)
            expected = behaviour.compute(
                behaviour.new_state(len(customers)), customer, columns,
                behaviour.new_merchant_state(len(merchants)), np.where(given, merchant, -1),
                np.array([known_frauds(connection, transaction) for transaction in transactions]),
                behaviour.new_day_state(len(values)), day_of,
            )  # fmt: skip
            seen += (
                expected[
                    :, [behaviour.FEATURES.index(name) for name in (*KNOWN_FRAUD_FEATURES, *LIFT_FEATURES)]
                ].max(axis=0)
                > 0
            ).all()
            at = {key: i for i, key in enumerate(rows.key.tolist())}
            assert (rows.features[[at[row[0]] for row in stored]] == expected).all()
    assert seen == stored_world.PARTITIONS
    assert (np.diff(rows.timestamp) >= 0).all()
    assert np.isnan(rows.score).all() and not rows.alert.any()


def test_a_range_or_a_share_has_the_vectors_that_the_whole_has(world):
    whole = recomputed(world)
    vectors = dict(zip(whole.key.tolist(), whole.features, strict=True))
    last_days = recomputed(world, stored_world.END - timedelta(days=4), stored_world.END - timedelta(days=1))
    some = recomputed(world, share=0.4)
    for part in (last_days, some):
        assert 0 < len(part) < len(whole)
        assert all(
            (vectors[key] == vector).all()
            for key, vector in zip(part.key.tolist(), part.features, strict=True)
        )
    assert len(np.unique(some.user)) < len(np.unique(whole.user))


def test_nothing_stored_is_no_row(clean_postgres):
    assert len(recomputed(clean_postgres)) == 0
    assert recomputed(clean_postgres).features.shape == (0, len(behaviour.FEATURES))
