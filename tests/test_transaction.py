"""What decode accepts, what it rejects and why; docs/events.md tells people the same."""

from __future__ import annotations

import json
import pickle
import re
from collections import Counter
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import msgspec
import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.settings import PROJECT_ROOT
from include.transaction import Decoded, Reason, Rejected, Transaction, decode, encode
from tests.builders import ABSENT, NOW, event, event_bytes, transaction
from tests.fuzz_messages import messages

MAX_BYTES = 65_536
TOLERANCE = timedelta(minutes=5)


def read(value: bytes | None, broker_time: datetime = NOW) -> Decoded:
    return decode(value, broker_time, max_bytes=MAX_BYTES, future_tolerance=TOLERANCE)


def rejection(value: bytes | None, broker_time: datetime = NOW) -> Rejected:
    with pytest.raises(Rejected) as caught:
        read(value, broker_time)
    return caught.value


def with_raw(field: str, json_text: bytes) -> bytes:
    """A valid event in which a field's JSON is exactly this text."""
    return event_bytes(**{field: "@@@"}).replace(b'"@@@"', json_text)


VALID = event_bytes()
DIGITS = b"9" * 5_000
DEEP = b"[" * 100_000 + b"]" * 100_000

REJECTED = {
    # not one JSON object
    "tombstone": (None, Reason.TOMBSTONE),
    "empty": (b"", Reason.INVALID_JSON),
    "white space": (b" \n\t ", Reason.INVALID_JSON),
    "truncated": (VALID[:-1], Reason.INVALID_JSON),
    "cut in a string": (VALID[:30], Reason.INVALID_JSON),
    "text after the object": (VALID + b"x", Reason.INVALID_JSON),
    "two objects": (VALID + VALID, Reason.INVALID_JSON),
    "trailing comma": (VALID[:-1] + b",}", Reason.INVALID_JSON),
    "single quotes": (VALID.replace(b'"', b"'"), Reason.INVALID_JSON),
    "comment": (b"/* event */" + VALID, Reason.INVALID_JSON),
    "raw line break in a string": (with_raw("device", b'"a\nb"'), Reason.INVALID_JSON),
    "unknown escape": (with_raw("device", rb'"\q"'), Reason.INVALID_JSON),
    "null": (b"null", Reason.NOT_AN_OBJECT),
    "array": (b"[]", Reason.NOT_AN_OBJECT),
    "array with an event": (b"[" + VALID + b"]", Reason.NOT_AN_OBJECT),
    "string": (b'"x"', Reason.NOT_AN_OBJECT),
    "number": (b"17", Reason.NOT_AN_OBJECT),
    "true": (b"true", Reason.NOT_AN_OBJECT),
    # encodings and formats
    "invalid UTF-8": (with_raw("first_name", b'"\xff"'), Reason.INVALID_ENCODING),
    "overlong UTF-8": (with_raw("first_name", b'"\xc0\x80"'), Reason.INVALID_ENCODING),
    "surrogate as UTF-8": (with_raw("first_name", b'"\xed\xa0\x80"'), Reason.INVALID_ENCODING),
    "Latin-1": (
        json.dumps(event(first_name="Zoë"), ensure_ascii=False).encode("latin-1"),
        Reason.INVALID_ENCODING,
    ),
    "invalid UTF-8 in an unknown field": (with_raw("extra", b'"\xff"'), Reason.INVALID_ENCODING),
    "invalid UTF-8 in an unknown key": (VALID[:-1] + b', "\xff": 1}', Reason.INVALID_ENCODING),
    "UTF-8 with a byte order mark": (b"\xef\xbb\xbf" + VALID, Reason.INVALID_ENCODING),
    "UTF-16": (VALID.decode().encode("utf-16"), Reason.INVALID_ENCODING),
    "UTF-16 LE": (VALID.decode().encode("utf-16-le"), Reason.INVALID_ENCODING),
    "UTF-16 BE": (VALID.decode().encode("utf-16-be"), Reason.INVALID_ENCODING),
    "UTF-32": (VALID.decode().encode("utf-32"), Reason.INVALID_ENCODING),
    "gzip": (b"\x1f\x8b\x08\x00\x00\x00\x00\x00" + VALID, Reason.INVALID_ENCODING),
    "Schema Registry": (b"\x00\x00\x00\x00\x07" + VALID, Reason.INVALID_ENCODING),
    "NUL": (with_raw("device", rb'"a\u0000b"'), Reason.INVALID_TEXT),
    "NUL in an id": (with_raw("transaction_id", rb'"\u0000"'), Reason.INVALID_TEXT),
    "raw NUL": (with_raw("device", b'"a\0b"'), Reason.INVALID_JSON),
    "lone high surrogate": (with_raw("device", rb'"\ud800"'), Reason.INVALID_TEXT),
    "lone low surrogate": (with_raw("device", rb'"\udc00 and more"'), Reason.INVALID_TEXT),
    "lone surrogate in an unknown field": (with_raw("extra", rb'"\uD800"'), Reason.INVALID_TEXT),
    # size and depth
    "1 MB field": (event_bytes(device="x" * 1_000_000), Reason.TOO_LARGE),
    "deep": (with_raw("extra", b"[" * 32 + b"]" * 32), Reason.TOO_DEEP),
    "deep objects": (with_raw("extra", b'{"a":' * 500 + b"1" + b"}" * 500), Reason.TOO_DEEP),
    # keys
    "key twice": (VALID[:-1] + b', "amount": 42.5}', Reason.DUPLICATE_KEY),
    "key twice, other value": (VALID[:-1] + b', "amount": 1}', Reason.DUPLICATE_KEY),
    "key twice, first null": (b'{"device": null, ' + VALID[1:], Reason.DUPLICATE_KEY),
    "key twice, one escaped": (VALID[:-1] + rb', "\u0061mount": 1}', Reason.DUPLICATE_KEY),
    "key twice, another absent": (event_bytes(device=ABSENT)[:-1] + b', "amount": 1}', Reason.DUPLICATE_KEY),
    "key twice, another null": (event_bytes(device=None)[:-1] + b', "amount": 1}', Reason.DUPLICATE_KEY),
    "key twice, a quote in a text": (event_bytes(device='6"')[:-1] + b', "amount": 1}', Reason.DUPLICATE_KEY),
    "unknown key twice": (VALID[:-1] + b', "extra": 1, "extra": 1}', Reason.DUPLICATE_KEY),
    "key twice inside an unknown field": (with_raw("extra", b'[{"a": 1, "a": 2}]'), Reason.DUPLICATE_KEY),
    # amounts
    "amount true": (event_bytes(amount=True), Reason.WRONG_TYPE),
    "amount in quotes": (event_bytes(amount="42.50"), Reason.WRONG_TYPE),
    "amount empty text": (event_bytes(amount=""), Reason.WRONG_TYPE),
    "amount array": (event_bytes(amount=[]), Reason.WRONG_TYPE),
    "amount object": (event_bytes(amount={}), Reason.WRONG_TYPE),
    "amount NaN": (with_raw("amount", b"NaN"), Reason.INVALID_JSON),
    "amount Infinity": (with_raw("amount", b"-Infinity"), Reason.INVALID_JSON),
    "amount NaN in quotes": (event_bytes(amount="NaN"), Reason.WRONG_TYPE),
    "amount Infinity in quotes": (event_bytes(amount="Infinity"), Reason.WRONG_TYPE),
    "amount 1e400": (with_raw("amount", b"1e400"), Reason.OUT_OF_RANGE),
    "amount 1e-400": (with_raw("amount", b"1e-400"), Reason.TOO_MANY_DECIMALS),
    "amount 1e999999999999999999": (with_raw("amount", b"1e999999999999999999"), Reason.OUT_OF_RANGE),
    "amount 5,000 digits": (with_raw("amount", DIGITS), Reason.OUT_OF_RANGE),
    "amount 5,000 decimals": (with_raw("amount", b"1." + DIGITS), Reason.OUT_OF_RANGE),
    "amount with a leading zero": (with_raw("amount", b"007"), Reason.INVALID_JSON),
    "amount hexadecimal": (with_raw("amount", b"0x10"), Reason.INVALID_JSON),
    "amount with underscore": (with_raw("amount", b"1_000"), Reason.INVALID_JSON),
    "amount -0.01": (event_bytes(amount=-0.01), Reason.OUT_OF_RANGE),
    "amount -5": (event_bytes(amount=-5), Reason.OUT_OF_RANGE),
    "amount 10,000,000,000": (event_bytes(amount=10_000_000_000), Reason.OUT_OF_RANGE),
    "amount 99,999,999,999.9": (with_raw("amount", b"99999999999.9"), Reason.OUT_OF_RANGE),
    "amount 9,999,999,999.999": (with_raw("amount", b"9999999999.999"), Reason.OUT_OF_RANGE),
    "amount 3 decimals": (event_bytes(amount=12.345), Reason.TOO_MANY_DECIMALS),
    "amount float noise": (with_raw("amount", b"0.30000000000000004"), Reason.TOO_MANY_DECIMALS),
    "amount beyond a float": (with_raw("amount", b"0.1000000000000000000001"), Reason.TOO_MANY_DECIMALS),
    "amount deep": (with_raw("amount", b"[" * 100 + b"]" * 100), Reason.WRONG_TYPE),
    # required fields
    **{
        f"{field} {what}": (event_bytes(**{field: value}), Reason.MISSING_FIELD)
        for field in ("transaction_id", "user_id", "timestamp", "amount")
        for what, value in {"missing": ABSENT, "null": None}.items()
    },
    # ids and texts
    "id blank": (event_bytes(transaction_id=""), Reason.BLANK),
    "id white space": (event_bytes(transaction_id=" \t "), Reason.BLANK),
    "user blank": (event_bytes(user_id=""), Reason.BLANK),
    "user white space": (event_bytes(user_id="\u00a0"), Reason.BLANK),
    "id a number": (event_bytes(transaction_id=17), Reason.WRONG_TYPE),
    "id too long": (event_bytes(transaction_id="x" * 129), Reason.TOO_LONG),
    "user too long": (event_bytes(user_id="ü" * 129), Reason.TOO_LONG),
    "merchant blank": (event_bytes(merchant_id=""), Reason.BLANK),
    "device too long": (event_bytes(device="x" * 257), Reason.TOO_LONG),
    "e-mail too long": (event_bytes(email="x" * 321), Reason.TOO_LONG),
    "name a number": (event_bytes(first_name=1), Reason.WRONG_TYPE),
    "name an object": (event_bytes(first_name={"first": "Ada"}), Reason.WRONG_TYPE),
    "currency in small letters": (event_bytes(currency="eur"), Reason.OUT_OF_RANGE),
    "currency with a line break": (event_bytes(currency="EUR\n"), Reason.OUT_OF_RANGE),
    "currency not ASCII": (event_bytes(currency="ÄÖÜ"), Reason.OUT_OF_RANGE),
    "currency empty": (event_bytes(currency=""), Reason.OUT_OF_RANGE),
    "latitude 90.1": (event_bytes(latitude=90.1), Reason.OUT_OF_RANGE),
    "latitude -91": (event_bytes(latitude=-91), Reason.OUT_OF_RANGE),
    "longitude 180.5": (event_bytes(longitude=180.5), Reason.OUT_OF_RANGE),
    "longitude 1e400": (with_raw("longitude", b"1e400"), Reason.OUT_OF_RANGE),
    "latitude 5,000 digits": (with_raw("latitude", DIGITS), Reason.OUT_OF_RANGE),
    "latitude in quotes": (event_bytes(latitude="52"), Reason.WRONG_TYPE),
    "latitude true": (event_bytes(latitude=True), Reason.WRONG_TYPE),
    "latitude NaN": (with_raw("latitude", b"NaN"), Reason.INVALID_JSON),
    "is_fraud a number": (event_bytes(is_fraud=1), Reason.WRONG_TYPE),
    "is_fraud in quotes": (event_bytes(is_fraud="true"), Reason.WRONG_TYPE),
    # timestamps
    "timestamp a number": (event_bytes(timestamp=1_763_640_000), Reason.WRONG_TYPE),
    "timestamp milliseconds": (event_bytes(timestamp=1_763_640_000_000), Reason.WRONG_TYPE),
    "timestamp milliseconds in quotes": (event_bytes(timestamp="1763640000000"), Reason.INVALID_TIMESTAMP),
    "timestamp milliseconds as seconds": (
        event_bytes(timestamp="+57857-03-05T00:00:00Z"),
        Reason.INVALID_TIMESTAMP,
    ),
    "timestamp seconds as milliseconds": (
        event_bytes(timestamp="1970-01-21T09:54:00Z"),
        Reason.INVALID_TIMESTAMP,
    ),
    "timestamp infinity": (event_bytes(timestamp="infinity"), Reason.INVALID_TIMESTAMP),
    "timestamp now": (event_bytes(timestamp="now"), Reason.INVALID_TIMESTAMP),
    "timestamp empty": (event_bytes(timestamp=""), Reason.INVALID_TIMESTAMP),
    "30 February": (event_bytes(timestamp="2026-02-30T12:00:00Z"), Reason.INVALID_TIMESTAMP),
    "25 o'clock": (event_bytes(timestamp="2026-11-20T25:00:00Z"), Reason.INVALID_TIMESTAMP),
    "leap second": (event_bytes(timestamp="2016-12-31T23:59:60Z"), Reason.INVALID_TIMESTAMP),
    "year 294277": (event_bytes(timestamp="294277-01-09T04:00:54Z"), Reason.INVALID_TIMESTAMP),
    "year 0": (event_bytes(timestamp="0000-01-01T00:00:00Z"), Reason.INVALID_TIMESTAMP),
    "year 1 east of UTC": (event_bytes(timestamp="0001-01-01T00:00:00+14:00"), Reason.INVALID_TIMESTAMP),
    "year 1999": (event_bytes(timestamp="1999-12-31T23:59:59Z"), Reason.INVALID_TIMESTAMP),
    "date without a time": (event_bytes(timestamp="2026-11-20"), Reason.INVALID_TIMESTAMP),
    "ahead by more than the tolerance": (
        event_bytes(timestamp=NOW + TOLERANCE + timedelta(microseconds=1)),
        Reason.IN_THE_FUTURE,
    ),
    "ahead by more than the tolerance, elsewhere": (
        event_bytes(timestamp=(NOW + timedelta(minutes=6)).astimezone(timezone(timedelta(hours=-8)))),
        Reason.IN_THE_FUTURE,
    ),
    "local time mistaken for UTC": (event_bytes(timestamp="2026-11-20T17:30:00"), Reason.IN_THE_FUTURE),
    "year 9999 west of UTC": (event_bytes(timestamp="9999-12-31T23:59:59-14:00"), Reason.IN_THE_FUTURE),
}


