"""The sums count each transaction once, whatever was refreshed when."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from include.operations import rollups
from include.settings import Settings
from tests import sample_data

pytestmark = pytest.mark.services

# What the dashboards add up, in every grain, and the same from the tables.
SUMS = """
select grain, sum(transactions), sum(alerts), sum(late), sum(cents) from monitoring.activity group by 1 order by 1
"""
COUNTED = """
select count(*), count(*) filter (where is_alert), count(*) filter (where late), (sum(amount) * 100)::bigint
from shop.transactions t left join shop.fraud_scores s using (transaction_id, timestamp, topic, partition, "offset")
"""
FLAGGED = "select count(*), count(*) filter (where is_alert), count(*) filter (where is_fraud) from monitoring.flagged"


@pytest.fixture
def owner(clean_postgres: Settings) -> Iterator[psycopg.Connection]:
    sample_data.fill(clean_postgres, transactions=2000, days=2)  # as long as minutes are kept
    with psycopg.connect(clean_postgres.conninfo("owner"), autocommit=True) as connection:
        yield connection


def sums(owner: psycopg.Connection) -> list[tuple]:
    return owner.execute(SUMS).fetchall()


def counted(owner: psycopg.Connection) -> list[tuple]:
    (row,) = owner.execute(COUNTED).fetchall()
    return [(grain, *row) for grain in (60, 3600, 86400)]


def read_up_to(owner: psycopg.Connection, stream: str, offset: int) -> None:
    """The ledger says that the stream has read less than there is, as while it works."""
    owner.execute(
        "update shop.stream_offsets set next_offset = %s, stored = %s"
        " where stream = %s and topic = 'transactions-data'",
        (offset, offset, stream),
    )


def test_the_sums_are_those_of_the_tables_before_and_after_each_refresh(owner, clean_postgres):
    assert sums(owner) == counted(owner)
    total = 0
    for transactions, scores in ((100, 300), (400, 300), (450, 400), (700, 600)):
        read_up_to(owner, "transaction_stream", transactions)
        read_up_to(owner, "fraud_stream", scores)
        total += rollups.refresh(clean_postgres).transactions
        assert total == 2 * min(transactions, scores)
        assert sums(owner) == counted(owner)
        assert rollups.waiting(owner) == 2000 - total


def test_a_second_refresh_adds_nothing(owner, clean_postgres):
    first = rollups.refresh(clean_postgres)
    cells = owner.execute("select * from shop.activity order by 1, 2, 3, 4, 5, 6").fetchall()
    assert first.transactions > 1900
    assert rollups.refresh(clean_postgres) == rollups.Refreshed(0, 0, 0)
    assert owner.execute("select * from shop.activity order by 1, 2, 3, 4, 5, 6").fetchall() == cells


def test_a_new_transaction_is_seen_without_a_refresh_and_counted_once_after_it(owner, clean_postgres):
    rollups.refresh(clean_postgres)
    rollups.refresh(clean_postgres)
    owner.execute("""
        with last as (select * from shop.transactions where partition = 0 order by "offset" desc limit 1)
        insert into shop.transactions (transaction_id, user_id, timestamp, transaction_location, amount,
            merchant_category, currency, late, topic, partition, "offset", broker_time)
        select 'new', user_id, now(), 'Lagos, Nigeria', 12.34, 'new category', 'NGN', false, topic, partition,
               "offset" + 1, now() from last""")
    nigeria = """
        select grain, sum(transactions), sum(cents), min(model_version) from monitoring.activity
        where country = 'Nigeria' and category = 'new category' and currency = 'NGN' group by 1 order by 1"""
    expected = [(grain, 1, 1234, 0) for grain in (60, 3600, 86400)]
    assert owner.execute(nigeria).fetchall() == expected and sums(owner) == counted(owner)
    for stream in ("transaction_stream", "fraud_stream"):
        read_up_to(owner, stream, 100_000)
    rollups.refresh(clean_postgres)
    assert owner.execute(nigeria).fetchall() == expected and sums(owner) == counted(owner)
    assert rollups.waiting(owner) == 0


def test_a_refresh_that_dies_leaves_nothing_half_counted(owner, clean_postgres, monkeypatch):
    text = rollups.statement

    def breaks(name: str) -> str:
        return "select 1 / 0" if name == "rollups/advance" else text(name)

    monkeypatch.setattr(rollups, "statement", breaks)
    with pytest.raises(psycopg.errors.DivisionByZero):
        rollups.refresh(clean_postgres)
    assert owner.execute("select count(*) from shop.activity").fetchone() == (0,) and sums(owner) == counted(
        owner
    )
    monkeypatch.undo()
    rollups.refresh(clean_postgres)
    assert sums(owner) == counted(owner)


def test_labels_are_those_known_at_the_last_refresh(owner, clean_postgres):
    truth = """
        select count(*) from shop.transactions t join shop.labels_known(now()) l using (transaction_id, timestamp)
        where l.is_fraud"""
    read_up_to(owner, "transaction_stream", 100_000)
    read_up_to(owner, "fraud_stream", 100_000)
    rollups.refresh(clean_postgres)
    assert owner.execute(FLAGGED).fetchone()[2] == owner.execute(truth).fetchone()[0] > 0
    # A report comes, one is taken back, and one is known only tomorrow.
    owner.execute("""
        insert into shop.fraud_transactions (transaction_id, timestamp, is_fraud, known_at)
        (select transaction_id, timestamp, true, now() from shop.transactions t
         where not exists (select from shop.fraud_transactions l where l.transaction_id = t.transaction_id) limit 3)
        union all
        (select transaction_id, timestamp, false, now() from shop.flagged where is_fraud limit 1)
        union all
        (select transaction_id, timestamp, true, now() + interval '1 day' from shop.transactions t
         where not exists (select from shop.fraud_transactions l where l.transaction_id = t.transaction_id)
         order by transaction_id desc limit 1)""")
    before = owner.execute(FLAGGED).fetchone()[2]
    done = rollups.refresh(clean_postgres)
    assert (done.frauds, done.labels) == (3, 4)
    assert owner.execute(FLAGGED).fetchone()[2] == owner.execute(truth).fetchone()[0] == before + 2


def test_a_topic_that_was_created_again_counts_in_addition(owner, clean_postgres):
    read_up_to(owner, "transaction_stream", 100_000)
    read_up_to(owner, "fraud_stream", 100_000)
    rollups.refresh(clean_postgres)
    owner.execute("""
        insert into shop.transactions (transaction_id, user_id, timestamp, amount, topic, partition, "offset",
                                       broker_time, generation)
        select 'again-' || n, 'u1', now(), 1, 'transactions-data', 0, n, now(), 1 from generate_series(0, 9) n""")
    assert sums(owner) == counted(owner)
    owner.execute(
        "update shop.stream_offsets set generation = 1, next_offset = 6, stored = 6 where partition = 0"
        " and topic = 'transactions-data'"
    )
    assert rollups.refresh(clean_postgres).transactions == 6
    assert sums(owner) == counted(owner) and rollups.waiting(owner) == 4


def test_minutes_are_kept_for_three_days(owner, clean_postgres):
    rollups.refresh(clean_postgres)
    owner.execute("update shop.activity set at = at - interval '4 days' where grain = 60")
    rollups.refresh(clean_postgres)
    grains = {grain for (grain,) in owner.execute("select distinct grain from shop.activity")}
    assert grains == {3600, 86400}
