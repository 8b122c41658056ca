"""How far a history got is read from the topic."""

import threading

import pytest

from include.broker.publish import Publisher
from include.generator.config import Config
from include.generator.resume import Mark, PublishedHistory, fingerprint, published_history
from include.settings import Settings
from tests.generator.topics import own_topics
from tests.waiting import PATIENCE

pytestmark = pytest.mark.services

KEYS = {0: b"user_4", 1: b"user_0"}  # keys that fall into these partitions


@pytest.fixture
def topics(kafka: Settings) -> Settings:
    return own_topics(kafka)


def put(settings: Settings, *records: tuple[int, Mark | None]) -> None:
    publisher = Publisher(settings, threading.Event())
    for partition, mark in records:
        headers = mark.headers() if mark else None
        publisher.send(settings.transactions_topic, KEYS[partition], b"{}", headers)
    assert publisher.flush(PATIENCE) == 0


def test_an_empty_topic_has_nothing(topics):
    assert published_history(topics) == PublishedHistory(True, None)


def test_a_live_record_at_any_end_means_that_the_history_is_done(topics):
    put(topics, (0, Mark(100, 5, 1)), (1, Mark(100, 6, 1)), (1, None))
    assert published_history(topics) == PublishedHistory(False, None)


def test_an_interrupted_history_goes_on_from_the_earliest_last_slot(topics):
    put(topics, (0, Mark(100, 5, 1)), (1, Mark(100, 6, 1)), (1, Mark(100, 7, 1)))
    assert published_history(topics) == PublishedHistory(False, Mark(100, 5, 1))


def test_a_partition_that_got_nothing_means_from_the_start(topics):
    put(topics, (1, Mark(100, 6, 1)))
    assert published_history(topics) == PublishedHistory(False, Mark(100, 0, 1))


def test_configurations_have_their_own_fingerprints():
    assert fingerprint(Config()) == fingerprint(Config()) != fingerprint(Config(seed=8))
    assert Mark.read(Mark(1, 2, 3).headers()) == Mark(1, 2, 3)
    assert Mark.read([("other", b"x")]) is None and Mark.read(None) is None
