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
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import msgspec
import yaml

from include.events.transaction import CATEGORIES, FIELDS, NUMBERS


class MappingError(ValueError):
    """A mapping file cannot be used; the message names the key in it and what to do."""


class Source(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Where a field comes from, one of: a column, the same constant for each row, a text with {columns} in it."""

    column: str | None = None
    constant: str | None = None
    text: str | None = None


class NumberSource(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A number from a column, a constant, or a column of debits beside one of credits.

    `decimal`, `thousands` and `symbol` say how it is spelled; unless given, the first two are those of `csv`.
    `three_decimals` says that 1.200 is 1.2. Then it is multiplied by `factor`, or taken in `minor_units` of its
    currency (a number of decimals for some currencies, ISO 4217 for the others). `sign` says which sign payments have:
    rows with the other one are left out; `absolute` drops it. `round` rounds half up to cents.
    """

    column: str | None = None
    constant: str | None = None
    debit: str | None = None
    credit: str | None = None
    decimal: Literal[".", ","] | None = None
    thousands: Literal[",", ".", "'", " "] | None = None
    three_decimals: bool = False
    symbol: str | list[str] = []
    factor: str | None = None
    minor_units: bool | dict[str, int] = False
    sign: Literal["positive", "negative", "absolute"] | None = None
    round: bool = False


class TimeSource(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A time from a column or a text with {columns} in it: ISO 8601, a strptime format, or units since a date.

    `zone` is the time zone of times without an offset.
    """

    column: str | None = None
    text: str | None = None
    format: str | None = None
    since: str | None = None
    unit: Literal["nanoseconds", "microseconds", "milliseconds", "seconds", "minutes", "hours", "days"] = (
        "seconds"
    )
    zone: str = "UTC"


FieldSource = Source | NumberSource | TimeSource


class Csv(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """How a CSV file is written; `columns` names the columns of a file without a header.

    `skip_lines` stand before the header. `quote` encloses values, empty for none.
    """

    delimiter: str = ","
    quote: str = '"'
    skip_lines: Annotated[int, msgspec.Meta(ge=0)] = 0
    decimal: Literal[".", ","] = "."
    thousands: Literal[",", ".", "'", " "] | None = None
    encoding: str = "utf8"
    columns: list[str] | None = None


class LabelSource(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The column of the label, and its values for fraud, for honest and for not known yet.

    `scenario` names the kind of fraud, `known_at` the time at which it was known. With `transaction_id`, the column of
    the transaction's id, labels stand in a file of their own, written as `csv` says.
    """

    column: str
    fraud: list[str]
    honest: list[str]
    unknown: list[str] = []
    scenario: str | None = None
    known_at: str | TimeSource | None = None
    transaction_id: str | None = None
    csv: Csv | None = None


class Rows(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Which rows are payments: those with one of these values in each column of `only`, and none of `without`."""

    only: dict[str, list[str]] = {}
    without: dict[str, list[str]] = {}


@dataclass(frozen=True)
class MappingFile:
    """A mapping file. `fields` has the mapped fields only, in the order of `Transaction`.

    `names` says what the file calls those of `NUMBERS` and `CATEGORIES`. A value that is one of the words of `missing`
    counts as empty.
    """

    fields: dict[str, FieldSource]
    names: dict[str, str]
    label: LabelSource | None
    csv: Csv
    missing: list[str]
    rows: Rows

    def key(self, field: str) -> str:
        """Where the file speaks of a field, such as `fields.amount` or `numbers.balance`."""
        if field in self.names:
            return f"{'numbers' if field in NUMBERS else 'categories'}.{self.names[field]}"
        return f"fields.{field}"

    @property
    def label_file(self) -> bool:
        """Whether labels stand in a file of their own."""
        return self.label is not None and self.label.transaction_id is not None


def _source_type(kind: type) -> type[FieldSource]:
    """The longer form in which a mapping describes the source of a field of this type."""
    if kind is datetime:
        return TimeSource
    return NumberSource if kind is float else Source


_SOURCE_TYPES = {field.name: _source_type(field.kind) for field in FIELDS}
_NAMED = [field for field in FIELDS if field.name not in (*NUMBERS, *CATEGORIES)]
LONGEST_NAME = 40  # characters of a name under `numbers` or `categories`


def _declarations() -> Iterator[tuple[str, Any] | tuple[str, Any, Any]]:
    """The keys below `fields`: a column's name or the longer form, optional if the field is not required."""
    for field in _NAMED:
        source = str | _SOURCE_TYPES[field.name]
        yield (field.name, source) if field.required else (field.name, source | None, None)


_Fields = msgspec.defstruct("_Fields", _declarations(), kw_only=True, forbid_unknown_fields=True)
_Document = msgspec.defstruct(
    "_Document",
    [
        ("fields", _Fields),
        ("numbers", dict[str, object], msgspec.field(default_factory=dict)),
        ("categories", dict[str, object], msgspec.field(default_factory=dict)),
        ("label", LabelSource | None, None),
        ("csv", Csv, msgspec.field(default_factory=Csv)),
        ("missing", list[str], msgspec.field(default_factory=list)),
        ("rows", Rows, msgspec.field(default_factory=Rows)),
    ],
    kw_only=True,
    forbid_unknown_fields=True,
)


def parse(content: object) -> MappingFile:
    """The mapping file with this content, whose scalars are all texts.

    Raises:
        msgspec.ValidationError: a key is missing, unknown or of the wrong type.
        MappingError: there are too many extra fields, or one has no usable name.
    """
    document: Any = msgspec.convert(content, _Document, strict=False)
    numbers = _extra_fields("numbers", document.numbers, NUMBERS)
    categories = _extra_fields("categories", document.categories, CATEGORIES)
    if both := set(document.numbers) & set(document.categories):
        raise MappingError(f"categories.{min(both)}: numbers has the same name")
    sources = msgspec.structs.asdict(document.fields)
    sources |= {field: source for field, (_, source) in (numbers | categories).items()}
    fields = {
        name: _SOURCE_TYPES[name](column=source) if isinstance(source, str) else source
        for name, source in sources.items()
        if source  # a name under `numbers` without a source only keeps its place
    }
    names = {field: name for field, (name, _) in (numbers | categories).items()}
    return MappingFile(fields, names, document.label, document.csv, document.missing, document.rows)


def _extra_fields(
    key: str, named: dict[str, object], fields: tuple[str, ...]
) -> dict[str, tuple[str, str | FieldSource]]:
    """Names and sources by the fields of a transaction that take them, in the order of the file."""
    kind: Any = str | _SOURCE_TYPES[fields[0]]
    if len(named) > len(fields):
        raise MappingError(f"{key}: has {len(named)} fields, there is room for {len(fields)}")
    for name in named:
        if not (name.isprintable() and name.strip() == name and 0 < len(name) <= LONGEST_NAME):
            raise MappingError(f"{key}: {name!r} is no name of 1 to {LONGEST_NAME} characters")
        if name in _SOURCE_TYPES:
            raise MappingError(
                f"{key}.{name}: is a field of its own: write it below fields, or name it otherwise"
            )
    sources = []
    for name, source in named.items():
        try:
            sources.append((name, msgspec.convert(source, kind, strict=False)))
        except msgspec.ValidationError as error:
            problem, _, path = str(error).partition(" - at `$")
            raise msgspec.ValidationError(f"{problem} - at `$.{key}.{name}{path or '`'}") from None
    return dict(zip(fields, sources, strict=False))


class _Loader(yaml.BaseLoader):
    """Makes texts of all scalars, and refuses a key that comes twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        first: dict[str, int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise MappingError(f"line {key.start_mark.line + 1}: a key must be a text")
            line = key.start_mark.line + 1
            if key.value in first:
                raise MappingError(f"{key.value} comes twice, on line {first[key.value]} and on line {line}")
            first[key.value] = line
        return super().construct_mapping(node, deep)


def load(path: Path) -> MappingFile:
    """Reads a mapping file. Every scalar in it is taken as it is written: `no` and `1` are texts.

    Raises:
        MappingError: the file cannot be read, is no YAML or no mapping.
    """
    try:
        return parse(yaml.load(path.read_text("utf8"), _Loader))  # noqa: S506 - it makes texts, lists and dicts only
    except MappingError as error:
        raise MappingError(f"{path}: {error}") from None
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
        names = [field.name for field in _NAMED]
        similar = difflib.get_close_matches(unknown[1], names, 1)
        hint = f", did you mean {similar[0]}?" if similar else f": {', '.join(names)}"
        return f"fields: a transaction has no field {unknown[1]!r}{hint}"
    if "invalid enum value" in problem.lower() and (choices := _CHOICES.get(key.rpartition(".")[2])):
        problem += f", it is one of: {', '.join(choices)}"
    return f"{key}: {problem[0].lower()}{problem[1:]}"


def _choices(record: type[msgspec.Struct]) -> Iterator[tuple[str, list[str]]]:
    """The keys of a struct that have a list of values, and the values."""
    for name, kind in get_type_hints(record).items():
        for part in (kind, *get_args(kind)):
            if get_origin(part) is Literal:
                yield name, [repr(value) if value in _UNREADABLE else value for value in get_args(part)]


_UNREADABLE = {",", ".", "'", " "}
_CHOICES = {key: values for record in (NumberSource, TimeSource, Csv) for key, values in _choices(record)}
