"""The whole table of bad and unusual input, for the decoder, for ingest and for the streams under Spark.

Every event is judged at the broker's time `NOW`, with the default limits. `cases` is all of it in an order in which
one Kafka partition may hold it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any, NamedTuple

from include.events.transaction import Reason
from tests.builders import ABSENT, NOW, event, event_bytes

TOLERANCE = timedelta(minutes=5)
STORED, DUPLICATE = "stored", "duplicate"


class Case(NamedTuple):
    """A record's value and what becomes of it.

    becomes: `STORED`, `DUPLICATE`, or the reason of its dead letter.
    row: columns of shop.transactions that the stored row must have.
    """

    name: str
    value: bytes | None
    becomes: str
    row: dict[str, object]


def cases() -> Iterator[Case]:
    """Every case: first an event at `NOW`, after which those of days ago are late."""
    yield Case("usual", event_bytes(transaction_id="usual"), STORED, {"late": False})
    for name, (accepted, row) in ACCEPTED.items():
        yield Case(name, accepted, STORED, row)
    for name, (value, reason) in REJECTED.items():
        yield Case(name, value, reason, {})
    for name, value, becomes in SAME_ID:
        yield Case(name, value, becomes, {})


def with_raw(field: str, json_text: bytes) -> bytes:
    """A valid event in which a field's JSON is exactly this text."""
    return event_bytes(**{field: "@@@"}).replace(b'"@@@"', json_text)


VALID = event_bytes()
DIGITS = b"9" * 5_000
DEEP = b"[" * 100_000 + b"]" * 100_000

REJECTED: dict[str, tuple[bytes | None, Reason]] = {
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
    "very long id": (event_bytes(transaction_id="x" * 1_000_000), Reason.TOO_LARGE),
    "100,000 levels deep": (DEEP, Reason.TOO_LARGE),
    "100,000 levels deep in a field": (with_raw("amount", DEEP), Reason.TOO_LARGE),
    "32,000 levels deep": (b"[" * 32_000, Reason.NOT_AN_OBJECT),
    "30,000 levels deep in an unknown field": (with_raw("extra", b"[" * 30_000), Reason.TOO_DEEP),
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

UTC_NOON = datetime(2026, 11, 20, 11, 30, tzinfo=UTC)
TIMESTAMPS = (
    "2026-11-20T11:30:00Z",
    "2026-11-20t11:30:00z",
    "2026-11-20T11:30:00.000000+00:00",
    "2026-11-20T11:30:00-00:00",
    "2026-11-20T11:30:00",
    "2026-11-20 11:30:00",
    "2026-11-20T17:00:00+05:30",
    "2026-11-20T03:30:00-0800",
)
AMOUNTS = {
    b"0": "0",
    b"0.00": "0",
    b"-0.0": "0",
    b"0.01": "0.01",
    b"7": "7",
    b"42.50": "42.5",
    b"42.5000": "42.5",
    b"100": "100",
    b"1234567": "1234567",
    b"1e3": "1000",
    b"1.25E1": "12.5",
    b"1.2345678E7": "12345678",
    b"125e-2": "1.25",
    b"9999999999.99": "9999999999.99",
}
LIMITS = {"user_id": 128, "merchant_id": 128, "email": 320, "device": 256}
LONGEST = {name: "😀" * limit for name, limit in LIMITS.items()}
OPTIONAL = ("first_name", "email", "device", "merchant_id", "currency", "latitude")

ACCEPTED: dict[str, tuple[bytes, dict[str, Any]]] = {
    **{
        f"{name}, {form}": (
            json.dumps(event(first_name=text, device=text), ensure_ascii=form == "escaped").encode(),
            {"first_name": text, "device": text},
        )
        for name, text in TEXTS.items()
        for form in ("escaped", "UTF-8")
    },
    "texts at their limits": (event_bytes(transaction_id="😀" * 128, **LONGEST), LONGEST),
    **{
        f"amount {digits.decode()}": (with_raw("amount", digits), {"amount": Decimal(amount)})
        for digits, amount in AMOUNTS.items()
    },
    **{
        f"timestamp {text}": (event_bytes(timestamp=text), {"timestamp": UTC_NOON, "late": False})
        for text in TIMESTAMPS
    },
    "ahead by the tolerance": (event_bytes(timestamp=NOW + TOLERANCE), {"timestamp": NOW + TOLERANCE}),
    **{
        f"late, {when:%Y-%m-%d}": (event_bytes(timestamp=when), {"timestamp": when, "late": True})
        for when in (NOW - timedelta(days=9), datetime(2000, 1, 1, tzinfo=UTC))
    },
    "unknown fields": (event_bytes(extra={"a": [1, {"b": None}]}, ünknown=False), {"late": False}),
    "31 levels in an unknown field": (with_raw("extra", b"[" * 31 + DIGITS + b"]" * 31), {}),
    **{
        f"optional fields {what}": (
            event_bytes(**dict.fromkeys(OPTIONAL, value)),
            dict.fromkeys(OPTIONAL, None),
        )
        for what, value in {"absent": ABSENT, "null": None}.items()
    },
}
UNKNOWN_FIELDS = 3  # in the accepted cases

_ONCE = event(transaction_id="once", device='6" é')
SAME_ID = [
    ("an id", json.dumps(_ONCE).encode(), STORED),
    ("the same again", json.dumps(_ONCE).encode(), DUPLICATE),
    ("the same in another form", json.dumps(dict(reversed(_ONCE.items())), indent=3).encode(), DUPLICATE),
    ("the same unescaped", json.dumps(_ONCE, ensure_ascii=False).encode(), DUPLICATE),
    (
        "the same at another offset",
        json.dumps(_ONCE | {"timestamp": "2026-11-20T13:00:00+01:00"}).encode(),
        DUPLICATE,
    ),
    ("the same with an unknown field", json.dumps(_ONCE | {"extra": 1}).encode(), DUPLICATE),
    ("the same id, another amount", json.dumps(_ONCE | {"amount": 1}).encode(), Reason.ID_CONFLICT),
    (
        "the same id, another customer",
        json.dumps(_ONCE | {"user_id": "user-0002"}).encode(),
        Reason.ID_CONFLICT,
    ),
    ("the first once more", json.dumps(_ONCE).encode(), DUPLICATE),
]
