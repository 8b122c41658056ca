import json
import re
from datetime import UTC, datetime, timedelta

import numpy as np
import psycopg
import pytest
import yaml
from psycopg.rows import dict_row

from include.grafana.macros import UnknownMacro, expand
from include.operations import rollups
from include.operations.incidents import Kind
from include.platform.postgres import record_pages
from include.settings import PROJECT_ROOT, Settings
from tests import sample_data
from tests.conftest import EMPTY

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
        record_pages(connection, postgres)
    sample_data.fill(postgres)
    rollups.refresh(postgres)
    return postgres


@pytest.fixture(scope="module")
def grafana(shop: Settings):
    with psycopg.connect(shop.conninfo("grafana"), autocommit=True) as connection:
        yield connection


def rows(
    connection: psycopg.Connection, sql: str, days: float = 10, interval: str = "1h", **variables: list[str]
):
    now = datetime.now(UTC) + timedelta(minutes=1)
    return connection.execute(expand(sql, now - timedelta(days=days), now, interval, variables))


@pytest.mark.services
@pytest.mark.parametrize(("sql", "form"), QUERIES)
def test_every_query_gives_rows_to_the_role_grafana(grafana, sql, form):
    cursor = rows(grafana, sql)
    names = [column.name for column in cursor.description]
    records = cursor.fetchall()
    assert records
    assert len(names) == len(set(names)) and "?column?" not in names
    if form == "time_series":
        assert names[0] == "time" and [row[0] for row in records] == sorted(row[0] for row in records)
        labels = [i for i, name in enumerate(names) if name == "metric"]
        values = [value for row in records for i, value in enumerate(row) if i and i not in labels]
        assert any(value for value in values) and all(not isinstance(value, str) for value in values)
    else:
        filled = [any(row[i] is not None for row in records) for i in range(len(names))]
        assert all(filled), names


CHOICES = {"country": ["Germany", "Côte d'Ivoire"], "category": ["grocery"], "version": ["2"]}


@pytest.mark.services
@pytest.mark.parametrize("days", [0.02, 1.5, 60], ids=["minutes", "hours", "days"])
@pytest.mark.parametrize(("sql", "form"), QUERIES)
def test_every_query_takes_chosen_values_in_every_grain(grafana, sql, form, days):
    rows(grafana, sql, days=days, **CHOICES).fetchall()


@pytest.mark.parametrize(("sql", "form"), QUERIES)
def test_queries_read_the_monitoring_views_and_nothing_else(sql, form):
    named = set(re.findall(r"(?:with|,)\s+(\w+) as \(", sql))
    sql = re.sub(r"'[^']*'|\bextract\(epoch from|is distinct from", "", sql)
    read = re.findall(r"\b(?:from|join)\s+([\w.]+|\()", sql)
    assert read
    functions = {"(", "jsonb_array_elements", "generate_series"}
    assert [
        name for name in read if not name.startswith("monitoring.") and name not in functions | named
    ] == []
    assert not set(re.findall(r"\w+", sql)) & PERSONAL


# What a panel does not take a choice for: its rows are not about payments, or it is about one of these columns.
UNFILTERED = {
    "Since the last score", "Dead letters", "Waiting for a score", "Model in use", "State of the streams",
    "Time since the last commit", "Events waiting for a score", "The books", "Dead letters by reason", "Settled until",
}  # fmt: skip
BY_VERSION_ONLY = {
    "Scored per second", "Alert rate", "Delay to score, p95", "Open alerts", "Delay from broker to score",
    "Drift of the scores", "Drift of the scores over time", "Scores over time", "Alert rate by version",
    "Registered versions",
}  # fmt: skip


@pytest.mark.parametrize(("name", "panel"), PANELS, ids=PANEL_IDS)
def test_choices_apply_to_every_panel_that_has_them(name, panel):
    used = set(re.findall(r"\$\{(\w+):sqlstring\}", str(panel["targets"])))
    title = panel["title"]
    expected = set() if title in UNFILTERED else {"version"} if title in BY_VERSION_ONLY else set(CHOICES)
    assert used == expected


@pytest.mark.services
@pytest.mark.parametrize("name", BOARDS)
def test_variables_offer_what_the_shop_has(grafana, name):
    offered = {}
    for variable in BOARDS[name]["templating"]["list"]:
        assert variable["datasource"] == {"type": source()["type"], "uid": source()["uid"]}
        offered[variable["name"]] = [value for (value,) in grafana.execute(variable["query"])]
    assert {"Germany", "France", "Iceland"} <= set(offered["country"])
    assert set(offered["category"]) == {"grocery", "electronics", "travel", "restaurant", "fuel", "clothing"}
    assert offered["version"] == ["2", "1"]
    assert all(variable["allValue"] == "'*'" for variable in BOARDS[name]["templating"]["list"][:3])


