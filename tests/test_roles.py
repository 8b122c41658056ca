"""What each database role may and may not do, on a real PostgreSQL with the real migrations.

`RELATIONS`, `COLUMNS`, `FUNCTIONS` and `DATABASES` are the whole list of what is allowed; everything else must be
refused. A new table, view or function fails here until it is written down.
"""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest
from psycopg.errors import (
    FeatureNotSupported,
    InsufficientPrivilege,
    ObjectNotInPrerequisiteState,
    WrongObjectType,
)

from include.events.transaction import CATEGORIES, FIELDS
from include.platform import postgres as postgres_server
from include.platform import secrets
from include.platform.temporary import running, temporary_settings
from include.settings import Settings
from tests.conftest import EMPTY

pytestmark = pytest.mark.services

# `stranger` stands for PUBLIC: a role that was granted nothing.
SHOP_ROLES = secrets.SHOP_ROLES
ROLES = (*SHOP_ROLES, "airflow", "mlflow", "stranger")
STATEMENTS = ("select", "insert", "update", "delete", "truncate")

READ = {"app": "select", "grafana": "select"}
STATES = {"stream_writer": "select insert update", "app": "select"}
LEDGER = {"stream_writer": "select some columns", "trainer": "select some columns", "app": "select"}
REGISTER = {"stream_writer": "select insert"}

