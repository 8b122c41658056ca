"""A verdict becomes a label, once: through the outbox, the relay, the topic and the store, whatever is killed."""

from __future__ import annotations

from datetime import datetime, timedelta
from threading import Thread

import numpy as np
import psycopg
import pytest
from confluent_kafka import Consumer, TopicPartition

from include import queries
from include.broker import kafka as broker
from include.platform import services
from include.platform.temporary import running
from include.settings import Settings
from include.streams import ingest, known_labels, store
from include.streams.store import Range, Record, Writer
from include.training import stored_rows
from tests.builders import NOW, label_bytes

pytestmark = pytest.mark.services

RELAY = services.SERVICES[services.RELAY]
ALERTS = 1_000
VERDICTS = 2_500
KILLS = 4  # of the relay
RAISE_ALERTS = """
insert into shop.fraud_alerts (transaction_id, user_id, timestamp, amount, score, threshold, model_version, topic,
                               partition, "offset")
select 't' || n, 'u' || n %% 100, %s::timestamptz + n * interval '1 second', 10, 0.9, 0.5, 1, 'transactions-data', 0, n
from generate_series(0, %s - 1) n"""


def raise_alerts(settings: Settings, number: int) -> None:
    with psycopg.connect(settings.conninfo("owner")) as connection:
        connection.execute(RAISE_ALERTS, (NOW, number))


def judge(settings: Settings, numbers: range) -> None:
    """A verdict for each number, some on an alert that has one: in its own transaction, as the page writes it."""
    with psycopg.connect(settings.conninfo("app"), autocommit=True) as connection:
        for number in numbers:
            alert = number * 7 % ALERTS
            event = {
                "transaction_id": f"t{alert}",
                "topic": "transactions-data",
                "partition": 0,
                "offset": alert,
            }
            written = connection.execute(
                queries.text("add_verdict"),
                {**event, "is_fraud": number % 3 != 0, "analyst": f"analyst {number % 5}", "note": ""},
            )
            assert written.rowcount == 1


def in_topic(settings: Settings) -> dict[int, list[Record]]:
    """All records of the labels' topic, by partition."""
    records: dict[int, list[Record]] = {}
    for partition, (begin, end) in broker.bounds(settings, settings.labels_topic).items():
        consumer = Consumer(
            {
                "bootstrap.servers": settings.kafka_bootstrap_servers,
                "group.id": "test",
                "enable.partition.eof": True,
            }
        )
        consumer.assign([TopicPartition(settings.labels_topic, partition, begin)])
        records[partition] = []
        while len(records[partition]) < end - begin:
            for message in consumer.consume(500, 1.0):
                if message.error() is None:
                    record = Record(message.offset(), NOW + timedelta(days=1), message.key(), message.value())
                    records[partition].append(record)
        consumer.close()
    return records


def store_all(settings: Settings, records: dict[int, list[Record]], stream: str, handler) -> None:
    with store.connect(settings) as connection:
        for partition, of_partition in records.items():
            if of_partition:
                span = Range.of(stream, settings.labels_topic, "id", partition, of_partition)
                store.write(connection, Writer(settings, stream, 0), span, handler)


def test_labels_are_the_verdicts_though_the_relay_is_killed_again_and_again(clean_postgres, kafka):
    settings = kafka.model_copy(update={"labels_topic": "labels-of-verdicts"})
    broker.ensure_topics(settings, timeout=60)
    raise_alerts(settings, ALERTS)
    waiting = (
        "select count(*) filter (where sent_at is null), count(*) from shop.outbox where channel = 'labels'"
    )
    with psycopg.connect(settings.conninfo("owner"), autocommit=True) as owner:
        for part in range(KILLS):  # each time while verdicts are written and sent
            first, end = part * VERDICTS // KILLS, (part + 1) * VERDICTS // KILLS
            halves = [Thread(target=judge, args=(settings, range(first + half, end, 2))) for half in (0, 1)]
            with running(
                "relay", settings, RELAY.command(settings), lambda: RELAY.ready(settings)
            ) as process:
                for half in halves:
                    half.start()
                while owner.execute(waiting).fetchone()[1] < (first + end) / 2:
                    assert process.poll() is None
                process.kill()
                process.wait()
            for half in halves:
                half.join()
        with running("relay", settings, RELAY.command(settings), lambda: RELAY.ready(settings)) as process:
            while owner.execute(waiting).fetchone() != (0, VERDICTS):
                assert process.poll() is None
        records = in_topic(settings)
        assert sum(map(len, records.values())) >= VERDICTS
        store_all(settings, records, "transaction_stream", ingest.labels)
        store_all(settings, records, "fraud_stream", known_labels.labels)
        # What the relay sent twice, sent once more.
        again = {
            partition: [record._replace(offset=record.offset + len(old)) for record in old]
            for partition, old in records.items()
        }
        store_all(settings, again, "transaction_stream", ingest.labels)
        verdicts = "select 'verdict-' || id, transaction_id, is_fraud, analyst, known_at from shop.verdicts"
        labels = (
            "select label_id, transaction_id, is_fraud, reported_by, known_at from shop.fraud_transactions"
            " where source = 'analyst'"
        )
        differences = owner.execute(
            f"({verdicts} except {labels}) union all ({labels} except {verdicts})"
        ).fetchall()
        counts = owner.execute("""
            select (select count(*) from shop.verdicts), (select count(*) from shop.fraud_transactions),
                   (select count(*) from shop.known_labels), (select count(*) from shop.dead_letters)
            """).fetchone()  # fmt: skip
        assert differences == [] and counts == (VERDICTS, VERDICTS, VERDICTS, 0)
        last = owner.execute("""
            select count(*) from monitoring.verdicts v join shop.labels_known('infinity') l using (transaction_id)
            where v.is_fraud = l.is_fraud""").fetchone()  # fmt: skip
        assert last == (ALERTS,)


