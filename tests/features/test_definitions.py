"""Each feature has one entry; documentation and vectors agree with it."""

from __future__ import annotations

import re

import numpy as np
import pytest

from include.events.transaction import CATEGORIES, NUMBERS
from include.features import behaviour, closed_days
from include.features.definitions import (
    CUSTOMER_FEATURES,
    DEFINITIONS,
    EXTRA_FEATURES,
    FEATURES,
    KNOWN_FRAUD_FEATURES,
    LIFT_FEATURES,
    MERCHANT_FEATURES,
    NEUTRAL,
    PARTITION_FEATURES,
    SUSPICIOUS,
    Feature,
)
from include.features.entities import KINDS
from include.features.known_frauds import WINDOWS
from include.settings import PROJECT_ROOT
from tests.builders import transaction


def row(feature: Feature) -> str:
    """The line of a feature in the table of docs/features.md."""
    neutral = "the payment's" if feature.neutral is None else f"{feature.neutral:.8g}"
    return f"| `{feature.name}` | {feature.formula} | {feature.unit} | {neutral} |"


def test_the_table_of_features_is_that_of_the_definitions():
    text = (PROJECT_ROOT / "docs" / "features.md").read_text()
    expected = list(map(row, DEFINITIONS))
    assert re.findall(r"^\| `\w+` \| .*", text, re.MULTILINE) == expected, "\n".join(expected)


def test_names_are_distinct_and_merchants_features_are_named_so():
    assert len(set(FEATURES)) == len(FEATURES)
    groups = (*CUSTOMER_FEATURES, *MERCHANT_FEATURES, *LIFT_FEATURES, *KNOWN_FRAUD_FEATURES, *EXTRA_FEATURES)
    assert groups == FEATURES
    own = {*(f"{name}_ratio" for name in NUMBERS), *(f"new_{name}" for name in CATEGORIES)}
    assert set(PARTITION_FEATURES) == {*MERCHANT_FEATURES, *LIFT_FEATURES, *EXTRA_FEATURES} - own
    assert all(name.startswith("merchant_") for name in MERCHANT_FEATURES)
    assert set(SUSPICIOUS) <= set(FEATURES)


def test_a_first_payment_with_nothing_unusual_has_neutral_values():
    columns, one = behaviour.columns([transaction()]), np.zeros(1, int)
    without_merchants = behaviour.compute(behaviour.new_state(1), one, columns)
    values, day_of = closed_days.values_of(columns.entities)
    new_merchant = behaviour.compute(
        behaviour.new_state(1), one, columns, behaviour.new_merchant_state(1), one,
        np.zeros((1, len(KINDS), len(WINDOWS))), behaviour.new_day_state(len(values)), day_of,
    )  # fmt: skip
    given = ~np.isnan(NEUTRAL)
    assert [feature.name for feature in DEFINITIONS if feature.neutral is None] == [
        "amount",
        "hour",
        "weekday",
    ]
    for vectors in (without_merchants, new_merchant):
        assert vectors[0, given] == pytest.approx(NEUTRAL[given], rel=1e-6)
