"""Behaviour features: meaning, neutral values, order, batches, missing fields."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from include.events.transaction import CATEGORIES, NUMBERS
from include.features import behaviour, closed_days
from include.features.aggregates import CUSTOMER, DAY, HOUR
from include.features.behaviour import FEATURES
from include.features.definitions import MERCHANT_FEATURES
from include.features.entities import KINDS
from include.features.geography import country_of
from include.features.known_frauds import WINDOWS
from tests.builders import NOW, transaction

START = NOW - timedelta(days=60)


NO_EXTRAS = dict.fromkeys((*NUMBERS, *CATEGORIES))


def at(seconds: float, **fields):
    """A transaction so many seconds after START."""
    return transaction(timestamp=START + timedelta(seconds=seconds), **fields)


def vectors(rows, state=None, users=None, merchants=None):
    """Feature vectors of rows as dictionaries; of one customer unless `users` says otherwise."""
    state = behaviour.new_state(1) if state is None else state
    users = np.zeros(len(rows), int) if users is None else users
    result = behaviour.compute(state, users, behaviour.columns(rows), merchants, merchants and users)
    return [dict(zip(FEATURES, vector.tolist(), strict=True)) for vector in result]


def habit(days: int = 40, **fields):
    """A customer's daily payments of 50 at noon."""
    return [at(day * DAY, **{"amount": 50.0, **fields}) for day in range(days)]


def last(rows, name):
    return vectors(rows)[-1][name]


# One customer of any behaviour: distinct times, because at equal times the first that arrived stays.
rows_of_a_customer = st.lists(
    st.tuples(
        st.integers(0, 40 * int(DAY)),
        st.floats(0, 1e6).map(lambda x: round(x, 2)),
        st.sampled_from(["phone", "tablet", None]),
        st.sampled_from(["Japan", "Nairobi, Kenya", "kenya", None]),
        st.sampled_from([f"m{i}" for i in range(24)] + [None]),
        st.sampled_from([(1.5, 36.5), (35.25, 139.5), (None, None)]),
    ),
    min_size=1,
    max_size=40,
    unique_by=lambda row: row[0],
)


def built(rows):
    return [
        at(seconds, amount=amount, device=device, transaction_location=location, merchant_id=merchant,
           latitude=position[0], longitude=position[1])
        for seconds, amount, device, location, merchant, position in rows
    ]  # fmt: skip


def kept(slots):
    return np.sort(slots, axis=-1)


@settings(max_examples=60, deadline=None)
@given(rows=rows_of_a_customer, random=st.randoms(use_true_random=False))
def test_any_order_leaves_the_same_state(rows, random):
    shuffled = random.sample(rows, len(rows))
    one, other = behaviour.new_state(1), behaviour.new_state(1)
    vectors(built(rows), one)
    vectors(built(shuffled), other)
    for name in ("layout", "count", "first", "latest", "country"):
        assert (one[name] == other[name]).all(), name
    np.testing.assert_array_equal(one["position"], other["position"])
    ordered = [quantity == "new_merchants" for quantity, _ in CUSTOMER.sums]  # which is new, the order says
    sums, others = (np.delete(state["sums"], ordered, axis=1) for state in (one, other))
    np.testing.assert_allclose(sums, others, rtol=1e-9, atol=1e-9 * (1 + sums.max()))
    np.testing.assert_array_equal(kept(one["known"]), kept(other["known"]))
    np.testing.assert_array_equal(kept(one["merchants"]), kept(other["merchants"]))