# The owner may do everything to its own; nobody has rights on a partition itself.
RELATIONS: dict[str, dict[str, str]] = {
    "shop.transactions": {
        "stream_writer": "insert some columns",
        "trainer": "some columns",
        "app": "some columns",
        "personal": "some columns",
    },
    "shop.transaction_ids": REGISTER,
    "shop.fraud_transactions": {"stream_writer": "select insert", "trainer": "select", "app": "select"},
    "shop.dead_letters": {"stream_writer": "insert", "app": "some columns", "relay": "some columns"},
    "shop.fraud_scores": {"stream_writer": "insert", "trainer": "select", "app": "select"},
    "shop.scored_ids": REGISTER,
    "shop.fraud_alerts": {"stream_writer": "insert", "app": "select", "relay": "select"},
    "shop.verdicts": {"app": "select some columns"},
    "shop.user_state": STATES,
    "shop.merchant_state": STATES,
    "shop.day_state": STATES,
    "shop.known_labels": {"stream_writer": "select insert", "trainer": "select"},
    "shop.known_frauds": STATES,
    "shop.stream_offsets": STATES | {"trainer": "some columns", "relay": "select"},
    "shop.closed_offsets": {"stream_writer": "select", "trainer": "some columns"},
    "shop.topics": REGISTER,
    "shop.extra_fields": {"stream_writer": "select insert", "app": "select"},
    "shop.stream_leases": {"stream_writer": "select update", "app": "select", "relay": "select"},
    "monitoring.repeated_scores": {},
    "shop.reconciled": {"app": "select", "relay": "select"},
    "shop.parity_checks": {"trainer": "select some columns", "app": "select", "relay": "select"},
    "shop.decision_diffs": {"trainer": "select some columns", "app": "select"},
    "shop.model_health": {"trainer": "select some columns", "app": "select"},
    "shop.models": {
        "stream_writer": "select",
        "trainer": "select insert",
        "app": "select",
        "relay": "select",
    },
    "shop.incidents": {"relay": "select insert update", "trainer": "select insert update", "app": "select"},
    "shop.outbox": {"relay": "select insert update", "trainer": "some columns", "app": "some columns"},
    "shop.alert_cursor": {"relay": "select insert update"},
    "shop.promotions": LEDGER,
    "shop.promotion_outcomes": LEDGER,
    **dict.fromkeys(
        (
            "shop.rolled_up",
            "shop.rollup_state",
            "shop.activity",
            "shop.score_counts",
            "shop.delay_counts",
            "shop.flagged",
            "shop.pages",
            "monitoring.not_rolled_up",
        ),
        {},
    ),
    **dict.fromkeys(
        (
            "monitoring.activity",
            "monitoring.score_counts",
            "monitoring.delay_counts",
            "monitoring.flagged",
            "monitoring.settled",
            "monitoring.pages",
            "monitoring.transactions",
            "monitoring.alerts",
            "monitoring.labels",
            "monitoring.current_labels",
            "monitoring.labelled_scores",
            "monitoring.dead_letters",
            "monitoring.streams",
            "monitoring.leases",
            "monitoring.models",
            "monitoring.promotions",
            "monitoring.verdicts",
            "monitoring.incidents",
            "monitoring.outbox",
            "monitoring.held_back_alerts",
            "monitoring.model_health",
        ),
        READ,
    ),
    "monitoring.scores": READ | {"relay": "select"},
    "monitoring.alert_days": READ | {"trainer": "select"},
    "monitoring.masked_customers": {"app": "select"},
    "public.migrations": {},
}
PERSONAL = " ".join(field.name for field in FIELDS if field.personal)
EXTRA = " ".join(CATEGORIES)
UNNAMED = " ".join(field.name for field in FIELDS if not field.personal)
# Where a role has some columns only ("some columns" above), these and no others.
COLUMNS: dict[tuple[str, str, str], str] = {
    ("trainer", "select", "shop.transactions"): f"{UNNAMED} topic partition offset generation",
    (
        "app",
        "select",
        "shop.transactions",
    ): f"{UNNAMED} late topic partition offset broker_time stored_at generation",
    ("personal", "select", "shop.transactions"): f"transaction_id {PERSONAL}",
    (
        "stream_writer",
        "select",
        "shop.transactions",
    ): f"transaction_id user_id timestamp transaction_location device merchant_id merchant_category {EXTRA}",
    ("trainer", "select", "shop.stream_offsets"): "stream topic partition next_offset stored generation",
    ("trainer", "select", "shop.closed_offsets"): "stream topic partition generation stored",
    (
        "trainer",
        "insert",
        "shop.parity_checks",
    ): "feature_set rows merchants left_out share seconds mismatches",
    ("trainer", "insert", "shop.decision_diffs"): "version threshold starts ends result",
    ("trainer", "insert", "shop.model_health"): "at version cause subject shift changed evidence",
    ("trainer", "insert", "shop.outbox"): "channel key value",
    (
        "app",
        "select",
        "shop.dead_letters",
    ): "reason detail topic partition offset at replayed_at topic_id event generation",
    ("relay", "select", "shop.dead_letters"): "reason topic partition offset at replayed_at",
    ("app", "insert", "shop.outbox"): "channel key value",
    **{
        (role, "insert", table): columns
        for role in ("trainer", "stream_writer")
        for table, columns in (
            ("shop.promotions", "kind version from_version actor reason mode parity evidence"),
            ("shop.promotion_outcomes", "promotion_id done"),
        )
    },
    ("app", "insert", "shop.verdicts"): "transaction_id is_fraud analyst note topic partition offset",
}
FUNCTIONS: dict[str, set[str]] = {
    "shop.labels_known": {"trainer", "app"},
    "shop.event_key": {"trainer"},
    "shop.verdict_label": {"app"},
    "monitoring.labels_settled_until": {"app", "grafana"},
    "monitoring.daily_performance": {"app", "grafana"},
    "monitoring.grain": {"app", "grafana"},
    "monitoring.first_cell": {"app", "grafana"},
}
# role: what it may do in which database.
DATABASES: dict[str, dict[str, set[str]]] = {
    "owner": {"fraudstream": {"connect", "create", "temporary"}},
    "stream_writer": {"fraudstream": {"connect", "temporary"}},
    "trainer": {"fraudstream": {"connect"}},
    "app": {"fraudstream": {"connect"}},
    "personal": {"fraudstream": {"connect"}},
    "grafana": {"fraudstream": {"connect"}},
    "relay": {"fraudstream": {"connect"}},
    "airflow": {"airflow": {"connect", "create", "temporary"}},
    "mlflow": {"mlflow": {"connect", "create", "temporary"}},
    "stranger": {},
}
# What no role may do, and what only the owner may.
REFUSED = {
    "read a file of the server": "select pg_read_file('PG_VERSION')",
    "list its folders": "select pg_ls_dir('.')",
    "write a file": "copy (select 1) to '/tmp/fraudstream-must-not-exist'",
    "run a program": "copy (select 1) to program 'true'",
    "read by a program": "copy shop.models from program 'true'",
    "load a file": "select lo_import('/etc/hostname')",
    "read passwords": "select rolpassword from pg_authid",
    "make a role": "create role intruder",
    "become superuser": "set role postgres",
    "give itself a role": "grant pg_read_all_data to current_user",
    "install an extension": "create extension file_fdw schema shop",
    "a function in C": "create function shop.intruder() returns int language c as 'x', 'y'",
    "log nothing": "set log_statement = 'none'",
}
OUTSIDE = {  # of any transaction
    "make a database": "create database intruder",
    "change the server": "alter system set work_mem = '1MB'",
    "become another session": "set session authorization postgres",
}
OWNERS = {
    "become the owner": "set role owner",
    "make a table in shop": "create table shop.intruder (a int)",
    "make a table in monitoring": "create table monitoring.intruder (a int)",
    "make a table in public": "create table public.intruder (a int)",
    "make a schema": "create schema intruder",
    "move a view": "alter view monitoring.transactions set schema public",
    "delete its traces": "drop table shop.verdicts cascade",
    "change a rule": "alter table shop.transactions disable trigger all",
}


