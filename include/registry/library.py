"""The MLflow library's client, for registration and deletion: it fails within seconds where nobody answers."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from include.registry import rest
from include.registry.errors import RegistryUnavailable
from include.settings import Settings

if TYPE_CHECKING:
    from mlflow import MlflowClient


@contextmanager
def connected(settings: Settings) -> Iterator[MlflowClient]:
    """A client of an MLflow that answers.

    Raises:
        RegistryUnavailable: MLflow cannot be reached, or refused something.
    """
    rest.registered_model(settings)
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
    if credentials := rest.credentials(settings):
        os.environ["MLFLOW_TRACKING_USERNAME"], os.environ["MLFLOW_TRACKING_PASSWORD"] = credentials
    from mlflow import MlflowClient, environment_variables

    environment_variables.MLFLOW_HTTP_REQUEST_MAX_RETRIES.set(2)
    environment_variables.MLFLOW_HTTP_REQUEST_TIMEOUT.set(30)
    environment_variables.MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT.set(True)
    environment_variables.MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR.set(False)
    return MlflowClient(settings.mlflow_tracking_uri, settings.mlflow_tracking_uri)
