import re
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas
import psycopg
import pytest
from psycopg.rows import dict_row
from sklearn.metrics import average_precision_score

from include import queries
from include.settings import PROJECT_ROOT, Settings
from include.training import evaluation
from tests import sample_data
from tests.conftest import EMPTY

pytestmark = pytest.mark.services

PARAMETERS = {
    "version": None,
    "inbox": "all",
    "limit": 20,
    "transaction_id": "tx-0007990",
    "topic": "transactions-data",
    "partition": 0,
    "offset": 0,
    "user_id": "u00001",
    "seconds": 60,
    "is_fraud": True,
    "analyst": "an analyst",
    "note": "",
    "labels_topic": "transaction-labels",
}


def used(name: str, **more: object) -> dict[str, object]:
    """The parameters that a query names, out of the usual ones."""
    now = datetime.now(UTC)
    known = PARAMETERS | {"since": now - timedelta(days=30), "until": now} | more
    return {key: known[key] for key in set(re.findall(r"%\((\w+)\)s", queries.text(name)))}


def event_of(row: pandas.Series) -> dict[str, object]:
    """Which event a row is of, as parameters of the queries."""
    return {name: row[name] for name in ("transaction_id", "topic")} | {
        name: int(row[name]) for name in ("partition", "offset")
    }


@pytest.fixture(scope="module")
def shop(postgres: Settings) -> Settings:
    with psycopg.connect(postgres.conninfo("owner"), autocommit=True) as connection:
        connection.execute(EMPTY)
    sample_data.fill(postgres)
    with psycopg.connect(postgres.conninfo("trainer"), autocommit=True) as connection:
        connection.execute(
            "insert into shop.decision_diffs (version, threshold, starts, ends, result) "
            "values (2, 0.9, now() - interval '1 day', now(), '{}')"
        )
    return postgres


@pytest.fixture(scope="module")
def app(shop: Settings):
    engine = queries.engine(shop, "app")
    yield engine
    engine.dispose()


@pytest.fixture(scope="module")
def personal(shop: Settings):
    engine = queries.engine(shop, "personal")
    yield engine
    engine.dispose()


OF_THE_APP = [name for name in queries.names() if name != "personal_data"]


@pytest.mark.parametrize("name", queries.names())
def test_first_line_says_what_a_query_returns(name):
    assert re.match(r"-- [A-Z].{20,}", queries.text(name))


@pytest.mark.parametrize("name", [name for name in OF_THE_APP if not name.startswith("add_")])
def test_every_query_runs_as_the_app(app, name):
    raised = queries.frame(app, "alerts", inbox="decided", limit=1).iloc[0]
    rows = queries.frame(app, name, **used(name, **event_of(raised)))
    assert len(rows.columns) and len(rows) > 0


def test_an_unknown_query_is_named(app):
    with pytest.raises(KeyError, match="no statement 'nothing'.*alerts"):
        queries.frame(app, "nothing")


def test_average_precision_equals_scikit_learns_with_ties(app, shop):
    with psycopg.connect(shop.conninfo("owner")) as connection:
        connection.execute("update shop.fraud_scores set score = round(score::numeric, 2)")
        connection.execute("update shop.fraud_scores set score = 0.6 where score between 0.45 and 0.6")
        truth = connection.execute("""
            select date_trunc('day', s.timestamp, 'UTC'), coalesce(is_fraud, false), score, is_alert
            from shop.fraud_scores s left join shop.labels_known(now()) using (transaction_id, timestamp)
            where s.timestamp < date_trunc('day', monitoring.labels_settled_until(), 'UTC')""").fetchall()
    rows = queries.frame(app, "daily_performance", **used("daily_performance")).set_index("day")
    days = sorted({day for day, *_ in truth})
    with_fraud = 0
    for day in days:
        fraud, score, alert = np.array([rest for at, *rest in truth if at == day], float).T
        row = rows.loc[day]
        assert row.settled == row.transactions == len(fraud)
        caught = (fraud * alert).sum()
        if fraud.any():
            with_fraud += 1
            assert row.average_precision == pytest.approx(average_precision_score(fraud, score), abs=1e-12)
            assert row.recall == pytest.approx(caught / fraud.sum())
        else:
            assert pandas.isna(row.average_precision) and pandas.isna(row.recall)
        assert (
            row.precision == pytest.approx(caught / alert.sum())
            if alert.any()
            else pandas.isna(row.precision)
        )
    assert with_fraud >= 5


