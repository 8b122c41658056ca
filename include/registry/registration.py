"""A trained detector becomes a version: one MLflow run, the model's bytes, and last the row of shop.models."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from datetime import datetime
from hashlib import sha256
from importlib.metadata import version as package_version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg.types.json import Jsonb

from include.features.behaviour import FEATURE_SET, FEATURES
from include.registry import library, rest
from include.registry.errors import RegistryError
from include.registry.versions import MODEL_FILE, ModelVersion, read_version
from include.settings import PROJECT_ROOT, Settings

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel

    from include.models.base import Detector

METRICS_A_REQUEST = 1_000  # MLflow takes no more

INSERT = """
insert into shop.models (version, run_id, sha256, family, threshold, block_threshold, capacity, feature_set,
    trained_from, trained_to, metrics)
values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)"""


def register(
    settings: Settings,
    detector: Detector,
    *,
    threshold: float,
    block_threshold: float | None = None,
    capacity: int | None = None,
    metrics: Mapping[str, Any],
    params: Mapping[str, Any],
    figures: Mapping[str, Figure],
    trained_from: datetime,
    trained_to: datetime,
) -> ModelVersion:
    """One MLflow run with the model, its metrics and figures, and the version that comes from it; sets no alias.

    The sha256 of the model file is taken before it is uploaded and becomes a tag of the version and, last, a row of
    shop.models: a registration that dies before has made no version that can score. Numbers in `metrics` become
    MLflow metrics (nested names joined by "/"), its `per_day` a series with one step a day.

    Raises:
        RegistryUnavailable: MLflow does not answer.
        RegistryError: shop.models already has this version number, of an earlier MLflow database.
    """
    described = {
        "family": detector.family,
        "threshold": threshold,
        "block_threshold": block_threshold,
        "alerts_per_day": capacity,
        "feature_set": FEATURE_SET,
        "features": " ".join(FEATURES),
        "trained_from": trained_from.isoformat(),
        "trained_to": trained_to.isoformat(),
        "code_version": code_version(),
        **params,
    }
    tags = {"family": detector.family, "feature_set": str(FEATURE_SET), **_decision_tags(described, metrics)}
    with library.connected(settings) as client:
        experiment_id = _experiment(client, settings.model_name)
        name = f"{detector.family} {trained_from:%Y-%m-%d} to {trained_to:%Y-%m-%d}"
        run_id = client.create_run(experiment_id, run_name=name).info.run_id
        try:
            _log(client, run_id, described, metrics)
            for name, figure in figures.items():
                client.log_figure(run_id, figure, f"plots/{name}.png")
            model, digest = _upload(client, experiment_id, run_id, detector)
            version = _create_version(settings, client, run_id, model, tags | {"sha256": digest})
        except BaseException:
            client.set_terminated(run_id, "FAILED")
            raise
        client.set_terminated(run_id, "FINISHED")
    decides = (threshold, block_threshold, capacity)
    described_by = (run_id, digest, detector.family, *decides, FEATURE_SET, trained_from, trained_to)
    try:
        with psycopg.connect(settings.conninfo("trainer")) as connection:
            connection.execute(INSERT, (version, *described_by, Jsonb(dict(metrics))))
    except psycopg.errors.UniqueViolation as error:
        raise RegistryError(
            f"shop.models already has a version {version}: MLflow's database was created anew. Delete the rows of "
            f"the old registry from shop.models as role owner, then retrain."
        ) from error
    return read_version(settings, version, "trainer")


def annotate(
    settings: Settings,
    version: int,
    *,
    tags: Mapping[str, str],
    texts: Mapping[str, str],
) -> None:
    """Adds files and tags to the run of a registered version, and the tags to the version; may be repeated.

    Raises:
        RegistryUnavailable: MLflow does not answer.
        ModelRejected: shop.models has no such version.
    """
    from mlflow.entities import RunTag

    run_id = read_version(settings, version, "trainer").run_id
    with library.connected(settings) as client:
        for path, text in texts.items():
            client.log_text(run_id, text, path)
        client.log_batch(run_id, tags=[RunTag(name, value) for name, value in tags.items()])
        for name, value in tags.items():
            client.set_model_version_tag(settings.model_name, str(version), name, value)


def code_version() -> str:
    """The package's version, with the git commit when the code lies in a repository."""
    released = package_version("fraudstream")
    try:
        commit = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"],
            cwd=PROJECT_ROOT,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return released
    return f"{released}+{commit}"


