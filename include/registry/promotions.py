"""The ledger of promotions: who or what made which version champion, when and why.

A row is written before the alias is changed in MLflow, its outcome after. Where a process was killed between the two,
whoever looks next closes the row by what the alias is then. An alias that somebody changed in MLflow itself counts as a
promotion by hand: the stream scores with it, and the ledger says that no gate was asked.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import psycopg
from psycopg.rows import class_row

from include.sql import one_row

log = logging.getLogger(__name__)

Kind = Literal["promotion", "rollback", "by hand", "found"]
Mode = Literal["auto", "human"]
Parity = Literal["clean", "passed over", "not asked"]

_READ = """
select p.*, o.done from shop.promotions p left join shop.promotion_outcomes o on o.promotion_id = p.id
order by p.id desc limit %s"""
_INTEND = """
insert into shop.promotions (kind, version, from_version, actor, reason, mode, parity, evidence)
values (%s, %s, %s, %s, %s, %s, %s, %s) returning id"""
_CLOSE = """
insert into shop.promotion_outcomes (promotion_id, done) values (%s, %s) on conflict do nothing"""
_OPEN = """
select id, version from shop.promotions p
where not exists (select from shop.promotion_outcomes o where o.promotion_id = p.id) order by id"""
_LAST = """
select version from shop.promotions p join shop.promotion_outcomes o on o.promotion_id = p.id and o.done
order by id desc limit 1"""


@dataclass(frozen=True)
class Cause:
    """Who or what makes a version champion, and why.

    Attributes:
        mode: `human` where a person decided or approved it.
        parity: what the parity gate said.
        evidence: sha256 of the comparison that stands in the version's run, if there is one.
    """

    actor: str
    reason: str
    kind: Kind = "promotion"
    mode: Mode = "auto"
    parity: Parity = "not asked"
    evidence: str | None = None


@dataclass(frozen=True)
class Promotion:
    """A row of the ledger; `done` is None while nobody has looked since it was interrupted."""

    id: int
    at: datetime
    kind: Kind
    version: int | None
    from_version: int | None
    actor: str
    reason: str
    mode: Mode
    parity: Parity
    evidence: str | None
    done: bool | None

    def __str__(self) -> str:
        what = "no champion" if self.version is None else f"version {self.version}"
        before = "" if self.from_version is None else f" in place of version {self.from_version}"
        return f"{what}{before} at {self.at:%Y-%m-%d %H:%M:%S} UTC by {self.actor}: {self.reason}"


def read(connection: psycopg.Connection[Any], limit: int | None = None) -> list[Promotion]:
    """The newest rows of the ledger, newest first."""
    with connection.cursor(row_factory=class_row(Promotion)) as cursor:
        return cursor.execute(_READ, (limit,)).fetchall()


def reconcile(connection: psycopg.Connection, alias: int | None) -> None:
    """Closes rows that were interrupted, and enters an alias that changed outside of the ledger.

    The caller holds `include.registry.aliases.held`, so that no promotion is under way.

    Args:
        connection: commits each statement.
        alias: the version that is champion in MLflow now, or None.
    """
    last = _last(connection)
    open_rows = connection.execute(_OPEN).fetchall()
    for promotion, version in open_rows:
        done = version == alias and promotion == open_rows[-1][0]
        connection.execute(_CLOSE, (promotion, done))
        log.warning("promotion %d of version %s was interrupted: done is %s", promotion, version, done)
        last = (version,) if done else last
    if last is None and alias is not None:
        cause = Cause("unknown", "it was champion when the ledger began", kind="found")
    elif last is not None and last != (alias,):
        cause = Cause("unknown", "the alias champion was changed in MLflow itself", "by hand", "human")
    else:
        return
    close(connection, intend(connection, alias, last[0] if last else None, cause), done=True)
    log.warning("version %s is champion, though the ledger had version %s: %s", alias, last, cause.reason)


def intend(connection: psycopg.Connection, version: int | None, before: int | None, cause: Cause) -> int:
    """Enters that a version is to become champion in place of another one; returns the row's id."""
    values = (
        cause.kind,
        version,
        before,
        cause.actor,
        cause.reason,
        cause.mode,
        cause.parity,
        cause.evidence,
    )
    (promotion,) = one_row(connection.execute(_INTEND, values))
    return int(promotion)


def close(connection: psycopg.Connection, promotion: int, *, done: bool) -> None:
    """Enters whether the alias was changed."""
    connection.execute(_CLOSE, (promotion, done))


def previous(ledger: Iterable[Promotion]) -> int | None:
    """The version that was champion before the present one and was not rolled back itself; None without one.

    Args:
        ledger: newest first.
    """
    done = [row for row in reversed([*ledger]) if row.done]
    champions: list[int] = []
    for row in done:
        if row.kind == "rollback" and row.version in champions:
            last = len(champions) - 1 - champions[::-1].index(row.version)
            del champions[last + 1 :]
        elif row.version is not None and champions[-1:] != [row.version]:
            champions.append(row.version)
    if done and done[-1].version is not None:
        champions.pop()
    return champions[-1] if champions else None


def _last(connection: psycopg.Connection) -> tuple[int | None] | None:
    """The version that the ledger has as champion, in a tuple; None when the ledger is empty."""
    row = connection.execute(_LAST).fetchone()
    return None if row is None else (row[0],)