@settings(max_examples=60, deadline=None)
@given(
    rows=rows_of_a_customer,
    users=st.lists(st.integers(0, 4), min_size=40, max_size=40),
    cuts=st.sets(st.integers(1, 39)),
)
def test_vectors_do_not_depend_on_batches(rows, users, cuts):
    columns, users = behaviour.columns(built(rows)), np.array(users[: len(rows)])
    state, merchants = behaviour.new_state(5), behaviour.new_merchant_state(5)
    at_once = behaviour.compute(state, users, columns, merchants, users - 1)
    state_2, merchants_2 = behaviour.new_state(5), behaviour.new_merchant_state(5)
    edges = [0, *sorted(cut for cut in cuts if cut < len(rows)), len(rows)]
    pieces = [
        behaviour.compute(state_2, users[a:b], columns[a:b], merchants_2, users[a:b] - 1)
        for a, b in zip(edges, edges[1:], strict=False)
    ]
    np.testing.assert_array_equal(at_once, np.concatenate(pieces))
    assert np.isfinite(at_once).all()
    assert state.tobytes() == state_2.tobytes()
    assert merchants.tobytes() == merchants_2.tobytes()


@settings(max_examples=30, deadline=None)
@given(rows=rows_of_a_customer, more=rows_of_a_customer)
def test_a_row_never_sees_what_comes_after_it(rows, more):
    alone = vectors(built(rows))
    assert vectors(built(rows) + built(more))[: len(rows)] == alone


def test_customers_do_not_touch_one_another():
    rows = [row for pair in zip(habit(), habit(amount=900.0, device="tablet"), strict=True) for row in pair]
    together = vectors(rows, behaviour.new_state(2), np.arange(len(rows)) % 2)
    assert together[::2] == vectors(rows[::2])
    assert together[1::2] == vectors(rows[1::2])


def test_decayed_counts_and_sums_are_exact():
    rows = [at(seconds, amount=amount) for seconds, amount in ((0, 10.0), (1800, 30.0), (7200, 5.0))]
    state = behaviour.new_state(1)
    vectors(rows, state)
    weights = np.exp(-np.array([7200, 5400, 0]) / HOUR)
    assert state["sums"][0, 0] == pytest.approx(weights.sum())
    assert state["sums"][0, 1] == pytest.approx(weights @ [10, 30, 5])
    assert state["sums"][0, 3] == pytest.approx(weights @ np.log1p([10, 30, 5]) ** 2)
    assert last(rows, "count_1h") == pytest.approx(np.log1p(np.exp(-2) + np.exp(-1.5)))


def test_amount_against_own_habit():
    vector = vectors([*habit(), at(40 * DAY, amount=400.0)])[-1]
    assert np.exp(vector["amount_ratio"]) == pytest.approx(401 / 51, rel=1e-4)
    assert vector["amount_z"] > 5
    assert last([*habit(), at(40 * DAY, amount=50.0)], "amount_ratio") == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("new_device", {"device": "Microwave"}),
        ("new_country", {"transaction_location": "Kenya"}),
        ("new_merchant", {"merchant_id": "merchant-9"}),
        ("new_category", {"merchant_category": "jewellery"}),
    ],
)
def test_new_values(name, change):
    rows = habit()
    assert last([*rows, at(40 * DAY)], name) == 0
    assert last([*rows, at(40 * DAY, **change)], name) == pytest.approx(40 / 43)
    assert last([*rows, at(40 * DAY, **change), at(41 * DAY, **change)], name) == 0
    field = next(iter(change))
    assert last([*rows, at(40 * DAY, **{field: None})], name) == 0


def test_country_is_the_last_part_of_a_location_in_any_case():
    assert country_of("Nairobi, Kenya ") == country_of("KENYA") == "kenya"
    assert country_of(None) == country_of("") == ""
    vector = vectors([at(0, location="Kenya", transaction_location="Nairobi, kenya")])[0]
    assert vector["foreign"] == 0
    assert last([at(0, location="Kenya", transaction_location="Japan")], "foreign") == 1
    assert last([at(0, location=None, transaction_location="Japan")], "foreign") == 0


