"""The whole table of bad input and a flood of mutated messages, through a real broker and both streams under Spark.

Afterwards the books are closed from outside: each record is sent again, in mind, and looked up where it ended. What a
stored row must say is read from the record by Python's own JSON parser, not by the decoder that is tested.

`pytest -m campaign -s tests/spark_jobs/test_bad_input.py` sends a million messages and prints what became of them.
"""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import chain
from pathlib import Path
from typing import NamedTuple
from zlib import crc32

import psycopg
import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource

from include.broker import kafka as broker
from include.events.label import decode_label
from include.events.transaction import NUMBERS, Reason, Rejected, Transaction, decode
from include.settings import Settings
from tests.bad_input import DUPLICATE, STORED, UNKNOWN_FIELDS, Case, cases
from tests.builders import NOW, label_event
from tests.fuzz_messages import messages
from tests.payments import keep_champion
from tests.stream_runs import Submitted, books, own, query, use_producer_time
from tests.waiting import PATIENCE

TRANSACTIONS, SCORES = "transaction_stream", "fraud_stream"
PARTITIONS = 2
SEED = 11

pytestmark = [pytest.mark.services, pytest.mark.timeout(3_600)]


@pytest.fixture
def shop(clean_postgres: Settings, kafka: Settings, tmp_path: Path) -> Settings:
    """Topics that keep records of any age with their producer's time, and a champion for the scoring stream."""
    settings = own(
        clean_postgres, tmp_path, kafka_partitions=PARTITIONS, mlflow_tracking_uri="http://127.0.0.1:9"
    )
    kept = [ConfigEntry("retention.ms", "-1", incremental_operation=AlterConfigOpType.SET)]
    topics = [
        ConfigResource(ConfigResource.Type.TOPIC, name, incremental_configs=kept)
        for name in (settings.transactions_topic, settings.labels_topic)
    ]
    admin = AdminClient(broker.client_config(settings))
    for changed in admin.incremental_alter_configs(topics).values():
        changed.result(PATIENCE)
    for topic in (settings.transactions_topic, settings.labels_topic):
        use_producer_time(settings, topic)
    keep_champion(settings)
    return settings


class Sent(NamedTuple):
    """A record as it lies in Kafka; becomes: what the table says of it, None for a mutated message."""

    partition: int
    offset: int
    key: bytes
    value: bytes | None
    becomes: str | None = None
    case: Case | None = None


def transactions(count: int) -> Iterator[Sent]:
    """The table in partition 0, then the flood: the same records each time."""
    next_offset = [0] * PARTITIONS
    table = ((0, b"table", case.value, case.becomes, case) for case in cases())
    flood = ((crc32(key) % PARTITIONS, key, value, None, None) for key, value in messages(count, SEED))
    for partition, *rest in chain(table, flood):
        yield Sent(partition, next_offset[partition], *rest)
        next_offset[partition] += 1


def labels(count: int) -> Iterator[Sent]:
    for offset, (key, value) in enumerate(messages(count, SEED, label_event)):
        yield Sent(0, offset, key, value)


def send(settings: Settings, topic: str, records: Iterator[Sent]) -> int:
    """Sends records so that each gets its offset, with `NOW` as the broker's time; returns their number."""
    failures: list[object] = []
    producer = Producer(
        broker.client_config(settings, enable_idempotence=True, linger_ms=20, message_max_bytes=1_048_000)
    )

    def delivered(error, message) -> None:
        if error:
            failures.append(error)

    number = 0
    for record in records:
        while True:
            try:
                producer.produce(
                    topic,
                    record.value,
                    record.key,
                    partition=record.partition,
                    timestamp=int(NOW.timestamp() * 1000),
                    on_delivery=delivered,
                )
                break
            except BufferError:
                producer.poll(0.1)
        producer.poll(0)
        number += 1
    assert producer.flush(PATIENCE) == 0 and not failures, failures[:3]
    return number


# Where a record ended, read in the order of its partition


FIELDS = Transaction.__struct_fields__


class Ended(NamedTuple):
    """Where a record ended; reason and row are None for a duplicate."""

    reason: str | None = None
    key: bytes | None = None
    value: bytes | None = None
    row: str | None = None


