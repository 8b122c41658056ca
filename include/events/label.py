"""Ground truth that arrives later than its transaction: the declaration of a label and its strict reading."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated

import msgspec

from include.events.fields import about, event_struct
from include.events.strict_json import Reason, Rejected, StrictReader, event_time
from include.events.transaction import CATEGORIES, Id, Text

__all__ = ["ANALYST", "Label", "decode_label", "encode_label", "rank"]

ANALYST = "analyst"  # the source of a verdict
WHO = ("source", "reported_by", "label_id")  # fields of who reported it
LATEST = datetime(2200, 1, 1, tzinfo=UTC)


class Label(msgspec.Struct, gc=False):
    """What is known about a transaction since known_at; a corrected label has a later known_at.

    timestamp is the transaction's own time; both times are aware and in UTC. scenario_id names the simulated
    kind of fraud, if any. source, reported_by and label_id say who reported it; without a source it is the bank. The
    other fields that may be missing are the transaction's, for what is known of fraud.
    """

    transaction_id: Annotated[Id, about("9d8f0c1e")]
    timestamp: Annotated[
        datetime,
        about(datetime(2026, 11, 20, 12, tzinfo=UTC), limit="the transaction's own, with the same limits"),
    ]
    is_fraud: Annotated[bool, about(True)]
    known_at: Annotated[
        datetime,
        about(
            datetime(2026, 11, 23, 8, 15, tzinfo=UTC),
            limit=f"from the year 2000 to {LATEST.year}; it may lie in the future",
        ),
    ]
    scenario_id: Annotated[Id | None, about("card_testing")] = None
    user_id: Annotated[Id | None, about("user-0001")] = None
    merchant_id: Annotated[Id | None, about("merchant-0001")] = None
    device: Annotated[Text | None, about("iPhone 15")] = None
    merchant_category: Annotated[Text | None, about("groceries")] = None
    transaction_location: Annotated[Text | None, about("Germany")] = None
    category_1: Annotated[Text | None, about("mail.example")] = None
    category_2: Annotated[Text | None, about("debit")] = None
    category_3: Annotated[Text | None, about("chip")] = None
    category_4: Annotated[Text | None, about("web")] = None
    source: Annotated[Id | None, about("analyst")] = None
    reported_by: Annotated[Text | None, about("Ada")] = None
    label_id: Annotated[Id | None, about("verdict-17")] = None


_READER = StrictReader(event_struct(Label), seldom=len(CATEGORIES) + len(WHO))


def decode_label(
    value: bytes | None, broker_time: datetime, *, max_bytes: int, future_tolerance: timedelta
) -> Label:
    """The label of a Kafka record; unlike its timestamp, known_at may lie in the future.

    Args:
        value: the record's value, untouched.
        broker_time: the record's Kafka timestamp (aware).
        max_bytes: the longest value that is read at all.
        future_tolerance: how far ahead of broker_time the transaction's timestamp may be.

    Raises:
        Rejected: for every value that breaks a rule of docs/events.md; nothing else is raised for any bytes.
    """
    fields, _ = _READER.read(value, max_bytes)
    transaction_id, timestamp, known_at, *others, is_fraud = fields
    if transaction_id.isspace():
        raise Rejected(Reason.BLANK, "transaction_id: only white space")
    timestamp = event_time("timestamp", timestamp, broker_time + future_tolerance)
    known_at = event_time("known_at", known_at, LATEST)
    return Label(transaction_id, timestamp, is_fraud, known_at, *others)


def rank(source: str | None, known_at: datetime) -> tuple[bool, datetime]:
    """The order of an event's labels, of which the highest counts: an analyst's before others, then the earlier ones.

    >>> early, late = datetime(2026, 11, 20, tzinfo=UTC), datetime(2026, 11, 23, tzinfo=UTC)
    >>> rank("analyst", early) < rank("analyst", late) < rank(None, early) < rank("chargeback", late)
    True
    """
    return source != ANALYST, known_at


def encode_label(label: Label) -> bytes:
    """The event of a label as JSON; fields that are None are left out."""
    event = msgspec.structs.asdict(label)
    return msgspec.json.encode({name: value for name, value in event.items() if value is not None})
