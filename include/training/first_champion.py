"""When there are enough transactions to train the first model, which then becomes champion."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, NamedTuple

import psycopg

from include.settings import Settings
from include.sql import one_row, statement

ENOUGH = 5_000  # transactions in the training window


class Awaited(NamedTuple):
    """How many of the transactions that the first training needs are stored."""

    stored: int
    needed: int = ENOUGH


def awaited(connection: psycopg.Connection[Any], window_days: int) -> Awaited | None:
    """The transactions of the newest `window_days`; None when there is a model."""
    parameters = {"window": timedelta(days=window_days), "enough": ENOUGH}
    cursor = connection.cursor(row_factory=psycopg.rows.tuple_row)
    has_model, stored = one_row(cursor.execute(statement("training/first_champion"), parameters))
    return None if has_model else Awaited(stored)


def is_due(settings: Settings) -> bool:
    """Whether to train: there are enough transactions, or there is a model and nothing left to wait for."""
    with psycopg.connect(settings.conninfo("trainer")) as connection:
        state = awaited(connection, settings.training_window_days)
    return state is None or state.stored >= state.needed


def train(settings: Settings) -> dict[str, Any]:
    """Trains the first model; empty when there is one already."""
    with psycopg.connect(settings.conninfo("trainer")) as connection:
        if awaited(connection, settings.training_window_days) is None:
            return {}
    from include.training.retraining import retrain  # loads the learning libraries

    return retrain(settings, window_days=settings.training_window_days).summary()