@pytest.mark.parametrize(("value", "reason"), REJECTED.values(), ids=REJECTED)
def test_bad_input_is_rejected_with_its_reason(value, reason):
    assert rejection(value).reason is reason


def test_100000_levels_are_too_deep_whatever_the_limit_of_bytes():
    for value in (DEEP, with_raw("extra", DEEP), with_raw("amount", DEEP)):
        with pytest.raises(Rejected) as caught:
            decode(value, NOW, max_bytes=10_000_000, future_tolerance=TOLERANCE)
        assert caught.value.reason in (Reason.TOO_DEEP, Reason.NOT_AN_OBJECT)


def test_every_reason_is_reached_by_some_input():
    stores_own = {Reason.ID_CONFLICT}  # known only where the earlier events are: in the stream
    assert {reason for _, reason in REJECTED.values()} == set(Reason) - stores_own


def test_details_name_the_field_and_never_show_its_value():
    for name, (value, _) in REJECTED.items():
        detail = rejection(value).detail
        assert 0 < len(detail) < 200, name
        assert detail.isprintable(), name
        for secret in ("Ada", "Byron", "ada.byron", "transaction-0", "user-0001", "12.345"):
            assert secret not in detail, name
    assert "amount" in rejection(event_bytes(amount=-1)).detail
    assert "latitude" in rejection(event_bytes(latitude=91)).detail