def test_the_pages_and_the_evaluation_measure_the_same(app, shop):
    now = datetime.now(UTC)
    measured = evaluation.evaluate(shop, now - timedelta(days=30), now, as_of=now, draws=0)
    settled = datetime.fromisoformat(measured["settled_until"])
    assert abs(queries.frame(app, "settled_until")["at"][0] - settled) < timedelta(minutes=1)
    rows = queries.frame(app, "daily_performance", **used("daily_performance")).set_index("day")
    for day in measured["per_day"][:-1]:
        row = rows.loc[f"{day['day']} 00:00:00+00:00"]
        for name in (
            "transactions",
            "frauds",
            "alerts",
            "caught",
            "precision",
            "recall",
            "average_precision",
        ):
            expected = day[name]  # None where a day has no fraud or no alert
            assert pandas.isna(row[name]) if expected is None else row[name] == pytest.approx(expected), name


def test_younger_transactions_count_only_as_what_is_known(app):
    rows = queries.frame(app, "daily_performance", **used("daily_performance")).set_index("day")
    young = rows[rows.index > pandas.Timestamp.now("UTC") - pandas.Timedelta(days=3)]
    assert len(young) >= 2 and (young.settled == 0).all()
    assert young.precision.isna().all() and young.recall.isna().all() and young.average_precision.isna().all()
    assert (young.known_frauds >= young.known_caught).all() and young.known_frauds.sum() > 0


def test_labels_that_come_with_the_events_are_settled_at_once(shop):
    with psycopg.connect(shop.conninfo("owner")) as connection, connection.transaction(force_rollback=True):
        connection.execute("""
            insert into shop.fraud_transactions (transaction_id, timestamp, is_fraud, known_at)
            select transaction_id, timestamp, false, timestamp from shop.transactions on conflict do nothing""")
        assert connection.execute("select monitoring.labels_settled_until() = now()").fetchone() == (True,)


def test_slow_reports_settle_later(shop):
    until = "select extract(epoch from now() - monitoring.labels_settled_until())::float8 / 86400"
    with psycopg.connect(shop.conninfo("owner")) as connection, connection.transaction(force_rollback=True):
        assert connection.execute(until).fetchone() == (3,)
        connection.execute("update shop.fraud_transactions set timestamp = known_at - interval '5 days'")
        assert connection.execute(until).fetchone() == (5,)


def test_a_corrected_label_replaces_the_earlier_one_from_its_time_on(app, shop):
    with psycopg.connect(shop.conninfo("owner"), autocommit=True) as connection:
        corrected, known_at = connection.execute("""
            select transaction_id, max(known_at) from shop.fraud_transactions where known_at < now()
            group by 1 having count(*) = 2 limit 1""").fetchone()
        current = "select is_fraud from monitoring.current_labels where transaction_id = %s"
        assert connection.execute(current, [corrected]).fetchall() == [(False,)]
        with connection.transaction(force_rollback=True):
            connection.execute(
                "update shop.fraud_transactions set known_at = now() + interval '1 h'"
                " where transaction_id = %s and known_at = %s",
                [corrected, known_at],
            )
            assert connection.execute(current, [corrected]).fetchall() == [(True,)]


def test_a_score_of_an_event_that_lost_its_id_does_not_count(app, shop):
    name = "daily_performance"
    before = queries.frame(app, name, **used(name)).transactions.sum()
    with psycopg.connect(shop.conninfo("owner")) as connection:
        connection.execute("""
            insert into shop.dead_letters (reason, detail, topic, partition, "offset")
            select 'id_conflict', '', topic, partition, "offset" from shop.fraud_scores limit 1""")
    assert queries.frame(app, name, **used(name)).transactions.sum() == before - 1


def test_distribution_and_confusion_count_every_score_once(app, shop):
    total = queries.frame(app, "daily_performance", **used("daily_performance")).transactions.sum()
    for name in ("score_distribution", "confusion"):
        assert queries.frame(app, name, **used(name)).transactions.sum() == total
        versions = [queries.frame(app, name, **used(name, version=v)).transactions.sum() for v in (1, 2)]
        assert sum(versions) == total and min(versions) > 0


def test_names_and_email_are_masked_but_for_the_role_that_may_read_them(app, personal):
    alert = event_of(queries.frame(app, "alerts", inbox="all", limit=1).iloc[0])
    masked = queries.frame(app, "alert_event", **alert).iloc[0]
    shown = queries.frame(personal, "personal_data", transaction_id=alert["transaction_id"]).iloc[0]
    assert re.fullmatch(r"\w+ \w+", shown["name"]) and shown.email.endswith("@example.com")
    assert re.fullmatch(r"\w••• \w•••", masked["name"]) and masked["name"][0] == shown["name"][0]
    assert re.fullmatch(r"\w•••@•••", masked.email) and masked.email[0] == shown.email[0]


