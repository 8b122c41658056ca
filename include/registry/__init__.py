"""Models in the MLflow registry: registered by training, verified before any process scores with them.

A version is usable only when shop.models holds the sha256 of its `model.skops`, which training writes before any
alias points at the version. MLflow stores the bytes, PostgreSQL says which bytes are right: whoever can change
one of the two cannot change what runs. Bytes with another hash, or with types beyond those that the family
needs, are never deserialised.

Reading goes through MLflow's REST interface with short timeouts and no retries, so that a stream is never held up
for minutes (and does not import MLflow); only `register` and what deletes use the MLflow library.
"""

from __future__ import annotations

import logging
import os
import subprocess
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from functools import cache
from hashlib import sha256
from importlib.metadata import version as package_version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import psycopg
from psycopg.types.json import Jsonb

from include.features.behaviour import FEATURE_SET, FEATURES
from include.operations import parity_check
from include.settings import MLFLOW_USER, PROJECT_ROOT, Role, Settings

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel, Run

    from include.models.base import Detector
    from include.models.scorer import Scorer

logger = logging.getLogger(__name__)

CHAMPION, CHALLENGER = "champion", "challenger"
MODEL_FILE = "model.skops"
TIMEOUT = httpx.Timeout(5, connect=2)  # seconds; a read times out after 5 s without a byte
GONE = "MLflow does not have it any more; old versions are deleted (FRAUDSTREAM_KEEP_MODELS_DAYS)"


class RegistryError(RuntimeError):
    """The registry and PostgreSQL do not fit together; the message says where."""


class RegistryUnavailable(RegistryError):
    """MLflow cannot be reached, or answers with an error of its own."""


class ModelRejected(RegistryError):
    """A version that must not be used: not registered by training, changed since, untrusted, or of other features."""


class PromotionRefused(RegistryError):
    """No model may become champion now; the message says why and what to do."""


@dataclass(frozen=True)
class ModelVersion:
    """A registered version as shop.models describes it, and the aliases that MLflow has for it."""

    version: int
    run_id: str
    sha256: str
    family: str
    threshold: float
    feature_set: int
    trained_from: datetime
    trained_to: datetime
    metrics: dict
    created_at: datetime
    aliases: tuple[str, ...] = ()


def families() -> dict[str, type]:
    """The kinds of detector by name; nothing else is ever loaded from the registry."""
    from include.models.gradient_boosting import GradientBoostingDetector
    from include.models.isolation_forest import IsolationForestDetector

    return {kind.family: kind for kind in (IsolationForestDetector, GradientBoostingDetector)}


# Which version


def champion(settings: Settings, role: Role = "stream_writer") -> ModelVersion | None:
    """The version with the alias `champion`, or None when no version has it.

    Raises:
        RegistryUnavailable: MLflow does not answer.
        ModelRejected: the alias points at a version that shop.models does not know.
    """
    return _with_alias(settings, CHAMPION, role)


def challenger(settings: Settings, role: Role = "stream_writer") -> ModelVersion | None:
    """The version with the alias `challenger`; otherwise as `champion`."""
    return _with_alias(settings, CHALLENGER, role)


def versions(settings: Settings, role: Role = "stream_writer") -> list[ModelVersion]:
    """Every registered version, newest first, with its aliases.

    Raises:
        RegistryUnavailable: MLflow does not answer.
    """
    aliases = _aliases(settings)
    return [
        _described(
            row, tuple(sorted(alias for alias, version in aliases.items() if version == row["version"]))
        )
        for row in _rows(settings, role, None)
    ]


