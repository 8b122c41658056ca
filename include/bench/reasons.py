"""Ranges scored with the reasons of their alerts beside the same ranges scored without them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial
from itertools import islice
from unittest.mock import patch

import numpy as np
import psycopg

from include.bench.compare import Comparison, Side, compare, held_objects_left_alone, timed
from include.bench.services import services
from include.bench.store import ranges
from include.events.transaction import decode
from include.features.behaviour import FEATURE_SET
from include.models import explain
from include.models.explain import AlertReason
from include.models.isolation_forest import IsolationForestDetector
from include.models.scorer import Scorer
from include.settings import Settings
from include.streams import FRAUD_STREAM, scoring, store
from include.streams.store import Range, Writer
from include.training.recompute import Recomputation
from include.training.thresholds import threshold_at

ALERT_RATE = 0.015

Reasons = Callable[..., list[list[AlertReason]]]
"""As `include.models.explain.reasons`."""


def measure(rounds: int = 20, events: int = 5_000) -> list[Comparison]:
    """Decoding, features, scores and the commit of ranges of `events` transactions of the world, of which 1.5 % alert.

    Each side has a partition, with states of its own, and reads the same ranges; both store their alerts. Processor
    time of this process counts: PostgreSQL's, which is the same on both sides, would only make the ratio better.
    """
    spans = list(islice(ranges(events), rounds + 1))
    with services() as settings, store.connect(settings) as connection:
        scorer = scorer_of(spans, settings)
        score = partial(_scored, connection, settings, scorer)
        ours = Side("with reasons", score(_of_partition(spans, 0), explain.reasons))
        other = Side("without reasons", score(_of_partition(spans, 1), _no_reasons))
        for side in (ours, other):
            side.cost()  # caches are filled
        return compare(f"score, {ALERT_RATE:.1%} alerts", "event", [ours], other, rounds)


def scorer_of(spans: list[Range], settings: Settings) -> Scorer:
    """A forest fitted on these transactions, with the threshold that `ALERT_RATE` of them reach."""
    recomputation, tolerance = Recomputation(), timedelta(seconds=settings.future_tolerance_seconds)
    read = partial(decode, max_bytes=settings.max_event_bytes, future_tolerance=tolerance)
    vectors = np.concatenate(
        [
            recomputation.vectors(
                0, [read(record.value, record.broker_time).transaction for record in span.records]
            )
            for span in spans
        ]
    )
    detector = IsolationForestDetector().fit(vectors)
    return detector.scorer(
        threshold=threshold_at(detector.score(vectors), ALERT_RATE), version=1, feature_set=FEATURE_SET
    )


def _of_partition(spans: list[Range], partition: int) -> Iterator[Range]:
    return iter([span._replace(stream=FRAUD_STREAM, partition=partition) for span in spans])


def _no_reasons(_scorer: Scorer, vectors: np.ndarray, *_: object) -> list[list[AlertReason]]:
    return [[] for _ in vectors]


def _scored(
    connection: psycopg.Connection,
    settings: Settings,
    scorer: Scorer,
    spans: Iterator[Range],
    reasons: Reasons,
) -> Callable[[], float]:
    customers = scoring.CUSTOMERS._replace(moves=False)  # the two partitions have the same customers
    writer, handler = Writer(settings, FRAUD_STREAM, 0), partial(scoring.scores, scorer)

    def cost() -> float:
        span = next(spans)
        with (
            held_objects_left_alone(),
            patch.object(scoring, "reasons", reasons),
            patch.object(scoring, "CUSTOMERS", customers),
        ):
            return timed(lambda: store.write(connection, writer, span, handler), len(span.records))

    return cost
