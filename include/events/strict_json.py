"""Strict reading of one JSON object from a Kafka record: anything else is rejected with a reason."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from datetime import UTC, datetime
from enum import StrEnum
from itertools import chain
from typing import Any, NoReturn

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

    def __reduce__(self) -> tuple[type[Rejected], tuple[Reason, str]]:
        return Rejected, (self.reason, self.detail)


class StrictReader:
    """Reads a struct from JSON and refuses what JSON parsers usually let pass: duplicate keys, NUL, NaN.

    Args:
        record: a struct whose optional fields default to `UNSET` and whose last field is the boolean one.
        seldom: how many fields before the last one most events do not have: those are read fastest.
    """

    def __init__(self, record: type[msgspec.Struct], seldom: int = 0):
        self._decode = msgspec.json.Decoder(record).decode
        fields = msgspec.structs.fields(record)
        self._names = frozenset(field.encode_name for field in fields)
        self._often = len(fields) - 1 - seldom
        usual = [*fields[: self._often], fields[-1]]
        self._pairs_when_usual = len(usual) + sum(_is_text(field.type) for field in usual)
        self._absent, self._nothing = (UNSET,) * seldom, (None,) * seldom

    def read(self, value: bytes | None, max_bytes: int) -> tuple[list[Any], int]:
        """The fields of a Kafka value.

        Returns:
            the values in the struct's field order, None for what is absent or null, and the number of fields
            that the struct does not declare.

        Raises:
            Rejected: for any value that is not one strictly valid object of the declared form.
        """
        if value is None:
            raise Rejected(Reason.TOMBSTONE, "the record has no value")
        if len(value) > max_bytes:
            raise Rejected(Reason.TOO_LARGE, f"{len(value)} bytes, the limit is {max_bytes}")
        try:
            decoded = astuple(self._decode(value))
        except (ValueError, RecursionError) as error:
            raise_reason(value, error)
        # Each key and each string takes a pair of quotes. As many quotes as the struct's own keys and strings need:
        # no key came twice, none is unknown, no text holds a quote. With more of them it is parsed again.
        most, last = decoded[: self._often], decoded[-1]
        if decoded[self._often : -1] == self._absent and all(most):
            pairs = self._pairs_when_usual
            if last is UNSET:
                pairs, last = pairs - 1, None
            fields = [*most, *self._nothing, last]
        else:
            pairs, fields = _count_pairs(decoded)
        unknown = 0
        if value.count(b'"') != 2 * pairs:
            unknown = len(unique_keys(value) - self._names)
        if b"\\" in value and b"\\u0000" in value and _holds_nul(fields):
            raise Rejected(Reason.INVALID_TEXT, "a text contains the character NUL")
        return fields, unknown


def _count_pairs(fields: tuple[Any, ...]) -> tuple[int, list[Any]]:
    """Pairs of quotes that these fields take in JSON, and the fields with None for what is absent."""
    kinds = list(map(type, fields))
    absent = kinds.count(UnsetType)
    pairs = len(kinds) - absent + kinds.count(str) + kinds.count(datetime)
    return pairs, [None if item is UNSET else item for item in fields]


def _holds_nul(fields: list[Any]) -> bool:
    return any("\0" in item for item in fields if isinstance(item, str))


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


def _children(item: dict[str, object] | list[object]) -> Iterable[object]:
    return item.values() if isinstance(item, dict) else item


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    unique = dict(pairs)
    if len(unique) != len(pairs):
        raise Rejected(Reason.DUPLICATE_KEY, "a key comes twice in one object")
    return unique


# Numbers stay text: turning 5,000 digits into an integer is refused by Python and of no use here.
_EXACT = json.JSONDecoder(object_pairs_hook=_unique, parse_int=str, parse_float=str, parse_constant=str)


def event_time(field: str, time: datetime, latest: datetime) -> datetime:
    """A timestamp in UTC; one without an offset is taken as UTC.

    Raises:
        Rejected: after latest, or before the year 2000, which is a wrong unit or a default and not a payment.
    """
    if time.tzinfo is None:
        time = time.replace(tzinfo=UTC)
    if time > latest:
        raise Rejected(Reason.IN_THE_FUTURE, f"{field}: too far in the future")
    if time < EARLIEST:
        raise Rejected(Reason.INVALID_TIMESTAMP, f"{field}: before the year 2000")
    return time if time.tzinfo is UTC else time.astimezone(UTC)


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


__all__ = ["Reason", "Rejected", "StrictReader", "event_time"]
