"""Makes messages for people of what happened: of incidents that were opened or closed, and of new fraud alerts.

What happens within a short time is one message. A receiver gets at most `alarm_messages_per_hour` of incidents and as
many of alerts: what happens beyond that waits, and the next message tells of all of it.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, NamedTuple
from uuid import uuid4

import psycopg
from psycopg.rows import dict_row

from include.operations import outbox
from include.settings import Settings
from include.sql import one_row, statement

log = logging.getLogger(__name__)

ALARMS = "alarms"
ALERT_RECORDS = "alert-records"
WEBHOOK, SLACK, MAIL = "webhook", "slack", "mail"

PAUSES = {"alarms": timedelta(seconds=15), "alerts": timedelta(seconds=60)}  # between two messages of a type
LISTED = 20  # alerts that a message lists, those with the highest scores
YOUNG = timedelta(hours=24)  # alerts of older payments, such as imported ones, are no news for people
AT_ONCE = 5_000  # alerts that become records in a transaction

_LOCK = "select pg_advisory_xact_lock(hashtext('fraudstream notices'))"


class Receiver(NamedTuple):
    """A channel of the outbox that is on, and the message's key there."""

    channel: str
    key: str = ""


def receivers(settings: Settings) -> list[Receiver]:
    """The people, or what stands for them, who are told by these settings."""
    told = [Receiver(WEBHOOK)] if settings.alarm_webhook_url else []
    if settings.alarm_slack_url:
        told.append(Receiver(SLACK))
    addresses = filter(None, map(str.strip, settings.alarm_mail_to.split(",")))
    return told + [Receiver(MAIL, address) for address in addresses]


def tell_of_incidents(connection: psycopg.Connection[Any], settings: Settings) -> int:
    """Makes one message for each receiver of the alarms that wait; returns how many alarms it tells of."""
    told = receivers(settings)
    with connection.transaction():
        connection.execute(_LOCK)
        if told and not _may_tell(connection, "alarms", settings):
            return 0
        rows = connection.execute(statement("outbox/take"), {"channel": ALARMS}).fetchall()
        alarms = [value for (value,) in rows]
        if alarms:
            for receiver in told:
                outbox.put(connection, receiver.channel, _of_alarms(alarms, settings), receiver.key)
    return len(alarms)


def tell_of_alerts(connection: psycopg.Connection[Any], settings: Settings) -> int:
    """Makes one message for each receiver of the alerts since the last one; returns how many alerts it tells of."""
    told = receivers(settings)
    with connection.transaction():
        connection.execute(_LOCK)
        if told and not _may_tell(connection, "alerts", settings):
            return 0
        alerts: list[dict[str, Any]] = []
        count = 0
        for cursor in _cursors(connection, "people"):
            if told:
                values = cursor | {"young": YOUNG, "listed": LISTED}
                with connection.cursor(row_factory=dict_row) as reading:
                    rows = reading.execute(statement("outbox/new_alerts"), values).fetchall()
                count += rows[0]["count"] if rows else 0
                alerts += [row["alert"] for row in rows]
            _advance(connection, "people", cursor, cursor["end"])
        if count:
            alerts = sorted(alerts, key=lambda alert: -float(alert["score"]))[:LISTED]
            for receiver in told:
                outbox.put(connection, receiver.channel, _of_alerts(alerts, count, settings), receiver.key)
    return count


def record_alerts(connection: psycopg.Connection[Any], settings: Settings) -> int:
    """Makes a record of each new alert for the topic of alerts, some thousand at once; returns how many."""
    made = 0
    with connection.transaction():
        connection.execute(_LOCK)
        for cursor in _cursors(connection, "topic"):
            end = cursor["end"]
            if settings.fraud_alerts_topic:
                values = cursor | {"channel": ALERT_RECORDS, "most": AT_ONCE}
                count, last = one_row(connection.execute(statement("outbox/record_alerts"), values))
                made += count
                end = last + 1 if count == AT_ONCE else end
            _advance(connection, "topic", cursor, end)
    return made


def _cursors(connection: psycopg.Connection[Any], reader: Literal["people", "topic"]) -> list[dict[str, Any]]:
    """The partitions with offsets that the scores have passed and this reader has not: [start, end)."""
    with connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(statement("outbox/cursors"), {"reader": reader}).fetchall()


def _advance(
    connection: psycopg.Connection[Any], reader: str, cursor: Mapping[str, Any], next_offset: int
) -> None:
    values = {**cursor, "reader": reader, "next_offset": next_offset}
    connection.execute(statement("outbox/advance"), values)


def _may_tell(connection: psycopg.Connection[Any], type_: str, settings: Settings) -> bool:
    values = {"type": type_, "pause": PAUSES[type_]}
    lately, soon = one_row(connection.execute(statement("outbox/told"), values))
    return not soon and lately < settings.alarm_messages_per_hour


def _of_alarms(alarms: Sequence[Mapping[str, Any]], settings: Settings) -> dict[str, Any]:
    lines = [
        f"{alarm['event']}: {alarm['kind']} ({alarm['severity']}), {alarm['subject']}: {alarm['summary']}"
        f" {settings.runbook_url}#{alarm['runbook']}"
        for alarm in alarms
    ]
    opened = [alarm for alarm in alarms if alarm["event"] == "opened"]
    if len(alarms) == 1:
        title = f"fraudstream: {alarms[0]['kind']} {alarms[0]['event']}: {alarms[0]['subject']}"
    else:
        title = f"fraudstream: {len(opened)} incidents opened, {len(alarms) - len(opened)} closed"
    return {"type": "alarms", "title": title, "lines": lines, "alarms": list(alarms)}


def _of_alerts(alerts: Sequence[Mapping[str, Any]], count: int, settings: Settings) -> dict[str, Any]:
    page = f"{settings.streamlit_public_url}/alerts"
    lines = [
        f"{alert['transaction_id']}: {alert['amount']}, score {float(alert['score']):.3f}"
        + "".join(f"; {reason['text']}" for reason in alert["reasons"])
        for alert in alerts
    ]
    if count > len(alerts):
        lines.append(f"and {count - len(alerts):,} more")
    title = f"fraudstream: {count:,} fraud alert{'s' if count > 1 else ''}"
    return {
        "type": "alerts",
        "title": title,
        "lines": [*lines, page],
        "count": count,
        "link": page,
        "alerts": list(alerts),
    }


def tell_directly(settings: Settings, senders: Mapping[str, outbox.Sender], alarm: Mapping[str, Any]) -> None:
    """Sends an alarm past the outbox, while PostgreSQL is away; what cannot be sent is logged."""
    value = _of_alarms([alarm], settings)
    for receiver in receivers(settings):
        message = outbox.Message(uuid4(), receiver.channel, receiver.key, value, datetime.now(UTC), 0)
        try:
            senders[receiver.channel].send([message])
        except outbox.SendFailed as error:
            log.error("%s was not told: %s", receiver.channel, error)