def superuser(settings: Settings, database: str | None = None) -> psycopg.Connection:
    conninfo = settings.conninfo("owner", database).replace("user=owner", "user=postgres")
    return psycopg.connect(conninfo, autocommit=True)


@pytest.fixture(scope="module")
def shop(postgres: Settings) -> Iterator[Settings]:
    with superuser(postgres) as connection:
        connection.execute(EMPTY)
        connection.execute("create role stranger login nosuperuser")
        yield postgres
        connection.execute("drop role stranger")


@pytest.fixture(scope="module")
def sessions(shop: Settings) -> Iterator[dict[str, psycopg.Connection]]:
    """A session of each role: its own login where it may connect to the shop's database, a borrowed one otherwise."""
    opened = {role: psycopg.connect(shop.conninfo(role), autocommit=True) for role in SHOP_ROLES}
    for role in ROLES[len(SHOP_ROLES) :]:
        opened[role] = superuser(shop)
        opened[role].execute(f"set session authorization {role}")
    yield opened
    for connection in opened.values():
        connection.close()


def refused(connection: psycopg.Connection, statement: str) -> bool:
    """Whether the role lacks the right to a statement; whatever the statement does is undone."""
    try:
        with connection.transaction(force_rollback=True):
            connection.execute(statement)
    except (InsufficientPrivilege, FeatureNotSupported, ObjectNotInPrerequisiteState, WrongObjectType):
        return True  # all but the first: a view that nobody can write to
    return False


def columns(shop: Settings, relation: str) -> list[str]:
    with psycopg.connect(shop.conninfo("owner")) as connection:
        rows = connection.execute(
            "select attname from pg_attribute where attrelid = %s::regclass and attnum > 0 and not attisdropped"
            " and attidentity <> 'a' order by attnum",
            [relation],
        )
        return [name for (name,) in rows]


def statement(kind: str, relation: str, names: list[str]) -> str:
    """One that touches all of the columns; EXPLAIN checks the rights as running it does."""
    quoted = [f'"{name}"' for name in names]
    return {
        "select": f"explain select {', '.join(quoted)} from {relation}",
        "insert": f"explain insert into {relation} ({', '.join(quoted)}) values ({', '.join(['null'] * len(names))})",
        "update": f"explain update {relation} set {', '.join(f'{name} = null' for name in quoted)}",
        "delete": f"explain delete from {relation}",
        "truncate": f"truncate {relation}",
    }[kind]


def test_every_table_and_view_is_in_the_matrix(shop):
    with psycopg.connect(shop.conninfo("owner")) as connection:
        rows = connection.execute(
            "select relnamespace::regnamespace::text || '.' || relname, relispartition from pg_class"
            " where relkind in ('r', 'p', 'v', 'm', 'f') and relnamespace::regnamespace::text !~ '^pg_|^information_'"
        ).fetchall()
    assert {name for name, partition in rows if not partition} == RELATIONS.keys()
    assert {relation for _, _, relation in COLUMNS} <= RELATIONS.keys()


@pytest.mark.parametrize("role", ROLES)
def test_tables_and_views_allow_what_the_matrix_says_and_no_more(shop, sessions, role):
    wrong = []
    for relation, allowed in RELATIONS.items():
        names = columns(shop, relation)
        for kind in STATEMENTS:
            may = role == "owner" or kind in allowed.get(role, "").split()
            if role == "owner" and relation.startswith("monitoring.") and kind != "select":
                continue  # its own views, most of which cannot be written to
            if refused(sessions[role], statement(kind, relation, names)) is may:
                wrong.append(f"{role} {'must' if may else 'must not'} {kind} {relation}")
    assert wrong == []


def test_columns_allow_what_the_matrix_says_and_no_more(shop, sessions):
    """Where a role does not have a whole table, each column by itself."""
    wrong = []
    for role in ROLES[1:]:
        for relation, allowed in RELATIONS.items():
            for kind in ("select", "insert", "update"):
                if kind in allowed.get(role, "").split():
                    continue
                granted = COLUMNS.get((role, kind, relation), "").split()
                wrong += [
                    f"{role} {kind} {relation}.{name}"
                    for name in columns(shop, relation)
                    if refused(sessions[role], statement(kind, relation, [name])) is (name in granted)
                ]
    assert wrong == []


