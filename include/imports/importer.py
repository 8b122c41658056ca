"""Publishes recorded transactions from a file, in order of event time, with their labels when they became known.

All rows are read and checked first and sorted through temporary files, so that a bad row is found before
anything is sent, whatever the order and the size of the file.
"""

from __future__ import annotations

import csv
import json
import os
import re
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from datetime import time as time_of_day
from itertools import islice
from pathlib import Path
from threading import Event
from typing import IO, NamedTuple

import msgspec
import psycopg

from include.broker import kafka
from include.broker.keys import newest_keys
from include.broker.publish import Publisher
from include.events import mapping
from include.events.label import Label, encode_label
from include.events.mapping import FieldSource, MappingError, MappingFile, Rows, Source
from include.events.rows import with_transactions
from include.events.strict_json import Reason
from include.events.times import micros
from include.events.transaction import CATEGORIES, Decoded, Rejected, Transaction, decode
from include.events.translate import FILE, ROW, BadValue, LeftOut, RowLabel, Translator
from include.features import extra_fields
from include.imports import sources
from include.imports.external_sort import ExternalSort, Item
from include.imports.tabular import TableRow, missing_path, open_table
from include.settings import Settings
from include.sql import statement

MIDNIGHT = time_of_day()
BLOCK = 2_000  # records; the labels among them are acknowledged before the transactions are sent
STOP_SECONDS = 10.0  # for the acknowledgement of records under way when the import is stopped
TICK = 0.02  # shortest pause between two blocks at a given speed, in seconds
EXAMPLES = 5  # bad rows shown in a report
LABEL, TRANSACTION = 0, 1  # at the same time the label goes first

SAMPLES = 10  # rows that a dry run shows
MOST_BEFORE = timedelta(days=1)  # that a label's known_at, often a date alone, may lie before its payment

Progress = Callable[[str, int, int], None]
"""Called with the name of the phase, and how much of how much of it is done."""

_HINTS = {
    Reason.TOO_MANY_DECIMALS: "add `round: true` to amount in the mapping",
    Reason.IN_THE_FUTURE: "check its format, since, unit and zone in the mapping",
    Reason.INVALID_TIMESTAMP: "check its format, since, unit and zone in the mapping",
    Reason.OUT_OF_RANGE: "docs/events.md has the limits",
    Reason.TOO_LONG: "docs/events.md has the limits",
}
_NEGATIVE = (
    "if negative amounts are payments, add `sign: negative`; if they are refunds, `sign: positive` leaves them out; "
    "`sign: absolute` drops the sign"
)


class BadRow(ValueError):
    """A row that cannot be a transaction; the message names line, column and what to do."""


class NothingToImport(ValueError):
    """No transaction is in what was read; the message says what is there."""


class Sample(NamedTuple):
    """A row as it is in the file, and the event that is made from it."""

    line: int
    before: str
    after: str


@dataclass
class Report:
    """What was read, and how much of it was sent.

    left_out counts the rows that are no payments by each rule of the mapping; samples are the first good rows.
    """

    files: int = 0
    rows: int = 0
    transactions: int = 0
    labels: int = 0
    frauds: int = 0
    bad_rows: int = 0
    examples: list[str] = field(default_factory=list)
    rejected: Path | None = None
    left_out: Counter[str] = field(default_factory=Counter)
    warnings: list[str] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    first: datetime | None = None
    last: datetime | None = None
    sent_transactions: int = 0
    sent_labels: int = 0
    unacknowledged: int = 0
    stopped: bool = False


