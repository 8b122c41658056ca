"""Which event owns an id: the first one in offset order, whatever partition it is in."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from enum import Enum
from typing import Any, NamedTuple

import psycopg

from include.streams.store import Writer, copy, stage

_CLAIMED = {"transaction_id": "text", "fingerprint": "int8", "timestamp": "timestamptz"}


class ClaimResult(Enum):
    """What an event is to those before it: new, the same again, or another one under the same id."""

    NEW = "new"
    DUPLICATE = "duplicate"
    CONFLICT = "conflict"


class Claim(NamedTuple):
    transaction_id: str
    fingerprint: int
    timestamp: datetime


class IdTable(NamedTuple):
    """A table that holds which event owns an id.

    insert: from the temporary table `claimed`, in the order of the ids, returns the ids that were new.
    known: for an array of ids, the ids and fingerprints that the table holds.
    """

    insert: str
    known: str
    arguments: tuple[object, ...] = ()


TRANSACTION_IDS = IdTable(
    """
insert into shop.transaction_ids (transaction_id, fingerprint, timestamp)
select transaction_id, fingerprint, timestamp from claimed order by transaction_id
on conflict do nothing returning transaction_id""",
    "select transaction_id, fingerprint from shop.transaction_ids where transaction_id = any(%s)",
)


def claim(
    connection: psycopg.Connection, writer: Writer, table: IdTable, claims: Sequence[Claim]
) -> list[ClaimResult]:
    """Takes ids for their first event in offset order, and tells for each event what it is.

    Waits for another transaction that is taking one of the ids.
    """
    first: dict[str, Claim] = {}
    for wanted in claims:
        first.setdefault(wanted.transaction_id, wanted)
    stage(connection, "claimed", _CLAIMED)
    copy(connection, writer, "claimed", _CLAIMED, list(first.values()))
    taken = connection.execute(table.insert, table.arguments)
    owners = {transaction_id: wanted.fingerprint for transaction_id, wanted in first.items()}
    new = set(first)
    if taken.rowcount < len(first):
        new = {transaction_id for (transaction_id,) in taken}
        unknown = [transaction_id for transaction_id in first if transaction_id not in new]
        while unknown:
            known: dict[str, Any] = dict(
                connection.execute(table.known, (unknown, *table.arguments)).fetchall()
            )
            owners.update(known)
            unknown = [transaction_id for transaction_id in unknown if transaction_id not in known]
            if unknown:  # housekeeping deleted them between the two statements
                again = connection.execute(table.insert, table.arguments)
                new.update(transaction_id for (transaction_id,) in again)
                unknown = [transaction_id for transaction_id in unknown if transaction_id not in new]
    results = []
    for wanted in claims:
        if first[wanted.transaction_id] is wanted and wanted.transaction_id in new:
            results.append(ClaimResult.NEW)
        elif owners[wanted.transaction_id] == wanted.fingerprint:
            results.append(ClaimResult.DUPLICATE)
        else:
            results.append(ClaimResult.CONFLICT)
    return results
