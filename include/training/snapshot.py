"""The transactions and labels that a retraining stands on, kept in a file until the next ones.

Each step of a retraining reads the same rows, whatever has been stored meanwhile. Their sha256 is in MLflow's runs.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, fields
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from include.settings import Settings
from include.training import split, stored_rows
from include.training.split import Parts, TrainingData

log = logging.getLogger(__name__)

KEPT = 3  # files


class SnapshotLost(RuntimeError):
    """A snapshot's file is gone, and what is stored now differs from it."""


@dataclass(frozen=True)
class Snapshot:
    """What was read: for which question, how much of it, and the sha256 of the rows."""

    as_of: str
    window_days: int
    source: str
    transactions: int
    customers: int
    frauds: int
    fit: int
    later: int
    newest: int
    sha256: str

    def __str__(self) -> str:
        return (
            f"{self.transactions:,} transactions of {self.customers:,} customers with {self.frauds:,} known frauds, "
            f"{self.window_days} days before {self.as_of}, {self.source} features, sha256 {self.sha256[:12]}"
        )


def take(settings: Settings, *, window_days: int, as_of: datetime | None = None) -> Snapshot:
    """Reads what to train on (`include.training.split.read`) and keeps it.

    Raises:
        split.NotEnoughData: see there.
    """
    data = split.read(settings, window_days=window_days, as_of=as_of)
    taken = describe(data, window_days)
    _keep(settings, taken, data)
    log.info("%s", taken)
    return taken


def describe(data: TrainingData, window_days: int) -> Snapshot:
    """The counts and the hash of what was read."""
    labelled, fraud, _ = data.labels.of(data.rows.key)
    return Snapshot(
        as_of=data.as_of.isoformat(),
        window_days=window_days,
        source=data.source,
        transactions=len(data.rows),
        customers=len(np.unique(data.rows.user)),
        frauds=int((labelled & fraud).sum()),
        **data.parts.sizes(),
        sha256=_digest(data),
    )


def read(settings: Settings, taken: Snapshot) -> TrainingData:
    """The rows of a snapshot.

    Raises:
        SnapshotLost: neither its file nor the same rows are there.
    """
    path = _path(settings, taken.sha256)
    data = _load(path) if path.exists() else None
    if data is None:
        log.warning("the snapshot %s is gone: it is read again", path)
        as_of = datetime.fromisoformat(taken.as_of)
        data = split.read(settings, window_days=taken.window_days, as_of=as_of)
    if _digest(data) != taken.sha256:
        raise SnapshotLost(
            f"the snapshot {taken.sha256[:12]} is gone and its transactions or labels have changed since: take a new "
            f"one (clear the task snapshot)"
        )
    return data


def _arrays(data: TrainingData) -> Iterator[tuple[str, np.ndarray]]:
    """Everything that was read, as arrays without Python objects."""
    for part in ("rows", "labels", "labels_at_split"):
        for field in fields(getattr(data, part)):
            values = np.asarray(getattr(getattr(data, part), field.name))
            yield f"{part}.{field.name}", values.astype(str) if values.dtype == object else values
    times = data.as_of.timestamp(), data.settled_until, data.parts.split, data.share
    yield "times", np.array(times)
    yield "parts", np.array([data.parts.fit.stop, data.parts.later.stop])


def _digest(data: TrainingData) -> str:
    digest = sha256(data.source.encode())
    for name, values in _arrays(data):
        digest.update(f"{name} {values.shape} {values.dtype}".encode())
        digest.update(np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()


def _path(settings: Settings, digest: str) -> Path:
    return settings.home / "snapshots" / f"{digest}.npz"


def _keep(settings: Settings, taken: Snapshot, data: TrainingData) -> None:
    path = _path(settings, taken.sha256)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".part")
    arrays: dict[str, Any] = dict(_arrays(data)) | {"as_of": data.as_of.isoformat(), "source": data.source}
    with unfinished.open("wb") as file:
        np.savez(file, **arrays)
    unfinished.replace(path)
    for old in sorted(path.parent.glob("*.npz"), key=lambda file: file.stat().st_mtime)[:-KEPT]:
        old.unlink(missing_ok=True)


def _load(path: Path) -> TrainingData:
    with np.load(path, allow_pickle=False) as stored:
        parts = {
            part: {
                name.partition(".")[2]: stored[name] for name in stored.files if name.startswith(f"{part}.")
            }
            for part in ("rows", "labels", "labels_at_split")
        }
        for labels in ("labels", "labels_at_split"):
            parts[labels]["scenario"] = parts[labels]["scenario"].astype(object)
        first, last = (int(stop) for stop in stored["parts"])
        _, settled_until, split_at, share = (float(value) for value in stored["times"])
        rows = len(parts["rows"]["key"])
        return TrainingData(
            rows=stored_rows.FeatureRows(**parts["rows"]),
            parts=Parts(slice(0, first), slice(first, last), slice(last, rows), split_at),
            as_of=datetime.fromisoformat(str(stored["as_of"])),
            settled_until=settled_until,
            labels=stored_rows.Labels(**parts["labels"]),
            labels_at_split=stored_rows.Labels(**parts["labels_at_split"]),
            source=str(stored["source"]),
            share=share,
        )
