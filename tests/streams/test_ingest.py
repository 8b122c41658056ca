"""Transactions, labels, duplicates and dead letters of ranges in a real PostgreSQL."""

from __future__ import annotations

import random
import threading
import traceback
from collections import Counter
from datetime import timedelta
from decimal import Decimal

import psycopg
import pytest

from include.broker.kafka import Bounds
from include.events.transaction import FIELDS
from include.settings import Settings
from include.streams import ingest, store
from include.streams.store import Range, Record, Writer
from tests.bad_input import DUPLICATE, STORED, UNKNOWN_FIELDS, cases
from tests.builders import ABSENT, NOW, event_bytes, label_bytes
from tests.conftest import read
from tests.waiting import PATIENCE

STREAM = "transaction_stream"
BROKER_TIME = NOW + timedelta(minutes=1)

pytestmark = pytest.mark.services


@pytest.fixture
def writer(shop: Settings) -> Writer:
    return Writer(shop, STREAM, 0)


def span(
    values: list[bytes | None], first: int = 0, partition: int = 0, topic: str = "transactions-data"
) -> Range:
    records = [Record(first + i, BROKER_TIME, b"user-0001", value) for i, value in enumerate(values)]
    return Range.of(STREAM, topic, "id-1", partition, records)


def books(connection: psycopg.Connection) -> tuple:
    return read(
        connection, "select stored, dead_letters, duplicates, late, unknown_fields from shop.stream_offsets"
    )[0]


def test_every_field_is_stored_as_it_was_sent(connection, writer):
    values = [event_bytes(transaction_id="a", first_name="Zoë 🙂 '; drop table", amount=12.3, extra=1)]
    store.write(connection, writer, span(values), ingest.transactions)
    (row,) = read(
        connection,
        "select transaction_id, user_id, timestamp, first_name, amount, latitude, late, topic, partition, "
        '"offset", broker_time from shop.transactions',
    )
    assert row == (
        *("a", "user-0001", NOW, "Zoë 🙂 '; drop table", Decimal("12.30"), 52.52),
        *(False, "transactions-data", 0, 0, BROKER_TIME),
    )
    assert books(connection) == (1, 0, 0, 0, 1)


@pytest.mark.parametrize("amount", ["0", "0.01", "0.1", "5.50", "19.99", "1234567.89", "9999999999.99"])
def test_amounts_are_stored_to_the_cent(connection, writer, amount):
    value = event_bytes(amount=ABSENT)[:-1] + b', "amount": ' + amount.encode() + b"}"
    store.write(connection, writer, span([value]), ingest.transactions)
    assert read(connection, "select amount from shop.transactions") == [(Decimal(amount),)]


def test_one_poison_among_ten_thousand(connection, writer):
    values = [event_bytes() for _ in range(10_000)]
    values[6_543] = b'{"transaction_id": "x"'
    store.write(connection, writer, span(values), ingest.transactions)
    assert read(connection, "select count(*) from shop.transactions") == [(9_999,)]
    letters = read(connection, 'select reason, "offset", key, value from shop.dead_letters')
    assert letters == [("invalid_json", 6_543, b"user-0001", values[6_543])]
    assert books(connection) == (9_999, 1, 0, 0, 0)


@pytest.mark.parametrize("size", [1, 7, 1_000])
def test_the_whole_table_of_bad_input(connection, writer, size):
    """Whatever the size of the ranges. The table is judged at `NOW`, by the broker's clock."""
    table = list(cases())
    records = [Record(i, NOW, b"user-0001", case.value) for i, case in enumerate(table)]
    for first in range(0, len(records), size):
        part = records[first : first + size]
        store.write(
            connection, writer, Range.of(STREAM, "transactions-data", "id-1", 0, part), ingest.transactions
        )

    letters = read(connection, 'select "offset", reason, key, value from shop.dead_letters order by 1')
    rejected = [(i, case) for i, case in enumerate(table) if case.becomes not in (STORED, DUPLICATE)]
    assert letters == [(i, case.becomes, b"user-0001", case.value) for i, case in rejected]
    for i, case in enumerate(table):
        columns = ", ".join(case.row) or "1"
        row = read(connection, f'select {columns} from shop.transactions where "offset" = {i}')
        assert row == ([tuple(case.row.values()) or (1,)] if case.becomes == STORED else []), case.name
    counted = Counter(
        case.becomes if case.becomes in (STORED, DUPLICATE) else "dead letter" for case in table
    )
    late = sum(case.row.get("late", False) for case in table)
    expected = counted[STORED], counted["dead letter"], counted[DUPLICATE], late, UNKNOWN_FIELDS
    assert books(connection) == expected


