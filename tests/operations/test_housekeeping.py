"""Months pass on a real PostgreSQL, with both streams' real writes: partitions, retention, ids and the books."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial

import psycopg
import pytest

from include.features import behaviour
from include.operations import housekeeping, reconcile
from include.operations.housekeeping import StillLocked
from include.settings import Settings
from include.streams import claims, ingest, scoring, store
from include.streams.store import Range, Record, Summary, Writer
from tests.builders import NOW, event_bytes, label_bytes
from tests.payments import detector
from tests.stream_runs import query
from tests.waiting import PATIENCE

STORES, SCORES = "transaction_stream", "fraud_stream"
TOPIC, LABELS, TOPIC_ID = "transactions-data", "transaction-labels", "id-1"
TABLES = ("transactions", "fraud_scores")
DAY = timedelta(days=1)

pytestmark = pytest.mark.services


@pytest.fixture
def shop(clean_postgres: Settings) -> Iterator[Settings]:
    """Empty tables without partitions of months."""
    yield clean_postgres.model_copy(update={"history_days": 0})
    for table in TABLES:
        for name in months(clean_postgres, table):
            query(clean_postgres, f"drop table shop.{name}")


def months(settings: Settings, table: str) -> list[str]:
    rows = query(
        settings,
        f"select inhrelid::regclass::text from pg_inherits where inhparent = 'shop.{table}'::regclass order by 1",
    )
    return [name.removeprefix("shop.") for (name,) in rows if not name.endswith("_default")]


def number(settings: Settings, what: str) -> int:
    return query(settings, f"select count(*) from shop.{what}")[0][0]


class Streams:
    """Both streams' writes at a simulated time: what PostgreSQL's clock stamps is set back to it."""

    STAMPS = (
        ("transactions", "stored_at"),
        ("fraud_scores", "scored_at"),
        ("fraud_alerts", "created_at"),
        ("dead_letters", "at"),
        ("user_state", "written_at"),
        ("merchant_state", "written_at"),
        ("day_state", "written_at"),
    )

    def __init__(self, settings: Settings):
        self.settings = settings
        forest, threshold = detector()
        scorer = forest.scorer(threshold=threshold, version=1, feature_set=behaviour.FEATURE_SET)
        self.handlers = {
            (STORES, TOPIC): ingest.transactions,
            (SCORES, TOPIC): partial(scoring.scores, scorer),
            (STORES, LABELS): ingest.labels,
        }
        self.offsets: dict[tuple, int] = {}

    def write(
        self, stream: str, values: list[bytes], at: datetime, topic: str = TOPIC, partition: int = 0
    ) -> Summary:
        first = self.offsets.get((stream, topic, partition), 0)
        self.offsets[stream, topic, partition] = first + len(values)
        records = [Record(first + i, at, None, value) for i, value in enumerate(values)]
        span = Range.of(stream, topic, TOPIC_ID, partition, records)
        with store.connect(self.settings) as connection:
            writer = Writer(self.settings, stream, 0)
            return store.write(connection, writer, span, self.handlers[stream, topic])

    def both(self, values: list[bytes], at: datetime, partition: int = 0) -> Summary:
        """Stores and scores; what the stream of transactions said."""
        outcome = self.write(STORES, values, at, partition=partition)
        self.write(SCORES, values, at, partition=partition)
        stamp = f"update shop.{{0}} set {{1}} = '{at}' where {{1}} > '{NOW}'"
        query(self.settings, ";".join(stamp.format(*stamped) for stamped in self.STAMPS))
        return outcome


@pytest.fixture
def streams(shop: Settings) -> Streams:
    return Streams(shop)


def reconciled(settings: Settings, at: datetime) -> None:
    """What `reconcile` remembers when all is right."""
    columns = "stream, topic, partition, topic_id, next_offset, stored, dead_letters"
    query(
        settings,
        f"insert into shop.reconciled ({columns}, checked_at) select {columns}, '{at}' from shop.stream_offsets"
        " on conflict (stream, topic, partition) do update set next_offset = excluded.next_offset,"
        " stored = excluded.stored, dead_letters = excluded.dead_letters, checked_at = excluded.checked_at",
    )


def events(moment: datetime, count: int = 3) -> list[bytes]:
    return [event_bytes(timestamp=moment) for _ in range(count)]


def test_months_are_there_before_their_rows(shop, streams):
    now = datetime(2025, 1, 31, 23, tzinfo=UTC)
    housekeeping.make_months(shop.model_copy(update={"history_days": 40}), now)
    ahead = [
        f"{year}_{month:02d}" for year, month in [(2024, 12), (2025, 1), (2025, 2), (2025, 3), (2025, 4)]
    ]
    assert [months(shop, table) for table in TABLES] == [
        [f"{table}_{month}" for month in ahead] for table in TABLES
    ]
    streams.both(events(now) + events(now - 40 * DAY), now)
    assert [number(shop, f"{table}_2025_01") for table in TABLES] == [3, 3]
    assert [number(shop, f"{table}_default") for table in TABLES] == [0, 0]


def test_rows_without_a_partition_are_moved_when_their_month_is_made(shop, streams, monkeypatch):
    now = datetime(2025, 3, 10, tzinfo=UTC)
    monkeypatch.setattr(housekeeping, "MOVED_AT_ONCE", 4)
    january = [event_bytes(timestamp=now - 50 * DAY + timedelta(minutes=i // 7)) for i in range(30)]
    streams.both(january + events(now, 10), now)
    everything = (
        "select * from shop.transactions t join shop.fraud_scores s using (transaction_id) order by 1"
    )
    before = query(shop, everything)
    done = housekeeping.maintain(shop, now)
    assert "made shop.transactions_2025_01, 30 rows moved into it" in done
    assert "made shop.fraud_scores_2025_03, 10 rows moved into it" in done
    assert [number(shop, f"{table}_default") for table in TABLES] == [0, 0]
    assert [number(shop, f"{table}_2025_01") for table in TABLES] == [30, 30]
    assert query(shop, everything) == before
    assert housekeeping.maintain(shop, now) == []


def test_a_partition_has_what_its_table_has(shop):
    housekeeping.maintain(shop, datetime(2025, 3, 10, tzinfo=UTC))
    shape = (
        "select (select count(*) from pg_index where indrelid = c.oid and indisvalid),"
        " (select array_agg(pg_get_constraintdef(oid) order by conname) from pg_constraint where conrelid = c.oid),"
        " (select array_agg((attname, attnotnull, attcollation) order by attname) from pg_attribute"
        "  where attrelid = c.oid and attnum > 0) from pg_class c where oid = 'shop.{}'::regclass"
    )
    for table in TABLES:
        shapes = [query(shop, shape.format(f"{table}{part}")) for part in ("", "_default", "_2025_03")]
        assert shapes[0] == shapes[1] == shapes[2]


def test_a_move_that_was_interrupted_is_finished_by_the_next_run(shop, streams, monkeypatch):
    now = datetime(2025, 3, 10, tzinfo=UTC)
    streams.both([event_bytes(timestamp=now - timedelta(minutes=i)) for i in range(30)], now)
    monkeypatch.setattr(housekeeping, "MOVED_AT_ONCE", 10)
    grow, calls = housekeeping._grow, []

    def dies(*arguments):
        calls.append(arguments)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return grow(*arguments)

    monkeypatch.setattr(housekeeping, "_grow", dies)
    with pytest.raises(KeyboardInterrupt):
        housekeeping.maintain(shop, now)
    assert (number(shop, "transactions"), number(shop, "transactions_default")) == (30, 20)
    streams.both(events(now) + events(now - DAY), now)
    housekeeping.maintain(shop, now)
    assert (number(shop, "transactions_2025_03"), number(shop, "transactions_default")) == (36, 0)


def test_rows_older_than_any_partition_are_deleted_from_the_default_one(shop, streams):
    now = datetime(2025, 3, 10, tzinfo=UTC)
    short = shop.model_copy(update={"keep_transactions_days": 60, "keep_scores_days": 60})
    streams.both(events(now - 300 * DAY), now)
    for later in (now, now + 50 * DAY):
        reconciled(shop, later)
        housekeeping.maintain(short, later)
        assert number(shop, "transactions_default") == 3  # kept for as long since they were stored
    reconciled(shop, now + 70 * DAY)
    done = housekeeping.maintain(short, now + 70 * DAY)
    assert "deleted 3 rows of shop.transactions_default" in done
    assert number(shop, "transactions") == number(shop, "fraud_scores") == 0


def test_nothing_goes_that_was_not_reconciled(shop, streams):
    now = datetime(2025, 3, 10, tzinfo=UTC)
    short = shop.model_copy(
        update={"keep_transactions_days": 30, "keep_scores_days": 30, "keep_dead_letters_days": 30}
    )
    housekeeping.maintain(short, now)
    streams.both([*events(now), b"poison", *events(now - 400 * DAY)], now)
    later = now + 200 * DAY
    for _ in range(2):
        housekeeping.maintain(short, later)
        assert [number(shop, table) for table in (*TABLES, "dead_letters")] == [6, 6, 1]
        reconciled(shop, now - DAY)  # a run that found all right before these rows came
    reconciled(shop, now + DAY)
    done = housekeeping.maintain(short, later)
    assert {"dropped shop.transactions_2025_03", "dropped shop.fraud_scores_2025_03"} <= set(done)
    assert [number(shop, table) for table in (*TABLES, "dead_letters")] == [0, 0, 0]
    assert housekeeping.maintain(short, later) == []


def test_by_default_nothing_of_a_year_is_lost_and_zero_keeps_everything(shop, streams):
    now = datetime(2024, 3, 10, tzinfo=UTC)
    forever = {name: 0 for name in Settings.model_fields if name.startswith("keep_")}
    streams.both([*events(now), b"poison"], now)
    reconciled(shop, now + 2000 * DAY)
    tables = (
        *TABLES,
        "dead_letters",
        "transaction_ids",
        "scored_ids",
        "user_state",
        "merchant_state",
        "day_state",
    )
    before = [number(shop, table) for table in tables]
    housekeeping.maintain(shop, now + 366 * DAY)
    housekeeping.maintain(shop.model_copy(update=forever), now + 1900 * DAY)
    assert [number(shop, table) for table in tables] == before
    housekeeping.maintain(shop, now + 1900 * DAY)
    assert [number(shop, table) for table in tables] == [0] * len(tables)


def test_an_id_is_known_across_months_until_it_is_forgotten(shop, streams):
    now = datetime(2025, 1, 20, tzinfo=UTC)
    short = shop.model_copy(
        update={"keep_transactions_days": 30, "keep_scores_days": 30, "keep_ids_days": 90}
    )
    first = event_bytes(transaction_id="t-1", timestamp=now)
    streams.both([first], now)
    for later in (now + 20 * DAY, now + 70 * DAY):  # the second time, its rows are gone
        reconciled(shop, later)
        housekeeping.maintain(short, later)
        again = event_bytes(transaction_id="t-1", timestamp=later)
        outcome = streams.both([first, again], later)
        assert (outcome.stored, outcome.duplicates, outcome.dead_letters) == (0, 1, 1)
    assert number(shop, "transactions") == 0
    later = now + 98 * DAY
    reconciled(shop, later)
    housekeeping.maintain(short, later)
    assert number(shop, "transaction_ids") == number(shop, "scored_ids") == 0
    outcome = streams.both([first], later)
    assert outcome.stored == number(shop, "fraud_scores") == 1


def test_an_id_outlives_its_row_whatever_the_settings_say(shop, streams):
    now = datetime(2025, 1, 20, tzinfo=UTC)
    odd = shop.model_copy(update={"keep_ids_days": 1, "keep_labels_days": 1})
    event = event_bytes(transaction_id="t-1", timestamp=now)
    streams.both([event], now)
    label = label_bytes(transaction_id="t-1", timestamp=now, known_at=now)
    streams.write(STORES, [label], now, LABELS)
    reconciled(shop, now + 200 * DAY)
    housekeeping.maintain(odd, now + 200 * DAY)
    kept = ("transaction_ids", "scored_ids", "fraud_transactions")
    assert [number(shop, table) for table in kept] == [1, 1, 1]
    assert streams.both([event], now).duplicates == 1
    housekeeping.maintain(odd, now + 500 * DAY)
    assert [number(shop, table) for table in (*TABLES, *kept)] == [0] * 5


def test_an_id_of_the_scores_is_forgotten_before_the_same_one_of_the_transactions(shop, streams):
    """Otherwise an event that is stored anew had no score."""
    now = datetime(2025, 1, 20, tzinfo=UTC)
    longer = shop.model_copy(
        update={"keep_transactions_days": 30, "keep_scores_days": 200, "keep_ids_days": 60}
    )
    event = event_bytes(timestamp=now)
    streams.both([event], now)
    for days, left in ((100, [0, 1, 1, 1]), (250, [0, 0, 0, 0])):
        reconciled(shop, now + days * DAY)
        housekeeping.maintain(longer, now + days * DAY)
        assert [number(shop, table) for table in (*TABLES, "transaction_ids", "scored_ids")] == left


def test_an_id_that_is_forgotten_while_it_is_claimed_is_new(shop):
    forgets = claims.TRANSACTION_IDS._replace(
        known="with gone as (delete from shop.transaction_ids where transaction_id = any(%s))"
        " select '', 0::bigint where false"
    )
    query(shop, f"insert into shop.transaction_ids values ('t-1', 5, '{NOW}')")
    wanted = [claims.Claim(name, 6, NOW) for name in ("t-1", "t-2")]
    with psycopg.connect(shop.conninfo("owner")) as owner:
        assert claims.claim(owner, Writer(shop, STORES, 0), forgets, wanted) == [claims.ClaimResult.NEW] * 2


def test_alerts_labels_letters_and_states_go_when_their_time_has_come(shop):
    now = datetime(2025, 6, 1, tzinfo=UTC)
    for i, days in enumerate((10, 100)):
        at = now - days * DAY
        query(
            shop,
            f"""insert into shop.fraud_alerts values ('t{i}', 'u', '{at}', 1, 1, 1, 1, '[]', 'topic', 0, {i}, '{at}');
            insert into shop.fraud_transactions values ('t{i}', '{at}', true, '{at}');
            insert into shop.known_labels (transaction_id, timestamp, known_at, is_fraud, merchant, counts_from)
            values ('t{i}', '{at}', '{at}', true, 'm', '{at}'), ('f{i}', '{at}', '{at}', true, 'm', null);
            insert into shop.known_frauds values ('merchant', 'm', '{at}', '{at}', {i});
            insert into shop.user_state values ('u{i}', 0, 1, '', '{at}');
            insert into shop.merchant_state values ('m{i}', 0, 1, '', '{at}');
            insert into shop.day_state values ('country:c{i}', 0, 1, '', '{at}');
            insert into shop.verdicts (transaction_id, is_fraud, analyst, at) values ('t{i}', true, 'a', '{at}');
            insert into shop.dead_letters (reason, detail, topic, partition, "offset", at, replayed_at)
            values ('blank', '', 'topic', 0, {i}, '{at}', null), ('blank', '', 'topic', 1, {i}, '{at}', '{at}'),
                   ('id_conflict', '', 'topic', 2, {i}, '{at}', '{at}')""",
        )
    query(
        shop,
        "insert into shop.stream_offsets values ('transaction_stream', 'topic', 0, '', 0, 9, 9, 0, 0, 0, 0, 0)",
    )
    reconciled(shop, now)
    tables = (
        "fraud_alerts",
        "fraud_transactions",
        "known_labels",
        "known_frauds",
        "user_state",
        "merchant_state",
        "day_state",
        "verdicts",
        "dead_letters",
    )
    assert housekeeping.maintain(shop, now)[-1] == "deleted 1 rows of shop.dead_letters"
    assert [number(shop, table) for table in tables] == [2, 2, 4, 2, 2, 2, 2, 2, 5]
    names = ("alerts", "labels", "states", "dead_letters")
    housekeeping.maintain(shop.model_copy(update={f"keep_{name}_days": 50 for name in names}), now)
    assert [number(shop, table) for table in tables] == [1, 1, 2, 1, 1, 1, 1, 2, 3]


def test_many_rows_are_deleted_in_small_batches_and_a_locked_one_is_left(shop, monkeypatch):
    monkeypatch.setattr(housekeeping, "DELETED_AT_ONCE", 7)
    now = datetime(2025, 6, 1, tzinfo=UTC)
    query(
        shop,
        "insert into shop.user_state select 'u' || i, 0, 1, '', timestamptz '2020-01-01' from generate_series(1, 50) i",
    )
    with store.connect(shop) as stream, stream.transaction():
        stream.execute("update shop.user_state set layout = 2, written_at = now() where user_id = 'u33'")
        assert "deleted 49 rows of shop.user_state" in housekeeping.maintain(shop, now)
    assert housekeeping.maintain(shop, now) == []
    assert query(shop, "select user_id from shop.user_state") == [("u33",)]


def test_a_stream_that_writes_all_the_time_is_not_stopped(shop, streams, monkeypatch):
    """Rows of three months come in while their months are made, moved in many steps and dropped."""
    monkeypatch.setattr(housekeeping, "MOVED_AT_ONCE", 20)
    monkeypatch.setattr(housekeeping, "PAUSE", 0.05)
    now = datetime(2025, 3, 10, tzinfo=UTC)
    housekeeping.maintain(shop, datetime(2024, 1, 10, tzinfo=UTC))
    streams.both([event_bytes(timestamp=now - (i % 60) * DAY) for i in range(300)], now)
    stopping, failures, written = threading.Event(), [], []

    def write() -> None:
        try:
            while not stopping.is_set():
                batch = [event_bytes(timestamp=now - (i % 60) * DAY) for i in range(20)]
                streams.write(STORES, batch, now)
                streams.write(SCORES, batch, now)
                written.append(len(batch))
        except psycopg.Error as error:
            failures.append(error)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        done = housekeeping.maintain(shop, now)
    finally:
        stopping.set()
        thread.join(PATIENCE)
    assert failures == [] and written and not thread.is_alive()
    assert "made shop.transactions_2025_01" in str(done)
    housekeeping.maintain(shop, now)
    assert [number(shop, table) for table in TABLES] == [300 + sum(written)] * 2
    assert [number(shop, f"{table}_default") for table in TABLES] == [0, 0]


def test_a_reader_that_stays_for_long_is_not_queued_behind(shop, streams, monkeypatch):
    """The drop gives up its place: the stream goes on though a reader keeps the table for hours."""
    monkeypatch.setattr(housekeeping, "ATTEMPTS", 2)
    monkeypatch.setattr(housekeeping, "PAUSE", 0.0)
    now = datetime(2025, 3, 10, tzinfo=UTC)
    housekeeping.maintain(shop, now)
    streams.both(events(now), now)
    later = now + 500 * DAY
    reconciled(shop, later)
    refusals = []

    def run() -> None:
        try:
            housekeeping.maintain(shop, later)
        except StillLocked as refusal:
            refusals.append(refusal)

    thread = threading.Thread(target=run)
    with psycopg.connect(shop.conninfo("trainer")) as reader:
        reader.execute("select transaction_id from shop.transactions")
        thread.start()
        while thread.is_alive():
            assert streams.both(events(now), now).stored == 3
        thread.join()
    assert "shop.transactions was in use" in str(refusals[0])
    reconciled(shop, later)
    assert "dropped shop.transactions_2025_03" in housekeeping.maintain(shop, later)


def test_two_at_a_time_take_turns(shop, monkeypatch):
    monkeypatch.setattr(housekeeping, "ATTEMPTS", 1)
    with (
        housekeeping._owner(shop) as first,
        housekeeping._alone(first),
        pytest.raises(StillLocked, match="another housekeeping"),
    ):
        housekeeping.maintain(shop)


def test_the_streams_may_not_delete_nor_make_partitions(shop):
    for statement in (
        "delete from shop.transaction_ids",
        "drop table shop.transactions_default",
        "create table shop.x partition of shop.transactions for values from ('2020-01-01') to ('2020-02-01')",
    ):
        with store.connect(shop) as stream, pytest.raises(psycopg.errors.InsufficientPrivilege):
            stream.execute(statement)


def test_a_year_passes(shop, streams, monkeypatch):
    """Week after week through the streams' writes; the reconciliation counts, housekeeping runs, nothing grows."""
    monkeypatch.setattr(reconcile, "_broker", lambda settings: {})  # ledger and rows; there is no broker
    kept = {name: 60 for name in Settings.model_fields if name.startswith("keep_")}
    short = shop.model_copy(update=kept | {"keep_ids_days": 120, "keep_replayed_dead_letters_days": 14})
    now = datetime(2024, 12, 1, tzinfo=UTC)
    housekeeping.make_months(short.model_copy(update={"history_days": 20}), now)
    tables = (*TABLES, "transaction_ids", "scored_ids", "dead_letters", "fraud_transactions", "user_state")
    sizes, earlier = [], None
    for week in range(54):
        now += 7 * DAY
        for partition in (0, 1):
            moments = [now - i * DAY for i in range(7)] + [now - 20 * DAY]  # one of them days late
            user = f"user-{week}-{partition}"
            fresh = [event_bytes(user_id=user, timestamp=moment, is_fraud=False) for moment in moments]
            known = [earlier, earlier] if earlier and partition == 0 else []
            outcome = streams.both([*fresh, *known, fresh[0], b"poison"], now, partition)
            assert (outcome.stored, outcome.duplicates, outcome.dead_letters) == (8, 1 + len(known), 1)
            if partition == 0:
                other = event_bytes(transaction_id=f"t-{week - 10}", timestamp=now)
                own = event_bytes(transaction_id=f"t-{week}", timestamp=now)
                outcome = streams.both([own, other], now)
                assert (outcome.stored, outcome.dead_letters) == ((1, 1) if week >= 10 else (2, 0))
                earlier = own if week % 12 == 0 else earlier  # comes again, in other months
        assert [number(shop, f"{table}_default") for table in TABLES] == [0, 0]
        assert reconcile.reconcile(short) == []
        query(shop, f"update shop.reconciled set checked_at = '{now}'")
        housekeeping.maintain(short, now)
        if week % 9 == 0:
            assert housekeeping.maintain(short, now) == []
            assert reconcile.open_ranges(short) == []
        sizes.append(
            [number(shop, table) for table in tables] + [len(months(shop, table)) for table in TABLES]
        )
    grown = [column for column in zip(*sizes, strict=True) if max(column[37:]) > max(column[20:37])]
    assert grown == []
    assert f"{TABLES[0]}_{now + 89 * DAY:%Y_%m}" in months(shop, TABLES[0])
    assert max(sizes[-1][-2:]) <= 8
    twice = "select transaction_id from shop.transactions group by 1 having count(*) > 1"
    assert query(shop, twice) == []