@pytest.mark.parametrize("name", OF_THE_APP)
def test_no_other_query_reads_names_or_email(name):
    columns = re.findall(r"\b(first_name|last_name|full_name|email)\b", queries.text(name))
    assert not set(columns) - ({"email"} if name == "alert_event" else set())


def test_a_verdict_takes_an_alert_out_of_the_open_ones(app):
    still_open = queries.frame(app, "alerts", inbox="open", limit=5)
    one = event_of(still_open.iloc[0])
    counts = queries.frame(app, "alert_counts").iloc[0]
    verdict = {"is_fraud": False, "analyst": "Robert'); drop table", "note": "<b>ok</b>"}
    assert queries.execute(app, "add_verdict", **one, **verdict) == 1

    assert one["transaction_id"] not in set(
        queries.frame(app, "alerts", inbox="open", limit=1000).transaction_id
    )
    decided = queries.frame(app, "alerts", inbox="decided", limit=1000).set_index("transaction_id")
    assert decided.loc[one["transaction_id"]].verdict == False  # noqa: E712 - numpy's
    assert queries.frame(app, "verdicts", **one).analyst[0] == "Robert'); drop table"
    after = queries.frame(app, "alert_counts").iloc[0]
    assert (after.open, after.dismissed) == (counts.open - 1, counts.dismissed + 1)


def test_no_verdict_without_an_alert(app):
    alert = event_of(queries.frame(app, "alerts", inbox="all", limit=1).iloc[0])
    for changed in ({"transaction_id": "no such"}, {"offset": alert["offset"] + 10_000_000}):
        verdict = alert | changed | {"is_fraud": True, "analyst": "a", "note": ""}
        assert queries.execute(app, "add_verdict", **verdict) == 0


# An event that lost its id to a stored transaction: nothing of it counts for that one, and the other way round.

OWNER = "tx-0000100"


@pytest.fixture(scope="module")
def refused(shop) -> dict[str, object]:
    with psycopg.connect(shop.conninfo("owner")) as connection:
        return sample_data.add_conflict(connection, OWNER)


@pytest.mark.parametrize(
    "name", ["confusion", "score_distribution", "scenarios", "fraud_amounts", "daily_performance"]
)
def test_no_figure_counts_its_score_or_its_label(shop, name):
    with psycopg.connect(shop.conninfo("owner")) as connection, connection.transaction(force_rollback=True):
        before = connection.execute(queries.text(name), used(name)).fetchall()
        sample_data.add_conflict(connection, OWNER)
        assert connection.execute(queries.text(name), used(name)).fetchall() == before != []


REPEAT = """
insert into shop.fraud_scores (transaction_id, user_id, timestamp, score, is_alert, model_version, feature_set,
                               features, topic, partition, "offset", broker_time)
select transaction_id, user_id, timestamp, 0.99, true, model_version, feature_set, features, topic, partition + 100,
       "offset", broker_time
from shop.fraud_scores where transaction_id = %(id)s;
insert into shop.stream_offsets (stream, topic, partition, topic_id, first_offset, next_offset, stored, dead_letters,
                                 duplicates, epoch)
select stream, topic, partition + 100, topic_id, 0, 10, 10 - repeated, 0, repeated, 1
from shop.stream_offsets
join (values ('transaction_stream', 1), ('fraud_stream', 0)) d (stream, repeated) using (stream)
where topic = (select topic from shop.transactions where transaction_id = %(id)s) and partition = 0
"""


@pytest.mark.parametrize(
    "name", ["confusion", "score_distribution", "scenarios", "fraud_amounts", "daily_performance"]
)
def test_no_figure_counts_an_event_twice_that_was_scored_in_two_partitions(shop, name):
    with psycopg.connect(shop.conninfo("owner")) as connection, connection.transaction(force_rollback=True):
        before = connection.execute(queries.text(name), used(name)).fetchall()
        fraud = "select transaction_id from monitoring.labelled_scores where is_fraud limit 1"
        (transaction_id,) = connection.execute(fraud).fetchone()
        psycopg.ClientCursor(connection).execute(REPEAT, {"id": transaction_id})
        counted = "select partition < 100 from monitoring.labelled_scores where transaction_id = %s"
        assert connection.execute(counted, [transaction_id]).fetchall() == [(True,)]
        assert connection.execute(queries.text(name), used(name)).fetchall() == before != []