@pytest.mark.services
def test_links_lead_to_the_pages_address_as_the_last_start_set_it(grafana, shop):
    (query,) = {
        variable["query"] for board in BOARDS.values() for variable in board["templating"]["list"]
        if variable["name"] == "streamlit"
    }  # fmt: skip
    assert grafana.execute(query).fetchall() == [(str(shop.streamlit_public_url).rstrip("/"),)]
    elsewhere = shop.model_copy(update={"streamlit_public_url": "https://fraud.example.com/"})
    with psycopg.connect(shop.conninfo("owner")) as owner, owner.transaction(force_rollback=True):
        record_pages(owner, elsewhere)
        assert owner.execute(query).fetchall() == [("https://fraud.example.com",)]


@pytest.mark.parametrize("name", BOARDS)
def test_no_reference_dangles(name):
    board = BOARDS[name]
    text = json.dumps(board)
    variables = {variable["name"] for variable in board["templating"]["list"]}
    assert set(re.findall(r"\$\{([a-z]\w*)", text)) <= variables
    sources = re.findall(r'"datasource": ({[^}]*})', text)
    allowed = (
        {"type": source()["type"], "uid": source()["uid"]},
        {"type": "grafana", "uid": "-- Grafana --"},
    )
    assert sources and all(json.loads(named) in allowed for named in sources)
    for panel in board["panels"]:
        for override in panel.get("fieldConfig", {}).get("overrides", []):
            for link in (
                link for prop in override["properties"] if prop["id"] == "links" for link in prop["value"]
            ):
                (column,) = re.findall(r"__data\.fields\.(\w+)", link["url"])
                assert f" as {column}," in panel["targets"][0]["rawSql"]
                page = re.match(r"\$\{streamlit:raw\}/(\w+)\?", link["url"])[1]
                assert f'url_path="{page}"' in (PROJECT_ROOT / "streamlit_app/app.py").read_text()
    assert [link["tags"] for link in board["links"]] == [["fraudstream"]] and "fraudstream" in board["tags"]


def test_the_files_are_what_their_source_makes():
    pytest.importorskip("grafana_foundation_sdk", reason="not installed: make .venv/installed")
    from include.grafana import build

    made = build.files()
    assert [path.name for path, text in made.items() if path.read_text() != text] == [], "make dashboards"
    present = {*(GRAFANA / "dashboards").iterdir(), *(GRAFANA / "provisioning/alerting").iterdir()}
    assert present == set(made)


@pytest.mark.parametrize("name", BOARDS)
def test_grafanas_own_types_read_the_files_and_write_the_same(name):
    """The SDK's classes come from Grafana's schema: what they do not know would be lost here."""
    pytest.importorskip("grafana_foundation_sdk", reason="not installed: make .venv/installed")
    from grafana_foundation_sdk.cog import plugins
    from grafana_foundation_sdk.cog.encoder import JSONEncoder
    from grafana_foundation_sdk.models.dashboard import Dashboard

    from include.grafana.build import without_old_defaults

    plugins.register_default_plugins()
    read = without_old_defaults(json.loads(json.dumps(Dashboard.from_json(BOARDS[name]), cls=JSONEncoder)))
    for written, annotation in zip(
        BOARDS[name]["annotations"]["list"], read["annotations"]["list"], strict=True
    ):
        annotation["target"] = written["target"]  # the SDK knows annotations of other sources only
    assert read == BOARDS[name]


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
    assert len(views) >= 15 and ("masked_customers",) not in views
    for (view,) in views:
        text = str(grafana.execute(f'select * from monitoring."{view}"').fetchall())
        assert "@" not in text and "Okafor" not in text and "Tanaka" not in text


SQL = {f"{name}: {panel['title']}": panel["targets"][0]["rawSql"] for name, panel in PANELS}


def of_owner(shop: Settings, sql: str) -> list[tuple]:
    with psycopg.connect(shop.conninfo("owner")) as owner:
        return owner.execute(sql).fetchall()


