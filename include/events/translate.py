"""Turns rows of other people's data into events, as a mapping file says.

What comes out is judged by `include.events.transaction.decode`, as every event is.
"""

from __future__ import annotations

import difflib
import re
import string
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from decimal import ROUND_HALF_UP, Decimal
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

from include.events.mapping import (
    Fields,
    MappingError,
    MappingFile,
    NumberSource,
    Source,
    TimeSource,
    as_source,
)

Row = Mapping[str, object]

ROW = "\0row"  # where a row holds its number, which {row} in a text stands for
NUMBER = "row"
UNITS = {
    "milliseconds": 1_000,
    "seconds": 10**6,
    "minutes": 60 * 10**6,
    "hours": 3600 * 10**6,
    "days": 86_400 * 10**6,
}
LONGEST_SCENARIO = 128
LARGEST_EXPONENT = 15  # of a number that is worth writing out in digits
LARGEST_FACTOR = 6  # its exponent; a product then has no more digits than decimal numbers keep


class BadValue(ValueError):
    """A row's value is not what the mapping says.

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


class Translator:
    """Turns rows into events as a mapping says.

    Args:
        mapping: the mapping file.
        source: what messages call it, its path.
        columns: those that there are; None where each row may have others, as in a topic.

    Attributes:
        columns: those that the mapping needs, in the order of first use.

    Raises:
        MappingError: a column that there is not, or a rule that cannot be followed.
    """

    def __init__(self, mapping: MappingFile, source: str, columns: Iterable[str] | None = None):
        self._mapping, self._source = mapping, source
        self._there = None if columns is None else list(columns)
        self.columns: list[str] = []
        self._comma = mapping.csv.decimal == ","
        self.origin: dict[str, str] = {}
        self._getters: list[tuple[str, Callable[[Row], object]]] = []
        for name in Fields.__struct_fields__:
            if (said := getattr(mapping.fields, name)) is not None:
                self._getters.append((name, self._getter(name, said)))
        if mapping.label:
            self._column("label.column", mapping.label.column)
            self._known = dict.fromkeys(mapping.label.honest, False) | dict.fromkeys(
                mapping.label.fraud, True
            )
            if both := set(mapping.label.honest) & set(mapping.label.fraud):
                raise self._error("label", f"{', '.join(sorted(both))} cannot mean both fraud and honest")
            if mapping.label.scenario:
                self._column("label.scenario", mapping.label.scenario)

    def event(self, row: Row) -> dict[str, object]:
        """The fields of a row's event that are not missing, ready for JSON.

        Args:
            row: its values by column; `ROW` holds its number, if it has one.

        Raises:
            BadValue
        """
        found = ((name, getter(row)) for name, getter in self._getters)
        return {name: value for name, value in found if value is not None}

    def label(self, row: Row) -> tuple[bool, str | None] | None:
        """Whether the row says fraud, and the kind; None when it says nothing.

        Raises:
            BadValue: the column has a value that the mapping does not name.
        """
        rule = self._mapping.label
        text = rule and text_of(row.get(rule.column))
        if text is None:
            return None
        try:
            fraud = self._known[text]
        except KeyError:
            raise BadValue(
                "label", f"column {rule.column!r} is neither in fraud nor in honest", text
            ) from None
        scenario = text_of(row.get(rule.scenario)) if rule.scenario and fraud else None
        if scenario is not None and (len(scenario) > LONGEST_SCENARIO or scenario.isspace()):
            raise BadValue(
                "label", f"column {rule.scenario!r} is no name of 1 to 128 characters", scenario[:80]
            )
        return fraud, scenario

    def _getter(self, name: str, said: object) -> Callable[[Row], object]:
        place = f"fields.{name}"
        said = as_source(name, said)
        if isinstance(said, TimeSource):
            return self._time(name, said)
        given = [each for each in ("column", "constant", "text") if getattr(said, each, None) is not None]
        if len(given) != 1:
            raise self._error(place, "needs exactly one of column, constant" + _OR_TEXT[type(said)])
        if given == ["text"]:
            return self._text(place, name, said.text)
        if given == ["constant"]:
            self.origin[name] = "a constant"
            constant = said.constant
            if isinstance(said, NumberSource):
                try:
                    constant = self._number(name, said)(constant)
                except BadValue as error:
                    raise self._error(place, str(error)) from None
            return lambda row: constant
        column = self._column(place, said.column, name)
        if isinstance(said, NumberSource):
            number = self._number(name, said)
            return lambda row: number(text_of(row.get(column)))
        return lambda row: text_of(row.get(column))

    def _column(self, place: str, column: str, field: str | None = None) -> str:
        """Notes that a column is needed."""
        if self._there is not None and column not in self._there:
            near = difflib.get_close_matches(column, self._there, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(self._there)}"
            raise self._error(place, f"there is no column {column!r}, {hint}")
        if column not in self.columns:
            self.columns.append(column)
        if field:
            self.origin[field] = f"column {column!r}"
        return column

    def _text(self, place: str, name: str, template: str) -> Callable[[Row], str | None]:
        try:
            parts = [(before, column) for before, column, *_ in string.Formatter().parse(template)]
        except ValueError as error:
            raise self._error(place, f"text: {error}") from None
        if not any(column for _, column in parts):
            raise self._error(place, "text: names no {column}; write constant for the same text in each row")
        for _, column in parts:
            if column == NUMBER and self._there is None:
                raise self._error(place, "text: a topic has no row numbers; name a column instead of {row}")
            if column is not None and column != NUMBER:
                self._column(place, column)
        parts = [(before, ROW if column == NUMBER else column) for before, column in parts]
        self.origin[name] = f"text {template!r}"

        def joined(row: Row) -> str | None:
            values = [None if column is None else text_of(row.get(column)) for _, column in parts]
            if not any(values):
                return None
            return "".join(
                before + (value or "") for (before, _), value in zip(parts, values, strict=True)
            ).strip()

        return joined

    def _number(self, name: str, said: NumberSource) -> Callable[[str | None], msgspec.Raw | None]:
        place = f"fields.{name}"
        factor = Decimal(said.factor if _NUMBER.fullmatch(said.factor) else 0)
        if not factor or abs(factor.adjusted()) > LARGEST_FACTOR:
            raise self._error(place, f"factor: {said.factor!r} is no number such as 0.01")
        plain = factor == 1 and not said.round
        where = f"column {said.column!r}" if said.column else "constant"

        def number(text: str | None) -> msgspec.Raw | None:
            if text is None:
                return None
            value = self._decimal(name, where, text)
            if not plain:
                value *= factor
                if said.round:
                    value = value.quantize(_CENT, ROUND_HALF_UP)
            return msgspec.Raw(format(value, "f").encode())

        return number

    def _decimal(self, name: str, where: str, text: str) -> Decimal:
        digits = text.strip()
        if self._comma:
            digits = digits.replace(",", ".", 1)
        if not _NUMBER.fullmatch(digits):
            hint = "" if self._comma or "," not in digits else ", see csv.decimal in docs/import.md"
            raise BadValue(name, f"{where} is no number{hint}", text)
        value = Decimal(digits)
        if value and abs(value.adjusted()) > LARGEST_EXPONENT:
            raise BadValue(name, f"{where} is too large or too small a number", text)
        return value

    def _time(self, name: str, said: TimeSource) -> Callable[[Row], datetime | None]:
        place = f"fields.{name}"
        column = self._column(place, said.column, name)
        if said.format and said.since:
            raise self._error(place, "needs format or since, not both")
        try:
            zone = UTC if said.zone == "UTC" else ZoneInfo(said.zone)
        except (ZoneInfoNotFoundError, ValueError):
            raise self._error(place, f"zone: {said.zone!r} is no time zone such as Europe/Berlin") from None
        read, rule = self._reader(name, said, zone)

        def moment(row: Row) -> datetime | None:
            value = row.get(column)
            if text_of(value) is None:
                return None
            try:
                found = read(value)
                found = found.replace(tzinfo=zone) if found.tzinfo is None else found
                return found.astimezone(UTC)
            except (ValueError, OverflowError):
                raise BadValue(name, f"column {column!r} is not {rule}", text_of(value)) from None

        return moment

    def _reader(self, name: str, said: TimeSource, zone: tzinfo) -> tuple[Callable[[Any], datetime], str]:
        """What reads a value as a time, and the rule in words."""
        if said.since is not None:
            try:
                since = datetime.fromisoformat(said.since)
            except ValueError:
                raise self._error(
                    f"fields.{name}", f"since: {said.since!r} is no date such as 2026-01-31"
                ) from None
            since = (since if since.tzinfo else since.replace(tzinfo=zone)).astimezone(UTC)
            micros, where = UNITS[said.unit], f"column {said.column!r}"

            def added(value: Any) -> datetime:
                number = self._decimal(name, where, text_of(value))
                return since + timedelta(microseconds=int(round(number * micros)))

            return added, f"a number of {said.unit} since {said.since}"
        if said.format is None:
            return (
                _iso,
                "a time as ISO 8601 writes it, such as 2026-01-31 14:30:00: give its format, or since and unit",
            )
        return lambda value: datetime.strptime(
            text_of(value), said.format
        ), f"a time of the form {said.format}"

    def _error(self, place: str, problem: str) -> MappingError:
        return MappingError(f"{self._source}: {place}: {problem}")


_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,4})?", re.ASCII)
_CENT = Decimal("0.01")
_OR_TEXT = {Source: ", text", NumberSource: ""}


def _iso(value: Any) -> datetime:
    if isinstance(value, datetime):  # a Parquet file has such
        return value
    if isinstance(value, date):
        return datetime.combine(value, time())
    return datetime.fromisoformat(text_of(value).strip())


def text_of(value: object) -> str | None:
    """A column's value as text; None for what is missing. A whole number has no decimals, whatever its type."""
    if value is None or isinstance(value, str):
        return value or None
    if isinstance(value, bytes):
        return value.decode("utf8", "surrogateescape") or None  # what is no UTF-8 is refused as a value later
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