def test_its_label_is_not_that_of_the_stored_one(shop, refused):
    with psycopg.connect(shop.conninfo("owner")) as connection:
        scores = connection.execute(
            "select known_fraud from monitoring.labelled_scores where transaction_id = %s", [OWNER]
        ).fetchall()
        labels = connection.execute(
            "select count(*) from monitoring.current_labels where transaction_id = %s and is_fraud",
            [OWNER],
        ).fetchall()
    assert scores == [(None,)] and labels == [(1,)]


def test_a_later_label_of_the_stored_one_leaves_its_own_alone(shop, refused):
    with (
        psycopg.connect(shop.conninfo("owner")) as connection,
        connection.transaction(force_rollback=True),
    ):
        connection.execute(
            "insert into shop.fraud_transactions (transaction_id, timestamp, is_fraud, known_at)"
            " select transaction_id, timestamp, false, now() from shop.transactions where transaction_id = %s",
            [OWNER],
        )
        for labels in ("monitoring.current_labels", "shop.labels_known(now())"):
            known = connection.execute(
                f"select is_fraud from {labels} where transaction_id = %s order by timestamp",
                [OWNER],
            ).fetchall()
            assert known == [(False,), (True,)], labels


def test_the_history_of_the_stored_ones_customer_shows_no_fraud(app, shop, refused):
    with psycopg.connect(shop.conninfo("owner")) as connection:
        (user_id,) = connection.execute(
            "select user_id from shop.transactions where transaction_id = %s", [OWNER]
        ).fetchone()
    rows = queries.frame(
        app, "customer_history", user_id=user_id, until=datetime.now(UTC), limit=1000
    ).set_index("transaction_id")
    assert rows.loc[OWNER].is_fraud is None and not rows.loc[OWNER].is_alert


def test_its_alert_shows_it_and_says_that_it_was_refused(app, refused):
    shown = queries.frame(app, "alert_event", **refused).iloc[0]
    assert (shown.fate, shown.user_id, shown.amount) == ("refused", "u00042", 4999.0)
    assert (shown.device, shown.transaction_location) == ("Unknown device", "Iceland")
    assert shown.is_fraud and shown["name"] is None and shown.email is None


def test_without_a_clear_event_a_label_is_that_of_the_stored_one(app, shop, refused):
    """The same id and the same time: the label may be of either, and counts for the one that is stored."""
    with psycopg.connect(shop.conninfo("owner"), autocommit=True) as connection:
        (own,) = connection.execute(
            "select timestamp from shop.transactions where transaction_id = %s", [OWNER]
        ).fetchone()
        (time,) = connection.execute(
            "select timestamp from shop.fraud_alerts where transaction_id = %s", [OWNER]
        ).fetchone()
        moved = "update {} set timestamp = %s where transaction_id = %s and timestamp = %s"
        for table in ("shop.fraud_alerts", "shop.fraud_transactions"):
            connection.execute(moved.format(table), [own, OWNER, time])
        try:
            shown = queries.frame(app, "alert_event", **refused).iloc[0]
            known = connection.execute(
                "select known_fraud from monitoring.labelled_scores where transaction_id = %s",
                [OWNER],
            ).fetchall()
        finally:
            for table in ("shop.fraud_alerts", "shop.fraud_transactions"):
                connection.execute(moved.format(table), [time, OWNER, own])
    assert shown.fate == "refused" and shown.is_fraud is None and known == [(True,)]


def test_a_verdict_on_its_alert_is_no_verdict_on_another_alert_of_the_id(app, shop, refused):
    with psycopg.connect(shop.conninfo("owner"), autocommit=True) as connection:
        connection.execute(
            "insert into shop.fraud_alerts (transaction_id, user_id, timestamp, amount, score, threshold,"
            ' model_version, topic, partition, "offset") select transaction_id, user_id, timestamp, amount, 0.7,'
            ' 0.59, 2, topic, partition, "offset" from shop.transactions where transaction_id = %s',
            [OWNER],
        )
    assert len(queries.frame(app, "alerts_of_id", transaction_id=OWNER)) == 2
    before = queries.frame(app, "alert_counts").iloc[0]
    queries.execute(app, "add_verdict", **refused, is_fraud=True, analyst="a", note="")
    after = queries.frame(app, "alert_counts").iloc[0]
    assert (after.alerts, after.open, after.confirmed) == (
        before.alerts,
        before.open - 1,
        before.confirmed + 1,
    )
    still_open = queries.frame(app, "alerts", inbox="open", limit=1000)
    (own,) = (event_of(row) for _, row in still_open.iterrows() if row.transaction_id == OWNER)
    assert own != refused and queries.frame(app, "verdicts", **own).empty
    assert queries.frame(app, "alert_event", **own).fate[0] == "stored"


