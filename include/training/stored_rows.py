"""What the shop has stored, as arrays: scored transactions, their feature vectors, and labels as known at a time.

Rows come through binary COPY of fixed-width columns, which numpy reads as they are: about a second for a million
rows, where fetching Python objects takes a minute. Customers and transactions appear as 64-bit hashes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from datetime import datetime

import numpy as np
import psycopg

from include.sql import statement

COLUMNS = (
    ("key", ">i8"),
    ("user", ">i8"),
    ("timestamp", ">f8"),
    ("amount", ">f8"),
    ("score", ">f8"),
    ("alert", ">i4"),
    ("version", ">i4"),
)
HEADER = 19  # bytes of COPY's signature, flags and extension length
CHUNK = 32 * 2**20


class UnreadableRows(ValueError):
    """The rows do not have the fixed width that they were asked for: a null, or a vector of another length."""


@dataclass(frozen=True)
class Rows:
    """N transactions in order of event time: hashes, seconds since 1970, the decision, and vectors (N, F) if read."""

    key: np.ndarray
    user: np.ndarray
    timestamp: np.ndarray
    amount: np.ndarray
    score: np.ndarray
    alert: np.ndarray
    version: np.ndarray
    features: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.key)

    def __getitem__(self, rows: np.ndarray | slice) -> Rows:
        parts = {field.name: getattr(self, field.name) for field in fields(self)}
        return Rows(**{name: None if part is None else part[rows] for name, part in parts.items()})


@dataclass(frozen=True)
class Labels:
    """Labels known at a time, by the hash of their transaction (sorted); delay in seconds after the transaction."""

    key: np.ndarray
    fraud: np.ndarray
    scenario: np.ndarray
    delay: np.ndarray

    def of(self, key: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """For N hashes: whether there is a label (N,) bool, whether it says fraud (N,) bool, its scenario or ''."""
        if not len(self.key):
            none = np.zeros(len(key), bool)
            return none, none.copy(), np.full(len(key), "", object)
        at = np.minimum(np.searchsorted(self.key, key), len(self.key) - 1)
        labelled = self.key[at] == key
        return labelled, labelled & self.fraud[at], np.where(labelled, self.scenario[at], "")


def newest_event(connection: psycopg.Connection) -> datetime | None:
    """The newest event time stored, or None when there is no transaction."""
    return connection.execute(statement("training/newest_event")).fetchone()[0]


def counts(
    connection: psycopg.Connection, start: datetime, end: datetime, feature_set: int, width: int
) -> tuple[int, int]:
    """(transactions, logged vectors of this feature set) with event time in [start, end)."""
    wanted = {"start": start, "end": end, "feature_set": feature_set, "width": width}
    return connection.execute(statement("training/counts"), wanted).fetchone()


def scored_rows(
    connection: psycopg.Connection, start: datetime, end: datetime, *, share: float = 1.0
) -> Rows:
    """Decisions with event time in [start, end), of all customers or of a fixed `share` of them."""
    return _read(connection, "scored_rows", {"start": start, "end": end, "share": share}, None)


def feature_rows(
    connection: psycopg.Connection,
    start: datetime,
    end: datetime,
    *,
    feature_set: int,
    width: int,
    share: float = 1.0,
) -> Rows:
    """The same with the vectors (N, width) float32 that were scored, for one feature set."""
    wanted = {"start": start, "end": end, "share": share, "feature_set": feature_set, "width": width}
    return _read(connection, "feature_rows", wanted, width)


def labels(connection: psycopg.Connection, start: datetime, end: datetime, as_of: datetime) -> Labels:
    """The labels of transactions with event time in [start, end), as they were known at `as_of`."""
    cursor = connection.execute(
        statement("training/labels"), {"start": start, "end": end, "as_of": as_of}, binary=True
    )
    found = cursor.fetchall()
    key = np.array([row[0] for row in found], np.int64)
    order = np.argsort(key)
    fraud = np.array([row[1] for row in found], bool)
    scenario = np.array([row[2] for row in found], object)
    delay = np.array([row[3] for row in found], np.float64)
    return Labels(key[order], fraud[order], scenario[order], delay[order])


def _read(connection: psycopg.Connection, name: str, wanted: dict, width: int | None) -> Rows:
    layout = _layout(width)
    parts = [np.empty(0, layout), *_records(connection, name, wanted, layout)]
    for part in parts:
        if width and not (part["features_head"][:, [0, 1, 3]] == (1, 0, width)).all():
            raise UnreadableRows(f"{name}: a feature vector is not a plain array of {width} numbers")
    columns = {
        column: np.concatenate([part[column] for part in parts]).astype(kind[1:]) for column, kind in COLUMNS
    }
    columns["alert"] = columns["alert"].astype(bool)
    features = (
        np.concatenate([part["features"]["value"] for part in parts]).astype(np.float32) if width else None
    )
    rows = Rows(**columns, features=features)
    return rows[np.lexsort((rows.key, rows.timestamp))]  # wide rows sort faster here than in PostgreSQL


def _layout(width: int | None) -> np.dtype:
    """One row in COPY's binary format: the number of fields, then each field's length and its bytes."""
    layout: list[tuple] = [("fields", ">i2")]
    for column, kind in COLUMNS:
        layout += [(f"{column}_length", ">i4"), (column, kind)]
    if (
        width
    ):  # an array: dimensions, has nulls, element type, size, lower bound; then length and bytes of each
        element = np.dtype([("length", ">i4"), ("value", ">f4")])
        layout += [
            ("features_length", ">i4"),
            ("features_head", ">i4", (5,)),
            ("features", element, (width,)),
        ]
    return np.dtype(layout)


def _records(
    connection: psycopg.Connection, name: str, wanted: dict, layout: np.dtype
) -> Iterator[np.ndarray]:
    """The rows of a query in chunks, each an array of `layout`."""
    query = statement(f"training/{name}")
    copying = f"copy ({query}) to stdout (format binary)"
    with connection.cursor() as cursor, cursor.copy(copying, wanted) as copy:
        buffer = bytearray()
        started = False
        for block in copy:
            buffer += block
            if not started and len(buffer) >= HEADER:
                del buffer[:HEADER]
                started = True
            if len(buffer) >= CHUNK:
                whole = len(buffer) // layout.itemsize * layout.itemsize
                yield _checked(name, bytes(buffer[:whole]), layout)
                del buffer[:whole]
        yield _checked(name, bytes(buffer[:-2]), layout)  # without COPY's trailer


def _checked(name: str, raw: bytes, layout: np.dtype) -> np.ndarray:
    if len(raw) % layout.itemsize:
        raise UnreadableRows(
            f"{name}: {len(raw)} bytes are no whole number of rows of {layout.itemsize} bytes"
        )
    records = np.frombuffer(raw, layout)
    expected = len([field for field in layout.names if field.endswith("_length")])
    if (records["fields"] != expected).any():
        raise UnreadableRows(f"{name}: a row does not have {expected} fields of fixed width")
    return records