def _decision_tags(described: Mapping[str, Any], metrics: Mapping[str, Any]) -> dict[str, str]:
    """From which scores on the version decides, and what that is expected to bring, as tags."""
    rule = metrics.get("decision_rule", {})
    expected = {name: rule.get(name) for name in ("rule", "expected_alerts_a_day", "expected_money_a_day")}
    decides = {name: described[name] for name in ("threshold", "block_threshold", "alerts_per_day")}
    return {
        name: f"{value:.6g}" if isinstance(value, float) else str(value)
        for name, value in (decides | expected).items()
        if value is not None
    }


def _experiment(client: MlflowClient, name: str) -> str:
    """The id of the model's experiment, which is made when it is missing."""
    experiment = client.get_experiment_by_name(name)
    return experiment.experiment_id if experiment else client.create_experiment(name)


def _log(client: MlflowClient, run_id: str, params: Mapping[str, Any], metrics: Mapping[str, Any]) -> None:
    from mlflow.entities import Metric, Param

    now = client.get_run(run_id).info.start_time
    numbers = [Metric(name, value, now, 0) for name, value in _numbers(metrics)]
    for step, day in enumerate(metrics.get("per_day", ())):
        midnight = int(datetime.fromisoformat(f"{day['day']}T00:00:00+00:00").timestamp() * 1000)
        numbers += [Metric(f"daily/{name}", value, midnight, step) for name, value in _numbers(day)]
    client.log_batch(run_id, params=[Param(name, str(value)) for name, value in params.items()])
    for first in range(0, len(numbers), METRICS_A_REQUEST):
        client.log_batch(run_id, numbers[first : first + METRICS_A_REQUEST])


def _numbers(metrics: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    """(name, number) of every number in nested metrics; an interval's bounds are its low and high."""
    for name, value in metrics.items():
        if isinstance(value, Mapping):
            yield from _numbers(value, f"{prefix}{name}/")
        elif name != "per_day" and isinstance(value, list) and len(value) == 2:
            yield from _numbers({"low": value[0], "high": value[1]}, f"{prefix}{name}/")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield prefix + name, float(value)


def _upload(
    client: MlflowClient, experiment_id: str, run_id: str, detector: Detector
) -> tuple[LoggedModel, str]:
    """Stores the model with its run; returns it and the sha256 of its bytes, taken before the upload."""
    from mlflow.entities import LoggedModelOutput

    model = client.create_logged_model(experiment_id, name="model", source_run_id=run_id)
    with tempfile.TemporaryDirectory() as folder:
        digest = _save(detector, model, run_id, Path(folder) / "model")
        client.log_model_artifacts(model.model_id, str(Path(folder) / "model"))
    client.finalize_logged_model(model.model_id, "READY")
    client.log_outputs(run_id, [LoggedModelOutput(model.model_id, 0)])
    return model, digest


def _save(detector: Detector, model: LoggedModel, run_id: str, folder: Path) -> str:
    """Writes the model in MLflow's format with skops; returns the sha256 of its bytes."""
    import mlflow.sklearn
    from mlflow.models import Model, ModelSignature
    from mlflow.types.schema import ColSpec, Schema

    mlflow.sklearn.save_model(
        detector,
        str(folder),
        mlflow_model=Model(
            artifact_path=model.artifact_location,
            model_uuid=model.model_id,
            run_id=run_id,
            model_id=model.model_id,
        ),
        serialization_format="skops",
        skops_trusted_types=list(detector.trusted_types),
        signature=ModelSignature(
            inputs=Schema([ColSpec("float", name) for name in FEATURES]), outputs=Schema([ColSpec("double")])
        ),
        pip_requirements=[f"{name}=={package_version(name)}" for name in ("scikit-learn", "skops", "numpy")],
        pyfunc_predict_fn="score",
    )
    return sha256((folder / MODEL_FILE).read_bytes()).hexdigest()


def _create_version(
    settings: Settings, client: MlflowClient, run_id: str, model: LoggedModel, tags: dict[str, str]
) -> int:
    """The number of the version that MLflow makes from a logged model."""
    if not rest.registered_model(settings):
        client.create_registered_model(settings.model_name)
    created = client.create_model_version(
        settings.model_name,
        f"models:/{model.model_id}",
        run_id,
        tags=tags,
        await_creation_for=0,
        model_id=model.model_id,
    )
    return int(created.version)
