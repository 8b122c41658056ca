"""What the shop has stored, as arrays: scored transactions, their feature vectors, and labels as known at a time.

Rows come through binary COPY of fixed-width columns, which numpy reads as they are: about a second for a million
rows, where fetching Python objects takes a minute. Customers and transactions appear as 64-bit hashes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, Self, TypeVar

import numpy as np
import psycopg

from include.sql import one_row, statement

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
    """N transactions in order of event time: hashes, seconds since 1970, and the decision."""

    key: np.ndarray
    user: np.ndarray
    timestamp: np.ndarray
    amount: np.ndarray
    score: np.ndarray
    alert: np.ndarray
    version: np.ndarray

    def __len__(self) -> int:
        return len(self.key)

    def __getitem__(self, rows: np.ndarray | slice) -> Self:
        return type(self)(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})


@dataclass(frozen=True)
class FeatureRows(Rows):
    """The same with feature vectors (N, F) float32."""

    features: np.ndarray


AnyRows = TypeVar("AnyRows", bound=Rows)


@dataclass(frozen=True)
class Labels:
    """Labels known at a time, by the hash of their transaction (sorted).

    `delay` is in seconds after the transaction, and NaN for an analyst's verdict.
    """

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
    newest: datetime | None = one_row(connection.execute(statement("training/newest_event")))[0]
    return newest


def counts(
    connection: psycopg.Connection, start: datetime, end: datetime, feature_set: int, width: int
) -> tuple[int, int]:
    """(transactions, logged vectors of this feature set) with event time in [start, end)."""
    arguments = {"start": start, "end": end, "feature_set": feature_set, "width": width}
    transactions, logged = one_row(connection.execute(statement("training/counts"), arguments))
    return transactions, logged


def scored_rows(
    connection: psycopg.Connection, start: datetime, end: datetime, *, share: float = 1.0
) -> Rows:
    """Decisions with event time in [start, end), of all customers or of a fixed `share` of them."""
    layout = _layout()
    arguments = {"start": start, "end": end, "share": share}
    return _in_order(Rows(**_columns(_records(connection, "scored_rows", arguments, layout), layout)))


def feature_rows(
    connection: psycopg.Connection,
    start: datetime,
    end: datetime,
    *,
    feature_set: int,
    width: int,
    share: float = 1.0,
) -> FeatureRows:
    """The same with the vectors (N, width) float32 that were scored, for one feature set."""
    layout = _layout(width)
    arguments = {"start": start, "end": end, "share": share, "feature_set": feature_set, "width": width}
    records = list(_records(connection, "feature_rows", arguments, layout))
    for record in records:
        if not (record["features_head"][:, [0, 1, 3]] == (1, 0, width)).all():
            raise UnreadableRows(f"feature_rows: a feature vector is not a plain array of {width} numbers")
    vectors = [np.empty((0, width), np.float32), *(record["features"]["value"] for record in records)]
    features = np.concatenate(vectors).astype(np.float32)
    return _in_order(FeatureRows(**_columns(records, layout), features=features))


def labels(connection: psycopg.Connection, start: datetime, end: datetime, as_of: datetime) -> Labels:
    """The labels of transactions with event time in [start, end), as they were known at `as_of`."""
    cursor = connection.execute(
        statement("training/labels"), {"start": start, "end": end, "as_of": as_of}, binary=True
    )
    rows = cursor.fetchall()
    key = np.array([row[0] for row in rows], np.int64)
    order = np.argsort(key)
    fraud = np.array([row[1] for row in rows], bool)
    scenario = np.array([row[2] for row in rows], object)
    delay = np.array([row[3] for row in rows], np.float64)
    return Labels(key[order], fraud[order], scenario[order], delay[order])


def labels_without_event(
    connection: psycopg.Connection, start: datetime, end: datetime, as_of: datetime
) -> int:
    """How many labels with event time in [start, end) are of no stored event: it came never, or not yet."""
    arguments = {"start": start, "end": end, "as_of": as_of}
    (count,) = one_row(connection.execute(statement("training/labels_without_event"), arguments))
    return int(count)


def _columns(records: Iterable[np.ndarray], layout: np.dtype) -> dict[str, np.ndarray]:
    """The columns of `Rows` from chunks of records."""
    parts = [np.empty(0, layout), *records]
    columns = {
        name: np.concatenate([part[name] for part in parts]).astype(kind[1:]) for name, kind in COLUMNS
    }
    return columns | {"alert": columns["alert"].astype(bool)}


def _in_order(rows: AnyRows) -> AnyRows:
    """The rows in order of event time; numpy sorts wide rows faster than PostgreSQL."""
    return rows[np.lexsort((rows.key, rows.timestamp))]


def _layout(width: int | None = None) -> np.dtype:
    """One row in COPY's binary format: the number of fields, then each field's length and its bytes."""
    layout: list[tuple[Any, ...]] = [("fields", ">i2")]
    for column, kind in COLUMNS:
        layout += [(f"{column}_length", ">i4"), (column, kind)]
    if width is not None:
        element = np.dtype([("length", ">i4"), ("value", ">f4")])
        layout += [
            ("features_length", ">i4"),
            ("features_head", ">i4", (5,)),  # dimensions, has nulls, element type, size, lower bound
            ("features", element, (width,)),
        ]
    return np.dtype(layout)


def _records(
    connection: psycopg.Connection, name: str, arguments: Mapping[str, object], layout: np.dtype
) -> Iterator[np.ndarray]:
    """The rows of a query in chunks, each an array of `layout`."""
    query = statement(f"training/{name}")
    copying = f"copy ({query}) to stdout (format binary)"
    with connection.cursor() as cursor, cursor.copy(copying, arguments) as copy:
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
    expected = len([field for field in layout.names or () if field.endswith("_length")])
    if (records["fields"] != expected).any():
        raise UnreadableRows(f"{name}: a row does not have {expected} fields of fixed width")
    return records
