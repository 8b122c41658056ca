"""Fills an empty shop with a simulated world, stored as the two streams would store it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from zlib import crc32

import numpy as np
import psycopg
import pyarrow as pa

from include.features import behaviour
from include.features.entities import FIELDS
from include.features.geography import country_of
from include.generator.config import Config
from include.generator.world import World
from include.settings import Settings
from include.training.recompute import recomputed_rows

END = datetime(2026, 3, 22, 12, tzinfo=UTC)
TOPIC, PARTITIONS = "transactions-data", 2
TYPES = {"timestamp": "timestamptz", "amount": "float8", "latitude": "float8", "longitude": "float8"}

LEDGER = """
insert into shop.stream_offsets (stream, topic, partition, topic_id, first_offset, next_offset, stored, dead_letters,
    duplicates, epoch)
select 'transaction_stream', topic, partition, 'stored', 0, count(*), count(*), 0, 0, 0 from shop.transactions
group by topic, partition"""


def fill(settings: Settings, end: datetime = END, **config: Any) -> int:
    """Stores the history of a small world that ends at `end`, with its labels; returns the transactions.

    Customers keep to one Kafka partition, and offsets follow event time.
    """
    small = {
        "customers": 300,
        "merchants": 100,
        "history_days": 21,
        "history_events": 8_000,
        "fraud_rate": 0.03,
    }
    batches = list(World(Config(**small | {"rate": 0.01} | config)).history(end))
    events = pa.concat_tables(batch.events for batch in batches)
    labels = pa.concat_tables(batch.labels for batch in batches)
    time = np.concatenate([batch.time for batch in batches])
    stamps = [datetime.fromtimestamp(at / 1e6, UTC) for at in time.tolist()]
    columns = {
        name: events[name].to_pylist()
        for name in events.column_names
        if name not in ("timestamp", "is_fraud")
    }
    partition = [crc32(user.encode()) % PARTITIONS for user in columns["user_id"]]
    placed = np.array(partition)
    offset = np.zeros(len(placed), np.int64)
    for number in range(PARTITIONS):
        offset[placed == number] = np.arange((placed == number).sum())
    columns |= {
        "timestamp": stamps,
        "broker_time": stamps,
        "topic": [TOPIC] * len(stamps),
        "partition": partition,
    }
    columns["offset"] = offset.tolist()
    with psycopg.connect(settings.conninfo("owner")) as connection:
        _copy(connection, "shop.transactions", columns)
        names = ("transaction_id", "timestamp", "is_fraud", "known_at", "scenario_id")
        connection.execute(LEDGER)
        known = {
            name: labels[name].to_pylist() for name in ("transaction_id", "timestamp", "known_at", "is_fraud")
        }
        known |= {kind: labels[field].to_pylist() for kind, field in FIELDS.items()}
        known["country"] = list(map(country_of, known["country"]))
        counts_from = [at.date() + timedelta(days=1) for at in known["known_at"]]
        _copy(connection, "shop.known_labels", known | {"counts_from": counts_from})
        _copy(connection, "shop.fraud_transactions", {name: labels[name].to_pylist() for name in names})
    return len(stamps)


def log_scores(
    settings: Settings, score: Callable[[np.ndarray], np.ndarray], threshold: float, version: int = 1
) -> None:
    """Stores scores and vectors of every stored transaction, as the scoring stream would log them."""
    with psycopg.connect(settings.conninfo("owner")) as connection:
        rows = recomputed_rows(connection, datetime(2001, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC))
        keys = dict(zip(rows.key.tolist(), range(len(rows)), strict=True))
        given = score(rows.features)
        stored = connection.execute(
            "select shop.event_key(transaction_id, timestamp), transaction_id, user_id, timestamp, topic, partition, "
            '"offset" from shop.transactions'
        ).fetchall()
        at = [keys[row[0]] for row in stored]
        columns = dict(
            zip(("transaction_id", "user_id", "timestamp", "topic", "partition", "offset"),
                zip(*(row[1:] for row in stored), strict=True), strict=True)
        )  # fmt: skip
        _copy(
            connection,
            "shop.fraud_scores",
            columns
            | {
                "broker_time": columns["timestamp"],
                "score": given[at].tolist(),
                "is_alert": (given[at] >= threshold).tolist(),
                "model_version": [version] * len(at),
                "feature_set": [behaviour.FEATURE_SET] * len(at),
                "features": rows.features[at].tolist(),
            },
        )


def _copy(connection: psycopg.Connection, table: str, columns: dict[str, Any]) -> None:
    names = ", ".join(f'"{name}"' for name in columns)
    with connection.cursor() as cursor, cursor.copy(f"copy {table} ({names}) from stdin") as copy:
        for row in zip(*columns.values(), strict=True):
            copy.write_row(row)
