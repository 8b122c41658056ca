"""Migrations run forward only and in order; what does not fit is refused with a remedy that helps."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import numpy as np
import psycopg
import pytest

from include.events.transaction import CATEGORIES
from include.features import known_frauds
from include.features.entities import KINDS, Coded
from include.platform import postgres as server
from include.platform.postgres import BASELINE, EARLY_MIGRATIONS, MigrationRefused
from include.settings import Settings
from include.sql import FOLDER

pytestmark = pytest.mark.services

KNOWN_LABELS = 6  # the number of the migration


@pytest.fixture
def database(postgres: Settings) -> Iterator[Settings]:
    """A database without any migration."""
    superuser = postgres.conninfo("owner", "postgres").replace("user=owner", "user=postgres")
    with psycopg.connect(superuser, autocommit=True) as connection:
        connection.execute("create database migrated owner owner")
        yield postgres.model_copy(update={"postgres_database": "migrated"})
        connection.execute("drop database migrated with (force)")


@pytest.fixture
def migrations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder in the place of `include/sql/migrations`."""
    folder = tmp_path / "migrations"
    folder.mkdir()
    monkeypatch.setattr(server, "FOLDER", tmp_path)
    return folder


def makes(table: str) -> str:
    return f"create table public.{table} (a int);"


def tables(settings: Settings) -> set[str]:
    with psycopg.connect(settings.conninfo("owner")) as connection:
        names = connection.execute("select tablename from pg_tables where schemaname = 'public'")
        return {name for (name,) in names} - {"migrations"}


def applied(settings: Settings) -> list[str]:
    with psycopg.connect(settings.conninfo("owner")) as connection:
        rows = connection.execute("select name from public.migrations order by applied_at, name")
        return [name for (name,) in rows]


def test_the_migrations_are_numbered_once_each_and_start_with_the_baseline():
    names = sorted(path.stem for path in (FOLDER / "migrations").glob("*.sql"))
    assert tuple(names[: len(BASELINE)]) == BASELINE
    assert [name[:5] for name in names] == [f"{number:04d}." for number in range(1, len(names) + 1)]


def test_a_migration_that_fails_leaves_nothing_half_done(database, migrations):
    (migrations / "0001.good.sql").write_text(makes("good"))
    bad = migrations / "0002.bad.sql"
    bad.write_text(makes("bad") + "select 1 / 0;")
    with pytest.raises(psycopg.errors.DivisionByZero):
        server.migrate(database)
    assert tables(database) == set()

    bad.write_text(makes("bad"))
    server.migrate(database)
    assert tables(database) == {"good", "bad"}


def test_an_edited_migration_is_refused_until_its_change_is_a_new_one(database, migrations):
    first = migrations / "0001.good.sql"
    first.write_text(makes("good"))
    server.migrate(database)
    first.write_text(makes("other"))
    with pytest.raises(MigrationRefused, match=r"0001\.good\.sql is not what was applied .* a new migration"):
        server.migrate(database)

    first.write_text(makes("good"))
    (migrations / "0002.other.sql").write_text(makes("other"))
    server.migrate(database)
    assert tables(database) == {"good", "other"}


@pytest.mark.parametrize("name", ["0001.between.sql", "0002.again.sql"])
def test_a_migration_below_or_beside_an_applied_one_is_refused_until_it_is_renamed(
    database, migrations, name
):
    (migrations / "0002.first.sql").write_text(makes("first"))
    server.migrate(database)
    (migrations / name).write_text(makes("second"))
    with pytest.raises(MigrationRefused) as refused:
        server.migrate(database)
    assert tables(database) == {"first"}

    new_name = re.search(r"rename it to (\S+\.sql)", str(refused.value))[1]
    (migrations / name).rename(migrations / new_name)
    server.migrate(database)
    assert tables(database) == {"first", "second"}


def test_two_new_migrations_with_one_number_are_refused(database, migrations):
    for name in ("one", "two"):
        (migrations / f"0001.{name}.sql").write_text(makes(name))
    with pytest.raises(MigrationRefused, match=r"0001\.two\.sql .* rename it to 0002\.two\.sql"):
        server.migrate(database)
    assert tables(database) == set()


def test_a_database_of_a_newer_version_is_refused_until_that_version_is_back(database, migrations):
    (migrations / "0001.first.sql").write_text(makes("first"))
    newer = migrations / "0002.newer.sql"
    newer.write_text(makes("newer"))
    server.migrate(database)
    newer.unlink()
    with pytest.raises(MigrationRefused, match="migration 0002.newer, which this version"):
        server.migrate(database)

    newer.write_text(makes("newer"))
    server.migrate(database)
    assert applied(database) == ["0001.first", "0002.newer"]


