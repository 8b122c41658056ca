"""Sorts more records than fit into memory, through sorted runs in a temporary folder."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from itertools import count, islice
from operator import itemgetter
from pathlib import Path

import msgspec
import pyarrow as pa

Item = tuple[int, bytes, bytes]
"""Rank, key and value of a record."""

RUN_ITEMS = 100_000
RUN_BYTES = 64 * 2**20
BLOCK = 500  # items that a run reads at once while runs are merged
MOST_RUNS = 64  # that are merged at once

_rank = itemgetter(0)
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[Item]).decode


class ExternalSort:
    """Takes items in any order and gives them back by rank; equal ranks keep the order in which they came.

    Memory holds one run (`RUN_ITEMS` or `RUN_BYTES`) or, while merging, a block of each of `MOST_RUNS` runs.

    Args:
        folder: an empty folder for the runs, compressed.
    """

    def __init__(self, folder: Path):
        self._folder = folder
        self._numbers = count()
        self._items: list[Item] = []
        self._bytes = 0
        self._runs: list[Path] = []
        self.count = 0

    def add(self, rank: int, key: bytes, value: bytes) -> None:
        self._items.append((rank, key, value))
        self._bytes += len(value)
        self.count += 1
        if len(self._items) >= RUN_ITEMS or self._bytes >= RUN_BYTES:
            self._end_run()

    def sorted(self) -> Iterator[Item]:
        """All items, once; nothing may be added any more."""
        if self._items:
            self._end_run()
        while len(self._runs) > MOST_RUNS:  # neighbours, so that equal ranks stay in order
            groups = [self._runs[first : first + MOST_RUNS] for first in range(0, len(self._runs), MOST_RUNS)]
            self._runs = [self._join(group) for group in groups]
        return _merge(self._runs)

    def _end_run(self) -> None:
        self._items.sort(key=_rank)
        self._runs.append(self._write(iter(self._items)))
        self._items, self._bytes = [], 0

    def _join(self, runs: list[Path]) -> Path:
        joined = self._write(_merge(runs))
        for run in runs:
            run.unlink()
        return joined

    def _write(self, items: Iterator[Item]) -> Path:
        path = self._folder / f"{next(self._numbers):06d}.run"
        with pa.output_stream(path, compression="lz4") as run:
            while block := list(islice(items, BLOCK)):
                packed = _encode(block)
                run.write(len(packed).to_bytes(4, "big"))
                run.write(packed)
        return path


def _merge(runs: list[Path]) -> Iterator[Item]:
    return heapq.merge(*map(_read, runs), key=_rank)


def _read(path: Path) -> Iterator[Item]:
    with pa.input_stream(path, compression="lz4") as run:
        while size := run.read(4):
            yield from _decode(run.read(int.from_bytes(size, "big")))