def test_two_countries_in_short_time():
    rows = [*habit(), at(40 * DAY, transaction_location="Kenya")]
    columns = behaviour.columns([*rows, at(40 * DAY + 2400, transaction_location="Osaka, Japan")])
    vector = dict(
        zip(FEATURES, behaviour.compute(behaviour.new_state(1), np.zeros(42, int), columns)[-1], strict=True)
    )
    assert vector["country_change"] == pytest.approx(np.exp(-2400 / (6 * HOUR)))
    assert columns.previous_country[-1] == b"kenya"
    assert columns.previous_country[0] == b""
    later = [*rows, at(42 * DAY, transaction_location="Japan")]
    assert last(later, "country_change") < 0.001


def test_speed_between_positions():
    berlin, nairobi = {"latitude": 52.52, "longitude": 13.405}, {"latitude": -1.286, "longitude": 36.817}
    vector = vectors([at(0, **berlin), at(HOUR, latitude=None, longitude=None), at(8 * HOUR, **nairobi)])[-1]
    assert np.expm1(vector["distance"]) == pytest.approx(6370, rel=0.01)
    assert np.expm1(vector["speed"]) == pytest.approx(6370 / 8.25, rel=0.01)
    assert np.expm1(last([at(0, **berlin), at(60, **nairobi)], "speed")) == pytest.approx(2000, rel=1e-4)
    assert last([at(0, **berlin), at(60, latitude=None, longitude=None)], "speed") == 0


def test_unusual_hours_surprise():
    noon, night = at(40 * DAY), at(40 * DAY + 12 * HOUR)
    assert last([*habit(), noon], "hour_surprise") < -0.5
    assert last([*habit(), night], "hour_surprise") > 0.5


def test_large_amount_after_tiny_ones():
    burst = [at(40 * DAY + 60 * i, amount=1.0) for i in range(5)]
    after = [*habit(), *burst, at(40 * DAY + 400, amount=700.0)]
    assert last([*habit(), *burst], "tiny_burst") > 1.5
    assert last(after, "large_after_tiny") > 5
    assert last([*habit(), at(40 * DAY, amount=700.0)], "large_after_tiny") == 0
    later = [*habit(), *burst, at(41 * DAY, amount=700.0)]
    assert last(later, "large_after_tiny") < 0.001


def test_pace_and_spending_of_the_last_hour_day_and_week():
    burst = [at(40 * DAY + 300 * i) for i in range(8)]
    vector = vectors([*habit(), *burst])[-1]
    assert vector["rate_1h"] > 1 and vector["rate_1d"] > 0.5 and vector["spend_1h"] > 1
    assert vector["gap_ratio"] < -3
    steady = vectors(habit())[-1]
    assert all(
        abs(steady[name]) < 0.35 for name in ("rate_1h", "rate_1d", "rate_7d", "spend_7d", "gap_ratio")
    )


def test_growth_step_by_step():
    steps = [at(40 * DAY + day * DAY, amount=50 * 1.1**day) for day in range(12)]
    vector = vectors([*habit(), *steps])[-1]
    assert vector["growth"] > 0.1 and vector["mean_7d"] > 0.2
    assert abs(last(habit(), "growth")) < 0.05


def test_spread_of_the_last_days():
    mixed = [at(40 * DAY + hour * HOUR, amount=[5.0, 700.0][hour % 2]) for hour in range(10)]
    assert last([*habit(), *mixed], "spread_1d") > 0.5
    assert last(habit(), "spread_1d") < 0


def test_merchant_against_its_own_habit():
    merchants = behaviour.new_merchant_state(1)
    quiet = [at(day * DAY / 4, amount=20.0) for day in range(160)]
    users = np.arange(170)
    rows = [*quiet, *[at(40 * DAY + 60 * i, amount=1.0) for i in range(9)], at(40 * DAY + 600, amount=400.0)]
    result = behaviour.compute(
        behaviour.new_state(170), users, behaviour.columns(rows), merchants, np.zeros(170, int)
    )
    usual, unusual = (dict(zip(FEATURES, result[i].tolist(), strict=True)) for i in (150, 169))
    assert unusual["merchant_amount_z"] > 3 > abs(usual["merchant_amount_z"])
    assert unusual["merchant_rate_1h"] > 1 > usual["merchant_rate_1h"]
    assert unusual["merchant_tiny"] > 1 > usual["merchant_tiny"]
    assert merchants["count"].tolist() == [170]


