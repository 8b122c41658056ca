"""The list of the events that the broker acknowledged: one line each, synced to disk, appended by the producer."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

# Files in the campaign's folder: this list, one of the events of aborted transactions, the number before which the
# producer may send events, and what asks it to die within its next transaction.
LIST, ABORTED, ALLOWED, DIE_IN_TRANSACTION = "acknowledged", "aborted", "allowed", "die_in_transaction"


class Acknowledged(NamedTuple):
    """An event and the place that the broker gave it; at is the time of the acknowledgement, seconds since 1970."""

    number: int
    is_label: bool
    partition: int
    offset: int
    at: float


class Appender:
    """Appends to the list; a line that a kill left half-written is removed first."""

    def __init__(self, path: Path):
        self._file = path.open("ab+")
        self._file.seek(0)
        self._file.truncate(self._file.read().rfind(b"\n") + 1)
        self._lines: list[bytes] = []

    def add(self, events: Iterable[Acknowledged]) -> None:
        self._lines += [b"%d %d %d %d %.3f\n" % event for event in events]

    def sync(self) -> None:
        """What was added is on disk when this returns."""
        if self._lines:
            self._file.write(b"".join(self._lines))
            self._file.flush()
            os.fsync(self._file.fileno())
            self._lines.clear()


class Reader:
    """Reads the list while it grows."""

    def __init__(self, path: Path):
        self._path = path
        self._read = 0

    def new(self) -> Iterator[Acknowledged]:
        """What was added since the last call."""
        if not self._path.exists():
            return
        with self._path.open("rb") as file:
            file.seek(self._read)
            data = file.read()
        data = data[: data.rfind(b"\n") + 1]
        self._read += len(data)
        for line in data.splitlines():
            number, is_label, partition, offset, at = line.split()
            yield Acknowledged(int(number), is_label == b"1", int(partition), int(offset), float(at))
