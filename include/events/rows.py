"""A transaction as a row of shop.transactions: written by COPY, and read back by the names of its columns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal
from operator import itemgetter
from typing import Any, NamedTuple, TypeVar

import msgspec
import psycopg
from msgspec.structs import astuple
from psycopg.rows import no_result

from include.events.transaction import FIELDS, Transaction

Head = TypeVar("Head", bound=NamedTuple)

COLUMN_TYPES = {field.name: field.sql_type for field in FIELDS}
COLUMNS = tuple(COLUMN_TYPES)
_NUMERIC = [number for number, kind in enumerate(COLUMN_TYPES.values()) if kind == "numeric"]

# What stands for `{columns}` in a statement: the fields of shop.transactions t that do not tell who somebody is.
SELECTED = ", ".join(
    f"t.{field.name}::float8 as {field.name}" if field.sql_type == "numeric" else f"t.{field.name}"
    for field in FIELDS
    if not field.personal
)


def to_row(transaction: Transaction) -> list[object]:
    """The values of the columns as COPY takes them for `COLUMN_TYPES`."""
    row = list(astuple(transaction))
    for number in _NUMERIC:
        if row[number] is not None:
            row[number] = Decimal(str(row[number]))
    return row


def to_json(transaction: Transaction) -> dict[str, object]:
    """The fields that have a value and do not tell who somebody is, as JSON."""
    fields = msgspec.to_builtins(transaction)
    return {
        field.name: fields[field.name]
        for field in FIELDS
        if not field.personal and fields[field.name] is not None
    }


def with_transactions(
    head: type[Head],
) -> Callable[[psycopg.Cursor], Callable[[Sequence[Any]], tuple[Head, Transaction]]]:
    """A psycopg row factory for a query that selects the fields of `head`, then `{columns}`.

    A row is a pair: a `head`, and the transaction, whose fields are None where the query does not select them.

    Raises:
        ValueError: the query's first columns have other names than the fields of `head`.
    """

    def factory(cursor: psycopg.Cursor) -> Callable[[Sequence[Any]], Any]:
        if cursor.description is None:
            return no_result
        names = [column.name for column in cursor.description]
        first, selected = names[: len(head._fields)], names[len(head._fields) :]
        if first != list(head._fields):
            raise ValueError(f"the query selects {first}, {head.__name__} has {list(head._fields)}")
        width = len(first)
        pick = itemgetter(*(selected.index(name) if name in selected else len(selected) for name in COLUMNS))

        def row(values: Sequence[Any]) -> tuple[Head, Transaction]:
            return head(*values[:width]), Transaction(*pick((*values[width:], None)))

        return row

    return factory
