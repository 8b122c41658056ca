"""Spark's checkpoint as the driver reads it; with Spark itself: tests/streams/test_runner.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from include.settings import Settings
from include.streams.checkpoint import Checkpoint, CheckpointDamaged

METADATA = '{"batchWatermarkMs":0}'


@pytest.fixture
def checkpoint(tmp_path: Path) -> Checkpoint:
    return Checkpoint(Settings(_env_file=None, home=tmp_path), "stream")


def write(checkpoint: Checkpoint, name: str, *lines: str) -> None:
    path = checkpoint.folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines))


def test_a_folder_that_spark_has_not_used_is_fine(checkpoint):
    checkpoint.check()
    assert checkpoint.is_new


def test_offsets_without_metadata_are_refused(checkpoint):
    (checkpoint.folder / "offsets").mkdir(parents=True)
    with pytest.raises(
        CheckpointDamaged, match=f"metadata cannot be read.*delete the folder {checkpoint.folder}"
    ):
        checkpoint.check()


def test_a_batch_goes_from_the_batch_before_to_its_own_offsets(checkpoint):
    write(checkpoint, "sources/0/0", "\0v1", '{"t":{"0":7,"1":0}}')
    write(checkpoint, "offsets/0", "v1", METADATA, '{"t":{"0":9,"1":0}}')
    write(checkpoint, "offsets/1", "v1", METADATA, '{"t":{"0":9,"1":4,"2":6},"u":{"0":2}}')
    assert checkpoint.ranges(0) == {("t", 0): (7, 9), ("t", 1): (0, 0)}
    second = {("t", 0): (9, 9), ("t", 1): (0, 4), ("t", 2): (0, 6), ("u", 0): (0, 2)}
    assert checkpoint.ranges(1) == checkpoint.ranges(1) == second


def test_a_batch_whose_offsets_cannot_be_read_is_refused(checkpoint):
    write(checkpoint, "sources/0/0", "v1", '{"t":{"0":7}}')
    for lines in (["v1", METADATA, '{"t":{"0":'], ["v1", METADATA, "-"], ["v1"], [METADATA]):
        write(checkpoint, "offsets/0", *lines)
        with pytest.raises(CheckpointDamaged, match="offsets/0 cannot be read"):
            checkpoint.ranges(0)
