import json
import re
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
import yaml

from include.settings import PROJECT_ROOT, Settings
from tests import sample_data
from tests.conftest import EMPTY
from tests.grafana_macros import UnknownMacro, expand

GRAFANA = PROJECT_ROOT / "grafana"
BOARDS = {path.stem: json.loads(path.read_text()) for path in sorted((GRAFANA / "dashboards").glob("*.json"))}
PANELS = [
    (name, panel) for name, board in BOARDS.items() for panel in board["panels"] if panel["type"] != "row"
]
PANEL_IDS = [f"{name}: {panel['title']}" for name, panel in PANELS]
QUERIES = [
    pytest.param(target["rawSql"], target["format"], id=f"{name}: {panel['title']} {target['refId']}")
    for name, panel in PANELS
    for target in panel["targets"]
] + [
    pytest.param(annotation["target"]["rawSql"], "table", id=f"{name}: {annotation['name']}")
    for name, board in BOARDS.items()
    for annotation in board["annotations"]["list"]
    if "target" in annotation
]
PERSONAL = {"first_name", "last_name", "full_name", "email", "user_id", "key", "value", "analyst", "note", "latitude",
            "longitude", "holder", "features", "state_bytes"}  # fmt: skip


def source() -> dict:
    (only,) = yaml.safe_load((GRAFANA / "provisioning/datasources/postgres.yaml").read_text())["datasources"]
    return only


@pytest.fixture(scope="module")
def shop(postgres: Settings) -> Settings:
    with psycopg.connect(postgres.conninfo("owner"), autocommit=True) as connection:
        connection.execute(EMPTY)
    sample_data.fill(postgres)
    return postgres


@pytest.fixture(scope="module")
def grafana(shop: Settings):
    with psycopg.connect(shop.conninfo("grafana"), autocommit=True) as connection:
        yield connection


def rows(connection: psycopg.Connection, sql: str, days: float = 10, interval: str = "1h"):
    now = datetime.now(UTC) + timedelta(minutes=1)
    return connection.execute(expand(sql, now - timedelta(days=days), now, interval))


@pytest.mark.services
@pytest.mark.parametrize(("sql", "form"), QUERIES)
def test_every_query_gives_rows_to_the_role_grafana(grafana, sql, form):
    cursor = rows(grafana, sql)
    names = [column.name for column in cursor.description]
    records = cursor.fetchall()
    assert records and all(any(value is not None for value in row) for row in records)
    assert len(names) == len(set(names)) and "?column?" not in names
    if form == "time_series":
        assert names[0] == "time" and [row[0] for row in records] == sorted(row[0] for row in records)
        labels = [i for i, name in enumerate(names) if name == "metric"]
        values = [value for row in records for i, value in enumerate(row) if i and i not in labels]
        assert any(value for value in values) and all(not isinstance(value, str) for value in values)


@pytest.mark.parametrize(("sql", "form"), QUERIES)
def test_queries_read_the_monitoring_views_and_nothing_else(sql, form):
    sql = re.sub(r"extract\([^)]*\)", "", re.sub(r"extract\(epoch from \w+\(\) - \w+\(?\w*\)?\)", "", sql))
    read = re.findall(r"\b(?:from|join)\s+([\w.]+|\()", sql)
    assert read
    assert all(name.startswith("monitoring.") or name in ("(", "jsonb_array_elements") for name in read)
    assert not set(re.findall(r"\w+", sql)) & PERSONAL


@pytest.mark.services
def test_grafana_can_only_select_and_only_from_views_without_personal_data(grafana):
    reachable = grafana.execute("""
        select n.nspname, c.relname, a.attname from pg_class c
        join pg_namespace n on n.oid = c.relnamespace
        join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
        where n.nspname not in ('pg_catalog', 'information_schema', 'pg_toast')
          and has_schema_privilege(n.oid, 'usage') and has_column_privilege(c.oid, a.attnum, 'select')""").fetchall()
    assert {schema for schema, *_ in reachable} == {"monitoring"}
    assert not {column for *_, column in reachable} & PERSONAL
    writable = grafana.execute("""
        select c.oid::regclass::text from pg_class c join pg_namespace n on n.oid = c.relnamespace
        where n.nspname in ('shop', 'monitoring', 'public') and c.relkind in ('r', 'p', 'v')
          and has_table_privilege(c.oid, 'insert, update, delete, truncate')""").fetchall()
    assert writable == []
    for forbidden in (
        "select * from shop.transactions",
        "select * from shop.labels_known(now())",
        "create table monitoring.mine ()",
        "create table public.mine ()",
        "update monitoring.models set version = 0",
    ):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            grafana.execute(forbidden)


@pytest.mark.services
def test_no_name_and_no_email_is_in_any_row_of_any_view(grafana):
    views = grafana.execute(
        "select viewname from pg_views where schemaname = 'monitoring'"
        " and has_table_privilege(format('%I.%I', schemaname, viewname), 'select')"
    ).fetchall()
    assert len(views) >= 9 and ("masked_customers",) not in views
    for (view,) in views:
        text = str(grafana.execute(f'select * from monitoring."{view}"').fetchall())
        assert "@" not in text and "Okafor" not in text and "Tanaka" not in text


