"""The watch alarms on streams that are silent, lag or restart in a loop, and on dead letters that rise."""

from __future__ import annotations

import psycopg
import pytest

from include.operations import watch
from include.operations.incidents import Kind
from include.operations.watch import (
    DOWN_SECONDS,
    LetterWatch,
    Problem,
    ServiceWatch,
    StreamWatch,
    Watch,
    update,
)

AT = ("transactions-data", 0)


def row(**more):
    """fraud_stream as the query gives it: it runs, and has read up to offset 100."""
    positions = [{"topic": AT[0], "partition": AT[1], "next": more.pop("next", 100), "first": 0}]
    return {
        "stream": "fraud_stream", "state": "running", "detail": "", "epoch": 1, "heartbeat_age": 1.0,
        "held": False, "stop_requested": False, "positions": positions, **more,
    }  # fmt: skip


def looks(*rows, ends=100, every=10.0):
    """The kinds that are open after looks at these rows, one each 10 seconds."""
    streams = StreamWatch()
    found = {}
    for number, seen in enumerate(rows):
        end = ends(number) if callable(ends) else ends
        found = streams.look(number * every, [seen], {AT: end})
    return {kind for kind, _ in found}


def test_a_stream_that_works_is_no_problem():
    assert looks(*[row()] * 30) == set()


def test_a_stream_that_does_not_report_is_silent():
    assert looks(row(heartbeat_age=60.0)) == {Kind.STREAM_SILENT}


@pytest.mark.parametrize("state", ["stopped", "failed"])
def test_a_stream_that_stays_down_is_silent_within_two_minutes_unless_somebody_stopped_it(state):
    assert looks(*[row(state=state)] * 6) == set()
    assert looks(*[row(state=state)] * 12) == {Kind.STREAM_SILENT}
    assert looks(*[row(state=state, held=True)] * 30) == set()
    assert looks(*[row(state=state, stop_requested=True)] * 30) == set()
    assert looks(*[row(state=state)] * 6, row(), *[row(state=state)] * 6) == set()


def test_records_that_wait_are_lag_within_two_minutes_and_a_stream_that_follows_is_not_behind():
    assert looks(*[row()] * 12, ends=150) == {Kind.STREAM_LAGGING}
    assert looks(*[row(next=100 + 50 * n) for n in range(30)], ends=lambda n: 150 + 50 * n) == set()
    slow = [row(next=100 + n) for n in range(12)]
    assert looks(*slow, ends=lambda n: 150 + 50 * n) == {Kind.STREAM_LAGGING}
    assert looks(*[row(state="waiting", detail="no champion")] * 30, ends=150) == set()
    assert looks(*[row(held=True)] * 30, ends=150) == set()


def test_a_stream_that_starts_again_and_again_is_named_and_one_restart_is_not():
    assert looks(*[row(epoch=epoch) for epoch in range(1, 6)]) == {Kind.STREAM_RESTARTING}
    assert looks(*[row(epoch=1)] * 3, *[row(epoch=2)] * 3) == set()
    assert looks(*[row(epoch=epoch) for epoch in range(1, 10)], every=300.0) == set()


def test_without_the_brokers_nothing_is_said_of_lag():
    streams = StreamWatch()
    for number in range(30):
        assert streams.look(number * 10.0, [row()], None) == {}


def test_dead_letters_rise_when_they_are_many_and_a_share():
    counts = LetterWatch()
    assert counts.look(0, stored=10_000, letters=500) == {}
    assert counts.look(60, stored=10_100, letters=519) == {}
    ((kind, subject),) = counts.look(120, stored=10_100, letters=530)
    assert (kind, subject) == (Kind.DEAD_LETTERS_RISING, "transaction_stream")
    assert counts.look(180, stored=11_000, letters=530) == {}
    assert counts.look(900, stored=11_000, letters=530) == {}


def test_a_service_is_down_when_it_stays_silent():
    services = ServiceWatch()
    services.look(-10, set())
    assert services.look(0, {"mlflow"}) == {}
    assert services.look(DOWN_SECONDS, {"mlflow"}).keys() == {(Kind.SERVICE_DOWN, "mlflow")}
    assert services.look(DOWN_SECONDS + 10, set()) == {}
    assert services.look(DOWN_SECONDS + 20, {"mlflow"}) == {}