# What the panels must show, from the tables and without the cells; each kind of panel is here.
COUNTRY_OF = "btrim(regexp_replace(t.transaction_location, '^.*,', ''))"
EVENT = "using (transaction_id, timestamp)"
TRUTH = f"""
    shop.transactions t join shop.fraud_scores s {EVENT}
    left join shop.labels_known(now()) l {EVENT}"""
EXPECTED = {
    "monitoring: Alert rate": "select avg(is_alert::integer)::float8 from shop.fraud_scores",
    "monitoring: Open alerts": """
        select count(*) from shop.fraud_alerts
        where transaction_id not in (select transaction_id from shop.verdicts)""",
    "monitoring: Dead letters": "select count(*) from shop.dead_letters",
    "monitoring: Waiting for a score": "select 6",
    "monitoring: Countries": f"""
        select {COUNTRY_OF}, count(*) from shop.transactions t group by 1 order by 2 desc, 1 limit 10""",
    "monitoring: Alert rate over time": """
        select date_trunc('hour', timestamp), avg(is_alert::integer)::float8
        from shop.fraud_scores group by 1 order by 1""",
    "fraud: Transactions": "select count(*) from shop.transactions",
    "fraud: Known frauds": f"select count(*) from {TRUTH} where l.is_fraud",
    "fraud: Known fraud rate": f"select avg(coalesce(l.is_fraud, false)::integer)::float8 from {TRUTH}",
    "fraud: Alerts": "select count(*) from shop.fraud_alerts",
    "fraud: Known frauds alerted": f"select avg(s.is_alert::integer)::float8 from {TRUTH} where l.is_fraud",
    "fraud: Time to the report": f"""
        select percentile_cont(0.5) within group (order by extract(epoch from l.known_at - t.timestamp))::float8
        from {TRUTH} where l.is_fraud""",
    "fraud: Known frauds by country": f"""
        select {COUNTRY_OF}, count(*), count(*) filter (where s.is_alert), count(*) filter (where l.is_fraud),
               avg(coalesce(l.is_fraud, false)::integer)::float8,
               coalesce(avg(s.is_alert::integer) filter (where l.is_fraud), 0)::float8
        from {TRUTH} group by 1 order by 4 desc, 2 desc""",
    "fraud: Categories": f"""
        select t.merchant_category, count(*), count(*) filter (where s.is_alert), count(*) filter (where l.is_fraud),
               avg(coalesce(l.is_fraud, false)::integer)::float8,
               coalesce(avg(s.is_alert::integer) filter (where l.is_fraud), 0)::float8
        from {TRUTH} group by 1 order by 4 desc, 2 desc""",
    "fraud: Devices": f"""
        select t.device, count(*) filter (where s.is_alert), count(*) filter (where not s.is_alert)
        from {TRUTH} where l.is_fraud group by 1 order by count(*) desc, 1 limit 10""",
    "fraud: Money in known frauds": f"""
        select date_trunc('day', t.timestamp), coalesce(sum(t.amount) filter (where s.is_alert), 0)::float8,
               coalesce(sum(t.amount) filter (where not s.is_alert), 0)::float8
        from {TRUTH} where l.is_fraud group by 1 order by 1""",
    "fraud: Money by currency": f"""
        select t.currency, sum(t.amount)::float8, sum(t.amount) filter (where l.is_fraud)::float8,
               sum(t.amount) filter (where l.is_fraud and s.is_alert)::float8,
               (sum(t.amount) filter (where l.is_fraud) / sum(t.amount))::float8
        from {TRUTH} group by 1""",
    "model: Precision of alerts": """
        select avg(is_fraud::integer)::float8 from monitoring.labelled_scores
        where is_alert and is_fraud is not null""",
    "model: Recall": """
        select avg(is_alert::integer)::float8 from monitoring.labelled_scores where is_fraud""",
    "model: Precision and recall per day": """
        select day, precision, recall from monitoring.daily_performance(now() - interval '30 days', now())
        where alerts_settled > 0 or frauds > 0 order by day""",
    "model: Alert rate by version": """
        select date_trunc('hour', timestamp), 'version ' || model_version, avg(is_alert::integer)::float8
        from shop.fraud_scores group by 1, 2 order by 1, 2""",
}  # fmt: skip


def alike(shown: list[tuple], expected: list[tuple]) -> bool:
    """Equal row by row; numbers up to the rounding of sums."""
    return len(shown) == len(expected) and all(
        a == b
        or (
            a is not None and b is not None and not isinstance(a, str) and float(a) == pytest.approx(float(b))
        )
        for row, other in zip(shown, expected, strict=True)
        for a, b in zip(row, other, strict=True)
    )


