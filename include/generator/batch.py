"""A stretch of generated transactions with their truth, and its JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import zip_longest

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from include.events.fields import declared
from include.events.label import Label
from include.events.times import from_micros
from include.events.transaction import TransactionEvent
from include.generator.volume import SECOND

MICROSECONDS = pa.timestamp("us", tz="UTC")
TRUTH = pa.schema(
    [
        ("transaction_id", pa.string()),
        ("user_id", pa.string()),
        ("timestamp", MICROSECONDS),
        ("is_fraud", pa.bool_()),
        ("scenario_id", pa.string()),
        ("oddity", pa.string()),
    ]
)
_ARROW_TYPES = {str: pa.string(), float: pa.float64(), datetime: MICROSECONDS, bool: pa.bool_()}


def _schema(record: type[msgspec.Struct]) -> pa.Schema:
    return pa.schema([(field.name, _ARROW_TYPES[field.kind]) for field in declared(record)])


EVENTS = _schema(TransactionEvent)
LABELS = _schema(Label)


def event_rows(columns: Mapping[str, pa.Array]) -> pa.Table:
    """Events with these columns, in the order of the declaration; a field that is not given stays out of the JSON.

    Raises:
        ValueError: a column is no field of an event.
    """
    if unknown := columns.keys() - set(EVENTS.names):
        raise ValueError(f"an event has no field {', '.join(sorted(unknown))}")
    return pa.table({name: columns[name] for name in EVENTS.names if name in columns})


def label_rows(events: pa.Table, rows: pa.Array, columns: Mapping[str, pa.Array]) -> pa.Table:
    """Labels of some rows of events: what they say (`columns`), and the fields that they share with the event."""
    shared = [name for name in LABELS.names if name in events.column_names and name not in columns]
    of_events = plain(events.select(shared).take(rows))
    given = dict(zip(shared, of_events.columns, strict=True)) | dict(columns)
    missing = {
        name: pa.nulls(len(rows), LABELS.field(name).type) for name in LABELS.names if name not in given
    }
    return pa.table(given | missing, schema=LABELS)


Record = tuple[int, bytes, bytes]
"""Event time (microseconds since 1970), key and value of a Kafka record."""


@dataclass(frozen=True)
class Batch:
    """Transactions in order of event time.

    Attributes:
        time: (N,) int64 event times, microseconds since 1970 UTC.
        events: one row each, see `event_rows`; repeated texts as codes (see `coded` and `plain`).
        truth: one row each, see `TRUTH`; `oddity` names what is unusual about an honest one.
        labels: what the shop learns, see `LABELS`: late, incomplete and sometimes wrong, in order of `timestamp`.
    """

    time: np.ndarray
    events: pa.Table
    truth: pa.Table
    labels: pa.Table

    def __len__(self) -> int:
        return len(self.time)

    def between(self, start: int, end: int) -> Batch:
        """The transactions in [start, end) and their labels."""
        first, last = np.searchsorted(self.time, [start, end])
        if first == 0 and last == len(self):
            return self
        times = self.labels["timestamp"].to_numpy().astype(np.int64)
        label_first, label_last = np.searchsorted(times, [start, end])
        return Batch(
            self.time[first:last],
            self.events.slice(first, last - first),
            self.truth.slice(first, last - first),
            self.labels.slice(label_first, label_last - label_first),
        )

    def transactions(self) -> list[Record]:
        """Records of the transactions topic, in order of event time."""
        return _records(self.time, self.events)

    def label_records(self) -> list[Record]:
        """Records of the labels topic, in order of their transactions' event times."""
        return _records(self.labels["timestamp"].to_numpy().astype(np.int64), self.labels)


