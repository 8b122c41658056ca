"""Spark's checkpoint of a stream: whether it can be read, and which offsets a batch has.

Spark writes a batch's end offsets into `offsets/N` before it runs the batch, and those with which a new checkpoint
begins into `sources/0/0`.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from include.broker.kafka import Bounds
from include.settings import Settings

Offsets = dict[tuple[str, int], int]
"""An offset for each topic and partition."""


class CheckpointDamaged(RuntimeError):
    """Spark's checkpoint cannot be used; the message says why and what to do."""


class Checkpoint:
    """The checkpoint of a stream in its folder, which need not exist yet."""

    def __init__(self, settings: Settings, stream: str):
        self.folder = settings.home / "checkpoints" / stream
        self._ends: tuple[int | None, Offsets] = None, {}

    @property
    def remedy(self) -> str:
        return f"delete the folder {self.folder}: the stream then continues exactly where the ledger in PostgreSQL ends"

    @property
    def is_new(self) -> bool:
        """True before Spark has used it."""
        return not (self.folder / "metadata").exists()

    def check(self) -> None:
        """Reads the newest files as Spark will.

        Raises:
            CheckpointDamaged: one is cut off or unreadable.
        """
        metadata = self.folder / "metadata"
        if self.is_new and not (self.folder / "offsets").exists():
            return
        files = [metadata]
        for kind in ("offsets", "commits"):
            numbered = [path for path in (self.folder / kind).glob("*") if path.name.isdecimal()]
            files += sorted(numbered, key=lambda path: int(path.name))[-2:]
        for path in files:
            self._lines(path, versioned=path is not metadata)

    def ranges(self, batch: int) -> dict[tuple[str, int], Bounds]:
        """The offsets [begin, end) that a batch has of each partition, whether they hold records or not.

        Raises:
            CheckpointDamaged: it does not say so.
        """
        number, begins = self._ends
        if number != batch - 1:
            begins = self._offsets(f"offsets/{batch - 1}" if batch else "sources/0/0")
        ends = self._offsets(f"offsets/{batch}")
        self._ends = batch, ends
        # Spark reads a partition that was added from its first record, and fails when that is not offset 0.
        return {key: Bounds(begins.get(key, 0), end) for key, end in ends.items()}

    def _offsets(self, name: str) -> Offsets:
        path = self.folder / name
        try:
            topics = json.loads(self._lines(path)[-1])
            return {
                (topic, int(partition)): offset
                for topic, partitions in topics.items()
                for partition, offset in partitions.items()
            }
        except (AttributeError, ValueError) as error:
            raise self._damaged(path, error) from error

    def _lines(self, path: Path, versioned: bool = True) -> list[str]:
        """The lines of JSON in a file, after the line with its version."""
        try:
            lines = path.read_text().lstrip("\0").splitlines()
            if versioned and not re.fullmatch(r"v\d+", lines.pop(0)):
                raise ValueError("it has no version")
            if not lines:
                raise ValueError("it ends early")
            for line in lines:
                if line != "-":
                    json.loads(line)
        except (OSError, ValueError, IndexError) as error:
            raise self._damaged(path, error) from error
        return lines

    def _damaged(self, path: Path, error: Exception) -> CheckpointDamaged:
        return CheckpointDamaged(f"the checkpoint is damaged, {path} cannot be read: {error}; {self.remedy}")
