"""docs/events.md says what the code does."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from msgspec import inspect

from include.events import label, transaction
from include.events.label import Label, decode_label
from include.events.strict_json import MAX_DEPTH, Reason
from include.events.transaction import Transaction, decode
from include.settings import PROJECT_ROOT, Settings

TEXT = (PROJECT_ROOT / "docs" / "events.md").read_text()


def section(title: str) -> str:
    return re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", TEXT, re.MULTILINE | re.DOTALL)[1]


def table(title: str) -> list[list[str]]:
    rows = re.findall(r"^\| `(\w+)` \| (.*?) ?\|$", section(title), re.MULTILINE)
    return [[name, *(cell.strip() for cell in rest.split("|"))] for name, rest in rows]


def declared(record: type[msgspec.Struct]) -> dict[str, tuple[str, str | None]]:
    """For each field of a struct its type and limit in the words of the tables."""
    found = {}
    for field in inspect.type_info(record).fields:
        kinds = getattr(field.type, "types", (field.type,))
        found[field.name] = in_words(next(kind for kind in kinds if not isinstance(kind, inspect.NoneType)))
    return found


def in_words(kind: inspect.Type) -> tuple[str, str | None]:
    match kind:
        case inspect.StrType(pattern=str()):
            return "string", "three capital letters"
        case inspect.StrType(min_length=None):
            return "string", f"up to {kind.max_length} characters"
        case inspect.StrType():
            return "string", f"{kind.min_length} to {kind.max_length} characters"
        case inspect.FloatType(ge=None):
            return "number", None
        case inspect.FloatType():
            return "number", f"{kind.ge:g} to {kind.le:g}"
    return {inspect.DateTimeType: "timestamp", inspect.BoolType: "boolean"}[type(kind)], None


def test_the_transaction_table_is_the_declaration():
    rows = table("Transactions")
    assert [row[0] for row in rows] == [*Transaction.__struct_fields__, "is_fraud"]
    fields = declared(Transaction) | {"is_fraud": ("boolean", None)}
    for name, kind, _, limit in rows:
        type_, words = fields[name]
        assert (kind, limit) == (type_, words or limit), name
    required = {"transaction_id", "user_id", "timestamp", "amount"}
    assert {name for name, _, needed, _ in rows if needed == "yes"} == required
    amount = dict((row[0], row[3]) for row in rows)["amount"]
    assert amount == f"0 to {transaction.MAX_AMOUNT}, at most 2 decimals"


def test_the_label_table_is_the_declaration():
    rows = table("Labels")
    assert {row[0] for row in rows} == {*Label.__struct_fields__, "user_id"}
    fields = declared(Label) | {"user_id": ("string", "1 to 128 characters")}
    for name, kind, _, limit in rows:
        type_, words = fields[name]
        assert (kind, limit) == (type_, words or limit), name
    assert f"to {label.LATEST.year};" in section("Labels")


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
    example = re.search(r"```json\n(.*?)```", section(title), re.DOTALL)[1]
    assert set(json.loads(example)) == {row[0] for row in table(title)}
    now = datetime(2026, 11, 20, 12, tzinfo=UTC)
    read(example.encode(), now, max_bytes=65_536, future_tolerance=timedelta(minutes=5))
