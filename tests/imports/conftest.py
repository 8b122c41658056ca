"""Files that are imported without Kafka."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from include.broker import kafka
from include.broker.keys import Keys
from include.imports import importer
from include.settings import Settings

NOW = datetime(2026, 11, 26, 18, tzinfo=UTC)


class Files:
    """Writes files and mappings, and checks them without Kafka."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch):
        self.folder = folder
        self.settings = Settings(_env_file=None, home=folder / "home")
        self.added: list[Any] = []
        monkeypatch.setattr(importer, "_add", lambda sorter, row: self.added.append(row))
        monkeypatch.setattr(kafka, "end_offsets", lambda settings, topic: {})
        monkeypatch.setattr(importer, "newest_keys", lambda settings, topic: Keys(0, 0, 0))
        monkeypatch.setattr(
            importer, "Publisher", lambda settings, stopping: SimpleNamespace(flush=lambda timeout: 0)
        )

    def write(self, name: str, content: str | bytes, encoding: str = "utf8") -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode(encoding))
        return path

    def run(self, source: Path | str, mapping: str, **options: Any) -> importer.Report:
        self.added.clear()
        path = self.write("mapping.yaml", mapping)
        options = {"clock": lambda: NOW, "rejected": self.folder / "shop.rejected.csv", **options}
        return importer.import_events(self.settings, source, path, **options)

    @property
    def payments(self) -> list[tuple[Any, ...]]:
        """Id, customer, time and digits of the amount."""
        return [
            (
                event["transaction_id"],
                event["user_id"],
                row.decoded.transaction.timestamp,
                str(event["amount"]),
            )
            for row in self.added
            if (event := json.loads(row.value, parse_float=Decimal))
        ]

    @property
    def labels(self) -> list[tuple[Any, ...]]:
        return [
            (row.decoded.transaction.transaction_id, label.is_fraud, known_at)
            for row in self.added
            for label, known_at in row.labels
        ]


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Files:
    return Files(tmp_path, monkeypatch)
