"""The books are closed for a log that was stored right, and open, in the right place, for every kind of wrong."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import psycopg
import pytest

from include.broker import kafka
from include.faults import books, producer
from include.faults.acknowledged import ALLOWED, LIST, Acknowledged, Appender
from include.faults.books import Books
from include.faults.events import EventKind, Events
from include.features import behaviour
from include.settings import Settings
from include.sql import statement
from include.streams import FRAUD_STREAM, STREAMS, TRANSACTION_STREAM, ingest, known_labels, scoring, store
from include.streams.store import Range, Record
from tests.payments import detector
from tests.stream_runs import own, query

COUNT = 600

pytestmark = pytest.mark.services


class Desk:
    """What the books need of a stack, with the streams' writes made here instead of in Spark."""

    def __init__(self, settings: Settings, home: Path):
        self.settings = settings
        self.events = Events(3, datetime.now(UTC) - timedelta(days=3))
        self.list = home / LIST
        self.streams = STREAMS
        forest, threshold = detector()
        scorer = forest.scorer(threshold=threshold, version=1, feature_set=behaviour.FEATURE_SET)
        self.handlers = {
            (TRANSACTION_STREAM, settings.transactions_topic): ingest.transactions,
            (TRANSACTION_STREAM, settings.labels_topic): ingest.labels,
            (FRAUD_STREAM, settings.transactions_topic): partial(scoring.scores, scorer),
            (FRAUD_STREAM, settings.labels_topic): known_labels.labels,
        }

    def query(self, statement: str) -> list[tuple]:
        return query(self.settings, statement)

    def superuser(self) -> str:
        return self.settings.conninfo("owner")

    def write_all(self, size: int = 100, isolation: str = "read_committed") -> None:
        """Writes every record that a reader of this isolation gets, in ranges of `size` offsets."""
        for stream, topic in self.handlers:
            topic_id = kafka.topic_id(self.settings, topic)
            records = read(self.settings, topic, isolation)
            writer = store.Writer(self.settings, stream, 0)
            for partition, (_, last) in kafka.bounds(self.settings, topic).items():
                for first in range(0, last, size):
                    end = min(first + size, last)
                    inside = [record for record in records[partition] if first <= record.offset < end]
                    span = Range(stream, topic, topic_id, partition, first, end, inside)
                    with store.connection(self.settings) as connection:
                        store.write(connection, writer, span, self.handlers[stream, topic])

    def close(self) -> Books:
        return books.close(self)


def read(settings: Settings, topic: str, isolation: str) -> dict[int, list[Record]]:
    """Every record of a topic by partition."""
    records: dict[int, list[Record]] = defaultdict(list)
    reader_config = kafka.reader_config
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            kafka,
            "reader_config",
            lambda *args, **more: reader_config(*args, **more) | {"isolation.level": isolation},
        )
        messages = list(kafka.records(settings, topic, kafka.bounds(settings, topic)))
    for message in messages:
        at = datetime.fromtimestamp(message.timestamp()[1] / 1000, UTC)
        records[message.partition()].append(Record(message.offset(), at, message.key(), message.value()))
    return records


@pytest.fixture
def desk(clean_postgres: Settings, kafka: Settings, tmp_path) -> Iterator[Desk]:
    """Events that the broker acknowledged, and a database with the campaign's journal."""
    settings = own(clean_postgres, tmp_path)
    desk = Desk(settings, tmp_path)
    query(settings, statement("faults/journal"))
    (tmp_path / ALLOWED).write_text(str(COUNT))
    producer.send(settings, tmp_path, desk.events, COUNT)
    yield desk
    query(settings, "drop schema campaign cascade")


def test_they_are_closed_when_all_is_right(desk):
    desk.write_all()
    result = desk.close()
    assert result.closed and result.problems == []
    assert result.acknowledged == COUNT == result.offsets - result.without_record
    assert result.without_record > result.aborted == COUNT / 4
    kinds = [desk.events.event(number).kind for number in range(COUNT)]
    assert result.transactions == result.scores == kinds.count(EventKind.NEW)
    assert result.duplicates == kinds.count(EventKind.DUPLICATE)
    assert result.dead_letters == sum(
        kinds.count(kind) for kind in (EventKind.POISON, EventKind.POISON_LABEL, EventKind.CONFLICT)
    )
    assert result.labels > kinds.count(EventKind.LABEL) > 0


def test_events_that_were_sent_again_are_duplicates(desk, tmp_path):
    (tmp_path / LIST).unlink()
    producer.send(desk.settings, tmp_path, desk.events, COUNT)
    desk.write_all()
    result = desk.close()
    assert result.closed and result.offsets - result.without_record == 2 * COUNT
    assert result.duplicates > COUNT * 0.8