def test_a_rejection_survives_the_way_between_processes():
    error = rejection(event_bytes(amount=-1))
    copy = pickle.loads(pickle.dumps(error))
    assert (copy.reason, copy.detail, str(copy)) == (error.reason, error.detail, str(error))


def test_a_whole_event_is_read():
    content = event(is_fraud=True)
    decoded = read(json.dumps(content).encode())
    assert msgspec.structs.asdict(decoded.transaction) == {
        **{name: value for name, value in content.items() if name != "is_fraud"},
        "timestamp": NOW,
    }
    assert decoded.is_fraud is True
    assert decoded.unknown_fields == 0


@pytest.mark.parametrize("absent", [ABSENT, None], ids=["absent", "null"])
def test_optional_fields_may_be_missing(absent):
    required = {"transaction_id", "user_id", "timestamp", "amount"}
    optional = [name for name in Transaction.__struct_fields__ if name not in required]
    decoded = read(event_bytes(is_fraud=absent, **dict.fromkeys(optional, absent)))
    assert [getattr(decoded.transaction, name) for name in optional] == [None] * len(optional)
    assert decoded.is_fraud is None
    for name in optional:
        assert getattr(read(event_bytes(**{name: absent})).transaction, name) is None


TEXTS = {
    "accents": "Zoë Müller-Ørsted",
    "emoji": "👩\u200d🚀 🇩🇪",
    "right to left": "\u202eمرحبا בעולם",
    "beyond the 16-bit plane": "𝔘𝔫𝔦𝔠𝔬𝔡𝔢",
    "not a character": "\ufffe\uffff",
    "SQL": "Robert'); drop table shop.transactions; --",
    "HTML": "<script>alert(1)</script>&amp;",
    "spreadsheet formula": '=HYPERLINK("http://x")',
    "quotes and backslashes": '6" \\" \\\\ \\u0000',
    "control characters": "\x01\x1b[31m\t\r\n\x7f",
    "colons and braces": '":{}[],:null"',
    "empty": "",
}


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
@pytest.mark.parametrize("ascii_only", [True, False], ids=["escaped", "UTF-8"])
def test_any_text_is_kept_byte_for_byte(text, ascii_only):
    content = event(first_name=text, device=text)
    decoded = read(json.dumps(content, ensure_ascii=ascii_only).encode())
    assert decoded.transaction.first_name == text
    assert decoded.transaction.device == text
    assert decoded.unknown_fields == 0


