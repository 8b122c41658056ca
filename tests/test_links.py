"""Whoever opens a link, wherever they are, gets to the page: links name the public addresses."""

from __future__ import annotations

import importlib.util
import re

import pytest

from include.settings import PROJECT_ROOT, IsolatedSettings

PUBLIC = {
    "airflow_public_url": "https://airflow.example.com",
    "streamlit_public_url": "https://fraud.example.com",
    "mlflow_public_url": "https://mlflow.example.com",
    "grafana_public_url": "https://grafana.example.com",
}


@pytest.fixture(scope="module")
def plugin():
    path = PROJECT_ROOT / "plugins" / "fraudstream_links.py"
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_airflows_menu_leads_to_the_public_addresses(plugin):
    assert [link["href"] for link in plugin.links(IsolatedSettings(**PUBLIC))] == [
        "https://fraud.example.com/alerts",
        "https://fraud.example.com/performance",
        "https://mlflow.example.com/#/models/fraud-detector",
        "https://grafana.example.com/dashboards",
    ]


def test_airflows_menu_leads_to_this_machine_by_default_and_to_no_grafana(plugin):
    assert [link["href"] for link in plugin.links(IsolatedSettings(streamlit_port=8601))] == [
        "http://127.0.0.1:8601/alerts",
        "http://127.0.0.1:8601/performance",
        "http://127.0.0.1:5000/#/models/fraud-detector",
    ]


def test_no_page_and_no_command_spells_an_address_of_its_own():
    local = re.compile(r"https?://(127\.0\.0\.1|localhost)")
    files = [
        path
        for room in ("plugins", "streamlit_app", "dags", "grafana", "include/cli")
        for path in (PROJECT_ROOT / room).rglob("*")
        if path.suffix in (".py", ".json", ".yaml", ".toml")
    ]
    assert len(files) > 20
    assert [path.name for path in files if local.search(path.read_text())] == []
