"""Registered versions as shop.models describes them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

import psycopg

from include.registry.errors import ModelRejected
from include.settings import Role, Settings

CHAMPION, CHALLENGER = "champion", "challenger"  # aliases
MODEL_FILE = "model.skops"
MEASURED_BY = (
    "measured_by"  # among the metrics of a version that was fitted again: the version that they are of
)


@dataclass(frozen=True)
class ModelVersion:
    """A registered version as shop.models describes it, and the aliases that MLflow has for it."""

    version: int
    run_id: str
    sha256: str
    family: str
    threshold: float
    block_threshold: float | None
    capacity: int | None
    feature_set: int
    trained_from: datetime
    trained_to: datetime
    metrics: dict[str, Any]
    created_at: datetime
    aliases: tuple[str, ...] = ()


def read_version(settings: Settings, version: int, role: Role, aliases: tuple[str, ...] = ()) -> ModelVersion:
    """The row of a version.

    Raises:
        ModelRejected: shop.models has no such version.
    """
    rows = _rows(settings, role, version)
    if not rows:
        raise ModelRejected(
            f"version {version} of {settings.model_name} is not in shop.models: training did not register it, or "
            f"was stopped half-way. Retrain, or set the alias to another version."
        )
    return _described(rows[0], aliases)


def read_versions(settings: Settings, role: Role, version_by_alias: Mapping[str, int]) -> list[ModelVersion]:
    """The rows of all versions, newest first, with their aliases."""
    return [
        _described(
            row,
            tuple(sorted(alias for alias, version in version_by_alias.items() if version == row["version"])),
        )
        for row in _rows(settings, role, None)
    ]


def _rows(settings: Settings, role: Role, version: int | None) -> list[dict[str, Any]]:
    with psycopg.connect(settings.conninfo(role), row_factory=psycopg.rows.dict_row) as connection:
        return connection.execute(
            "select * from shop.models where version = coalesce(%s, version) order by version desc",
            (version,),
        ).fetchall()


def _described(row: dict[str, Any], aliases: tuple[str, ...]) -> ModelVersion:
    stored = {field.name: row[field.name] for field in fields(ModelVersion) if field.name != "aliases"}
    return ModelVersion(**stored, aliases=aliases)
