"""Simulated stretches of time for the tests."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import cache

import numpy as np
import pyarrow as pa

from include.generator.batch import Batch
from include.generator.config import Config
from include.generator.profiles import simulation

START = datetime(2026, 10, 1, tzinfo=UTC)


def stretch(config: Config, days: float = 21, events: int = 100_000, start: datetime = START) -> Batch:
    """One batch of `events` transactions over `days` from `start`."""
    batches = list(simulation(config).between(start, start + timedelta(days=days), events=events))
    return Batch(
        np.concatenate([batch.time for batch in batches]),
        *(
            pa.concat_tables([getattr(batch, name) for batch in batches])
            for name in ("events", "truth", "labels")
        ),
    )


@cache
def default_world() -> Batch:
    """The default world, made once for all tests: nobody may change it."""
    return stretch(Config())


def texts(table: pa.Table, name: str) -> np.ndarray:
    return np.array(table[name].fill_null("").to_pylist())


def numbers(table: pa.Table, name: str) -> np.ndarray:
    column: np.ndarray = table[name].to_numpy(zero_copy_only=False)
    return column
