"""SQL files and dashboards, which cannot import the streams' names, use those of include.streams."""

from __future__ import annotations

import re

import pytest

from include.settings import PROJECT_ROOT
from include.streams import STREAMS

PRODUCER = "producer"  # it has a lease like the streams
FILES = [*(PROJECT_ROOT / "include" / "sql").rglob("*.sql"), *(PROJECT_ROOT / "grafana").rglob("*.json")]


def named(text: str) -> set[str]:
    """Streams that a text of SQL names: what a column `stream` is compared with, and words that end like one."""
    compared = re.findall(r"\bstream = '(\w+)'", text)
    return {*compared, *re.findall(r"'(\w+_stream)'", text)}


def test_every_stream_that_sql_and_dashboards_name_exists():
    by_file = {path.name: named(path.read_text()) for path in FILES}
    assert set().union(*by_file.values()) == set(STREAMS)
    assert {name: names for name, names in by_file.items() if not names <= {*STREAMS, PRODUCER}} == {}


@pytest.mark.parametrize("text", ["where l.stream = 'fraud_streams'", "values ('old_stream')"])
def test_another_name_is_noticed(text):
    assert not named(text) <= {*STREAMS, PRODUCER}


def test_each_stream_is_a_job():
    assert {path.stem for path in (PROJECT_ROOT / "spark_jobs").glob("*_stream.py")} == set(STREAMS)
