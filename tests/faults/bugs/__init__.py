"""The classic bugs of streaming sinks, put back into the streams by tests. Nothing outside of tests can do this.

The ledger and the database's constraints would stop most of them: where that is so, they are taken out, too.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import threading

    from pyspark.sql import DataFrame

    from include.streams.lease import Lease
    from include.streams.runner import _Run


def put_back(name: str) -> None:
    BUGS[name]()


def _replace(owner: object, name: str, function: Callable[..., object]) -> None:
    """Puts a function in place of one that is there and takes the same parameters: no bug may miss its target."""
    parameters, expected = (list(inspect.signature(f).parameters) for f in (function, getattr(owner, name)))
    if parameters != expected:
        raise TypeError(f"{name} takes {expected}, and what is put in its place {parameters}")
    setattr(owner, name, function)


def _exception_swallowed() -> None:
    """A batch that fails is printed and passed over, and Spark takes it as done."""
    from include.streams import runner

    _no_ledger()
    write = runner._Run._batch

    def batch(self: _Run, frame: DataFrame, batch_id: int) -> None:
        try:
            write(self, frame, batch_id)
        except Exception as error:  # noqa: BLE001
            print(f"batch {batch_id} failed: {error}")
            self.error = None

    _replace(runner._Run, "_batch", batch)


def _plain_append() -> None:
    """Rows are appended as they come: no ledger, and no id that only one event can own."""
    from include.streams import ingest
    from include.streams.claims import ClaimResult

    _no_ledger()
    _replace(ingest, "claim", lambda connection, writer, table, claims: [ClaimResult.NEW] * len(claims))


def _checkpoint_alone() -> None:
    """Only the checkpoint knows where to go on; without it Spark begins with the newest record."""
    from include.broker import kafka
    from include.streams import runner

    _no_ledger()

    def next_offsets(self: _Run) -> dict[str, dict[str, int]]:
        ends = {}
        for topic in self.definition.topics:
            self.topic_ids[topic] = kafka.topic_id(self.settings, topic)
            ends[topic] = {
                str(partition): end for partition, end in kafka.end_offsets(self.settings, topic).items()
            }
        return ends

    _replace(runner._Run, "_next_offsets", next_offsets)


def _batch_id_ledger() -> None:
    """What was written is remembered by batch id, which begins anew with the checkpoint."""
    from include.broker import kafka
    from include.streams import runner

    _no_ledger()
    write = runner._Run._batch

    def batch(self: _Run, frame: DataFrame, batch_id: int) -> None:
        written: Path = self.settings.home / f"written-{self.definition.stream}"
        if written.exists() and batch_id <= int(written.read_text()):
            return
        write(self, frame, batch_id)
        written.write_text(str(batch_id))

    def next_offsets(self: _Run) -> dict[str, dict[str, int]]:
        begins = {}
        for topic in self.definition.topics:
            self.topic_ids[topic] = kafka.topic_id(self.settings, topic)
            begins[topic] = {str(partition): 0 for partition in kafka.end_offsets(self.settings, topic)}
        return begins

    _replace(runner._Run, "_batch", batch)
    _replace(runner._Run, "_next_offsets", next_offsets)


def _no_fence() -> None:
    """Every driver may write, however many there are and whoever came last; none notices that it lost its lease."""
    from include.sql import one_row
    from include.streams import lease, store

    _no_ledger()

    def take(self: Lease, stopping: threading.Event) -> bool:
        holder = {"stream": self.stream, "holder": self.holder}
        (self.epoch,) = one_row(self._connection.execute(lease._TAKE, holder))
        return True

    _replace(lease.Lease, "take", take)
    _replace(store, "_check_lease", lambda connection, writer: None)


def _uncommitted_read() -> None:
    """Spark reads what a transaction has written before it is committed, and when it is aborted."""
    from pyspark.sql.streaming.readwriter import DataStreamReader

    option = DataStreamReader.option

    def uncommitted(self: DataStreamReader, key: str, value: bool | float | str | None) -> DataStreamReader:
        return option(self, key, "read_uncommitted" if key == "kafka.isolation.level" else value)

    _replace(DataStreamReader, "option", uncommitted)


def _no_ledger() -> None:
    """The ledger is written and never asked: no range is skipped, no gap is noticed, no sum is checked."""
    from include.streams import store

    _replace(store, "_after", lambda span, next_offset: span)
    store._ADVANCE = """
        update shop.stream_offsets
        set next_offset = %(next_offset)s, stored = %(next_offset)s - first_offset, dead_letters = 0, duplicates = 0,
            lost = 0, epoch = %(epoch)s, committed_at = clock_timestamp()
        where stream = %(stream)s and topic = %(topic)s and partition = %(partition)s"""


BUGS: dict[str, Callable[[], None]] = {
    "exception swallowed": _exception_swallowed,
    "plain append": _plain_append,
    "checkpoint trusted alone": _checkpoint_alone,
    "batch id ledger": _batch_id_ledger,
    "no fence": _no_fence,
    "uncommitted records read": _uncommitted_read,
}