def early(database: Settings, names: set[str]) -> None:
    """Makes the database as a version before 0.1.0 did: the baseline's schema, recorded under the early names."""
    with psycopg.connect(database.conninfo("owner")) as connection:
        for name in BASELINE:
            connection.execute((FOLDER / "migrations" / f"{name}.sql").read_text())
        connection.execute(
            "create table public.migrations"
            " (name text primary key, sha256 text not null, applied_at timestamptz not null default now())"
        )
        record_early(connection, names)


def record_early(connection: psycopg.Connection, names: set[str]) -> None:
    for name in names:
        connection.execute("insert into public.migrations (name, sha256) values (%s, 'early')", (name,))


def test_an_installation_from_before_0_1_0_is_upgraded_once_and_keeps_its_rows(database):
    early(database, set(EARLY_MIGRATIONS))
    with psycopg.connect(database.conninfo("app")) as connection:
        connection.execute(
            "insert into shop.verdicts (transaction_id, is_fraud, analyst, note) values ('t', true, 'a', '')"
        )
    server.migrate(database)
    expected = sorted(path.stem for path in (FOLDER / "migrations").glob("*.sql"))
    assert sorted(applied(database)) == expected

    server.migrate(database)
    assert sorted(applied(database)) == expected
    with psycopg.connect(database.conninfo("owner")) as connection:
        assert connection.execute("select count(*) from shop.verdicts").fetchone() == (1,)


def test_an_installation_with_a_part_of_the_early_migrations_is_told_what_to_do(database):
    missing = {"0060.parity", "0070.personal_data"}
    early(database, EARLY_MIGRATIONS - missing)
    message = (
        "lacks 0060.parity, 0070.personal_data: run `fraudstream up` once in a checkout of the commit 445ee27"
    )
    with pytest.raises(MigrationRefused, match=message):
        server.migrate(database)
    assert set(applied(database)) == EARLY_MIGRATIONS - missing

    with psycopg.connect(database.conninfo("owner")) as connection:  # as that commit does
        record_early(connection, missing)
    server.migrate(database)
    assert set(applied(database)) >= set(BASELINE)
    assert not set(applied(database)) & EARLY_MIGRATIONS


def migrate_before(database: Settings, migrations: Path, number: int) -> None:
    """Runs the migrations below a number, and puts the others into the folder."""
    files = sorted((FOLDER / "migrations").glob("*.sql"))
    for file in files[: number - 1]:
        (migrations / file.name).write_text(file.read_text())
    server.migrate(database)
    for file in files[number - 1 :]:
        (migrations / file.name).write_text(file.read_text())


def test_known_frauds_of_merchants_go_on_and_those_of_other_entities_are_added(database, migrations):
    migrate_before(database, migrations, KNOWN_LABELS)
    with psycopg.connect(database.conninfo("owner")) as owner:
        owner.execute("""
            insert into shop.transactions (transaction_id, user_id, timestamp, amount, merchant_id, device,
                merchant_category, transaction_location, topic, partition, "offset", broker_time)
            values ('a', 'u', '2026-03-01', 1, 'stored', 'phone', '', 'Nairobi, Kenya', 't', 0, 0, now()),
                   ('b', 'v', '2026-03-01', 1, 'm', null, 'books', null, 't', 0, 1, now());
            insert into shop.merchant_labels (transaction_id, timestamp, known_at, is_fraud, merchant_id, counts_from)
            values ('a', '2026-03-01', '2026-03-02 10:00Z', true, 'm', '2026-03-03'),
                   ('a', '2026-03-01', '2026-03-05 10:00Z', false, 'm', '2026-03-07'),
                   ('b', '2026-03-01', '2026-03-02 11:00Z', true, 'm', '2026-03-03'),
                   ('gone', '2026-03-01', '2026-03-02 12:00Z', true, 'm', '2026-03-03'),
                   ('b', '2026-03-01', '2026-03-01 00:00Z', true, 'm', null);
            insert into shop.merchant_frauds
            values ('m', '2026-03-03', '2026-03-03', 3), ('m', '2026-03-03', '2026-03-07', -1)
        """)
    server.migrate(database)
    entities = dict(zip(KINDS[:6], ("", "u", "m", "phone", "books", "kenya"), strict=True))
    march = [
        date(2026, 3, day) - date(1970, 1, 1) for day in (2, 3, 7)
    ]  # before, the first day, the correction's
    days = np.array([day.days for day in march]) * known_frauds.DAY
    given = {kind: Coded([entity], np.zeros(3, int)) for kind, entity in entities.items()}
    expected = [[0, 3, 2], [0, 1, 0], [0, 3, 2], [0, 1, 0], [0, 1, 1], [0, 1, 0]]
    expected += [[0, 0, 0]] * len(CATEGORIES)
    with psycopg.connect(database.conninfo("stream_writer")) as stream:
        assert known_frauds.counts(stream, given, days)[:, :, -1].T.tolist() == expected
        assert stream.execute("select count(*) from shop.known_labels").fetchone() == (5,)
    with psycopg.connect(database.conninfo("trainer")) as trainer:
        recomputed = known_frauds.as_read(trainer).counts(given, days)
    assert recomputed[:, :, -1].T.tolist() == expected


