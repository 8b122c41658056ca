"""An operator stops a job and starts it again, each in one step, and is told only what is true."""

from __future__ import annotations

import logging
import threading

import psycopg
import pytest

from include.generator.heartbeat import Heartbeat
from include.operations import jobs
from include.platform.down import allow_streams, drain
from include.streams.lease import Lease

pytestmark = pytest.mark.services
STREAM = "fraud_stream"


class Driver:
    """A stream's driver as the runner has it: it takes the lease, works until it is asked to stop, and is restarted."""

    def __init__(self, settings):
        self.settings = settings
        self.stopping = threading.Event()
        self.starts = 0
        self.thread = threading.Thread(target=self._run)

    def _run(self):
        while not self.stopping.is_set():
            jobs.wait_while_held(self.settings, STREAM)
            lease = Lease(self.settings, STREAM, heartbeat_seconds=0.05)
            if lease.take(self.stopping):
                self.starts += 1
                lease.set_state("running")
                while not (self.stopping.is_set() or lease.stop_requested.wait(0.05)):
                    pass
            lease.release()

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stopping.set()
        allow(self.settings)
        self.thread.join(90)
        assert not self.thread.is_alive()


def allow(settings):
    with psycopg.connect(settings.conninfo("owner"), autocommit=True) as connection:
        connection.execute("update shop.stream_leases set held = false, stop_requested = false")


@pytest.fixture(autouse=True)
def released(clean_postgres):
    allow(clean_postgres)
    yield
    allow(clean_postgres)


def test_a_stream_stops_stays_stopped_and_starts_again(clean_postgres):
    with Driver(clean_postgres) as driver:
        jobs.start(clean_postgres, STREAM, timeout=90)
        jobs.stop(clean_postgres, STREAM, timeout=90)
        allow_streams(clean_postgres)  # as `make up` does
        assert jobs.state(clean_postgres, STREAM).held
        assert jobs.state(clean_postgres, STREAM).ended and driver.starts == 1
        jobs.start(clean_postgres, STREAM, timeout=90)
        assert jobs.state(clean_postgres, STREAM).runs and driver.starts == 2


def test_no_success_is_told_that_is_none(clean_postgres):
    with pytest.raises(jobs.NotDone, match="fraud_stream does not run.*switched on.* is stopped"):
        jobs.start(clean_postgres, STREAM, timeout=0)
    lease = Lease(clean_postgres, STREAM, heartbeat_seconds=0.05)
    assert lease.take(threading.Event())
    lease.set_state("running", "slow")
    try:
        with pytest.raises(jobs.NotDone, match="fraud_stream has not ended after 0 s"):
            jobs.stop(clean_postgres, STREAM, timeout=0)
        assert lease.stop_requested.wait(90)
    finally:
        lease.release()


def test_a_held_stream_does_not_hold_up_the_end_of_the_platform(clean_postgres, caplog):
    caplog.set_level(logging.INFO)
    with psycopg.connect(clean_postgres.conninfo("owner"), autocommit=True) as connection:
        connection.execute("update shop.stream_leases set held = true")
    waiting = threading.Thread(target=jobs.wait_while_held, args=(clean_postgres, STREAM))
    waiting.start()
    drain(clean_postgres)
    waiting.join(90)
    assert not waiting.is_alive()
    assert not Lease(clean_postgres, STREAM).take(threading.Event())


def test_the_producer_is_stopped_and_a_new_one_starts(clean_postgres):
    state, stopped = ["running"], threading.Event()
    with Heartbeat(clean_postgres, lambda: (state[0], ""), lambda reason: stopped.set(), seconds=0.05):
        while not jobs.state(clean_postgres, jobs.PRODUCER).runs:
            pass
        with pytest.raises(jobs.NotDone):
            jobs.stop(clean_postgres, jobs.PRODUCER, timeout=0)
        assert stopped.wait(90)
        state[0] = "stopped"
    assert jobs.state(clean_postgres, jobs.PRODUCER).held
    with Heartbeat(clean_postgres, lambda: ("running", ""), lambda reason: None, seconds=0.05):
        while jobs.state(clean_postgres, jobs.PRODUCER).held:
            pass
