"""Ranges of Kafka partitions into a real PostgreSQL: the frame of every write, with a handler that counts."""

from __future__ import annotations

import os
import socket
import threading
from datetime import UTC, datetime

import psycopg
import pytest

from include.broker.kafka import Bounds
from include.settings import Settings
from include.streams import store
from include.streams.store import (
    DeadLetter,
    Fenced,
    OffsetGap,
    Outcome,
    Range,
    Record,
    TopicRecreated,
    Writer,
)
from tests.conftest import read
from tests.stream_runs import query
from tests.waiting import PATIENCE

AT = datetime(2026, 11, 20, 12, tzinfo=UTC)
STREAM = "transaction_stream"

pytestmark = pytest.mark.services


@pytest.fixture
def shop(clean_postgres: Settings) -> Settings:
    with psycopg.connect(clean_postgres.conninfo("owner"), autocommit=True) as owner:
        owner.execute("update shop.stream_leases set epoch = 3 where stream = %s", (STREAM,))
    return clean_postgres


@pytest.fixture
def writer(shop: Settings) -> Writer:
    return Writer(shop, STREAM, 3)


def span(first: int, end: int, partition: int = 0, topic_id: str = "id-1") -> Range:
    records = [Record(offset, AT, b"key", b"value") for offset in range(first, end)]
    return Range.of(STREAM, "transactions-data", topic_id, partition, records)


class Keep:
    """A handler that stores nothing and remembers which offsets it was given."""

    def __init__(self):
        self.offsets = []

    def __call__(self, connection, writer, span, watermark):
        self.offsets += [record.offset for record in span.records]
        return Outcome(stored=len(span.records), watermark=AT)


def ledger(connection: psycopg.Connection, partition: int = 0) -> tuple | None:
    return connection.execute(
        "select first_offset, next_offset, stored, dead_letters, duplicates from shop.stream_offsets "
        "where stream = %s and topic = 'transactions-data' and partition = %s",
        (STREAM, partition),
    ).fetchone()


def without_record(connection: psycopg.Connection) -> int:
    return connection.execute("select sum(without_record)::int from shop.stream_offsets").fetchone()[0]


def follow(settings: Settings, error: Exception) -> None:
    """Does as the database's owner what the message of an error tells, word for word."""
    words = "as the database's owner: "
    query(settings, str(error)[str(error).index(words) + len(words) :])


def test_a_range_advances_the_ledger(connection, writer):
    summary = store.write(connection, writer, span(0, 10), Keep())
    assert ledger(connection) == (0, 10, 10, 0, 0)
    assert (summary.first_offset, summary.next_offset, summary.stored, summary.skipped) == (0, 10, 10, 0)


def test_a_replay_changes_nothing_and_an_overlap_only_adds_what_is_new(connection, writer):
    keep = Keep()
    store.write(connection, writer, span(0, 10), keep)
    assert store.write(connection, writer, span(0, 10), keep).skipped == 10
    assert store.write(connection, writer, span(5, 15), keep).skipped == 5
    assert keep.offsets == list(range(15))
    assert ledger(connection) == (0, 15, 15, 0, 0)


def test_a_range_that_begins_after_the_ledger_is_refused_with_its_remedy(connection, writer):
    store.write(connection, writer, span(0, 10), Keep())
    missing = (
        "offsets 10 to 19 of partition 0 of transactions-data are missing.*delete its checkpoint's folder"
    )
    with pytest.raises(OffsetGap, match=missing):
        store.write(connection, writer, span(20, 30), Keep())
    assert ledger(connection) == (0, 10, 10, 0, 0)
    store.write(connection, writer, span(10, 30), Keep())  # as the stream goes on without its checkpoint
    assert ledger(connection) == (0, 30, 30, 0, 0)


