"""Streams on real Kafka, PostgreSQL and Spark: where they go on, what they refuse, how they end."""

from __future__ import annotations

import gc
import shutil
import threading
from contextlib import nullcontext
from datetime import UTC, datetime

import pyarrow as pa
import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient, NewPartitions

from include.broker import kafka
from include.platform import ports
from include.settings import Settings
from include.streams import ingest, runner, store
from include.streams.checkpoint import Checkpoint
from include.streams.runner import MixedRange, StreamDefinition, StreamFailed
from tests.builders import event_bytes, label_bytes
from tests.stream_runs import Running, books, both_streams, lease, own, produce, query, recreate, running
from tests.waiting import PATIENCE

NAME = "transaction_stream"

pytestmark = pytest.mark.services


@pytest.fixture
def shop(clean_postgres: Settings, kafka: Settings, tmp_path) -> Settings:
    return own(clean_postgres, tmp_path)


@pytest.fixture
def definition(shop: Settings) -> StreamDefinition:
    handlers = {shop.transactions_topic: ingest.transactions, shop.labels_topic: ingest.labels}
    return StreamDefinition(NAME, tuple(handlers), lambda spark: handlers)


def read_all(shop: Settings, definition: StreamDefinition, session, offsets: int) -> None:
    """Runs the stream until it has read so many offsets."""
    with running(shop, definition, session) as active:
        active.until(lambda: books(shop, NAME)[0] == offsets)


def checkpoint_files(shop: Settings, kind: str) -> list:
    files = (Checkpoint(shop, NAME).folder / kind).glob("[0-9]*")
    return sorted(files, key=lambda path: int(path.name))


def test_a_mapping_that_gives_a_field_another_meaning_stops_a_stream_with_what_to_write(
    shop, definition, tmp_path
):
    fields = "fields: {transaction_id: id, user_id: user, timestamp: at, amount: sum}\n"
    (tmp_path / "mapping.yaml").write_text(fields + "numbers: {age: a}")
    query(shop, "insert into shop.extra_fields (field, name) values ('number_1', 'balance')")
    shop = shop.model_copy(update={"mapping": tmp_path / "mapping.yaml"})
    with pytest.raises(runner.StreamFailed, match="numbers: .* name them as balance, age"):
        runner.run_stream(shop, definition, threading.Event())
    assert lease(shop, NAME)[0] == "failed"
    assert query(shop, "select name from shop.extra_fields") == [("balance",)]


def test_both_topics_are_stored_and_a_stop_request_ends_it_cleanly(shop, definition, session):
    values = [event_bytes() for _ in range(500)] + [b"poison", event_bytes(transaction_id="twice")]
    produce(shop, shop.transactions_topic, [*values, values[-1]])
    produce(shop, shop.labels_topic, [label_bytes() for _ in range(20)])
    active = Running(shop, definition, session)
    active.until(lambda: books(shop, NAME) == (523, 521, 1, 1))
    active.until(lambda: lease(shop, NAME) == ("running", ""))
    produce(shop, shop.transactions_topic, [event_bytes()])
    active.until(lambda: books(shop, NAME)[0] == 524)
    query(shop, "update shop.stream_leases set stop_requested = true")
    assert active.ended() is None
    assert lease(shop, NAME) == ("stopped", "")
    assert query(shop, "select count(*) from shop.transactions") == [(502,)]
    assert query(shop, "select count(*) from shop.fraud_transactions") == [(20,)]


def test_a_replay_of_the_last_batch_changes_nothing(shop, definition, session):
    produce(shop, shop.transactions_topic, [event_bytes() for _ in range(50)] + [b"{}"])
    read_all(shop, definition, session, 51)
    before = query(shop, "select * from shop.transactions order by 1"), books(shop, NAME)
    checkpoint_files(shop, "commits")[-1].unlink()
    produce(shop, shop.labels_topic, [label_bytes()])
    read_all(shop, definition, session, 52)
    assert query(shop, "select * from shop.transactions order by 1") == before[0]
    assert books(shop, NAME) == (52, 51, 1, 0)


def test_without_its_checkpoint_it_goes_on_from_the_ledger(shop, definition, session):
    produce(shop, shop.transactions_topic, [event_bytes() for _ in range(50)])
    read_all(shop, definition, session, 50)
    shutil.rmtree(Checkpoint(shop, NAME).folder)
    produce(shop, shop.transactions_topic, [event_bytes() for _ in range(5)])
    read_all(shop, definition, session, 55)
    assert books(shop, NAME) == (55, 55, 0, 0)
    assert query(shop, "select count(*), count(distinct transaction_id) from shop.transactions") == [(55, 55)]


def test_a_checkpoint_does_not_grow(shop, definition, session):
    def files() -> int:
        return sum(path.is_file() for path in Checkpoint(shop, NAME).folder.rglob("*"))

    with running(shop, definition, session) as active:
        for number in range(1, 36):
            produce(shop, shop.transactions_topic, [event_bytes()])
            active.until(lambda number=number: books(shop, NAME)[0] == number)
    assert int(checkpoint_files(shop, "offsets")[-1].name) >= 34
    assert files() < 70  # each batch has two files with a checksum each: all 35 would be 140


