"""The campaign's producer ends when everything is acknowledged, and goes on where a killed one was."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from include.broker import kafka as broker
from include.faults import producer
from include.faults.acknowledged import ALLOWED, LIST, Reader
from include.faults.events import Events
from include.settings import PROJECT_ROOT, Settings
from tests.stream_runs import own, until

pytestmark = pytest.mark.services

START = datetime.now(UTC) - timedelta(days=3)


@pytest.fixture
def shop(kafka: Settings, tmp_path: Path) -> Settings:
    return own(kafka, tmp_path)


def acknowledged(folder: Path) -> list[int]:
    return [each.number for each in Reader(folder / LIST).new()]


def offsets(settings: Settings) -> int:
    topics = settings.transactions_topic, settings.labels_topic
    return sum(sum(broker.end_offsets(settings, topic).values()) for topic in topics)


def test_every_event_is_acknowledged_once_at_its_place(shop, tmp_path):
    (tmp_path / ALLOWED).write_text("500")
    producer.send(shop, tmp_path, Events(1, START), 500)
    assert sorted(acknowledged(tmp_path)) == list(range(500)) and offsets(shop) == 500
    places = {(each.is_label, each.partition, each.offset) for each in Reader(tmp_path / LIST).new()}
    assert len(places) == 500


def test_what_is_acknowledged_is_not_sent_again(shop, tmp_path):
    (tmp_path / ALLOWED).write_text("500")
    producer.send(shop, tmp_path, Events(1, START), 300)
    producer.send(shop, tmp_path, Events(1, START), 500)
    assert sorted(acknowledged(tmp_path)) == list(range(500)) and offsets(shop) == 500


def test_a_killed_one_goes_on_and_sends_no_further_than_allowed(shop, tmp_path):
    (tmp_path / ALLOWED).write_text("200")
    command = [sys.executable, "-m", "include.faults.producer", str(tmp_path), "1", START.isoformat(), "400"]
    environment = os.environ | {"PYTHONPATH": str(PROJECT_ROOT)} | shop.as_environment()
    with subprocess.Popen(command, env=environment) as first:
        until(lambda: len(acknowledged(tmp_path)) == 200, 60)
        first.send_signal(signal.SIGKILL)
    assert offsets(shop) == 200
    (tmp_path / ALLOWED).write_text("400")
    assert subprocess.run(command, env=environment, timeout=60, check=False).returncode == 0
    assert sorted(acknowledged(tmp_path)) == list(range(400))
