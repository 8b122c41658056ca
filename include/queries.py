"""The named queries in include/sql/queries, one file each, run as a database role.

A file's leading comment says what the query returns; `%(name)s` marks a parameter, as in psycopg.
"""

from __future__ import annotations

import pandas
import sqlalchemy
from sqlalchemy.exc import DBAPIError

from include.settings import Role, Settings
from include.sql import FOLDER, statement

QUERY_CANCELED = "57014"


class QueryError(RuntimeError):
    """A named query did not give its rows; the message names the query and what PostgreSQL said."""


class DatabaseUnavailable(QueryError):
    """PostgreSQL cannot be reached, or it dropped the connection."""


class LoginRefused(QueryError):
    """PostgreSQL does not let the role in: its password is missing or wrong."""


class QueryTooSlow(QueryError):
    """The query ran into the engine's statement timeout."""


def names() -> list[str]:
    """The names of all queries, sorted."""
    return sorted(path.stem for path in (FOLDER / "queries").glob("*.sql"))


def text(name: str) -> str:
    """The SQL of a query, with its leading comment.

    Raises:
        KeyError: there is no query of this name.
    """
    return statement(f"queries/{name}")


def engine(
    settings: Settings, role: Role, *, timeout_seconds: float = 20, pool_size: int = 5
) -> sqlalchemy.Engine:
    """A pool of connections as `role`, in UTC, whose statements end after `timeout_seconds`."""
    return sqlalchemy.create_engine(
        settings.sqlalchemy_url(role),
        pool_size=pool_size,
        pool_pre_ping=True,
        connect_args={
            "connect_timeout": 5,
            "application_name": "fraudstream",
            "options": f"-c timezone=UTC -c work_mem=32MB -c statement_timeout={int(timeout_seconds * 1000)}",
        },
    )


def frame(engine: sqlalchemy.Engine, name: str, **parameters: object) -> pandas.DataFrame:
    """The rows of a query; its columns are there even when no row is.

    Raises:
        DatabaseUnavailable, LoginRefused, QueryTooSlow, QueryError: as their names say.
        KeyError: there is no query of this name.
    """
    try:
        with engine.connect() as connection:
            return pandas.read_sql_query(text(name), connection, params=parameters)
    except DBAPIError as error:
        raise _named(name, error) from error


def execute(engine: sqlalchemy.Engine, name: str, **parameters: object) -> int:
    """Run a statement in a transaction of its own; returns how many rows it changed.

    Raises:
        DatabaseUnavailable, LoginRefused, QueryTooSlow, QueryError: as their names say; nothing was
            changed, except that a connection lost during COMMIT leaves that open.
        KeyError: there is no query of this name.
    """
    try:
        with engine.begin() as connection:
            return connection.exec_driver_sql(text(name), parameters).rowcount
    except DBAPIError as error:
        raise _named(name, error) from error


def _named(name: str, error: DBAPIError) -> QueryError:
    state = getattr(error.orig, "sqlstate", None)
    message = f"query {name}: {str(error.orig).strip()}"
    if state == QUERY_CANCELED:
        return QueryTooSlow(message)
    if state is None and "password" in message:
        return LoginRefused(message)
    # Without a state no server answered; classes 08, 53 and 57 are lost connections, exhaustion and shutdown.
    if error.connection_invalidated or state is None or state[:2] in {"08", "53", "57"}:
        return DatabaseUnavailable(message)
    return QueryError(message)
