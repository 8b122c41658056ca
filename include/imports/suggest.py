"""Suggests a mapping for a sample of rows: a line for each field, with what it was recognised by.

What the sample leaves open, such as the order of day and month, is a question; without an answer the mapping has no
line for it and cannot be used.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from itertools import product

from include.events.currencies import MINOR_UNITS
from include.events.mapping import LONGEST_NAME
from include.events.numbers import Digits, NotANumber, NumberForm, read_number
from include.events.transaction import FIELDS, NUMBERS
from include.events.translate import NULL_WORDS, text_of
from include.imports.sample import Sample

EXAMPLES = 3
MOST_LABELS = 6  # different values of a label's column
MOST_OWN = len(NUMBERS)
FEWEST_EACH = 5  # rows of the sample for each value of a column that is offered as a category

Values = list[str]


@dataclass(frozen=True)
class Question:
    """What a sample leaves open, and the line of the mapping for each answer."""

    key: str
    text: str
    answers: Mapping[str, str]


@dataclass
class Suggestion:
    """A mapping file's text, and the questions that it leaves open."""

    text: str
    open: list[Question] = field(default_factory=list)


class UnknownAnswer(ValueError):
    """An answer is none of a question's; the message names those."""


Answer = Callable[[Question], str | None]
"""The answer to a question; None leaves it open."""


def from_options(answers: Mapping[str, str]) -> Answer:
    """Answers by the key of a question.

    Raises:
        UnknownAnswer: when a question has no such answer.
    """

    def answer(question: Question) -> str | None:
        given = answers.get(question.key)
        if given is not None and given not in question.answers:
            raise UnknownAnswer(f"{question.key}: {given!r} is none of {', '.join(question.answers)}")
        return given

    return answer


def suggest(sample: Sample, answer: Answer) -> Suggestion:
    """The mapping for rows like those of a sample."""
    return _Suggester(sample, answer).suggestion()


# Patterns of columns' names for each field, the most telling first.
_NAMES: dict[str, tuple[str, ...]] = {
    "transaction_id": (
        r"(transaction|payment|trans|txn|tx|trx|charge|booking)[_ .-]?(id|no|nr|num|number|ref|reference|hash)?$",
        r"^(id|uuid|guid|ref|reference|no|nr|beleg|belegnr)$",
        r"[_ .-](id|uuid|ref)$",
    ),
    "user_id": (
        r"^(user|customer|cust|client|member|payer|debtor|kunde|kunden)[_ .-]?(id|no|nr|num|number|ref)?$",
        r"user|customer|client|member|payer|debtor|sender|auftraggeber|kunde|cardholder",
        r"account|konto|iban|name_?orig",
        r"^card$|card[_ .-]?(id|no|nr|num|number|hash)$|cc_num",
    ),
    "timestamp": (
        r"timestamp|date[_ ]?time|created|^(when|at|ts)$|[_ ](at|ts)$",
        r"(^|[_ ])(time|zeit|zeitpunkt)$",
        r"date|datum|buchungstag|^(day|tag)$",
        r"time",
    ),
    "amount": (
        r"amount|betrag|^(amt|sum|summe|total)$",
        r"(^|[_ ])(sum|summe|total|amt|cents|umsatz)($|[_ (])",
        r"value|price|wert",
    ),
    "merchant_id": (
        r"(merchant|shop|store|seller|payee|retailer|händler|creditor)[_ .-]?(id|no|nr)?$",
        r"(merchant|shop|store|seller|payee)[_ .-]?name$|empfänger|recipient|namedest",
    ),
    "merchant_category": (r"category|^mcc$|branch|kategorie|merchant[_ .-]?type",),
    "currency": (r"currency|^(ccy|curr|währung)$",),
    "transaction_location": (r"(^|[_ ])(city|town|country|land|ort|place|location)($|[_ ])",),
    "device": (r"device|phone|terminal|user[_ .-]?agent|browser|handy",),
    "email": (r"e-?mail",),
    "first_name": (r"^first$|first[_ .-]?name|given[_ .-]?name|vorname",),
    "last_name": (r"^last$|last[_ .-]?name|surname|nachname|family[_ .-]?name",),
    "full_name": (r"full[_ .-]?name|cardholder[_ .-]?name",),
    "latitude": (r"(^|[_ ])lat(itude)?$",),
    "longitude": (r"(^|[_ ])(lon|lng|long)(gitude)?$",),
}
_SHOWN = {
    "currency",
    "merchant_category",
    "transaction_location",
    "device",
}  # no examples of what may be personal
_LABEL = r"fraud|scam|chargeback|dispute|betrug|^(label|class|target)$"
_SURE_NULL_WORDS = {"null", "(null)", "none", "nan", "n/a", "#n/a", "\\n"}
_FRAUD = {
    "1",
    "true",
    "yes",
    "y",
    "t",
    "fraud",
    "fraudulent",
    "chargeback",
    "betrug",
    "ja",
    "bad",
    "confirmed",
}
_HONEST = {
    "0",
    "false",
    "no",
    "n",
    "f",
    "honest",
    "genuine",
    "legit",
    "legitimate",
    "good",
    "nein",
    "none",
    "not fraud",
    "ok",
    "clear",
}
_CENTS = r"cent|minor|pence|pfennig"
_DATE_PARTS = ("year", "month", "day")
_REQUIRED = [part.name for part in FIELDS if part.required]