@pytest.mark.services
@pytest.mark.parametrize("title", EXPECTED)
def test_a_panel_shows_what_the_tables_say(grafana, shop, title):
    shown, expected = rows(grafana, SQL[title]).fetchall(), of_owner(shop, EXPECTED[title])
    if isinstance(expected[0][0], datetime):
        shown = [(row[0].astimezone(UTC), *row[1:]) for row in shown]
    assert expected != [(0,)] and alike(shown, expected)


@pytest.mark.services
def test_choices_leave_out_the_rest(grafana, shop):
    chosen = {"country": ["France", "Iceland"], "category": ["travel", "fuel"], "version": ["2"]}
    condition = (
        f"{COUNTRY_OF} in ('France', 'Iceland') and t.merchant_category in ('travel', 'fuel')"
        " and model_version = 2"
    )
    for title, counted in {
        "fraud: Transactions": "count(*)",
        "fraud: Known frauds": "count(*) filter (where l.is_fraud)",
        "fraud: Alerts": "count(*) filter (where s.is_alert)",
    }.items():
        expected = of_owner(shop, f"select {counted} from {TRUTH} where {condition}")
        assert expected[0][0] > 0
        assert rows(grafana, SQL[title], **chosen).fetchall() == expected


@pytest.mark.services
def test_the_heat_map_and_the_scores_by_class_count_every_score(grafana, shop):
    heat = rows(grafana, SQL["model: Scores over time"]).fetchall()
    bins = dict(
        of_owner(shop, "select floor(score * 25)::integer, count(*) from shop.fraud_scores group by 1")
    )
    assert {i: sum(row[1 + i] for row in heat) for i in range(25) if i in bins} == bins
    assert sum(sum(row[1:]) for row in heat) == 8000
    by_class = rows(grafana, SQL["model: Scores by class"]).fetchall()
    assert [sum(column) for column in list(zip(*by_class, strict=True))[1:]] == pytest.approx([1, 1])
    assert {float(score) for score, *_ in by_class} == {round(0.04 * i, 2) for i in bins}


@pytest.mark.services
def test_percentiles_of_the_delay_are_the_exact_ones_or_at_most_a_tenth_more(grafana, shop):
    exact = of_owner(
        shop,
        """
        select date_trunc('hour', scored_at), percentile_disc(array[0.5, 0.95, 0.99]) within group (
            order by extract(epoch from scored_at - broker_time)::float8)
        from shop.fraud_scores group by 1 order by 1""",
    )
    shown = rows(grafana, SQL["monitoring: Delay from broker to score"]).fetchall()
    assert [row[0].astimezone(UTC) for row in shown] == [at for at, _ in exact]
    for row, (_, values) in zip(shown, exact, strict=True):
        assert all(value <= bound <= 1.1001 * value for bound, value in zip(row[1:], values, strict=True))


@pytest.mark.services
def test_drift_is_the_population_stability_index(grafana, shop):
    rows_of_day = of_owner(
        shop,
        """
        select date_trunc('day', timestamp), floor(score * 25)::integer, count(*)
        from shop.fraud_scores where model_version = 2 group by 1, 2""",
    )
    days = sorted({day for day, *_ in rows_of_day})
    counts = np.zeros((len(days), 25))
    for day, bucket, count in rows_of_day:
        counts[days.index(day), bucket] += count
    q = counts[[day < days[0] + timedelta(days=7) for day in days]].sum(axis=0) + 0.5
    p = counts + 0.5
    p, q = p / p.sum(axis=1, keepdims=True), q / q.sum()
    expected = ((p - q) * np.log(p / q)).sum(axis=1)[counts.sum(axis=1) >= 500]
    assert 2 <= len(expected) < len(days) + 1
    shown = rows(grafana, SQL["model: Drift of the scores over time"], days=60, version=["2"]).fetchall()
    assert [value for *_, value in shown] == pytest.approx(expected.tolist())


@pytest.mark.services
def test_a_rate_is_per_second_of_the_time_that_has_passed(grafana, shop):
    (scored,) = of_owner(
        shop, "select count(*) from shop.fraud_scores where scored_at > date_trunc('hour', now())"
    )
    series = rows(grafana, SQL["monitoring: Transactions per second"]).fetchall()
    hours = [rate * 3600 for _, rate in series[:-1]]
    passed = datetime.now(UTC) - series[-1][0].astimezone(UTC)
    last = float(series[-1][1]) * passed.total_seconds()
    assert last == pytest.approx(scored[0], rel=0.1) and sum(map(float, hours)) + last == pytest.approx(
        8000, rel=0.01
    )


