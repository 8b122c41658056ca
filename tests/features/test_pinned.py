"""Vectors and states of feature set 4 as they were computed when the set was defined.

What streams have logged and stored must stay readable and comparable: whoever changes a number here needs another
FEATURE_SET (vectors) or LAYOUT (states).
"""

from __future__ import annotations

import base64
import json
from datetime import timedelta
from pathlib import Path

import numpy as np

from include.features import behaviour, closed_days
from include.features.closed_days import DAY_STATE
from include.features.entities import KINDS
from include.features.known_frauds import WINDOWS
from tests.builders import NOW, transaction

PINNED = json.loads(Path(__file__).with_name("pinned.json").read_text())
CUSTOMERS, MERCHANTS = 3, 4
STORED = 80  # rows whose states are pinned; the vectors of the later rows are


def rows() -> list:
    """110 payments with bursts, late rows, missing fields, journeys and tiny amounts, by arithmetic alone."""
    result = []
    for i in range(110):
        days = i * 0.37 - (3.1 if i % 13 == 12 else 0) + (i % 5) * 0.002
        located = i % 7 != 3
        result.append(
            transaction(
                transaction_id=f"t{i}",
                timestamp=NOW + timedelta(microseconds=round(days * 86_400e6) + i * 1_234_567),
                amount=round(1.5 + (i * 37 % 101) * (1 + (i % 11 == 10) * 40) * 0.97, 2) if i % 9 else 2.25,
                device=f"device {i}" if i % 10 == 4 else (None, "phone", "tablet", "laptop")[i * 3 % 4],
                location="Berlin, Germany",
                transaction_location=("Germany", "Nairobi, Kenya", None, "germany", f"country {i}")[i % 5],
                merchant_id=None if i % 6 == 5 else f"m{i * i % (40 if i < 85 else 97)}",
                merchant_category=None if i % 8 == 7 else f"category {i * i % (40 if i > 90 else 7)}",
                latitude=-40 + i * 17 % 83 if located else None,
                longitude=-170 + i * 61 % 331 if located else None,
                number_1=None if i % 4 == 1 else -20.0 + i * 13 % 71,
                number_2=None if i % 2 else 1000.0 * (1 + i * i % 23),
                number_3=None,
                number_4=None,
                category_1=None if i % 3 == 2 else f"value {i * i % (5 if i < 90 else 11)}",
                category_2=None,
                category_3=None,
                category_4=f"group {i % 2 if i != 100 else i}",
            )
        )
    return result


DAYS = closed_days.values_of(behaviour.columns(rows()).entities).values


def computed(
    first: int, end: int, customers: np.ndarray, merchants: np.ndarray, days: np.ndarray
) -> np.ndarray:
    """The vectors of rows [first, end), which change the states."""
    chosen = rows()[first:end]
    number = np.arange(first, end)
    merchant_of = np.array(
        [-1 if row.merchant_id is None else int(row.merchant_id[1:]) % MERCHANTS for row in chosen]
    )
    frauds = number[:, None, None] % np.arange(4, 4 + len(KINDS))[:, None] * np.arange(1, 1 + len(WINDOWS))
    columns = behaviour.columns(chosen)
    values, day_of = closed_days.values_of(columns.entities)
    row = np.array([DAYS.index(value) for value in values] + [-1])[day_of]
    index = number * number % CUSTOMERS
    return behaviour.compute(customers, index, columns, merchants, merchant_of, frauds, days, row)


def stored(kind: str, dtype: np.dtype) -> np.ndarray:
    return np.frombuffer(base64.b64decode(PINNED[kind]), dtype).copy()


def same(ours: np.ndarray, pinned: np.ndarray) -> None:
    for name in pinned.dtype.names:
        if ours[name].dtype.kind == "f":  # another processor's exp may differ in the last bits
            np.testing.assert_allclose(ours[name], pinned[name], rtol=1e-12, atol=1e-12, err_msg=name)
        else:
            np.testing.assert_array_equal(ours[name], pinned[name], err_msg=name)


def test_states_are_those_that_were_stored():
    customers, merchants = behaviour.new_state(CUSTOMERS), behaviour.new_merchant_state(MERCHANTS)
    days = behaviour.new_day_state(len(DAYS))
    computed(0, STORED, customers, merchants, days)
    same(days, stored("days", DAY_STATE))
    same(customers, stored("customers", behaviour.STATE))
    same(merchants, stored("merchants", behaviour.MERCHANT_STATE))


def test_vectors_after_stored_states_are_those_that_were_logged():
    customers = stored("customers", behaviour.STATE)
    merchants = stored("merchants", behaviour.MERCHANT_STATE)
    vectors = computed(STORED, 110, customers, merchants, stored("days", DAY_STATE))
    assert PINNED["feature_set"] == behaviour.FEATURE_SET and PINNED["layout"] == behaviour.LAYOUT
    np.testing.assert_allclose(vectors, np.array(PINNED["vectors"], np.float32), rtol=1e-6, atol=1e-6)