def test_the_remedy_for_deleted_records_closes_the_books(connection, writer, shop):
    store.write(connection, writer, span(0, 10), Keep())
    opened = connection, writer, "transactions-data", "id-1", {0: Bounds(20, 30)}
    with pytest.raises(OffsetGap, match="offsets 10 to 19 of partition 0.*the broker has deleted") as caught:
        store.open_ledger(*opened)
    follow(shop, caught.value)
    assert store.open_ledger(*opened) == {0: 20}
    store.write(connection, writer, span(20, 30), Keep())
    assert ledger(connection) == (0, 30, 20, 0, 0)
    assert connection.execute("select lost from shop.stream_offsets").fetchone() == (10,)


def test_offsets_without_a_record_are_counted_wherever_they_are(connection, writer):
    keep = Keep()
    records = [record for record in span(0, 12).records if record.offset in (2, 3, 7)]
    sparse = span(0, 12)._replace(records=records)
    assert store.write(connection, writer, sparse, keep).without_record == 9
    assert ledger(connection) == (0, 12, 3, 0, 0) and without_record(connection) == 9
    store.write(connection, writer, span(12, 15)._replace(records=[]), keep)
    assert ledger(connection) == (0, 15, 3, 0, 0) and without_record(connection) == 12
    assert keep.offsets == [2, 3, 7]


def test_a_sparse_range_that_the_ledger_has_in_part_adds_what_is_new(connection, writer):
    keep = Keep()
    records = [record for record in span(0, 12).records if record.offset in (2, 3, 7)]
    store.write(connection, writer, span(0, 5)._replace(records=records[:2]), keep)
    summary = store.write(connection, writer, span(0, 12)._replace(records=records), keep)
    assert (summary.skipped, summary.stored, summary.without_record) == (2, 1, 6)
    again = store.write(connection, writer, span(0, 12)._replace(records=records), keep)
    assert (again.skipped, again.stored, again.without_record) == (3, 0, 0)
    assert keep.offsets == [2, 3, 7] and ledger(connection) == (0, 12, 3, 0, 0)
    assert without_record(connection) == 9


def test_a_partition_that_is_new_must_begin_at_its_first_record(connection, writer):
    with pytest.raises(OffsetGap, match="offsets 0 to 6"):
        store.write(connection, writer, span(7, 9), Keep())


def test_a_recreated_topic_is_refused_with_its_remedy(connection, writer, shop):
    store.write(connection, writer, span(0, 10), Keep())
    with pytest.raises(TopicRecreated) as caught:
        store.write(connection, writer, span(10, 12, topic_id="id-2"), Keep())
    follow(shop, caught.value)
    store.write(connection, writer, span(0, 5, topic_id="id-2"), Keep())
    assert ledger(connection) == (0, 5, 5, 0, 0)


def test_a_stale_epoch_is_fenced(connection, writer, shop):
    stale = Writer(shop, STREAM, 2)
    with pytest.raises(Fenced, match="epoch 2"):
        store.write(connection, stale, span(0, 10), Keep())
    assert ledger(connection) is None
    store.write(connection, writer, span(0, 10), Keep())


def test_a_new_epoch_waits_for_the_writer_but_a_heartbeat_does_not(connection, writer, shop):
    bumped = threading.Event()

    def bump():
        with store.connect(shop) as other:
            other.execute("update shop.stream_leases set epoch = epoch + 1 where stream = %s", (STREAM,))
            bumped.set()

    def handle(connection, writer, span, watermark):
        with store.connect(shop) as other:
            other.execute("set lock_timeout = '2s'")
            other.execute("update shop.stream_leases set heartbeat_at = now() where stream = %s", (STREAM,))
        thread.start()
        assert not bumped.wait(0.3)
        return Outcome(stored=len(span.records))

    thread = threading.Thread(target=bump)
    store.write(connection, writer, span(0, 10), handle)
    assert bumped.wait(PATIENCE)
    thread.join()
    with pytest.raises(Fenced):
        store.write(connection, writer, span(10, 20), Keep())


def test_an_error_rolls_everything_back(connection, writer):
    def handle(connection, writer, span, watermark):
        store.write_dead_letters(connection, span, [DeadLetter(span.records[0], "blank", "x")])
        connection.execute("select 1 / 0")

    with pytest.raises(psycopg.errors.DivisionByZero):
        store.write(connection, writer, span(0, 10), handle)
    assert read(connection, "select count(*) from shop.dead_letters") == [(0,)]
    assert ledger(connection) is None


