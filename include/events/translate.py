"""Translates rows of foreign data into events by a mapping file.

`include.events.transaction.decode` validates the result, as it does every event.
"""

from __future__ import annotations

import difflib
import re
import string
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from decimal import ROUND_HALF_UP, Decimal
from typing import NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

from include.events.currencies import MINOR_UNITS
from include.events.mapping import (
    FieldSource,
    LabelSource,
    MappingError,
    MappingFile,
    NumberSource,
    Source,
    TimeSource,
)
from include.events.numbers import Digits, NotANumber, NumberForm, Reading, is_plain, read_number
from include.events.transaction import FIELDS

Row = Mapping[str, object]
Reader = Callable[[Row], object]

ROW = "\0row"  # the key of a row's number, for {row} in a text; no column has this name
FILE = "\0file"  # likewise its file's name without endings, for {file}
PLACEHOLDERS = {"row": ROW, "file": FILE}
MICROSECONDS = {
    "nanoseconds": Decimal("0.001"),
    "microseconds": Decimal(1),
    "milliseconds": Decimal(1_000),
    "seconds": Decimal(10**6),
    "minutes": Decimal(60 * 10**6),
    "hours": Decimal(3600 * 10**6),
    "days": Decimal(86_400 * 10**6),
}
LONGEST_SCENARIO = 128  # characters
LARGEST_FACTOR = 6  # the exponent of a factor: a product then keeps every digit in Decimal's 28
NULL_WORDS = {"null", "(null)", "none", "nan", "n/a", "#n/a", "na", "nil", "undefined", "\\n", "-", "?"}
"""Words that often stand for a missing value, in small letters; only those that a mapping names are taken so."""


class BadValue(ValueError):
    """A row's value does not follow the mapping.

    Attributes:
        field: of the transaction.
        detail: the field, the column and the rule in words; never the value.
        value: the value as text.
        readings: other ways to spell a number by which the value would be one.
        hint: what to do; it may name the value.
    """

    def __init__(
        self, field: str, detail: str, value: str, readings: tuple[Reading, ...] = (), hint: str = ""
    ):
        super().__init__(
            "; ".join([f"{detail} (it is {value[:80]!r})", *map(str, readings), *([hint] * bool(hint))])
        )
        self.field = field
        self.detail = detail
        self.value = value
        self.readings = readings


class LeftOut(Exception):
    """A row is no payment by a rule of the mapping, which the message names."""


class RowLabel(NamedTuple):
    """What a row says about fraud; known_at is None where the mapping has none or its column is empty."""

    is_fraud: bool
    scenario: str | None
    known_at: datetime | None = None


