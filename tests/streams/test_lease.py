"""Leases of streams on a real PostgreSQL."""

from __future__ import annotations

import threading
from contextlib import contextmanager

import psycopg
import pytest

from include.settings import Settings
from include.streams import store
from include.streams.lease import Lease
from tests.waiting import PATIENCE, until

STREAM = "fraud_stream"

pytestmark = pytest.mark.services


@contextmanager
def held(shop: Settings, **more):
    lease = Lease(shop, STREAM, heartbeat_seconds=0.05, **more)
    assert lease.take(threading.Event())
    try:
        yield lease
    finally:
        lease.release()


def row(shop: Settings) -> dict:
    with store.connect(shop) as connection:
        cursor = connection.cursor(row_factory=psycopg.rows.dict_row)
        return cursor.execute("select * from shop.stream_leases where stream = %s", (STREAM,)).fetchone()


def execute(shop: Settings, statement: str) -> None:
    with psycopg.connect(shop.conninfo("owner"), autocommit=True) as owner:
        owner.execute(statement)


def test_each_holder_has_a_newer_epoch_and_says_how_it_goes(clean_postgres):
    with held(clean_postgres) as lease:
        assert lease.epoch == 1
        lease.set_state("running", "all is well", model_version=4)
        now = until(lambda: (lease_row := row(clean_postgres))["state"] == "running" and lease_row)
        assert (now["epoch"], now["holder"], now["detail"], now["model_version"]) == (
            *(1, lease.holder, "all is well", 4),
        )
        until(lambda: row(clean_postgres)["heartbeat_at"] > now["heartbeat_at"])
    assert row(clean_postgres)["state"] == "stopped"
    with held(clean_postgres) as lease:
        assert lease.epoch == 2


def test_a_second_driver_waits_and_the_holder_says_so(clean_postgres):
    second = Lease(clean_postgres, STREAM)
    taken = threading.Event()

    def wait():
        assert second.take(threading.Event())
        taken.set()

    with held(clean_postgres) as first:
        thread = threading.Thread(target=wait)
        thread.start()
        until(lambda: "another driver waits" in row(clean_postgres)["detail"])
        assert not taken.is_set() and first.lost is None and row(clean_postgres)["epoch"] == 1
    assert taken.wait(PATIENCE)
    thread.join()
    assert row(clean_postgres)["epoch"] == 2
    until(lambda: row(clean_postgres)["detail"] == "")
    second.release()


def test_a_waiting_driver_stops_when_told_to(clean_postgres):
    stopping = threading.Event()
    stopping.set()
    with held(clean_postgres):
        second = Lease(clean_postgres, STREAM)
        assert not second.take(stopping)
        second.release()
        assert row(clean_postgres)["state"] != "stopped"


def test_a_stop_request_reaches_the_holder_and_stands_until_it_is_taken_back(clean_postgres):
    with held(clean_postgres) as lease:
        assert not lease.stop_requested.is_set()
        execute(clean_postgres, "update shop.stream_leases set stop_requested = true")
        assert lease.stop_requested.wait(PATIENCE)
    next_one = Lease(clean_postgres, STREAM)
    assert not next_one.take(threading.Event())
    next_one.release()
    assert row(clean_postgres)["epoch"] == 1
    execute(clean_postgres, "update shop.stream_leases set stop_requested = false")
    with held(clean_postgres) as lease:
        assert not lease.stop_requested.wait(0.3)


def test_a_driver_that_waits_while_the_stream_is_asked_to_stop_does_not_take_over(clean_postgres):
    second = Lease(clean_postgres, STREAM)
    answers = []
    thread = threading.Thread(target=lambda: answers.append(second.take(threading.Event())))
    with held(clean_postgres) as first:
        thread.start()
        until(lambda: "another driver waits" in row(clean_postgres)["detail"])
        execute(clean_postgres, "update shop.stream_leases set stop_requested = true")
        assert first.stop_requested.wait(PATIENCE)
    thread.join(PATIENCE)
    second.release()
    assert answers == [False] and row(clean_postgres)["epoch"] == 1


def test_a_broken_connection_loses_the_lease(clean_postgres):
    with held(clean_postgres) as lease:
        superuser = clean_postgres.conninfo("owner").replace("user=owner", "user=postgres")
        with psycopg.connect(superuser, autocommit=True) as admin:
            admin.execute("select pg_terminate_backend(%s, 5000)", (lease._connection.info.backend_pid,))
        assert "connection" in str(until(lambda: lease.lost))
        with held(clean_postgres) as other:
            assert other.epoch == lease.epoch + 1


def test_a_holder_hears_that_another_one_took_over(clean_postgres):
    with held(clean_postgres) as lease:
        execute(clean_postgres, f"update shop.stream_leases set epoch = 9 where stream = '{STREAM}'")
        assert "taken over" in str(until(lambda: lease.lost))
    assert row(clean_postgres)["epoch"] == 9


def test_a_stream_that_the_database_does_not_know_is_refused(clean_postgres):
    lease = Lease(clean_postgres, "unknown")
    with pytest.raises(RuntimeError, match="unknown: no such stream"):
        lease.take(threading.Event())
    lease.release()
