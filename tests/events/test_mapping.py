"""A mapping file says where each field comes from, and a wrong one is refused with its place."""

from __future__ import annotations

import pytest

from include.events.mapping import (
    Csv,
    LabelSource,
    MappingError,
    NumberSource,
    Rows,
    Source,
    TimeSource,
    load,
)
from include.events.transaction import CATEGORIES, NUMBERS, Transaction
from include.settings import PROJECT_ROOT

NEEDED = "fields: {transaction_id: id, user_id: user, timestamp: at, amount: sum}"


def read(tmp_path, text: str, encoding: str = "utf8"):
    path = tmp_path / "mapping.yaml"
    path.write_text(text, encoding)
    return load(path)


def test_every_field_of_a_transaction_can_be_mapped_and_four_must_be(tmp_path):
    names = [name for name in Transaction.__struct_fields__ if name not in (*NUMBERS, *CATEGORIES)]
    every = ", ".join(f"{name}: x" for name in reversed(names))
    assert list(read(tmp_path, f"fields: {{{every}}}").fields) == names
    assert list(read(tmp_path, NEEDED).fields) == ["transaction_id", "user_id", "timestamp", "amount"]
    for name in ("transaction_id", "user_id", "timestamp", "amount"):
        with pytest.raises(MappingError, match=f"fields: object missing required field `{name}`"):
            read(tmp_path, NEEDED.replace(f"{name}:", "device:"))


def test_the_short_form_is_a_column_of_the_fields_own_kind(tmp_path):
    fields = read(tmp_path, NEEDED[:-1] + ", latitude: lat, email: mail}").fields
    assert fields["timestamp"] == TimeSource(column="at")
    assert fields["amount"] == NumberSource(column="sum")
    assert fields["latitude"] == NumberSource(column="lat")
    assert fields["email"] == Source(column="mail")


def test_own_numbers_and_categories_take_the_fields_for_them_in_their_order(tmp_path):
    text = f"{NEEDED}\nnumbers: {{balance: b, age: {{column: a, factor: 0.1}}}}\ncategories: {{absent: , web shop: w}}"
    rules = read(tmp_path, text)
    assert rules.names == {
        "number_1": "balance",
        "number_2": "age",
        "category_1": "absent",
        "category_2": "web shop",
    }
    assert {name: rules.fields[name] for name in list(rules.fields)[4:]} == {
        "number_1": NumberSource(column="b"),
        "number_2": NumberSource(column="a", factor="0.1"),
        "category_2": Source(column="w"),
    }
    assert rules.key("number_2") == "numbers.age" and rules.key("amount") == "fields.amount"


def test_scalars_are_taken_as_they_are_written(tmp_path):
    label = "label: {column: no, fraud: [yes, 01, 1.0], honest: [no, ~]}"
    mapping = read(tmp_path, f"{NEEDED[:-1]}, location: {{constant: NO}}}}\n{label}")
    assert mapping.fields["location"].constant == "NO"
    assert mapping.label.column == "no"
    assert (mapping.label.fraud, mapping.label.honest) == (["yes", "01", "1.0"], ["no", "~"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the file: expected `object`, got `null`"),
        ("- a", "the file: expected `object`, got `array`"),
        ("fields: {a: b", "no valid YAML"),
        (NEEDED.replace("amount", "ammount"), "no field 'ammount', did you mean amount"),
        (NEEDED[:-1] + ", colour: c}", "no field 'colour': transaction_id, user_id"),
        (NEEDED + "\nlabels: {}", "the file: object contains unknown field `labels`"),
        (NEEDED[:-1] + ", device: {colum: c}}", "fields.device: object contains unknown field `colum`"),
        (NEEDED[:-1] + ", device: [a]}", "fields.device: expected `str"),
        (NEEDED.replace("sum", "{column: sum, round: perhaps}"), "fields.amount.round: expected `bool`"),
        (
            NEEDED.replace(": at", ": {column: at, unit: weeks}"),
            "fields.timestamp.unit: invalid enum value 'weeks'",
        ),
        (NEEDED.replace(": at", ": {constant: 2026-01-01}"), "fields.timestamp: object "),
        (NEEDED + "\nlabel: {column: c, fraud: [1]}", "label: object missing required field `honest`"),
        (
            NEEDED.replace(": at", ": {column: at, unit: weeks}"),
            "it is one of: nanoseconds, microseconds, milli",
        ),
        (NEEDED.replace("sum", "{column: sum, sign: minus}"), "it is one of: positive, negative, absolute"),
        (NEEDED + "\nfields: {}", "fields comes twice, on line 1 and on line 2"),
        ("fields:\n  amount: a\n  user_id: u\n  amount: b", "amount comes twice, on line 2 and on line 4"),
        ("? [a]\n: b", "line 1: a key must be a text"),
        (NEEDED + "\ncsv: {skip_lines: -1}", "csv.skip_lines: expected `int` >= 0"),
        (NEEDED + "\ncsv: {decimal: ';'}", "csv.decimal: invalid enum value ';'"),
        (NEEDED[:-1] + ", number_1: c}", "no field 'number_1': transaction_id, user_id"),
        (NEEDED + "\nnumbers: {a: a, b: a, c: a, d: a, e: a}", "numbers: has 5 fields, there is room for 4"),
        (
            NEEDED + "\ncategories: {device: d}",
            "categories.device: is a field of its own: write it below fields",
        ),
        (NEEDED + f"\ncategories: {{{'x' * 41}: d}}", "is no name of 1 to 40 characters"),
        (NEEDED + "\nnumbers: {a: a}\ncategories: {a: b}", "categories.a: numbers has the same name"),
        (NEEDED + "\nnumbers: {a: {text: b}}", "numbers.a: object contains unknown field `text`"),
    ],
)
def test_a_wrong_file_is_refused_with_its_place(tmp_path, text, message):
    with pytest.raises(MappingError) as error:
        read(tmp_path, text)
    assert f"{tmp_path}/mapping.yaml: " in str(error.value) and message in str(error.value)


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(MappingError, match="absent.yaml: No such file"):
        load(tmp_path / "absent.yaml")
    with pytest.raises(MappingError, match="not UTF-8"):
        read(tmp_path, NEEDED + "\n# é", "latin-1")


@pytest.mark.parametrize(
    "part", [Source, NumberSource, TimeSource, LabelSource, Rows, Csv], ids=lambda part: part.__name__
)
def test_everything_that_a_mapping_can_say_is_documented(part):
    text = (PROJECT_ROOT / "docs" / "import.md").read_text()
    table = text[text.index("| For | Write |") : text.index("A negative number may be")]
    assert [name for name in part.__struct_fields__ if f"{name}: " not in table] == []
