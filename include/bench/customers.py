"""Ranges scored where a shop has a million customers beside the same where it has ten thousand."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice

import psycopg

from include.bench.compare import Comparison, Side, compare, held_objects_left_alone, timed
from include.bench.reasons import scorer_of
from include.bench.services import services
from include.bench.store import ranges
from include.features import behaviour
from include.models.scorer import Scorer
from include.settings import Settings
from include.streams import FRAUD_STREAM, scoring, store
from include.streams.store import Range, Writer

FILL = "copy shop.user_state (user_id, partition, layout, state) from stdin (format binary)"


def measure(
    rounds: int = 15, events: int = 5_000, few: int = 10_000, many: int = 1_000_000
) -> list[Comparison]:
    """Decoding, features, scores and the commit of ranges of `events` transactions by customers drawn at random.

    Each side has a partition in the same tables, where every one of its customers has a state. Elapsed time counts,
    PostgreSQL's included.
    """
    spans = list(islice(ranges(events), rounds + 1))
    with services() as settings:
        for partition, customers in enumerate((few, many)):
            fill(settings, partition, customers)
        scorer = scorer_of(spans, settings)
        with store.connect(settings) as connection:
            sides = [
                Side(
                    f"{customers:,} customers",
                    _scored(connection, settings, scorer, spans, partition, customers),
                )
                for partition, customers in enumerate((few, many))
            ]
            for side in sides:
                side.cost()  # caches are filled
            return compare("score", "event", sides[1:], sides[0], rounds)


def fill(settings: Settings, partition: int, customers: int) -> None:
    """Gives customers of a partition their states."""
    (state,) = behaviour.packed(behaviour.new_state(1))
    with psycopg.connect(settings.conninfo("owner"), autocommit=True) as owner:
        with owner.cursor().copy(FILL) as target:
            target.set_types(["text", "int4", "int2", "bytea"])
            for number in range(customers):
                target.write_row((customer(partition, number), partition, behaviour.LAYOUT, state))
        owner.execute("vacuum analyze shop.user_state")


def customer(partition: int, number: int) -> str:
    return f"user-{partition}-{number:07d}"


def _scored(
    connection: psycopg.Connection,
    settings: Settings,
    scorer: Scorer,
    spans: list[Range],
    partition: int,
    customers: int,
) -> Callable[[], float]:
    writer, handler = Writer(settings, FRAUD_STREAM, 0), partial(scoring.scores, scorer)
    own = _of_customers(spans, partition, customers)

    def cost() -> float:
        span = next(own)
        with held_objects_left_alone():
            return timed(
                lambda: store.write(connection, writer, span, handler), len(span.records), time.perf_counter
            )

    return cost


def _of_customers(spans: list[Range], partition: int, customers: int) -> Iterator[Range]:
    """The same ranges in a partition, each transaction by one of its customers."""
    draw = random.Random(partition)
    for span in spans:
        records = []
        for record in span.records:
            event = json.loads(record.value or b"")
            event["user_id"] = customer(partition, draw.randrange(customers))
            records.append(record._replace(value=json.dumps(event).encode()))
        yield span._replace(stream=FRAUD_STREAM, partition=partition, records=records)
