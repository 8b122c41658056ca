"""What decode_label accepts and rejects; strictness as such is tested with transactions."""

from __future__ import annotations

import json
import re
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.events.label import WHO, Label, decode_label, encode_label
from include.events.transaction import Reason, Rejected
from include.features import entities
from include.settings import PROJECT_ROOT
from tests.builders import ABSENT, NOW, label, label_bytes, label_event
from tests.fuzz_messages import messages

TOLERANCE = timedelta(minutes=5)


def read(value: bytes | None) -> Label:
    return decode_label(value, NOW, max_bytes=65_536, future_tolerance=TOLERANCE)


VALID = label_bytes()

REJECTED = {
    "tombstone": (None, Reason.TOMBSTONE),
    "empty": (b"", Reason.INVALID_JSON),
    "truncated": (VALID[:-1], Reason.INVALID_JSON),
    "array": (b"[]", Reason.NOT_AN_OBJECT),
    "a transaction": (b'{"transaction_id": "t", "user_id": "u", "amount": 1}', Reason.MISSING_FIELD),
    "UTF-16": (VALID.decode().encode("utf-16"), Reason.INVALID_ENCODING),
    "key twice": (VALID[:-1] + b', "is_fraud": false}', Reason.DUPLICATE_KEY),
    "key twice, no scenario": (
        label_bytes(scenario_id=ABSENT)[:-1] + b', "is_fraud": false}',
        Reason.DUPLICATE_KEY,
    ),
    "key twice, not fraud": (
        label_bytes(is_fraud=False)[:-1] + b', "is_fraud": false}',
        Reason.DUPLICATE_KEY,
    ),
    "too large": (label_bytes(extra="x" * 70_000), Reason.TOO_LARGE),
    "deep": (VALID[:-1] + b', "extra": ' + b"[" * 40 + b"]" * 40 + b"}", Reason.TOO_DEEP),
    "NUL": (VALID.replace(b"card_testing", rb"card\u0000testing"), Reason.INVALID_TEXT),
    "lone surrogate": (VALID.replace(b"card_testing", rb"\ud800"), Reason.INVALID_TEXT),
    **{
        f"{field} {what}": (label_bytes(**{field: value}), Reason.MISSING_FIELD)
        for field in ("transaction_id", "timestamp", "is_fraud", "known_at")
        for what, value in {"missing": ABSENT, "null": None}.items()
    },
    "id blank": (label_bytes(transaction_id=""), Reason.BLANK),
    "id white space": (label_bytes(transaction_id="  "), Reason.BLANK),
    "id too long": (label_bytes(transaction_id="x" * 129), Reason.TOO_LONG),
    "merchant too long": (label_bytes(merchant_id="x" * 129), Reason.TOO_LONG),
    "scenario too long": (label_bytes(scenario_id="x" * 129), Reason.TOO_LONG),
    "is_fraud a number": (label_bytes(is_fraud=1), Reason.WRONG_TYPE),
    "is_fraud in quotes": (label_bytes(is_fraud="true"), Reason.WRONG_TYPE),
    "timestamp a number": (label_bytes(timestamp=1_763_640_000), Reason.WRONG_TYPE),
    "30 February": (label_bytes(timestamp="2026-02-30T00:00:00Z"), Reason.INVALID_TIMESTAMP),
    "timestamp in 1970": (label_bytes(timestamp="1970-01-21T00:00:00Z"), Reason.INVALID_TIMESTAMP),
    "timestamp ahead": (label_bytes(timestamp=NOW + timedelta(minutes=6)), Reason.IN_THE_FUTURE),
    "known_at in 1970": (label_bytes(known_at="1970-01-21T00:00:00Z"), Reason.INVALID_TIMESTAMP),
    "known_at infinity": (label_bytes(known_at="infinity"), Reason.INVALID_TIMESTAMP),
    "known_at in 2201": (label_bytes(known_at="2201-01-01T00:00:00Z"), Reason.IN_THE_FUTURE),
    "known_at at the end of time": (label_bytes(known_at="9999-12-31T23:59:59-14:00"), Reason.IN_THE_FUTURE),
}


@pytest.mark.parametrize(("value", "reason"), REJECTED.values(), ids=REJECTED)
def test_bad_input_is_rejected_with_its_reason(value, reason):
    with pytest.raises(Rejected) as caught:
        read(value)
    assert caught.value.reason is reason


def test_a_whole_label_is_read():
    who = {"source": "analyst", "reported_by": "Ada", "label_id": "verdict-17"}
    content = label_event(transaction_id="one", **who)
    assert read(json.dumps(content).encode()) == Label(
        "one", NOW, True, NOW + timedelta(days=1), "card_testing",
        "user-0001", "merchant-0001", "iPhone 15", "groceries", "Germany",
        *([None] * 4), "analyst", "Ada", "verdict-17",
    )  # fmt: skip


def test_only_the_scenario_who_reported_and_what_is_the_transactions_may_be_missing():
    optional = ("scenario_id", *entities.FIELDS.values(), *WHO)
    for missing in (ABSENT, None):
        decoded = read(label_bytes(**dict.fromkeys(optional, missing), is_fraud=False))
        assert [getattr(decoded, name) for name in optional] == [None] * len(optional)
        assert decoded.is_fraud is False


def test_known_at_may_lie_in_the_future():
    for known_at in (NOW + timedelta(days=400), NOW - timedelta(days=400)):
        assert read(label_bytes(known_at=known_at)).known_at == known_at


def test_times_become_utc():
    decoded = read(label_bytes(timestamp="2026-11-20T12:00:00+05:30", known_at="2026-11-25 08:00:00"))
    assert decoded.timestamp == datetime(2026, 11, 20, 6, 30, tzinfo=UTC)
    assert decoded.known_at == datetime(2026, 11, 25, 8, tzinfo=UTC)
    assert decoded.timestamp.tzinfo is UTC and decoded.known_at.tzinfo is UTC


def test_unknown_fields_are_accepted():
    assert read(label_bytes(transaction_id="one", bank="b", more={"a": 1})).transaction_id == "one"


@given(
    st.booleans(),
    st.fixed_dictionaries(
        {}, optional=dict.fromkeys(("scenario_id", *entities.FIELDS.values()), st.just("a, b"))
    ),
)
def test_encode_and_decode_are_inverse(is_fraud, fields):
    original = label(is_fraud=is_fraud, **fields)
    assert read(encode_label(original)) == original


def test_fields_are_the_columns_of_the_table():
    sql = Path(PROJECT_ROOT / "include/sql/migrations/0001.tables.sql").read_text()
    body = re.search(r"create table shop\.fraud_transactions \((.*?)primary key", sql, re.DOTALL)[1]
    columns = re.findall(r"^ +(\w+) ", body, re.MULTILINE)
    later = Path(PROJECT_ROOT / "include/sql/migrations/0017.verdict_labels.sql").read_text()
    added = re.findall(
        r"add column (\w+)", re.search(r"alter table shop\.fraud_transactions(.*?);", later, re.DOTALL)[1]
    )
    assert [*columns, *entities.FIELDS.values(), *added] == list(Label.__struct_fields__)


def test_10000_mutated_labels_are_decoded_or_rejected():
    counts = Counter()
    for _, value in messages(10_000, seed=2, of=label_event):
        try:
            read(value)
            counts["decoded"] += 1
        except Rejected as error:
            counts[error.reason] += 1
    assert counts.total() == 10_000
    assert 0.3 < counts["decoded"] / 10_000 < 0.7
    assert len(counts) > 12