def test_aborted_records_that_are_stored_are_reported(desk):
    desk.write_all(isolation="read_uncommitted")
    result = desk.close()
    assert result.unaccounted > result.aborted == COUNT / 4
    payments, labels, ledgers = result.problems[0], result.problems[1], result.problems[2:]
    aborted = [desk.events.aborted(number) for number in range(COUNT) if number // producer.GROUP % 4 == 1]
    assert payments.startswith(
        f"{sum(not event.is_label for event in aborted)} aborted records that are stored"
    )
    assert labels.startswith(
        f"{sum(event.is_label or event.known_at is not None for event in aborted)} labels that"
    )
    assert all("ledger" in problem or "known labels" in problem for problem in ledgers)


def test_an_id_belongs_to_whichever_event_came_first():
    event = Events(3, datetime(2026, 11, 20, tzinfo=UTC)).event
    conflict = next(event(n) for n in range(COUNT) if event(n).kind is EventKind.CONFLICT)
    original = next(event(n) for n in range(COUNT) if event(n).transaction_id == conflict.transaction_id)
    positions = [("t", 0, offset) for offset in range(4)]
    log = dict(zip(positions, (conflict, original, conflict, original), strict=True))
    fates = ["stored", "dead letter", "duplicate", "dead letter"]
    assert [fate.value for fate in books._fates(log).values()] == fates


def first_of(table: str, column: str = "transaction_id", where: str = "true") -> str:
    """A statement that deletes the row with the least value of a column."""
    least = f'select min("{column}") from shop.{table} where {where}'
    return f'delete from shop.{table} where {where} and "{column}" = ({least})'


def owner(statement: str) -> Callable[[Desk], None]:
    return lambda desk: query(desk.settings, statement)


def replay_by_a_driver_that_was_replaced(desk: Desk) -> None:
    query(desk.settings, "update shop.stream_offsets set epoch = 5")
    query(desk.settings, "update shop.stream_offsets set epoch = 4, next_offset = next_offset")


def one_that_the_broker_never_had(desk: Desk) -> None:
    writer = Appender(desk.list)
    writer.add([Acknowledged(COUNT, False, 0, 10_000_000, 0.0)])
    writer.sync()


TWICE = "insert into shop.{0} select * from shop.{0} limit 1"
ALSO_DEAD = """
insert into shop.dead_letters (reason, detail, topic, partition, "offset", topic_id)
select 'blank', '', topic, partition, "offset", 'x' from shop.transactions limit 1"""
GHOST = """
insert into shop.transactions (transaction_id, user_id, timestamp, amount, topic, partition, "offset", broker_time)
values ('ghost', 'u', now(), 1, 't', 0, 0, now())"""
OTHER_FEATURES = """
update shop.fraud_scores set features[5] = features[5] + 1
where transaction_id = (select min(transaction_id) from shop.fraud_scores)"""
WRONGS = {
    "a transaction lost": (owner(first_of("transactions")), {"lost", "unaccounted"}),
    "a dead letter lost": (owner(first_of("dead_letters", "offset")), {"lost"}),
    "a label lost": (owner(first_of("fraud_transactions")), {"lost"}),
    "a label that the scores lost": (owner(first_of("known_labels")), {"lost"}),
    "a label that counts before it is known": (
        owner("update shop.known_labels set counts_from = known_at::date"),
        {"wrong_features"},
    ),
    "a score lost": (owner(first_of("fraud_scores", where="not is_alert")), {"lost"}),
    "an acknowledged event that the broker does not hold": (one_that_the_broker_never_had, {"lost"}),
    "a transaction twice": (owner(TWICE.format("transactions")), {"duplicated"}),
    "a score twice": (owner(TWICE.format("fraud_scores")), {"duplicated"}),
    "a transaction and a dead letter": (
        owner(ALSO_DEAD),
        {"duplicated", "unaccounted"},
    ),
    "a transaction from nowhere": (
        owner(GHOST),
        {"unaccounted", "lost"},
    ),
    "an alert lost": (owner(first_of("fraud_alerts")), {"unaccounted"}),
    "a ledger with other counts": (
        owner("update shop.stream_offsets set stored = stored - 1, duplicates = duplicates + 1 where stored > 0"),
        {"unaccounted", "repeated_ranges"},
    ),
    "a driver that was replaced commits": (replay_by_a_driver_that_was_replaced, {"stale_commits", "repeated_ranges"}),
    "a state that an event changed twice": (
        owner(OTHER_FEATURES),
        {"wrong_features"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONGS)
def test_they_are_open_in_the_right_place_for(desk, name):
    make_wrong, expected = WRONGS[name]
    desk.write_all()
    make_wrong(desk)
    result = desk.close()
    assert {count for count, number in result.wrong.items() if number} == expected, result.problems
    assert not result.closed and result.problems


def test_what_was_not_read_is_lost_and_unaccounted(desk):
    desk.write_all()
    producer_count = COUNT + 20
    (desk.list.parent / ALLOWED).write_text(str(producer_count))
    producer.send(desk.settings, desk.list.parent, desk.events, producer_count)
    result = desk.close()
    assert result.lost >= 10 and result.unaccounted >= 20 and not result.duplicated


def test_a_second_write_of_a_range_changes_nothing(desk):
    desk.write_all()
    before = desk.close()
    desk.write_all(size=37)
    assert desk.close() == before


def test_records_that_are_not_the_campaigns_are_refused(desk):
    with pytest.raises(ValueError, match="is not what was sent"):
        desk.events = Events(4, desk.events.start)
        desk.close()


def test_a_dead_database_is_not_closed(desk):
    desk.settings = desk.settings.model_copy(update={"postgres_port": 1})
    with pytest.raises(psycopg.OperationalError):
        desk.close()
