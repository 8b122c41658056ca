"""What an attacker or a broken disk does to registered models."""

from __future__ import annotations

import os
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import psycopg
from mlflow import MlflowClient

from include.registry.versions import CHAMPION, ModelVersion
from include.settings import Settings


class Malicious:
    """A pickle that makes a folder when it is loaded."""

    def __init__(self, marker: Path):
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.marker),)


def replace_artifact(settings: Settings, known: ModelVersion, raw: bytes) -> None:
    """Puts other bytes where MLflow keeps the version's model."""
    client = MlflowClient(settings.mlflow_tracking_uri)
    uri = client.get_model_version_download_uri(settings.model_name, str(known.version))
    artifacts = settings.postgres_passfile.parent.parent / "mlflow-artifacts"
    file = artifacts / uri.removeprefix("mlflow-artifacts:/") / "model.skops"
    assert file.is_file()
    file.write_bytes(raw)


def bless(settings: Settings, version: int, raw: bytes) -> None:
    """Makes the hash in shop.models fit: the second of the two locks, opened by an insider."""
    with psycopg.connect(settings.conninfo("owner")) as connection:
        connection.execute(
            "update shop.models set sha256 = %s where version = %s", (sha256(raw).hexdigest(), version)
        )


def point_champion_at(settings: Settings, version: int) -> None:
    """Moves the alias in MLflow itself: `aliases.set_champion` would verify the version first."""
    client = MlflowClient(settings.mlflow_tracking_uri)
    client.set_registered_model_alias(settings.model_name, CHAMPION, str(version))
