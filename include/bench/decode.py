"""The strict decoder beside `json.loads` with checks written by hand, and beside pydantic."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Annotated, Any

import msgspec
from pydantic import BaseModel, Field, create_model

from include.bench import START
from include.bench.compare import Comparison, Side, compare, timed
from include.events.transaction import MAX_AMOUNT, Transaction, decode
from include.generator.config import Config
from include.generator.profiles import simulation

NOW = START + timedelta(days=365)
LIMITS: dict[str, Any] = {"max_bytes": 65_536, "future_tolerance": timedelta(minutes=5)}
TEXTS = [
    field.name
    for field in msgspec.structs.fields(Transaction)
    if field.name not in ("timestamp", "amount", "latitude", "longitude")
]


def measure(rounds: int = 9, events: int = 5_000) -> list[Comparison]:
    """The same events on each side. Only the decoder also refuses duplicate keys and hashes the content."""
    values: list[bytes] = []
    batches = simulation(Config(rate=30.0)).live(START)
    while len(values) < events:
        values += [value for _, _, value in next(batches).transactions()]
    ours = Side(
        "include.events.transaction.decode", _reading(values, partial(decode, broker_time=NOW, **LIMITS))
    )
    by_hand = Side("json.loads and checks by hand", _reading(values, checked_by_hand))
    model = Side("pydantic", _reading(values, pydantic_model().model_validate_json))
    return [
        *compare("decode", "event", [ours], by_hand, rounds),
        *compare("decode", "event", [ours], model, rounds),
    ]


def _reading(values: list[bytes], read: Callable[[bytes], object]) -> Callable[[], float]:
    return lambda: timed(lambda: [read(value) for value in values], len(values))


def checked_by_hand(value: bytes) -> dict[str, Any]:
    """The event, or ValueError: what services usually check."""
    event: dict[str, Any] = json.loads(value)
    if not isinstance(event, dict):
        raise ValueError("not an object")
    for name in TEXTS:
        text = event.get(name)
        if text is None:
            if name in ("transaction_id", "user_id"):
                raise ValueError(f"{name} is missing")
        elif not isinstance(text, str) or len(text) > 256:
            raise ValueError(f"{name} is no text of at most 256 characters")
    amount = event.get("amount")
    if isinstance(amount, bool) or not isinstance(amount, int | float) or not 0 <= amount <= MAX_AMOUNT:
        raise ValueError("amount is out of range")
    for name, limit in (("latitude", 90), ("longitude", 180)):
        degrees = event.get(name)
        if degrees is not None and (not isinstance(degrees, int | float) or not -limit <= degrees <= limit):
            raise ValueError(f"{name} is out of range")
    timestamp = datetime.fromisoformat(event["timestamp"])
    if timestamp.tzinfo is None:
        timestamp = timestamp.replace(tzinfo=UTC)
    if timestamp > NOW:
        raise ValueError("timestamp is in the future")
    event["timestamp"] = timestamp
    return event


def pydantic_model() -> type[BaseModel]:
    """The transaction as a pydantic model with the same fields and limits."""
    text = Annotated[str, Field(max_length=256)]
    fields: dict[str, Any] = {name: (text | None, None) for name in TEXTS}
    fields |= dict.fromkeys(
        ("transaction_id", "user_id"), (Annotated[str, Field(min_length=1, max_length=128)], ...)
    )
    fields["timestamp"] = (datetime, ...)
    fields["amount"] = (Annotated[float, Field(ge=0, le=float(MAX_AMOUNT))], ...)
    fields["latitude"] = (Annotated[float, Field(ge=-90, le=90)] | None, None)
    fields["longitude"] = (Annotated[float, Field(ge=-180, le=180)] | None, None)
    model: type[BaseModel] = create_model("Event", **fields)
    return model