def set_champion(
    settings: Settings, version: int, role: Role = "trainer", *, despite_parity: bool = False
) -> None:
    """Makes a version the champion, after verifying it as a scorer would; it is no longer the challenger.

    Args:
        despite_parity: also when logged features were found to differ, or were never compared; for an emergency.

    Raises:
        RegistryUnavailable, ModelRejected: as `load_scorer`; the alias is unchanged then.
        PromotionRefused: see `promotion_refused`; likewise.
    """
    if not despite_parity and (reason := promotion_refused(settings, role)):
        raise PromotionRefused(f"version {version} does not become champion: {reason}")
    _set_alias(settings, CHAMPION, version, role)
    if _aliases(settings).get(CHALLENGER) == version:
        _call(
            settings,
            "DELETE",
            "registered-models/alias",
            json={"name": settings.model_name, "alias": CHALLENGER},
        )


def promotion_refused(settings: Settings, role: Role = "trainer") -> str:
    """Why no version may become champion now (include.operations.parity_check), in words; empty when one may."""
    with psycopg.connect(settings.conninfo(role)) as connection:
        return parity_check.blocks_promotion(connection)


def set_challenger(settings: Settings, version: int, role: Role = "trainer") -> None:
    """Makes a version the challenger; otherwise as `set_champion`."""
    _set_alias(settings, CHALLENGER, version, role)


def _set_alias(settings: Settings, alias: str, version: int, role: Role) -> None:
    load_scorer(settings, version, role)
    wanted = {"name": settings.model_name, "alias": alias, "version": str(version)}
    with _aliases_held(settings, role):
        _call(settings, "POST", "registered-models/alias", json=wanted)
        if _aliases(settings).get(alias) != version:  # its bytes were kept here
            raise ModelRejected(f"version {version}: {GONE}")


@contextmanager
def _aliases_held(settings: Settings, role: Role) -> Iterator[None]:
    """Nobody else sets an alias through this module meanwhile, or deletes a version that is to get one."""
    with psycopg.connect(settings.conninfo(role)) as connection:
        connection.execute("select pg_advisory_xact_lock(hashtext('fraudstream aliases'))")
        yield


def _with_alias(settings: Settings, alias: str, role: Role) -> ModelVersion | None:
    aliases = _aliases(settings)
    if alias not in aliases:
        return None
    return _known(settings, aliases[alias], role, (alias,))


def _known(settings: Settings, version: int, role: Role, aliases: tuple[str, ...] = ()) -> ModelVersion:
    rows = _rows(settings, role, version)
    if not rows:
        raise ModelRejected(
            f"version {version} of {settings.model_name} is not in shop.models: training did not register it, or "
            f"was stopped half-way. Retrain, or set the alias to another version."
        )
    return _described(rows[0], aliases)


def _rows(settings: Settings, role: Role, version: int | None) -> list[dict[str, Any]]:
    with psycopg.connect(settings.conninfo(role), row_factory=psycopg.rows.dict_row) as connection:
        return connection.execute(
            "select * from shop.models where version = coalesce(%s, version) order by version desc",
            (version,),
        ).fetchall()


def _described(row: dict[str, Any], aliases: tuple[str, ...]) -> ModelVersion:
    stored = {field.name: row[field.name] for field in fields(ModelVersion) if field.name != "aliases"}
    return ModelVersion(**stored, aliases=aliases)


def _aliases(settings: Settings) -> dict[str, int]:
    answer = _call(settings, "GET", "registered-models/get", params={"name": settings.model_name})
    found = answer.get("registered_model", {}).get("aliases", [])
    return {item["alias"]: int(item["version"]) for item in found}


@cache
def _http() -> httpx.Client:
    """One client a process (its TLS context takes 50 ms to make), with a new connection for each request."""
    return httpx.Client(limits=httpx.Limits(max_keepalive_connections=0))


def _log_in(settings: Settings) -> tuple[str, str] | None:
    return settings.mlflow_password and (MLFLOW_USER, settings.mlflow_password.get_secret_value())


