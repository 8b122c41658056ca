"""MLflow's REST interface with short timeouts and no retries; nothing here imports MLflow."""

from __future__ import annotations

from functools import cache
from typing import Any

import httpx

from include.registry.errors import ModelRejected, RegistryUnavailable
from include.settings import MLFLOW_USER, Settings

TIMEOUT = httpx.Timeout(5, connect=2)  # seconds; a read times out after 5 s without a byte
GONE = "MLflow does not have it any more; old versions are deleted (FRAUDSTREAM_KEEP_MODELS_DAYS)"


def call(settings: Settings, method: str, path: str, **content: Any) -> dict[str, Any]:
    """MLflow's answer; {} when what was asked for does not exist.

    Raises:
        RegistryUnavailable: MLflow does not answer, refuses the log-in, or answers with an error.
    """
    try:
        response = _client().request(
            method,
            f"{settings.mlflow_tracking_uri}/api/2.0/mlflow/{path}",
            timeout=TIMEOUT,
            auth=credentials(settings),
            **content,
        )
        if response.status_code == 401:
            raise RegistryUnavailable(
                f"MLflow at {settings.mlflow_tracking_uri} refused the log-in: FRAUDSTREAM_MLFLOW_PASSWORD"
            )
        if response.status_code == 404 and response.json().get("error_code") == "RESOURCE_DOES_NOT_EXIST":
            return {}
        if response.is_success:
            answer: dict[str, Any] = response.json()
            return answer
        problem = f"{response.status_code} {response.text[:300]}"
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        problem = str(error)
    raise RegistryUnavailable(f"MLflow at {settings.mlflow_tracking_uri}: {method} {path}: {problem}")


def registered_model(settings: Settings) -> dict[str, Any]:
    """MLflow's entry of the model; {} before the first registration."""
    answer = call(settings, "GET", "registered-models/get", params={"name": settings.model_name})
    model: dict[str, Any] = answer.get("registered_model", {})
    return model


def version_by_alias(settings: Settings) -> dict[str, int]:
    """Each alias of the model and the version that it points at."""
    aliases = registered_model(settings).get("aliases", [])
    return {alias["alias"]: int(alias["version"]) for alias in aliases}


def artifact(settings: Settings, version: int, path: str) -> bytes:
    """The bytes of a file of a version.

    Raises:
        ModelRejected: MLflow does not have it.
        RegistryUnavailable: MLflow does not answer.
    """
    try:
        response = _client().get(
            f"{settings.mlflow_tracking_uri}/model-versions/get-artifact",
            params={"name": settings.model_name, "version": str(version), "path": path},
            timeout=TIMEOUT,
            auth=credentials(settings),
        )
        if response.status_code == 404:
            raise ModelRejected(f"version {version}: no {path}: {GONE}")
        return response.raise_for_status().content
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise RegistryUnavailable(f"MLflow at {settings.mlflow_tracking_uri}: {path}: {error}") from error


def credentials(settings: Settings) -> tuple[str, str] | None:
    """User and password for MLflow; None where it asks for none."""
    if not settings.mlflow_password:
        return None
    return MLFLOW_USER, settings.mlflow_password.get_secret_value()


@cache
def _client() -> httpx.Client:
    """One client a process (its TLS context takes 50 ms to make), with a new connection for each request."""
    return httpx.Client(limits=httpx.Limits(max_keepalive_connections=0))
