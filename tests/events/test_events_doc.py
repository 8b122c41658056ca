"""docs/events.md says what the code does."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from include.events.fields import Field, declared
from include.events.label import Label, decode_label
from include.events.strict_json import MAX_DEPTH, Reason
from include.events.transaction import TransactionEvent, decode
from include.settings import PROJECT_ROOT, Settings

TEXT = (PROJECT_ROOT / "docs" / "events.md").read_text()


def section(title: str) -> str:
    return re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", TEXT, re.MULTILINE | re.DOTALL)[1]


def json_example(title: str) -> bytes:
    return re.search(r"```json\n(.*?)```", section(title), re.DOTALL)[1].encode()


def table(title: str) -> list[list[str]]:
    rows = re.findall(r"^\| `(\w+)` \| (.*?) ?\|$", section(title), re.MULTILINE)
    return [[name, *(cell.strip() for cell in rest.split("|"))] for name, rest in rows]


def rows(fields: tuple[Field, ...]) -> list[str]:
    """The lines of a table of fields."""
    types = {str: "string", float: "number", datetime: "timestamp", bool: "boolean"}
    return [
        f"| `{name}` | {types[kind]} | {'yes' if required else 'no'} | {limit} |".replace("|  |", "| |")
        for name, kind, required, limit, *_ in fields
    ]


@pytest.mark.parametrize(("title", "record"), [("Transactions", TransactionEvent), ("Labels", Label)])
def test_the_tables_of_fields_are_the_declarations(title, record):
    expected = rows(declared(record))
    assert re.findall(r"^\| `.*", section(title), re.MULTILINE) == expected, "\n".join(expected)


@pytest.mark.parametrize(("title", "record"), [("Transactions", TransactionEvent), ("Labels", Label)])
def test_the_examples_are_those_of_the_declarations(title, record):
    example = {field.name: field.example for field in declared(record)}
    assert msgspec.json.decode(json_example(title)) == msgspec.to_builtins(example)


def test_the_reasons_table_is_the_list_of_reasons():
    assert [row[0] for row in table("Dead letters")] == list(Reason)


def test_defaults_and_limits_in_the_text_are_those_of_the_code():
    defaults = Settings.model_fields
    assert defaults["future_tolerance_seconds"].default == 300
    assert "5 minutes ahead" in TEXT
    assert f"{MAX_DEPTH} levels" in TEXT
    for name in re.findall(r"FRAUDSTREAM_(\w+)", TEXT):
        assert name.lower() in defaults
    for topic in ("transactions_topic", "labels_topic"):
        assert f"Topic `{defaults[topic].default}`" in TEXT


@pytest.mark.parametrize(("title", "read"), [("Transactions", decode), ("Labels", decode_label)])
def test_the_examples_are_accepted(title, read):
    now = datetime(2026, 11, 20, 12, tzinfo=UTC)
    read(json_example(title), now, max_bytes=65_536, future_tolerance=timedelta(minutes=5))
