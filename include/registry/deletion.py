"""Versions and runs leave MLflow, with their artifacts; their rows of shop.models stay."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from include.registry import aliases, library, rest
from include.settings import Role, Settings

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel, Run


def registered(settings: Settings) -> dict[int, datetime]:
    """The versions that MLflow has, and when each was registered.

    Raises:
        RegistryUnavailable: MLflow does not answer.
    """
    with library.connected(settings) as client:
        versions = _all_pages(client.search_model_versions, f"name = '{settings.model_name}'")
        return {
            int(version.version): datetime.fromtimestamp(version.creation_timestamp / 1000, UTC)
            for version in versions
        }


def delete_version(settings: Settings, version: int, role: Role = "owner") -> bool:
    """Deletes a version from MLflow unless it has an alias; its run and its artifacts stay (see `delete_run`).

    Raises:
        RegistryUnavailable: MLflow does not answer.
    """
    with library.connected(settings) as client, aliases.held(settings, role):
        if version in rest.version_by_alias(settings).values():
            return False
        client.delete_model_version(settings.model_name, str(version))
        return True


def unused_runs(settings: Settings, before: datetime) -> list[str]:
    """Runs that began before then and have no version: of trainings that failed or died, or of deleted versions.

    Runs that somebody else finished in the experiment are none of them, nor those with a version of another name.

    Raises:
        RegistryUnavailable: MLflow does not answer.
    """
    with library.connected(settings) as client:
        experiment = client.get_experiment_by_name(settings.model_name)
        if experiment is None:
            return []
        began = f"attributes.start_time < {int(before.timestamp() * 1000)}"
        runs: list[Run] = _all_pages(client.search_runs, [experiment.experiment_id], began)
        versions = _all_pages(client.search_model_versions)
        used = {version.run_id for version in versions} | {version.source for version in versions}
        return [
            run.info.run_id
            for run in runs
            if (run.info.status != "FINISHED" or "code_version" in run.data.params)
            and run.info.run_id not in used
            and used.isdisjoint(f"models:/{model.model_id}" for model in _logged_models(client, run))
        ]


def delete_run(settings: Settings, run_id: str) -> None:
    """Deletes a run, the models that it logged and the artifacts of all, which do not come back.

    The run goes last, so that an interrupted deletion is done again; what is gone already is passed over.

    Raises:
        RegistryUnavailable: MLflow does not answer, or cannot delete an artifact.
    """
    with library.connected(settings) as client:
        run = client.get_run(run_id)
        for model in _logged_models(client, run):
            _delete_artifacts(settings, model.artifact_location, model.model_id)
            client.delete_logged_model(model.model_id)
        _delete_artifacts(settings, run.info.artifact_uri, run_id)
        client.delete_run(run_id)


def _logged_models(client: MlflowClient, run: Run) -> list[LoggedModel]:
    """The models that a run logged."""
    own = f"source_run_id = '{run.info.run_id}'"
    return _all_pages(client.search_logged_models, [run.info.experiment_id], own)


def _delete_artifacts(settings: Settings, uri: str, owner: str) -> None:
    """Deletes artifacts with the folder of the run or model that they are of."""
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    folder = uri.removesuffix("/artifacts") if uri.endswith(f"/{owner}/artifacts") else uri
    get_artifact_repository(folder, settings.mlflow_tracking_uri).delete_artifacts()


def _all_pages(search: Callable[..., Any], *arguments: Any) -> list[Any]:
    """The results of a search of MLflow, all its pages."""
    results: list[Any] = []
    token = None
    while True:
        page = search(*arguments, page_token=token)
        results += page
        if not (token := page.token):
            return results