@pytest.mark.services
def test_a_verdict_on_one_alert_leaves_that_of_another_event_with_its_id_open(shop):
    with psycopg.connect(shop.conninfo("owner")) as owner, owner.transaction(force_rollback=True):
        (decided,) = owner.execute("select transaction_id from shop.verdicts limit 1").fetchone()
        (before,) = rows(owner, SQL["monitoring: Open alerts"]).fetchone()
        sample_data.add_conflict(owner, decided)
        (after,) = rows(owner, SQL["monitoring: Open alerts"]).fetchone()
    assert after == before + 1


@pytest.mark.parametrize("name", BOARDS)
def test_a_dashboard_is_sound(name):
    board = BOARDS[name]
    ids = [panel["id"] for panel in board["panels"]]
    assert len(ids) == len(set(ids))
    assert board["uid"].startswith("fraudstream-") and board["title"] and board["description"]
    assert board["refresh"] in board["timepicker"]["refresh_intervals"] and board["timezone"] == "utc"
    assert board["editable"] is False and board["refresh"] and board["time"]["to"] == "now"
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
        == 3
    )


@pytest.mark.parametrize(("name", "panel"), PANELS, ids=PANEL_IDS)
def test_a_panel_says_what_it_shows_and_in_what_unit(name, panel):
    assert panel["fieldConfig"]["defaults"]["noValue"]
    assert len(panel["description"]) > 20 and panel["description"].endswith((".", "%"))
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert panel["fieldConfig"]["defaults"]["thresholds"]["steps"][0]["value"] is None
    used = [panel["datasource"], *(target["datasource"] for target in panel["targets"])]
    assert all(named == {"type": source()["type"], "uid": source()["uid"]} for named in used)
    assert [target["refId"] for target in panel["targets"]] == [*"ABCD"[: len(panel["targets"])]]


@pytest.mark.parametrize(("name", "panel"), PANELS, ids=PANEL_IDS)
def test_an_empty_cell_of_a_table_does_not_say_that_the_table_is_empty(name, panel):
    if panel["type"] == "table":
        first = panel["fieldConfig"]["overrides"][0]
        assert first["matcher"]["options"] == ".*" and {"id": "noValue", "value": "–"} in first["properties"]


@pytest.mark.parametrize(("name", "panel"), PANELS, ids=PANEL_IDS)
def test_a_cell_coloured_by_thresholds_is_not_coloured_by_the_palette(name, panel):
    for override in panel["fieldConfig"]["overrides"]:
        properties = {prop["id"]: prop["value"] for prop in override["properties"]}
        if "thresholds" in properties:
            assert properties["color"] == {"mode": "thresholds"}


def test_the_data_source_uses_the_select_only_role_and_holds_no_password():
    assert source()["user"] == "grafana" and source()["editable"] is False
    assert re.fullmatch(r"\$\{\w+\}", source()["secureJsonData"]["password"])


def test_dashboards_are_provisioned_from_files_only():
    (provider,) = yaml.safe_load((GRAFANA / "provisioning/dashboards/fraudstream.yaml").read_text())[
        "providers"
    ]
    assert provider["allowUiUpdates"] is False and provider["options"]["path"] == "/etc/grafana/dashboards"


ALERTING = {
    path.stem: yaml.safe_load(path.read_text()) for path in (GRAFANA / "provisioning/alerting").glob("*.yaml")
}
RULES = {rule["uid"]: rule for rule in ALERTING["rules"]["groups"][0]["rules"]}
SCORED_NOW = """
    update shop.fraud_scores set {} where transaction_id in (
        select transaction_id from shop.transactions order by timestamp desc limit 700);
    truncate shop.rolled_up, shop.activity, shop.score_counts, shop.delay_counts, shop.flagged"""
