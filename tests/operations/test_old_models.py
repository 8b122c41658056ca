"""Old versions go from a real MLflow with runs and artifacts; what is referred to stays, whenever it is killed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
import requests
from matplotlib.figure import Figure
from mlflow import MlflowClient

from include.operations import old_models
from include.registry import aliases, deletion, loading
from include.registry.errors import ModelRejected, RegistryUnavailable
from include.registry.versions import ModelVersion
from include.settings import Settings
from tests.registered import down, register
from tests.stream_runs import query

pytestmark = pytest.mark.services

LATER = timedelta(days=401)
ALERT = """
insert into shop.fraud_alerts (transaction_id, user_id, timestamp, amount, score, threshold, model_version, topic,
    partition, "offset") values ('t-1', 'u-1', now(), 1, 0.9, 0.6, {}, 'transactions-data', 0, 0)"""


@pytest.fixture
def shop(clean_postgres: Settings, mlflow_server: Settings, tmp_path) -> Settings:
    """Empty tables, an empty registry (a model name of its own) and an empty home."""
    return clean_postgres.model_copy(update={"model_name": f"model-{uuid4().hex}", "home": tmp_path})


@pytest.fixture
def keeps_one(monkeypatch) -> None:
    monkeypatch.setattr(old_models, "NEWEST", 1)


def run(settings: Settings, age: timedelta = LATER) -> list[str]:
    """What is deleted once so much time has passed."""
    return old_models.delete_old_models(settings, datetime.now(UTC) + age)


def folder(settings: Settings) -> Path:
    """Where MLflow keeps the artifacts of this model's runs."""
    client = MlflowClient(settings.mlflow_tracking_uri)
    experiment = client.get_experiment_by_name(settings.model_name).experiment_id
    return settings.postgres_passfile.parent.parent / "mlflow-artifacts" / experiment


def of(settings: Settings, known: ModelVersion) -> tuple[Path, Path]:
    """The folders of a version's run, with its plots, and of its model."""
    client = MlflowClient(settings.mlflow_tracking_uri)
    uri = client.get_model_version_download_uri(settings.model_name, str(known.version))
    model = folder(settings).parent / uri.removeprefix("mlflow-artifacts:/")
    run, model = folder(settings) / known.run_id, model.parent
    assert (run / "artifacts" / "plots" / "scores.png").is_file()
    assert (model / "artifacts" / "model.skops").is_file()
    return run, model


def runs(settings: Settings) -> set[str]:
    """Runs that MLflow shows."""
    client = MlflowClient(settings.mlflow_tracking_uri)
    return {run.info.run_id for run in client.search_runs([folder(settings).name])}


def test_old_versions_go_with_runs_and_artifacts_and_what_is_referred_to_stays(shop, monkeypatch):
    monkeypatch.setattr(old_models, "NEWEST", 2)
    champion, challenger, other, scores, alerted, first, second, *newest = (register(shop) for _ in range(9))
    aliases.set_champion(shop, champion.version)
    aliases.set_challenger(shop, challenger.version)
    client = MlflowClient(shop.mlflow_tracking_uri)
    client.set_registered_model_alias(shop.model_name, "somebodys", str(other.version))
    query(
        shop,
        f"update shop.stream_leases set model_version = {scores.version} where stream = 'fraud_stream';"
        + ALERT.format(alerted.version),
    )
    old, kept = [first, second], [champion, challenger, other, scores, alerted, *newest]
    gone = [path for known in old for path in of(shop, known)]
    stay = [path for known in kept for path in of(shop, known)]

    assert run(shop, timedelta(days=399)) == []
    assert run(shop.model_copy(update={"keep_models_days": 0})) == []
    assert runs(shop) == {known.run_id for known in [*old, *kept]}

    assert run(shop) == [
        *(f"deleted version {known.version} of {shop.model_name} from MLflow" for known in reversed(old)),
        *(f"deleted the run {known.run_id} and its artifacts from MLflow" for known in reversed(old)),
    ]
    assert deletion.registered(shop).keys() == {known.version for known in kept}
    assert runs(shop) == {known.run_id for known in kept}
    assert [path for path in gone if path.exists()] == []
    left = [*folder(shop).glob("models/*"), *folder(shop).iterdir()]
    assert set(left) - {folder(shop) / "models"} == set(stay)
    for known in kept:
        assert loading.load_scorer(shop, known.version).version == known.version
    assert aliases.champion(shop).version == champion.version
    assert aliases.challenger(shop).version == challenger.version
    # A score's version is still described.
    assert {known.version for known in aliases.versions(shop)} == {known.version for known in [*old, *kept]}
    assert run(shop) == []


def test_the_newest_versions_stay_whatever_their_age(shop):
    known = [register(shop, figures={}) for _ in range(old_models.NEWEST + 1)]
    run(shop, timedelta(days=5000))
    assert sorted(deletion.registered(shop)) == [version.version for version in known[1:]]


