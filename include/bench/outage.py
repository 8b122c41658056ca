"""Stops both streams of a running platform for minutes, starts them again, and measures how their backlog is cleared.

Run beside a platform that `make up` started: `.venv/bin/python -m include.bench.outage --minutes 10`.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import psycopg

from include.broker import kafka
from include.platform import airflow
from include.settings import Settings, load
from include.streams import STREAMS

EVERY = 0.5  # seconds between two looks
CAUGHT_UP_SECONDS = 5  # a stream has no backlog when it lags less than what comes in this time
CLEARING_SECONDS = 1800

READ = """
select stream, sum(next_offset)::bigint from shop.stream_offsets
where topic = %s group by stream"""


class NotCleared(RuntimeError):
    """A stream did not catch up in time, or nothing flowed during the outage."""


class Look(NamedTuple):
    """The topic's end and what each stream had read of it, in events, at a time in seconds."""

    seconds: float
    end: int
    read: dict[str, int]


class Clearing(NamedTuple):
    """How a stream came back: events waiting at its start, seconds until it had caught up, events read by then."""

    stream: str
    backlog: int
    seconds: float
    events: int

    @property
    def rate(self) -> float:
        """Events a second, the start of Spark included."""
        return self.events / self.seconds


def look(connection: psycopg.Connection, settings: Settings) -> Look:
    """Looks once, at broker and ledger.

    Raises:
        kafka.KafkaError, psycopg.Error: one of them does not answer.
    """
    topic = settings.transactions_topic
    read: dict[str, int] = dict(connection.execute(READ, [topic]).fetchall())
    return Look(time.monotonic(), sum(kafka.end_offsets(settings, topic).values()), read)


def input_rate(looks: Sequence[Look]) -> float:
    """Events a second that came into the topic from the first look to the last.

    Raises:
        NotCleared: none came.
    """
    first, last = looks[0], looks[-1]
    if last.end == first.end:
        raise NotCleared("no event came during the outage: start the producer first")
    return (last.end - first.end) / (last.seconds - first.seconds)


def caught_up(stream: str, now: Look, rate: float) -> bool:
    return now.end - now.read[stream] <= rate * CAUGHT_UP_SECONDS


def clearing(stream: str, looks: Sequence[Look], rate: float) -> Clearing | None:
    """What looks since the start of a stream say of it; None as long as it has a backlog."""
    started = looks[0]
    for now in looks[1:]:
        if now.read[stream] > started.read[stream] and caught_up(stream, now, rate):
            return Clearing(
                stream,
                started.end - started.read[stream],
                now.seconds - started.seconds,
                now.read[stream] - started.read[stream],
            )
    return None


def measure(settings: Settings, minutes: float) -> tuple[float, list[Clearing]]:
    """Stops the streams as an operator does in Airflow, waits, starts them; the input rate, and how each came back.

    The streams are switched on again whatever happens.

    Raises:
        NotCleared: a stream has not caught up within half an hour, or nothing came in.
        airflow.AirflowError, kafka.KafkaError, psycopg.Error
    """
    client = airflow.Client(settings)
    with psycopg.connect(settings.conninfo("owner"), autocommit=True) as connection:
        try:
            for dag_id in airflow.STREAM_DAGS:
                client.stop(dag_id)
            outage = [look(connection, settings)]
            time.sleep(minutes * 60)
            outage.append(look(connection, settings))
        finally:
            for dag_id in airflow.STREAM_DAGS:
                client.unpause(dag_id)
        rate = input_rate(outage)
        looks = [look(connection, settings)]
        while time.monotonic() < looks[0].seconds + CLEARING_SECONDS:
            time.sleep(EVERY)
            looks.append(look(connection, settings))
            cleared = [
                recovered for stream in STREAMS if (recovered := clearing(stream, looks, rate)) is not None
            ]
            if len(cleared) == len(STREAMS):
                return rate, cleared
    raise NotCleared(
        f"a stream has not caught up within {CLEARING_SECONDS // 60} minutes: see fraudstream status"
    )


def report(rate: float, clearings: Sequence[Clearing]) -> Iterator[str]:
    yield f"input: {rate:,.0f} events a second"
    for clearing in clearings:
        yield (
            f"{clearing.stream}: {clearing.backlog:,} events waiting, caught up {clearing.seconds:,.1f} s after it was "
            f"switched on: {clearing.rate:,.0f} events a second, {clearing.rate / rate:.1f} times the input"
        )


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m include.bench.outage", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10, help="of the outage (default: 10)")
    options = parser.parse_args(argv)
    sys.stdout.writelines(f"{line}\n" for line in report(*measure(load(), options.minutes)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
