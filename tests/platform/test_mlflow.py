"""MLflow with a log-in, as it runs in containers: a real server that lets in nobody without the password."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import httpx
import pytest
from pydantic import SecretStr

from include.operations import old_models
from include.platform import mlflow, ports
from include.platform.temporary import running
from include.registry import aliases, deletion, loading
from include.registry.errors import RegistryUnavailable
from include.settings import Settings
from tests import canaries
from tests.registered import register

pytestmark = pytest.mark.services

PASSWORD = "canary/Mlflow+password%"
PATHS = (
    "/",
    "/api/2.0/mlflow/experiments/search?max_results=1",
    "/ajax-api/2.0/mlflow/experiments/search?max_results=1",
    "/api/2.0/mlflow/registered-models/get?name=fraud-detector",
    "/model-versions/get-artifact?name=fraud-detector&version=1&path=model.skops",
    "/api/2.0/mlflow-artifacts/artifacts?path=.",
    "/graphql",
    "/signup",
)


@pytest.fixture(scope="module")
def guarded(postgres: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    (port,) = ports.free(1)
    settings = postgres.model_copy(
        update={
            "home": tmp_path_factory.mktemp("guarded"),
            "mlflow_port": port,
            "mlflow_tracking_uri": f"http://127.0.0.1:{port}",
            "mlflow_password": SecretStr(PASSWORD),
            "model_name": f"model-{uuid4().hex}",
        }
    )
    command, variables = mlflow.command(settings), mlflow.environment(settings)
    with running("mlflow", settings, command, lambda: mlflow.ready(settings), variables):
        yield settings


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("given", [None, ("admin", ""), ("admin", "password1234"), ("", PASSWORD)], ids=str)
def test_nobody_gets_in_without_the_password(guarded, path, given):
    answer = httpx.get(f"{guarded.mlflow_tracking_uri}{path}", auth=given, trust_env=False, timeout=30)
    assert answer.status_code in (401, 403), answer.text


def test_training_and_scoring_have_it(guarded, clean_postgres, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "")  # taken back after the test
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "")
    known = register(guarded)
    aliases.set_champion(guarded, known.version)
    assert loading.load_champion(guarded).scorer.version == known.version


def test_housekeeping_has_it(guarded, clean_postgres, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "")
    monkeypatch.setattr(old_models, "NEWEST", 0)
    old = register(guarded)
    artifacts = guarded.home / "mlflow-artifacts"
    assert list(artifacts.rglob(f"{old.run_id}/artifacts/plots/*.png"))
    old_models.delete_old_models(guarded, datetime.now(UTC) + timedelta(days=401))
    assert old.version not in deletion.registered(guarded)
    assert not list(artifacts.rglob(old.run_id))


@pytest.mark.parametrize("given", [None, SecretStr("mistyped")], ids=["none", "wrong"])
def test_a_refusal_names_the_setting_and_shows_no_password(guarded, given):
    with pytest.raises(RegistryUnavailable, match="FRAUDSTREAM_MLFLOW_PASSWORD") as caught:
        aliases.champion(guarded.model_copy(update={"mlflow_password": given}))
    assert "mistyped" not in str(caught.value)


def test_the_password_is_in_no_log_and_no_command_line(guarded):
    words = {"password": PASSWORD}
    assert canaries.in_files(words, guarded.home) == []
    assert canaries.in_processes(words) == []
