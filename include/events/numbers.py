"""Numbers as files spell them: decimal and thousands signs, currency symbols, negative forms.

A text that could be meant a thousand times larger or smaller is never taken: it is refused with its readings.
"""

from __future__ import annotations

import contextlib
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import NamedTuple

LARGEST_EXPONENT = 15  # of a number in a row: its digits are written out


class Digits(str):
    """A number of a JSON document as it is spelled there; no sign in it depends on a country."""

    __slots__ = ()


@dataclass(frozen=True)
class NumberForm:
    """How a column spells numbers.

    Attributes:
        decimal: the decimal sign.
        thousands: the sign between thousands, empty for none.
        symbols: what may stand before or after a number, such as `$`.
        three_decimals: 1.200 is 1.2 and never 1200.
    """

    decimal: str = "."
    thousands: str = ""
    symbols: tuple[str, ...] = ()
    three_decimals: bool = True


class Reading(NamedTuple):
    """What a text may mean, and the options of a mapping that read it so."""

    value: Decimal
    options: dict[str, str]

    def __str__(self) -> str:
        options = ", ".join(
            f'{name}: "{value}"' if name != "three_decimals" else f"{name}: {value}"
            for name, value in self.options.items()
        )
        return f"if it means {self.value:f}, add `{options}`"


class NotANumber(ValueError):
    """A text is no number of the form; `readings` are those of other forms."""

    def __init__(self, rule: str, readings: tuple[Reading, ...] = ()):
        super().__init__("; ".join([rule, *map(str, readings)]))
        self.readings = readings


_PLAIN = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,4})?", re.ASCII)
_SIGNS = (".", ",", "'", " ")
_SPACES = str.maketrans({"\u00a0": " ", "\u202f": " ", "\u2009": " ", "\u2212": "-", "\u2019": "'"})
_SYMBOLS = {"kr", "kr.", "zł", "Kč", "Ft", "lei", "лв", "Fr.", "Rs", "Rs."}
_AFFIX = r"[^\d\s.,'+\-()]{1,3}\.?"


def is_plain(text: str) -> bool:
    """Whether it is a number with a decimal point or none, and no other sign."""
    return _PLAIN.fullmatch(text) is not None


def read_number(text: str, form: NumberForm) -> Decimal:
    """The number that a text spells.

    Raises:
        NotANumber: it spells none, or one that could be meant a thousand times larger.
    """
    if form.decimal == "." and is_plain(text) and (form.three_decimals or text[-4:-3] != "."):
        return _number(False, text)  # the usual form
    negative, body = _unwrap(text.translate(_SPACES), form.symbols)
    digits = _digits(body, form.decimal, form.thousands)
    if digits is None:
        raise NotANumber("is no number", tuple(_other_readings(text.translate(_SPACES), form)))
    if not form.three_decimals and _unclear(body, form.decimal):
        raise NotANumber("may be thousands or decimals", tuple(_both_readings(negative, body, digits, form)))
    return _number(negative, digits)


def _number(negative: bool, digits: str) -> Decimal:
    """The number with all its digits; zero has no sign."""
    value = Decimal(digits)
    if not value:
        return value.copy_abs()
    if abs(value.adjusted()) > LARGEST_EXPONENT:
        raise NotANumber("is too large or too small a number")
    return value.copy_negate() if negative else value


def _unwrap(text: str, symbols: tuple[str, ...]) -> tuple[bool, str]:
    """Whether a number is negative, and its text without sign and symbol, each of which may stand there once."""
    body = text.strip()
    negative, signed, marked = False, False, False
    while body:
        if not signed and body[0] == "(" and body[-1] == ")":
            negative, signed, body = True, True, body[1:-1].strip()
        elif not signed and body[0] in "+-":
            negative, signed, body = body[0] == "-", True, body[1:].strip()
        elif not signed and body[-1] == "-":
            negative, signed, body = True, True, body[:-1].strip()
        elif not marked and (affix := next((s for s in symbols if body.startswith(s)), None)):
            marked, body = True, body[len(affix) :].strip()
        elif not marked and (affix := next((s for s in symbols if body.endswith(s)), None)):
            marked, body = True, body[: -len(affix)].strip()
        else:
            break
    return negative, body


def _digits(body: str, decimal: str, thousands: str) -> str | None:
    """The unsigned number with a decimal point and without thousands signs; None for what is none."""
    if thousands and re.fullmatch(_grouped(decimal, thousands), body, re.ASCII):
        return body.replace(thousands, "").replace(decimal, ".")
    if body[:1] in ("+", "-", "") or (decimal != "." and "." in body):
        return None
    plain = body.replace(decimal, ".", 1)
    return plain if _PLAIN.fullmatch(plain) else None


def _grouped(decimal: str, thousands: str) -> str:
    """The pattern of a number with at least one thousands sign; groups of two are those of India."""
    sign = re.escape(thousands)
    return rf"[1-9]\d{{0,2}}({sign}\d{{2,3}})*{sign}\d{{3}}({re.escape(decimal)}\d*)?"


def _unclear(body: str, decimal: str) -> bool:
    return re.fullmatch(rf"[1-9]\d{{0,2}}{re.escape(decimal)}\d{{3}}", body, re.ASCII) is not None


def _both_readings(negative: bool, body: str, digits: str, form: NumberForm) -> Iterator[Reading]:
    """Those of a text with three decimals, or with one thousands sign."""
    yield Reading(_number(negative, digits), {"three_decimals": "true"})
    if not form.thousands:
        decimal = "," if form.decimal == "." else "."
        value = _number(negative, digits.replace(".", ""))
        yield Reading(value, {"decimal": decimal, "thousands": form.decimal})


def _other_readings(text: str, form: NumberForm) -> Iterator[Reading]:
    """The reading of a text by other options than a mapping gives; none contradicts an option that it gives.

    A text such as 1,200 is read with a thousands sign only: a decimal sign would make it a thousand times smaller.
    """
    symbols, extra = form.symbols, {}
    if symbol := _symbol(_unwrap(text, symbols)[1]):
        symbols, extra = (*symbols, symbol), {"symbol": symbol}
    negative, body = _unwrap(text, symbols)
    for decimal, thousands in _forms(body, form):
        digits = _digits(body, decimal, thousands)
        if digits is None or _unclear(body, decimal):
            continue
        options = dict(extra)
        if decimal != form.decimal:
            options["decimal"] = decimal
        if thousands != form.thousands:
            options["thousands"] = thousands
        if options:
            with contextlib.suppress(NotANumber):  # it would be too large
                yield Reading(_number(negative, digits), options)
            return


def _forms(body: str, form: NumberForm) -> Iterator[tuple[str, str]]:
    """Decimal and thousands signs to read a text by, the likeliest first."""
    yield form.decimal, form.thousands
    if form.thousands:
        return
    other = "," if form.decimal == "." else "."
    for decimal in (form.decimal, other):
        for thousands in _SIGNS:
            if thousands != decimal and thousands in body:
                yield decimal, thousands
    if not _unclear(body, other):
        yield other, ""


def _symbol(body: str) -> str | None:
    """The currency symbol or code before or after a number, if there is one."""
    match = re.match(_AFFIX, body) or re.search(rf"{_AFFIX}$", body)
    symbol = match[0] if match else ""
    known = (
        any(unicodedata.category(letter) == "Sc" for letter in symbol)
        or re.fullmatch("[A-Z]{3}", symbol)
        or symbol in _SYMBOLS
    )
    return symbol if known else None