def test_a_verdict_is_known_at_the_newest_event_time_and_an_undone_one_later(clean_postgres):
    raise_alerts(clean_postgres, ALERTS)
    newest = NOW + timedelta(days=2)
    with psycopg.connect(clean_postgres.conninfo("owner"), autocommit=True) as owner:
        owner.execute(
            "insert into shop.stream_offsets (stream, topic, partition, topic_id, first_offset, next_offset, stored,"
            " dead_letters, duplicates, epoch, watermark) values ('transaction_stream', 'transactions-data', 0, 'id',"
            " 0, 0, 0, 0, 0, 0, %s)",
            [newest],
        )
        judge(clean_postgres, range(0, 1))
        judge(clean_postgres, range(ALERTS, ALERTS + 1))
        times = [at for (at,) in owner.execute("select known_at from shop.verdicts order by id").fetchall()]
    assert times == [newest, newest + timedelta(microseconds=1)]


def known(settings: Settings, as_of: datetime) -> list[tuple]:
    with psycopg.connect(settings.conninfo("trainer")) as connection:
        rows = connection.execute("select transaction_id, is_fraud from shop.labels_known(%s)", [as_of])
        return sorted(rows.fetchall())


def days(number: float) -> datetime:
    return NOW + timedelta(days=number)


LABELS = {  # transaction: its labels as (known after days, source, fraud), and what is known in the end
    "the bank outranks": ([(5, "analyst", True), (3, None, False)], False),
    "the bank later": ([(1, "analyst", False), (9, None, True)], True),
    "two analysts": ([(1, "analyst", True), (2, "analyst", False)], False),
    "undone twice": ([(1, "analyst", True), (2, "analyst", False), (4, "analyst", True)], True),
    "the bank corrects itself": ([(1, None, True), (2, None, False), (3, "analyst", True)], False),
    "a named source is no analyst": ([(1, "chargeback", True), (2, "analyst", False)], True),
}


def test_which_label_counts(clean_postgres):
    values = [
        label_bytes(transaction_id=name, timestamp=NOW, known_at=days(after), source=source, is_fraud=fraud)
        for name, (labels, _) in LABELS.items()
        for after, source, fraud in labels
    ]
    records = {0: [Record(i, days(1), None, value) for i, value in enumerate(values)]}
    store_all(clean_postgres, records, "transaction_stream", ingest.labels)
    assert known(clean_postgres, days(100)) == sorted((name, fraud) for name, (_, fraud) in LABELS.items())


def test_a_verdict_changes_nothing_that_was_known_before_it_and_no_label_delay(clean_postgres):
    values = [
        label_bytes(transaction_id=f"t{n}", timestamp=NOW, known_at=days(n + 1), is_fraud=True)
        for n in range(3)
    ]
    records = {0: [Record(i, days(1), None, value) for i, value in enumerate(values)]}
    store_all(clean_postgres, records, "transaction_stream", ingest.labels)
    before = known(clean_postgres, days(5))
    verdict = label_bytes(
        transaction_id="t9", timestamp=NOW, known_at=days(5.1), source="analyst", is_fraud=True
    )
    records = {0: [Record(3, days(1), None, verdict)]}
    store_all(clean_postgres, records, "transaction_stream", ingest.labels)
    assert known(clean_postgres, days(5)) == before
    assert known(clean_postgres, days(6)) == [*before, ("t9", True)]
    with psycopg.connect(clean_postgres.conninfo("trainer")) as connection:
        labels = stored_rows.labels(connection, days(-1), days(1), days(6))
    assert np.sort(labels.delay)[:3].tolist() == [86_400.0, 2 * 86_400.0, 3 * 86_400.0]
    assert np.isnan(labels.delay).tolist().count(True) == 1  # the verdict's