def test_known_frauds_are_logs_of_counts_by_kind_and_window():
    frauds = np.zeros((2, len(KINDS), len(WINDOWS)))
    frauds[1, KINDS.index("shop")] = 99
    frauds[1, KINDS.index("merchant")] = [1, 2, 5]
    frauds[1, KINDS.index("country"), 2] = 7
    result = behaviour.compute(
        behaviour.new_state(1), np.zeros(2, int), behaviour.columns([at(0), at(60)]), frauds=frauds
    )
    named = {name: result[:, column].tolist() for column, name in enumerate(FEATURES) if "_frauds_" in name}
    expected = {
        "merchant_frauds_1d": 1,
        "merchant_frauds_7d": 2,
        "merchant_frauds_30d": 5,
        "country_frauds_30d": 7,
    }
    assert named == {name: [0, float(np.float32(np.log1p(expected.get(name, 0))))] for name in named}
    assert expected.keys() < named.keys()


def lifted(rows, frauds):
    """The vectors of rows of one customer and merchant, with the shares of their values."""
    columns, one = behaviour.columns(rows), np.zeros(len(rows), int)
    values, day_of = closed_days.values_of(columns.entities)
    result = behaviour.compute(
        behaviour.new_state(1), one, columns, behaviour.new_merchant_state(1), columns.entities["merchant"].codes,
        frauds, behaviour.new_day_state(len(values)), day_of,
    )  # fmt: skip
    return [dict(zip(FEATURES, vector.tolist(), strict=True)) for vector in result]


def test_a_lift_sets_known_frauds_against_the_share_of_the_payments():
    rows = [
        at(
            day * DAY + i,
            merchant_id="m" if i == 0 else None,
            transaction_location="Kenya" if i < 2 else "Japan",
        )
        for day in range(10)
        for i in range(4)
    ]
    frauds = np.zeros((40, len(KINDS), len(WINDOWS)))
    frauds[36:, KINDS.index("shop")] = [0, 20, 40]
    frauds[36:, KINDS.index("country"), 1:] = [19, 39]
    last = lifted(rows, frauds)[36:]
    assert last[0]["country_fraud_lift_7d"] == pytest.approx(np.log((19 + 1) / (20 * 0.5 + 1)), rel=1e-6)
    assert last[0]["country_fraud_lift_30d"] == pytest.approx(np.log((39 + 1) / (40 * 0.5 + 1)), rel=1e-6)
    assert last[0]["category_fraud_lift_7d"] == pytest.approx(
        np.log(1 / 21), rel=1e-6
    )  # all payments, no fraud
    assert last[0]["merchant_fraud_lift_7d"] == pytest.approx(np.log(1 / (20 / 4 + 1)), rel=0.05)
    assert last[1]["merchant_fraud_lift_7d"] == last[1]["merchant_fraud_lift_30d"] == 0  # no merchant
    assert all(value == 0 for name, value in lifted(rows, frauds)[0].items() if "_lift_" in name)


def test_new_merchants_are_set_against_the_customers_own_share_of_them():
    usual = [at(day * DAY, merchant_id=f"m{day % 3}") for day in range(40)]
    several = [at((40 + i / 10) * DAY, merchant_id=f"new {i}") for i in range(3)]
    vector = vectors([*usual, *several])
    assert vector[39]["new_merchants_1d"] < 0.1 and abs(vector[39]["new_merchants_7d"]) < 1
    assert vector[42]["new_merchants_1d"] == pytest.approx(np.log1p(2.6), abs=0.1)
    assert vector[42]["new_merchants_7d"] > 1.5
    curious = vectors([at(day * DAY, merchant_id=f"m{day}") for day in range(43)])
    assert abs(curious[42]["new_merchants_7d"]) < 0.5 < curious[42]["new_merchants_1d"]


