"""Sides take turns, and the ratio says how many times faster ours is."""

from __future__ import annotations

import pytest

from include.bench.compare import Side, compare, timed


def test_sides_take_turns_and_ratios_are_per_round():
    turns, costs = (
        [],
        {"a": iter([1.0, 2.0, 4.0]), "b": iter([2.0, 1.0, 8.0]), "plain": iter([4.0, 4.0, 4.0])},
    )

    def side(name: str) -> Side:
        return Side(name, lambda: turns.append(name) or next(costs[name]))

    a, b = compare("thing", "row", [side("a"), side("b")], side("plain"), rounds=3)
    assert turns == ["a", "b", "plain", "plain", "b", "a", "a", "b", "plain"]
    assert (a.ours, a.other, a.item, a.rounds) == ("a", "plain", "row", 3)
    assert (a.ratio, a.lowest, a.highest) == (2.0, 1.0, 4.0)
    assert (a.ours_microseconds, a.other_microseconds) == (2e6, 4e6)
    assert (b.ratio, b.lowest, b.highest) == (2.0, 0.5, 4.0)


def test_a_cost_is_of_one_item():
    times = iter([10.0, 13.0])
    assert timed(lambda: None, 6, lambda: next(times)) == pytest.approx(0.5)
