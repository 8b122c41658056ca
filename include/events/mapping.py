"""The mapping file: which columns of foreign data become which fields of a transaction.

docs/import.md describes it for people who write one.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import msgspec
import yaml

from include.events.transaction import FIELDS


class MappingError(ValueError):
    """A mapping file cannot be used; the message names the key in it and what to do."""


class Source(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Where a field comes from, one of: a column, the same constant for each row, a text with {columns} in it."""

    column: str | None = None
    constant: str | None = None
    text: str | None = None


class NumberSource(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A number: `factor` times the column or constant, rounded to cents if asked (half up)."""

    column: str | None = None
    constant: str | None = None
    factor: str = "1"
    round: bool = False


class TimeSource(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A time: ISO 8601, a strptime format, or a number of units since a date.

    `zone` is the time zone of times without an offset.
    """

    column: str
    format: str | None = None
    since: str | None = None
    unit: Literal["milliseconds", "seconds", "minutes", "hours", "days"] = "seconds"
    zone: str = "UTC"


FieldSource = Source | NumberSource | TimeSource


class LabelSource(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The column of the label, and its values for fraud and for honest; `scenario` names the kind of fraud."""

    column: str
    fraud: list[str]
    honest: list[str]
    scenario: str | None = None


class Csv(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """How a CSV file is written; `columns` names the columns of a file without a header."""

    delimiter: str = ","
    decimal: Literal[".", ","] = "."
    encoding: str = "utf8"
    columns: list[str] | None = None


@dataclass(frozen=True)
class MappingFile:
    """A mapping file. `fields` has the mapped fields only, in the order of `Transaction`."""

    fields: dict[str, FieldSource]
    label: LabelSource | None
    csv: Csv


def _source_type(kind: type) -> type[FieldSource]:
    """The longer form in which a mapping describes the source of a field of this type."""
    if kind is datetime:
        return TimeSource
    return NumberSource if kind is float else Source


_SOURCE_TYPES = {field.name: _source_type(field.kind) for field in FIELDS}


def _declarations() -> Iterator[tuple[str, Any] | tuple[str, Any, Any]]:
    """The keys below `fields`: a column's name or the longer form, optional if the field is not required."""
    for field in FIELDS:
        source = str | _SOURCE_TYPES[field.name]
        yield (field.name, source) if field.required else (field.name, source | None, None)


_Fields = msgspec.defstruct("_Fields", _declarations(), kw_only=True, forbid_unknown_fields=True)
_Document = msgspec.defstruct(
    "_Document",
    [
        ("fields", _Fields),
        ("label", LabelSource | None, None),
        ("csv", Csv, msgspec.field(default_factory=Csv)),
    ],
    kw_only=True,
    forbid_unknown_fields=True,
)


def parse(content: object) -> MappingFile:
    """The mapping file with this content, whose scalars are all texts.

    Raises:
        msgspec.ValidationError: a key is missing, unknown or of the wrong type.
    """
    document: Any = msgspec.convert(content, _Document, strict=False)
    fields = {
        name: _SOURCE_TYPES[name](column=source) if isinstance(source, str) else source
        for name, source in msgspec.structs.asdict(document.fields).items()
        if source is not None
    }
    return MappingFile(fields, document.label, document.csv)


def load(path: Path) -> MappingFile:
    """Reads a mapping file. Every scalar in it is taken as it is written: `no` and `1` are texts.

    Raises:
        MappingError: the file cannot be read, is no YAML or no mapping.
    """
    try:
        return parse(yaml.load(path.read_text("utf8"), yaml.BaseLoader))  # BaseLoader makes texts only
    except OSError as error:
        raise MappingError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise MappingError(f"{path}: not UTF-8") from None
    except yaml.YAMLError as error:
        raise MappingError(f"{path}: no valid YAML: {' '.join(str(error).split())}") from None
    except msgspec.ValidationError as error:
        raise MappingError(f"{path}: {_in_words(str(error))}") from None


def _in_words(error: str) -> str:
    problem, _, path = error.partition(" - at ")
    key = path.strip("`").removeprefix("$.") or "the file"
    if key == "fields" and (unknown := re.search(r"unknown field `(.+)`", problem)):
        similar = difflib.get_close_matches(unknown[1], _SOURCE_TYPES, 1)
        hint = f", did you mean {similar[0]}?" if similar else f": {', '.join(_SOURCE_TYPES)}"
        return f"fields: a transaction has no field {unknown[1]!r}{hint}"
    return f"{key}: {problem[0].lower()}{problem[1:]}"
