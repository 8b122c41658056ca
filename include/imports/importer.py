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
from pathlib import Path
from threading import Event
from typing import NamedTuple

import msgspec

from include.broker import kafka
from include.broker.publish import Publisher
from include.events import mapping
from include.events.label import Label, encode_label
from include.events.strict_json import Reason
from include.events.transaction import Decoded, Rejected, decode
from include.events.translate import ROW, BadValue, Translator
from include.generator.batch import micros
from include.imports.external_sort import ExternalSort, Item
from include.imports.tabular import CsvTable, ParquetTable, open_table
from include.settings import Settings

BLOCK = 2_000  # records; the labels among them are acknowledged before the transactions are sent
STOP_SECONDS = 10.0  # for what is under way when it is asked to stop
TICK = 0.02  # seconds between two blocks, at least, at a given speed
EXAMPLES = 5  # of bad rows in a report
LABEL, TRANSACTION = 0, 1  # at the same instant the label goes first

Progress = Callable[[str, int, int], None]
"""Hears what is being done, and how much of how much."""

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
    """What was found in a file and what was sent of it."""

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

    A label's known_at is its transaction's time plus `label_delay`. It is acknowledged before any transaction
    after that is sent; at full speed it may come up to `BLOCK` records early, and known_at tells. Doing it again
    changes nothing: transactions and labels are stored once.

    Args:
        speed: how many times faster than the time in the file; None is as fast as possible.
        dry_run: only check.
        skip_bad: count bad rows and go on.
        stopping: when set, what was sent so far is flushed and the report says so.

    Raises:
        MappingError, UnreadableFile
        BadRow: the first one, before anything was sent; unless skip_bad.
        KafkaError: the topics are not there.
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
    """The event of a row, what the decoder makes of it, and what the row says about fraud."""

    value: bytes
    decoded: Decoded
    label: tuple[bool, str | None] | None


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
            for number, found in chunk.malformed:
                self._bad(f"row {number}: has {found} columns, the file has {len(table.columns)}")
            numbered = zip(chunk.numbers, *chunk.values, strict=True)
            rows = [
                self._row(number, dict(zip(columns, values, strict=True))) for number, *values in numbered
            ]
            yield [row for row in rows if row is not None]

    def _row(self, number: int, row: dict[str, object]) -> _Row | None:
        row[ROW] = number
        fields = {}
        try:
            fields = self._translator.event(row)
            value = _encode(fields)
            label = self._translator.label(row)
            decoded = decode(value, self._now, max_bytes=self._max_bytes, future_tolerance=self._tolerance)
        except BadValue as error:
            return self._bad(f"row {number}: {error.field}: {error}")
        except UnicodeEncodeError:
            return self._bad(
                f"row {number}: not UTF-8; give the file's encoding as csv.encoding in the mapping"
            )
        except Rejected as error:
            return self._bad(f"row {number}: {self._said(error, fields)}")
        self._count(decoded, label)
        return _Row(value, decoded, label)

    def _count(self, decoded: Decoded, label: tuple[bool, str | None] | None) -> None:
        report, at = self.report, decoded.transaction.timestamp
        report.transactions += 1
        if label is not None:
            report.labels += 1
            report.frauds += label[0]
        if report.first is None or at < report.first:
            report.first = at
        if report.last is None or at > report.last:
            report.last = at

    def _said(self, error: Rejected, fields: dict[str, object]) -> str:
        """The rule that was broken, the field's column and its value, and what to do."""
        name, _, rule = error.detail.partition(": ")
        if name not in self._translator.origin:
            return error.detail
        value = fields.get(name)
        shown = bytes(value).decode() if isinstance(value, msgspec.Raw) else value
        it_is = "" if value is None else f" (it is {str(shown)[:80]!r})"
        hint = _HINTS.get(error.reason)
        return f"{name}: {self._translator.origin[name]}: {rule}{it_is}{'; ' + hint if hint else ''}"

    def _bad(self, problem: str) -> None:
        if not self._skip_bad:
            raise BadRow(
                f"{self._path}: {problem}. Nothing was sent. Mend the row or the mapping, or go on without such "
                "rows with --skip-bad"
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
        is_fraud, scenario = row.label
        known_at = transaction.timestamp + label_delay
        label = Label(
            transaction.transaction_id,
            transaction.timestamp,
            is_fraud,
            known_at,
            scenario,
            transaction.merchant_id,
        )
        sorter.add(2 * micros(known_at) + LABEL, key, encode_label(label, transaction.user_id))


class _Sender:
    """Sends sorted records in blocks: first a block's labels, and once they are acknowledged its transactions."""

    def __init__(self, settings: Settings, publisher: Publisher, report: Report, stopping: Event):
        self._publisher, self._report, self._stopping = publisher, report, stopping
        self._topics = {LABEL: settings.labels_topic, TRANSACTION: settings.transactions_topic}

    def send(self, items: Iterator[Item], speed: float | None, progress: Progress) -> None:
        report = self._report
        total = report.transactions + report.labels
        for block in self._blocks(items, speed):
            report.sent_labels += self._send(LABEL, block)
            report.sent_transactions += self._send(TRANSACTION, block)
            progress("sending", report.sent_transactions + report.sent_labels, total)
        report.stopped = self._stopping.is_set()
        report.unacknowledged = self._publisher.flush(STOP_SECONDS if report.stopped else None)

    def _send(self, kind: int, block: list[Item]) -> int:
        """Sends a block's records of a kind; returns how many, all of them unless it is asked to stop."""
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

    def _blocks(self, items: Iterator[Item], speed: float | None) -> Iterator[list[Item]]:
        """The items in blocks, each when its first transaction is due; what follows the last transaction, at once."""
        following = next(items, None)
        began, start = time.monotonic(), following and following[0] // 2
        transactions = 0
        while following is not None and not self._stopping.is_set():
            at_full_speed = speed is None or transactions == self._report.transactions
            if not at_full_speed:
                due = began + (following[0] // 2 - start) / 1e6 / speed
                while (wait := max(due - time.monotonic(), 0)) and not self._stopping.wait(min(wait, 1.0)):
                    self._publisher.poll()
                now = start + (time.monotonic() - began) * speed * 1e6
            block = []
            while (
                following is not None and len(block) < BLOCK and (at_full_speed or following[0] // 2 <= now)
            ):
                block.append(following)
                transactions += following[0] & 1
                following = next(items, None)
            yield block
            if not at_full_speed:
                self._stopping.wait(TICK)


_encode = msgspec.json.Encoder().encode
