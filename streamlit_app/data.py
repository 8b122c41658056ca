"""What the pages read, cached for all viewers, and the words for when it cannot be read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import pandas
import psycopg
import sqlalchemy
import streamlit as st

from include import queries
from include.models.scorer import Scorer
from include.registry.aliases import versions as registered_versions
from include.registry.errors import ModelRejected, RegistryUnavailable
from include.registry.loading import load_scorer
from include.settings import Role, load

LIVE = 5  # seconds: how often live figures are read and drawn again
SLOW = 60  # seconds: the same for figures over days


@st.cache_resource
def _pool(url: str, role: Role) -> sqlalchemy.Engine:
    return queries.engine(load(), role)


def engine(role: Role = "app") -> sqlalchemy.Engine:
    """The connections of all viewers, with the rights of a role."""
    return _pool(load().sqlalchemy_url(role), role)


@st.cache_data(ttl=LIVE - 1, show_spinner=False, max_entries=200)
def _live(url: str, role: Role, name: str, parameters: dict[str, object]) -> pandas.DataFrame:
    return queries.frame(engine(role), name, **parameters)


@st.cache_data(ttl=SLOW - 5, show_spinner="Reading scores and labels …", max_entries=100)
def _slow(url: str, name: str, parameters: dict[str, object]) -> pandas.DataFrame:
    return queries.frame(engine(), name, **parameters)


def live(name: str, **parameters: object) -> pandas.DataFrame:
    """The rows of a named query, at most `LIVE` seconds old."""
    return _live(load().sqlalchemy_url("app"), "app", name, parameters)


def personal(transaction_id: str) -> pandas.DataFrame:
    """Name and e-mail of a transaction's customer, read by the role `personal`."""
    url = load().sqlalchemy_url("personal")
    return _live(url, "personal", "personal_data", {"transaction_id": transaction_id})


def streams() -> pandas.DataFrame:
    """What each stream says and has counted, at most `LIVE` seconds old."""
    return live("streams", labels_topic=load().labels_topic)


def slow(name: str, **parameters: object) -> pandas.DataFrame:
    """The rows of a named query, at most `SLOW` seconds old."""
    return _slow(load().sqlalchemy_url("app"), name, parameters)


def now(name: str, **parameters: object) -> pandas.DataFrame:
    """The rows of a named query, read now."""
    return queries.frame(engine(), name, **parameters)


def write(name: str, **parameters: object) -> int:
    """Runs a named statement; returns how many rows it changed."""
    return queries.execute(engine(), name, **parameters)


@st.cache_data(ttl=15, show_spinner=False)
def _aliases(uri: str, url: str) -> dict[int, str]:
    versions = registered_versions(load(), role="app")
    return {version.version: ", ".join(version.aliases) for version in versions if version.aliases}


def aliases() -> dict[int, str]:
    """The aliases of model versions in the registry, such as {3: "champion"}.

    Raises:
        RegistryUnavailable: MLflow does not answer.
    """
    return _aliases(load().mlflow_tracking_uri, load().sqlalchemy_url("app"))


@st.cache_resource(max_entries=3, show_spinner="Loading the model …")
def _scorer(uri: str, version: int, sha256: str) -> Scorer:
    return load_scorer(load(), version, role="app")


def scorer(version: int, sha256: str) -> Scorer:
    """The verified scorer of a registered version.

    Raises:
        RegistryUnavailable, ModelRejected: as `include.registry.loading.load_scorer`.
    """
    return _scorer(load().mlflow_tracking_uri, version, sha256)


def period(days: float) -> dict[str, datetime] | None:
    """`since` and `until`, looking back from the newest scored event; None when nothing is scored yet.

    Whole minutes, so that viewers share the cached rows.
    """
    newest = live("latest_event")["at"][0]
    if pandas.isna(newest):
        return None
    until = newest.to_pydatetime().astimezone(UTC).replace(second=0, microsecond=0) + timedelta(minutes=1)
    return {"since": until - timedelta(days=days), "until": until}


@contextmanager
def explained() -> Iterator[None]:
    """Says in words, in the place of what the block would have drawn, which service is away and what to do."""
    settings = load()
    try:
        yield
    except (queries.DatabaseUnavailable, psycopg.OperationalError):
        st.error(
            f"**PostgreSQL does not answer** at {settings.postgres_host}, port {settings.postgres_port}, so there "
            "is nothing to show here. Transactions wait in Kafka meanwhile. Look with `fraudstream status` and "
            "`fraudstream logs postgres`. This page goes on by itself when PostgreSQL is back.",
            icon=":material/cloud_off:",
        )
    except queries.LoginRefused as error:
        _refused(
            "**PostgreSQL did not let this app in.** An app that shows names needs the password of the role "
            "`personal`, any other that of `app`: give it the secret of that name.",
            ":material/lock:",
            error,
        )
    except queries.QueryTooSlow:
        st.warning(
            "**PostgreSQL took too long** for this part of the page. Choose a shorter period, or wait until the "
            "streams have caught up.",
            icon=":material/hourglass_bottom:",
        )
    except queries.QueryError as error:
        _refused(
            "**PostgreSQL refused a query.** Most likely its tables are older than this app: `make up` brings "
            "them up to date.",
            ":material/database_off:",
            error,
        )
    except RegistryUnavailable:
        st.warning(
            f"**MLflow does not answer** at {settings.mlflow_tracking_uri}. The streams go on with the model that "
            "they have. Look with `fraudstream status` and `fraudstream logs mlflow`.",
            icon=":material/cloud_off:",
        )
    except ModelRejected as error:
        _refused(
            "**The model was refused** and is not used. What the check found:", ":material/gpp_bad:", error
        )


def _refused(what: str, icon: str, error: Exception) -> None:
    """What was refused and what to do, in words, and below it what the error says."""
    st.error(what, icon=icon)
    st.code(str(error), language=None, wrap_lines=True)


def forget() -> None:
    """Drops the live figures, after this viewer changed something."""
    _live.clear()
