"""A registry without models."""

from __future__ import annotations

from pathlib import Path
from uuid import uuid4

import pytest

from include.settings import Settings


@pytest.fixture
def shop(clean_postgres: Settings, mlflow_server: Settings, tmp_path: Path) -> Settings:
    """Empty tables, an empty registry (a model name of its own) and an empty home."""
    return clean_postgres.model_copy(update={"model_name": f"model-{uuid4().hex}", "home": tmp_path})