def test_old_runs_of_failed_and_killed_trainings_go_and_those_of_others_stay(shop):
    known = register(shop)
    client = MlflowClient(shop.mlflow_tracking_uri)
    experiment = folder(shop).name

    def began(days: int, status: str | None) -> str:
        then = datetime.now(UTC) - timedelta(days=days)
        run_id = client.create_run(experiment, start_time=int(then.timestamp() * 1000)).info.run_id
        client.log_figure(run_id, Figure(), "plots/scores.png")
        client.create_logged_model(experiment, source_run_id=run_id)
        if status:
            client.set_terminated(run_id, status)
        return run_id

    old = {began(500, status) for status in ("FAILED", "KILLED", None)}
    young, of_others = began(300, "FAILED"), began(500, "FINISHED")
    assert len(old_models.delete_old_models(shop)) == len(old)
    assert runs(shop) == {known.run_id, young, of_others}
    assert {path.name for path in folder(shop).iterdir()} == {"models", known.run_id, young, of_others}
    assert len(client.search_logged_models([experiment])) == 3
    assert old_models.delete_old_models(shop) == []


@pytest.mark.parametrize("names_run", [True, False])
def test_a_model_that_was_registered_under_another_name_keeps_its_run(shop, keeps_one, names_run):
    first, _ = register(shop), register(shop)
    client = MlflowClient(shop.mlflow_tracking_uri)
    source = client.get_model_version(shop.model_name, str(first.version)).source
    other = f"{shop.model_name}-other"
    client.create_registered_model(other)
    client.create_model_version(
        other, source, first.run_id if names_run else None, model_id=source.removeprefix("models:/")
    )
    places = of(shop, first)
    assert len(run(shop)) == 1
    assert first.version not in deletion.registered(shop)
    assert first.run_id in runs(shop) and all(path.is_dir() for path in places)


class Killed(BaseException):
    """Ends the housekeeping as SIGKILL would: nothing in it goes on."""


def test_a_housekeeping_that_is_killed_at_any_point_is_finished_by_the_next(shop, monkeypatch):
    monkeypatch.setattr(old_models, "NEWEST", 0)
    champion = register(shop)
    aliases.set_champion(shop, champion.version)
    request = requests.Session.request
    left: list[int] = []  # deletions and their answers until it is killed

    def passing() -> None:
        if not left:
            raise Killed
        left.pop()

    def deleting(self, method, url, **given):
        deletes = method == "DELETE" or url.endswith("/delete")
        if deletes:
            passing()
        answer = request(self, method, url, **given)
        if deletes:
            passing()
        return answer

    finished = 0
    for points in range(20):
        old = register(shop)
        places = of(shop, old)
        left[:] = [0] * points
        with monkeypatch.context() as patched:
            patched.setattr(requests.Session, "request", deleting)
            try:
                run(shop)
                finished = points
            except Killed:
                pass
        assert aliases.champion(shop).version == champion.version
        assert loading.load_scorer(shop, champion.version).version == champion.version
        run(shop)
        assert deletion.registered(shop).keys() == {champion.version}
        assert runs(shop) == {champion.run_id}
        assert [path for path in places if path.exists()] == []
        assert run(shop) == []
        if finished:
            break
    assert finished == 10  # a version, two folders of artifacts, a model, a run: before and after each


def test_a_version_that_gets_an_alias_meanwhile_stays(shop, monkeypatch, keeps_one):
    first, second = register(shop), register(shop)
    aliases.set_champion(shop, second.version)
    monkeypatch.setattr(old_models, "_unneeded", lambda settings, before: [second.version, first.version])
    done = run(shop)
    assert [line for line in done if "version" in line] == [
        f"deleted version {first.version} of {shop.model_name} from MLflow"
    ]
    assert loading.load_scorer(shop, second.version).version == second.version


def test_no_alias_is_set_while_a_version_is_deleted(shop, monkeypatch):
    known = register(shop)
    monkeypatch.setenv("PGOPTIONS", "-c lock_timeout=200ms")
    with aliases.held(shop, "trainer"):
        for act in (aliases.set_champion, aliases.set_challenger, deletion.delete_version):
            with pytest.raises(psycopg.errors.LockNotAvailable):
                act(shop, known.version)
    assert deletion.delete_version(shop, known.version)


def test_a_deleted_version_cannot_become_champion_and_says_why(shop):
    kept, gone = register(shop), register(shop)
    for known in (kept, gone):
        aliases.set_champion(shop, known.version)
        loading.load_champion(shop)  # keeps its bytes in the state folder
    aliases.set_champion(shop, kept.version)
    assert deletion.delete_version(shop, gone.version)
    with pytest.raises(ModelRejected, match="FRAUDSTREAM_KEEP_MODELS_DAYS"):
        aliases.set_champion(shop, gone.version)
    assert aliases.champion(shop).version == kept.version
    assert loading.load_champion(shop).scorer.version == kept.version
    with pytest.raises(ModelRejected, match="FRAUDSTREAM_KEEP_MODELS_DAYS"):
        loading.load_scorer(shop, gone.version)


def test_the_champion_that_a_stream_keeps_scores_on(shop, keeps_one):
    known = register(shop)
    aliases.set_champion(shop, known.version)
    scorer = loading.load_champion(shop).scorer
    register(shop), register(shop)
    assert run(shop)
    assert loading.load_champion(shop, scorer).scorer is scorer
    assert loading.load_champion(down(shop)).scorer.version == known.version


def test_without_a_run_there_is_nothing_to_delete_and_without_mlflow_it_is_named(shop):
    assert run(shop) == []
    with pytest.raises(RegistryUnavailable):
        run(down(shop))
