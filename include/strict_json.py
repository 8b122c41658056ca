"""Strict reading of one JSON object from a Kafka record: anything else is rejected with a reason."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from itertools import chain
from typing import Generic, NoReturn, TypeVar

import msgspec
from msgspec import UNSET, UnsetType
from msgspec.structs import astuple

MAX_DEPTH = 32
EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)


class Reason(StrEnum):
    """Why a record became a dead letter; docs/events.md explains each one."""

    TOMBSTONE = "tombstone"
    TOO_LARGE = "too_large"
    INVALID_ENCODING = "invalid_encoding"
    INVALID_JSON = "invalid_json"
    TOO_DEEP = "too_deep"
    NOT_AN_OBJECT = "not_an_object"
    DUPLICATE_KEY = "duplicate_key"
    MISSING_FIELD = "missing_field"
    WRONG_TYPE = "wrong_type"
    BLANK = "blank"
    TOO_LONG = "too_long"
    INVALID_TEXT = "invalid_text"
    OUT_OF_RANGE = "out_of_range"
    TOO_MANY_DECIMALS = "too_many_decimals"
    INVALID_TIMESTAMP = "invalid_timestamp"
    IN_THE_FUTURE = "in_the_future"
    ID_CONFLICT = "id_conflict"


class Rejected(ValueError):
    """A record that cannot be stored.

    Attributes:
        reason: one of `Reason`.
        detail: the field and the rule in words; never a value of the record, which may be personal data.
    """

    def __init__(self, reason: Reason, detail: str):
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail

    def __reduce__(self):
        return Rejected, (self.reason, self.detail)


Record = TypeVar("Record", bound=msgspec.Struct)


class StrictReader(Generic[Record]):
    """Reads a struct from JSON and refuses what JSON parsers usually let pass: duplicate keys, NUL, NaN.

    Args:
        record: a struct whose optional fields default to `UNSET` and whose last field is the boolean one.
    """

    def __init__(self, record: type[Record]):
        self._decode = msgspec.json.Decoder(record).decode
        fields = msgspec.structs.fields(record)
        self._names = frozenset(field.encode_name for field in fields)
        strings = sum(_is_text(field.type) for field in fields)
        self._quotes_when_full = 2 * (len(fields) + strings)

    def read(self, value: bytes | None, max_bytes: int) -> tuple[Record, tuple, int]:
        """The record of a Kafka value.

        Returns:
            the struct, its values in field order, and the number of fields that it does not declare.

        Raises:
            Rejected: for any value that is not one strictly valid object of the declared form.
        """
        if value is None:
            raise Rejected(Reason.TOMBSTONE, "the record has no value")
        if len(value) > max_bytes:
            raise Rejected(Reason.TOO_LARGE, f"{len(value)} bytes, the limit is {max_bytes}")
        try:
            record = self._decode(value)
        except (ValueError, RecursionError) as error:
            raise_reason(value, error)
        values = astuple(record)
        # Without escaped quotes each key and each string is exactly one pair of quotes. As many pairs as the
        # struct has keys and strings: no key came twice and none is unknown. Anything else is parsed again.
        unknown = 0
        escapes = b"\\" in value
        if (escapes and b'\\"' in value) or value.count(b'"') != self._quotes(values):
            unknown = len(unique_keys(value) - self._names)
        if escapes and b"\\u0000" in value:
            _refuse_nul(record)
        return record, values, unknown

    def _quotes(self, values: tuple) -> int:
        if all(values[:-1]) and values[-1].__class__ is bool:
            return self._quotes_when_full
        kinds = list(map(type, values))
        return 2 * (len(kinds) - kinds.count(UnsetType) + kinds.count(str) + kinds.count(datetime))


def _is_text(kind: object) -> bool:
    """Whether a declared field is written as a JSON string."""
    if kind in (str, datetime):
        return True
    return any(map(_is_text, getattr(kind, "__args__", ())))


def unique_keys(value: bytes) -> set[str]:
    """The keys of a JSON object that a lenient parser has accepted.

    Raises:
        Rejected: a key comes twice in one object at any level, the text is not UTF-8 or too deep.
    """
    try:
        parsed = _EXACT.decode(value.decode())
    except UnicodeDecodeError:
        raise Rejected(Reason.INVALID_ENCODING, "not UTF-8") from None
    except RecursionError:
        raise Rejected(Reason.TOO_DEEP, f"more than {MAX_DEPTH} levels") from None
    level = [parsed]
    for _ in range(MAX_DEPTH):
        level = [item for item in chain.from_iterable(map(_children, level)) if isinstance(item, dict | list)]
        if not level:
            return set(parsed)
    raise Rejected(Reason.TOO_DEEP, f"more than {MAX_DEPTH} levels")


def _children(item: dict | list):
    return item.values() if isinstance(item, dict) else item


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise Rejected(Reason.DUPLICATE_KEY, "a key comes twice in one object")
    return found


# Numbers stay text: turning 5,000 digits into an integer is refused by Python and of no use here.
_EXACT = json.JSONDecoder(object_pairs_hook=_unique, parse_int=str, parse_float=str, parse_constant=str)


def _refuse_nul(record: msgspec.Struct) -> None:
    for field in record.__struct_fields__:
        text = getattr(record, field)
        if isinstance(text, str) and "\0" in text:
            raise Rejected(Reason.INVALID_TEXT, f"{field}: contains the character NUL")


def utc(field: str, moment: datetime) -> datetime:
    """A timestamp in UTC; one without an offset is taken as UTC.

    Raises:
        Rejected: before the year 2000, which is a wrong unit or a default and not a payment.
    """
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
    if moment < EARLIEST:
        raise Rejected(Reason.INVALID_TIMESTAMP, f"{field}: before the year 2000")
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise Rejected(Reason.INVALID_TIMESTAMP, f"{field}: after the year 9999") from None


def refuse_future(field: str, moment: datetime, broker_time: datetime, tolerance: timedelta) -> None:
    """Raises `Rejected` when a timestamp is ahead of the broker's time by more than the tolerance."""
    if moment > broker_time + tolerance:
        seconds = int(tolerance.total_seconds())
        raise Rejected(Reason.IN_THE_FUTURE, f"{field}: more than {seconds} s ahead of the broker's time")