@pytest.mark.parametrize("torn", ["offsets", "commits", "metadata"])
def test_a_torn_checkpoint_is_said_with_its_remedy(shop, definition, session, torn):
    produce(shop, shop.transactions_topic, [event_bytes() for _ in range(5)])
    read_all(shop, definition, session, 5)
    folder = Checkpoint(shop, NAME).folder
    file = folder / "metadata" if torn == "metadata" else checkpoint_files(shop, torn)[-1]
    file.write_bytes(file.read_bytes()[:-3])
    error = Running(shop, definition, session).ended()
    assert f"delete the folder {folder}" in str(error) and str(file) in str(error)
    assert lease(shop, NAME) == ("failed", str(error))
    shutil.rmtree(folder)
    produce(shop, shop.transactions_topic, [event_bytes()])
    read_all(shop, definition, session, 6)
    assert books(shop, NAME) == (6, 6, 0, 0)


def test_what_only_spark_finds_wrong_with_a_checkpoint_is_said_too(shop, definition, session):
    produce(shop, shop.transactions_topic, [event_bytes() for _ in range(5)])
    read_all(shop, definition, session, 5)
    last = checkpoint_files(shop, "offsets")[-1]
    last.write_text(last.read_text().replace(shop.transactions_topic, "another-topic"))
    error = Running(shop, definition, session).ended()
    assert "delete the folder" in str(error)


def test_a_checkpoint_ahead_of_a_restored_database_is_refused(shop, definition, session):
    produce(shop, shop.transactions_topic, [event_bytes() for _ in range(60)], partition=0)
    read_all(shop, definition, session, 60)
    query(shop, "update shop.stream_offsets set next_offset = 20, stored = 20 where next_offset > 0")
    produce(shop, shop.transactions_topic, [event_bytes() for _ in range(5)], partition=0)
    error = Running(shop, definition, session).ended()
    assert f"offsets 20 to 59 of partition 0 of {shop.transactions_topic} are missing" in str(error)
    assert lease(shop, NAME)[0] == "failed"
    shutil.rmtree(Checkpoint(shop, NAME).folder)
    read_all(shop, definition, session, 65)
    assert query(shop, "select count(*) from shop.transactions") == [(65,)]


def test_a_topic_recreated_while_the_stream_stood_is_noticed(shop, definition, session):
    produce(shop, shop.transactions_topic, [event_bytes() for _ in range(20)])
    read_all(shop, definition, session, 20)
    recreate(shop, shop.transactions_topic)
    produce(shop, shop.transactions_topic, [event_bytes() for _ in range(90)])
    error = Running(shop, definition, session).ended()
    assert "was deleted and created again" in str(error) and "delete from shop.stream_offsets" in str(error)
    assert query(shop, "select count(*) from shop.transactions") == [(20,)]


def test_a_topic_recreated_while_the_stream_runs_is_noticed(shop, definition, session, monkeypatch):
    monkeypatch.setattr(runner, "TOPIC_CHECK_SECONDS", 0)
    produce(shop, shop.transactions_topic, [event_bytes() for _ in range(5)], partition=0)
    active = Running(shop, definition, session)
    active.until(lambda: books(shop, NAME)[0] == 5)
    recreate(shop, shop.transactions_topic)
    produce(shop, shop.transactions_topic, [event_bytes() for _ in range(900)], partition=0)
    assert "was deleted and created again" in str(active.ended())


def test_records_that_retention_deleted_before_they_were_read_are_said(shop, definition, session):
    produce(shop, shop.transactions_topic, [event_bytes() for _ in range(10)], partition=0)
    read_all(shop, definition, session, 10)
    produce(shop, shop.transactions_topic, [event_bytes() for _ in range(40)], partition=0)
    admin = AdminClient(kafka.client_config(shop))
    for future in admin.delete_records([TopicPartition(shop.transactions_topic, 0, 30)]).values():
        future.result(PATIENCE)
    error = str(Running(shop, definition, session).ended())
    assert f"offsets 10 to 29 of partition 0 of {shop.transactions_topic} are missing" in error
    query(shop, error[error.index("update shop.stream_offsets") :])
    shutil.rmtree(Checkpoint(shop, NAME).folder)
    read_all(shop, definition, session, 50)
    assert query(shop, "select sum(stored), sum(lost) from shop.stream_offsets") == [(30, 20)]


def test_partitions_that_are_added_while_it_runs_are_read(shop, definition, session):
    with running(shop, definition, session) as active:
        produce(shop, shop.transactions_topic, [event_bytes() for _ in range(10)])
        active.until(lambda: books(shop, NAME)[0] == 10)
        admin = AdminClient(kafka.client_config(shop))
        for future in admin.create_partitions([NewPartitions(shop.transactions_topic, 4)]).values():
            future.result(PATIENCE)
        produce(shop, shop.transactions_topic, [event_bytes() for _ in range(7)], partition=3)
        active.until(lambda: books(shop, NAME)[0] == 17)


