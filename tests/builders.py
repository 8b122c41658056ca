"""Rows for tests: valid unless a test says otherwise."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

from include.events.label import Label
from include.events.transaction import FIELDS as DECLARED
from include.events.transaction import Transaction

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
_numbers = count(1)

FIELDS = {field.name: field.example for field in DECLARED if field.name != "transaction_id"} | {
    "timestamp": NOW
}
ABSENT = object()


def _new_id() -> str:
    return f"transaction-{next(_numbers):06d}"


def transaction(**fields: Any) -> Transaction:
    """A transaction at `NOW` with an id of its own, changed by fields."""
    return Transaction(**{"transaction_id": _new_id(), **FIELDS, **fields})


def event(**fields: Any) -> dict[str, Any]:
    """The JSON object of a transaction's event; a field that is `ABSENT` is left out."""
    content = {"transaction_id": _new_id(), **FIELDS, **fields}
    return {name: _text(value) for name, value in content.items() if value is not ABSENT}


def event_bytes(**fields: Any) -> bytes:
    """The event of a transaction as it lies in Kafka; fields may be anything that JSON can write."""
    return json.dumps(event(**fields), ensure_ascii=False).encode()


def label(**fields: Any) -> Label:
    """A label of fraud, known a day after its transaction, changed by fields."""
    content = {"transaction_id": _new_id(), "timestamp": NOW, "is_fraud": True}
    return Label(**{**content, "known_at": NOW + timedelta(days=1), "scenario_id": None, **fields})


def label_event(**fields: Any) -> dict[str, Any]:
    """The JSON object of a label's event; a field that is `ABSENT` is left out."""
    content = {"transaction_id": _new_id(), "user_id": "user-0001", "timestamp": NOW, "is_fraud": True}
    content |= {"known_at": NOW + timedelta(days=1), "scenario_id": "card_testing"}
    content |= {name: FIELDS[name] for name in ("device", "merchant_category", "transaction_location")}
    content |= {"merchant_id": "merchant-0001", **fields}
    return {name: _text(value) for name, value in content.items() if value is not ABSENT}


def label_bytes(**fields: Any) -> bytes:
    """The event of a label as it lies in Kafka."""
    return json.dumps(label_event(**fields), ensure_ascii=False).encode()


def _text(value: object) -> object:
    return value.isoformat() if isinstance(value, datetime) else value
