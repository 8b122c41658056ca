"""The producer's row in shop.stream_leases."""

import logging
import threading
import time

import psycopg
import pytest

from include.generator.heartbeat import Heartbeat
from include.platform import ports
from tests.waiting import until

pytestmark = pytest.mark.services


CUT = """
select pg_terminate_backend(pid) from pg_stat_activity
where usename = 'stream_writer' and pid <> pg_backend_pid()"""


def row(settings) -> dict:
    with psycopg.connect(settings.conninfo("owner"), row_factory=psycopg.rows.dict_row) as connection:
        return connection.execute("select * from shop.stream_leases where stream = 'producer'").fetchone()


def ask(settings, statement: str, role: str = "owner") -> None:
    with psycopg.connect(settings.conninfo(role), autocommit=True) as connection:
        connection.execute(statement)


def beating(settings, stopped: list, report=lambda: ("running", "5 acknowledged")) -> Heartbeat:
    return Heartbeat(settings, report, stopped.append, seconds=0.05)


def test_it_reports_and_says_how_it_ended(clean_postgres):
    state = ["running"]
    with beating(clean_postgres, [], lambda: (state[0], "x")):
        until(lambda: row(clean_postgres)["state"] == "running")
        assert row(clean_postgres)["epoch"] == 1 and ":" in row(clean_postgres)["holder"]
        state[0] = "stopped"
    assert row(clean_postgres)["state"] == "stopped"


def test_it_hears_a_request_to_stop_but_not_one_from_before_its_start(clean_postgres):
    stopped: list[str] = []
    ask(clean_postgres, "update shop.stream_leases set stop_requested = true")
    with beating(clean_postgres, stopped):
        until(lambda: row(clean_postgres)["state"] == "running")
        assert not stopped
        ask(clean_postgres, "update shop.stream_leases set stop_requested = true")
        until(lambda: stopped)
    assert stopped[0] == "asked to stop"


def test_a_newer_producer_takes_over(clean_postgres):
    old, new = [], []
    with beating(clean_postgres, old):
        until(lambda: row(clean_postgres)["epoch"] == 1)
        with beating(clean_postgres, new):
            until(lambda: old)
    assert "newer producer" in old[0] and not new


def test_without_postgresql_it_tries_on_and_says_so_once(clean_postgres, caplog, monkeypatch):
    caplog.set_level(logging.INFO)
    gone = clean_postgres.model_copy(update={"postgres_port": ports.free(1)[0]})
    heartbeat = beating(gone, [])
    with heartbeat:
        until(lambda: "does not answer" in caplog.text)
        time.sleep(0.2)
        heartbeat._conninfo = clean_postgres.conninfo("stream_writer")
        until(lambda: row(clean_postgres)["state"] == "running")
        until(lambda: "answers again" in caplog.text)
    assert caplog.text.count("does not answer") == 1


def test_a_cut_connection_is_opened_again(clean_postgres):
    with beating(clean_postgres, stopped := []):
        until(lambda: row(clean_postgres)["state"] == "running")
        ask(clean_postgres, CUT, role="stream_writer")
        ask(clean_postgres, "update shop.stream_leases set state = 'nothing' where stream = 'producer'")
        until(lambda: row(clean_postgres)["state"] == "running")
    assert not stopped and row(clean_postgres)["epoch"] == 1


def test_its_thread_ends_with_it(clean_postgres):
    with beating(clean_postgres, []):
        pass
    assert "heartbeat" not in {thread.name for thread in threading.enumerate()}
