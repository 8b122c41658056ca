"""The stream of scores with a real MLflow: waits for a champion, takes each new one, and loses nothing when killed."""

from __future__ import annotations

import functools
import os
import pickle
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest
import skops.io
from matplotlib.figure import Figure

from include.registry import aliases, loading, registration
from include.registry.versions import ModelVersion
from include.settings import Settings
from include.streams import runner
from include.streams.current_model import CurrentModel
from tests.builders import transaction
from tests.payments import detector, events, payments, vectors_of
from tests.stream_runs import Submitted, books, lease, own, produce, query, running
from tests.tampering import Malicious, bless, point_champion_at, replace_artifact

NAME = "fraud_stream"

pytestmark = [pytest.mark.services, pytest.mark.timeout(1_200)]


@pytest.fixture
def shop(clean_postgres: Settings, kafka: Settings, mlflow_server: Settings, tmp_path: Path) -> Settings:
    return own(clean_postgres, tmp_path, model_name=f"model-{uuid4().hex}", champion_poll_seconds=0.2)


@pytest.fixture
def model(shop: Settings):
    model = CurrentModel(shop)
    yield model
    model.close()


def register(shop: Settings) -> ModelVersion:
    fitted, threshold = detector()
    return registration.register(
        shop,
        fitted,
        threshold=threshold,
        metrics={"average_precision": 0.4},
        params={},
        figures={"scores": Figure()},
        trained_from=datetime(2026, 3, 1, tzinfo=UTC),
        trained_to=datetime(2026, 3, 20, tzinfo=UTC),
    )


def crown(shop: Settings) -> int:
    """Registers a model as the champion; its version."""
    version = register(shop).version
    aliases.set_champion(shop, version)
    return version


def test_it_waits_for_a_champion_takes_each_new_one_and_keeps_the_last(shop, model, spark):
    values = events(payments(120))
    topic = shop.transactions_topic
    produce(shop, topic, values[:40], partition=0)
    definition = runner.StreamDefinition(NAME, (topic,), model.handlers, model.waits_for, model.report)
    with running(shop, definition, spark) as active:
        active.until(lambda: lease(shop, NAME)[0] == "waiting")
        active.until(lambda: "champion" in lease(shop, NAME)[1])
        assert books(shop, NAME)[0] == 0

        first = crown(shop)
        active.until(lambda: books(shop, NAME)[:2] == (40, 40))
        second = crown(shop)
        active.until(lambda: model.scorer.version == second)
        produce(shop, topic, values[40:80], partition=0)
        active.until(lambda: books(shop, NAME)[:2] == (80, 80))

        model._settings = shop.model_copy(update={"mlflow_tracking_uri": "http://127.0.0.1:9"})
        active.until(lambda: f"scoring goes on with version {second}" in lease(shop, NAME)[1])
        produce(shop, topic, values[80:], partition=0)
        active.until(lambda: books(shop, NAME)[:2] == (120, 120))
        assert query(shop, f"select model_version from shop.stream_leases where stream = '{NAME}'") == [
            (second,)
        ]
    versions = query(shop, "select model_version, count(*) from shop.fraud_scores group by 1 order by 1")
    assert versions == [(first, 40), (second, 80)]
    assert query(shop, "select count(*) from shop.fraud_scores where is_alert")[0][0] > 0


BAD = {
    "corrupt": lambda raw, marker: raw[:200] + bytes([raw[200] ^ 1]) + raw[201:],
    "no model at all": lambda raw, marker: b"",
    "malicious pickle": lambda raw, marker: pickle.dumps(Malicious(marker)),
    "untrusted type": lambda raw, marker: skops.io.dumps(functools.partial(os.mkdir, str(marker))),
}


def test_a_champion_that_must_not_run_never_stops_the_stream(shop, model, spark, tmp_path):
    """Each time the hash in shop.models fits as well, except for the first, which only has a byte flipped."""
    marker, topic = tmp_path / "marker", shop.transactions_topic
    values = events(payments(100))
    good = crown(shop)
    definition = runner.StreamDefinition(NAME, (topic,), model.handlers, model.waits_for, model.report)
    with running(shop, definition, spark) as active:
        produce(shop, topic, values[:20], partition=0)
        active.until(lambda: books(shop, NAME)[:2] == (20, 20))
        for i, (kind, spoil) in enumerate(BAD.items(), start=1):
            bad = register(shop)
            raw = spoil(loading.model_bytes(shop, bad), marker)
            replace_artifact(shop, bad, raw)
            if kind != "corrupt":
                bless(shop, bad.version, raw)
            point_champion_at(shop, bad.version)
            active.until(lambda: f"version {bad.version}" in lease(shop, NAME)[1])  # noqa: B023
            produce(shop, topic, values[20 * i : 20 * (i + 1)], partition=0)
            active.until(lambda: books(shop, NAME)[:2] == (20 * (i + 1),) * 2)  # noqa: B023
            state, detail = lease(shop, NAME)
            assert state == "running" and f"scoring goes on with version {good}" in detail
        assert not marker.exists()
    assert query(shop, "select distinct model_version from shop.fraud_scores") == [(good,)]


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
    expected = vectors_of([transaction(**values) for values in fields])
    assert np.array_equal(np.array([vector for (vector,) in stored], np.float32), expected)
