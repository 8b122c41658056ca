"""The page "Fraud platform" says what the figures say, shows nobody's text as HTML, and is behind Airflow's log-in."""

from __future__ import annotations

import importlib.util
import re
from types import SimpleNamespace

import pytest
from fastapi.testclient import TestClient

from include.operations.incidents import Kind
from include.platform import page
from include.platform.airflow import DAGS
from include.settings import PROJECT_ROOT, IsolatedSettings

SETTINGS = IsolatedSettings(airflow_public_url="https://airflow.example.com")
STREAM = {
    "stream": "fraud_stream", "state": "running", "detail": "", "lag_records": 1234, "seconds_since_commit": 0.4,
    "starts_total": 2, "stored_total": 5000, "dead_letters_total": 3, "duplicates_total": 1, "runs": True,
}  # fmt: skip
FIGURES = {
    "streams": [STREAM, STREAM | {"stream": "producer", "lag_records": None, "state": "failed", "runs": False}],
    "incidents": [
        {"kind": "books-open", "subject": "fraud_stream", "severity": "critical", "summary": "<b>1 & 2</b>",
         "runbook": "books-open", "opened_at": "2026-11-27T01:02:03+00:00"},
    ],
    "champion": {"version": 3, "family": "gradient_boosting", "threshold": 0.5, "created_at": "2026-11-27T01:02"},
    "challenger": None, "reconciled_at": None, "latency_p50": 0.31, "latency_p95": None, "alerts_hour": 17,
    "messages_waiting": 1, "messages_undelivered": 2,
}  # fmt: skip


@pytest.fixture(scope="module")
def plugin():
    path = PROJECT_ROOT / "plugins" / "fraud_platform.py"
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_shows_the_figures_and_links_to_the_runbook():
    shown = page.page(SETTINGS, FIGURES)
    for text in ("1,234", "0.40 s", "version 3, gradient_boosting", "differ, compared never", "17",
                 "1 wait, 2 undelivered"):  # fmt: skip
        assert text in shown
    assert 'href="https://airflow.example.com/fraudstream/runbook#books-open"' in shown
    assert "&lt;b&gt;1 &amp; 2&lt;/b&gt;" in shown and "<b>1" not in shown


def test_without_the_relay_the_page_says_so_and_its_buttons_stay():
    shown = page.page(SETTINGS, None)
    assert "does not answer" in shown and "/dags/stop_stream" in shown


def test_the_relay_is_asked_at_its_address(monkeypatch):
    assert page.figures(IsolatedSettings(relay_url="http://127.0.0.1:1")) is None


def test_every_button_leads_to_a_dag_that_is_there():
    assert page.BUTTONS.keys() <= {*DAGS}


def test_the_runbook_has_an_anchor_for_each_kind():
    shown = page.runbook(page.RUNBOOK.read_text())
    assert {*map(str, Kind)} <= {*re.findall(r'<h3 id="([\w-]+)">', shown)}


@pytest.mark.parametrize("path", ["/", "/runbook"])
def test_nobody_sees_a_page_without_a_log_in(path):
    from include.platform.page_app import app

    answer = TestClient(app).get(path)
    assert answer.status_code == 401 and "Streams" not in answer.text


def test_whoever_is_logged_in_sees_the_pages(monkeypatch):
    from airflow.api_fastapi.core_api import security

    from include.platform.page_app import app

    manager = SimpleNamespace(is_authorized_view=lambda **given: True)
    monkeypatch.setattr(security, "get_auth_manager", lambda: manager)
    monkeypatch.setattr(page, "figures", lambda settings: FIGURES)
    monkeypatch.setitem(app.dependency_overrides, security.get_user, lambda: "anybody")
    client = TestClient(app)
    assert "Open incidents" in client.get("/").text
    assert 'id="stream-silent"' in client.get("/runbook").text


def test_the_plugin_has_the_page_in_the_menu_and_links_on_tasks(plugin, monkeypatch):
    loaded = plugin.FraudPlatform()
    assert [app["url_prefix"] for app in loaded.fastapi_apps] == ["/fraudstream"]
    assert loaded.external_views[0]["href"].endswith("/fraudstream/")
    key = SimpleNamespace(dag_id="d", task_id="t", run_id="r", map_index=-1, try_number=2)
    monkeypatch.setattr(plugin, "run_times", lambda ti_key: (None, None))
    monkeypatch.setattr(plugin, "trained_version", lambda ti_key: 4)
    settings = IsolatedSettings(grafana_public_url="https://grafana.example.com")
    addresses = {link.name: link.address(settings, None, key) for link in loaded.global_operator_extra_links}
    assert addresses["Grafana at the run's time"].endswith("/d/fraudstream-monitoring?from=now-1h&to=now")
    assert addresses["Model (MLflow)"].endswith("/#/models/fraud-detector/versions/4")
    assert addresses["Fraud alerts (Streamlit)"].endswith("/alerts")
    assert addresses["Log"].endswith("/dags/d/runs/r/tasks/t?try_number=2")
    assert loaded.global_operator_extra_links[0].address(IsolatedSettings(), None, key) == ""


def test_the_dashboard_of_the_link_is_there(plugin):
    import json

    boards = (PROJECT_ROOT / "grafana" / "dashboards").glob("*.json")
    assert plugin.DASHBOARD in {json.loads(path.read_text())["uid"] for path in boards}