_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_FIELD = re.compile(r"`\$\.(\w+)`$")
_MISSING = re.compile(r"missing required field `(\w+)`")


def raise_reason(value: bytes, error: Exception) -> NoReturn:
    """Raises `Rejected` with the reason for which msgspec refused a value."""
    if isinstance(error, RecursionError):
        raise Rejected(Reason.TOO_DEEP, f"more than {MAX_DEPTH} levels") from None
    if not isinstance(error, msgspec.ValidationError):
        raise _malformed(value) from None
    message = str(error)
    if missing := _MISSING.search(message):
        raise Rejected(Reason.MISSING_FIELD, f"{missing[1]}: missing") from None
    at = _FIELD.search(message)
    if at is None:
        raise Rejected(Reason.NOT_AN_OBJECT, message.lower()) from None
    field, problem = at[1], message[: at.start()].removesuffix(" - at ")
    if problem.endswith("got `null`"):
        raise Rejected(Reason.MISSING_FIELD, f"{field}: null") from None
    for words, reason in _PROBLEMS:
        if words in problem:
            raise Rejected(reason, f"{field}: {problem[0].lower()}{problem[1:]}") from None
    raise Rejected(Reason.WRONG_TYPE, f"{field}: {problem[0].lower()}{problem[1:]}") from None


_PROBLEMS = (
    ("RFC3339", Reason.INVALID_TIMESTAMP),
    ("of length >=", Reason.BLANK),
    ("of length <=", Reason.TOO_LONG),
    ("matching regex", Reason.OUT_OF_RANGE),
    ("out of range", Reason.OUT_OF_RANGE),
    ("` >= ", Reason.OUT_OF_RANGE),
    ("` <= ", Reason.OUT_OF_RANGE),
)


def _malformed(value: bytes) -> Rejected:
    try:
        text = value.decode()
    except UnicodeDecodeError:
        return Rejected(Reason.INVALID_ENCODING, "not UTF-8")
    if text.startswith("\ufeff"):
        return Rejected(Reason.INVALID_ENCODING, "starts with a byte order mark")
    if text.startswith("\0") or text.endswith("\0"):
        return Rejected(Reason.INVALID_ENCODING, "starts or ends with NUL: a binary header or UTF-16")
    if _SURROGATE.search(value):
        return Rejected(Reason.INVALID_TEXT, "malformed JSON or a lone surrogate")
    return Rejected(Reason.INVALID_JSON, "empty" if not text.strip() else "malformed JSON")


__all__ = ["UNSET", "Reason", "Rejected", "StrictReader", "refuse_future", "utc"]
