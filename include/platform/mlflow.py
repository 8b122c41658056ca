"""The MLflow server: runs and registry in PostgreSQL, artifacts proxied from a folder of the state.

With `mlflow_password` it asks for a log-in; without, it trusts whoever is on this machine.
"""

from __future__ import annotations

import hashlib
import hmac
import sys
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import SecretStr

from include.platform import secrets
from include.platform.http import answers
from include.settings import MLFLOW_USER, Settings

LOOPBACK = ("127.0.0.1", "localhost")
AUTH = """\
[mlflow]
default_permission = NO_PERMISSIONS
database_uri = {store}
"""


def environment(settings: Settings) -> dict[str, str]:
    """What the server reads; the database's address goes here and not into the command line."""
    store = settings.sqlalchemy_url("mlflow", driver="psycopg2", database="mlflow")
    return {
        "MLFLOW_BACKEND_STORE_URI": store,
        "MLFLOW_REGISTRY_STORE_URI": store,
        "MLFLOW_ARTIFACTS_DESTINATION": str(settings.home / "mlflow-artifacts"),
        "MLFLOW_SERVE_ARTIFACTS": "true",
        **_who_may_ask(settings),
        # Its job runner is for evaluation of language models: eight idle processes.
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
        **(_log_in(settings, store, settings.mlflow_password) if settings.mlflow_password else {}),
    }


def _who_may_ask(settings: Settings) -> dict[str, str]:
    """The names by which the server may be asked: this machine's, the other containers', and the public one.

    MLflow's default also lets in every name that begins with 10. or 192.168., such as 10.example.com.
    """
    public, inner = (urlsplit(str(url)) for url in (settings.mlflow_public_url, settings.mlflow_tracking_uri))
    ports = {settings.mlflow_port, public.port} if public.hostname in LOOPBACK else {settings.mlflow_port}
    hosts = {f"{name}:{port}" for name in (*LOOPBACK, "[::1]") for port in ports}
    names = {"MLFLOW_SERVER_ALLOWED_HOSTS": ",".join(sorted(hosts | {public.netloc, inner.netloc}))}
    if public.hostname not in LOOPBACK:  # what its pages send comes from there
        names["MLFLOW_SERVER_CORS_ALLOWED_ORIGINS"] = f"{public.scheme}://{public.netloc}"
    return names


def _log_in(settings: Settings, store: str, secret: SecretStr) -> dict[str, str]:
    password = secret.get_secret_value()
    path = secrets.folder(settings) / "mlflow-auth.ini"
    secrets.write_private(path, AUTH.format(store=store))
    return {
        "MLFLOW_AUTH_CONFIG_PATH": str(path),
        "MLFLOW_AUTH_ADMIN_USERNAME": MLFLOW_USER,
        "MLFLOW_AUTH_ADMIN_PASSWORD": password,
        "MLFLOW_FLASK_SERVER_SECRET_KEY": hmac.digest(password.encode(), b"forms", hashlib.sha256).hex(),
    }


def command(settings: Settings) -> list[str]:
    mlflow = str(Path(sys.prefix) / "bin" / "mlflow")
    address = ["--host", settings.listen_address, "--port", str(settings.mlflow_port)]
    log_in = ["--app-name", "basic-auth"] if settings.mlflow_password else []
    return [mlflow, "server", *address, "--workers", "1", *log_in]


def ready(settings: Settings) -> bool:
    return answers(f"{settings.mlflow_tracking_uri}/health")