# What makes a rule fire, and what its alarm must be about.
FIRES = {
    "stream-silent": (
        "update shop.stream_leases set heartbeat_at = now() - interval '5 minutes' where stream = 'fraud_stream'",
        {"stream": "fraud_stream"},
    ),
    "stream-lagging": (
        "update shop.stream_offsets set next_offset = next_offset + 50000, stored = stored + 50000"
        " where stream = 'transaction_stream' and topic = 'transactions-data'",
        {"topic": "transactions-data"},
    ),
    "scores-late": (
        SCORED_NOW.format("scored_at = now(), broker_time = now() - interval '40 seconds'"),
        {},
    ),
    "dead-letters-rising": (
        """insert into shop.dead_letters (reason, detail, topic, partition, "offset")
           select 'invalid_json', '', 'transactions-data', 0, 2000000 + n from generate_series(1, 101) n""",
        {"reason": "invalid_json"},
    ),
    "alert-rate": (SCORED_NOW.format("scored_at = now(), is_alert = random() < 0.3"), {}),
    "scores-drifted": (
        """update shop.score_counts set bin = bin + 20
           where grain = 86400 and at = date_trunc('day', now() - interval '1 day', 'UTC')""",
        {"model_version": "2"},
    ),
    "precision-low": (
        "update shop.flagged set is_fraud = false, is_alert = true, timestamp = now() - interval '9 days'",
        {},
    ),
    "sums-stale": ("update shop.rollup_state set refreshed_at = now() - interval '40 minutes'", {}),
    "incident-open": (
        """insert into shop.incidents (kind, subject, severity, summary, runbook)
           values ('service-down', 'mlflow', 'critical', 'mlflow does not answer', 'service-down')""",
        {"kind": "service-down", "subject": "mlflow", "runbook": "service-down"},
    ),
}  # fmt: skip


def alarms(connection: psycopg.Connection, rule: dict) -> list[dict[str, str]]:
    """The labels of each row whose number is above the rule's limit, as Grafana's threshold expression finds them."""
    query, threshold = (part["model"] for part in rule["data"])
    (limit,) = threshold["conditions"][0]["evaluator"]["params"]
    records = connection.cursor(row_factory=dict_row).execute(query["rawSql"]).fetchall()
    firing = []
    for record in records:
        (number,) = (value for value in record.values() if isinstance(value, float))
        if number > limit:
            firing.append({name: value for name, value in record.items() if isinstance(value, str)})
    return firing


@pytest.mark.services
@pytest.mark.parametrize("uid", RULES)
def test_a_rule_does_not_fire_while_all_is_well_and_fires_when_it_is_not(grafana, shop, uid):
    rule = RULES[uid]
    assert alarms(grafana, rule) == []
    change, labels = FIRES[uid]
    with psycopg.connect(shop.conninfo("owner")) as owner, owner.transaction(force_rollback=True):
        owner.execute(change)
        (alarm,) = alarms(owner, rule)
    assert labels.items() <= alarm.items()
    used = re.findall(r"\.Labels\.(\w+)", str(rule["annotations"]))
    assert set(used) <= alarm.keys()


@pytest.mark.parametrize("uid", RULES)
def test_a_rule_is_complete(uid):
    rule = RULES[uid]
    query, threshold = rule["data"]
    assert query["datasourceUid"] == query["model"]["datasource"]["uid"] == source()["uid"]
    assert (threshold["datasourceUid"], threshold["model"]["expression"]) == ("__expr__", "A")
    assert rule["condition"] == threshold["refId"] and threshold["model"]["type"] == "threshold"
    assert rule["labels"]["severity"] in ("warning", "critical") and rule["annotations"]["summary"]
    assert rule["annotations"]["__dashboardUid__"] in {board["uid"] for board in BOARDS.values()}
    # Grafana would put a variable of its environment, or nothing, for every other dollar sign.
    dollars = set(re.findall(r"\$\S*?[}\s]|\$.", json.dumps(rule)))
    assert dollars == {"${FRAUDSTREAM_RUNBOOK_URL}"}


def test_a_rule_leads_to_an_entry_of_the_runbook():
    text = (PROJECT_ROOT / "docs/operations.md").read_text()
    anchors = {
        re.sub(r"[^\w -]", "", heading.lower()).strip().replace(" ", "-")
        for heading in re.findall(r"^#+ (.*)$", text, re.M)
    }
    entries = {rule["annotations"]["runbook_url"].partition("#")[2] for rule in RULES.values()}
    of_incidents = {*Kind, "{{ .Labels.runbook }}"}
    assert entries - of_incidents <= anchors


def test_alarms_go_to_the_contact_point_that_is_there():
    (point,) = ALERTING["contact-points"]["contactPoints"]
    (policy,) = ALERTING["policies"]["policies"]
    assert {policy["receiver"], *(route["receiver"] for route in policy["routes"])} == {point["name"]}
    severities = {rule["labels"]["severity"] for rule in RULES.values()}
    assert all(value in severities for route in policy["routes"] for _, _, value in route["object_matchers"])


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