class Places:
    """What PostgreSQL holds of each record, asked for in ascending offsets of each partition."""

    def __init__(self, connection: psycopg.Connection, topic: str, transactions: bool):
        self._rows = [
            self._read(connection, topic, partition, transactions) for partition in range(PARTITIONS)
        ]
        self._next = [next(rows, None) for rows in self._rows]

    @staticmethod
    def _read(
        connection: psycopg.Connection, topic: str, partition: int, transactions: bool
    ) -> Iterator[tuple]:
        cursor = connection.cursor(f"partition_{partition}_{transactions}")
        cursor.itersize = 5_000
        letters = 'select "offset", reason, key, value, null from shop.dead_letters'
        where = "where topic = %(topic)s and partition = %(partition)s"
        rows = (
            f'union all select "offset", null, null, null, to_jsonb(t)::text from shop.transactions t {where}'
            if transactions
            else ""
        )
        arguments = {"topic": topic, "partition": partition}
        yield from cursor.execute(f"{letters} {where} {rows} order by 1", arguments)

    def of(self, sent: Sent) -> Ended:
        row = self._next[sent.partition]
        if row is None or row[0] > sent.offset:
            return Ended()
        assert row[0] == sent.offset, f"{row[0]} comes twice, or was never sent"
        self._next[sent.partition] = next(self._rows[sent.partition], None)
        return Ended(*row[1:])

    def assert_empty(self) -> None:
        assert self._next == [None] * PARTITIONS


def moment(text: str) -> datetime:
    when = datetime.fromisoformat(text.upper())
    return when.astimezone(UTC) if when.tzinfo else when.replace(tzinfo=UTC)


CONVERT = {
    "timestamp": moment, "amount": Decimal, **dict.fromkeys(("latitude", "longitude", *NUMBERS), float)
}  # fmt: skip


def content(fields: dict) -> tuple:
    """What the fields of an event or of a stored row say, whatever their form."""
    values = ((name, fields.get(name)) for name in FIELDS)
    return tuple(v if v is None else CONVERT.get(name, str)(v) for name, v in values)


def exact(value: str | bytes) -> dict:
    return json.loads(value, parse_float=str, parse_int=str)


class Tally:
    """What became of all records of the transactions' topic, each checked on the way."""

    def __init__(self, settings: Settings):
        self.limits = {
            "max_bytes": settings.max_event_bytes,
            "future_tolerance": timedelta(seconds=settings.future_tolerance_seconds),
        }
        self.became: Counter[str] = Counter()
        self.by_partition = [Counter() for _ in range(PARTITIONS)]
        self.owners: dict[str, int] = {}
        self.others: list[tuple[str, str, int]] = []

    def add(self, sent: Sent, ended: Ended) -> None:
        becomes = ended.reason or (STORED if ended.row else DUPLICATE)
        assert becomes in (*Reason, STORED, DUPLICATE), becomes
        if sent.case:
            assert becomes == sent.becomes, sent.case.name
        if ended.reason:
            assert (ended.key, ended.value) == (sent.key, sent.value), sent
        try:
            decode(sent.value, NOW, **self.limits)
        except Rejected as rejected:
            assert becomes == rejected.reason, sent
        else:
            assert becomes in (STORED, DUPLICATE, Reason.ID_CONFLICT), sent
            self._account(sent, becomes, ended.row)
        self.became[becomes] += 1
        kind = becomes if becomes in (STORED, DUPLICATE) else "dead letter"
        self.by_partition[sent.partition][kind] += 1

    def _account(self, sent: Sent, becomes: str, row: str | None) -> None:
        event = exact(sent.value.decode())
        values = content(event)
        digest = hash((values, event.get("is_fraud")))
        if row is None:
            self.others.append((event["transaction_id"], becomes, digest))
            return
        stored = exact(row)
        assert content(stored) == values, sent
        assert event["transaction_id"] not in self.owners, f"stored twice: {sent}"
        self.owners[event["transaction_id"]] = digest
        if sent.case:
            columns = dict(zip(FIELDS, values, strict=True)) | {"late": stored["late"]}
            assert {name: columns[name] for name in sent.case.row} == sent.case.row, sent.case.name

    def assert_duplicates_are_identical(self) -> None:
        for transaction_id, becomes, digest in self.others:
            assert (self.owners[transaction_id] == digest) == (becomes == DUPLICATE), transaction_id


