"""Keeps the shop's tables small for years: creates coming months and removes expired rows.

A month of transactions or scores is one partition, made before its first row comes and dropped as a whole. Other
rows are deleted in small batches. Nothing goes that the reconciliation has not checked. Each lock is waited for
briefly and tried again, so that streams and readers behind it wait for two seconds at most; what is done under a
lock is of a limited size. Whatever is interrupted is finished by the next run.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import psycopg
from psycopg import sql
from psycopg.errors import DeadlockDetected, LockNotAvailable

from include.settings import Settings
from include.sql import one_row, statement

log = logging.getLogger(__name__)

SESSION = "-c timezone=UTC -c lock_timeout=2s"
HOLD = "set local statement_timeout = '30s'"  # of each statement under a lock that others wait for
ATTEMPTS, PAUSE = 60, 5.0

MONTHS_AHEAD = 3
FOREVER = timedelta(days=3653)  # rows older than that get no partition of their own
MOVED_AT_ONCE = 50_000
DELETED_AT_ONCE = 5_000


class StillLocked(RuntimeError):
    """A table could not be locked; the message says which and who may hold it."""


class ByMonth(NamedTuple):
    """A table whose partitions are months of `timestamp`.

    written: the column that says when a row was stored.
    setting: how many days its rows are kept.
    """

    name: str
    written: str
    setting: str

    @property
    def default(self) -> str:
        return f"{self.name}_default"


class Expiring(NamedTuple):
    """Rows of a table that are deleted some time after they were written.

    setting: how many days they are kept.
    condition: holds for a row `old` that is to be deleted. Its parameters are `before`, the moment before which rows
        are old enough, and `checked` (checked.sql).
    """

    table: str
    setting: str
    condition: str


TRANSACTIONS = ByMonth("transactions", "stored_at", "keep_transactions_days")
SCORES = ByMonth("fraud_scores", "scored_at", "keep_scores_days")

# An id is known for as long as its row is there. Those of the scores go a week, the time that a topic keeps records,
# before those of the transactions: an event that is stored anew is then scored anew, though one stream lags behind.
_HAS_SCORE = (
    "exists (select from shop.fraud_scores s where s.transaction_id = old.transaction_id"
    " and s.timestamp = old.timestamp and s.partition = old.partition)"
)
_HAS_TRANSACTION = (
    "exists (select from shop.transactions t where t.transaction_id = old.transaction_id"
    " and t.timestamp = old.timestamp)"
)
_HAS_SCORED_ID = "exists (select from shop.scored_ids i where i.transaction_id = old.transaction_id)"
_STORED = "timestamp < %(before)s and {} < least(%(before)s, %(checked)s::timestamptz)"

EXPIRING = (
    *(
        Expiring(table.default, table.setting, _STORED.format(table.written))
        for table in (TRANSACTIONS, SCORES)
    ),
    Expiring("scored_ids", "keep_ids_days", f"timestamp < %(before)s and not {_HAS_SCORE}"),
    Expiring(
        "transaction_ids",
        "keep_ids_days",
        f"timestamp < %(before)s - interval '7 days' and not {_HAS_TRANSACTION} and not {_HAS_SCORED_ID}",
    ),
    # A transaction without its label would be taken for a good one.
    Expiring(
        "fraud_transactions",
        "keep_labels_days",
        f"known_at < %(before)s and timestamp < %(before)s and not {_HAS_TRANSACTION}",
    ),
    # Of these the features know 30 days; the parity check those of the transactions that are kept.
    Expiring(
        "known_labels",
        "keep_labels_days",
        f"known_at < %(before)s and coalesce(counts_from, known_at) < %(before)s and not {_HAS_TRANSACTION}",
    ),
    Expiring("known_frauds", "keep_labels_days", "greatest(reported + 30, counts_from) < %(before)s"),
    Expiring("fraud_alerts", "keep_alerts_days", "created_at < %(before)s"),
    Expiring("incidents", "keep_alerts_days", "closed_at < %(before)s"),
    Expiring(
        "outbox", "keep_logs_days", "created_at < %(before)s and (sent_at is not null or undeliverable)"
    ),
    Expiring("dead_letters", "keep_dead_letters_days", "at < least(%(before)s, %(checked)s::timestamptz)"),
    # A letter about an id says which score does not count.
    Expiring(
        "dead_letters",
        "keep_replayed_dead_letters_days",
        "replayed_at < %(before)s and at < %(checked)s::timestamptz and reason <> 'id_conflict'",
    ),
    Expiring("user_state", "keep_states_days", "written_at < %(before)s"),
    Expiring("merchant_state", "keep_states_days", "written_at < %(before)s"),
    Expiring("day_state", "keep_states_days", "written_at < %(before)s"),
)


def maintain(settings: Settings, now: datetime | None = None) -> list[str]:
    """Makes partitions, moves rows into them, drops and deletes what is too old; returns what was done, a line each.

    Raises:
        StillLocked: a lock could not be had; what was done before stays done.
        psycopg.Error: PostgreSQL cannot be reached, or a statement took too long.
    """
    now = now or datetime.now(UTC)
    done: list[str] = []
    with _owner(settings) as connection, _alone(connection):
        for table in (TRANSACTIONS, SCORES):
            done += _make_months(connection, settings, table, now)
        (checked,) = one_row(connection.execute(statement("housekeeping/checked")))
        for table in (TRANSACTIONS, SCORES):
            done += _drop_months(connection, table, kept_from(getattr(settings, table.setting), now), checked)
        for expiring in EXPIRING:
            done += _delete(settings, connection, expiring, now, checked)
    for line in done:
        log.info("%s", line)
    return done


def make_months(settings: Settings, now: datetime | None = None) -> list[str]:
    """Only makes the partitions that are needed soon, before streams start; returns and raises as `maintain`."""
    done: list[str] = []
    with _owner(settings) as connection, _alone(connection):
        for table in (TRANSACTIONS, SCORES):
            done += _make_months(connection, settings, table, now or datetime.now(UTC))
    return done


def kept_from(days: int, now: datetime) -> datetime | None:
    """The moment before which rows that are kept for so many days are too old; None when they stay forever."""
    return now - timedelta(days=days) if days else None


def _owner(settings: Settings) -> psycopg.Connection:
    return psycopg.connect(settings.conninfo("owner"), autocommit=True, options=SESSION)


@contextmanager
def _alone(connection: psycopg.Connection) -> Iterator[None]:
    """One housekeeping at a time; the connection's end frees the lock."""
    _patiently(
        "another housekeeping",
        lambda: connection.execute("select pg_advisory_lock(hashtext('fraudstream housekeeping'))"),
    )
    yield