def test_texts_up_to_their_limits_are_accepted():
    limits = {"transaction_id": 128, "user_id": 128, "merchant_id": 128, "email": 320, "device": 256}
    texts = {name: "😀" * limit for name, limit in limits.items()}
    found = read(event_bytes(**texts)).transaction
    assert {name: getattr(found, name) for name in texts} == texts


@pytest.mark.parametrize(
    ("digits", "expected"),
    [
        (b"0", 0.0),
        (b"0.00", 0.0),
        (b"-0.0", 0.0),
        (b"0.01", 0.01),
        (b"7", 7.0),
        (b"42.50", 42.5),
        (b"42.5000", 42.5),
        (b"100", 100.0),
        (b"1234567", 1234567.0),
        (b"1e3", 1000.0),
        (b"1.25E1", 12.5),
        (b"1.2345678E7", 12345678.0),
        (b"125e-2", 1.25),
        (b"9999999999.99", 9999999999.99),
    ],
)
def test_amounts_with_at_most_two_decimals_are_accepted(digits, expected):
    amount = read(with_raw("amount", digits)).transaction.amount
    assert amount == expected
    assert str(amount)[0] != "-"


@given(st.integers(0, 999_999_999_999))
def test_every_amount_of_cents_survives_as_a_float(cents):
    digits = f"{cents // 100}.{cents % 100:02d}"
    amount = read(with_raw("amount", digits.encode())).transaction.amount
    assert f"{amount:.2f}" == digits


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-20T11:30:00Z",
        "2026-11-20t11:30:00z",
        "2026-11-20T11:30:00.000000+00:00",
        "2026-11-20T11:30:00-00:00",
        "2026-11-20T11:30:00",
        "2026-11-20 11:30:00",
        "2026-11-20T17:00:00+05:30",
        "2026-11-20T03:30:00-0800",
    ],
)
def test_timestamps_become_utc_and_without_an_offset_are_taken_as_utc(text):
    found = read(event_bytes(timestamp=text)).transaction.timestamp
    assert found == datetime(2026, 11, 20, 11, 30, tzinfo=UTC)
    assert found.tzinfo is UTC