def test_a_clock_that_is_an_hour_wrong_changes_no_duplicate(connection, writer):
    """The broker's clock is behind, right, then ahead: the same event again is the same event."""
    value, other = event_bytes(transaction_id="a"), event_bytes(transaction_id="a", amount=1)
    ahead = event_bytes(timestamp=NOW + timedelta(minutes=50))
    for i, hours in enumerate((0, -1, 1)):
        clock = NOW + timedelta(hours=hours)
        records = [
            Record(3 * i + n, clock, b"user-0001", content) for n, content in enumerate((value, other, ahead))
        ]
        store.write(
            connection, writer, Range.of(STREAM, "transactions-data", "id-1", 0, records), ingest.transactions
        )
    assert read(connection, 'select "offset" from shop.transactions order by 1') == [(0,), (8,)]
    letters = read(connection, 'select "offset", reason from shop.dead_letters order by 1')
    assert letters == [
        *((1, "id_conflict"), (2, "in_the_future")),
        *((3, "in_the_future"), (4, "in_the_future"), (5, "in_the_future")),
        (7, "id_conflict"),
    ]
    assert books(connection)[:3] == (2, 6, 1)


def test_duplicates_within_and_across_ranges_are_counted_and_conflicts_are_dead_letters(connection, writer):
    first, other = event_bytes(transaction_id="a", amount=1), event_bytes(transaction_id="a", amount=2)
    store.write(connection, writer, span([first, other, first]), ingest.transactions)
    store.write(connection, writer, span([other, first, event_bytes()], first=3), ingest.transactions)
    assert read(connection, "select amount from shop.transactions where transaction_id = 'a'") == [(1,)]
    letters = read(connection, 'select reason, "offset", value from shop.dead_letters order by "offset"')
    assert letters == [("id_conflict", 1, other), ("id_conflict", 3, other)]
    assert books(connection) == (2, 2, 2, 0, 0)


def test_a_refused_event_is_kept_as_it_was_read_without_who_it_is_about(connection, writer):
    values = [
        event_bytes(transaction_id="a"),
        event_bytes(transaction_id="a", amount=2.5, merchant_id=ABSENT),
    ]
    store.write(connection, writer, span([*values, b"{}"]), ingest.transactions)
    events = read(connection, 'select event from shop.dead_letters order by "offset"')
    expected = {
        field.name: field.example for field in FIELDS if not field.personal and field.name != "merchant_id"
    }
    timestamp = {"timestamp": NOW.isoformat().replace("+00:00", "Z")}
    assert events == [(expected | {"transaction_id": "a", "amount": 2.5} | timestamp,), (None,)]
    assert read(connection, "select dead_letters, id_conflicts from shop.stream_offsets") == [(2, 1)]


def test_an_id_has_one_owner_across_partitions(connection, writer):
    first, other = event_bytes(transaction_id="a", amount=1), event_bytes(transaction_id="a", amount=2)
    store.write(connection, writer, span([first], partition=0), ingest.transactions)
    store.write(connection, writer, span([first, other], partition=1), ingest.transactions)
    assert read(connection, "select count(*) from shop.transactions") == [(1,)]
    assert read(
        connection, "select sum(stored), sum(duplicates), sum(dead_letters) from shop.stream_offsets"
    ) == [(1, 1, 1)]