def _call(settings: Settings, method: str, path: str, **content: Any) -> dict[str, Any]:
    """MLflow's answer; {} when what was asked for does not exist."""
    try:
        response = _http().request(
            method,
            f"{settings.mlflow_tracking_uri}/api/2.0/mlflow/{path}",
            timeout=TIMEOUT,
            auth=_log_in(settings),
            **content,
        )
        if response.status_code == 401:
            raise RegistryUnavailable(
                f"MLflow at {settings.mlflow_tracking_uri} refused the log-in: FRAUDSTREAM_MLFLOW_PASSWORD"
            )
        if response.status_code == 404 and response.json().get("error_code") == "RESOURCE_DOES_NOT_EXIST":
            return {}
        if response.is_success:
            return response.json()
        problem = f"{response.status_code} {response.text[:300]}"
    except (httpx.HTTPError, ValueError) as error:
        problem = str(error)
    raise RegistryUnavailable(f"MLflow at {settings.mlflow_tracking_uri}: {method} {path}: {problem}")


# From a version to a scorer


@dataclass(frozen=True)
class Refused:
    """A champion that must not be used, by its hash in shop.models, and why."""

    version: int
    sha256: str
    why: str


@dataclass(frozen=True)
class Loaded:
    """What to score with, if anything; why it is not the champion of the registry, if it is not; who was refused."""

    scorer: Scorer | None
    problem: str | None = None
    refused: Refused | None = None


def load_champion(
    settings: Settings,
    current: Scorer | None = None,
    role: Role = "stream_writer",
    refused: Refused | None = None,
) -> Loaded:
    """The champion's scorer, or the last good one while the registry is down or its champion is refused.

    `current` is returned when it is the champion still: then this costs one short HTTP request, so that a stream
    can ask every few seconds. A champion that was `refused` before is not fetched again until the alias points at
    another version, or shop.models has another hash for it. The champion's bytes are kept in `settings.home`, so
    that a stream which restarts while MLflow is down goes on, after verifying them like any others. Without a
    champion there is no scorer, and `problem` says so. PostgreSQL's errors are the caller's.
    """
    try:
        version = _aliases(settings).get(CHAMPION)
        if version is None:
            return Loaded(None, f"no version of {settings.model_name} is champion: run a retraining first")
        if current is not None and current.version == version:
            return Loaded(current)
        known = _known(settings, version, role)
        if refused is None or (refused.version, refused.sha256) != (known.version, known.sha256):
            refused = None
            try:
                raw = _bytes(settings, known)
                scorer = _verified(known, raw)
            except ModelRejected as error:
                refused = Refused(known.version, known.sha256, str(error))
        why = refused and f"{refused.why}; it is not fetched again unless its hash or the alias changes"
    except (RegistryUnavailable, ModelRejected) as error:
        why = str(error)
    if why is None:
        _keep(settings, version, raw)
        return Loaded(scorer)
    fallback = current or _last_good(settings, role)
    goes_on = (
        f"scoring goes on with version {fallback.version}" if fallback else "there is no earlier champion"
    )
    return Loaded(fallback, f"{why} - {goes_on}", refused)


def load_scorer(settings: Settings, version: int, role: Role = "stream_writer") -> Scorer:
    """The fast scorer of a registered version, after its bytes and types were checked.

    Raises:
        RegistryUnavailable: MLflow does not answer.
        ModelRejected: the version is not in shop.models, its bytes have another sha256 than there, they ask for
            types that its family does not need, or it was trained on another set of features.
    """
    known = _known(settings, version, role)
    return _verified(known, _bytes(settings, known))


