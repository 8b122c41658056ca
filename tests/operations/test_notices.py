"""Incidents and alerts reach people: grouped, never more than the limit, and none is forgotten."""

from __future__ import annotations

import json
from contextlib import ExitStack

import psycopg
import pytest

from include.operations import notices, outbox, relay
from include.operations.incidents import Kind, close_incident, open_incident
from include.operations.receivers import SIGNATURE_HEADER, signature
from tests.operations.receivers import hook, mailbox

pytestmark = pytest.mark.services

LEDGER = """
insert into shop.stream_offsets (stream, topic, partition, topic_id, first_offset, next_offset, stored, dead_letters,
                                 duplicates, epoch)
values ('fraud_stream', 'transactions-data', %(partition)s, 'id', 0, %(end)s, %(end)s, 0, 0, 1)
on conflict (stream, topic, partition) do update
set next_offset = excluded.next_offset, stored = excluded.stored"""
ALERTS = """
insert into shop.fraud_alerts (transaction_id, user_id, timestamp, amount, score, threshold, model_version, reasons,
                               topic, partition, "offset")
select 't' || n, 'user-1', now() - %(age)s::interval, 10, n::float8 / (n + 1), 0.1, 1,
       '[{"text": "12 times the usual amount"}]', 'transactions-data', %(partition)s, n
from generate_series(%(start)s::bigint, %(end)s - 1) as n"""


def raise_alerts(connection, start, end, partition=0, age="1 minute"):
    """Alerts at every offset from start to before end, as a range of the stream commits them."""
    values = {"partition": partition, "start": start, "end": end, "age": age}
    with psycopg.connect(connection.info.dsn, user="owner") as owner:
        owner.execute(ALERTS, values)
        owner.execute(LEDGER, values)


@pytest.fixture
def connection(clean_postgres):
    with psycopg.connect(clean_postgres.conninfo("relay"), autocommit=True) as opened:
        yield opened


@pytest.fixture
def told(clean_postgres):
    """Settings under which a webhook, a Slack hook and two addresses are told, with these receivers."""
    with ExitStack() as stack:
        web, slack, mail = (stack.enter_context(server()) for server in (hook, hook, mailbox))
        settings = type(clean_postgres)(
            **clean_postgres.model_dump()
            | {
                "alarm_webhook_url": web.url,
                "alarm_webhook_secret": "of the hook",
                "alarm_slack_url": slack.url,
                "alarm_mail_to": "a@example.com, b@example.com",
                "alarm_smtp_port": mail.port,
                "alarm_smtp_security": "none",
                "fraud_alerts_topic": "fraud-alerts",
            }
        )
        yield settings, web, slack, mail


def later(connection):
    """As if the pause between two messages were over."""
    connection.execute("update shop.outbox set created_at = created_at - interval '2 minutes'")


def deliver(connection, settings):
    """Sends what is due, as the relay does, but for the topics."""
    for channel, sender in relay.senders(settings).items():
        if channel in (notices.WEBHOOK, notices.SLACK, notices.MAIL):
            while outbox.deliver(connection, channel, sender):
                pass


def test_an_incident_reaches_everybody_with_a_link_to_its_entry(connection, told):
    settings, web, slack, mail = told
    open_incident(connection, Kind.BOOKS_OPEN, "fraud_stream", "offsets 3 to 5 <missing>")
    assert notices.tell_of_incidents(connection, settings) == 1
    deliver(connection, settings)
    value = json.loads(web.bodies[0])
    assert value["title"] == "fraudstream: books-open opened: fraud_stream"
    assert value["id"] == web.ids[0]
    time, _ = web.headers[0][SIGNATURE_HEADER].removeprefix("t=").split(",")
    assert web.headers[0][SIGNATURE_HEADER] == signature("of the hook", int(time), web.bodies[0])
    text = json.loads(slack.bodies[0])["text"]
    assert "offsets 3 to 5 &lt;missing&gt;" in text and "/fraudstream/runbook#books-open" in text
    assert sorted(address for address, _ in mail.mails) == ["a@example.com", "b@example.com"]
    assert all("books-open" in text and "Message-ID: <" in text for _, text in mail.mails)
    assert notices.tell_of_incidents(connection, settings) == 0
    deliver(connection, settings)
    assert (len(web.bodies), len(slack.bodies), len(mail.mails)) == (1, 1, 2)


def test_each_kind_of_incident_arrives_with_its_entry(connection, told):
    settings, web, _, mail = told
    for kind in Kind:
        open_incident(connection, kind, "a subject", "something")
    assert notices.tell_of_incidents(connection, settings) == len(Kind)
    deliver(connection, settings)
    alarms = json.loads(web.bodies[0])["alarms"]
    assert [(alarm["kind"], alarm["runbook"]) for alarm in alarms] == [(kind, kind) for kind in Kind]
    assert all(f"{settings.runbook_url}#{kind}" in web.bodies[0].decode() for kind in Kind)