def assert_every_label_has_one_disposition(settings: Settings, count: int) -> Counter:
    """The dead letters are those that the decoder says, with the bytes that were sent; the rest is counted."""
    became: Counter[str] = Counter()
    limits = Tally(settings).limits
    with psycopg.connect(settings.conninfo("owner")) as connection:
        places = Places(connection, settings.labels_topic, transactions=False)
        for sent in labels(count):
            ended = places.of(sent)
            if ended.reason:
                assert (ended.key, ended.value) == (sent.key, sent.value), sent
            try:
                decode_label(sent.value, NOW, **limits)
            except Rejected as rejected:
                assert ended.reason == rejected.reason, sent
            else:
                assert ended.reason in (None, Reason.ID_CONFLICT), sent
            became[ended.reason or "label"] += 1
        places.assert_empty()
    return became


def summary(count: int, seconds: dict[str, float], load: float, became: dict[str, Counter]) -> str:
    parts = [f"{count:,} mutated messages, load {load:.1f} before"]
    parts += [f"  {what}: {value:.1f} s" for what, value in seconds.items()]
    for topic, counted in became.items():
        parts += [f"  {topic}: {number:,} {name}" for name, number in counted.most_common()]
    return "\n".join(parts)


@pytest.mark.parametrize("count", [20_000, pytest.param(1_000_000, marks=pytest.mark.campaign)])
def test_every_record_has_exactly_one_disposition(shop, tmp_path, count):
    load, started = os.getloadavg()[0], time.monotonic()
    seconds = {}

    def lap(what: str) -> None:
        seconds[what] = time.monotonic() - started - sum(seconds.values())

    sent = send(shop, shop.transactions_topic, transactions(count))
    sent_labels = send(shop, shop.labels_topic, labels(count // 10))
    lap("sent")
    with (
        Submitted(shop, TRANSACTIONS, tmp_path / "transactions.log") as storing,
        Submitted(shop, SCORES, tmp_path / "scores.log") as scoring,
    ):
        storing.until(lambda: books(shop, TRANSACTIONS)[0], 240)
        scoring.until(lambda: books(shop, SCORES)[0], 240)
        lap("both streams commit")
        patience = 60 + count / 1_000
        storing.until(lambda: books(shop, TRANSACTIONS)[0] == sent + sent_labels, patience)
        scoring.until(lambda: books(shop, SCORES)[0] == sent + sent_labels, patience)
        lap("all was read")

    tally = Tally(shop)
    with psycopg.connect(shop.conninfo("owner")) as connection:
        places = Places(connection, shop.transactions_topic, transactions=True)
        for message in transactions(count):
            tally.add(message, places.of(message))
        places.assert_empty()
    tally.assert_duplicates_are_identical()
    labelled = assert_every_label_has_one_disposition(shop, count // 10)
    assert_the_ledger_agrees(shop, tally)
    assert_each_stored_transaction_is_scored_once(shop)
    lap("the books were closed")
    print(summary(count, seconds, load, {"transactions": tally.became, "labels": labelled}))

    assert set(tally.became) == {STORED, DUPLICATE, *Reason}
    assert tally.became[STORED] > 0.3 * count


def assert_the_ledger_agrees(settings: Settings, tally: Tally) -> None:
    ledger = query(
        settings,
        "select partition, next_offset - first_offset, stored, dead_letters, duplicates from shop.stream_offsets "
        f"where stream = '{TRANSACTIONS}' and topic = '{settings.transactions_topic}' order by 1",
    )
    counted = [
        (number, counts.total(), counts[STORED], counts["dead letter"], counts[DUPLICATE])
        for number, counts in enumerate(tally.by_partition)
    ]
    assert ledger == counted
    unknown = query(settings, "select sum(unknown_fields) from shop.stream_offsets")
    assert unknown[0][0] >= UNKNOWN_FIELDS


def assert_each_stored_transaction_is_scored_once(settings: Settings) -> None:
    """A score counts for the event (topic, partition, offset) that shop.transactions holds."""
    stored, unscored = query(
        settings,
        "select count(*), count(*) filter (where s.scores is distinct from 1) from shop.transactions t left join "
        '(select topic, partition, "offset", transaction_id, count(*) as scores from shop.fraud_scores '
        'group by 1, 2, 3, 4) s using (topic, partition, "offset", transaction_id)',
    )[0]
    assert stored > 0 and unscored == 0