def text_of_times(times: np.ndarray) -> np.ndarray:
    """(N, 27) bytes `2026-11-24T06:00:00.000000Z` of times in microseconds since 1970."""
    text = np.empty((len(times), 27), np.uint8)
    if not len(times):
        return text
    seconds, rest = np.divmod(times, SECOND)
    minutes, second = np.divmod(seconds, 60)
    # the text of a minute is written once: most rows share it with others
    unique, row = np.unique(minutes, return_inverse=True)
    stems = b"".join(
        from_micros(int(minute) * 60 * SECOND).strftime("%Y-%m-%dT%H:%M:00.000000Z").encode()
        for minute in unique
    )
    text[:] = np.frombuffer(stems, np.uint8).reshape(-1, 27)[row]
    for column, digit in ((17, second // 10), (18, second % 10)):
        text[:, column] = digit + 48
    rest = rest.astype(np.int32)
    for column in range(25, 19, -1):
        rest, digit = np.divmod(rest, 10)
        text[:, column] = digit + 48
    return text


def fixed_text(text: np.ndarray) -> pa.Array:
    """Arrow strings from (N, width) ASCII bytes."""
    count, width = text.shape
    offsets = np.arange(0, (count + 1) * width, width, dtype=np.int32)
    return pa.StringArray.from_buffers(count, pa.py_buffer(offsets), pa.py_buffer(np.ascontiguousarray(text)))


def uuids(rng: np.random.Generator, count: int) -> pa.Array:
    """`count` random UUIDs (version 4) as text."""
    digits = np.frombuffer(rng.bytes(16 * count).hex().encode(), np.uint8).reshape(count, 32)
    text = np.full((count, 36), ord("-"), np.uint8)
    for start, end, column in ((0, 8, 0), (8, 12, 9), (12, 16, 14), (16, 20, 19), (20, 32, 24)):
        text[:, column : column + end - start] = digits[:, start:end]
    text[:, 14], text[:, 19] = ord("4"), ord("a")
    return fixed_text(text)


def coded(codes: pa.Array, values: pa.Array) -> pa.DictionaryArray:
    """A column with few different values: the JSON of each value is made once."""
    return pa.DictionaryArray.from_arrays(codes, values, safe=False)


def plain(rows: pa.Table) -> pa.Table:
    """The same rows with texts in place of codes."""
    fields = [
        field.with_type(field.type.value_type) if pa.types.is_dictionary(field.type) else field
        for field in rows.schema
    ]
    return rows.cast(pa.schema(fields))


def json_lines(rows: pa.Table) -> pa.Array:
    """JSON objects, one for each row; strings must need no escaping (see `catalogue`)."""
    parts: list[str | pa.Array] = []
    before = "{"
    group: dict[str, pa.Array] = {}  # neighbouring columns with the same codes
    columns = [(name, _one_chunk(rows[name])) for name in rows.column_names]
    neighbours = [column for _, column in columns[1:]]
    for (name, column), following in zip_longest(columns, neighbours):
        if pa.types.is_dictionary(column.type):
            group[name] = column.dictionary
            if following is None or _codes(following) != _codes(column):
                parts.append(_fragments(before, group).take(column.indices.fill_null(len(column.dictionary))))
                before, group = ",", {}
        else:
            quote, text = _text(column)
            parts += [f'{before}"{name}":{quote}', text]
            before = f"{quote},"
    return pc.binary_join_element_wise(*parts, f"{before[:-1]}}}", "")


def _one_chunk(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def _codes(column: pa.Array) -> tuple[int, int] | None:
    """Where the codes of a column lie in memory: equal for columns that share them."""
    if not pa.types.is_dictionary(column.type):
        return None
    return column.indices.buffers()[1].address, column.indices.offset


def _text(column: pa.Array) -> tuple[str, pa.Array]:
    """The quote around a column's values, and the values as text."""
    if pa.types.is_timestamp(column.type):
        return '"', fixed_text(text_of_times(column.cast(pa.int64()).to_numpy()))
    if not pa.types.is_string(column.type):
        return "", pc.cast(column, pa.string()).fill_null("null")
    if column.null_count:
        return "", pc.if_else(column.is_null(), "null", pc.binary_join_element_wise('"', column, '"', ""))
    return '"', column


_made: dict[tuple[object, ...], tuple[dict[str, pa.Array], pa.Array]] = {}


def _fragments(before: str, group: dict[str, pa.Array]) -> pa.Array:
    """JSON of several members for each code, and last for a missing one; made once for the same values."""
    key = (
        before,
        *((name, values.buffers()[-1].address, values.offset, len(values)) for name, values in group.items()),
    )
    if key not in _made:
        if len(_made) > 100:
            _made.clear()
        parts: list[str | pa.Array] = []
        missing = []
        for name, values in group.items():
            parts += [f'{before}"{name}":"', values, '"']
            missing.append(f'{before}"{name}":null')
            before = ","
        text = pc.binary_join_element_wise(*parts, "")
        # the values are kept too: while they live, no other values have their address
        _made[key] = group, pa.concat_arrays([text, pa.array(["".join(missing)])])
    return _made[key][1]


def _records(times: np.ndarray, rows: pa.Table) -> list[Record]:
    if not len(rows):
        return []
    keys = rows["user_id"].cast(pa.string()).cast(pa.binary()).to_pylist()
    values = json_lines(rows).cast(pa.binary()).to_pylist()
    return list(zip(times.tolist(), keys, values, strict=True))
