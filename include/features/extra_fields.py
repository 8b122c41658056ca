"""What a shop calls the numbers and categories that it has beside the named fields of a transaction."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import psycopg

from include.events.mapping import MappingError
from include.events.transaction import CATEGORIES, NUMBERS


def names(connection: psycopg.Connection) -> dict[str, str]:
    """The shop's names by the fields of `include.events.transaction.NUMBERS` and `CATEGORIES`."""
    return dict(connection.execute("select field, name from shop.extra_fields order by field").fetchall())


def keep(connection: psycopg.Connection, given: Mapping[str, str], path: Path) -> None:
    """Remembers the names that a mapping gives to fields.

    Args:
        given: names by fields.
        path: of the mapping file, for messages.

    Raises:
        MappingError: a field has another name already: what is stored in it means something else.
    """
    if not given:
        return
    with connection.transaction():
        before = names(connection)
        connection.cursor().executemany(
            "insert into shop.extra_fields (field, name) values (%s, %s) on conflict do nothing",
            sorted(given.items()),
        )
        after = names(connection)
        if given.items() <= after.items():
            return
        for key, fields in (("numbers", NUMBERS), ("categories", CATEGORIES)):
            wanted = [given[field] for field in fields if field in given]
            if wanted != [after.get(field) for field in fields if field in given]:
                order = list(
                    dict.fromkeys([*(before[field] for field in fields if field in before), *wanted])
                )
                raise MappingError(f"{path}: {key}: {_other_order(order, len(fields))}")


def _other_order(order: list[str], room: int) -> str:
    names = ", ".join(order)
    if len(order) > room:
        return f"this shop would have {len(order)} of them, there is room for {room}: {names}"
    return (
        "this shop's data has them in another order: "
        f"name them as {names}; one that this file does not have stays without a value"
    )
