"""The MLflow server: runs and registry in PostgreSQL, artifacts proxied from a folder of the state."""

from __future__ import annotations

import sys
from pathlib import Path

from include.platform.http import answers
from include.settings import Settings


def environment(settings: Settings) -> dict[str, str]:
    """What the server reads; the database's address goes here and not into the command line."""
    store = settings.sqlalchemy_url("mlflow", driver="psycopg2", database="mlflow")
    return {
        "MLFLOW_BACKEND_STORE_URI": store,
        "MLFLOW_REGISTRY_STORE_URI": store,
        "MLFLOW_ARTIFACTS_DESTINATION": str(settings.home / "mlflow-artifacts"),
        "MLFLOW_SERVE_ARTIFACTS": "true",
        # Its job runner is for evaluation of language models: eight idle processes.
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
    }


def command(settings: Settings) -> list[str]:
    mlflow = str(Path(sys.prefix) / "bin" / "mlflow")
    address = ["--host", settings.listen_address, "--port", str(settings.mlflow_port)]
    return [mlflow, "server", *address, "--workers", "1"]


def ready(settings: Settings) -> bool:
    return answers(f"{settings.mlflow_tracking_uri}/health")