def test_partitions_and_sequences_are_reached_by_nobody_directly(shop):
    """By the rights that stand in the catalog, for partitions that are made later, too."""
    with superuser(shop) as connection:
        rows = connection.execute(
            "select c.oid::regclass::text, r.rolname from pg_class c cross join pg_roles r"
            " where (c.relispartition and c.relkind in ('r', 'p') or c.relkind = 'S')"
            " and c.relnamespace::regnamespace::text in ('shop', 'monitoring', 'public') and r.rolname = any(%s)"
            " and case when c.relkind = 'S' then has_sequence_privilege(r.oid, c.oid, 'usage, select, update')"
            " else has_any_column_privilege(r.oid, c.oid, 'select, insert, update, references')"
            "   or has_table_privilege(r.oid, c.oid, 'delete, truncate, trigger, maintain') end",
            [list(ROLES[1:])],
        ).fetchall()
    assert rows == []


def test_views_give_nobody_more_than_reading(shop):
    with superuser(shop) as connection:
        rows = connection.execute(
            "select c.oid::regclass::text, r.rolname from pg_class c cross join pg_roles r where c.relkind = 'v'"
            " and c.relnamespace = 'monitoring'::regnamespace and r.rolname = any(%s)"
            " and has_table_privilege(r.oid, c.oid, 'insert, update, delete, truncate, references, trigger, maintain')",
            [list(ROLES[1:])],
        ).fetchall()
    assert rows == []


@pytest.mark.parametrize("role", ROLES)
def test_functions_run_for_whom_the_matrix_says(shop, sessions, role):
    with superuser(shop) as connection:
        rows = connection.execute(
            "select pronamespace::regnamespace::text || '.' || proname, pronargs, prosecdef from pg_proc"
            " where pronamespace::regnamespace::text in ('shop', 'monitoring', 'public')"
            " and prorettype <> 'trigger'::regtype"
        ).fetchall()
    assert {name for name, _, _ in rows} == FUNCTIONS.keys()
    assert not any(definer for _, _, definer in rows), (
        "a function with its owner's rights needs a second look"
    )
    for name, arguments, _ in rows:
        call = f"select * from {name}({', '.join(['null'] * arguments)})"
        assert refused(sessions[role], call) is (role != "owner" and role not in FUNCTIONS[name]), (
            role,
            name,
        )


@pytest.mark.parametrize("what", REFUSED)
def test_nobody_may(sessions, what):
    assert [role for role in ROLES if not refused(sessions[role], REFUSED[what])] == []


@pytest.mark.parametrize("what", OUTSIDE)
@pytest.mark.parametrize("role", SHOP_ROLES)
def test_nobody_may_by_a_login_of_its_own(sessions, role, what):
    with pytest.raises(InsufficientPrivilege):
        sessions[role].execute(OUTSIDE[what])


@pytest.mark.parametrize("what", OWNERS)
def test_only_the_owner_may(sessions, what):
    allowed = [role for role in ROLES if not refused(sessions[role], OWNERS[what])]
    assert allowed == ["owner"]


def test_nobody_may_pass_a_right_on(shop):
    with superuser(shop) as connection:
        rows = connection.execute(
            "select oid::regclass::text, grantee::regrole::text from pg_class, aclexplode(relacl)"
            " where is_grantable and grantee <> relowner union all"
            " select attrelid::regclass::text, grantee::regrole::text from pg_attribute, aclexplode(attacl)"
            " where is_grantable"
        ).fetchall()
    assert rows == []


def test_one_role_cannot_become_another(shop):
    with superuser(shop) as connection:
        members = connection.execute(
            "select m.member::regrole::text, m.roleid::regrole::text from pg_auth_members m"
            " where m.member::regrole::text = any(%s)",
            [list(ROLES)],
        ).fetchall()
        powers = connection.execute(
            "select rolname from pg_roles where rolname = any(%s)"
            " and (rolsuper or rolcreaterole or rolcreatedb or rolreplication or rolbypassrls)",
            [list(ROLES)],
        ).fetchall()
    assert members == [] and powers == []