def test_late_events_are_accepted_back_to_the_year_2000():
    for late in (NOW - timedelta(days=9), datetime(2000, 1, 1, tzinfo=UTC)):
        assert read(event_bytes(timestamp=late)).transaction.timestamp == late


def test_the_future_is_measured_from_the_brokers_time():
    value = event_bytes(timestamp=NOW + TOLERANCE)
    assert read(value).transaction.timestamp == NOW + TOLERANCE
    assert rejection(value, NOW - timedelta(hours=1)).reason is Reason.IN_THE_FUTURE
    ahead = event_bytes(timestamp=NOW + timedelta(days=400))
    assert read(ahead, NOW + timedelta(days=400)).transaction.timestamp == NOW + timedelta(days=400)


def test_unknown_fields_are_accepted_and_counted():
    assert read(event_bytes(extra=1)).unknown_fields == 1
    nested = {"a": [1, {"b": None}], "amount": "not ours"}
    decoded = read(event_bytes(extra=nested, other="text", ünknown=False))
    assert decoded.unknown_fields == 3
    assert decoded.transaction.amount == 42.5
    assert read(with_raw("extra", b"[" * 31 + DIGITS + b"]" * 31)).unknown_fields == 1


@pytest.mark.parametrize(
    "fields",
    [{}, {"is_fraud": False}, {"device": None}, {"device": ABSENT, "is_fraud": True}, {"latitude": 0}],
)
def test_a_usual_event_is_parsed_only_once(fields, monkeypatch):
    monkeypatch.delattr("include.strict_json.unique_keys")
    read(event_bytes(**fields))
    with pytest.raises(NameError):
        read(event_bytes(**fields, extra=1))


