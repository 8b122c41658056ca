"""Publishes recorded transactions from a file, in order of event time, with their labels when they became known.

All rows are read and checked first and sorted through temporary files, so that a bad row is found before
anything is sent, whatever the order and the size of the file.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from threading import Event
from typing import NamedTuple

import msgspec

from include.broker import kafka
from include.broker.publish import Publisher
from include.events import mapping
from include.events.label import Label, encode_label
from include.events.strict_json import Reason
from include.events.times import micros
from include.events.transaction import Decoded, Rejected, decode
from include.events.translate import ROW, BadValue, RowLabel, Translator
from include.imports.external_sort import ExternalSort, Item
from include.imports.tabular import CsvTable, ParquetTable, open_table
from include.settings import Settings

BLOCK = 2_000  # records; the labels among them are acknowledged before the transactions are sent
STOP_SECONDS = 10.0  # for the acknowledgement of records under way when the import is stopped
TICK = 0.02  # shortest pause between two blocks at a given speed, in seconds
EXAMPLES = 5  # bad rows shown in a report
LABEL, TRANSACTION = 0, 1  # at the same time the label goes first

Progress = Callable[[str, int, int], None]
"""Called with the name of the phase, and how much of how much of it is done."""

_HINTS = {
    Reason.TOO_MANY_DECIMALS: "add `round: true` to amount in the mapping",
    Reason.IN_THE_FUTURE: "check its format, since, unit and zone in the mapping",
    Reason.INVALID_TIMESTAMP: "check its format, since, unit and zone in the mapping",
    Reason.OUT_OF_RANGE: "docs/events.md has the limits",
    Reason.TOO_LONG: "docs/events.md has the limits",
}


class BadRow(ValueError):
    """A row that cannot be a transaction; the message names row, column and what to do."""


@dataclass
class Report:
    """The content of a file, and how much of it was sent."""

    transactions: int = 0
    labels: int = 0
    frauds: int = 0
    bad_rows: int = 0
    examples: list[str] = field(default_factory=list)
    first: datetime | None = None
    last: datetime | None = None
    sent_transactions: int = 0
    sent_labels: int = 0
    unacknowledged: int = 0
    stopped: bool = False


def run(
    settings: Settings,
    path: Path,
    mapping_path: Path,
    *,
    label_delay: timedelta = timedelta(days=7),
    speed: float | None = None,
    dry_run: bool = False,
    skip_bad: bool = False,
    stopping: Event | None = None,
    progress: Progress = lambda phase, done, total: None,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> Report:
    """Checks a file and publishes it, each record acknowledged by all replicas.

    A label's known_at is its transaction's time plus `label_delay`. The label is acknowledged before any
    transaction after known_at is sent; at full speed it may be sent up to `BLOCK` records early. A second import of
    the same file changes nothing: transactions and labels are stored once.

    Args:
        speed: how many times faster than the time in the file; None is as fast as possible.
        dry_run: only check.
        skip_bad: count bad rows and go on.
        stopping: when set, the import flushes what it has sent, and returns.

    Raises:
        MappingError, UnreadableFile
        BadRow: the first one, before anything was sent; unless skip_bad.
        KafkaError: a topic does not exist, or Kafka does not answer.
        DeliveryFailed: Kafka refuses a record for good.
    """
    stopping = stopping or Event()
    rules = mapping.load(mapping_path)
    table = open_table(path, rules.csv)
    translator = Translator(rules, str(mapping_path), table.columns)
    if not dry_run:
        for topic in (settings.transactions_topic, settings.labels_topic):
            kafka.end_offsets(settings, topic)
    reader = _Reader(settings, path, translator, clock(), skip_bad)
    with tempfile.TemporaryDirectory(prefix="fraudstream-import-") as folder:
        sorter = ExternalSort(Path(folder))
        for rows in reader.chunks(table):
            progress("reading", table.done, table.total)
            if stopping.is_set():
                reader.report.stopped = True
                return reader.report
            if not dry_run:
                for row in rows:
                    _add(sorter, row, label_delay)
        if not dry_run:
            sender = _Sender(settings, Publisher(settings, stopping), reader.report, stopping)
            sender.send(sorter.sorted(), speed, progress)
    return reader.report


class _Row(NamedTuple):
    """A checked row: its event as JSON and decoded, and its label."""

    value: bytes
    decoded: Decoded
    label: RowLabel | None


class _Reader:
    """Turns a table's rows into checked transactions, and counts them in `report`."""

    def __init__(self, settings: Settings, path: Path, translator: Translator, now: datetime, skip_bad: bool):
        self._path, self._translator, self._now, self._skip_bad = path, translator, now, skip_bad
        self._max_bytes = settings.max_event_bytes
        self._tolerance = timedelta(seconds=settings.future_tolerance_seconds)
        self.report = Report()

    def chunks(self, table: CsvTable | ParquetTable) -> Iterator[list[_Row]]:
        """The good rows of each chunk of the table."""
        columns = self._translator.columns
        for chunk in table.chunks(columns):
            for number, width in chunk.malformed:
                self._bad(f"row {number}: has {width} columns, the file has {len(table.columns)}")
            numbered = zip(chunk.numbers, *chunk.values, strict=True)
            rows = [
                self._row(number, dict(zip(columns, values, strict=True))) for number, *values in numbered
            ]
            yield [row for row in rows if row is not None]

    def _row(self, number: int, row: dict[str, object]) -> _Row | None:
        """The checked row, None for a bad one."""
        row[ROW] = number
        event: dict[str, object] = {}
        try:
            event = self._translator.event(row)
            value = _encode(event)
            label = self._translator.label(row)
            decoded = decode(value, self._now, max_bytes=self._max_bytes, future_tolerance=self._tolerance)
        except (BadValue, UnicodeEncodeError, Rejected) as error:
            self._bad(f"row {number}: {self._in_words(error, event)}")
            return None
        self._count(decoded, label)
        return _Row(value, decoded, label)

    def _count(self, decoded: Decoded, label: RowLabel | None) -> None:
        report, at = self.report, decoded.transaction.timestamp
        report.transactions += 1
        if label is not None:
            report.labels += 1
            report.frauds += label.is_fraud
        if report.first is None or at < report.first:
            report.first = at
        if report.last is None or at > report.last:
            report.last = at

    def _in_words(self, error: BadValue | UnicodeEncodeError | Rejected, event: dict[str, object]) -> str:
        """The broken rule with the field's column and value, and what to do."""
        if isinstance(error, BadValue):
            return f"{error.field}: {error}"
        if isinstance(error, UnicodeEncodeError):
            return "not UTF-8; give the file's encoding as csv.encoding in the mapping"
        name, _, rule = error.detail.partition(": ")
        if name not in self._translator.origin:
            return error.detail
        value = event.get(name)
        text = bytes(value).decode() if isinstance(value, msgspec.Raw) else str(value)
        it_is = "" if value is None else f" (it is {text[:80]!r})"
        hint = _HINTS.get(error.reason)
        return f"{name}: {self._translator.origin[name]}: {rule}{it_is}{'; ' + hint if hint else ''}"

    def _bad(self, problem: str) -> None:
        if not self._skip_bad:
            raise BadRow(
                f"{self._path}: {problem}. Nothing was sent. Fix the row or the mapping, or leave bad rows out "
                "with --skip-bad"
            )
        self.report.bad_rows += 1
        if len(self.report.examples) < EXAMPLES:
            self.report.examples.append(problem)


