"""What is wrong with the platform: opened and closed in the caller's transaction, with the alarms that tell of it."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Literal

import psycopg
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from include.operations import outbox
from include.sql import one_row, statement

CHANNEL = "alarms"  # of the outbox: the relay makes messages for those who are to be told


class Kind(StrEnum):
    """What can be wrong; docs/operations.md has an entry for each."""

    STREAM_SILENT = "stream-silent"
    STREAM_LAGGING = "stream-lagging"
    STREAM_RESTARTING = "stream-restarting"
    SERVICE_DOWN = "service-down"
    BOOKS_OPEN = "books-open"
    PARITY_BROKEN = "parity-broken"
    DEAD_LETTERS_RISING = "dead-letters-rising"
    DAG_FAILED = "dag-failed"
    UNDELIVERED = "undelivered"
    FIELD_FAULT = "field-fault"
    LABELS_STALLED = "labels-stalled"
    POPULATION_CHANGED = "population-changed"
    FRAUD_CHANGED = "fraud-changed"
    CHAMPION_STALE = "champion-stale"
    ALERTS_OVER_CAPACITY = "alerts-over-capacity"


Severity = Literal["warning", "critical"]
SEVERITIES: Mapping[Kind, Severity] = {
    Kind.STREAM_SILENT: "critical",
    Kind.STREAM_LAGGING: "warning",
    Kind.STREAM_RESTARTING: "critical",
    Kind.SERVICE_DOWN: "critical",
    Kind.BOOKS_OPEN: "critical",
    Kind.PARITY_BROKEN: "warning",
    Kind.DEAD_LETTERS_RISING: "warning",
    Kind.DAG_FAILED: "warning",
    Kind.UNDELIVERED: "warning",
    Kind.FIELD_FAULT: "critical",
    Kind.LABELS_STALLED: "warning",
    Kind.POPULATION_CHANGED: "warning",
    Kind.FRAUD_CHANGED: "critical",
    Kind.CHAMPION_STALE: "warning",
    Kind.ALERTS_OVER_CAPACITY: "warning",
}


def open_incident(
    connection: psycopg.Connection[Any],
    kind: Kind,
    subject: str,
    summary: str,
    evidence: Mapping[str, Any] | None = None,
) -> int:
    """Opens an incident and queues its alarms; one that is open already gets the new summary and evidence.

    Args:
        subject: what it is about: a stream, a service, a DAG. There is one open incident of a kind and subject.
        evidence: the figures that show it.

    Returns:
        the id of the open incident.
    """
    values = {
        "kind": kind,
        "subject": subject,
        "severity": SEVERITIES[kind],
        "summary": summary,
        "evidence": Jsonb(dict(evidence or {})),
        "runbook": str(kind),
    }
    with connection.cursor(row_factory=dict_row) as cursor:
        row = one_row(cursor.execute(statement("incidents/open"), values))
    if row["opened"]:
        told = ("kind", "subject", "severity", "summary", "runbook")
        alarm = {name: str(values[name]) for name in told}
        outbox.put(
            connection,
            CHANNEL,
            alarm | {"event": "opened", "incident": row["id"], "at": row["opened_at"].isoformat()},
        )
    return int(row["id"])


def close_incident(connection: psycopg.Connection[Any], kind: Kind, subject: str) -> bool:
    """Closes the open incident of a kind and subject and queues the all-clear; False when none is open."""
    with connection.cursor(row_factory=dict_row) as cursor:
        row = cursor.execute(statement("incidents/close"), {"kind": kind, "subject": subject}).fetchone()
    if row is None:
        return False
    alarm = {"kind": str(kind), "subject": subject} | {
        name: row[name] for name in ("severity", "summary", "runbook")
    }
    outbox.put(
        connection,
        CHANNEL,
        alarm | {"event": "closed", "incident": row["id"], "at": row["closed_at"].isoformat()},
    )
    return True