SAME = {"transaction_id": "one"}


def test_the_fingerprint_depends_on_content_only():
    content = event(**SAME, is_fraud=False, device='6" é')
    usual = read(json.dumps(content).encode()).fingerprint
    for same in (
        json.dumps(dict(reversed(content.items())), indent=3).encode(),
        json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode(),
        json.dumps(content | {"timestamp": "2026-11-20T13:00:00+01:00"}).encode(),
        json.dumps(content | {"extra": 1}).encode(),
        json.dumps(content).replace("42.5", "42.50").encode(),
        json.dumps(content).replace("42.5", "4.25e1").encode(),
    ):
        assert read(same).fingerprint == usual
    absent = read(event_bytes(**SAME, device=ABSENT)).fingerprint
    assert absent == read(event_bytes(**SAME, device=None)).fingerprint


def test_every_field_changes_the_fingerprint():
    other = {
        "transaction_id": "two",
        "timestamp": NOW - timedelta(microseconds=1),
        "amount": 42.51,
        "currency": "USD",
        "latitude": 0,
        "longitude": 0,
        "is_fraud": False,
    }
    names = (*Transaction.__struct_fields__, "is_fraud")
    variants = [event_bytes(**{**SAME, name: other.get(name, "other")}) for name in names]
    variants += [event_bytes(**{**SAME, name: None}) for name in ("device", "location", "latitude")]
    variants += [event_bytes(**SAME), event_bytes(**SAME, is_fraud=True)]
    prints = [read(value).fingerprint for value in variants]
    assert len(set(prints)) == len(prints)
    assert all(-(2**63) <= fingerprint < 2**63 for fingerprint in prints)
    assert min(prints) < 0 < max(prints)


def test_the_fingerprint_is_the_same_in_every_release():
    """Fingerprints are stored for years: another value would turn honest repetitions into conflicts."""
    assert read(event_bytes(transaction_id="one", is_fraud=True)).fingerprint == GOLDEN["full"]
    sparse = {"transaction_id": "one", "user_id": "u", "timestamp": "2026-11-20T12:00:00Z", "amount": 1}
    assert read(json.dumps(sparse).encode()).fingerprint == GOLDEN["sparse"]


GOLDEN = {"full": -6_438_623_199_412_309_651, "sparse": 9_118_195_157_704_816_293}


@given(st.booleans() | st.none())
def test_encode_and_decode_are_inverse(is_fraud):
    for original in (transaction(), transaction(device=None, latitude=None), transaction(first_name="Zoë")):
        decoded = read(encode(original, is_fraud))
        assert (decoded.transaction, decoded.is_fraud, decoded.unknown_fields) == (original, is_fraud, 0)


def test_fields_are_the_columns_of_the_table():
    sql = Path(PROJECT_ROOT / "include/sql/migrations/0001.shop.sql").read_text()
    body = re.search(r"create table shop\.transactions \((.*?)\) partition", sql, re.DOTALL)[1]
    columns = {
        name: (kind, bool(required))
        for name, kind, required in re.findall(
            r"^ +\"?(\w+)\"? +(text|timestamptz|numeric\(12, 2\)|double precision)(?: collate \"C\")?( not null)?",
            body.split("late  ")[0],
            re.MULTILINE,
        )
    }
    kinds = {str: "text", datetime: "timestamptz", float: "double precision"}
    declared = {}
    for field in msgspec.structs.fields(Transaction):
        parts = [part for part in getattr(field.type, "__args__", (field.type,)) if part is not type(None)]
        base = getattr(parts[0], "__origin__", parts[0])
        optional = type(None) in getattr(field.type, "__args__", ())
        declared[field.name] = (kinds[base], not optional)
    declared["amount"] = ("numeric(12, 2)", True)
    assert list(declared.items()) == list(columns.items())


