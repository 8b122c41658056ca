"""The mapping file: which columns of other people's data become which fields of a transaction.

docs/import.md describes it for people who write one.
"""

from __future__ import annotations

import difflib
import re
from datetime import datetime
from pathlib import Path
from typing import Literal

import msgspec
import yaml

from include.events.transaction import Transaction


class MappingError(ValueError):
    """A mapping file cannot be used; the message names the place in it and what to do."""


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
    """A time: ISO 8601, a strptime format, or a number of units since a date. `zone` is that of times without one."""

    column: str
    format: str | None = None
    since: str | None = None
    unit: Literal["milliseconds", "seconds", "minutes", "hours", "days"] = "seconds"
    zone: str = "UTC"


class LabelSource(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The column that tells fraud from honest, and the values that mean so; `scenario` names the kind of fraud."""

    column: str
    fraud: list[str]
    honest: list[str]
    scenario: str | None = None


class Csv(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """How a CSV file is written; `columns` names them where its first row does not."""

    delimiter: str = ","
    decimal: Literal[".", ","] = "."
    encoding: str = "utf8"
    columns: list[str] | None = None


def _members(kind: object) -> tuple:
    """A type and the members of a union, without their limits."""
    members = getattr(kind, "__args__", (kind,))
    return tuple(getattr(member, "__origin__", member) for member in members)


def _source_of(kind: object) -> type:
    """What may say where a field of this type comes from."""
    if datetime in _members(kind):
        return TimeSource
    return NumberSource if float in _members(kind) else Source


_SOURCES = {field.name: _source_of(field.type) for field in msgspec.structs.fields(Transaction)}


def _declared():
    """The fields of a transaction, each a column's name or the longer form; those that may be null may be left out."""
    for field in msgspec.structs.fields(Transaction):
        said = str | _SOURCES[field.name]
        yield (field.name, said | None, None) if type(None) in _members(field.type) else (field.name, said)


Fields = msgspec.defstruct("Fields", _declared(), kw_only=True, forbid_unknown_fields=True)


class MappingFile(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A mapping file."""

    fields: Fields
    label: LabelSource | None = None
    csv: Csv = msgspec.field(default_factory=Csv)


def as_source(field: str, said: object) -> Source | NumberSource | TimeSource:
    """The longer form of what a mapping says about a field."""
    return _SOURCES[field](column=said) if isinstance(said, str) else said


def load(path: Path) -> MappingFile:
    """Reads a mapping file. Every scalar in it is taken as it is written: `no` and `1` are texts.

    Raises:
        MappingError: the file cannot be read, is no YAML or no mapping.
    """
    try:
        content = yaml.load(path.read_text("utf8"), yaml.BaseLoader)  # makes nothing but texts
        return msgspec.convert(content, MappingFile, strict=False)
    except OSError as error:
        raise MappingError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise MappingError(f"{path}: not UTF-8") from None
    except yaml.YAMLError as error:
        raise MappingError(f"{path}: no valid YAML: {' '.join(str(error).split())}") from None
    except msgspec.ValidationError as error:
        raise MappingError(f"{path}: {_in_words(str(error))}") from None


def _in_words(error: str) -> str:
    said, _, place = error.partition(" - at ")
    place = place.strip("`").removeprefix("$.") or "the file"
    if place == "fields" and (unknown := re.search(r"unknown field `(.+)`", said)):
        near = difflib.get_close_matches(unknown[1], Fields.__struct_fields__, 1)
        hint = f", did you mean {near[0]}?" if near else f": {', '.join(Fields.__struct_fields__)}"
        return f"fields: a transaction has no field {unknown[1]!r}{hint}"
    return f"{place}: {said[0].lower()}{said[1:]}"
