"""Decodes events of a topic whose fields have other names, by the same mapping file as an import."""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Protocol

import msgspec

from include.events import mapping
from include.events.numbers import Digits
from include.events.strict_json import Reason, Rejected, raise_reason, unique_keys
from include.events.transaction import Decoded, decode
from include.events.translate import BadValue, Translator, at_path
from include.settings import Settings

_parse = msgspec.json.Decoder(float_hook=Digits).decode
_encode = msgspec.json.Encoder().encode
_REASONS = {"timestamp": Reason.INVALID_TIMESTAMP}


class Decoder(Protocol):
    """Reads the value of a Kafka record as a transaction, as `include.events.transaction.decode` does."""

    def __call__(
        self, value: bytes | None, broker_time: datetime, *, max_bytes: int, future_tolerance: timedelta
    ) -> Decoded: ...


def transaction_decoder(settings: Settings) -> Decoder:
    """`include.events.transaction.decode`, or with FRAUDSTREAM_MAPPING one that applies that file first.

    Raises:
        MappingError: the file cannot be used.
    """
    return decode if settings.mapping is None else _mapped_decoder(settings.mapping)


@lru_cache(maxsize=2)
def _mapped_decoder(path: Path) -> Decoder:
    translator = Translator(mapping.load(path), str(path))

    def decode_mapped(
        value: bytes | None, broker_time: datetime, *, max_bytes: int, future_tolerance: timedelta
    ) -> Decoded:
        if value is None or len(value) > max_bytes:  # decode names the reason
            return decode(value, broker_time, max_bytes=max_bytes, future_tolerance=future_tolerance)
        record = json_record(value)
        event = _encode(_translate(translator, record))
        max_bytes = max(max_bytes, len(event))  # the limit is the record's, not the translated event's
        decoded = decode(event, broker_time, max_bytes=max_bytes, future_tolerance=future_tolerance)
        used = {column if column in record else column.partition(".")[0] for column in translator.columns}
        return decoded._replace(unknown_fields=len(record.keys() - used))

    return decode_mapped


def json_record(value: bytes) -> dict[str, object]:
    """The values of a JSON object by field name; numbers with decimals keep their digits.

    Raises:
        Rejected: the value is no valid JSON object.
    """
    try:
        record = _parse(value)
    except (ValueError, RecursionError) as error:
        raise_reason(value, error)
    if not isinstance(record, dict):
        raise Rejected(Reason.NOT_AN_OBJECT, "valid JSON, but no object")
    unique_keys(value)
    return record


def _translate(translator: Translator, record: dict[str, object]) -> dict[str, object]:
    """The event of a record.

    Raises:
        Rejected: a value does not follow the mapping.
    """
    row = {column: at_path(record, column) for column in translator.columns}
    try:
        event, label = translator.event(row), translator.label(row)
    except BadValue as error:
        reason = _REASONS.get(error.field, Reason.WRONG_TYPE)
        raise Rejected(reason, f"{error.field}: {error.detail}") from None
    return event if label is None else event | {"is_fraud": label.is_fraud}