FILLED = """
insert into shop.stream_offsets (stream, topic, partition, topic_id, first_offset, next_offset, stored, dead_letters,
    duplicates, epoch, watermark) values
    ('transaction_stream', 't', 0, 'first', 0, 5, 2, 2, 1, 1, '2026-11-01'),
    ('fraud_stream', 't', 0, 'first', 0, 5, 3, 1, 1, 1, '2026-11-01');
insert into shop.transactions (transaction_id, user_id, timestamp, amount, topic, partition, "offset", broker_time)
    select id, 'u', '2026-11-01', 5, 't', 0, n, now() from (values ('a', 0), ('b', 1)) r (id, n);
insert into shop.fraud_scores (transaction_id, user_id, timestamp, score, is_alert, model_version, feature_set,
    features, topic, partition, "offset", broker_time)
    select id, 'u', '2026-11-01', 0.5, id = 'a', 1, 1, '{1}', 't', 0, n, now()
    from (values ('a', 0), ('b', 1), ('c', 2)) r (id, n);
insert into shop.fraud_alerts (transaction_id, user_id, timestamp, amount, score, threshold, model_version, topic,
    partition, "offset") values ('a', 'u', '2026-11-01', 5, 0.5, 0.5, 1, 't', 0, 0);
insert into shop.dead_letters (reason, detail, topic, partition, "offset", topic_id) values
    ('id_conflict', '', 't', 0, 2, 'first'), ('blank', '', 't', 0, 3, 'first');
insert into shop.fraud_transactions (transaction_id, timestamp, is_fraud, known_at)
    values ('a', '2026-11-01', true, '2026-11-02');
insert into shop.merchant_labels (transaction_id, known_at, is_fraud, merchant_id, counts_from) values
    ('a', '2026-11-02', true, 'm', '2026-11-03'), ('gone', '2026-11-02', true, 'm', '2026-11-03');
insert into shop.verdicts (transaction_id, is_fraud, analyst) values ('a', true, 'x'), ('gone', false, 'x');
"""
KEPT = {
    "select transaction_id, timestamp::date::text from shop.known_labels order by 1": [
        ("a", "2026-11-01"),
        ("gone", "2026-11-02"),
    ],
    "select stream, id_conflicts, without_record, generation from shop.stream_offsets order by 1": [
        ("fraud_stream", 0, 0, 0),
        ("transaction_stream", 1, 0, 0),
    ],
    'select transaction_id, topic, partition, "offset" from shop.verdicts order by 1': [
        ("a", "t", 0, 0),
        ("gone", None, None, None),
    ],
    "select transaction_id, is_fraud from shop.labels_known('2026-11-05')": [("a", True)],
    "select transaction_id from monitoring.labelled_scores order by 1": [("a",), ("b",)],
    "select generation, count(*) from shop.transactions group by 1": [(0, 2)],
    "select generation, count(*) from shop.fraud_scores group by 1": [(0, 3)],
    "select generation, count(*) from shop.dead_letters group by 1": [(0, 2)],
    "select generation, count(*) from shop.fraud_alerts group by 1": [(0, 1)],
    "select topic, topic_id, generation from shop.topics": [("t", "first", 0)],
}


def test_the_migrations_after_the_baseline_keep_what_filled_tables_hold(database):
    early(database, set(EARLY_MIGRATIONS))
    with psycopg.connect(database.conninfo("owner")) as connection:
        connection.execute(FILLED)
    server.migrate(database)
    with psycopg.connect(database.conninfo("owner"), autocommit=True) as connection:
        for query, expected in KEPT.items():
            assert connection.execute(query).fetchall() == expected, query
        connection.execute("delete from shop.stream_offsets where stream = 'fraud_stream'")
        closed = connection.execute(
            "select generation, stored, watermark::date::text from shop.closed_offsets"
        )
        assert closed.fetchall() == [(0, 3, "2026-11-01")]
        connection.execute("insert into shop.topics (topic, topic_id) values ('t', 'second')")
        newest = connection.execute("select topic_id from shop.topics order by generation desc limit 1")
        assert newest.fetchall() == [("second",)]