@pytest.mark.services
def test_the_database_stores_what_decode_accepts(clean_postgres):
    columns = Transaction.__struct_fields__
    values = [event_bytes(first_name=text, device=text) for text in TEXTS.values()]
    longest = {
        "transaction_id": "😀" * 128,
        "user_id": "😀" * 128,
        "merchant_id": "😀" * 128,
        "email": "😀" * 320,
    }
    values += [
        event_bytes(**longest, amount=9999999999.99),
        event_bytes(amount=0, timestamp="2000-01-01T00:00:00Z"),
    ]
    stored = [read(value).transaction for value in values]
    with psycopg.connect(clean_postgres.conninfo("stream_writer")) as connection:
        names = ", ".join(columns)
        connection.cursor().executemany(
            f'insert into shop.transactions ({names}, topic, partition, "offset", broker_time) '
            f"values ({', '.join(['%s'] * len(columns))}, 't', 0, 0, now())",
            [msgspec.structs.astuple(row) for row in stored],
        )
    with psycopg.connect(clean_postgres.conninfo("owner")) as connection:
        rows = connection.execute(f"select {names} from shop.transactions").fetchall()
    found = {row[0]: Transaction(*row[:9], float(row[9]), *row[10:]) for row in rows}
    assert found == {row.transaction_id: row for row in stored}


@given(st.binary(max_size=300))
def test_no_bytes_crash_it(value):
    disposition(value)


@given(st.data())
def test_no_change_of_a_valid_event_crashes_it(data):
    value = bytearray(event_bytes(is_fraud=True, device='6" \\', extra={"a": [None]}))
    for _ in range(data.draw(st.integers(1, 8))):
        at = data.draw(st.integers(0, len(value)))
        end = data.draw(st.integers(at, min(at + 20, len(value))))
        value[at:end] = data.draw(st.binary(max_size=20))
    disposition(bytes(value))


@given(
    st.lists(
        st.sampled_from(
            ['"amount"', '"device"', '"x"', ":", ",", "1", "null", '"a\\"b"', "{", "}", "[", "]", " "]
        )
    )
)
def test_duplicate_keys_are_found_exactly(tokens):
    """The count of quotes must agree with a full parse for any object that begins with a valid event."""
    value = VALID[:-1] + b", " + "".join(tokens).encode() + b"}"
    twice = []

    def pairs(items):
        twice.append(len(dict(items)) < len(items))
        return dict(items)

    try:
        json.loads(value, object_pairs_hook=pairs)
    except ValueError:
        assert rejection(value).reason is Reason.INVALID_JSON
        return
    found = disposition(value)
    assert (
        (found == Reason.DUPLICATE_KEY)
        or not any(twice)
        or found in (Reason.WRONG_TYPE, Reason.MISSING_FIELD)
    )
    assert any(twice) or found != Reason.DUPLICATE_KEY


def disposition(value: bytes | None) -> str:
    try:
        decoded = read(value)
    except Rejected as error:
        assert isinstance(error.reason, Reason)
        assert "\0" not in error.detail
        error.detail.encode()
        return error.reason
    found = decoded.transaction
    assert found.transaction_id.strip() and found.user_id.strip()
    assert 0 <= found.amount <= 9999999999.99
    assert found.timestamp.tzinfo is UTC and found.timestamp <= NOW + TOLERANCE
    for text in msgspec.structs.astuple(found):
        if isinstance(text, str):
            assert "\0" not in text
            text.encode()
    return "decoded"


def test_50000_mutated_messages_are_decoded_or_rejected():
    found = Counter(disposition(value) for _, value in messages(50_000, seed=1))
    assert found.total() == 50_000
    assert 0.3 < found["decoded"] / 50_000 < 0.6
    assert set(found) == {"decoded", *Reason} - {Reason.ID_CONFLICT}


def test_the_flood_is_reproducible():
    first, again, other = (list(messages(2_000, seed)) for seed in (1, 1, 2))
    assert first == again != other
