"""Numbers are read as they are spelled, or refused: never a thousand times off."""

from __future__ import annotations

import contextlib
import re
from decimal import Decimal

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from include.events.mapping import parse
from include.events.numbers import NotANumber, NumberForm, read_number
from include.events.translate import BadValue, Translator

AMOUNT = NumberForm(three_decimals=False)


def amount(text: object, options: str = "", csv: str = "{}") -> str:
    """The digits of a row's amount."""
    fields = {"transaction_id": "id", "user_id": "user", "timestamp": "at"}
    fields["amount"] = yaml.load(f"{{column: sum, {options}}}", yaml.BaseLoader)
    mapping = parse({"fields": fields, "csv": yaml.load(csv, yaml.BaseLoader)})
    row = {"id": "t", "user": "u", "at": "2026-01-31", "sum": text}
    return bytes(Translator(mapping, "m.yaml", row).event(row)["amount"]).decode()


@pytest.mark.parametrize(
    ("text", "options", "digits"),
    [
        ("1.200", 'decimal: ",", thousands: "."', "1200"),
        ("1.234,50", 'decimal: ",", thousands: "."', "1234.50"),
        ("12.345", 'decimal: ",", thousands: "."', "12345"),
        ("950,00", 'decimal: ",", thousands: "."', "950.00"),
        ("1,200", 'thousands: ","', "1200"),
        ("12,34,567.5", 'thousands: ","', "1234567.5"),
        ("1'234.50", 'thousands: "\'"', "1234.50"),
        ("1’234.50", 'thousands: "\'"', "1234.50"),
        ("1\u00a0234,5", 'thousands: " ", decimal: ","', "1234.5"),
        ("1\u202f234", 'thousands: " "', "1234"),
        ("1.200", "three_decimals: true", "1.200"),
        ("$12.72", "symbol: $", "12.72"),
        ("$-99.00", "symbol: $", "-99.00"),
        ("-$99.00", "symbol: $", "-99.00"),
        ("($1,200.00)", 'symbol: $, thousands: ","', "-1200.00"),
        ("12.50 EUR", "symbol: [€, EUR]", "12.50"),
        ("-1.000,00 €", 'symbol: €, decimal: ",", thousands: "."', "-1000.00"),
        ("(12.50)", "", "-12.50"),
        ("12.50-", "", "-12.50"),
        ("−12.50", "", "-12.50"),
        (12.345, "", "12.345"),
        (12.345, 'decimal: ","', "12.345"),
        ("-0", "", "0"),
        ("-0.00", "", "0.00"),
        ("(0,0)", 'decimal: ","', "0.0"),
        ("-0e5", "", "0"),
        (-0.0, "", "0"),
        ("(12.3456789012345678901234567890123)", "", "-12.3456789012345678901234567890123"),
    ],
)
def test_numbers_as_files_spell_them(text, options, digits):
    assert amount(text, options) == digits


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("1.200", ""),
        ("1.200", 'decimal: ","'),
        ("12.345", 'decimal: ","'),
        ("12.345", "round: true"),
        ("1,200", ""),
        ("1,200", 'decimal: ","'),
        ("1,200", 'decimal: ",", thousands: "."'),
        ("1.200", 'thousands: ","'),
        ("12,50", 'thousands: ","'),
        ("1,2,3", 'thousands: ","'),
        ("0,125", 'thousands: ","'),
        ("1.200.00", ""),
        ("$12.72", ""),
        ("€12.72", "symbol: $"),
        ("$$12", "symbol: $"),
        ("--12", ""),
        ("(-12)", ""),
        ("-", ""),
        ("()", ""),
        ("$", "symbol: $"),
        ("12.50 CR", ""),
    ],
)
def test_what_is_unclear_is_refused(text, options):
    with pytest.raises(BadValue):
        amount(text, options)


def test_a_latitude_cannot_be_thousands():
    fields = {"transaction_id": "id", "user_id": "u", "timestamp": "at", "amount": "a", "longitude": "lon"}
    row = {"id": "t", "u": "u", "at": "2026-01-31", "a": "1", "lon": "13.405"}
    assert bytes(Translator(parse({"fields": fields}), "m", row).event(row)["longitude"]) == b"13.405"


def test_csv_may_say_it_for_every_number():
    assert amount("1.234,50", csv='{decimal: ",", thousands: "."}') == "1234.50"
    assert amount("1,234.50", 'decimal: ".", thousands: ","', csv='{decimal: ","}') == "1234.50"


# Hints

HINT = re.compile(r"if it means ([-\d.]+), add `([^`]+)`")


def spelled(value: Decimal, decimals: int, decimal: str, thousands: str, symbol: str) -> str:
    digits = f"{value:,.{decimals}f}".replace(",", "T").replace(".", decimal).replace("T", thousands)
    return f"{symbol}{digits}"


