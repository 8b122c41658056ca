"""The figures tell how the platform is, as JSON and for Prometheus."""

from __future__ import annotations

import json
import re

import psycopg
import pytest

from include.broker import kafka as broker
from include.operations import figures
from include.operations.incidents import Kind, open_incident

pytestmark = pytest.mark.services
SAMPLE = re.compile(r'fraudstream_[a-z0-9_]+(\{[a-z]+="[\w-]+"\})? -?[\d.e+-]+')


def test_figures_of_a_platform_in_which_nothing_happened_yet(clean_postgres, kafka):
    read = figures.read(kafka)
    assert [stream["state"] for stream in read["streams"]] == ["stopped"] * 3
    assert read["incidents"] == [] and read["champion"] is None and read["alerts_hour"] == 0
    assert json.loads(json.dumps(read)) == read
    figures.prometheus(read)


def test_figures_have_lag_incidents_and_the_champion(clean_postgres, kafka):
    broker.ensure_topics(kafka, timeout=90)
    with psycopg.connect(kafka.conninfo("owner"), autocommit=True) as connection:
        open_incident(connection, Kind.BOOKS_OPEN, "fraud_stream", "differ")
        connection.execute(
            "insert into shop.models (version, run_id, sha256, family, threshold, feature_set, trained_from,"
            " trained_to)"
            " select n, 'r', 's', 'isolation_forest', 0.5, 1, now(), now() from generate_series(3, 4) as n"
        )
        connection.execute(
            "update shop.stream_leases set state = 'running', model_version = 3 where stream = 'fraud_stream'"
        )
        connection.execute("update shop.stream_leases set held = true where stream = 'transaction_stream'")
    read = figures.read(kafka)
    assert (read["champion"]["version"], read["challenger"]["version"]) == (3, 4)
    states = {stream["stream"]: stream["state"] for stream in read["streams"]}
    assert states["transaction_stream"] == "stopped by an operator" and states["fraud_stream"] == "running"
    assert all(
        stream["lag_records"] is not None for stream in read["streams"] if stream["stream"] != "producer"
    )
    lines = figures.prometheus(read).splitlines()
    assert [line for line in lines if not line.startswith("#") and not SAMPLE.fullmatch(line)] == []
    assert 'fraudstream_incidents_open{kind="books-open"} 1' in lines
    assert 'fraudstream_stream_up{stream="fraud_stream"} 1' in lines
    assert "fraudstream_champion_version 3" in lines