def test_what_happens_within_a_short_time_is_one_message(connection, told):
    settings, web, _, _ = told
    open_incident(connection, Kind.DAG_FAILED, "first", "failed")
    notices.tell_of_incidents(connection, settings)
    for name in ("second", "third"):
        open_incident(connection, Kind.DAG_FAILED, name, "failed")
    close_incident(connection, Kind.DAG_FAILED, "first")
    assert notices.tell_of_incidents(connection, settings) == 0
    later(connection)
    assert notices.tell_of_incidents(connection, settings) == 3
    deliver(connection, settings)
    assert [len(json.loads(body)["alarms"]) for body in web.bodies] == [1, 3]
    assert json.loads(web.bodies[1])["title"] == "fraudstream: 2 incidents opened, 1 closed"


def test_fifty_thousand_alerts_make_few_mails_that_tell_of_all(connection, told):
    settings, _, _, mail = told
    told_of = 0
    for step in range(50):
        raise_alerts(connection, step * 1000, (step + 1) * 1000)
        told_of += notices.tell_of_alerts(connection, settings)
        connection.execute("update shop.outbox set created_at = created_at - interval '61 seconds'")
    deliver(connection, settings)
    of_one = [text for address, text in mail.mails if address == "a@example.com"]
    assert len(of_one) == settings.alarm_messages_per_hour
    connection.execute("update shop.outbox set created_at = created_at - interval '1 hour'")
    assert told_of + notices.tell_of_alerts(connection, settings) == 50_000
    deliver(connection, settings)
    assert len([text for address, text in mail.mails if address == "a@example.com"]) == len(of_one) + 1
    assert "12 times the usual amount" in mail.mails[0][1]


def test_incidents_are_told_during_a_storm_of_alerts(connection, told):
    settings, web, _, _ = told
    for step in range(settings.alarm_messages_per_hour + 1):
        raise_alerts(connection, step, step + 1)
        notices.tell_of_alerts(connection, settings)
        later(connection)
    open_incident(connection, Kind.BOOKS_OPEN, "fraud_stream", "differ")
    assert notices.tell_of_incidents(connection, settings) == 1


def test_alerts_of_old_payments_and_of_a_time_when_nobody_was_told_are_no_news(
    connection, told, clean_postgres
):
    settings, *_ = told
    raise_alerts(connection, 0, 10)
    assert notices.tell_of_alerts(connection, clean_postgres) == 0
    assert notices.tell_of_alerts(connection, settings) == 0
    raise_alerts(connection, 10, 20, age="3 days")
    raise_alerts(connection, 0, 3, partition=1)
    assert notices.tell_of_alerts(connection, settings) == 3


def test_every_alert_becomes_one_record(connection, told, monkeypatch):
    settings, *_ = told
    monkeypatch.setattr(notices, "AT_ONCE", 4)
    raise_alerts(connection, 0, 10)
    raise_alerts(connection, 0, 3, partition=1, age="90 days")
    while notices.record_alerts(connection, settings):
        pass
    rows = connection.execute("select key, value from shop.outbox where channel = 'alert-records'").fetchall()
    records = sorted((value["partition"], value["offset"]) for _, value in rows)
    assert records == [(0, offset) for offset in range(10)] + [(1, offset) for offset in range(3)]
    assert {key for key, _ in rows} == {"user-1"}
    raise_alerts(connection, 10, 11)
    assert notices.record_alerts(connection, settings) == 1


def test_a_receiver_that_is_down_or_failing_gets_it_later_with_the_same_id(connection, told):
    settings, web, slack, mail = told
    web.answer = lambda number: (0, 503, 200)[min(number, 2)]
    mail.code = lambda recipient: 550 if recipient.startswith("b") else 450 if not mail.mails else 250
    slack.answer = lambda number: 410
    open_incident(connection, Kind.BOOKS_OPEN, "fraud_stream", "differ")
    notices.tell_of_incidents(connection, settings)
    for _ in range(3):
        deliver(connection, settings)
        mail.code = lambda recipient: 550 if recipient.startswith("b") else 250
        connection.execute("update shop.outbox set next_attempt_at = clock_timestamp()")
    assert len(web.ids) == 3 and len(set(web.ids)) == 1
    assert len(slack.ids) == 1
    assert [address for address, _ in mail.mails] == ["a@example.com"]
    rows = connection.execute(
        "select channel, key, sent_at is not null, undeliverable, last_error from shop.outbox"
        " where channel <> 'alarms' order by channel, key"
    ).fetchall()
    assert rows == [
        ("mail", "a@example.com", True, False, "the mail server said 450 as told"),
        ("mail", "b@example.com", False, True, "the mail server said 550 as told"),
        ("slack", "", False, True, "the answer was 410"),
        ("webhook", "", True, False, "the answer was 503"),
    ]


def test_a_slow_receiver_is_not_waited_for_and_no_error_shows_its_address(connection, told, monkeypatch):
    import threading

    from include.operations import receivers

    settings, web, slack, _ = told
    monkeypatch.setattr(receivers, "ANSWER_SECONDS", 0.2)
    waiting = threading.Event()
    web.answer = slack.answer = lambda number: waiting.wait(30) and 0
    open_incident(connection, Kind.BOOKS_OPEN, "fraud_stream", "differ")
    notices.tell_of_incidents(connection, settings)
    deliver(connection, settings)
    waiting.set()
    rows = connection.execute(
        "select channel, last_error from shop.outbox where channel in ('webhook', 'slack') order by channel"
    ).fetchall()
    assert rows == [("slack", "no answer: ReadTimeout"), ("webhook", "no answer: ReadTimeout")]