def test_books_that_do_not_close_are_refused_by_the_database(connection, writer):
    with pytest.raises(psycopg.errors.CheckViolation, match="books_close"):
        store.write(connection, writer, span(0, 10), lambda *_: Outcome(stored=9))


def test_dead_letters_keep_the_bytes(connection, writer):
    def handle(connection, writer, span, watermark):
        odd = span.records[0]._replace(key=None, value=b"\x00\xff\x1f\x8b")
        store.write_dead_letters(connection, span, [DeadLetter(odd, "invalid_encoding", "not UTF-8")])
        return Outcome(dead_letters=1)

    store.write(connection, writer, span(0, 1), handle)
    (row,) = read(connection, 'select reason, topic_id, "offset", key, value from shop.dead_letters')
    assert row == ("invalid_encoding", "id-1", 0, None, b"\x00\xff\x1f\x8b")


def test_a_dead_letter_that_cannot_be_written_fails_the_range(connection, writer, shop):
    def handle(connection, writer, span, watermark):
        store.write_dead_letters(connection, span, [DeadLetter(span.records[0], "blank", "x")])
        return Outcome(stored=9, dead_letters=1)

    with psycopg.connect(shop.conninfo("owner"), autocommit=True) as owner:
        owner.execute("revoke insert on shop.dead_letters from stream_writer")
        try:
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                store.write(connection, writer, span(0, 10), handle)
        finally:
            owner.execute("grant insert on shop.dead_letters to stream_writer")
    assert ledger(connection) is None
    store.write(connection, writer, span(0, 10), handle)
    assert ledger(connection) == (0, 10, 9, 1, 0)


def test_the_watermark_never_goes_back(connection, writer):
    seen = []

    def handle(watermark_after):
        def handler(connection, writer, span, watermark):
            seen.append(watermark)
            return Outcome(stored=len(span.records), watermark=watermark_after)

        return handler

    later = AT.replace(hour=13)
    store.write(connection, writer, span(0, 1), handle(None))
    store.write(connection, writer, span(1, 2), handle(later))
    store.write(connection, writer, span(2, 3), handle(AT))
    store.write(connection, writer, span(3, 4), handle(None))
    assert seen == [None, None, later, later]


def test_a_new_stream_begins_where_the_broker_does(connection, writer):
    topic = "transactions-data", "id-1"
    assert store.open_ledger(connection, writer, *topic, {0: Bounds(5, 20), 1: Bounds(7, 9)}) == {0: 5, 1: 7}
    store.write(connection, writer, span(7, 9, partition=1), Keep())
    assert ledger(connection, 1) == (7, 9, 2, 0, 0)
    added = {0: Bounds(5, 20), 1: Bounds(7, 9), 2: Bounds(0, 3)}
    assert store.open_ledger(connection, writer, *topic, added) == {0: 5, 1: 9, 2: 0}


def test_a_partition_that_was_added_later_must_begin_at_offset_0(connection, writer, shop):
    store.write(connection, writer, span(0, 10), Keep())
    with pytest.raises(OffsetGap, match="offsets 0 to 6 of partition 1") as caught:
        store.open_ledger(
            connection, writer, "transactions-data", "id-1", {0: Bounds(0, 10), 1: Bounds(7, 9)}
        )
    follow(shop, caught.value)
    store.write(connection, writer, span(7, 9, partition=1), Keep())
    assert ledger(connection, 1) == (0, 9, 2, 0, 0)


@pytest.mark.parametrize(
    ("topic_id", "begin", "end", "error", "words"),
    [
        ("id-1", 12, 20, OffsetGap, "offsets 10 to 11 of partition 0 of transactions-data are missing"),
        ("id-1", 0, 9, OffsetGap, "ends at offset 9, before the ledger's 10"),
        ("id-2", 0, 20, TopicRecreated, "was deleted and created again"),
    ],
)
def test_open_ledger_refuses_a_broker_that_does_not_fit(
    connection, writer, topic_id, begin, end, error, words
):
    store.write(connection, writer, span(0, 10), Keep())
    with pytest.raises(error, match=words):
        store.open_ledger(connection, writer, "transactions-data", topic_id, {0: Bounds(begin, end)})