def _verified(known: ModelVersion, raw: bytes) -> Scorer:
    import skops.io
    from skops.io.exceptions import UnsupportedTypeException

    name = f"version {known.version}"
    digest = sha256(raw).hexdigest()
    if digest != known.sha256:
        raise ModelRejected(
            f"{name} was changed: its {MODEL_FILE} has sha256 {digest}, shop.models {known.sha256}"
        )
    if known.feature_set != FEATURE_SET:
        raise ModelRejected(
            f"{name} was trained on feature set {known.feature_set}, this code computes {FEATURE_SET}"
        )
    kind = families().get(known.family)
    if kind is None:
        raise ModelRejected(f"{name} is of family {known.family!r}; there are {', '.join(families())}")
    try:
        untrusted = set(skops.io.get_untrusted_types(data=raw)) - set(kind.trusted_types)
        if untrusted:
            types = ", ".join(sorted(untrusted))
            raise ModelRejected(f"{name} asks for types that {known.family} does not need: {types}")
        detector = skops.io.loads(raw, trusted=list(kind.trusted_types))
    except (
        zipfile.BadZipFile, UnsupportedTypeException, LookupError, ValueError, TypeError, AttributeError, ImportError,
    ) as error:  # fmt: skip
        raise ModelRejected(f"{name} is not a readable skops file: {error}") from error
    if not isinstance(detector, kind):
        raise ModelRejected(f"{name} holds a {type(detector).__name__}, not a {kind.__name__}")
    if detector.n_features_in_ != len(FEATURES):
        raise ModelRejected(
            f"{name} takes {detector.n_features_in_} features, this code computes {len(FEATURES)}"
        )
    return detector.scorer(threshold=known.threshold, version=known.version, feature_set=known.feature_set)


def _bytes(settings: Settings, known: ModelVersion) -> bytes:
    """The version's model file: the kept one when it is intact, otherwise MLflow's."""
    kept = _kept(settings, known.version)
    if kept.is_file():
        raw = kept.read_bytes()
        if sha256(raw).hexdigest() == known.sha256:
            return raw
    wanted = {"name": settings.model_name, "version": str(known.version), "path": MODEL_FILE}
    where = f"{settings.mlflow_tracking_uri}/model-versions/get-artifact"
    try:
        response = _http().get(where, params=wanted, timeout=TIMEOUT, auth=_log_in(settings))
        if response.status_code == 404:
            raise ModelRejected(f"version {known.version}: no {MODEL_FILE}: {GONE}")
        return response.raise_for_status().content
    except httpx.HTTPError as error:
        raise RegistryUnavailable(
            f"MLflow at {settings.mlflow_tracking_uri}: {MODEL_FILE}: {error}"
        ) from error


def _kept(settings: Settings, version: int) -> Path:
    return settings.home / "champion" / f"{version}.skops"


def _keep(settings: Settings, version: int, raw: bytes) -> None:
    """Keeps the champion's bytes; without room for them, scoring still goes on."""
    path = _kept(settings, version)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
            file.write(raw)
            file.flush()
            os.fsync(file.fileno())
        os.replace(file.name, path)
        for other in path.parent.iterdir():
            if other != path:
                other.unlink(missing_ok=True)
    except OSError as error:
        logger.warning("could not keep the champion in %s: %s", path, error)


def _last_good(settings: Settings, role: Role) -> Scorer | None:
    """The kept champion, if it is still intact."""
    for path in sorted(
        _kept(settings, 0).parent.glob("*.skops"), key=lambda path: path.stat().st_mtime, reverse=True
    ):
        try:
            return _verified(_known(settings, int(path.stem), role), path.read_bytes())
        except ModelRejected as error:
            logger.warning("the kept champion %s is refused: %s", path, error)
    return None


# Registration


