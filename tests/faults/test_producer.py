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
from include.faults.acknowledged import ABORTED, ALLOWED, DIE_IN_TRANSACTION, LIST, Reader
from include.faults.events import Events
from include.settings import PROJECT_ROOT, Settings
from tests.stream_runs import own
from tests.waiting import PATIENCE, until

pytestmark = pytest.mark.services

START = datetime.now(UTC) - timedelta(days=3)


@pytest.fixture
def shop(kafka: Settings, tmp_path: Path) -> Settings:
    return own(kafka, tmp_path)


def acknowledged(folder: Path) -> list[int]:
    return [event.number for event in Reader(folder / LIST).new()]


def committed(settings: Settings) -> set[tuple[str, int, int]]:
    """Topic, partition and offset of each record that a reader of committed records gets."""
    return {
        (topic, message.partition(), message.offset())
        for topic in (settings.transactions_topic, settings.labels_topic)
        for message in broker.records(settings, topic, broker.bounds(settings, topic))
    }


def positions(settings: Settings, path: Path) -> set[tuple[str, int, int]]:
    topics = {False: settings.transactions_topic, True: settings.labels_topic}
    return {(topics[event.is_label], event.partition, event.offset) for event in Reader(path).new()}


def test_every_event_is_acknowledged_once_at_its_place(shop, tmp_path):
    (tmp_path / ALLOWED).write_text("500")
    producer.send(shop, tmp_path, Events(1, START), 500)
    assert sorted(acknowledged(tmp_path)) == list(range(500))
    assert committed(shop) == positions(shop, tmp_path / LIST) and len(committed(shop)) == 500


def test_aborted_events_are_in_their_topics_and_no_reader_gets_them(shop, tmp_path):
    (tmp_path / ALLOWED).write_text("500")
    producer.send(shop, tmp_path, Events(1, START), 500)
    aborted = positions(shop, tmp_path / ABORTED)
    assert len(aborted) == 150  # groups 1, 5 and 9 of 50
    assert {topic for topic, _, _ in aborted} == {shop.transactions_topic, shop.labels_topic}
    assert not aborted & committed(shop)
    ends = {
        (topic, partition): end
        for topic in (shop.transactions_topic, shop.labels_topic)
        for partition, end in broker.end_offsets(shop, topic).items()
    }
    assert all(offset < ends[topic, partition] for topic, partition, offset in aborted)


def test_what_is_acknowledged_is_not_sent_again(shop, tmp_path):
    (tmp_path / ALLOWED).write_text("500")
    producer.send(shop, tmp_path, Events(1, START), 300)
    producer.send(shop, tmp_path, Events(1, START), 500)
    assert sorted(acknowledged(tmp_path)) == list(range(500)) and len(committed(shop)) == 500


def test_a_killed_one_goes_on_and_sends_no_further_than_allowed(shop, tmp_path):
    (tmp_path / ALLOWED).write_text("200")
    command = [sys.executable, "-m", "include.faults.producer", str(tmp_path), "1", START.isoformat(), "400"]
    environment = os.environ | {"PYTHONPATH": str(PROJECT_ROOT)} | shop.as_environment()
    with subprocess.Popen(command, env=environment) as first:
        until(lambda: len(acknowledged(tmp_path)) == 200)
        first.send_signal(signal.SIGKILL)
    assert len(committed(shop)) == 200
    (tmp_path / ALLOWED).write_text("400")
    assert subprocess.run(command, env=environment, timeout=PATIENCE, check=False).returncode == 0
    assert sorted(acknowledged(tmp_path)) == list(range(400))


def test_readers_do_not_wait_for_a_transaction_whose_next_event_is_not_allowed_yet(shop, tmp_path):
    (tmp_path / ALLOWED).write_text(str(producer.GROUP + 5))  # the second group is sent in transactions
    command = [sys.executable, "-m", "include.faults.producer", str(tmp_path), "1", START.isoformat(), "100"]
    environment = os.environ | {"PYTHONPATH": str(PROJECT_ROOT)} | shop.as_environment()
    with subprocess.Popen(command, env=environment) as process:
        alive = lambda: process.poll() is None  # noqa: E731
        until(lambda: len(acknowledged(tmp_path)) == producer.GROUP + 5, alive=alive)
        assert committed(shop) == positions(shop, tmp_path / LIST)
        (tmp_path / ALLOWED).write_text("100")
    assert process.returncode == 0 and sorted(acknowledged(tmp_path)) == list(range(100))


def test_one_that_dies_within_a_transaction_has_sent_nothing_of_it_and_the_next_one_sends_it(shop, tmp_path):
    (tmp_path / ALLOWED).write_text("200")
    (tmp_path / DIE_IN_TRANSACTION).touch()
    command = [sys.executable, "-m", "include.faults.producer", str(tmp_path), "1", START.isoformat(), "200"]
    environment = os.environ | {"PYTHONPATH": str(PROJECT_ROOT)} | shop.as_environment()
    assert (
        subprocess.run(command, env=environment, timeout=PATIENCE, check=False).returncode == -signal.SIGKILL
    )
    assert set(acknowledged(tmp_path)) <= set(range(producer.GROUP))
    assert subprocess.run(command, env=environment, timeout=PATIENCE, check=False).returncode == 0
    assert sorted(acknowledged(tmp_path)) == list(range(200))
    assert committed(shop) >= positions(shop, tmp_path / LIST)
