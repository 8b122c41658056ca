"""Translates rows of foreign data into events by a mapping file.

`include.events.transaction.decode` validates the result, as it does every event.
"""

from __future__ import annotations

import difflib
import re
import string
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from decimal import ROUND_HALF_UP, Decimal
from typing import NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

from include.events.mapping import (
    FieldSource,
    LabelSource,
    MappingError,
    MappingFile,
    NumberSource,
    TimeSource,
)

Row = Mapping[str, object]

ROW = "\0row"  # the key of a row's number, for {row} in a text; no column has this name
NUMBER = "row"
MICROSECONDS = {
    "milliseconds": 1_000,
    "seconds": 10**6,
    "minutes": 60 * 10**6,
    "hours": 3600 * 10**6,
    "days": 86_400 * 10**6,
}
LONGEST_SCENARIO = 128  # characters
LARGEST_EXPONENT = 15  # of a number in a row: its digits are written out
LARGEST_FACTOR = 6  # the exponent of a factor: a product then keeps every digit in Decimal's 28


class BadValue(ValueError):
    """A row's value does not follow the mapping.

    Attributes:
        field: of the transaction.
        detail: the field, the column and the rule in words; never the value.
        value: the value as text.
    """

    def __init__(self, field: str, detail: str, value: str):
        super().__init__(f"{detail} (it is {value!r})")
        self.field = field
        self.detail = detail
        self.value = value


class RowLabel(NamedTuple):
    """A row's label; scenario names the kind of fraud, if the row has one."""

    is_fraud: bool
    scenario: str | None


