"""What a training costs in memory and time, by the transactions that are stored.

Scored transactions with vectors are written into a PostgreSQL of its own; a process of its own reads, fits every
family, measures, and fits the best again, as a retraining does without its registration.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import psycopg
from rich.table import Table

from include.bench import START
from include.bench.compare import BenchmarkFailed
from include.bench.services import services
from include.features.behaviour import FEATURE_SET, FEATURES
from include.platform import temporary
from include.settings import PROJECT_ROOT, Settings

ROWS = 10_000_000
DAYS, PAYMENTS_A_CUSTOMER, FRAUD_RATE = 30, 100, 0.01
CHUNK = 50_000
TOPIC = b"transactions-data"
EPOCH = 946_684_800  # PostgreSQL counts from 2000

LABELS = """
insert into shop.fraud_transactions (transaction_id, timestamp, is_fraud, known_at)
select transaction_id, timestamp, true, timestamp + interval '1 day' from shop.fraud_scores where features[1] > 5"""
TRAIN = """
import json, resource, sys, time
import numpy as np
from include.models import families
from include.settings import load
from include.training import retraining, split, thresholds

settings = load()
times, began = {}, time.monotonic()
def took(name):
    global began
    times[name], began = round(time.monotonic() - began, 1), time.monotonic()

data = split.read(settings, window_days=365)
took("read")
limits = thresholds.Limits.of(settings)
detectors = [families.detector_class(name)(seed=0) for name in families.FAMILIES]
candidates, left_out = retraining.fit_all(detectors, data, limits, None, np.random.default_rng(0))
took("fit and measure")
retraining.refit(retraining.best(candidates), data)
took("fit again")
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
print(json.dumps({"trained_rows": len(data.rows), "seconds": times, "gib": round(peak, 2), "left_out": left_out}))
"""


def measure(rows: int = ROWS, starting: Callable[[str], None] = lambda text: None) -> dict[str, Any]:
    """Peak memory and seconds of a training on a tenth of so many stored transactions and on all; ready for JSON.

    Raises:
        BenchmarkFailed: a training failed; the message has the end of what it said.
        ServerFailed
    """
    results = []
    with services() as settings:
        stored = 0
        for wanted in (rows // 10, rows):
            starting(f"writing {wanted:,} transactions")
            with psycopg.connect(settings.conninfo("owner")) as connection:
                _fill(connection, stored, wanted)
            stored = wanted
            starting(f"training on {wanted:,} transactions")
            results.append({"rows": wanted} | _trained(settings))
    return {"features": len(FEATURES), "trainings": results}


def _trained(settings: Settings) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-c", TRAIN], cwd=PROJECT_ROOT, env=temporary.environment(settings),
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise BenchmarkFailed(f"the training ended with {done.returncode}: {done.stderr[-2000:]}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def _fill(connection: psycopg.Connection, first: int, end: int) -> None:
    """Adds the transactions [first, end) with scores and vectors, and the labels of the frauds among all."""
    columns = {
        "transactions": 'transaction_id, user_id, timestamp, amount, topic, partition, "offset", broker_time',
        "fraud_scores": "transaction_id, user_id, timestamp, score, is_alert, model_version, feature_set, features, "
        'topic, partition, "offset", broker_time',
    }
    for table, names in columns.items():
        with (
            connection.cursor() as cursor,
            cursor.copy(f"copy shop.{table} ({names}) from stdin (format binary)") as copy,
        ):
            copy.write(b"PGCOPY\n\xff\r\n\x00" + bytes(8))
            for begin in range(first, end, CHUNK):
                copy.write(_records(table, np.arange(begin, min(begin + CHUNK, end))))
            copy.write(b"\xff\xff")
    connection.execute("truncate shop.fraud_transactions")
    connection.execute(LABELS)
    connection.commit()
    connection.autocommit = True
    connection.execute("analyze shop.transactions, shop.fraud_scores")


def _records(table: str, number: np.ndarray) -> bytes:
    """Rows in COPY's binary form, all of one width; each number has the same row always."""
    rng = np.random.default_rng([7, int(number[0])])
    rows = len(number)
    spread = (
        (number * 2_654_435_761) % 2**32 / 2**32
    )  # evenly over the days, whatever part was written before
    micros = ((START.timestamp() - EPOCH + spread * DAYS * 86_400) * 1e6).astype(np.int64)
    fraud = rng.random(rows) < FRAUD_RATE
    columns: dict[str, tuple[Any, np.ndarray]] = {
        "transaction_id": ("S12", np.char.zfill(number.astype("S12"), 12)),
        "user_id": ("S10", np.char.zfill((number // PAYMENTS_A_CUSTOMER).astype("S10"), 10)),
        "timestamp": (">i8", micros),
    }
    if table == "transactions":
        columns["amount"] = (
            (">i2", (6,)),
            _numerics(rng.integers(1, 1_000, rows), rng.integers(0, 100, rows)),
        )
    else:
        vectors = rng.normal(size=(rows, len(FEATURES))).astype(np.float32)
        vectors[:, 0] = np.where(fraud, 5 + np.abs(vectors[:, 0]), np.minimum(vectors[:, 0], 4.9))
        vectors[:, 1] += 2 * fraud
        columns |= {
            "score": (">f8", rng.random(rows)),
            "is_alert": ("i1", np.zeros(rows)),
            "model_version": (">i4", np.ones(rows)),
            "feature_set": (">i2", np.full(rows, FEATURE_SET)),
            "features": (f"V{20 + 8 * len(FEATURES)}", _arrays(vectors)),
        }
    columns |= {
        "topic": (f"S{len(TOPIC)}", np.full(rows, TOPIC)),
        "partition": (">i4", np.zeros(rows)),
        "offset": (">i8", number),
        "broker_time": (">i8", micros),
    }
    layout: list[tuple[Any, ...]] = [("fields", ">i2")]
    for name, (kind, _) in columns.items():
        layout += [(f"{name}_length", ">i4"), (name, *kind) if isinstance(kind, tuple) else (name, kind)]
    records = np.zeros(rows, np.dtype(layout))
    records["fields"] = len(columns)
    for name, (_, values) in columns.items():
        records[f"{name}_length"] = records.dtype[name].itemsize
        records[name] = values
    return records.tobytes()


def _numerics(whole: np.ndarray, cents: np.ndarray) -> np.ndarray:
    """(N, 6) numbers below 10,000 with two decimals, in PostgreSQL's form: digits of base 10,000."""
    zero, two = np.zeros(len(whole)), np.full(len(whole), 2)
    return np.column_stack([two, zero, zero, two, whole, cents * 100])


def _arrays(vectors: np.ndarray) -> np.ndarray:
    """(N,) rows of a matrix in PostgreSQL's form of real[]."""
    head = [("dimensions", ">i4"), ("nulls", ">i4"), ("oid", ">i4"), ("length", ">i4"), ("first", ">i4")]
    packed = np.empty(
        len(vectors), [*head, ("items", [("bytes", ">i4"), ("value", ">f4")], (vectors.shape[1],))]
    )
    for (name, _), value in zip(head, (1, 0, 700, vectors.shape[1], 1), strict=True):
        packed[name] = value
    packed["items"]["bytes"] = 4
    packed["items"]["value"] = vectors
    return packed.view(f"V{packed.dtype.itemsize}")


def tables(result: dict[str, Any]) -> Iterator[Table | str]:
    """What to print, in order."""
    table = Table(
        "Stored", "Trained on", "Peak memory", "Read", "Fit and measure", "Fit again", "Seconds a million"
    )
    for row in result["trainings"]:
        seconds = row["seconds"]
        whole = sum(seconds.values())
        table.add_row(
            f"{row['rows']:,}", f"{row['trained_rows']:,}", f"{row['gib']:.2f} GiB",
            *(f"{value:,.0f} s" for value in seconds.values()), f"{whole / row['rows'] * 1e6:,.0f}",
        )  # fmt: skip
    yield table