def _patiently(what: str, act: Callable[[], object]) -> None:
    """Acts until no lock is in the way: each attempt gives up after lock_timeout and lets others go first."""
    refusal: Exception | None = None
    for attempt in range(1, ATTEMPTS + 1):
        try:
            act()
            return
        except (LockNotAvailable, DeadlockDetected) as error:
            log.warning(
                "%s is in use, attempt %d of %d: %s", what, attempt, ATTEMPTS, error.diag.message_primary
            )
            refusal = error
        time.sleep(PAUSE)
    raise StillLocked(
        f"{what} was in use at each of {ATTEMPTS} attempts: look in pg_stat_activity for a transaction that stays "
        "open for long and end it; the next run goes on"
    ) from refusal


# Months


class _Part(NamedTuple):
    name: str
    first: datetime
    end: datetime


def month_of(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)


def next_month(first: datetime) -> datetime:
    return (first + timedelta(days=32)).replace(day=1)


def _parts(connection: psycopg.Connection, table: ByMonth) -> list[_Part]:
    return [
        _Part(*row) for row in connection.execute(statement("housekeeping/months"), (f"shop.{table.name}",))
    ]


def _months(
    connection: psycopg.Connection, settings: Settings, table: ByMonth, now: datetime
) -> list[datetime]:
    """The months that are to have a partition: those of the history, those ahead, and those of stray rows."""
    oldest = month_of(kept_from(getattr(settings, table.setting), now) or now - FOREVER)
    months = [max(oldest, month_of(now - timedelta(days=settings.history_days)))]
    last = month_of(now)
    for _ in range(MONTHS_AHEAD):
        last = next_month(last)
    while months[-1] < last:
        months.append(next_month(months[-1]))
    strays = connection.execute(
        sql.SQL(
            "select distinct date_trunc('month', timestamp, 'UTC') from shop.{} where timestamp >= %s"
        ).format(sql.Identifier(table.default)),
        [oldest],
    )
    return sorted({*months, *(month for (month,) in strays)})


def _make_months(
    connection: psycopg.Connection, settings: Settings, table: ByMonth, now: datetime
) -> list[str]:
    done, moved = [], 0
    for month in _months(connection, settings, table, now):
        rows = _fill(connection, table, month)
        if rows is not None:
            name = _name(table, month)
            done.append(f"made shop.{name}" + (f", {rows:,} rows moved into it" if rows else ""))
            moved += rows
    if moved:
        connection.execute(sql.SQL("vacuum (skip_locked) shop.{}").format(sql.Identifier(table.default)))
    return done


def _name(table: ByMonth, month: datetime) -> str:
    return f"{table.name}_{month:%Y_%m}"


def _fill(connection: psycopg.Connection, table: ByMonth, month: datetime) -> int | None:
    """Makes a month's partition with the rows that lie in the default one; None when the month has all of it.

    Where there are many rows, the partition grows through the month: each step moves some under a short lock, and
    every row can be read all the time.
    """
    moved, made = 0, None
    while True:
        part = next((part for part in _parts(connection, table) if part.name == _name(table, month)), None)
        if part and part.end == next_month(month):
            return made
        first = part.end if part else month
        end = _step(connection, table, first, next_month(month))

        def grow(part: _Part | None = part, first: datetime = first, end: datetime = end) -> None:
            nonlocal moved
            with connection.transaction():
                moved += _grow(connection, table, month, part, first, end)

        _patiently(f"shop.{table.name}", grow)
        made = moved


