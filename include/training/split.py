"""The transactions that a retraining learns from and is measured on, separated by time and never by chance.

    | fit                                | later: measured             | newest: labels not settled yet |
    start                                split                         settled_until                    as_of

The measured model sees only the first part, and its threshold comes from the scores, not the labels, of all the rest.
The model that is fitted again sees all settled rows but those that its threshold needs, the newest.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import psycopg

from include.features.behaviour import FEATURE_SET, FEATURES
from include.settings import Settings
from include.training import evaluation, stored_rows, thresholds
from include.training.recompute import recomputed_rows

if TYPE_CHECKING:
    from include.models.scorer import Scorer

logger = logging.getLogger(__name__)

LATER_SHARE = 0.4  # of the settled rows, to measure on
UNMEASURED_SHARE = 0.2  # of all rows, for the threshold, while none is settled
MIN_FIT, MIN_AFTER = 500, 100  # rows
LEAST_SHARE = 0.001  # of alerts, that the rows for the threshold are counted for
HELD_ALERTS = 20  # expected among the rows that set the threshold of the model that is fitted again
MIN_FRAUDS = 20  # for a family that learns from labels
LOGGED_SHARE = 0.9  # of the window's transactions: with fewer logged vectors all are recomputed
MAX_ROWS = 1_000_000  # with more, a fixed share of the customers is used


class NotEnoughData(ValueError):
    """Too few transactions or known frauds; the message says how many there are and what to do."""


class Parts(NamedTuple):
    """Slices of rows in order of event time, and the time (seconds) of the split between fit and the rest."""

    fit: slice
    later: slice
    newest: slice
    split: float

    def sizes(self) -> dict[str, int]:
        return {
            name: getattr(self, name).stop - getattr(self, name).start for name in ("fit", "later", "newest")
        }


@dataclass(frozen=True)
class TrainingData:
    """Rows with vectors in order of event time, their parts, and the labels known at `as_of` and at the split."""

    rows: stored_rows.FeatureRows
    parts: Parts
    as_of: datetime
    settled_until: float
    labels: stored_rows.Labels
    labels_at_split: stored_rows.Labels
    source: str
    share: float

    @property
    def trained_from(self) -> datetime:
        return from_seconds(self.rows.timestamp[0])

    @property
    def trained_to(self) -> datetime:
        return from_seconds(self.parts.split)

    @property
    def measured(self) -> bool:
        """There are settled rows after the split."""
        return bool(self.parts.later.start < self.parts.later.stop)

    def transactions_a_day(self) -> float:
        """How many come now, of all customers."""
        return thresholds.transactions_a_day(self.rows.timestamp, self.as_of.timestamp(), self.share)

    def held_from(self, alert_share: float) -> int:
        """The first row that no model is fitted on: the newest ones, and as many as `HELD_ALERTS` alerts need."""
        rows = len(self.rows)
        needed = round(HELD_ALERTS / max(alert_share, LEAST_SHARE))
        first = min(self.parts.later.stop, rows - max(MIN_AFTER, needed))
        if first <= self.parts.fit.stop:
            return int(self.parts.fit.stop)
        return int(np.searchsorted(self.rows.timestamp, self.rows.timestamp[first]))

    def to_refit(self, alert_share: float) -> tuple[np.ndarray, np.ndarray]:
        """As `to_fit`, of all rows before `held_from`, with the labels known at `as_of`."""
        rows = self.rows[: self.held_from(alert_share)]
        _, fraud, _ = self.labels.of(rows.key)
        return rows.features, np.where(rows.timestamp <= self.settled_until, fraud, -1).astype(np.int8)

    def to_fit(self, *, supervised: bool, maturity: timedelta | None) -> tuple[np.ndarray, np.ndarray]:
        """Vectors (N, F) to learn from in order of time, and their labels (N,) int8 as known at the split.

        A label is 1 for fraud, 0 for honest, and -1 where it was not settled then.

        Raises:
            NotEnoughData: fewer than `MIN_FRAUDS` frauds were known, and the family is supervised.
        """
        rows = self.rows[self.parts.fit]
        labelled, fraud, _ = self.labels_at_split.of(rows.key)
        until = evaluation.settled_until(
            rows.timestamp, self.labels_at_split, labelled, self.parts.split, maturity
        )
        settled = rows.timestamp <= until
        y = np.where(settled, fraud, -1).astype(np.int8)
        frauds = int((y == 1).sum())
        if supervised and frauds < MIN_FRAUDS:
            raise NotEnoughData(
                f"a family that learns from labels needs {MIN_FRAUDS} frauds that were known at the split "
                f"({from_seconds(self.parts.split):%Y-%m-%d %H:%M} UTC); there are {frauds} among the {settled.sum()} "
                f"transactions settled by then. Wait for labels, use a longer window, or train an isolation_forest, "
                f"which needs none."
            )
        return rows.features, y

    def after_fit(self) -> np.ndarray:
        """Vectors (N, F) of all rows after the split."""
        return self.rows.features[self.parts.later.start :]

    def later(self, scorer: Scorer) -> evaluation.LabelledScores:
        """The later rows as `scorer` decides them, with their labels."""
        rows = self.rows[self.parts.later]
        score = scorer.score(rows.features)
        return evaluation.label(replace(rows, score=score, alert=scorer.is_alert(score)), self.labels)


def read(
    settings: Settings, *, window_days: int, as_of: datetime | None = None, maturity: timedelta | None = None
) -> TrainingData:
    """The `window_days` days before `as_of` (the newest transaction's time unless given).

    The vectors are those that the stream logged. When it logged fewer than `LOGGED_SHARE` of them with this feature
    set (before the first champion, or after a change of features), all are recomputed by the same code.

    Raises:
        NotEnoughData: fewer than `MIN_FIT` rows to fit or `MIN_AFTER` after the split.
    """
    with psycopg.connect(settings.conninfo("trainer")) as connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        as_of = as_of or stored_rows.newest_event(connection)
        if as_of is None:
            raise NotEnoughData("shop.transactions is empty: start the producer and the streams first")
        start, end = as_of - timedelta(days=window_days), as_of + timedelta(microseconds=1)
        stored, logged = stored_rows.counts(connection, start, end, FEATURE_SET, len(FEATURES))
        share = min(1.0, MAX_ROWS / max(stored, 1))
        source = "logged" if logged >= LOGGED_SHARE * stored else "recomputed"
        logger.info("%d transactions since %s, %d logged vectors: %s", stored, start, logged, source)
        if source == "logged":
            rows = stored_rows.feature_rows(
                connection, start, end, feature_set=FEATURE_SET, width=len(FEATURES), share=share
            )
        else:
            rows = recomputed_rows(connection, start, end, share=share)
        labels = stored_rows.labels(connection, start, end, as_of)
        labelled, _, _ = labels.of(rows.key)
        until = evaluation.settled_until(rows.timestamp, labels, labelled, as_of.timestamp(), maturity)
        parts = divide(rows.timestamp, until)
        sizes = parts.sizes()
        after = sizes["later"] + sizes["newest"]
        if sizes["fit"] < MIN_FIT or after < MIN_AFTER:
            raise NotEnoughData(
                f"{len(rows)} transactions between {start:%Y-%m-%d %H:%M} and {as_of:%Y-%m-%d %H:%M} UTC leave "
                f"{sizes['fit']} to fit and {after} after them; {MIN_FIT} and {MIN_AFTER} are needed. Let more "
                f"transactions arrive, or use a longer window."
            )
        labels_at_split = stored_rows.labels(connection, start, end, from_seconds(parts.split))
    return TrainingData(rows, parts, as_of, until, labels, labels_at_split, source, round(share, 4))


def divide(timestamp: np.ndarray, settled_until: float) -> Parts:
    """The parts of rows with these ascending times (N,); rows with equal times stay together.

    Where too few rows are settled to be split, there is no later part: all but the newest rows are fitted.
    """
    rows = len(timestamp)
    settled = int(np.searchsorted(timestamp, settled_until, side="right"))
    measured = settled * (1 - LATER_SHARE) >= MIN_FIT
    first = round(settled * (1 - LATER_SHARE) if measured else rows * (1 - UNMEASURED_SHARE))
    if not 0 < first < rows:
        return Parts(slice(0, rows), slice(rows, rows), slice(rows, rows), 0.0)
    split = float(timestamp[first])
    first = int(np.searchsorted(timestamp, split))
    last = settled if measured else first
    return Parts(slice(0, first), slice(first, last), slice(last, rows), split)


def from_seconds(seconds: float) -> datetime:
    """The UTC time of seconds since 1970."""
    return datetime.fromtimestamp(seconds, UTC)
