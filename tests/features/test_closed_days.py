"""Counts of closed days: what a row sees, late rows, batches."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from include.features import behaviour, closed_days
from include.features.closed_days import COUNTED, DAY, MEMORY
from include.features.entities import Coded, coded

VALUES = 7  # states: the shop's, those of three categories, those of three countries

rows_of_a_partition = st.lists(
    st.tuples(st.integers(0, 40 * 24), st.integers(-1, 2), st.integers(-1, 2)), max_size=50
)


def built(rows):
    """Codes and times of rows (hour, category, country)."""
    codes = np.full((len(rows), len(COUNTED)), -1)
    for row, (_, *values) in enumerate(rows):
        codes[row, :3] = [0, *(1 + 3 * i + v if v >= 0 else -1 for i, v in enumerate(values))]
    return codes, np.array([hour for hour, *_ in rows], np.int64) * (DAY // 24)


@settings(max_examples=100, deadline=None)
@given(rows=rows_of_a_partition, cuts=st.sets(st.integers(1, 49)))
def test_counts_do_not_depend_on_batches(rows, cuts):
    codes, time = built(rows)
    state, state_2 = behaviour.new_day_state(VALUES), behaviour.new_day_state(VALUES)
    at_once = closed_days.see(state, codes, time).counts
    edges = [0, *sorted(cut for cut in cuts if cut < len(rows)), len(rows)]
    pieces = [
        closed_days.see(state_2, codes[a:b], time[a:b]).counts for a, b in zip(edges, edges[1:], strict=False)
    ]
    np.testing.assert_array_equal(at_once, np.concatenate(pieces))
    assert state.tobytes() == state_2.tobytes()


@settings(max_examples=100, deadline=None)
@given(rows=rows_of_a_partition)
def test_a_row_sees_the_payments_of_the_days_before_the_newest_one(rows):
    codes, time = built(rows)
    seen, day = closed_days.see(behaviour.new_day_state(VALUES), codes, time).counts, time // DAY
    clock = np.maximum.accumulate(day)
    for row in range(len(rows)):
        before = np.flatnonzero(clock[:row] < clock[row])  # a late one counts with the day that was open
        weight = np.exp((day[before] + 1 - clock[row]) / MEMORY)
        for column, value in enumerate(codes[row]):
            expected = weight[(codes[before] == value).any(axis=1)].sum() if value >= 0 else 0
            assert seen[row, column] == pytest.approx(expected, rel=1e-9)


def test_the_order_within_a_day_does_not_matter():
    codes, time = built([(30, 0, 1), (26, 1, 1), (25, -1, 0), (60, 0, 1)])
    one, other = behaviour.new_day_state(VALUES), behaviour.new_day_state(VALUES)
    seen = closed_days.see(one, codes, time).counts
    again = closed_days.see(other, codes[[2, 0, 1, 3]], time[[2, 0, 1, 3]]).counts
    assert seen[3, :3].tolist() == again[3, :3].tolist() == [3, 1, 2]


def test_values_of_two_kinds_are_two_values():
    kinds = {
        "shop": Coded([""], np.zeros(2, int)),
        "category": coded(["kenya", None]),
        "country": coded(["kenya", "japan"]),
    }
    values, codes = closed_days.values_of(kinds)
    assert values == ["shop:", "category:kenya", "country:kenya", "country:japan"]
    assert codes[:, :3].tolist() == [[0, 1, 2], [0, -1, 3]] and (codes[:, 3:] == -1).all()
