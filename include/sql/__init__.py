"""SQL that is longer than a line: one file a statement, in the folder of the room that runs it.

`{columns}` in a file stands for the columns of shop.transactions t that do not tell who somebody is.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TypeVar

import psycopg

from include.events.rows import SELECTED

FOLDER = Path(__file__).parent

Row = TypeVar("Row")


@cache
def statement(name: str) -> str:
    """The SQL of the file `include/sql/NAME.sql`, with its leading comment: `statement("parity/scored")`.

    Raises:
        KeyError: there is no such file; the message lists those of its folder.
    """
    path = FOLDER / f"{name}.sql"
    if not path.is_file():
        present = ", ".join(sorted(other.stem for other in path.parent.glob("*.sql")))
        raise KeyError(f"no statement {path.stem!r} in {path.parent}; there are: {present}")
    return path.read_text().replace("{columns}", SELECTED)


def one_row(cursor: psycopg.Cursor[Row]) -> Row:
    """The next row of a query that always has one, such as an aggregate.

    Raises:
        LookupError: it has none.
    """
    row = cursor.fetchone()
    if row is None:
        raise LookupError("a query that always has a row has none")
    return row
