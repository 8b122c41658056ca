"""A field is added to a copy of the code by its declaration and a migration; nothing else has to change to store it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from include.settings import PROJECT_ROOT, Settings
from tests.events.test_transaction import ADDED_LATER, GOLDEN

pytestmark = pytest.mark.services

DECLARATION = '    invented: Annotated[Text | None, about("web")] = None\n'
MIGRATION = """
alter table shop.transactions add column invented text;
grant select (invented) on shop.transactions to trainer, app;
"""
# Runs in the copy: one event with the field, and one that was written before there was such a field.
PROGRAM = f"""
import sys
from datetime import timedelta
from typing import NamedTuple

import psycopg
import pyarrow

from include.events import mapping, rows
from include.events.transaction import decode, encode
from include.generator.batch import event_rows
from include.platform import postgres
from include.settings import Settings
from include.streams import ingest, store
from tests.builders import NOW, event_bytes, transaction

settings = Settings.model_validate_json(sys.stdin.read())
postgres.migrate(settings)

limits = {{"max_bytes": 65_536, "future_tolerance": timedelta(minutes=5)}}
old = {{"transaction_id": "one", "is_fraud": True, **{ADDED_LATER}}}
before = decode(event_bytes(**old, invented=None), NOW, **limits)
assert before.fingerprint == {GOLDEN["full"]}, "an old event has another fingerprint"
assert decode(event_bytes(**old), NOW, **limits).fingerprint != before.fingerprint

values = [encode(transaction(invented=invented)) for invented in ("web", None)]
records = [store.Record(offset, NOW, None, value) for offset, value in enumerate(values)]
with store.connect(settings) as connection:
    span = store.Range.of("transaction_stream", "t", "id", 0, records)
    written = store.write(connection, store.Writer(settings, "transaction_stream", 0), span, ingest.transactions)
assert written.stored == 2, written

class Head(NamedTuple):
    offset: int

with psycopg.connect(settings.conninfo("trainer")) as connection:
    cursor = connection.cursor(row_factory=rows.with_transactions(Head))
    query = f'select t."offset", {{rows.SELECTED}} from shop.transactions t order by t."offset"'
    assert [read.invented for _, read in cursor.execute(query)] == ["web", None]

document = {{"fields": {{"transaction_id": "a", "user_id": "b", "timestamp": "c", "amount": "d", "invented": "e"}}}}
assert mapping.parse(document).fields["invented"] == mapping.Source(column="e")
assert event_rows({{"invented": pyarrow.array(["web"])}}).to_pylist() == [{{"invented": "web"}}]
"""


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the code with the field in it."""
    for folder in ("include", "tests"):
        shutil.copytree(
            PROJECT_ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__")
        )
    declaration = tmp_path / "include" / "events" / "transaction.py"
    code = declaration.read_text()
    last = code.index("\n\n\n", code.index("class Transaction(")) + 1
    declaration.write_text(code[:last] + DECLARATION + code[last:])
    (tmp_path / "include" / "sql" / "migrations" / "0999.invented.sql").write_text(MIGRATION)
    return tmp_path


@pytest.fixture
def database(postgres: Settings) -> Iterator[Settings]:
    """An empty database of the server."""
    superuser = postgres.conninfo("owner", "postgres").replace("user=owner", "user=postgres")
    with psycopg.connect(superuser, autocommit=True) as connection:
        connection.execute("create database added_field owner owner")
        yield postgres.model_copy(update={"postgres_database": "added_field"})
        connection.execute("drop database added_field with (force)")


def test_a_field_needs_its_declaration_and_a_migration(copy, database):
    (copy / "program.py").write_text(PROGRAM)
    done = subprocess.run(
        [sys.executable, "program.py"],
        cwd=copy,
        input=database.model_dump_json(),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
