"""A transaction written to shop.transactions and read back, whatever the order of the columns."""

from __future__ import annotations

from datetime import UTC
from typing import NamedTuple

import psycopg
import pytest

from include.events import rows
from include.events.transaction import FIELDS, Transaction
from include.settings import Settings
from include.sql import statement
from tests.builders import transaction

pytestmark = pytest.mark.services

PERSONAL = [field.name for field in FIELDS if field.personal]


class Head(NamedTuple):
    partition: int
    note: str


def store(settings: Settings, *transactions: Transaction) -> None:
    """Writes transactions as the stream does."""
    copy = f"""
        copy shop.transactions ({", ".join(rows.COLUMNS)}, topic, partition, "offset", broker_time)
        from stdin (format binary)"""
    with (
        psycopg.connect(settings.conninfo("stream_writer")) as connection,
        connection.cursor().copy(copy) as copying,
    ):
        copying.set_types([*rows.COLUMN_TYPES.values(), "text", "int4", "int8", "timestamptz"])
        for offset, row in enumerate(transactions):
            copying.write_row((*rows.to_row(row), "t", 3, offset, row.timestamp))


def test_what_is_written_is_read_back_without_personal_data(clean_postgres):
    optional = dict.fromkeys(field.name for field in FIELDS if not field.required)
    stored = [transaction(amount=0.07), transaction(**optional), transaction(amount=9_999_999_999.99)]
    store(clean_postgres, *stored)
    query = f"""select t.partition, 'here' as note, {rows.SELECTED} from shop.transactions t order by t."offset" """
    for binary in (False, True):
        with (
            psycopg.connect(clean_postgres.conninfo("trainer")) as connection,
            connection.cursor("rows", binary=binary, row_factory=rows.with_transactions(Head)) as cursor,
        ):
            read = cursor.execute(query).fetchall()
        assert [head for head, _ in read] == [Head(3, "here")] * 3
        for (_, ours), theirs in zip(read, stored, strict=True):
            assert ours.timestamp.astimezone(UTC) == theirs.timestamp
            expected = {name: getattr(theirs, name) for name in rows.COLUMNS} | dict.fromkeys(PERSONAL)
            assert {name: getattr(ours, name) for name in rows.COLUMNS} == expected


def test_columns_are_read_by_name(clean_postgres):
    store(clean_postgres, transaction(amount=12.5, device="phone"))
    with psycopg.connect(clean_postgres.conninfo("trainer")) as connection:
        cursor = connection.cursor(row_factory=rows.with_transactions(Head))
        ((head, read),) = cursor.execute(
            "select partition, topic as note, device, amount::float8, user_id from shop.transactions"
        )
        assert (head, read.device, read.amount, read.currency) == (Head(3, "t"), "phone", 12.5, None)
        with pytest.raises(ValueError, match=r"\['note', 'partition'\], Head has \['partition', 'note'\]"):
            cursor.execute("select topic as note, partition, device from shop.transactions")


def test_the_table_has_a_column_of_its_type_for_each_field(postgres):
    with psycopg.connect(postgres.conninfo("owner")) as connection:
        columns = connection.execute(
            "select attname, format_type(atttypid, null), attnotnull from pg_attribute "
            "where attrelid = 'shop.transactions'::regclass and attnum > 0 and not attisdropped"
        ).fetchall()
        types = connection.execute(
            "select array_agg(kind::regtype::text order by n) from unnest(%s::text[]) with ordinality as t (kind, n)",
            [list(rows.COLUMN_TYPES.values())],
        ).fetchone()[0]
    expected = {(field.name, kind, field.required) for field, kind in zip(FIELDS, types, strict=True)}
    assert expected <= set(columns)


def test_roles_read_the_columns_that_are_selected_and_the_personal_ones_are_kept_from_them(postgres):
    for role in ("trainer", "app"):
        with psycopg.connect(postgres.conninfo(role), autocommit=True) as connection:
            connection.execute(f"select {rows.SELECTED} from shop.transactions t limit 0")
            for name in PERSONAL:
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    connection.execute(f"select {name} from shop.transactions limit 0")


def test_statements_have_the_columns_filled_in():
    for name in ("training/transactions", "parity/scored"):
        assert rows.SELECTED in statement(name) and "{" not in statement(name)