def test_hour_and_weekday_are_those_of_utc():
    vector = vectors([transaction(timestamp=datetime(2026, 11, 26, 22, 30, tzinfo=UTC))])[0]  # a Thursday
    assert (vector["hour"], vector["weekday"]) == (22.5, 3)


def test_rows_without_a_merchant_change_no_merchant():
    merchants = behaviour.new_merchant_state(2)
    rows = [at(0), at(60), at(120)]
    result = behaviour.compute(
        behaviour.new_state(1), np.zeros(3, int), behaviour.columns(rows), merchants, np.array([0, -1, 0])
    )
    assert merchants["count"].tolist() == [2, 0]
    assert (result[1, [FEATURES.index(name) for name in MERCHANT_FEATURES]] == 0).all()


def test_a_late_row_looks_at_the_state_as_it_stands():
    rows = [*habit(), at(39.5 * DAY, amount=400.0)]
    state = behaviour.new_state(1)
    on_time = last([*habit(), at(39 * DAY + 1, amount=400.0)], "amount_ratio")
    assert vectors(rows, state)[-1]["amount_ratio"] == pytest.approx(on_time, rel=1e-3)
    late = vectors([*habit(), at(10 * DAY, amount=400.0)])[-1]
    assert late["amount_ratio"] == pytest.approx(on_time, rel=1e-3)


def test_only_required_fields():
    bare = dict.fromkeys(
        ("device", "merchant_id", "merchant_category", "currency", "latitude", "longitude", "location",
         "transaction_location", "first_name", "last_name", "full_name", "email")
    )  # fmt: skip
    vector = vectors([at(day * DAY, amount=50.0, **bare) for day in range(5)])[-1]
    assert all(
        vector[name] == 0 for name in ("newness", "foreign", "country_change", "speed", "known_devices")
    )
    assert vector["history"] == pytest.approx(np.log1p(4))


def test_extreme_values_stay_finite():
    rows = [at(0, amount=0.0), at(0, amount=9_999_999_999.99), at(1e-6, amount=0.01), at(2.5e9, amount=1.0)]
    assert all(np.isfinite(list(vector.values())).all() for vector in vectors(rows))


def test_a_busy_customer_is_computed_like_others():
    rows = [at(60 * i, amount=float(10 + i % 7)) for i in range(500)]
    users = np.r_[np.zeros(400, int), np.arange(1, 101)]
    result = vectors(rows, behaviour.new_state(101), users)
    assert result[:400] == vectors(rows[:400])


def test_a_stored_state_is_small_and_grows_with_what_the_shop_has():
    rows = [at(day * DAY, amount=50.0, **{**NO_EXTRAS, "merchant_id": f"m{day}"}) for day in range(40)]
    state = behaviour.new_state(3)
    vectors(rows, state)
    assert all(len(stored) <= 640 for stored in behaviour.packed(state))
    assert behaviour.MERCHANT_STATE.itemsize <= 200
    assert all(len(stored) <= 24 for stored in behaviour.packed(behaviour.new_day_state(1)))
    vectors([at(60 * DAY, **{**NO_EXTRAS, "number_1": 4.0})], state)
    assert 640 < len(behaviour.packed(state)[0]) <= 720
    again = behaviour.unpacked(behaviour.packed(state), behaviour.STATE)
    assert again.tobytes() == state.tobytes()


def test_refuses_states_of_another_layout():
    state = behaviour.new_state(1)
    state["layout"] = 99
    with pytest.raises(ValueError, match="layout"):
        behaviour.compute(state, np.zeros(1, int), behaviour.columns([at(0)]))


def test_refuses_an_index_that_does_not_fit():
    with pytest.raises(ValueError, match="indices"):
        behaviour.compute(behaviour.new_state(1), np.zeros(3, int), behaviour.columns([at(0)]))


