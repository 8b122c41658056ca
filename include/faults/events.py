"""The campaign's events: what number i is depends on the seed and i alone, so that a killed producer can go on.

Most are new transactions. Some are earlier ones again, in another form (duplicates) or with another amount
(conflicts), some break a rule (poison), some are days late, some are labels.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from datetime import datetime, timedelta
from enum import Enum
from functools import lru_cache
from typing import Any, NamedTuple

CUSTOMERS, MERCHANTS = 2_000, 200
COUNTRIES = ("Germany", "France", "Spain", "Japan", "Brazil")
IN_LABELS = ("transaction_id", "user_id", "timestamp", "merchant_id", "device", "transaction_location")
DEVICES = ("iPhone 15", "Pixel 8", "ThinkPad X1", "Galaxy S24")


class EventKind(Enum):
    NEW = "new"
    DUPLICATE = "duplicate"
    CONFLICT = "conflict"
    POISON = "poison"
    LABEL = "label"
    POISON_LABEL = "poison label"


SHARES = {
    EventKind.NEW: 86,
    EventKind.DUPLICATE: 4,
    EventKind.CONFLICT: 2,
    EventKind.POISON: 4,
    EventKind.LABEL: 3.5,
    EventKind.POISON_LABEL: 0.5,
}
LATE, WITH_TRUTH = 0.03, 0.1  # shares of the new ones


class Event(NamedTuple):
    """A record to send.

    transaction_id: the transaction that it is or speaks of; None for poison.
    content: equal for two events with the same id exactly when one duplicates the other.
    known_at: of the label that it makes, ISO 8601; None when it makes none.
    """

    number: int
    kind: EventKind
    key: bytes
    value: bytes | None
    transaction_id: str | None = None
    content: str = ""
    known_at: str | None = None

    @property
    def is_label(self) -> bool:
        return self.kind in (EventKind.LABEL, EventKind.POISON_LABEL)


class Events:
    """The endless sequence of events of a seed.

    Args:
        start: event time of the first one, aware; each is a hundredth of a second after the one before.
    """

    def __init__(self, seed: int, start: datetime):
        self.seed, self.start = seed, start
        self._new = lru_cache(10_000)(self._make)

    def event(self, number: int) -> Event:
        kind = self._kind(number)
        rng = self._random(number, "event")
        if kind is EventKind.NEW:
            return self._event(number, kind, self._new(number), self._new(number))
        if kind is EventKind.POISON:
            fields = self._new(number)
            return Event(number, kind, fields["user_id"].encode(), rng.choice(POISON)(fields))
        if kind is EventKind.POISON_LABEL:
            fields = self._new(number)
            return Event(number, kind, fields["user_id"].encode(), b'{"is_fraud": true}')
        fields = self._new(self._earlier(number, rng))
        if kind is EventKind.DUPLICATE:
            return self._event(number, kind, dict(reversed(fields.items())), fields, indent=1)
        if kind is EventKind.CONFLICT:
            other = fields | {"amount": round(fields["amount"] + 1, 2)}
            return self._event(number, kind, other, other)
        label = self._label(fields, timedelta(days=1, microseconds=number), rng.random() < 0.2)
        return self._event(number, kind, label, label)

    def aborted(self, number: int) -> Event:
        """What an aborted transaction holds beside event i, of the same topic: a payment or a label of its own.

        Nothing of it is ever sent in another way, so that one that is stored shows.
        """
        rng = self._random(number, "aborted")
        if self._kind(number) in (EventKind.LABEL, EventKind.POISON_LABEL):
            fields = self._new(self._earlier(number, rng))
            label = self._label(fields, timedelta(days=2, microseconds=number), is_fraud=True)
            return self._event(number, EventKind.LABEL, label, label)
        fields = self._new(number) | {"transaction_id": f"aborted-{self.seed}-{number}"}
        return self._event(number, EventKind.NEW, fields, fields)

    @staticmethod
    def _label(fields: dict[str, Any], delay: timedelta, is_fraud: bool) -> dict[str, Any]:
        label = {name: fields[name] for name in IN_LABELS}
        known_at = datetime.fromisoformat(fields["timestamp"]) + delay
        return label | {"is_fraud": is_fraud, "known_at": known_at.isoformat()}

    @staticmethod
    def _event(
        number: int,
        kind: EventKind,
        fields: dict[str, Any],
        content: dict[str, Any],
        indent: int | None = None,
    ) -> Event:
        value = json.dumps(fields, indent=indent).encode()
        known_at = fields.get("known_at", fields["timestamp"]) if "is_fraud" in fields else None
        key, content_text = fields["user_id"].encode(), json.dumps(content)
        return Event(number, kind, key, value, fields["transaction_id"], content_text, known_at)

    def _random(self, number: int, purpose: str) -> random.Random:
        return random.Random(f"{self.seed} {number} {purpose}")

    def _kind(self, number: int) -> EventKind:
        if number == 0:
            return EventKind.NEW
        return self._random(number, "kind").choices(list(SHARES), list(SHARES.values()))[0]

    def _earlier(self, number: int, rng: random.Random) -> int:
        """The number of a new transaction before this one, mostly a recent one."""
        earlier = max(0, number - 1 - int(rng.expovariate(1 / 200)))
        while self._kind(earlier) is not EventKind.NEW:
            earlier -= 1
        return earlier

    def _make(self, number: int) -> dict[str, Any]:
        rng = self._random(number, "transaction")
        at = self.start + timedelta(milliseconds=10 * number)
        if rng.random() < LATE:
            at -= timedelta(days=rng.uniform(2, 5))
        customer, country = rng.randrange(CUSTOMERS), rng.choice(COUNTRIES)
        fields = {
            "transaction_id": f"campaign-{self.seed}-{number}",
            "user_id": f"customer-{customer:04d}",
            "timestamp": at.isoformat(),
            "full_name": f"Customer {customer}",
            "email": f"customer-{customer}@example.com",
            "location": COUNTRIES[customer % len(COUNTRIES)],
            "transaction_location": country,
            "amount": round(rng.lognormvariate(3, 1), 2),
            "device": rng.choice(DEVICES),
            "merchant_id": f"merchant-{rng.randrange(MERCHANTS):03d}",
            "currency": "EUR",
        }
        if rng.random() < WITH_TRUTH:
            fields["is_fraud"] = rng.random() < 0.2
        return fields


def _with(**changes: object) -> Callable[[dict[str, Any]], bytes]:
    return lambda fields: json.dumps(fields | changes).encode()


POISON: tuple[Callable[[dict[str, Any]], bytes | None], ...] = (
    lambda fields: None,
    lambda fields: b"",
    lambda fields: b"\xff\xfe\x00",
    lambda fields: b"[]",
    lambda fields: json.dumps(fields).encode()[:-7],
    lambda fields: json.dumps(fields).encode()[:-1] + b', "user_id": "customer-0000"}',
    _with(amount=-1),
    _with(amount=True),
    _with(amount=float("nan")),
    _with(amount=1.005),
    _with(transaction_id=None),
    _with(timestamp="2026-02-30T00:00:00Z"),
    _with(timestamp="2199-01-01T00:00:00Z"),
    _with(device="\0"),
)