def register(
    settings: Settings,
    detector: Detector,
    *,
    threshold: float,
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
    with _library(settings) as client:
        from mlflow.entities import LoggedModelOutput

        experiment = client.get_experiment_by_name(settings.model_name)
        experiment_id = (
            experiment.experiment_id if experiment else client.create_experiment(settings.model_name)
        )
        window = f"{trained_from:%Y-%m-%d} to {trained_to:%Y-%m-%d}"
        run_id = client.create_run(experiment_id, run_name=f"{detector.family} {window}").info.run_id
        try:
            described = {
                "family": detector.family,
                "threshold": threshold,
                "feature_set": FEATURE_SET,
                "features": " ".join(FEATURES),
                "trained_from": trained_from.isoformat(),
                "trained_to": trained_to.isoformat(),
                "code_version": code_version(),
                **params,
            }
            _log(client, run_id, described, metrics)
            for name, figure in figures.items():
                client.log_figure(run_id, figure, f"plots/{name}.png")
            model = client.create_logged_model(experiment_id, name="model", source_run_id=run_id)
            with tempfile.TemporaryDirectory() as folder:
                digest = _save(detector, model, run_id, Path(folder) / "model")
                client.log_model_artifacts(model.model_id, str(Path(folder) / "model"))
            client.finalize_logged_model(model.model_id, "READY")
            client.log_outputs(run_id, [LoggedModelOutput(model.model_id, 0)])
            if not _call(settings, "GET", "registered-models/get", params={"name": settings.model_name}):
                client.create_registered_model(settings.model_name)
            version = client.create_model_version(
                settings.model_name,
                f"models:/{model.model_id}",
                run_id,
                tags={"sha256": digest, "family": detector.family, "feature_set": str(FEATURE_SET)},
                await_creation_for=0,
                model_id=model.model_id,
            )
        except BaseException:
            client.set_terminated(run_id, "FAILED")
            raise
        client.set_terminated(run_id, "FINISHED")
    number = int(version.version)
    row = (number, run_id, digest, detector.family, threshold, FEATURE_SET, trained_from, trained_to)
    try:
        with psycopg.connect(settings.conninfo("trainer")) as connection:
            connection.execute(
                "insert into shop.models (version, run_id, sha256, family, threshold, feature_set, trained_from, "
                "trained_to, metrics) values (%s, %s, %s, %s, %s, %s, %s, %s, %s)",
                (*row, Jsonb(dict(metrics))),
            )
    except psycopg.errors.UniqueViolation as error:
        raise RegistryError(
            f"shop.models already has a version {number}: MLflow's database was created anew. Delete the rows of "
            f"the old registry from shop.models as role owner, then retrain."
        ) from error
    return _known(settings, number, "trainer")


def code_version() -> str:
    """The package's version, with the git commit when the code lies in a repository."""
    released = package_version("fraudstream")
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"],
            cwd=PROJECT_ROOT,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return released
    return f"{released}+{described}"


@contextmanager
def _library(settings: Settings) -> Iterator[MlflowClient]:
    """The MLflow library's client; it fails within seconds where nobody answers.

    Raises:
        RegistryUnavailable: MLflow cannot be reached, or refused something.
    """
    _call(settings, "GET", "registered-models/get", params={"name": settings.model_name})
    client = _client(settings)
    from mlflow.exceptions import MlflowException
    from requests import RequestException

    try:
        yield client
    except (MlflowException, RequestException) as error:
        raise RegistryUnavailable(f"MLflow at {settings.mlflow_tracking_uri}: {error}") from error


def _client(settings: Settings) -> MlflowClient:
    """MLflow's client, which gives up after two retries and tells nobody about its use."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    if log_in := _log_in(settings):
        os.environ["MLFLOW_TRACKING_USERNAME"], os.environ["MLFLOW_TRACKING_PASSWORD"] = log_in
    from mlflow import MlflowClient, environment_variables

    environment_variables.MLFLOW_HTTP_REQUEST_MAX_RETRIES.set(2)
    environment_variables.MLFLOW_HTTP_REQUEST_TIMEOUT.set(30)
    environment_variables.MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT.set(True)
    environment_variables.MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR.set(False)
    return MlflowClient(settings.mlflow_tracking_uri, settings.mlflow_tracking_uri)


def _log(client, run_id: str, params: Mapping[str, Any], metrics: Mapping[str, Any]) -> None:
    from mlflow.entities import Metric, Param

    now = client.get_run(run_id).info.start_time
    numbers = [Metric(name, value, now, 0) for name, value in _numbers(metrics)]
    for step, day in enumerate(metrics.get("per_day", ())):
        at = int(datetime.fromisoformat(f"{day['day']}T00:00:00+00:00").timestamp() * 1000)
        numbers += [Metric(f"daily/{name}", value, at, step) for name, value in _numbers(day)]
    client.log_batch(run_id, numbers[:1000], [Param(name, str(value)) for name, value in params.items()])
    for first in range(1000, len(numbers), 1000):  # MLflow takes 1,000 metrics a request
        client.log_batch(run_id, numbers[first : first + 1000])


def _numbers(metrics: Mapping[str, Any], prefix: str = ""):
    """(name, number) of every number in nested metrics; an interval's bounds are its low and high."""
    for name, value in metrics.items():
        if isinstance(value, Mapping):
            yield from _numbers(value, f"{prefix}{name}/")
        elif name != "per_day" and isinstance(value, list) and len(value) == 2:
            yield from _numbers({"low": value[0], "high": value[1]}, f"{prefix}{name}/")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield prefix + name, float(value)


def _save(detector: Detector, model, run_id: str, folder: Path) -> str:
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


# Deletion


def registered(settings: Settings) -> dict[int, datetime]:
    """The versions that MLflow has, and when each was registered.

    Raises:
        RegistryUnavailable: MLflow does not answer.
    """
    with _library(settings) as client:
        found = _all(client.search_model_versions, f"name = '{settings.model_name}'")
        return {int(each.version): _moment(each.creation_timestamp) for each in found}


def delete_version(settings: Settings, version: int, role: Role = "owner") -> bool:
    """Deletes a version from MLflow unless it has an alias; its run and its artifacts stay (see `delete_run`).

    Raises:
        RegistryUnavailable: MLflow does not answer.
    """
    with _library(settings) as client, _aliases_held(settings, role):
        if version in _aliases(settings).values():
            return False
        client.delete_model_version(settings.model_name, str(version))
        return True


def unused_runs(settings: Settings, before: datetime) -> list[str]:
    """Runs that began before then and have no version: of trainings that failed or died, or of deleted versions.

    Runs that somebody else finished in the experiment are none of them, nor those with a version of another name.

    Raises:
        RegistryUnavailable: MLflow does not answer.
    """
    with _library(settings) as client:
        experiment = client.get_experiment_by_name(settings.model_name)
        if experiment is None:
            return []
        began = f"attributes.start_time < {int(before.timestamp() * 1000)}"
        runs: list[Run] = _all(client.search_runs, [experiment.experiment_id], began)
        versions = _all(client.search_model_versions)
        used = {each.run_id for each in versions} | {each.source for each in versions}
        return [
            run.info.run_id
            for run in runs
            if (run.info.status != "FINISHED" or "code_version" in run.data.params)
            and run.info.run_id not in used
            and used.isdisjoint(f"models:/{model.model_id}" for model in _logged(client, run))
        ]


def delete_run(settings: Settings, run_id: str) -> None:
    """Deletes a run, the models that it logged and the artifacts of all, which do not come back.

    The run goes last, so that one that was interrupted is found again; what is gone already is passed over.

    Raises:
        RegistryUnavailable: MLflow does not answer, or cannot delete an artifact.
    """
    with _library(settings) as client:
        run = client.get_run(run_id)
        for model in _logged(client, run):
            _delete_artifacts(settings, model.artifact_location, model.model_id)
            client.delete_logged_model(model.model_id)
        _delete_artifacts(settings, run.info.artifact_uri, run_id)
        client.delete_run(run_id)


def _logged(client: MlflowClient, run: Run) -> list[LoggedModel]:
    """The models that a run logged."""
    return _all(client.search_logged_models, [run.info.experiment_id], f"source_run_id = '{run.info.run_id}'")


def _delete_artifacts(settings: Settings, uri: str, owner: str) -> None:
    """Deletes artifacts with the folder of the run or model that they are of."""
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    folder = uri.removesuffix("/artifacts") if uri.endswith(f"/{owner}/artifacts") else uri
    get_artifact_repository(folder, settings.mlflow_tracking_uri).delete_artifacts()


def _all(search: Callable[..., Any], *arguments: Any) -> list[Any]:
    """What a search of MLflow finds, all its pages."""
    found, token = [], None
    while True:
        page = search(*arguments, page_token=token)
        found += page
        if not (token := page.token):
            return found


def _moment(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)