@given(
    value=st.decimals(0, 10**9, places=3),
    decimals=st.integers(0, 3),
    form=st.sampled_from([(".", ""), (".", ","), (",", "."), (",", ""), (",", " "), (".", "'")]),
    symbol=st.sampled_from(["", "$", "€ ", "-"]),
    given_options=st.sampled_from(["", 'decimal: ","', 'thousands: ","', 'decimal: ",", thousands: "."']),
)
@example(value=Decimal(1200), decimals=0, form=(".", ","), symbol="", given_options="")
@example(value=Decimal(12345), decimals=0, form=(",", "."), symbol="", given_options='decimal: ","')
@example(value=Decimal(0), decimals=1, form=(",", ""), symbol="-", given_options="")
def test_a_text_is_read_right_or_refused_and_each_hint_that_is_followed_gives_the_value_that_it_names(
    value, decimals, form, symbol, given_options
):
    text = spelled(value, decimals, *form, symbol)
    truth = Decimal(f"{value:.{decimals}f}") * (-1 if symbol == "-" else 1)
    try:
        digits = amount(text, given_options)
    except BadValue as error:
        for meaning, options in HINT.findall(str(error)):
            assert amount(text, with_options(given_options, options)) == meaning
            # Nobody follows a hint whose value is not the one that is meant.
            assert Decimal(meaning) == truth or abs(Decimal(meaning)) in (
                abs(truth) * 1000,
                abs(truth) / 1000,
            )
    else:
        contradicted = (
            f'thousands: "{form[0]}"' in given_options
        )  # the mapping says that the decimal sign is none
        assert Decimal(digits) == truth or contradicted


@pytest.mark.parametrize(
    ("text", "options", "hints"),
    [
        ("1,200", "", [("1200", 'thousands: ","')]),  # never decimal: it would make 1.20 of it
        ("1.200", 'decimal: ","', [("1200", 'thousands: "."')]),
        ("12.345", 'decimal: ","', [("12345", 'thousands: "."')]),
        ("1.200", "", [("1.200", "three_decimals: true"), ("1200", 'decimal: ",", thousands: "."')]),
        ("-1.000,00 €", "", [("-1000.00", 'symbol: "€", decimal: ",", thousands: "."')]),
        ("12,50", "", [("12.50", 'decimal: ","')]),
        ("$12.72", "", [("12.72", 'symbol: "$"')]),
        ("1.234.567", "", [("1234567", 'decimal: ",", thousands: "."')]),
        ("-0,0", "", [("0.0", 'decimal: ","')]),
        ("1.000.000.000.000.000.000", "", []),
        ("12.50 CR", "", []),
        ("noon", "", []),
    ],
)
def test_hints(text, options, hints):
    with pytest.raises(BadValue) as error:
        amount(text, options)
    assert HINT.findall(str(error.value)) == hints


def with_options(given_options: str, more: str) -> str:
    options = dict(
        yaml.load(f"{{{given_options}}}", yaml.BaseLoader), **yaml.load(f"{{{more}}}", yaml.BaseLoader)
    )
    return ", ".join(f'{name}: "{value}"' for name, value in options.items())


@given(st.text("0123456789.,' $()-+eE", max_size=12))
def test_without_a_thousands_sign_no_text_is_one_number_with_a_point_and_another_with_a_comma(text):
    values = set()
    for decimal in ".,":
        with contextlib.suppress(NotANumber):
            values.add(read_number(text, NumberForm(decimal, "", ("$",), three_decimals=False)))
    assert len(values) <= 1


def test_a_number_that_would_fill_the_memory_is_refused():
    with pytest.raises(NotANumber, match="too large or too small"):
        read_number("1e9999", AMOUNT)


# Minor units


@pytest.mark.parametrize(
    ("text", "currency", "options", "digits"),
    [
        (1250, "usd", "minor_units: true", "12.50"),
        (5000, "JPY", "minor_units: true", "5000"),
        (12500, "kwd", "minor_units: true", "12.500"),
        (5000, "ISK", "minor_units: {isk: 2}", "50.00"),
        (1250, "usd", "factor: 0.01", "12.50"),
        ("1250", "EUR", "factor: 0.01", "12.50"),
        ("1250", "???", "factor: 0.01", "12.50"),
    ],
)
def test_minor_units_are_those_of_the_currency(text, currency, options, digits):
    assert with_currency(text, currency, options) == (digits, currency.upper())


@pytest.mark.parametrize(
    ("text", "currency", "options", "message"),
    [
        (
            5000,
            "JPY",
            "factor: 0.01",
            "write `minor_units: true` instead of factor, or `minor_units: {JPY: 2}`",
        ),
        (5000, "XQZ", "minor_units: true", "add its decimals, such as `minor_units: {XQZ: 2}`"),
        (5000, None, "minor_units: true", "the row has no currency"),
    ],
)
def test_minor_units_that_are_not_known_are_refused(text, currency, options, message):
    with pytest.raises(BadValue, match=re.escape(message)):
        with_currency(text, currency, options)


def with_currency(text, currency, options):
    fields = {"transaction_id": "id", "user_id": "user", "timestamp": "at", "currency": "currency"}
    fields["amount"] = yaml.load(f"{{column: sum, {options}}}", yaml.BaseLoader)
    row = {"id": "t", "user": "u", "at": "2026-01-31", "sum": text, "currency": currency}
    event = Translator(parse({"fields": fields}), "m.yaml", row).event(row)
    return bytes(event["amount"]).decode(), event["currency"]
