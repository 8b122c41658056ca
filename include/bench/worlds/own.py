"""The world of `fraudstream produce` itself, one among the others."""

from __future__ import annotations

from datetime import datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from include.bench import START
from include.bench.worlds.history import History, Labels
from include.events.transaction import Transaction
from include.generator.batch import plain
from include.generator.config import Config
from include.generator.profiles import simulation

DAYS, CUSTOMERS = 60, 1_000


def simulate(
    seed: int,
    payments: int = 100_000,
    customers: int = CUSTOMERS,
    days: float = DAYS,
    fraud_rate: float = 0.01,
    drift_at: datetime | None = None,
) -> History:
    """A world of `payments` transactions; its labels' later words are corrections of earlier ones."""
    config = Config(seed=seed, fraud_rate=fraud_rate, customers=customers, drift_at=drift_at)
    batches = list(simulation(config).between(START, START + timedelta(days=days), events=payments))
    rows, truth, labels = (
        plain(pa.concat_tables(getattr(batch, name) for batch in batches))
        for name in ("events", "truth", "labels")
    )
    row = pc.index_in(labels["transaction_id"], truth["transaction_id"].combine_chunks()).to_numpy()
    left_out = {"timestamp", "transaction_id"}
    return History(
        time=np.concatenate([batch.time for batch in batches]),
        fields={
            name: np.array(rows[name].to_pylist(), object)
            for name in Transaction.__struct_fields__
            if name not in left_out and name in rows.column_names
        },
        numbers={},
        categories={},
        scenario=np.array(truth["scenario_id"].fill_null("").to_pylist(), object).astype(str),
        labels=Labels(
            row.astype(np.int64),
            labels["is_fraud"].to_numpy(zero_copy_only=False),
            labels["known_at"].to_numpy().astype("datetime64[us]").astype(np.int64),
        ),
    )
