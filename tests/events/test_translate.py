"""Rows become events: each kind of source, and each value that cannot be one."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal

import msgspec
import pytest
import yaml

from include.events.mapping import MappingError, parse
from include.events.translate import ROW, BadValue, Translator, text_of

COLUMNS = ["id", "user", "at", "sum", "first", "last", "lat", "bad", "kind"]
NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)


def translator(
    columns: list[str] | None = COLUMNS, label: str | None = None, csv: str = "{}", **fields: str
) -> Translator:
    given = {"transaction_id": "id", "user_id": "user", "timestamp": "at", "amount": "sum"} | fields
    content = {"fields": {name: yaml.load(text, yaml.BaseLoader) for name, text in given.items()}}
    content["csv"] = yaml.load(csv, yaml.BaseLoader)
    if label:
        content["label"] = yaml.load(label, yaml.BaseLoader)
    return Translator(parse(content), "mapping.yaml", columns)


def event(row: dict, **fields: str) -> dict:
    values = translator(**fields).event(
        {"id": "t1", "user": "u1", "at": "2026-01-31 12:00:00", "sum": "1", **row}
    )
    return {
        name: bytes(value).decode() if isinstance(value, msgspec.Raw) else value
        for name, value in values.items()
    }


def test_columns_constants_and_texts():
    fields = {
        "currency": "{constant: EUR}",
        "full_name": '{text: "{first} {last}"}',
        "latitude": "{constant: 1.5}",
    }
    named = event({"first": "Ada", "last": "Byron"}, **fields)
    assert named["transaction_id"] == "t1" and named["currency"] == "EUR" and named["latitude"] == "1.5"
    assert named["full_name"] == "Ada Byron"
    assert event({"first": "Ada", "last": ""}, **fields)["full_name"] == "Ada"
    assert "full_name" not in event({"first": "", "last": None}, **fields)


def test_a_text_may_hold_the_rows_number_and_braces():
    numbered = event({ROW: 17}, transaction_id='{text: "shop{{-}}{row}"}')
    assert numbered["transaction_id"] == "shop{-}17"


def test_what_is_missing_is_left_out():
    assert "timestamp" not in event({"at": ""})
    assert "timestamp" not in event({"at": float("nan")}, timestamp="{column: at, since: 2026-01-31}")
    assert "amount" not in event({"sum": None})
    assert "device" not in event({"kind": ""}, device="kind")


@pytest.mark.parametrize(
    ("source", "value", "digits"),
    [
        ("sum", "42.50", "42.50"),
        ("sum", " +1e2 ", "100"),
        ("sum", ".5", "0.5"),
        ("sum", 12, "12"),
        ("sum", 0.1 + 0.2, "0.30000000000000004"),
        ("sum", Decimal("7.10"), "7.10"),
        ("{column: sum, round: true}", "0.125", "0.13"),
        ("{column: sum, round: true}", "-0.125", "-0.13"),
        ("{column: sum, factor: 0.01}", "4250", "42.50"),
        ("{column: sum, factor: 1.1, round: true}", "1.05", "1.16"),
        ("{column: sum, factor: 999999, round: true}", "9999999999999999", "9999989999999999000001.00"),
        ("{constant: 3}", "9", "3"),
    ],
)
def test_numbers_keep_their_digits(source, value, digits):
    assert event({"sum": value}, amount=source)["amount"] == digits


@pytest.mark.parametrize(
    "value", ["12,50", "abc", "NaN", "inf", "1_000", "0x1f", "--1", "1e30", "1e-30", "١٢", "1e99999"]
)
def test_what_is_no_number_is_refused(value):
    with pytest.raises(BadValue, match="column 'sum' is") as error:
        event({"sum": value})
    assert error.value.field == "amount" and value in str(error.value) and value not in error.value.detail


def test_a_decimal_comma():
    comma = translator(csv="{decimal: ','}")
    assert bytes(comma.event({"sum": "12,50"})["amount"]) == b"12.50"
    with pytest.raises(BadValue, match='if it means 1234.50, add `thousands: "."`'):
        comma.event({"sum": "1.234,50"})
    with pytest.raises(BadValue, match='if it means 12.50, add `decimal: ","`'):
        event({"sum": "12,50"})


@pytest.mark.parametrize(
    ("source", "value", "hours"),
    [
        ("at", "2026-01-31T12:00:00Z", 0),
        ("at", "2026-01-31 12:00:00", 0),
        ("at", "2026-01-31T12:00:00+02:00", -2),
        ("at", "2026-01-31", -12),
        ("at", NOON, 0),
        ("at", NOON.replace(tzinfo=None), 0),
        ("at", NOON.astimezone(timezone(timedelta(hours=9))), 0),
        ("at", date(2026, 1, 31), -12),
        ("{column: at, zone: Europe/Berlin}", "2026-01-31 12:00:00", -1),
        ("{column: at, zone: Europe/Berlin}", "2026-01-31T12:00:00Z", 0),
        ('{column: at, format: "%d/%m/%Y %H:%M"}', "31/01/2026 12:00", 0),
        ('{column: at, format: "%d/%m/%Y %H:%M %z"}', "31/01/2026 12:00 +0100", -1),
        ('{column: at, format: "%Y%m%d%H"}', 2026013112, 0),
        ("{column: at, since: 2026-01-31}", "43200", 0),
        ("{column: at, since: 2026-01-31}", 43200.0, 0),
        ("{column: at, since: 2026-01-31, unit: hours}", "13.5", 1.5),
        ("{column: at, since: 2026-01-31, unit: days, zone: Europe/Berlin}", "1", 11),
        ("{column: at, since: 1970-01-01, unit: milliseconds}", str(int(NOON.timestamp()) * 1000), 0),
    ],
)
def test_times(source, value, hours):
    assert event({"at": value}, timestamp=source)["timestamp"] == NOON + timedelta(hours=hours)


@pytest.mark.parametrize(
    ("source", "value", "rule"),
    [
        ("at", "yesterday", "as ISO 8601 writes it"),
        ("at", "2026-02-30 12:00:00", "as ISO 8601 writes it"),
        ("at", 43200, "give its format, or since and unit"),
        ('{column: at, format: "%d.%m.%Y"}', "31/01/2026", "of the form %d.%m.%Y"),
        ("{column: at, since: 2026-01-31}", "noon", "a number of seconds since 2026-01-31"),
        ("{column: at, since: 2026-01-31, unit: days}", "1e12", "a number of days since 2026-01-31"),
        ("{column: at, zone: Europe/Berlin}", "0001-01-01 00:00:00", "as ISO 8601 writes it"),
    ],
)
def test_what_is_no_such_time_is_refused_with_the_rule(source, value, rule):
    with pytest.raises(BadValue, match="column 'at' is not") as error:
        event({"at": value}, timestamp=source)
    assert rule in error.value.detail and error.value.field == "timestamp"


def test_labels():
    labels = translator(label="{column: bad, fraud: [1, yes], honest: [0], scenario: kind}").label
    assert labels({"bad": "yes", "kind": "card_testing"}) == (True, "card_testing", None)
    assert labels({"bad": 1.0, "kind": ""}) == (True, None, None)
    assert labels({"bad": "0", "kind": "ignored"}) == (False, None, None)
    assert labels({"bad": ""}) is None
    with pytest.raises(BadValue, match="column 'bad' is in none of fraud, honest, unknown"):
        labels({"bad": "2"})
    with pytest.raises(BadValue, match="no name of 1 to 128 characters"):
        labels({"bad": "1", "kind": "x" * 129})
    assert translator().label({"bad": "1"}) is None


def test_only_needed_columns_are_asked_for():
    wanted = translator(full_name='{text: "{first} {last}"}', label="{column: bad, fraud: [1], honest: [0]}")
    assert sorted(wanted.columns) == ["at", "bad", "first", "id", "last", "sum", "user"]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"device": "devise"}, "fields.device: there is no column 'devise', there are: id, user"),
        ({"amount": "summ"}, "fields.amount: there is no column 'summ', did you mean 'sum'?"),
        ({"email": '{text: "{frist}@x"}'}, "fields.email: there is no column 'frist', did you mean 'first'?"),
        ({"email": '{text: "{first"}'}, "fields.email: text: "),
        ({"email": '{text: "a@b"}'}, "fields.email: text: names no {column}; write constant"),
        ({"email": '{text: "{}@b"}'}, "fields.email: text: names no {column}"),
        (
            {"device": '{text: "{id:8.2f}"}'},
            "fields.device: text: {id:8.2f}: only a number of digits such as {id:05} may follow a column",
        ),
        ({"device": '{text: "a {row:>9}"}'}, "text: {row:>9}: only a number of digits such as {row:05}"),
        ({"device": '{text: "{id!r}"}'}, "text: {id!r}: only a number of digits"),
        ({"columns": None, "device": '{text: "{n!s:{id}}"}'}, "text: {n!s:{id}}: only a number of digits"),
        (
            {"device": "{column: id, constant: x}"},
            "fields.device: needs exactly one of column, constant, text",
        ),
        ({"amount": "{round: true}"}, "fields.amount: needs exactly one of column, constant"),
        ({"amount": "{column: sum, factor: x}"}, "fields.amount: factor: 'x' is no number"),
        ({"amount": "{column: sum, factor: 0}"}, "fields.amount: factor: '0' is no number"),
        ({"amount": "{column: sum, factor: 1e7}"}, "fields.amount: factor: '1e7' is no number"),
        ({"latitude": "{constant: north}"}, "fields.latitude: constant is no number"),
        ({"timestamp": "{column: at, zone: Berlin}"}, "fields.timestamp: zone: 'Berlin' is no time zone"),
        ({"timestamp": "{column: at, since: today}"}, "fields.timestamp: since: 'today' is no date"),
        ({"timestamp": '{column: at, since: 2026-01-01, format: "%Y"}'}, "format or since, not both"),
        ({"label": "{column: badd, fraud: [1], honest: [0]}"}, "label.column: there is no column 'badd'"),
        ({"label": "{column: bad, fraud: [1, 0], honest: [0]}"}, "label: 0 cannot mean both"),
        (
            {"label": "{column: bad, fraud: [1], honest: [0], scenario: k}"},
            "label.scenario: there is no column 'k'",
        ),
        ({"columns": None, "transaction_id": '{text: "{row}"}'}, "a topic has no row numbers"),
    ],
)
def test_rules_that_cannot_be_followed_are_named(fields, message):
    with pytest.raises(MappingError) as error:
        translator(**fields)
    assert str(error.value).startswith("mapping.yaml: ") and message in str(error.value)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("", None),
        (None, None),
        (float("nan"), None),
        (4.0, "4"),
        (1e300, "1e+300"),
        (True, "true"),
        (b"\xff", "\udcff"),
    ],
)
def test_values_of_any_type_as_text(value, text):
    assert text_of(value) == text