def test_each_role_reaches_its_own_database_only(shop):
    with superuser(shop) as connection:
        rows = connection.execute(
            "select r.rolname, d.datname, p from pg_roles r cross join pg_database d"
            " cross join unnest(array['connect', 'create', 'temporary']) p"
            " where r.rolname = any(%s) and d.datallowconn and has_database_privilege(r.oid, d.oid, p)",
            [list(ROLES)],
        ).fetchall()
    documented = {
        (role, shop.postgres_database if database == "fraudstream" else database, right)
        for role, databases in DATABASES.items()
        for database, rights in databases.items()
        for right in rights
    }
    assert set(rows) == documented


@pytest.mark.parametrize("role", secrets.DATABASE_ROLES[1:])
@pytest.mark.parametrize("database", ["fraudstream", "airflow", "mlflow", "postgres", "template1"])
def test_a_login_to_another_database_is_refused(shop, role, database):
    open_to = DATABASES[role]
    if database in open_to:
        psycopg.connect(shop.conninfo(role, database)).close()
    else:
        with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
            psycopg.connect(shop.conninfo(role, database))


def test_public_has_no_schema_and_gets_no_later_function(shop):
    with superuser(shop) as connection:
        connection.execute("set session authorization owner")
        with connection.transaction(force_rollback=True):
            connection.execute("create function shop.later() returns int language sql as 'select 1'")
            connection.execute("create table shop.later (a int)")
            connection.execute("grant usage on schema shop to stranger")
            open_to = connection.execute(
                "select has_function_privilege('stranger', 'shop.later()', 'execute'),"
                " has_table_privilege('stranger', 'shop.later', 'select, insert, update, delete')"
            ).fetchone()
        schemas = connection.execute(
            "select n, p from unnest(array['shop', 'monitoring', 'public']) n, unnest(array['usage', 'create']) p"
            " where has_schema_privilege('stranger', n, p)"
        ).fetchall()
    assert open_to == (False, False) and schemas == []


# Getting in

WRONG = {"wrong": "not the password", "empty": "", "missing": None}


@pytest.mark.parametrize("password", WRONG.values(), ids=WRONG)
@pytest.mark.parametrize("role", ["postgres", "owner", "app", "nobody-at-all"])
def test_without_the_right_password_nobody_gets_in(postgres, role, password, monkeypatch):
    _refused_login(monkeypatch, password, host="127.0.0.1", port=postgres.postgres_port, user=role)


def _refused_login(monkeypatch, password: str | None, **where) -> None:
    monkeypatch.setenv("PGPASSFILE", "/dev/null")
    monkeypatch.delenv("PGPASSWORD", raising=False)
    given = {} if password is None else {"password": password}
    with pytest.raises(psycopg.OperationalError, match="password authentication failed|no password supplied"):
        psycopg.connect(dbname="fraudstream", connect_timeout=5, **given, **where)


def test_every_way_in_asks_for_a_scram_password(postgres):
    with superuser(postgres) as connection:
        rules = connection.execute("select type, auth_method, error from pg_hba_file_rules").fetchall()
        sockets, encryption = connection.execute(
            "select current_setting('unix_socket_directories'), current_setting('password_encryption')"
        ).fetchone()
        stored = connection.execute(
            "select distinct left(rolpassword, 14) from pg_authid where rolcanlogin"
        ).fetchall()
    assert {method for _, method, _ in rules} == {"scram-sha-256"} and not any(error for *_, error in rules)
    assert (sockets, encryption) == ("", "scram-sha-256")
    assert ("SCRAM-SHA-256$",) in stored


@pytest.fixture(scope="module")
def with_socket(tmp_path_factory) -> Iterator[tuple[str, Settings]]:
    """A server of our making that has a local socket, too, as the one in the container has."""
    home = tmp_path_factory.mktemp("with-socket")
    settings = temporary_settings(home)
    secrets.ensure(settings)
    postgres_server.initialise(settings)
    folder = str(postgres_server.data_folder(settings))  # the one place where its user may write
    command = postgres_server.command(settings)
    command[command.index("unix_socket_directories=")] += folder
    with running("postgres", settings, command, lambda: postgres_server.ready(settings)):
        yield folder, settings


@pytest.mark.parametrize("password", WRONG.values(), ids=WRONG)
def test_the_local_socket_asks_for_the_password_too(with_socket, password, monkeypatch):
    folder, settings = with_socket
    _refused_login(monkeypatch, password, host=folder, port=settings.postgres_port, user="postgres")
    right = secrets.ensure(settings)["postgres"]
    psycopg.connect(
        host=folder, port=settings.postgres_port, user="postgres", dbname="postgres", password=right
    ).close()