def import_events(
    settings: Settings,
    source: Path | str,
    mapping_path: Path,
    *,
    labels: Path | None = None,
    label_delay: timedelta = timedelta(days=7),
    speed: float | None = None,
    dry_run: bool = False,
    skip_bad: bool = False,
    rejected: Path | None = None,
    stopping: Event | None = None,
    progress: Progress = lambda phase, done, total: None,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> Report:
    """Checks files and publishes them, each record acknowledged by all replicas.

    A label's known_at is the mapping's, or its transaction's time plus `label_delay`. The label is acknowledged before
    any transaction after known_at is sent; at full speed it may be sent up to `BLOCK` records early. A second import
    of the same file changes nothing: transactions and labels are stored once.

    Args:
        source: a file, a folder of parts, a pattern, or `-` for standard input.
        labels: the file of the labels, if they are not in the same rows.
        speed: how many times faster than the time in the file; None is as fast as possible.
        dry_run: only check.
        skip_bad: leave bad rows out and go on.
        rejected: the file for bad rows and their reasons; None for none. It is made when there is one.
        stopping: when set, the import flushes what it has sent, and returns.

    Raises:
        MappingError, UnreadableFile
        BadRow: the first one, before anything was sent; unless skip_bad.
        NothingToImport: there is no transaction to send.
        OSError: temporary files or the file for bad rows cannot be written.
        KafkaError: a topic does not exist, or Kafka does not answer.
        psycopg.Error: PostgreSQL, which keeps the names of extra fields, does not answer.
        DeliveryFailed: Kafka refuses a record for good.
    """
    stopping = stopping or Event()
    rules = mapping.load(mapping_path)
    with tempfile.TemporaryDirectory(prefix="fraudstream-import-") as name:
        folder = Path(name)
        other_producers = ""
        from_standard_input = source == sources.STANDARD_INPUT
        files = (
            [sources.save_standard_input(folder)] if from_standard_input else sources.find_files(str(source))
        )
        if not dry_run:
            for topic in (settings.transactions_topic, settings.labels_topic):
                kafka.end_offsets(settings, topic)
            _keep_names(settings, rules, mapping_path, only_check=True)
            with suppress(kafka.KafkaError):  # who imports may have no right to read
                keys = newest_keys(settings, settings.transactions_topic)
                other_producers = keys.problem(settings.transactions_topic)
        runs = folder / "runs"
        runs.mkdir()
        sorter = ExternalSort(runs)
        with _RejectedRows(rejected if skip_bad else None) as rejects:
            reader = _Reader(settings, rules, mapping_path, clock(), skip_bad, rejects, label_delay)
            reader.check_names(files)
            if labels is not None or rules.label_file:
                reader.read_labels(labels, progress)
            for rows in reader.chunks(files, progress):
                if stopping.is_set():
                    reader.report.stopped = True
                    return reader.report
                if not dry_run:
                    for row in rows:
                        _add(sorter, row)
        reader.finish(str(source))
        if other_producers:
            reader.report.warnings.append(other_producers)
        if not dry_run:
            _keep_names(settings, rules, mapping_path)
            sender = _Sender(settings, Publisher(settings, stopping), reader.report, stopping)
            sender.send(sorter.sorted(), speed, progress)
    return reader.report


def _keep_names(settings: Settings, rules: MappingFile, path: Path, *, only_check: bool = False) -> None:
    """Remembers what the mapping calls the fields without a name of their own, or finds out whether it may."""
    if rules.names:
        with (
            psycopg.connect(settings.conninfo("stream_writer"), connect_timeout=10) as connection,
            connection.transaction(force_rollback=only_check),
        ):
            extra_fields.keep(connection, rules.names, path)


def import_labels(
    settings: Settings,
    path: Path,
    mapping_path: Path,
    *,
    label_delay: timedelta = timedelta(days=7),
    dry_run: bool = False,
    skip_bad: bool = False,
    rejected: Path | None = None,
    stopping: Event | None = None,
    progress: Progress = lambda phase, done, total: None,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> Report:
    """Publishes the labels of payments that are stored already, in order of known_at; else as `import_events`.

    A label of a payment that has one with an earlier known_at corrects it. Labels that were sent before change nothing.

    Raises:
        NothingToImport: no label is of a stored payment.
        psycopg.OperationalError: PostgreSQL, which says when and by whom a payment was made, does not answer.
    """
    stopping = stopping or Event()
    rules = mapping.load(mapping_path)
    if not dry_run:
        kafka.end_offsets(settings, settings.labels_topic)
    with (
        tempfile.TemporaryDirectory(prefix="fraudstream-import-") as folder,
        _RejectedRows(rejected if skip_bad else None) as rejects,
        psycopg.connect(settings.conninfo("trainer")) as connection,
    ):
        sorter = ExternalSort(Path(folder))
        reader = _Reader(settings, rules, mapping_path, clock(), skip_bad, rejects, label_delay)
        for stored in reader.labels_of_stored(path, connection, progress):
            if stopping.is_set():
                reader.report.stopped = True
                return reader.report
            if not dry_run:
                for transaction, labels in stored:
                    _add_labels(sorter, transaction, labels)
        if not dry_run:
            sender = _Sender(settings, Publisher(settings, stopping), reader.report, stopping)
            sender.send(sorter.sorted(), None, progress)
    return reader.report


TimedLabel = tuple[RowLabel, datetime]
"""A label and when it is known."""


class _Row(NamedTuple):
    """A checked row: its event as JSON and decoded, and its labels, each with the time at which it is known."""

    value: bytes
    decoded: Decoded
    labels: list[TimedLabel]


class _NoHead(NamedTuple):
    """What imports/stored.sql says of a transaction beside its fields: nothing."""


class _RejectedRows:
    """Writes bad rows and why they are bad to a CSV file, which is made for the first one.

    Args:
        path: None for no file.
    """

    def __init__(self, path: Path | None):
        self.path = path
        self.written = 0
        self._file: IO[str] | None = None

    def __enter__(self) -> _RejectedRows:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file:
            self._file.close()

    def add(self, file: Path, row: TableRow, problem: str) -> None:
        if self.path is None:
            return
        if self._file is None:
            private = os.open(
                self.path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600
            )  # rows are personal data
            self._file = os.fdopen(private, "w", encoding="utf8", errors="backslashreplace", newline="")
            csv.writer(self._file).writerow(["file", "line", "reason", "row"])
        text = row.text or json.dumps(row.values, default=str, ensure_ascii=False)
        csv.writer(self._file).writerow([file.name, row.number, problem, text])
        self.written += 1


class _Reader:
    """Turns rows of files into checked transactions, and counts them in `report`."""

    def __init__(
        self,
        settings: Settings,
        rules: MappingFile,
        mapping_path: Path,
        now: datetime,
        skip_bad: bool,
        rejects: _RejectedRows,
        label_delay: timedelta,
    ):
        self._rules, self._mapping_path = rules, mapping_path
        self._now, self._skip_bad, self._rejects, self._label_delay = now, skip_bad, rejects, label_delay
        self._max_bytes = settings.max_event_bytes
        self._tolerance = timedelta(seconds=settings.future_tolerance_seconds)
        self._labels: dict[str, list[RowLabel]] | None = None
        self._labelled: set[str] = set()
        self._only_midnights = True
        self._null_words: Counter[tuple[str, str]] = Counter()
        self.report = Report()

    def check_names(self, files: Sequence[Path]) -> None:
        """Refuses ids that would be the same in two files."""
        source = self._rules.fields["transaction_id"]
        names = set(re.findall(r"{(\w+)", source.text or "")) if isinstance(source, Source) else set()
        if "row" in names and "file" not in names and len(files) > 1:
            raise MappingError(
                f"{self._mapping_path}: fields.transaction_id: rows of {len(files)} files would share their ids: add "
                "{file} to the text"
            )
        if names == {"row"}:
            self.report.warnings.append(
                "transaction_id is a row's number alone: rows of another file get the same ids unless its mapping has "
                "another text, or {file} in it"
            )

    def read_labels(self, path: Path | None, progress: Progress) -> None:
        """Keeps the labels of a file of their own until their transactions are read."""
        self._labels = defaultdict(list)
        for chunk in self._label_rows(path, progress):
            for _, transaction_id, label in chunk:
                self._labels[transaction_id].append(label)

    def _label_rows(
        self, path: Path | None, progress: Progress
    ) -> Iterator[list[tuple[TableRow, str, RowLabel]]]:
        """The good rows of a file of labels, each with its transaction's id and its label, in chunks."""
        label = self._rules.label
        if label is None or label.transaction_id is None:
            raise MappingError(
                f"{self._mapping_path}: label.transaction_id: name its column in the labels' file"
            )
        if path is None:
            raise MappingError(
                f"{self._mapping_path}: label.transaction_id: labels stand in a file of their own: give it as --labels"
            )
        fields: dict[str, FieldSource] = {"transaction_id": Source(column=label.transaction_id)}
        rules = replace(self._rules, fields=fields, rows=Rows())
        table = open_table(path, label.csv or rules.csv)
        translator = Translator(rules, str(self._mapping_path), table.columns, numbered=True)
        for chunk in table.chunks(translator.columns):
            progress("reading labels", table.done, table.total)
            labels = []
            for row in chunk:
                try:
                    if row.problem:
                        raise BadValue("label", row.problem, "")
                    transaction_id = translator.event(row.values).get("transaction_id")
                    if transaction_id is None:
                        raise BadValue("label", f"{translator.origin['transaction_id']} is empty", "")
                    known = translator.label(row.values)
                except BadValue as error:
                    self._bad(path, row, row.problem or f"{error.field}: {error}")
                    continue
                if known is not None:
                    labels.append((row, str(transaction_id), known))
            yield labels

    def labels_of_stored(
        self, path: Path, connection: psycopg.Connection, progress: Progress
    ) -> Iterator[list[tuple[Transaction, list[TimedLabel]]]]:
        """The labels of a file of their own with the stored transactions that they are of, in chunks.

        Raises:
            NothingToImport: at the end, when no label was of a stored transaction.
        """
        report, read, unknown = self.report, 0, set()
        for chunk in self._label_rows(path, progress):
            ids = sorted({transaction_id for _, transaction_id, _ in chunk})
            with connection.cursor(row_factory=with_transactions(_NoHead)) as cursor:
                rows = cursor.execute(statement("imports/stored"), {"ids": ids}).fetchall()
            stored = {transaction.transaction_id: transaction for _, transaction in rows}
            labelled = []
            for row, transaction_id, label in chunk:
                read += 1
                transaction = stored.get(transaction_id)
                if transaction is None:
                    unknown.add(transaction_id)
                    continue
                try:
                    timed = self._timed([label], transaction)
                except BadValue as error:
                    self._bad(path, row, f"{error.field}: {error}")
                    continue
                labelled.append((transaction, timed))
                report.labels += 1
                report.frauds += label.is_fraud
            yield labelled
        report.files, report.rejected = 1, self._rejects.path if self._rejects.written else None
        if not report.labels:
            raise NothingToImport(
                f"{path}: none of its {read:,} labels is of a stored payment. Nothing was sent. Import the payments "
                "first, and wait until fraudstream status says that transaction_stream has read them"
            )
        if unknown:
            report.warnings.append(
                f"labels of {len(unknown):,} ids belong to no stored payment and were left out"
            )

    def chunks(self, files: Sequence[Path], progress: Progress) -> Iterator[list[_Row]]:
        """The good rows of each chunk of the files."""
        total = sum(file.stat().st_size for file in files)
        before = 0
        for file in files:
            table = open_table(file, self._rules.csv)
            translator = Translator(
                self._rules,
                str(self._mapping_path),
                table.columns,
                numbered=True,
                labels=not self._rules.label_file,
            )
            size, name = file.stat().st_size, sources.stem(file)
            for rows in table.chunks(translator.columns):
                progress("reading", before + size * table.done // max(table.total, 1), total)
                checked = [self._row(file, name, translator, row) for row in rows]
                yield [row for row in checked if row is not None]
            self.report.files += 1
            self._null_words += translator.null_words
            before += size

    def finish(self, source: str) -> None:
        """Warns of what is read but may not be meant.

        Raises:
            NothingToImport: no row is a transaction.
        """
        report = self.report
        report.rejected = self._rejects.path if self._rejects.written else None
        if not report.transactions:
            raise NothingToImport(f"{source}: {self._nothing()}. Nothing was sent")
        if self._only_midnights and report.transactions > 1:
            report.warnings.append(
                "every payment is at midnight: if its time of day stands in another column, write both into the "
                'timestamp, such as `{text: "{date} {time}", format: …}`'
            )
        for (column, word), count in self._null_words.most_common():
            report.warnings.append(
                f"column {column!r} is {word} in {count:,} rows: if that means a missing value, add it to `missing`"
            )
        if self._labels is not None and (unknown := len(self._labels.keys() - self._labelled)):
            report.warnings.append(f"labels of {unknown:,} ids belong to no transaction that was read")

    def _nothing(self) -> str:
        """Why there is no transaction, in words."""
        report = self.report
        if not report.rows:
            return "it has no rows"
        parts = [f"no transaction among {report.rows:,} rows"]
        if report.left_out:
            counts = ", ".join(f"{rule} {count:,}" for rule, count in report.left_out.most_common(5))
            parts.append(f"left out by the mapping: {counts}")
        if report.bad_rows:
            where = f", all in {report.rejected}" if report.rejected else ""
            parts.append(f"{report.bad_rows:,} bad{where}, the first: {report.examples[0]}")
        return "; ".join(parts)

    def _row(self, file: Path, name: str, translator: Translator, row: TableRow) -> _Row | None:
        """The checked row; None for one that is bad or left out."""
        self.report.rows += 1
        if row.problem:
            self._bad(file, row, row.problem)
            return None
        values = {**row.values, ROW: row.number, FILE: name}
        event: dict[str, object] = {}
        try:
            event = translator.event(values)
            value = _encode(event)
            decoded = decode(value, self._now, max_bytes=self._max_bytes, future_tolerance=self._tolerance)
            labels = self._labels_of(translator, values, decoded.transaction)
        except LeftOut as rule:
            self.report.left_out[str(rule)] += 1
            return None
        except (BadValue, UnicodeEncodeError, Rejected) as error:
            self._bad(file, row, self._in_words(translator, error, event, row.text))
            return None
        self._count(translator, decoded, labels)
        if len(self.report.samples) < SAMPLES:
            before = row.text or json.dumps(row.values, default=str, ensure_ascii=False)
            self.report.samples.append(Sample(row.number, before, value.decode()))
        return _Row(value, decoded, labels)

    def _labels_of(
        self, translator: Translator, values: dict[str, object], transaction: Transaction
    ) -> list[TimedLabel]:
        """The labels of a transaction."""
        if self._labels is not None:
            labels = self._labels.get(transaction.transaction_id, [])
            if labels:
                self._labelled.add(transaction.transaction_id)
        else:
            label = translator.label(values)
            labels = [label] if label else []
        return self._timed(labels, transaction)

    def _timed(self, labels: Sequence[RowLabel], transaction: Transaction) -> list[TimedLabel]:
        """The labels of a transaction with the times at which they are known."""
        timed = []
        for label in labels:
            known_at = label.known_at or transaction.timestamp + self._label_delay
            if known_at < transaction.timestamp - MOST_BEFORE:
                raise BadValue("label", "known_at is before the payment", known_at.isoformat())
            timed.append((label, max(known_at, transaction.timestamp)))
        return timed

    def _count(self, translator: Translator, decoded: Decoded, labels: list[TimedLabel]) -> None:
        report, at = self.report, decoded.transaction.timestamp
        report.transactions += 1
        report.labels += len(labels)
        report.frauds += sum(label.is_fraud for label, _ in labels)
        if report.first is None or at < report.first:
            report.first = at
        if report.last is None or at > report.last:
            report.last = at
        if self._only_midnights:
            self._only_midnights = at.astimezone(translator.zone).time() == MIDNIGHT

    def _in_words(
        self,
        translator: Translator,
        error: BadValue | UnicodeEncodeError | Rejected,
        event: dict[str, object],
        record: str,
    ) -> str:
        """The broken rule with the field's column and value, and what to do."""
        if isinstance(error, BadValue):
            return f"{error.field}: {error}"
        if isinstance(error, UnicodeEncodeError):
            return "not UTF-8; give the file's encoding as csv.encoding in the mapping"
        name, _, rule = error.detail.partition(": ")
        if name not in translator.origin:
            return error.detail
        value = event.get(name)
        text = bytes(value).decode() if isinstance(value, msgspec.Raw) else str(value)
        it_is = "" if value is None else f" (it is {text[:80]!r})"
        hint = _HINTS.get(error.reason)
        if error.reason is Reason.OUT_OF_RANGE and name == "amount" and text.startswith("-"):
            hint = _NEGATIVE
        path = re.fullmatch("column '(.+)'", translator.origin[name])
        if value is None and path and record.startswith("{"):
            hint = missing_path(record, path[1])
        return f"{name}: {translator.origin[name]}: {rule}{it_is}{'; ' + hint if hint else ''}"

    def _bad(self, file: Path, row: TableRow, problem: str) -> None:
        named = f"{'line' if row.text else 'row'} {row.number}: {problem}"
        if not self._skip_bad:
            raise BadRow(
                f"{file}: {named}. Nothing was sent. Fix the row or the mapping, or leave bad rows out "
                "with --skip-bad"
            )
        self._rejects.add(file, row, problem)
        self.report.bad_rows += 1
        if len(self.report.examples) < EXAMPLES:
            self.report.examples.append(named)


def _add(sorter: ExternalSort, row: _Row) -> None:
    """Puts a transaction at its time, and its labels at the times at which they are known."""
    transaction = row.decoded.transaction
    at, key = micros(transaction.timestamp), transaction.user_id.encode()
    sorter.add(2 * at + TRANSACTION, key, row.value)
    _add_labels(sorter, transaction, row.labels)


def _add_labels(sorter: ExternalSort, transaction: Transaction, labels: Sequence[TimedLabel]) -> None:
    for given, known_at in labels:
        label = Label(
            transaction.transaction_id,
            transaction.timestamp,
            given.is_fraud,
            known_at,
            given.scenario,
            transaction.user_id,
            transaction.merchant_id,
            transaction.device,
            transaction.merchant_category,
            transaction.transaction_location,
            *(getattr(transaction, name) for name in CATEGORIES),
        )
        sorter.add(2 * micros(known_at) + LABEL, transaction.user_id.encode(), encode_label(label))


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