class Translator:
    """Applies a mapping file to rows.

    Args:
        mapping: a mapping file.
        path: of the mapping file, for messages.
        columns: those that the rows have; None when they are not known before, as in JSON.
        numbered: rows have numbers and may be left out: they stand in a file, not in a topic.
        labels: the label stands in the same rows.

    Attributes:
        columns: the columns or paths that are needed, each once.
        origin: what each mapped field is made from, in words.
        zone: of times without an offset.
        null_words: how often a column had a common word for a missing value that the mapping does not name.

    Raises:
        MappingError: a column is missing or a rule cannot be followed.
    """

    def __init__(
        self,
        mapping: MappingFile,
        path: str,
        columns: Iterable[str] | None = None,
        *,
        numbered: bool | None = None,
        labels: bool = True,
    ):
        self._path = path
        self._available = None if columns is None else list(columns)
        self._numbered = self._available is not None if numbered is None else numbered
        self._csv = mapping.csv
        self._key = mapping.key
        self._missing = frozenset(mapping.missing)
        self.columns: list[str] = []
        self.origin: dict[str, str] = {}
        self.null_words: Counter[tuple[str, str]] = Counter()
        self.zone: tzinfo = UTC
        self._currency: Reader | None = None
        if currency := mapping.fields.get("currency"):
            self._currency = self._field_reader("currency", currency)
        self._fields = [(name, self._field_reader(name, source)) for name, source in mapping.fields.items()]
        self._filters = self._filter_readers(mapping)
        self._label = self._label_reader(mapping.label) if mapping.label and labels else _no_label

    def event(self, row: Row) -> dict[str, object]:
        """The fields of a row's event that are not missing, ready for JSON.

        Args:
            row: its values by column; `ROW` holds its number, if it has one.

        Raises:
            BadValue
            LeftOut: the row is no payment.
        """
        for check in self._filters:
            check(row)
        values = ((name, read(row)) for name, read in self._fields)
        return {name: value for name, value in values if value is not None}

    def label(self, row: Row) -> RowLabel | None:
        """The label of a row; None when the row or the mapping has none.

        Raises:
            BadValue: the column has a value that the mapping does not name.
        """
        return self._label(row)

    # Rows

    def _filter_readers(self, mapping: MappingFile) -> list[Callable[[Row], None]]:
        rules = [(key, rule) for key in ("only", "without") for rule in getattr(mapping.rows, key).items()]
        if rules and not self._numbered:
            raise self._error("rows", "each record of a topic is stored: rows cannot be left out there")
        return [self._filter(f"rows.{key}", column, values, key == "only") for key, (column, values) in rules]

    def _filter(self, key: str, column: str, values: list[str], wanted: bool) -> Callable[[Row], None]:
        self._column(key, column)
        known = frozenset(values)

        def check(row: Row) -> None:
            text = self._text("rows", row, column) or ""
            if (text in known) != wanted:
                raise LeftOut(f"{column} is {text[:40] or 'empty'}")

        return check

    # Labels

    def _label_reader(self, source: LabelSource) -> Callable[[Row], RowLabel | None]:
        column = self._column("label.column", source.column)
        scenario_column = source.scenario and self._column("label.scenario", source.scenario)
        known_at = self._known_at_reader(source)
        meanings = {"fraud": source.fraud, "honest": source.honest, "unknown": source.unknown}
        known: dict[str, str] = {}
        for meaning, values in meanings.items():
            if both := known.keys() & set(values):
                one, other = known[min(both)], meaning
                raise self._error("label", f"{', '.join(sorted(both))} cannot mean both {one} and {other}")
            known |= dict.fromkeys(values, meaning)

        def read(row: Row) -> RowLabel | None:
            text = self._text("label", row, column)
            meaning = "unknown" if text is None else known.get(text)
            if text is not None and meaning is None:
                rule = f"column {column!r} is in none of fraud, honest, unknown"
                raise BadValue("label", rule, text)
            if meaning == "unknown":
                return None
            is_fraud = meaning == "fraud"
            scenario = self._text("label", row, scenario_column) if scenario_column and is_fraud else None
            if scenario is not None and (len(scenario) > LONGEST_SCENARIO or scenario.isspace()):
                rule = f"column {scenario_column!r} is no name of 1 to {LONGEST_SCENARIO} characters"
                raise BadValue("label", rule, scenario)
            return RowLabel(is_fraud, scenario, known_at(row))

        return read

    def _known_at_reader(self, source: LabelSource) -> Callable[[Row], datetime | None]:
        if source.known_at is None:
            return _no_time
        if not self._numbered:
            raise self._error("label.known_at", "a label in a topic's event is known from the start")
        given = source.known_at
        time_source = TimeSource(column=given) if isinstance(given, str) else given
        return self._time_reader("label.known_at", "label", time_source)

    # Fields

    def _field_reader(self, name: str, source: FieldSource) -> Reader:
        key = self._key(name)
        if isinstance(source, TimeSource):
            self.zone = self._zone(key, source.zone)
            return self._time_reader(key, name, source)
        if isinstance(source, NumberSource):
            return self._number_reader(key, name, source)
        read = self._text_reader(key, name, source)
        return (lambda row: _currency_code(read(row))) if name == "currency" else read

    def _text_reader(self, key: str, name: str, source: Source) -> Callable[[Row], str | None]:
        option = self._one_of(key, source, "column", "constant", "text")
        if source.constant is not None:
            self.origin[name] = "a constant"
            constant = source.constant
            return lambda row: constant
        if option == "text":
            self.origin[name] = f"text {source.text!r}"
            return self._template_reader(key, name, source.text or "")
        column = self._column(key, source.column or "", name)

        def read(row: Row) -> str | None:
            text = self._text(name, row, column)
            if text is not None and text.lower() in NULL_WORDS:
                self.null_words[column, text] += 1
            return text

        return read

    def _one_of(self, key: str, source: FieldSource, *options: str) -> str:
        """The option of these that a source has; exactly one."""
        given = [option for option in options if getattr(source, option) is not None]
        if len(given) != 1:
            raise self._error(key, f"needs exactly one of {', '.join(options)}")
        return given[0]

    def _text(self, field: str, row: Row, column: str) -> str | None:
        """A column's value as text; None for what is missing."""
        value = row.get(column)
        if isinstance(value, dict | list):
            inner = ", ".join(f"{column}.{key}" for key in list(value)[:8]) if isinstance(value, dict) else ""
            hint = f"name a value in it: {inner}" if inner else ""
            raise BadValue(field, f"column {column!r} is an object or array", "…", hint=hint)
        text = text_of(value)
        return None if text is None or text.strip() in self._missing else text

    def _column(self, key: str, column: str, field: str | None = None) -> str:
        """Notes that the mapping reads a column, and for which field."""
        if self._available is not None and column not in self._available:
            similar = difflib.get_close_matches(column, self._available, 1)
            names = ", ".join(self._available)
            hint = f"did you mean {similar[0]!r}?" if similar else f"there are: {names}"
            if len(self._available) == 1 and (sign := next((s for s in ";\t|," if s in names), None)):
                hint += f"; if the header has more of them, give `csv: {{delimiter: {sign!r}}}`"
            raise self._error(key, f"there is no column {column!r}, {hint}")
        if column not in self.columns:
            self.columns.append(column)
        if field:
            self.origin[field] = f"column {column!r}"
        return column

    # Texts

    def _template_reader(self, key: str, name: str, template: str) -> Callable[[Row], str | None]:
        parts = self._template(key, template)

        def read(row: Row) -> str | None:
            values = [part.value(self, name, row) for part in parts]
            if not any(values):
                return None
            return "".join(
                part.literal + (value or "") for part, value in zip(parts, values, strict=True)
            ).strip()

        return read

    def _template(self, key: str, template: str) -> list[_Part]:
        """The parts of a text."""
        try:
            parsed = list(string.Formatter().parse(template))
        except ValueError as error:
            raise self._error(key, f"text: {error}") from None
        if not any(column for _, column, _, _ in parsed):
            raise self._error(key, "text: names no {column}; write constant for the same text in each row")
        parts: list[_Part] = []
        for literal, column, form, conversion in parsed:
            width = re.fullmatch(r"0(\d{1,2})d?", form or "")
            if (form and not width) or conversion:
                written = f"{column}{'!' + conversion if conversion else ''}{':' + form if form else ''}"
                raise self._error(
                    key,
                    f"text: {{{written}}}: only a number of digits such as {{{column}:05}} may follow a column",
                )
            if column in PLACEHOLDERS and not self._numbered:
                what = "row numbers" if column == "row" else "files"
                raise self._error(key, f"text: a topic has no {what}; name a column instead of {{{column}}}")
            if column in PLACEHOLDERS:
                column = PLACEHOLDERS[column]
            elif column is not None:
                self._column(key, column)
            parts.append(_Part(literal, column, int(width[1]) if width else 0))
        return parts

    # Numbers

    def _number_reader(self, key: str, name: str, source: NumberSource) -> Reader:
        form = self._number_form(key, name, source)
        if source.debit is not None or source.credit is not None:
            return self._debit_reader(key, name, source, form)
        option = self._one_of(key, source, "column", "constant")
        scale = self._scale(key, name, source)
        if option == "constant":
            self.origin[name] = "a constant"
            try:
                digits = read_number(source.constant or "", NumberForm())
            except NotANumber as error:
                raise self._error(key, f"constant {error} (it is {source.constant!r})") from None
            return lambda row: scale(digits, row)
        column = self._column(key, source.column or "", name)
        origin = self.origin[name]

        def read(row: Row) -> msgspec.Raw | None:
            number = self._number(name, origin, row, column, form)
            return None if number is None else scale(number, row)

        return read

    def _debit_reader(self, key: str, name: str, source: NumberSource, form: NumberForm) -> Reader:
        """A payment is what stands in the column of debits, whatever its sign; a row with a credit is left out."""
        if source.debit is None or source.credit is None or source.column or source.constant or source.sign:
            raise self._error(key, "debit and credit come together, without column, constant and sign")
        if not self._numbered:
            raise self._error(
                key, "each record of a topic is stored: rows with a credit cannot be left out there"
            )
        debit, credit = self._column(key, source.debit), self._column(key, source.credit)
        self.origin[name] = f"column {debit!r}"
        scale = self._scale(key, name, source)

        def read(row: Row) -> msgspec.Raw | None:
            spent = self._number(name, f"column {debit!r}", row, debit, form)
            received = self._number(name, f"column {credit!r}", row, credit, form)
            if spent and received:
                rule = f"both column {debit!r} and column {credit!r} have a value"
                raise BadValue(name, rule, f"{spent} and {received}")
            if received:
                raise LeftOut(f"{credit} has a value")
            return None if spent is None else scale(abs(spent), row)

        return read

    def _number_form(self, key: str, name: str, source: NumberSource) -> NumberForm:
        decimal = source.decimal or self._csv.decimal
        thousands = source.thousands or self._csv.thousands or ""
        if decimal == thousands:
            raise self._error(key, f"decimal and thousands cannot both be {decimal!r}")
        symbols = (source.symbol,) if isinstance(source.symbol, str) else tuple(source.symbol)
        largest = next((field.maximum for field in FIELDS if field.name == name), None)
        safe = source.three_decimals or (largest is not None and largest < 1000)
        return NumberForm(decimal, thousands, tuple(filter(None, symbols)), safe)

    def _number(self, field: str, origin: str, row: Row, column: str, form: NumberForm) -> Decimal | None:
        """A column's number; None for what is missing."""
        text = self._text(field, row, column)
        if text is None:
            return None
        if isinstance(row.get(column), int | float | Decimal | Digits):
            form = NumberForm()  # no text, so that no sign in it depends on a country
        try:
            return read_number(text, form)
        except NotANumber as error:
            rule = str(error).partition("; ")[0]
            hint = ""
            if not error.readings and text.strip().lower() in NULL_WORDS:
                hint = f"if it means a missing value, add `missing: [{text.strip()}]` to the mapping"
            raise BadValue(field, f"{origin} {rule}", text, error.readings, hint) from None

    def _scale(self, key: str, name: str, source: NumberSource) -> Callable[[Decimal, Row], msgspec.Raw]:
        """The function from a number in a row to the digits of the event's."""
        written = "1" if source.factor is None else source.factor
        factor = Decimal(written if is_plain(written) else 0)
        if not factor or abs(factor.adjusted()) > LARGEST_FACTOR:
            raise self._error(key, f"factor: {source.factor!r} is no number such as 0.01")
        own = self._minor_units(key, source)
        if source.sign in ("positive", "negative") and not self._numbered:
            raise self._error(
                key, f"sign: {source.sign}: a topic's records cannot be left out, write absolute"
            )
        origin = self.origin.get(name, "")
        currency = self._currency if name == "amount" or own is not None else None
        unchanged = factor == 1 and own is None and not source.round and source.sign is None
        decimals_of_factor = -factor.adjusted() if abs(factor) in _MINOR_FACTORS else None

        def scale(value: Decimal, row: Row) -> msgspec.Raw:
            if unchanged:
                return msgspec.Raw(format(value, "f").encode())
            code = currency(row) if currency else None
            if own is not None:
                value = value.scaleb(-_decimals(own, name, code))
            else:
                if (
                    decimals_of_factor is not None
                    and MINOR_UNITS.get(str(code), decimals_of_factor) != decimals_of_factor
                ):
                    hint = (
                        f"the minor unit of {code} has {MINOR_UNITS[str(code)]} decimals: write `minor_units: true` "
                        f"instead of factor, or `minor_units: {{{code}: {decimals_of_factor}}}` if the file counts so"
                    )
                    rule = f"{origin}: factor {source.factor} is wrong for its currency"
                    raise BadValue(name, rule, f"{value:f} {code}", hint=hint)
                value *= factor
            if source.sign == "absolute":
                value = abs(value)
            elif source.sign and value:
                if (value > 0) != (source.sign == "positive"):
                    raise LeftOut(f"{name} is {'positive' if value > 0 else 'negative'}")
                value = abs(value)
            if source.round:
                value = value.quantize(_CENT, ROUND_HALF_UP)
            return msgspec.Raw(format(value, "f").encode())

        return scale

    def _minor_units(self, key: str, source: NumberSource) -> dict[str, int] | None:
        """Decimals of each currency's minor unit; None when numbers are in the currency's main unit."""
        if source.minor_units is False:
            return None
        if source.factor is not None:
            raise self._error(key, "needs factor or minor_units, not both")
        if self._currency is None:
            raise self._error(key, "minor_units: needs the field currency")
        own = source.minor_units if isinstance(source.minor_units, dict) else {}
        if wrong := [code for code, decimals in own.items() if not 0 <= decimals <= LARGEST_FACTOR]:
            raise self._error(key, f"minor_units: {wrong[0]} must have 0 to {LARGEST_FACTOR} decimals")
        return MINOR_UNITS | {code.upper(): decimals for code, decimals in own.items()}

    # Times

    def _time_reader(self, key: str, field: str, source: TimeSource) -> Callable[[Row], datetime | None]:
        option = self._one_of(key, source, "column", "text")
        zone = self._zone(key, source.zone)
        template = self._template_reader(key, field, source.text or "") if option == "text" else None
        column = (
            self._column(key, source.column or "", field if key.startswith("fields") else None)
            if not template
            else ""
        )
        origin = f"text {source.text!r}" if template else f"column {column!r}"
        if template and key.startswith("fields"):
            self.origin[field] = origin
        parse, rule = self._time_parser(key, field, origin, source, zone)

        def read(row: Row) -> datetime | None:
            text = template(row) if template else self._text(field, row, column)
            if text is None:
                return None
            try:
                at = parse(text if template else row.get(column), text)
                return (at if at.tzinfo else at.replace(tzinfo=zone)).astimezone(UTC)
            except (ValueError, OverflowError):
                raise BadValue(field, f"{origin} is not {rule}", text) from None

        return read

    def _zone(self, key: str, name: str) -> tzinfo:
        try:
            return UTC if name == "UTC" else ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise self._error(key, f"zone: {name!r} is no time zone such as Europe/Berlin") from None

    def _time_parser(
        self, key: str, field: str, origin: str, source: TimeSource, zone: tzinfo
    ) -> tuple[Callable[[object, str], datetime], str]:
        """The function from a value and its text to a time, and the rule in words."""
        form = source.format
        if source.since is None:
            if form is None:
                return _iso_time, _ISO_RULE
            return lambda value, text: datetime.strptime(text.strip(), form), f"a time of the form {form}"
        if form is not None:
            raise self._error(key, "needs format or since, not both")
        try:
            start = datetime.fromisoformat(source.since)
        except ValueError:
            raise self._error(key, f"since: {source.since!r} is no date such as 2026-01-31") from None
        since = (start if start.tzinfo else start.replace(tzinfo=zone)).astimezone(UTC)
        unit = MICROSECONDS[source.unit]
        form_of_number = NumberForm(decimal=self._csv.decimal)

        def parse(value: object, text: str) -> datetime:
            native = isinstance(value, int | float | Decimal | Digits)
            number = _elapsed(text, NumberForm() if native else form_of_number)
            return since + timedelta(microseconds=round(number * unit))

        return parse, f"a number of {source.unit} since {source.since}"

    def _error(self, key: str, problem: str) -> MappingError:
        return MappingError(f"{self._path}: {key}: {problem}")