class Translator:
    """Translates rows into events by a mapping.

    Args:
        mapping: the mapping file.
        path: the file's path, for messages.
        columns: the columns of the data; None where rows may differ, as in a topic.

    Attributes:
        columns: the columns that the mapping reads, in the order of first use.
        origin: by field, its source in words.

    Raises:
        MappingError: the data lacks a column, or a rule cannot be followed.
    """

    def __init__(self, mapping: MappingFile, path: str, columns: Iterable[str] | None = None):
        self._path = path
        self._available = None if columns is None else list(columns)
        self._decimal_comma = mapping.csv.decimal == ","
        self.columns: list[str] = []
        self.origin: dict[str, str] = {}
        self._fields = [(name, self._field_reader(name, source)) for name, source in mapping.fields.items()]
        self._label = self._label_reader(mapping.label) if mapping.label else _no_label

    def event(self, row: Row) -> dict[str, object]:
        """The fields of a row's event that are not missing, ready for JSON.

        Args:
            row: its values by column; `ROW` holds its number, if it has one.

        Raises:
            BadValue
        """
        values = ((name, read(row)) for name, read in self._fields)
        return {name: value for name, value in values if value is not None}

    def label(self, row: Row) -> RowLabel | None:
        """The label of a row; None when the row or the mapping has none.

        Raises:
            BadValue: the column has a value that the mapping does not name.
        """
        return self._label(row)

    def _label_reader(self, source: LabelSource) -> Callable[[Row], RowLabel | None]:
        column = self._column("label.column", source.column)
        scenario_column = source.scenario and self._column("label.scenario", source.scenario)
        if both := set(source.honest) & set(source.fraud):
            raise self._error("label", f"{', '.join(sorted(both))} cannot mean both fraud and honest")
        known = dict.fromkeys(source.honest, False) | dict.fromkeys(source.fraud, True)

        def read(row: Row) -> RowLabel | None:
            text = text_of(row.get(column))
            if text is None:
                return None
            if text not in known:
                raise BadValue("label", f"column {column!r} is neither in fraud nor in honest", text)
            scenario = text_of(row.get(scenario_column)) if scenario_column and known[text] else None
            if scenario is not None and (len(scenario) > LONGEST_SCENARIO or scenario.isspace()):
                rule = f"column {scenario_column!r} is no name of 1 to {LONGEST_SCENARIO} characters"
                raise BadValue("label", rule, scenario[:80])
            return RowLabel(known[text], scenario)

        return read

    def _field_reader(self, name: str, source: FieldSource) -> Callable[[Row], object]:
        key = f"fields.{name}"
        if isinstance(source, TimeSource):
            return self._time_reader(name, source)
        options = (
            ["column", "constant"] if isinstance(source, NumberSource) else ["column", "constant", "text"]
        )
        given = {option: value for option in options if (value := getattr(source, option)) is not None}
        if len(given) != 1:
            raise self._error(key, f"needs exactly one of {', '.join(options)}")
        [(option, value)] = given.items()
        if option == "text":
            return self._text_reader(name, value)
        if option == "constant":
            self.origin[name] = "a constant"
            constant = self._constant(name, source, value)
            return lambda row: constant
        column = self._column(key, value, name)
        if isinstance(source, NumberSource):
            number = self._number_parser(name, source, self.origin[name])

            def read(row: Row) -> msgspec.Raw | None:
                text = text_of(row.get(column))
                return None if text is None else number(text)

            return read
        return lambda row: text_of(row.get(column))

    def _constant(self, name: str, source: FieldSource, value: str) -> str | msgspec.Raw:
        if not isinstance(source, NumberSource):
            return value
        try:
            return self._number_parser(name, source, "constant")(value)
        except BadValue as error:
            raise self._error(f"fields.{name}", str(error)) from None

    def _column(self, key: str, column: str, field: str | None = None) -> str:
        """Notes that the mapping reads a column, and for which field."""
        if self._available is not None and column not in self._available:
            similar = difflib.get_close_matches(column, self._available, 1)
            hint = f"did you mean {similar[0]!r}?" if similar else f"there are: {', '.join(self._available)}"
            raise self._error(key, f"there is no column {column!r}, {hint}")
        if column not in self.columns:
            self.columns.append(column)
        if field:
            self.origin[field] = f"column {column!r}"
        return column

    def _text_reader(self, name: str, template: str) -> Callable[[Row], str | None]:
        self.origin[name] = f"text {template!r}"
        parts = self._template(f"fields.{name}", template)

        def read(row: Row) -> str | None:
            values = [None if column is None else text_of(row.get(column)) for _, column in parts]
            if not any(values):
                return None
            literals_and_values = zip(parts, values, strict=True)
            return "".join(literal + (value or "") for (literal, _), value in literals_and_values).strip()

        return read

    def _template(self, key: str, template: str) -> list[tuple[str, str | None]]:
        """The parts of a text: a literal, and the column after it; None after the last literal."""
        try:
            parsed = list(string.Formatter().parse(template))
        except ValueError as error:
            raise self._error(key, f"text: {error}") from None
        if not any(column for _, column, _, _ in parsed):
            raise self._error(key, "text: names no {column}; write constant for the same text in each row")
        parts: list[tuple[str, str | None]] = []
        for literal, column, form, conversion in parsed:
            if form or conversion:
                written = f"{column}{'!' + conversion if conversion else ''}{':' + form if form else ''}"
                raise self._error(key, f"text: {{{written}}}: a column takes no format, write {{{column}}}")
            if column == NUMBER and self._available is None:
                raise self._error(key, "text: a topic has no row numbers; name a column instead of {row}")
            if column == NUMBER:
                parts.append((literal, ROW))
            else:
                parts.append((literal, None if column is None else self._column(key, column)))
        return parts

    def _number_parser(self, name: str, source: NumberSource, origin: str) -> Callable[[str], msgspec.Raw]:
        """The function from a number as text to its digits in JSON; `origin` names its source in messages."""
        factor = Decimal(source.factor if _NUMBER.fullmatch(source.factor) else 0)
        if not factor or abs(factor.adjusted()) > LARGEST_FACTOR:
            raise self._error(f"fields.{name}", f"factor: {source.factor!r} is no number such as 0.01")
        unchanged = factor == 1 and not source.round

        def parse(text: str) -> msgspec.Raw:
            value = self._decimal(name, origin, text)
            if not unchanged:
                value *= factor
                if source.round:
                    value = value.quantize(_CENT, ROUND_HALF_UP)
            return msgspec.Raw(format(value, "f").encode())

        return parse

    def _decimal(self, name: str, origin: str, text: str) -> Decimal:
        digits = text.strip()
        if self._decimal_comma:
            digits = digits.replace(",", ".", 1)
        if not _NUMBER.fullmatch(digits):
            hint = "" if self._decimal_comma or "," not in digits else ", see csv.decimal in docs/import.md"
            raise BadValue(name, f"{origin} is no number{hint}", text)
        value = Decimal(digits)
        if value and abs(value.adjusted()) > LARGEST_EXPONENT:
            raise BadValue(name, f"{origin} is too large or too small a number", text)
        return value

    def _time_reader(self, name: str, source: TimeSource) -> Callable[[Row], datetime | None]:
        key = f"fields.{name}"
        column = self._column(key, source.column, name)
        try:
            zone = UTC if source.zone == "UTC" else ZoneInfo(source.zone)
        except (ZoneInfoNotFoundError, ValueError):
            raise self._error(key, f"zone: {source.zone!r} is no time zone such as Europe/Berlin") from None
        parse, rule = self._time_parser(name, source, zone)

        def read(row: Row) -> datetime | None:
            value = row.get(column)
            text = text_of(value)
            if text is None:
                return None
            try:
                at = parse(value, text)
                return (at if at.tzinfo else at.replace(tzinfo=zone)).astimezone(UTC)
            except (ValueError, OverflowError):
                raise BadValue(name, f"column {column!r} is not {rule}", text) from None

        return read

    def _time_parser(
        self, name: str, source: TimeSource, zone: tzinfo
    ) -> tuple[Callable[[object, str], datetime], str]:
        """The function from a value and its text to a time, and the rule in words."""
        key, form = f"fields.{name}", source.format
        if source.since is None:
            if form is None:
                return _iso_time, _ISO_RULE
            return lambda value, text: datetime.strptime(text, form), f"a time of the form {form}"
        if form is not None:
            raise self._error(key, "needs format or since, not both")
        try:
            start = datetime.fromisoformat(source.since)
        except ValueError:
            raise self._error(key, f"since: {source.since!r} is no date such as 2026-01-31") from None
        since = (start if start.tzinfo else start.replace(tzinfo=zone)).astimezone(UTC)
        unit, origin = MICROSECONDS[source.unit], self.origin[name]

        def parse(value: object, text: str) -> datetime:
            return since + timedelta(microseconds=round(self._decimal(name, origin, text) * unit))

        return parse, f"a number of {source.unit} since {source.since}"

    def _error(self, key: str, problem: str) -> MappingError:
        return MappingError(f"{self._path}: {key}: {problem}")


_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,4})?", re.ASCII)
_CENT = Decimal("0.01")
_ISO_RULE = "a time as ISO 8601 writes it, such as 2026-01-31 14:30:00: give its format, or since and unit"


def _no_label(row: Row) -> None:
    return None


def _iso_time(value: object, text: str) -> datetime:
    if isinstance(value, datetime):  # as Parquet files have them
        return value
    if isinstance(value, date):
        return datetime.combine(value, time())
    return datetime.fromisoformat(text.strip())


def text_of(value: object) -> str | None:
    """A column's value as text; None for what is missing. A whole number has no decimals, whatever its type."""
    if value is None or isinstance(value, str):
        return value or None
    if isinstance(value, bytes):
        return value.decode("utf8", "surrogateescape") or None  # decode refuses what is no UTF-8
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        if value != value:
            return None
        return str(int(value)) if value.is_integer() and abs(value) < 2**53 else repr(value)
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, datetime):
        return value.isoformat()
    return str(value)
