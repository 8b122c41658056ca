"""What a registration leaves on a real MLflow server and in PostgreSQL."""

from __future__ import annotations

from hashlib import sha256
from uuid import uuid4

import psycopg
import pytest
from mlflow import MlflowClient

from include.features.behaviour import FEATURES
from include.registry import aliases, loading, registration
from include.registry.errors import ModelRejected, RegistryError
from tests.registered import register

pytestmark = pytest.mark.services


def test_a_run_tells_what_was_trained_on_what_by_which_code(shop):
    known = register(shop)
    client = MlflowClient(shop.mlflow_tracking_uri)
    run = client.get_run(known.run_id)
    assert run.info.status == "FINISHED"
    assert client.get_experiment(run.info.experiment_id).name == shop.model_name
    assert run.data.params["trees"] == "10"
    assert run.data.params["trained_to"] == "2026-03-20T00:00:00+00:00"
    assert run.data.params["code_version"] == registration.code_version()
    assert run.data.metrics["average_precision"] == 0.4 and "auc" not in run.data.metrics
    assert run.data.metrics["intervals/average_precision/high"] == 0.5
    assert [(m.step, m.value) for m in client.get_metric_history(known.run_id, "daily/frauds")] == [
        (0, 2),
        (1, 3),
    ]
    assert [file.path for file in client.list_artifacts(known.run_id, "plots")] == ["plots/scores.png"]
    version = client.get_model_version(shop.model_name, str(known.version))
    assert version.tags["sha256"] == known.sha256
    import mlflow

    mlflow.set_tracking_uri(shop.mlflow_tracking_uri)
    signature = mlflow.models.get_model_info(version.source).signature
    assert tuple(signature.inputs.input_names()) == FEATURES


def test_the_hash_is_that_of_the_bytes_that_mlflow_gives_back(shop):
    known = register(shop)
    assert sha256(loading.model_bytes(shop, known)).hexdigest() == known.sha256


def test_a_registration_that_dies_half_way_leaves_the_champion_and_an_unusable_version(shop):
    first = register(shop)
    aliases.set_champion(shop, first.version)
    with psycopg.connect(shop.conninfo("owner"), autocommit=True) as connection:
        connection.execute("revoke insert on shop.models from trainer")
        try:
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                register(shop)
        finally:
            connection.execute("grant insert on shop.models to trainer")
    assert aliases.champion(shop).version == first.version
    with pytest.raises(ModelRejected, match="not in shop.models"):
        aliases.set_champion(shop, first.version + 1)
    assert aliases.champion(shop).version == first.version


def test_a_second_mlflow_database_cannot_take_over_a_version_number(shop):
    known = register(shop)
    anew = shop.model_copy(update={"model_name": f"model-{uuid4().hex}"})
    with pytest.raises(RegistryError, match=f"already has a version {known.version}"):
        register(anew)
    assert loading.load_scorer(shop, known.version).version == known.version