@pytest.mark.services
def test_headline_figures_are_right(grafana, shop):
    sql = {panel["title"]: panel["targets"][0]["rawSql"] for _, panel in PANELS}
    with psycopg.connect(shop.conninfo("owner")) as owner:
        open_alerts, letters, alerts = owner.execute("""
            select (select count(*) from shop.fraud_alerts where transaction_id not in
                       (select transaction_id from shop.verdicts)),
                   (select count(*) from shop.dead_letters), (select count(*) from shop.fraud_alerts)""").fetchone()
    assert rows(grafana, sql["Open alerts"]).fetchone() == (open_alerts,)
    assert rows(grafana, sql["Dead letters"]).fetchone() == (letters,)
    assert rows(grafana, sql["Alerts"]).fetchone() == (alerts,)
    assert sum(row[1] for row in rows(grafana, sql["Events waiting for a score"])) == 6
    per_second = rows(grafana, sql["Transactions per second"], interval="1d").fetchall()
    assert sum(rate for _, rate in per_second) * 86400 == pytest.approx(8000, rel=0.01)


@pytest.mark.services
def test_a_verdict_on_one_alert_leaves_that_of_another_event_with_its_id_open(shop):
    sql = {panel["title"]: panel["targets"][0]["rawSql"] for _, panel in PANELS}
    with psycopg.connect(shop.conninfo("owner")) as owner, owner.transaction(force_rollback=True):
        (decided,) = owner.execute("select transaction_id from shop.verdicts limit 1").fetchone()
        before = [rows(owner, sql[title]).fetchall() for title in ("Open alerts", "Alerts by category")]
        sample_data.add_conflict(owner, decided)
        after = [rows(owner, sql[title]).fetchall() for title in ("Open alerts", "Alerts by category")]
    assert after == [[(before[0][0][0] + 1,)], before[1]]


@pytest.mark.parametrize("name", BOARDS)
def test_a_dashboard_is_sound(name):
    board = BOARDS[name]
    ids = [panel["id"] for panel in board["panels"]]
    assert len(ids) == len(set(ids))
    assert board["uid"].startswith("fraudstream-") and board["title"] and board["description"]
    assert board["refresh"] in board["timepicker"]["refresh_intervals"] and board["timezone"] == "utc"
    assert board["editable"] is False and board["time"]["to"] == "now"
    taken = set()
    for panel in board["panels"]:
        area = panel["gridPos"]
        assert area["x"] + area["w"] <= 24
        cells = {(x, y) for x in range(area["x"], area["x"] + area["w"])
                 for y in range(area["y"], area["y"] + area["h"])}  # fmt: skip
        assert not cells & taken, panel["title"]
        taken |= cells


def test_dashboards_are_told_apart():
    assert (
        len({board["uid"] for board in BOARDS.values()})
        == len({board["title"] for board in BOARDS.values()})
        == 2
    )


@pytest.mark.parametrize(("name", "panel"), PANELS, ids=PANEL_IDS)
def test_a_panel_says_what_it_shows_and_in_what_unit(name, panel):
    assert len(panel["description"]) > 20 and panel["description"].endswith((".", "%"))
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert panel["fieldConfig"]["defaults"]["thresholds"]["steps"][0]["value"] is None
    used = [panel["datasource"], *(target["datasource"] for target in panel["targets"])]
    assert all(named == {"type": source()["type"], "uid": source()["uid"]} for named in used)
    assert [target["refId"] for target in panel["targets"]] == [*"ABCD"[: len(panel["targets"])]]


def test_the_data_source_uses_the_select_only_role_and_holds_no_password():
    assert source()["user"] == "grafana" and source()["editable"] is False
    assert re.fullmatch(r"\$\{\w+\}", source()["secureJsonData"]["password"])


def test_dashboards_are_provisioned_from_files_only():
    (provider,) = yaml.safe_load((GRAFANA / "provisioning/dashboards/fraudstream.yaml").read_text())[
        "providers"
    ]
    assert provider["allowUiUpdates"] is False and provider["options"]["path"] == "/etc/grafana/dashboards"


def test_macros_expand_as_grafanas_do():
    since, until = datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 11, 2, tzinfo=UTC)
    assert expand("$__timeFilter(a.b)", since, until) == (
        "a.b BETWEEN '2026-11-01T00:00:00Z' AND '2026-11-02T00:00:00Z'"
    )
    assert expand("$__timeGroupAlias(t,$__interval)", since, until, "5m") == (
        'floor(extract(epoch from t)/300)*300 AS "time"'
    )
    assert expand("$__interval_ms", since, until, "10s") == "10000"
    with pytest.raises(UnknownMacro):
        expand("$__rate(x)", since, until)


# Last: it empties the shop of the tests above.
@pytest.mark.services
@pytest.mark.parametrize(("sql", "form"), QUERIES)
def test_no_query_fails_while_the_shop_is_empty(clean_postgres, sql, form):
    with psycopg.connect(clean_postgres.conninfo("grafana"), autocommit=True) as connection:
        rows(connection, sql)