def _step(connection: psycopg.Connection, table: ByMonth, first: datetime, end: datetime) -> datetime:
    """Until when rows of the default partition are moved at once: at most `MOVED_AT_ONCE`, but those of an instant."""
    query = sql.SQL(
        "select timestamp from shop.{} where timestamp >= %s and timestamp < %s order by timestamp offset %s limit 1"
    ).format(sql.Identifier(table.default))
    start = connection.execute(query, (first, end, 0)).fetchone()
    later = connection.execute(query, (first, end, MOVED_AT_ONCE)).fetchone()
    return max(later[0], start[0] + timedelta(microseconds=1)) if start and later else end


def _grow(
    connection: psycopg.Connection,
    table: ByMonth,
    month: datetime,
    part: _Part | None,
    first: datetime,
    end: datetime,
) -> int:
    """Moves rows of [first, end) into a month's partition, which then ends at `end`; returns how many."""
    names = {
        "parent": sql.Identifier("shop", table.name),
        "default": sql.Identifier("shop", table.default),
        "part": sql.Identifier("shop", _name(table, month)),
    }

    def execute(statement: str, **values: datetime) -> psycopg.Cursor:
        literals = {name: sql.Literal(value) for name, value in values.items()}
        return connection.execute(sql.SQL(statement).format(**names, **literals))

    execute(HOLD)
    # The table before its partitions, as streams and readers lock them. A stream that had begun to write would send
    # rows to the default partition, which refuses them from now on: it ends first, and the next one waits.
    if part:
        execute("lock table only {parent} in access exclusive mode")
        execute("lock table {part} in access exclusive mode")
    else:
        execute("create table {part} (like {parent} including all)")
        execute("lock table only {parent} in share row exclusive mode")
    execute("lock table {default} in access exclusive mode")
    if part:
        execute("alter table {parent} detach partition {part}")
    moved = execute(
        "with moved as (delete from {default} where timestamp >= {first} and timestamp < {end} returning *)"
        " insert into {part} select * from moved",
        first=first,
        end=end,
    ).rowcount
    execute(
        "alter table {parent} attach partition {part} for values from ({month}) to ({end})",
        month=month,
        end=end,
    )
    return moved


def _drop_months(
    connection: psycopg.Connection, table: ByMonth, before: datetime | None, checked: str
) -> list[str]:
    """Drops the partitions whose rows all happened and were stored before a moment, and were checked."""
    if before is None:
        return []
    done = []
    for part in _parts(connection, table):
        if part.end > before:
            continue
        younger = _younger(connection, table, part, before, checked)

        def drop(part: _Part = part) -> None:
            nonlocal younger
            with connection.transaction():
                connection.execute(HOLD)
                for locked in (f"only shop.{table.name}", f"shop.{part.name}"):
                    connection.execute(f"lock table {locked} in access exclusive mode")
                younger = _younger(connection, table, part, before, checked)
                if not younger:
                    connection.execute(f"alter table shop.{table.name} detach partition shop.{part.name}")
                    connection.execute(f"drop table shop.{part.name}")

        if not younger:
            _patiently(f"shop.{table.name}", drop)
        if younger:
            log.info(
                "shop.%s stays: it has rows that were stored later or that reconcile has not checked",
                part.name,
            )
        else:
            done.append(f"dropped shop.{part.name}")
    return done


def _younger(
    connection: psycopg.Connection, table: ByMonth, part: _Part, before: datetime, checked: str
) -> bool:
    """Whether a partition has rows that were stored later than that, or are not checked yet."""
    query = sql.SQL("select exists (select from shop.{} where {} >= least(%s, %s::timestamptz))").format(
        sql.Identifier(part.name), sql.Identifier(table.written)
    )
    (younger,) = one_row(connection.execute(query, (before, checked)))
    return bool(younger)


# Rows


def _delete(
    settings: Settings, connection: psycopg.Connection, expiring: Expiring, now: datetime, checked: str
) -> list[str]:
    """Deletes expired rows, some in each transaction; a row that a stream holds is left for the next run."""
    days = getattr(settings, expiring.setting)
    if not days:
        return []
    arguments = {"before": kept_from(days, now), "checked": checked}
    table = sql.Identifier("shop", expiring.table)
    condition = sql.SQL(expiring.condition)
    find = sql.SQL("select ctid from {} old where {}").format(table, condition)
    delete = sql.SQL(
        "delete from {table} where ctid = any(array(select ctid from {table} old where ctid = any(%(ctids)s::tid[])"
        " and {condition} for update skip locked))"
    ).format(table=table, condition=condition)
    deleted = 0
    # One scan reads the rows' addresses; while its snapshot is open, no other row can take one of them.
    with _owner(settings) as reading, reading.transaction(), reading.cursor(name="expired") as cursor:
        cursor.execute(find, arguments)
        while rows := cursor.fetchmany(DELETED_AT_ONCE):
            ctids = [ctid for (ctid,) in rows]
            deleted += connection.execute(delete, arguments | {"ctids": ctids}).rowcount
    return [f"deleted {deleted:,} rows of shop.{expiring.table}"] if deleted else []
