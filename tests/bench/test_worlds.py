"""Each world is a shop of its own: repeatable, in order of time, readable as transactions, given away by no field."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pytest

from include.bench.worlds import WORLDS
from include.bench.worlds.history import DAY, Reports, history, names
from include.events.transaction import decode, encode
from include.training.evaluation import Ranking

PAYMENTS = 8_000
DAY_LONG = timedelta(days=1)


@pytest.fixture(scope="module", params=sorted(WORLDS))
def made(request):
    name = request.param
    return name, WORLDS[name](5, PAYMENTS)


def test_a_world_is_made_from_its_seed(made):
    name, world = made
    again, other = WORLDS[name](5, PAYMENTS), WORLDS[name](6, PAYMENTS)
    assert np.array_equal(again.time, world.time) and np.array_equal(
        again.labels.known_at, world.labels.known_at
    )
    assert all(np.array_equal(again.fields[field], world.fields[field]) for field in world.fields)
    assert not np.array_equal(other.fields["amount"], world.fields["amount"])


def test_transactions_are_in_order_and_such_as_the_platform_accepts(made):
    _, world = made
    assert (np.diff(world.time) >= 0).all() and len(world) == pytest.approx(PAYMENTS, rel=0.03)
    for transaction in world.transactions()[:: PAYMENTS // 50]:
        decoded = decode(
            encode(transaction), transaction.timestamp, max_bytes=10_000, future_tolerance=DAY_LONG
        )
        assert decoded.transaction == transaction


def test_fraud_is_rare_and_partly_known_late(made):
    _, world = made
    assert 0.001 < world.fraud.mean() < 0.035 and set(world.scenario[~world.fraud]) == {""}
    labels = world.labels
    assert (labels.known_at > world.time[labels.row]).all()
    reported = np.unique(labels.row[labels.fraud])
    assert 0.7 < np.isin(np.flatnonzero(world.fraud), reported).mean() <= 1


def test_no_number_alone_separates_fraud(made):
    name, world = made
    for field, values in ({"amount": world.fields["amount"].astype(float)} | world.numbers).items():
        for side in (1, -1):
            average_precision = Ranking(world.fraud, side * np.nan_to_num(values)).areas()[1]
            assert average_precision < 0.6, (name, field)


def test_worlds_differ_in_their_fields_and_currencies():
    shapes = {}
    for name, make in WORLDS.items():
        world = make(1, 3_000)
        shapes[name] = (frozenset(world.fields), frozenset(world.numbers), frozenset(world.categories))
    assert len(set(shapes.values())) == len(WORLDS)


def test_blocks_become_one_history_with_missing_values_and_reports():
    rng = np.random.default_rng(0)
    time = np.array([3, 1], np.int64) * DAY
    block = {"time": time, "user_id": names("u", np.array([1, 2])), "amount": np.array([5.0, 7.254]),
             "scenario": np.array(["", ""], object), "balance": np.array([1.0, 2.0])}  # fmt: skip
    fraud = {"time": time[:1] - DAY, "user_id": names("u", np.array([1])), "amount": np.array([9.0]),
             "scenario": np.array(["theft"], object), "device": np.array(["d"], object)}  # fmt: skip
    made = history([block, fraud], Reports(median=1, spread=0.1, reported=1.0), rng)
    assert made.time.tolist() == [DAY, 2 * DAY, 3 * DAY] and made.fraud.tolist() == [False, True, False]
    assert made.fields["amount"].tolist() == [7.25, 9.0, 5.0] and made.fields["device"].tolist() == [
        None,
        "d",
        None,
    ]
    assert np.isnan(made.numbers["balance"][1]) and made.categories == {}
    assert made.labels.row.tolist() == [1] and made.labels.known_at[0] > 2 * DAY
    paid = made.transactions()
    assert [transaction.device for transaction in paid] == [None, "d", None]
    assert [transaction.number_1 for transaction in paid] == [2.0, None, 1.0]
