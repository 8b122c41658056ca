"""The relay runs as a service: it says whether it works, and sends on after it was killed."""

from __future__ import annotations

import psycopg
import pytest

from include.operations import outbox, relay
from include.platform import services
from include.platform.http import client
from include.platform.temporary import running

pytestmark = pytest.mark.services
SERVICE = services.SERVICES[services.RELAY]
WAITING = "select count(*) from shop.outbox where sent_at is null"


def wait_until_sent(settings, process):
    with psycopg.connect(settings.conninfo("owner"), autocommit=True) as connection:
        while connection.execute(WAITING).fetchone() != (0,):
            assert process.poll() is None


def test_the_service_sends_what_was_queued_before_and_after_it_was_killed(clean_postgres, kafka):
    from include.broker.kafka import ensure_topics

    ensure_topics(kafka, timeout=60)
    for killed in (True, False):
        with psycopg.connect(kafka.conninfo("owner"), autocommit=True) as connection:
            outbox.put(connection, relay.LABELS, {"transaction_id": "t"}, key="u")
        with running("relay", kafka, SERVICE.command(kafka), lambda: SERVICE.ready(kafka)) as process:
            wait_until_sent(kafka, process)
            assert client().get(f"http://127.0.0.1:{kafka.relay_port}/other").status_code == 404
            if killed:
                process.kill()
                process.wait()
    assert process.returncode == 0


def test_a_relay_whose_thread_hangs_says_so(settings, monkeypatch):
    from threading import Event

    held = relay.Relay(settings, {"any": relay.Nobody()}, Event())
    assert held.works
    monkeypatch.setattr(relay, "BEAT_SECONDS", 0.0)
    assert not held.works