def test_no_rows():
    assert vectors([]) == []


# The shop's own numbers and categories

own_fields = st.tuples(
    st.integers(0, 40 * int(DAY)),
    st.sampled_from([None, 0.0, -5.0, 1e15, 12.5]),
    st.sampled_from([None, 3.0, 4.0]),
    st.sampled_from([None, "web", *map(str, range(12))]),
)
rows_with_own_fields = st.lists(own_fields, min_size=1, max_size=30, unique_by=lambda row: row[0])


def with_own_fields(rows):
    return [
        at(seconds, amount=50.0, **NO_EXTRAS | {"number_1": one, "number_4": other, "category_2": value})
        for seconds, one, other, value in rows
    ]


def computed(rows, users, states):
    columns = behaviour.columns(rows)
    values, day_of = closed_days.values_of(columns.entities)
    customers, days = states
    of_row = np.array([[*days].index(value) for value in values] + [-1])[day_of]
    frauds = np.ones((len(rows), len(KINDS), len(WINDOWS)))
    kept = np.concatenate(list(days.values()))
    result = behaviour.compute(customers, users, columns, frauds=frauds, day_state=kept, day_codes=of_row)
    days.update({value: kept[number : number + 1] for number, value in enumerate(days)})
    return result


def new_states(rows):
    values = closed_days.values_of(behaviour.columns(rows).entities).values
    return behaviour.new_state(3), {value: behaviour.new_day_state(1) for value in values}


@settings(max_examples=50, deadline=None)
@given(
    rows=rows_with_own_fields,
    users=st.lists(st.integers(0, 2), min_size=30, max_size=30),
    cuts=st.sets(st.integers(1, 29)),
)
def test_own_fields_do_not_depend_on_batches(rows, users, cuts):
    rows = with_own_fields(rows)
    users = np.array(users[: len(rows)])
    states, states_2 = new_states(rows), new_states(rows)
    at_once = computed(rows, users, states)
    edges = [0, *sorted(cut for cut in cuts if cut < len(rows)), len(rows)]
    pieces = [computed(rows[a:b], users[a:b], states_2) for a, b in zip(edges, edges[1:], strict=False)]
    np.testing.assert_array_equal(at_once, np.concatenate(pieces))
    assert np.isfinite(at_once).all()
    assert states[0].tobytes() == states_2[0].tobytes()
    assert all((states[1][value] == states_2[1][value]).all() for value in states[1])


@settings(max_examples=50, deadline=None)
@given(rows=rows_with_own_fields, order=st.randoms(use_true_random=False))
def test_states_of_own_fields_do_not_depend_on_the_order_of_rows(rows, order):
    rows = with_own_fields(rows)
    other = order.sample(rows, len(rows))
    state, state_2 = behaviour.new_state(1), behaviour.new_state(1)
    vectors(rows, state), vectors(other, state_2)
    assert (state["number_latest"] == state_2["number_latest"]).all()
    np.testing.assert_allclose(state["number_sums"], state_2["number_sums"], rtol=1e-9, atol=1e-12)
    assert (np.sort(state["categories"]) == np.sort(state_2["categories"])).all()


def test_a_number_is_compared_with_the_customers_own():
    rows = [at(day * DAY, **NO_EXTRAS | {"number_2": 100.0}) for day in range(20)]
    usual, without, high, negative = (
        vectors([*rows, at(21 * DAY, **NO_EXTRAS | {"number_2": x})])[-1]
        for x in (100.0, None, 807.0, -100.0)
    )
    assert usual["number_2_ratio"] == pytest.approx(0, abs=1e-6) and without["number_2_ratio"] == 0
    assert high["number_2_ratio"] == pytest.approx(np.log(808 / 101), rel=1e-6)
    assert negative["number_2_ratio"] == pytest.approx(-2 * np.log(101), rel=1e-6)
    assert high["number_1_ratio"] == high["number_2_z"] == 0  # not given; no closed days here