def _is_named(column: str, pattern: str) -> bool:
    """Whether a column's name, or the last name of a path, says that it is a field."""
    return re.search(pattern, column.rpartition(".")[2].strip(), re.IGNORECASE) is not None


def _is_own_name(column: str) -> bool:
    """Whether the last name of a column's path can be the name of a field of the shop's own."""
    name = column.rpartition(".")[2]
    named = {field.name for field in FIELDS}
    return name == name.strip() and 0 < len(name) <= LONGEST_NAME and name.isprintable() and name not in named


def _are_numbers(values: Values) -> bool:
    with suppress(NotANumber):
        return all(read_number(value, NumberForm()) is not None for value in values)
    return False


class _Suggester:
    def __init__(self, sample: Sample, answer: Answer):
        self._sample, self._answer = sample, answer
        self._open: list[Question] = []
        self._used: set[str] = set()
        self._words = self._null_words()
        self._values: dict[str, Values] = {
            name: [text for value in values if (text := text_of(value)) and text not in self._words]
            for name, values in sample.columns.items()
        }

    def suggestion(self) -> Suggestion:
        label = self._find_label()
        lines = {"timestamp": self._timestamp(), "amount": self._amount()}
        for name in _NAMES:
            if name not in lines:
                lines[name] = self._plain(name)
        rows = f"{self._sample.rows:,} {'records' if self._sample.topic else 'rows'}"
        text = [f"# Suggested from {rows} of {self._sample.name}. Check each line.", "fields:"]
        text += [f"  {line}" for part in FIELDS for line in lines.get(part.name, ())]
        text += self._own_fields()
        if label:
            text += ["label:", *(f"  {line}" for line in label)]
        if self._words:
            text.append(f"missing: {_list(sorted(self._words))}")
        if self._sample.csv:
            options = ", ".join(f"{key}: {_written(value)}" for key, value in self._sample.csv.items())
            text.append(f"csv: {{{options}}}")
        if ignored := [name for name in self._sample.columns if name not in self._used]:
            text.append(f"# Not used: {', '.join(map(_printable, ignored))}")
        return Suggestion("\n".join(text) + "\n", self._open)

    def _own_fields(self) -> list[str]:
        """Comments that offer what is left: numbers, and texts of which the sample has few different ones."""
        offered: dict[str, list[str]] = {"numbers": [], "categories": []}
        for name, values in self._values.items():
            if name in self._used or not values or not _is_own_name(name):
                continue
            distinct = len(set(values))
            if _are_numbers(values) and distinct > MOST_LABELS:
                offered["numbers"].append(name)
            elif 1 < distinct <= max(MOST_LABELS, len(values) // FEWEST_EACH):
                offered["categories"].append(name)
        lines = []
        for key, names in offered.items():
            if names:
                lines.append(
                    f"# {key}:  # {MOST_OWN} at most; remove the signs in front to let scores use them"
                )
            for name in names:
                own = _quoted(name.rpartition(".")[2])
                lines.append(f"#   {own}: {_quoted(name)}  # {self._examples(name)}")
        return lines

    # What is in the sample

    def _null_words(self) -> set[str]:
        """Common words for a missing value; one that may be a value of its own only among many others."""
        words: set[str] = set()
        for name, values in self._sample.columns.items():
            texts = {value.strip() for value in values if isinstance(value, str)}
            listed = {text for text in texts if text.lower() in NULL_WORDS}
            sure = {text for text in listed if text.lower() in _SURE_NULL_WORDS}
            if not _is_named(name, _LABEL):
                words |= listed if len(texts) > MOST_LABELS else sure
        return words

    def _examples(self, name: str) -> str:
        values = list(dict.fromkeys(self._values[name]))[:EXAMPLES]
        return ", ".join(_printable(" ".join(value.split()))[:40] for value in values)

    def _find(self, field: str, good: Callable[[Values], bool]) -> str | None:
        """An unused column whose name says that it is this field, and whose values can be."""
        for pattern in _NAMES[field]:
            for name, values in self._values.items():
                if name not in self._used and values and _is_named(name, pattern) and good(values):
                    return name
        return None

    def _take(self, name: str) -> str:
        self._used.add(name)
        return name

    # Fields

    def _plain(self, field: str) -> list[str]:
        checks: dict[str, Callable[[Values], bool]] = {
            "transaction_id": lambda values: len(set(values)) == len(values) == self._sample.rows,
            "currency": lambda values: all(re.fullmatch("[A-Za-z]{3}", value) for value in values),
            "email": lambda values: all("@" in value for value in values),
            "latitude": lambda values: _within(values, 90),
            "longitude": lambda values: _within(values, 180),
        }
        name = self._find(field, checks.get(field, lambda values: True))
        if name is not None:
            self._take(name)
            comment = "different in each row" if field == "transaction_id" else ""
            if field in _SHOWN:
                comment = self._examples(name)
            return [f"{field}: {_quoted(name)}" + (f"  # {comment}" if comment else "")]
        if field == "transaction_id" and not self._sample.topic:
            return ['transaction_id: {text: "{file}-{row}"}  # no column is different in each row']
        if field in _REQUIRED:
            return self._ask(field, "No column looks like it; name one", {})
        return []

    def _ask(self, field: str, text: str, answers: Mapping[str, str]) -> list[str]:
        """The line for the answer to a question; comments when it stays open."""
        question = Question(field, text, answers)
        given = self._answer(question) if answers else None
        if given is not None:
            return [answers[given]]
        self._open.append(question)
        lines = [f"# QUESTION {field}: {text}."]
        return lines + [f"#   {key}: {line}" for key, line in answers.items()]

    def _find_label(self) -> list[str]:
        for name, values in self._values.items():
            if not _is_named(name, _LABEL) or len(set(values)) > MOST_LABELS:
                continue
            fraud = sorted({value for value in values if value.lower() in _FRAUD})
            honest = sorted({value for value in values if value.lower() in _HONEST})
            other = sorted(set(values) - {*fraud, *honest})
            if not values or not (fraud or honest):
                continue
            self._take(name)
            lines = [
                f"column: {_quoted(name)}",
                f"fraud: {_list(fraud or ['1'])}",
                f"honest: {_list(honest or ['0'])}",
            ]
            return lines + ([f"unknown: {_list(other)}  # neither of the two, as it seems"] if other else [])
        return []

    # Times

    def _timestamp(self) -> list[str]:
        parts = {part: self._column_named(rf"^{part}$") for part in _DATE_PARTS}
        if all(parts.values()):
            return self._time_of_parts({part: name for part, name in parts.items() if name})
        name = self._find("timestamp", lambda values: bool(_time_forms(values)))
        if name is None:
            name = next(
                (n for n, v in self._values.items() if n not in self._used and v and _is_date(v)), None
            )
        if name is None:
            return self._ask("timestamp", "No column looks like a time; name one", {})
        self._take(name)
        forms = _time_forms(self._values[name])
        source, suffix = f"column: {_quoted(name)}", ""
        if _are_dates(self._values[name], forms) and (clock := self._clock()):
            self._take(clock)
            source, suffix = (
                f"text: {_quoted(f'{{{name}}} {{{clock}}}', always=True)}",
                f" {_clock_form(self._values[clock])}",
            )
            forms = ["%Y-%m-%d" if form == "" else form for form in forms]
        lines = {form: _time_line(source, form + suffix if form else "") for form in forms}
        comment = f"  # {self._examples(name)}"
        if not _has_zone(self._values[name]) and not next(iter(forms)).startswith("since"):
            comment += "; times without an offset are taken as UTC: add zone: Europe/Berlin or the like"
        if len(lines) == 1:
            return [next(iter(lines.values())) + comment]
        answers = {
            ("day-first" if form.startswith("%d") else "month-first"): line for form, line in lines.items()
        }
        example = next(iter(dict.fromkeys(self._values[name])))
        return self._ask("timestamp", f"{name} is {example}: is the day first or the month", answers)

    def _column_named(self, pattern: str) -> str | None:
        return next(
            (name for name, values in self._values.items() if values and _is_named(name, pattern)), None
        )

    def _time_of_parts(self, parts: Mapping[str, str]) -> list[str]:
        for name in parts.values():
            self._take(name)
        template, form = "-".join(f"{{{parts[part]}}}" for part in _DATE_PARTS), "%Y-%m-%d"
        if clock := self._clock():
            self._take(clock)
            template, form = f"{template} {{{clock}}}", f"{form} {_clock_form(self._values[clock])}"
        return [
            _time_line(f"text: {_quoted(template, always=True)}", form)
            + "  # times without an offset are taken as UTC: add zone: Europe/Berlin or the like"
        ]

    def _clock(self) -> str | None:
        """A column with times of day alone."""
        return next(
            (n for n, v in self._values.items() if n not in self._used and v and _clock_form(v)), None
        )

    # Amounts

    def _amount(self) -> list[str]:
        name = self._find("amount", lambda values: any(map(str.isdigit, "".join(values[:50]))))
        if name is None:
            return self._ask("amount", "No column looks like it; name one", {})
        self._take(name)
        values = [
            value
            for value in self._sample.columns[name]
            if text_of(value) and text_of(value) not in self._words
        ]
        native = all(isinstance(value, int | float | Decimal | Digits) for value in values)
        texts = [text_of(value) or "" for value in values]
        comment = f"  # {self._examples(name)}"
        bad = [] if native else [text for text in texts if not any(map(str.isdigit, text))]
        texts = [text for text in texts if text not in bad]
        if bad:
            comment += f"; {len(bad)} of the sample are no numbers, such as {_printable(bad[0])[:20]!r}"
        forms: list[dict[str, str]] = [{}] if native else number_forms(texts)
        if not forms:
            rule = f"{name} has values that are no numbers, such as {_first_bad(texts)!r}"
            return self._ask("amount", rule, {})
        numbers = [read_number(text, _form(forms[0])) for text in texts]
        more = self._scale(name, numbers)
        if isinstance(more, Question):
            given = self._answer(more)
            if given is None:
                self._open.append(more)
                return [f"# QUESTION amount: {more.text}."] + [
                    f"#   {key}: {_number_line(name, forms[0], text)}" for key, text in more.answers.items()
                ]
            more = more.answers[given]
        sign = self._sign(numbers)
        lines = {key: _number_line(name, form, more, sign) for key, form in _named(forms).items()}
        if len(lines) == 1:
            note = "; some are negative: sign: positive leaves refunds out" if sign is None else ""
            return [next(iter(lines.values())) + comment + note]
        return self._ask(
            "amount", f"does {next(t for t in texts if _is_unclear(t))!r} mean thousands or decimals", lines
        )

    def _scale(self, name: str, numbers: Sequence[Decimal]) -> str | Question:
        """The option for numbers in a minor unit, empty for none; a question when whole numbers may be cents."""
        whole = all(number == number.to_integral_value() for number in numbers)
        currency = self._find(
            "currency", lambda values: all(value.upper() in MINOR_UNITS for value in values)
        )
        minor = "minor_units: true" if currency else "factor: 0.01"
        if not whole:
            return ""
        if re.search(_CENTS, name, re.IGNORECASE):
            return minor
        if max(map(abs, numbers)) < 100:
            return ""
        text = f"all of {name} are whole, such as {self._examples(name)}: are they cents (minor units) or not"
        return Question("unit", text, {"main": "", "minor": minor})

    def _sign(self, numbers: Sequence[Decimal]) -> str | None:
        """The option for the sign of payments; None when the sample has both signs."""
        if all(number >= 0 for number in numbers):
            return ""
        return "sign: negative" if all(number <= 0 for number in numbers) else None


# Numbers

_FORMS = [
    {"decimal": decimal, "thousands": thousands}
    for decimal, thousands in product(".,", ("", ",", ".", "'", " "))
    if decimal != thousands
]


def number_forms(texts: Sequence[str]) -> list[dict[str, str]]:
    """The options by which all texts are numbers: the shortest ones, or two that give other values."""
    symbols = sorted({symbol for text in texts[:200] if (symbol := _currency_sign(text))})
    ways: dict[tuple[Decimal, ...], dict[str, str]] = {}
    for options in sorted(_FORMS, key=lambda form: (form["thousands"] != "", form["decimal"] != ".")):
        form = NumberForm(options["decimal"], options["thousands"], tuple(symbols), three_decimals=True)
        try:
            values = tuple(read_number(text, form) for text in texts)
        except NotANumber:
            continue
        ways.setdefault(values, options)
    written = [dict(options) for options in ways.values()]
    for options in written:
        if options["decimal"] == ".":
            del options["decimal"]
        if not options["thousands"]:
            del options["thousands"]
        if symbols:
            options["symbol"] = symbols[0] if len(symbols) == 1 else _list(symbols)
        if _needs_three_decimals(texts, options):
            options["three_decimals"] = "true"
    return written


def _needs_three_decimals(texts: Sequence[str], options: Mapping[str, str]) -> bool:
    form = _form(options)
    for text in texts:
        try:
            read_number(text, form)
        except NotANumber:
            return True
    return False


def _form(options: Mapping[str, str]) -> NumberForm:
    symbol = options.get("symbol", "")
    symbols = tuple(json.loads(symbol)) if symbol.startswith("[") else (symbol,) if symbol else ()
    three = options.get("three_decimals") == "true"
    return NumberForm(options.get("decimal", "."), options.get("thousands", ""), symbols, three)


def _named(forms: Sequence[dict[str, str]]) -> dict[str, dict[str, str]]:
    if len(forms) == 1:
        return {"": forms[0]}
    return {("decimals" if "three_decimals" in form else "thousands"): form for form in forms}


def _currency_sign(text: str) -> str | None:
    for reading in _readings(text):
        if "symbol" in reading:
            return reading["symbol"]
    return None


def _readings(text: str) -> Iterator[Mapping[str, str]]:
    try:
        read_number(text, NumberForm())
    except NotANumber as error:
        yield from (reading.options for reading in error.readings)


def _is_unclear(text: str) -> bool:
    return bool(re.search(r"[.,]\d{3}$", text.strip("() -€$")))


def _first_bad(texts: Sequence[str]) -> str:
    for text in texts:
        try:
            read_number(text, NumberForm())
        except NotANumber as error:
            if not error.readings:
                return text[:40]
    return texts[0][:40]


def _within(values: Values, limit: int) -> bool:
    with suppress(NotANumber):
        return all(abs(read_number(value, NumberForm())) <= limit for value in values)
    return False


# Times

_DATE = re.compile(r"(\d{1,4})([./-])(\d{1,2})\2(\d{1,4})(?:[ T,]+(.*))?")
_CLOCKS = ("%H:%M", "%H:%M:%S", "%H:%M:%S.%f", "%I:%M %p", "%I:%M:%S %p", "%I:%M%p", "%H.%M", "%H.%M.%S")
_EPOCHS = {10: "seconds", 13: "milliseconds", 16: "microseconds", 19: "nanoseconds"}


def _time_forms(values: Values) -> list[str]:
    """How times are written: empty for ISO 8601, `since unit`, or strptime's form.

    There are two when the day or the month may be first.
    """
    if all(_fits_iso(value) for value in values):
        return [""]
    digits = {len(value.partition(".")[0]) for value in values}
    if (
        all(re.fullmatch(r"\d+(\.\d+)?", value) for value in values)
        and len(digits) == 1
        and (unit := _EPOCHS.get(digits.pop()))
    ):
        return [f"since {unit}"]
    matches = [_DATE.fullmatch(value.strip()) for value in values]
    if not all(matches):
        return []
    first = matches[0]
    assert first is not None
    sign, clock = first[2], _clock_form([match[5] for match in matches if match and match[5]])
    after = "" if first[5] is None else ", " if ", " in values[0] else "T" if "T" in values[0] else " "
    if first[5] is not None and not clock:
        return []
    year = "%Y" if len(first[4]) == 4 or len(first[1]) == 4 else "%y"
    orders = ["%Y{0}%m{0}%d"] if len(first[1]) == 4 else [f"%d{{0}}%m{{0}}{year}", f"%m{{0}}%d{{0}}{year}"]
    forms = [order.format(sign) + (f"{after}{clock}" if after else "") for order in orders]
    return [form for form in forms if all(_fits(value.strip(), form) for value in values)]


def _fits(value: str, form: str) -> bool:
    try:
        datetime.strptime(value, form)
    except ValueError:
        return False
    return True


def _fits_iso(value: str) -> bool:
    try:
        datetime.fromisoformat(value.strip())
    except ValueError:
        return False
    return bool(re.match(r"\d{4}-\d\d-\d\d", value.strip()))


def _clock_form(values: Values) -> str:
    return next(
        (form for form in _CLOCKS if values and all(_fits(value.strip(), form) for value in values)), ""
    )


def _are_dates(values: Values, forms: Sequence[str]) -> bool:
    """Whether times have no time of day."""
    if "" in forms:
        return all(len(value.strip()) == 10 for value in values)
    return not any("%H" in form or "%I" in form or form.startswith("since") for form in forms)


def _is_date(values: Values) -> bool:
    forms = _time_forms(values)
    return bool(forms) and not forms[0].startswith("since")


def _has_zone(values: Values) -> bool:
    return all(re.search(r"(Z|[+-]\d\d:?\d\d)$", value.strip()) for value in values)


# Writing


def _time_line(source: str, form: str) -> str:
    if form.startswith("since "):
        return f"timestamp: {{{source}, since: 1970-01-01, unit: {form.removeprefix('since ')}}}"
    if form:
        return f"timestamp: {{{source}, format: {json.dumps(form)}}}"
    return (
        f"timestamp: {source.removeprefix('column: ')}"
        if source.startswith("column")
        else f"timestamp: {{{source}}}"
    )


def _number_line(name: str, options: Mapping[str, str], *more: str | None) -> str:
    written = [
        f"{key}: {value if value.startswith('[') or value == 'true' else _quoted(value)}"
        for key, value in options.items()
    ]
    parts = [f"column: {_quoted(name)}", *written, *filter(None, more)]
    return f"amount: {_quoted(name)}" if len(parts) == 1 else f"amount: {{{', '.join(parts)}}}"


def _written(value: object) -> str:
    return _list(value) if isinstance(value, list) else _quoted(str(value))


def _list(values: Sequence[str]) -> str:
    return f"[{', '.join(_quoted(value, always=True) for value in values)}]"


def _quoted(text: str, always: bool = False) -> str:
    """A text as YAML; in quotes unless it is a simple word."""
    if not always and re.fullmatch(r"\w[\w. -]*\w|\w", text):
        return text
    return json.dumps(text, ensure_ascii=not text.isprintable())


def _printable(text: str) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in text)
