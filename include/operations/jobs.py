"""Stops and starts the streams and the producer, each in one step, and waits until it is done."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import NamedTuple

import psycopg

from include.settings import Settings
from include.sql import one_row
from include.streams import STREAMS

log = logging.getLogger(__name__)

PRODUCER = "producer"
JOBS = (*STREAMS, PRODUCER)
REPORT_SECONDS = 15.0  # a job that has not reported for so long has ended
STOP_SECONDS, START_SECONDS = 120.0, 240.0
LOOK_SECONDS = 0.5

_STATE = """
select state, detail, held, stop_requested, extract(epoch from clock_timestamp() - heartbeat_at)::float8 as age
from shop.stream_leases where stream = %s"""


class NotDone(RuntimeError):
    """A job did not stop or start in time; the message says what it does instead."""


class JobState(NamedTuple):
    """What shop.stream_leases says of a job.

    held: an operator stopped it.
    age: seconds since its last report.
    """

    state: str
    detail: str
    held: bool
    stop_requested: bool
    age: float

    @property
    def ended(self) -> bool:
        return self.state in ("stopped", "failed") or self.age > REPORT_SECONDS

    @property
    def runs(self) -> bool:
        return self.state in ("running", "waiting") and self.age < REPORT_SECONDS


def stop(settings: Settings, job: str, timeout: float = STOP_SECONDS) -> None:
    """Holds a job: it ends after its batch and does not start again; returns when it has ended.

    Raises:
        NotDone: it has not ended in time. The request stands.
    """
    hold(settings, job, True)
    _wait(settings, job, lambda state: state.ended, timeout, "has not ended")


def start(settings: Settings, job: str, timeout: float = START_SECONDS) -> None:
    """Lets a stream that was stopped start again; returns when it runs.

    Raises:
        NotDone: it does not run in time. The permission stands.
    """
    hold(settings, job, False)
    _wait(settings, job, lambda state: state.runs, timeout, "does not run: is its DAG switched on?")


def state(settings: Settings, job: str) -> JobState:
    """The job's state; PostgreSQL's errors are the caller's."""
    with psycopg.connect(settings.conninfo("stream_writer"), autocommit=True) as connection:
        return JobState(*one_row(connection.execute(_STATE, [job])))


def wait_while_held(settings: Settings, job: str) -> None:
    """Waits before a job is launched while an operator holds it; not while the platform goes down."""
    waiting = False
    while True:
        now = state(settings, job)
        if not now.held or now.stop_requested:
            return
        if not waiting:
            log.info("%s was stopped by an operator and waits: the DAG start_stream starts it", job)
        waiting = True
        time.sleep(LOOK_SECONDS)


def hold(settings: Settings, job: str, held: bool) -> None:
    """Notes that an operator wants a job stopped, or no longer."""
    with psycopg.connect(settings.conninfo("owner"), autocommit=True) as connection:
        connection.execute("update shop.stream_leases set held = %s where stream = %s", [held, job])


def _wait(
    settings: Settings, job: str, done: Callable[[JobState], bool], timeout: float, otherwise: str
) -> None:
    deadline = time.monotonic() + timeout
    while not done(now := state(settings, job)):
        if time.monotonic() > deadline:
            detail = f", {now.detail}" if now.detail else ""
            raise NotDone(f"{job} {otherwise} after {timeout:.0f} s: it is {now.state}{detail}")
        time.sleep(LOOK_SECONDS)
    log.info("%s is %s", job, now.state)
