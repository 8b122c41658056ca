"""Keeps the sums that dashboards read (migration rollups): adds what both streams have read since the last time.

The position in each partition moves in the transaction that adds the rows before it, so each transaction is counted
once, whatever is interrupted. What came after the position is added by the views.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

import psycopg

from include.settings import Settings
from include.sql import one_row, statement

log = logging.getLogger(__name__)

CELLS = ("activity", "score_counts", "delay_counts")
KEPT_MINUTES = "delete from shop.{} where grain = 60 and at < now() - interval '3 days'"
SESSION = "-c timezone=UTC -c work_mem=256MB -c jit=off"


@dataclass(frozen=True)
class Refreshed:
    """What a refresh did: transactions added to the cells, frauds that were not flagged before, changed labels."""

    transactions: int
    frauds: int
    labels: int


def refresh(settings: Settings) -> Refreshed:
    """Adds to the cells what both streams have read, and brings the labels of flagged transactions up to date.

    Raises:
        psycopg.Error: PostgreSQL cannot be reached; nothing was changed.
    """
    with psycopg.connect(settings.conninfo("owner"), autocommit=True, options=SESSION) as connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        # Taken before the snapshot: the next refresh sees what this one wrote.
        connection.execute("select pg_advisory_lock(hashtext('fraudstream rollups'))")
        with connection.transaction():
            connection.execute(statement("rollups/positions"))
            transactions = connection.execute(statement("rollups/fresh")).rowcount
            connection.execute("analyze fresh")
            for name in ("activity", "scores", "delays", "alerts"):
                connection.execute(statement(f"rollups/{name}"))
            frauds = connection.execute(statement("rollups/frauds")).rowcount
            labels = connection.execute(statement("rollups/truth")).rowcount
            connection.execute(statement("rollups/advance"))
            connection.execute(statement("rollups/state"))
            for table in CELLS:
                connection.execute(KEPT_MINUTES.format(table))
    done = Refreshed(transactions, frauds, labels)
    log.info("%d transactions added, %d frauds flagged, %d labels changed", transactions, frauds, labels)
    return done


def waiting(connection: psycopg.Connection) -> int:
    """How many stored transactions are not in the cells yet."""
    return int(one_row(connection.execute("select count(*) from monitoring.not_rolled_up"))[0])
