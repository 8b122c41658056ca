"""Alerts for people to read."""

from __future__ import annotations

from functools import partial

from include.bench import alerts
from include.bench.worlds import bank


def test_each_alert_is_a_line_with_its_truth_and_its_reasons():
    lines = list(alerts.table(4, seed=3, makers={"bank": partial(bank.simulate, payments=6_000)}))
    assert len(lines) == 2 + 4
    for line in lines[2:]:
        world, family, truth, texts = (cell.strip() for cell in line.strip("|").split("|"))
        assert world == "bank" and family in ("isolation_forest", "gradient_boosting")
        assert truth in ("fraud", "honest") and texts