class _Part(NamedTuple):
    """A part of a text: a literal, then a column, or None after the last literal, filled with zeros to `width`."""

    literal: str
    column: str | None
    width: int

    def value(self, translator: Translator, field: str, row: Row) -> str | None:
        if self.column is None:
            return None
        text = translator._text(field, row, self.column)
        return text.strip().zfill(self.width) if text and self.width else text


_CENT = Decimal("0.01")
_MINOR_FACTORS = {Decimal(1).scaleb(-decimals) for decimals in (1, 2, 3, 4)}
_ISO_RULE = "a time as ISO 8601 writes it, such as 2026-01-31 14:30:00: give its format, or since and unit"
_LONGEST_ELAPSED = 20  # digits of nanoseconds in the years to come


def _elapsed(text: str, form: NumberForm) -> Decimal:
    """The number of units since a date, which may have more digits than an amount."""
    digits = text.strip()
    if digits.isascii() and digits.isdecimal() and len(digits) <= _LONGEST_ELAPSED:
        return Decimal(digits)
    return read_number(text, form)


def _decimals(decimals: Mapping[str, int], name: str, code: object) -> int:
    """Of a currency's minor unit.

    Raises:
        BadValue: it is not known.
    """
    if code is None:
        raise BadValue(name, "minor_units: the row has no currency", "")
    if str(code) not in decimals:
        hint = f"add its decimals, such as `minor_units: {{{code}: 2}}`"
        raise BadValue(name, "minor_units: the currency is none of ISO 4217", str(code), hint=hint)
    return decimals[str(code)]


def _currency_code(text: str | None) -> str | None:
    """A currency's code in capital letters; any other text as it is."""
    code = text.strip() if text else ""
    return code.upper() if len(code) == 3 and code.isascii() and code.isalpha() else text


def _no_label(row: Row) -> None:
    return None


def _no_time(row: Row) -> None:
    return None


def _iso_time(value: object, text: str) -> datetime:
    if isinstance(value, datetime):  # as Parquet files have them
        return value
    if isinstance(value, date):
        return datetime.combine(value, time())
    return datetime.fromisoformat(text.strip())


def at_path(record: Mapping[str, object], path: str) -> object:
    """A record's value of this name, or the one at this path of names with points between; None where it is missing."""
    if path in record:
        return record[path]
    value: object = record
    for name in path.split("."):
        if isinstance(value, Mapping):
            value = value.get(name)
        elif isinstance(value, list) and name.isdecimal() and int(name) < len(value):
            value = value[int(name)]
        else:
            return None
    return value


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