def test_the_process_keeps_its_connection_until_a_write_fails(shop):
    with store.connection(shop) as first:
        first.execute("select 1")
    with pytest.raises(RuntimeError, match="broken"), store.connection(shop) as second:
        assert second is first
        raise RuntimeError("broken")
    assert first.closed
    with store.connection(shop) as third:
        assert third.execute("select 1").fetchone() == (1,)


def test_a_connection_that_the_server_ended_is_replaced(shop):
    with store.connection(shop) as first:
        backend = first.info.backend_pid
    superuser = shop.conninfo("owner").replace("user=owner", "user=postgres")
    with psycopg.connect(superuser, autocommit=True) as admin:
        admin.execute("select pg_terminate_backend(%s, 5000)", (backend,))
    with pytest.raises(psycopg.OperationalError), store.connection(shop) as dead:
        dead.execute("select 1")
    with store.connection(shop) as fresh:
        assert fresh.execute("select 1").fetchone() == (1,)


def test_a_forked_child_does_not_use_the_connection_of_its_parent(shop):
    with store.connection(shop) as first:
        pass
    child = os.fork()
    if child == 0:
        with store.connection(shop) as own:
            os._exit(0 if own is not first and own.execute("select 1").fetchone() == (1,) else 1)
    assert os.waitpid(child, 0)[1] == 0
    with store.connection(shop) as again:
        assert again is first and again.execute("select 1").fetchone() == (1,)


def test_the_newest_bytes_of_a_replaced_topic_are_kept_beside_the_old(connection, writer):
    def handle(connection, writer, span, watermark):
        store.write_dead_letters(connection, span, [DeadLetter(span.records[0], "blank", "x")])
        return Outcome(dead_letters=1)

    store.write(connection, writer, span(0, 1), handle)
    connection.execute(
        "update shop.stream_offsets set topic_id = 'id-2', first_offset = 0, next_offset = 0, "
        "dead_letters = 0"
    )
    store.write(connection, writer, span(0, 1, topic_id="id-2"), handle)
    assert read(connection, "select count(*) from shop.dead_letters") == [(2,)]


class Proxy:
    """Forwards one connection to PostgreSQL; after `cut()`, the reply to the next COMMIT never arrives."""

    def __init__(self, port: int):
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        self._cut = threading.Event()
        self._postgres_port = port
        threading.Thread(target=self._run, daemon=True).start()

    def cut(self) -> None:
        self._cut.set()

    def _run(self) -> None:
        client, _ = self._server.accept()
        postgres = socket.create_connection(("127.0.0.1", self._postgres_port))
        committing = threading.Event()

        def replies() -> None:
            while data := postgres.recv(65_536):
                if committing.is_set():
                    break
                client.sendall(data)
            client.shutdown(socket.SHUT_RDWR)
            postgres.close()
            self._server.close()

        threading.Thread(target=replies, daemon=True).start()
        while data := client.recv(65_536):
            if self._cut.is_set() and b"COMMIT\x00" in data:
                committing.set()
            postgres.sendall(data)


def test_when_only_the_reply_to_commit_is_lost_the_next_attempt_skips_the_range(connection, writer, shop):
    proxy = Proxy(shop.postgres_port)
    with store.connect(shop.model_copy(update={"postgres_port": proxy.port})) as cut_off:
        proxy.cut()
        with pytest.raises(psycopg.OperationalError):
            store.write(cut_off, writer, span(0, 10), Keep())
    assert ledger(connection) == (0, 10, 10, 0, 0)
    assert store.write(connection, writer, span(0, 10), Keep()).skipped == 10
    assert ledger(connection) == (0, 10, 10, 0, 0)
