"""The one declaration of a transaction, and the strict way from a Kafka value to it.

docs/events.md describes the rules for people who write events.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from hashlib import blake2b
from typing import Annotated, NamedTuple

import msgspec
from msgspec import Meta

from include.events.fields import about, declared, event_struct
from include.events.strict_json import Reason, Rejected, StrictReader, event_time

__all__ = [
    "CATEGORIES",
    "FIELDS",
    "NUMBERS",
    "Decoded",
    "Reason",
    "Rejected",
    "Transaction",
    "decode",
    "encode",
]

MAX_AMOUNT = Decimal("9999999999.99")  # numeric(12, 2)
_LARGEST = float(MAX_AMOUNT)

Id = Annotated[str, Meta(min_length=1, max_length=128)]
Text = Annotated[str, Meta(max_length=256)]
Email = Annotated[str, Meta(max_length=320)]
Currency = Annotated[str, Meta(pattern=r"^[A-Z]{3}\Z", description="three capital letters")]
Amount = Annotated[
    float,
    Meta(ge=0, le=_LARGEST, description=f"0 to {MAX_AMOUNT}, at most 2 decimals", extra={"decimals": 2}),
]
Latitude = Annotated[float, Meta(ge=-90, le=90)]
Longitude = Annotated[float, Meta(ge=-180, le=180)]
Number = Annotated[float, Meta(ge=-1e15, le=1e15)]

NUMBERS = ("number_1", "number_2", "number_3", "number_4")
CATEGORIES = ("category_1", "category_2", "category_3", "category_4")
"""The fields for what a shop has beside the named ones; `include.features.extra_fields` knows what it calls them."""


class Transaction(msgspec.Struct, gc=False):
    """A payment as its event tells it.

    timestamp is aware and in UTC. amount has at most 2 decimals and lies in [0, 9,999,999,999.99], so the
    float holds it exactly enough to write numeric(12, 2). latitude and longitude are degrees.

    This is the one declaration of a field. The decoder, COPY and the SQL lists of columns (include.events.rows),
    mapping files, the generator's records, the form that scores by hand and the examples of tests are made from
    it; the table, its grants and docs/events.md are compared with it. A new field is optional, stands last and has a
    migration.
    """

    transaction_id: Annotated[Id, about("9d8f0c1e")]
    user_id: Annotated[Id, about("user-0001", title="Customer")]
    timestamp: Annotated[
        datetime,
        about(
            datetime(2026, 11, 20, 12, tzinfo=UTC),
            title="Time (UTC)",
            limit="from the year 2000 to 5 minutes ahead of the broker's time",
        ),
    ]
    first_name: Annotated[Text | None, about("Ada", personal=True)]
    last_name: Annotated[Text | None, about("Byron", personal=True)]
    full_name: Annotated[Text | None, about("Ada Byron", personal=True)]
    email: Annotated[Email | None, about("ada.byron@example.com", personal=True)]
    location: Annotated[Text | None, about("Germany", title="Home")]
    transaction_location: Annotated[Text | None, about("Germany", title="Place of payment")]
    amount: Annotated[Amount, about(42.5)]
    device: Annotated[Text | None, about("iPhone 15")] = None
    merchant_id: Annotated[Id | None, about("merchant-0001", title="Merchant")] = None
    merchant_category: Annotated[Text | None, about("groceries")] = None
    currency: Annotated[Currency | None, about("EUR")] = None
    latitude: Annotated[Latitude | None, about(52.52, title="Latitude (degrees)")] = None
    longitude: Annotated[Longitude | None, about(13.405, title="Longitude (degrees)")] = None
    number_1: Annotated[Number | None, about(180.0)] = None
    number_2: Annotated[Number | None, about(3.5)] = None
    number_3: Annotated[Number | None, about(0.25)] = None
    number_4: Annotated[Number | None, about(12.0)] = None
    category_1: Annotated[Text | None, about("mail.example")] = None
    category_2: Annotated[Text | None, about("debit")] = None
    category_3: Annotated[Text | None, about("chip")] = None
    category_4: Annotated[Text | None, about("web")] = None


class TransactionEvent(Transaction):
    """What the JSON of a transaction may hold."""

    is_fraud: Annotated[
        bool | None,
        about(False, limit="ground truth: stored as a label that is known from the start; no score uses it"),
    ] = None


FIELDS = declared(Transaction)


class Decoded(NamedTuple):
    """What a Kafka value says.

    fingerprint is a signed 64-bit hash of the validated content: equal for the same content in another key
    order, spacing, escaping or UTC offset. is_fraud is ground truth that some producers add; None without it.
    """

    transaction: Transaction
    is_fraud: bool | None
    unknown_fields: int
    fingerprint: int


_READER = StrictReader(  # the amount keeps its digits
    event_struct(TransactionEvent, amount=msgspec.Raw), seldom=len(NUMBERS) + len(CATEGORIES)
)
_NAMES = Transaction.__struct_fields__
_TRANSACTION_ID, _USER_ID, _TIMESTAMP, _AMOUNT = map(
    _NAMES.index, ("transaction_id", "user_id", "timestamp", "amount")
)


def decode(
    value: bytes | None, broker_time: datetime, *, max_bytes: int, future_tolerance: timedelta
) -> Decoded:
    """The transaction of a Kafka record.

    Args:
        value: the record's value, untouched.
        broker_time: the record's Kafka timestamp (aware); the machine's own clock plays no part.
        max_bytes: the longest value that is read at all.
        future_tolerance: how far ahead of broker_time a timestamp may be.

    Raises:
        Rejected: for every value that breaks a rule of docs/events.md; nothing else is raised for any bytes.
    """
    content, unknown_fields = _READER.read(value, max_bytes)
    if content[_TRANSACTION_ID].isspace() or content[_USER_ID].isspace():
        raise Rejected(Reason.BLANK, "transaction_id or user_id: only white space")
    content[_TIMESTAMP] = event_time("timestamp", content[_TIMESTAMP], broker_time + future_tolerance)
    content[_AMOUNT] = _amount(content[_AMOUNT])
    fingerprint = _fingerprint(_NAMES, content)
    is_fraud = content.pop()
    return Decoded(Transaction(*content), is_fraud, unknown_fields, fingerprint)


def _amount(raw: msgspec.Raw | None) -> float:
    """The amount that a JSON value spells; its digits decide, not the nearest float."""
    digits = b"" if raw is None else bytes(raw)
    if len(digits) - digits.find(b".") <= 3:  # the usual form: 12 or 12.3 or 12.34
        try:
            number = float(digits)
        except ValueError:
            number = 0.0
        if 0 < number <= _LARGEST:
            return number
    return _unusual_amount(digits)


def _unusual_amount(digits: bytes) -> float:
    if not digits or digits == b"null":
        raise Rejected(Reason.MISSING_FIELD, "amount: missing or null")
    if digits[:1] not in b"-0123456789":
        raise Rejected(Reason.WRONG_TYPE, "amount: not a number")
    if len(digits) > 32:
        raise Rejected(Reason.OUT_OF_RANGE, "amount: more than 32 characters")
    number = Decimal(digits.decode())
    if not 0 <= number <= MAX_AMOUNT:
        raise Rejected(Reason.OUT_OF_RANGE, f"amount: not between 0 and {MAX_AMOUNT}")
    if number != round(number, 2):
        raise Rejected(Reason.TOO_MANY_DECIMALS, "amount: more than 2 decimals")
    return abs(float(number))


_PACK = msgspec.msgpack.Encoder().encode
_FIRST_8_BYTES = struct.Struct(">q").unpack_from
_FINGERPRINT_FIELDS = 16


def _fingerprint(names: Sequence[str], values: list[object]) -> int:
    """The signed 64-bit hash of an event's values: one for each name, then is_fraud.

    Fingerprints are stored for years, so an event must keep its own when fields are added to Transaction. The first
    16 values and is_fraud are hashed in this order, null where they are missing; the value of a field that was added
    later is hashed with its name, and not at all where it is missing.
    """
    hashed, added = values[:_FINGERPRINT_FIELDS], values[_FINGERPRINT_FIELDS:-1]
    hashed.append(values[-1])
    if added.count(None) < len(added):
        named = zip(names[_FINGERPRINT_FIELDS:], added, strict=True)
        hashed += [(name, value) for name, value in named if value is not None]
    fingerprint: int = _FIRST_8_BYTES(blake2b(_PACK(hashed)).digest())[0]
    return fingerprint


def encode(transaction: Transaction, is_fraud: bool | None = None) -> bytes:
    """The event of a transaction as JSON; fields that are None are left out."""
    event = {name: value for name, value in msgspec.structs.asdict(transaction).items() if value is not None}
    if is_fraud is not None:
        event["is_fraud"] = is_fraud
    return msgspec.json.encode(event)