def test_a_number_is_compared_with_those_of_the_closed_days():
    rng = np.random.default_rng(4)
    numbers, amounts = np.expm1(rng.normal(5, 1, 400)), rng.uniform(10, 90, 400)
    rows = [
        at(i // 100 * DAY + i, amount=round(amount, 2), **NO_EXTRAS | {"number_3": number})
        for i, (number, amount) in enumerate(zip(numbers.tolist(), amounts.tolist(), strict=True))
    ]
    last = at(4 * DAY + 400, amount=5000.0, **NO_EXTRAS | {"number_3": float(np.expm1(8.0))})
    states = new_states([*rows, last])
    result = computed([*rows, last], np.arange(401) % 3, states)
    given = dict(zip(FEATURES, result[-1].tolist(), strict=True))
    weights = np.exp(-(np.arange(400) // 100)[::-1] / 30)
    for name, values, value in (
        ("number_3_z", np.log1p(numbers), 8.0),
        ("number_3_amount_z", np.log1p(amounts.round(2)) - np.log1p(numbers), np.log(5001) - 8.0),
    ):
        mean = np.average(values, weights=weights)
        variance = np.average((values - mean) ** 2, weights=weights)
        n = weights.sum()
        spread = np.sqrt((n * variance + 4 * 0.36) / (n + 4))
        assert given[name] == pytest.approx((value - mean) / spread, rel=1e-5)
    assert not result[:100, [FEATURES.index(name) for name in ("number_3_z", "number_3_amount_z")]].any()


def test_a_category_of_the_shops_own_is_new_or_rare_or_reported():
    channels = ["web"] * 36 + ["phone", None, "phone", "letter"]
    rows = [at(i // 4 * DAY + i, **NO_EXTRAS | {"category_4": channel}) for i, channel in enumerate(channels)]
    frauds = np.zeros((40, len(KINDS), len(WINDOWS)))
    frauds[36:, KINDS.index("shop")] = [0, 20, 40]
    frauds[36:, KINDS.index("category_4"), 1:] = [3, 5]
    result = [dict(zip(FEATURES, row.tolist(), strict=True)) for row in computed_with(rows, frauds)]
    assert result[0]["new_category_4"] == 0  # the first value that is known at all
    assert [row["new_category_4"] for row in result[36:]] == pytest.approx([36 / 39, 0, 0, 39 / 42], rel=1e-6)
    days = np.exp(-np.arange(9)[::-1] / 30).sum()  # nine closed days of four payments each
    assert result[36]["category_4_rarity"] == pytest.approx(np.log(4 * days + 1), rel=1e-6)
    assert result[35]["category_4_rarity"] == result[37]["category_4_rarity"] == 0
    assert result[36]["category_4_fraud_lift_7d"] == pytest.approx(np.log(4), rel=1e-6)
    assert result[36]["category_4_fraud_lift_30d"] == pytest.approx(np.log(6), rel=1e-6)
    assert result[37]["category_4_fraud_lift_30d"] == 0
    assert result[36]["category_3_fraud_lift_30d"] == result[36]["category_3_rarity"] == 0


def computed_with(rows, frauds):
    columns, one = behaviour.columns(rows), np.zeros(len(rows), int)
    values, day_of = closed_days.values_of(columns.entities)
    days = behaviour.new_day_state(len(values))
    return behaviour.compute(
        behaviour.new_state(1), one, columns, frauds=frauds, day_state=days, day_codes=day_of
    )


def test_what_no_payment_has_costs_no_state():
    rows = habit(40, **NO_EXTRAS)
    columns = behaviour.columns(rows)
    assert columns.numbers is None and not columns.entities.keys() & NO_EXTRAS.keys()
    state = behaviour.new_state(1)
    vectors(rows, state)
    assert not any(state[name].any() for name in ("number_latest", "number_sums", "categories"))