def test_an_error_of_the_database_stops_it_with_the_database_words(shop, definition, session):
    query(shop, "revoke insert on shop.transactions from stream_writer")
    try:
        produce(shop, shop.transactions_topic, [event_bytes()])
        assert str(Running(shop, definition, session).ended()) == "permission denied for table transactions"
    finally:
        query(shop, "grant insert on shop.transactions to stream_writer")
    assert lease(shop, NAME) == ("failed", "permission denied for table transactions")
    read_all(shop, definition, session, 1)


def test_a_topic_that_does_not_exist_is_said(shop, session):
    definition = StreamDefinition(NAME, ("nowhere",), lambda spark: {"nowhere": ingest.transactions})
    assert "'nowhere'" in str(Running(shop, definition, session).ended())


def test_a_job_that_waits_reads_nothing_and_says_so(shop, definition, session):
    reason = ["waiting for the moon"]
    produce(shop, shop.transactions_topic, [event_bytes()])
    waiting = StreamDefinition(NAME, definition.topics, definition.handlers, lambda: reason[0])
    with running(shop, waiting, session) as active:
        active.until(lambda: lease(shop, NAME) == ("waiting", "waiting for the moon"))
        assert books(shop, NAME)[0] == 0
        reason[0] = ""
        active.until(lambda: books(shop, NAME)[0] == 1)


def test_a_second_driver_waits_until_the_first_ends(shop, definition, session):
    produce(shop, shop.transactions_topic, [event_bytes()])
    with running(shop, definition, session) as first:
        first.until(lambda: books(shop, NAME)[0] == 1)
        second = Running(shop, definition, session)
        first.until(lambda: "another driver waits" in lease(shop, NAME)[1])
        produce(shop, shop.transactions_topic, [event_bytes()])
        first.until(lambda: books(shop, NAME)[0] == 2)
        assert query(shop, f"select epoch from shop.stream_leases where stream = '{NAME}'") == [(1,)]
    produce(shop, shop.transactions_topic, [event_bytes()])
    second.until(lambda: books(shop, NAME)[0] == 3)
    assert query(shop, f"select epoch from shop.stream_leases where stream = '{NAME}'") == [(2,)]
    second.stopping.set()
    assert second.ended() is None


def test_a_driver_whose_lease_is_taken_away_stops(shop, definition, session):
    active = Running(shop, definition, session)
    active.until(lambda: lease(shop, NAME)[0] == "running")
    query(shop, "update shop.stream_leases set epoch = epoch + 1")
    assert "taken over" in str(active.ended())


def test_a_task_with_records_of_two_partitions_is_refused():
    columns = {
        "topic": ["t", "t"],
        "partition": pa.array([0, 1], pa.int32()),
        "offset": [0, 0],
        "timestamp": pa.array([datetime(2026, 1, 1, tzinfo=UTC)] * 2, pa.timestamp("us", "UTC")),
        "key": [b"", b""],
        "value": [b"", b""],
    }
    batch = pa.RecordBatch.from_pydict(columns)
    with pytest.raises(MixedRange, match=r"\[0, 1\] of \['t'\]"):
        runner.to_range(NAME, {"t": "id"}, batch)
    span = runner.to_range(NAME, {"t": "id"}, batch.slice(0, 1))
    assert span.partition == 0 and span.records[0].broker_time == datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize("fails", [False, True])
def test_the_collector_pauses_while_a_range_is_written(shop, fails):
    enabled = []

    def handle(*_: object) -> store.Outcome:
        enabled.append(gc.isenabled())
        if fails:
            raise ValueError("the handler fails")
        return store.Outcome(stored=1)

    topic = shop.transactions_topic
    columns = {
        "topic": [topic],
        "partition": pa.array([0], pa.int32()),
        "offset": [0],
        "timestamp": pa.array([datetime(2026, 1, 1, tzinfo=UTC)], pa.timestamp("us", "UTC")),
        "key": [b""],
        "value": [b""],
    }
    batch = pa.RecordBatch.from_pydict(columns)
    writing = runner.write_partition(
        store.Writer(shop, NAME, 0), {topic: "id"}, {topic: handle}, {(topic, 0): 0}, [batch]
    )
    with pytest.raises(ValueError, match="fails") if fails else nullcontext():
        next(writing)
    assert enabled == [False] and gc.isenabled()


def test_without_a_database_it_says_so(shop, definition):
    away = shop.model_copy(update={"postgres_port": 1})
    with pytest.raises(runner.StreamFailed, match="PostgreSQL cannot be reached"):
        runner.run_stream(away, definition, threading.Event())


def test_explain_finds_the_error_of_the_worker():
    text = "Job aborted\nTraceback\n  File x\ninclude.store.OffsetGap: a gap here\n\nDriver stacktrace: more"
    assert runner.explain(RuntimeError(text)) == "a gap here"
    assert runner.explain(store.Fenced("words\nmore")) == "words more"


def test_a_test_that_waits_for_streams_ends_with_the_error_of_the_one_that_died(settings, tmp_path):
    away = settings.model_copy(update={"postgres_port": ports.free(1)[0], "home": tmp_path})
    with pytest.raises(StreamFailed, match="PostgreSQL cannot be reached"), both_streams(away, None) as until:
        until(lambda: False)