def test_while_the_platform_starts_nothing_is_wrong_and_what_never_starts_is():
    services = ServiceWatch()
    assert [services.look(n * 10.0, {"mlflow"}) for n in range(18)] == [{}] * 18
    services.look(190, {"mlflow"})
    assert services.look(240, {"mlflow"}).keys() == {(Kind.SERVICE_DOWN, "mlflow")}
    assert looks(*[row(state="stopped", epoch=0)] * 29) == set()
    assert looks(*[row(state="stopped", epoch=0)] * 32) == {Kind.STREAM_SILENT}
    streams = StreamWatch()
    for n in range(30):
        assert streams.look(n * 10.0, [row(state="stopped")], {AT: 100}, airflow_works=False) == {}


@pytest.mark.services
def test_incidents_open_and_close_with_their_problems_and_others_stay(clean_postgres):
    with psycopg.connect(clean_postgres.conninfo("relay"), autocommit=True) as connection:
        update(connection, {(Kind.STREAM_SILENT, "fraud_stream"): Problem("no report", {})})
        watch.open_incident(connection, Kind.BOOKS_OPEN, "fraud_stream", "differ")
        update(connection, {(Kind.SERVICE_DOWN, "mlflow"): Problem("no answer", {})})
        rows = connection.execute("select kind, closed_at is null from shop.incidents order by id").fetchall()
        assert rows == [("stream-silent", False), ("books-open", True), ("service-down", True)]


@pytest.mark.services
def test_a_look_at_a_real_database_sees_what_is_there(clean_postgres, monkeypatch):
    monkeypatch.setattr(watch, "partition_ends", lambda settings: {})
    mismatch = '[{"feature": "amount_z", "rows": 3, "largest": 1.0, "place": "0:1"}]'
    with psycopg.connect(clean_postgres.conninfo("owner"), autocommit=True) as owner:
        owner.execute(
            "insert into shop.parity_checks (feature_set, rows, merchants, left_out, share, seconds, mismatches)"
            " values (%s, 10, 0, 0, 1, 1, %s)",
            [watch.FEATURE_SET, mismatch],
        )
        owner.execute(
            "insert into shop.outbox (channel, value, undeliverable) values ('slack', '{}', true),"
            " ('slack', '{}', true)"
        )
        owner.execute(
            "update shop.stream_leases set state = 'running', heartbeat_at = now() - interval '1 minute'"
            " where stream = 'fraud_stream'"
        )
    looking = Watch(clean_postgres)
    with psycopg.connect(clean_postgres.conninfo("relay"), autocommit=True) as connection:
        looking(connection)
        rows = connection.execute(
            "select kind, subject, summary from shop.incidents order by kind"
        ).fetchall()
    assert [(kind, subject) for kind, subject, _ in rows] == [
        ("parity-broken", "features"), ("stream-silent", "fraud_stream"), ("undelivered", "slack"),
    ]  # fmt: skip
    assert "amount_z" in rows[0][2] and "2 messages" in rows[2][2]


@pytest.mark.services
def test_a_database_that_is_away_is_told_past_the_outbox(settings, monkeypatch):
    import json
    from threading import Event, Thread

    from include.operations import relay
    from include.platform import ports
    from tests.operations.receivers import hook

    monkeypatch.setattr(relay, "DOWN_SECONDS", 0.0)
    monkeypatch.setattr(relay, "AWAY_SECONDS", 0.05)
    with hook() as web:
        away = {"postgres_port": ports.free(1)[0], "alarm_webhook_url": web.url, "alarm_webhook_secret": "s"}
        gone = type(settings)(**settings.model_dump() | away)
        stopping = Event()
        running = relay.Relay(gone, {relay.WATCH: Watch(gone)}, stopping)
        thread = Thread(target=running.run)
        thread.start()
        while not web.bodies:
            assert thread.is_alive()
        stopping.wait(0.5)
        stopping.set()
        thread.join()
    (body,) = web.bodies
    assert json.loads(body)["alarms"][0]["subject"] == "postgres"