def _add(sorter: ExternalSort, row: _Row, label_delay: timedelta) -> None:
    """Puts a transaction at its time, and its label at the time at which it is known."""
    transaction = row.decoded.transaction
    at, key = micros(transaction.timestamp), transaction.user_id.encode()
    sorter.add(2 * at + TRANSACTION, key, row.value)
    if row.label is not None:
        known_at = transaction.timestamp + label_delay
        label = Label(
            transaction.transaction_id,
            transaction.timestamp,
            row.label.is_fraud,
            known_at,
            row.label.scenario,
            transaction.merchant_id,
        )
        sorter.add(2 * micros(known_at) + LABEL, key, encode_label(label, transaction.user_id))


class _Sender:
    """Sends sorted records in blocks: a block's labels, and once they are acknowledged its transactions.

    An item's rank is 2 * microseconds since 1970, plus its kind: LABEL or TRANSACTION.
    """

    def __init__(self, settings: Settings, publisher: Publisher, report: Report, stopping: Event):
        self._publisher, self._report, self._stopping = publisher, report, stopping
        self._topics = {LABEL: settings.labels_topic, TRANSACTION: settings.transactions_topic}

    def send(self, items: Iterator[Item], speed: float | None, progress: Progress) -> None:
        report = self._report
        total = report.transactions + report.labels
        for block in _blocks(items) if speed is None else self._paced_blocks(items, speed):
            if self._stopping.is_set():
                break
            report.sent_labels += self._send(LABEL, block)
            report.sent_transactions += self._send(TRANSACTION, block)
            progress("sending", report.sent_transactions + report.sent_labels, total)
        report.stopped = self._stopping.is_set()
        report.unacknowledged = self._publisher.flush(STOP_SECONDS if report.stopped else None)

    def _send(self, kind: int, block: list[Item]) -> int:
        """Sends a block's records of a kind; returns how many, all of them unless the import is stopped."""
        topic, sent = self._topics[kind], 0
        for rank, key, value in block:
            if rank & 1 == kind:
                if self._stopping.is_set() or not self._publisher.send(topic, key, value):
                    break
                sent += 1
        if kind == LABEL and sent:
            self._publisher.flush()
        self._publisher.poll()
        return sent

    def _paced_blocks(self, items: Iterator[Item], speed: float) -> Iterator[list[Item]]:
        """The items in blocks, each when its records are due; the labels after the last transaction at once."""
        schedule = _Schedule(speed)
        block: list[Item] = []
        transactions = self._report.transactions
        for item in items:
            due = schedule.due(item) if transactions else 0.0
            early = due > time.monotonic()
            if block and (early or len(block) == BLOCK):
                yield block
                block = []
            if early:
                self._wait_until(max(due, time.monotonic() + TICK))
            block.append(item)
            transactions -= item[0] & 1
        if block:
            yield block

    def _wait_until(self, end: float) -> None:
        """Takes in acknowledgements until this time of the monotonic clock, or until the import is stopped."""
        while (left := end - time.monotonic()) > 0 and not self._stopping.wait(min(left, 1.0)):
            self._publisher.poll()


class _Schedule:
    """When each item is due: the first at once, then `speed` times as fast as in the file."""

    def __init__(self, speed: float):
        self._speed = speed
        self._began = time.monotonic()
        self._first: int | None = None  # microseconds since 1970

    def due(self, item: Item) -> float:
        """The time of the monotonic clock at which an item is due, in seconds."""
        at = item[0] // 2
        if self._first is None:
            self._first = at
        return self._began + (at - self._first) / 1e6 / self._speed


def _blocks(items: Iterator[Item]) -> Iterator[list[Item]]:
    while block := list(islice(items, BLOCK)):
        yield block


_encode = msgspec.json.Encoder().encode