def test_two_partitions_with_the_same_ids_in_opposite_order_do_not_lock_each_other(shop, connection, writer):
    values = [event_bytes(is_fraud=True) for _ in range(4_000)]
    bounds = dict.fromkeys((0, 1), Bounds(0, len(values)))
    store.open_ledger(
        connection, writer, "transactions-data", "id-1", bounds
    )  # as a stream does at its start
    summaries, together = [], threading.Barrier(2)

    def handle(*arguments):
        together.wait(PATIENCE)
        return ingest.transactions(*arguments)

    def write(partition: int, values: list[bytes]) -> None:
        with store.connect(shop) as own:
            summaries.append(store.write(own, writer, span(values, partition=partition), handle))

    threads = [threading.Thread(target=write, args=pair) for pair in ((0, values), (1, values[::-1]))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted((summary.stored, summary.duplicates) for summary in summaries) == [(0, 4_000), (4_000, 0)]


def test_an_error_of_the_database_quotes_no_customer(connection, writer, shop):
    canary = "canary-e-mail@example.com"
    with psycopg.connect(shop.conninfo("owner"), autocommit=True) as owner:
        owner.execute(f"alter table shop.transactions add constraint refused check (email <> '{canary}')")
        try:
            with pytest.raises(psycopg.errors.CheckViolation, match="refused") as caught:
                store.write(connection, writer, span([event_bytes(email=canary)]), ingest.transactions)
        finally:
            owner.execute("alter table shop.transactions drop constraint refused")
    assert canary not in "".join(traceback.format_exception(caught.value))
    log = (shop.home / "logs" / "postgres.log").read_text()
    assert '"refused"' in log and canary not in log


def test_the_stored_state_is_the_same_for_any_order_and_any_batches(connection, writer, shop):
    values = [
        event_bytes(timestamp=NOW - timedelta(minutes=n), is_fraud=n % 3 == 0, amount=n) for n in range(200)
    ] + [b"{}", b"null", None]
    query = (
        "select transaction_id, user_id, timestamp, amount, is_fraud from shop.transactions "
        "left join shop.fraud_transactions using (transaction_id, timestamp) order by 1"
    )
    states = []
    for seed in range(3):
        shuffled = random.Random(seed).sample(values, len(values))
        with psycopg.connect(shop.conninfo("owner"), autocommit=True) as owner:
            owner.execute(
                "truncate shop.transactions, shop.transaction_ids, shop.fraud_transactions, "
                "shop.stream_offsets, shop.dead_letters"
            )
        for first in range(0, len(values), 50 + seed):
            store.write(
                connection, writer, span(shuffled[first : first + 50 + seed], first), ingest.transactions
            )
        states.append((read(connection, query), books(connection)[:3]))
    assert len(states[0][0]) == 200
    assert states[0] == states[1] == states[2]


def test_what_is_far_older_than_the_newest_event_before_it_is_late(connection, writer):
    def at(**ago: float) -> bytes:
        return event_bytes(timestamp=NOW - timedelta(**ago))

    store.write(connection, writer, span([at(hours=5), at(hours=7), at(hours=0)]), ingest.transactions)
    store.write(connection, writer, span([at(minutes=59), at(minutes=61)], first=3), ingest.transactions)
    late = read(connection, 'select "offset" from shop.transactions where late order by 1')
    assert late == [(1,), (4,)]
    assert books(connection) == (5, 0, 0, 2, 0)
    assert read(connection, "select watermark from shop.stream_offsets") == [(NOW,)]


def test_the_truth_in_an_event_is_a_label_known_at_its_time_and_not_a_column(connection, writer):
    values = [
        event_bytes(transaction_id="a", is_fraud=True),
        event_bytes(transaction_id="b", is_fraud=False),
        event_bytes(transaction_id="c"),
    ]
    store.write(connection, writer, span(values), ingest.transactions)
    labels = read(
        connection, "select transaction_id, is_fraud, known_at from shop.fraud_transactions order by 1"
    )
    assert labels == [("a", True, NOW), ("b", False, NOW)]


def test_labels_are_kept_with_their_corrections(connection, writer):
    known = NOW + timedelta(days=1)
    values = [
        label_bytes(transaction_id="a", is_fraud=True, known_at=known, scenario_id="card_testing"),
        label_bytes(transaction_id="a", is_fraud=False, known_at=known + timedelta(days=1)),
        label_bytes(transaction_id="a", is_fraud=True, known_at=known, scenario_id="card_testing"),
        label_bytes(transaction_id="a", is_fraud=False, known_at=known),
        b"no label",
    ]
    labels = span(values, topic="transaction-labels")
    store.write(connection, writer, labels, ingest.labels)
    assert books(connection) == (2, 2, 1, 0, 0)
    store.write(connection, writer, span(values[2:4], first=5, topic="transaction-labels"), ingest.labels)
    assert books(connection) == (2, 3, 2, 0, 0)
    query = "select is_fraud, scenario_id from shop.fraud_transactions order by known_at"
    assert read(connection, query) == [(True, "card_testing"), (False, "card_testing")]
    reasons = read(connection, 'select reason, "offset" from shop.dead_letters order by 2')
    assert reasons == [("id_conflict", 3), ("invalid_json", 4), ("id_conflict", 6)]


def test_labels_of_two_events_with_one_id_do_not_contradict_each_other(connection, writer):
    known_at = NOW + timedelta(days=1)
    values = [
        label_bytes(
            transaction_id="a", timestamp=NOW - timedelta(hours=hours), is_fraud=hours == 1, known_at=known_at
        )
        for hours in (0, 1)
    ]
    store.write(connection, writer, span([*values, values[1]], topic="transaction-labels"), ingest.labels)
    store.write(connection, writer, span([*values], first=3, topic="transaction-labels"), ingest.labels)
    assert books(connection) == (2, 0, 3, 0, 0)
    labels = read(connection, "select timestamp, is_fraud from shop.fraud_transactions order by timestamp")
    assert labels == [(NOW - timedelta(hours=1), True), (NOW, False)]


def test_a_label_may_come_before_its_transaction(connection, writer):
    store.write(
        connection, writer, span([label_bytes(transaction_id="a")], topic="transaction-labels"), ingest.labels
    )
    store.write(connection, writer, span([event_bytes(transaction_id="a")]), ingest.transactions)
    query = "select is_fraud from shop.transactions join shop.fraud_transactions using (transaction_id)"
    assert read(connection, query) == [(True,)]


def test_a_range_of_nothing_but_poison(connection, writer):
    store.write(connection, writer, span([b"", None, b"[]"]), ingest.transactions)
    assert books(connection) == (0, 3, 0, 0, 0)
