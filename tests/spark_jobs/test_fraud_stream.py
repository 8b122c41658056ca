"""The stream of scores with a real MLflow: waits for a champion, takes each new one, and loses nothing when killed."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest
from matplotlib.figure import Figure

from include import registry, stream
from include.champion import Champion
from include.settings import Settings
from tests.builders import transaction
from tests.payments import detector, events, payments, vectors_of
from tests.streams import Submitted, books, lease, own, produce, query, running

NAME = "fraud_stream"

pytestmark = [pytest.mark.services, pytest.mark.timeout(1_200)]


@pytest.fixture
def shop(clean_postgres: Settings, kafka: Settings, mlflow_server: Settings, tmp_path: Path) -> Settings:
    return own(clean_postgres, tmp_path, model_name=f"model-{uuid4().hex}", champion_poll_seconds=0.2)


@pytest.fixture
def champion(shop: Settings):
    champion = Champion(shop)
    yield champion
    champion.close()


def crown(shop: Settings) -> int:
    """Registers a model as the champion; its version."""
    fitted, threshold = detector()
    version = registry.register(
        shop,
        fitted,
        threshold=threshold,
        metrics={"average_precision": 0.4},
        params={},
        figures={"scores": Figure()},
        trained_from=datetime(2026, 3, 1, tzinfo=UTC),
        trained_to=datetime(2026, 3, 20, tzinfo=UTC),
    ).version
    registry.set_champion(shop, version)
    return version


def test_it_waits_for_a_champion_takes_each_new_one_and_keeps_the_last(shop, champion, spark):
    values = events(payments(120))
    topic = shop.transactions_topic
    produce(shop, topic, values[:40], partition=0)
    job = stream.Job(NAME, (topic,), champion.handlers, champion.waits_for, champion.says)
    with running(shop, job, spark) as active:
        active.until(lambda: lease(shop, NAME)[0] == "waiting")
        active.until(lambda: "champion" in lease(shop, NAME)[1])
        assert books(shop, NAME)[0] == 0

        first = crown(shop)
        active.until(lambda: books(shop, NAME)[:2] == (40, 40))
        second = crown(shop)
        active.until(lambda: champion.scorer.version == second)
        produce(shop, topic, values[40:80], partition=0)
        active.until(lambda: books(shop, NAME)[:2] == (80, 80))

        champion._settings = shop.model_copy(update={"mlflow_tracking_uri": "http://127.0.0.1:9"})
        active.until(lambda: f"scoring goes on with version {second}" in lease(shop, NAME)[1])
        produce(shop, topic, values[80:], partition=0)
        active.until(lambda: books(shop, NAME)[:2] == (120, 120))
        assert query(shop, f"select model_version from shop.stream_leases where stream = '{NAME}'") == [
            (second,)
        ]
    versions = query(shop, "select model_version, count(*) from shop.fraud_scores group by 1 order by 1")
    assert versions == [(first, 40), (second, 80)]
    assert query(shop, "select count(*) from shop.fraud_scores where is_alert")[0][0] > 0


def test_killed_while_it_writes_every_payment_is_scored_once_and_from_the_right_past(shop, tmp_path):
    fields = payments(400)
    crown(shop)
    log = tmp_path / "job.log"
    produce(shop, shop.transactions_topic, events(fields[:200]), partition=0)
    with Submitted(shop, NAME, log, failpoint="mid_copy:4") as job:  # ids, scores, alerts, then the states
        assert job.ended() != 0, log.read_text()
    assert "stopped:" not in log.read_text() and books(shop, NAME)[0] == 0
    with Submitted(shop, NAME, log, failpoint="after_commit") as job:
        assert job.ended() != 0, log.read_text()
    assert books(shop, NAME)[0] == 200
    produce(shop, shop.transactions_topic, events(fields[200:]), partition=0)
    with Submitted(shop, NAME, log) as job:
        job.until(lambda: books(shop, NAME)[:2] == (400, 400))

    stored = query(shop, "select features from shop.fraud_scores order by transaction_id")
    expected = vectors_of([transaction(**each) for each in fields])
    assert np.array_equal(np.array([each for (each,) in stored], np.float32), expected)
