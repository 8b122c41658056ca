"""The relay runs as a service: it says whether it works, and sends on after it was killed."""

from __future__ import annotations

import json

import psycopg
import pytest

from include.operations import notices, outbox, relay
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

    held = relay.Relay(settings, {"any": lambda connection: 0}, Event())
    assert held.works
    monkeypatch.setattr(relay, "BEAT_SECONDS", 0.0)
    assert not held.works


def test_a_relay_killed_between_sending_and_noting_sends_again_with_the_same_id(clean_postgres, kafka):
    from include.broker.kafka import ensure_topics
    from tests.operations.receivers import hook

    ensure_topics(kafka, timeout=60)
    with hook() as web:
        secret = {"alarm_webhook_url": web.url, "alarm_webhook_secret": "of the hook"}
        settings = type(kafka)(**kafka.model_dump() | secret)
        command = SERVICE.command(settings)
        with running("relay", settings, command, lambda: SERVICE.ready(settings)) as process:

            def kill(number: int) -> int:
                if number == 3:
                    process.kill()
                return 0 if number == 3 else 200

            web.answer = kill
            with psycopg.connect(settings.conninfo("owner"), autocommit=True) as connection:
                for number in range(6):
                    outbox.put(connection, notices.WEBHOOK, {"number": number})
                ids = {str(id) for (id,) in connection.execute("select id from shop.outbox")}
            process.wait()
        with running("relay", settings, command, lambda: SERVICE.ready(settings)) as process:
            wait_until_sent(settings, process)
        bodies = dict(zip(web.ids, map(json.loads, web.bodies), strict=True))
        assert bodies.keys() == ids
        assert sorted(body["number"] for body in bodies.values()) == list(range(6))
        assert len(web.ids) > 6