@pytest.mark.parametrize(
    ("fate", "change"),
    [
        ("stored", None),
        ("unread", "update shop.stream_offsets set next_offset = first_offset, stored = 0;"
                   " delete from shop.transactions"),
        ("repeated", 'update shop.transactions set "offset" = "offset" + 1000000'),
        ("deleted", "delete from shop.transactions"),
        ("deleted", 'update shop.transactions set "offset" = "offset" + 1000000, amount = amount + 1'),
        ("refused", "insert into shop.dead_letters (reason, detail, topic, partition, \"offset\")"
                    " select 'id_conflict', '', topic, partition, \"offset\" from shop.transactions"),
    ],
)  # fmt: skip
def test_what_became_of_an_alerts_event(app, shop, fate, change):
    alert = event_of(queries.frame(app, "alerts", inbox="open", limit=1).iloc[0])
    with psycopg.connect(shop.conninfo("owner")) as connection, connection.transaction(force_rollback=True):
        if change:
            psycopg.ClientCursor(connection).execute(
                f"{change} where transaction_id = %(transaction_id)s", alert
            )
        shown = connection.cursor(row_factory=dict_row).execute(queries.text("alert_event"), alert).fetchone()
    assert shown["fate"] == fate and shown["amount"] > 0 and shown["user_id"]


def test_behind_is_what_the_scorer_has_not_read_yet(app):
    streams = queries.frame(app, "streams", **used("streams")).set_index("stream")
    assert streams.loc["fraud_stream"].behind == 2 * 3
    assert np.isnan(streams.loc["transaction_stream"].behind)
    assert streams.loc["producer"].partitions == 0


def test_errors_are_named(shop, monkeypatch):
    slow = queries.engine(shop, "app", timeout_seconds=0.05)
    monkeypatch.setattr(queries, "text", {"slow": "select pg_sleep(5)", "wrong": "select nothing"}.get)
    with pytest.raises(queries.QueryTooSlow, match="slow"):
        queries.frame(slow, "slow")
    with pytest.raises(queries.QueryError, match='query wrong: column "nothing"'):
        queries.execute(slow, "wrong")
    slow.dispose()


def test_an_absent_database_is_named(shop):
    away = queries.engine(shop.model_copy(update={"postgres_port": 1}), "app")
    with pytest.raises(queries.DatabaseUnavailable, match="port 1"):
        queries.frame(away, "streams", **used("streams"))


@pytest.mark.parametrize("line", ["*:*:*:app:mistyped\n", ""], ids=["wrong", "missing"])
def test_a_refused_login_is_told_from_an_absent_database(shop, tmp_path, line):
    (tmp_path / "pgpass").write_text(line)
    (tmp_path / "pgpass").chmod(0o600)
    stranger = queries.engine(shop.model_copy(update={"postgres_passfile": tmp_path / "pgpass"}), "app")
    with pytest.raises(queries.LoginRefused, match="password"):
        queries.frame(stranger, "streams", **used("streams"))


def test_a_lost_connection_is_replaced(shop, monkeypatch):
    monkeypatch.setattr(queries, "text", {"pid": "select pg_backend_pid() as pid"}.get)
    engine, other = (queries.engine(shop, "app", pool_size=1) for _ in range(2))
    pid = int(queries.frame(engine, "pid").pid[0])
    assert int(queries.frame(engine, "pid").pid[0]) == pid
    with other.connect() as connection:
        connection.exec_driver_sql("select pg_terminate_backend(%(pid)s)", {"pid": pid})
    assert int(queries.frame(engine, "pid").pid[0]) != pid
    engine.dispose()
    other.dispose()


def test_one_query_reads_names_and_e_mail_and_only_to_show_them():
    """Nothing joins, groups or filters by them: who does so has to be written down here, and to hash them first."""
    folders = ("include/sql", "grafana/dashboards", "dags", "plugins", "spark_jobs", "streamlit_app")
    files = [path for folder in folders for path in (PROJECT_ROOT / folder).rglob("*")]
    personal = re.compile(r"\b(email|first_name|last_name|full_name)\b")
    named = {
        path.name
        for path in files
        if path.suffix != ".pyc" and path.is_file() and personal.search(path.read_text())
    }
    assert named == {
        "0001.tables.sql",
        "0002.views.sql",
        "0003.grants.sql",
        "personal_data.sql",
        "alert_event.sql",
        "alerts.py",
    }
    _, after = queries.text("alert_event").split("\nfrom alert a")
    assert not personal.search(after)
