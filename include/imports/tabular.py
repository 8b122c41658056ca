"""Reads CSV, JSON lines and Parquet files a chunk at a time, with the number of each row in its file."""

from __future__ import annotations

import codecs
import csv
import io
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import BinaryIO, NamedTuple, Protocol

import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet

from include.events.live_mapping import json_record
from include.events.mapping import Csv, MappingError
from include.events.strict_json import Rejected
from include.events.translate import at_path
from include.imports.sources import DAMAGED, UnreadableFile, inner_name, open_bytes

CHUNK_ROWS = 10_000
LONGEST_LINE = 2**20  # characters
SAMPLE_BYTES = 2**16  # from which an encoding is guessed


class TableRow(NamedTuple):
    """A row of a file.

    number: of its first line in the file; in a Parquet file, of the row.
    values: by column or path; texts in a CSV file.
    text: the row as the file has it; empty in a Parquet file.
    problem: why it cannot be read; values are then empty.
    """

    number: int
    values: dict[str, object]
    text: str
    problem: str = ""


class Table(Protocol):
    """A file of rows.

    Attributes:
        columns: the file's own; None when each row has its own, as in JSON lines.
        total, done: size of the file, and how much of it was read.
    """

    path: Path
    total: int
    done: int

    @property
    def columns(self) -> list[str] | None: ...

    def chunks(self, columns: Sequence[str]) -> Iterator[list[TableRow]]:
        """The rows, once, with the values of these columns.

        Raises:
            UnreadableFile
        """


def open_table(path: Path, options: Csv) -> Table:
    """The table in a file. Its first bytes decide the format, then its name.

    Raises:
        UnreadableFile, MappingError
    """
    if not path.is_file():
        raise UnreadableFile(f"{path}: no such file")
    with open_bytes(path) as (content, _):
        start = content.read(512)
    suffix = Path(inner_name(path)).suffix.lower()
    if start.startswith(b"\xd0\xcf\x11\xe0"):
        raise UnreadableFile(f"{path}: an Excel workbook: save its sheet as CSV")
    if start.startswith(b"PAR1") or suffix == ".parquet":
        return ParquetTable(path)
    if start.lstrip().startswith(b"[") and suffix in (".json", ".jsonl", ".ndjson"):
        raise UnreadableFile(f"{path}: a JSON array: write each record on a line of its own (jq -c '.[]')")
    if suffix in (".json", ".jsonl", ".ndjson") or (
        suffix not in (".csv", ".tsv", ".txt") and start.lstrip().startswith(b"{")
    ):
        return JsonTable(path)
    if not start:
        raise UnreadableFile(f"{path}: the file is empty")
    return CsvTable(path, options)


class _TextTable:
    """A file that is read row by row; of its `total` bytes, compressed ones too, `done` are read."""

    def __init__(self, path: Path):
        self.path = path
        self.total, self.done = path.stat().st_size, 0

    def chunks(self, columns: Sequence[str]) -> Iterator[list[TableRow]]:
        with open_bytes(self.path) as (content, position):
            rows = self._rows(content, columns)
            while chunk := list(islice(rows, CHUNK_ROWS)):
                # At its end the rows' reader has closed the file, which then has no position.
                self.done = position() if len(chunk) == CHUNK_ROWS else self.total
                yield chunk
            self.done = self.total

    def _rows(self, content: BinaryIO, columns: Sequence[str]) -> Iterator[TableRow]:
        raise NotImplementedError


class JsonTable(_TextTable):
    """A file with a JSON object on each line."""

    columns: list[str] | None = None

    def _rows(self, content: BinaryIO, columns: Sequence[str]) -> Iterator[TableRow]:
        for number, line in enumerate(_lines(content), 1):
            line = line.removeprefix(codecs.BOM_UTF8) if number == 1 else line
            if line.strip():
                yield _json_row(number, line, columns)


def _lines(content: BinaryIO) -> Iterator[bytes]:
    """The lines of a file; of one that is too long only its beginning."""
    buffered = io.BufferedReader(content) if not hasattr(content, "peek") else content  # type: ignore[type-var]
    while line := buffered.readline(LONGEST_LINE):
        yield line
        while not line.endswith(b"\n") and (line := buffered.readline(LONGEST_LINE)):
            pass


def _json_row(number: int, line: bytes, columns: Sequence[str]) -> TableRow:
    text = line.decode("utf8", "backslashreplace").strip()
    if len(line) == LONGEST_LINE and not line.endswith(b"\n"):
        return TableRow(number, {}, text[:1_000], f"longer than {LONGEST_LINE:,} bytes")
    try:
        record = json_record(line.strip())
    except Rejected as error:
        return TableRow(number, {}, text, error.detail)
    return TableRow(number, {column: at_path(record, column) for column in columns}, text)


def missing_path(text: str, path: str) -> str:
    """Which part of a path a JSON record has not, and what it has there."""
    try:
        record: object = json_record(text.encode("utf8", "surrogatepass"))
    except Rejected:
        return ""
    before = ""
    for name in path.split("."):
        if not isinstance(record, dict):
            return f"{before!r} has no values in it"
        if name not in record:
            inside = ", ".join(list(record)[:12]) or "nothing"
            where = f"in {before!r}" if before else "in the record"
            return f"there is no {name!r} {where}, which has {inside}"
        record, before = record[name], f"{before}.{name}" if before else name
    return ""


class CsvTable(_TextTable):
    """A CSV file; a row's number is that of its first line."""

    columns: list[str]

    def __init__(self, path: Path, options: Csv):
        super().__init__(path)
        self._options = options
        _check(options)
        with open_bytes(path) as (content, _):
            sample = content.read(SAMPLE_BYTES)
        with open_bytes(path) as (content, _):
            lines = _TextLines(path, content, options)
            header = next(self._records(lines), None)
            if header is None and options.columns is None:
                raise UnreadableFile(
                    f"{path}: no header: the file has {lines.number} lines, all empty or skipped"
                )
        if header is None or options.columns is not None:
            self.columns = options.columns or []
        elif header[2]:
            raise UnreadableFile(f"{path}, line {header[0]}: the header: {header[2]}")
        elif _undecodable(lines.record):
            raise UnreadableFile(f"{path}, line {header[0]}: {_encoding_hint(sample, options.encoding)}")
        else:
            self.columns = [name.strip() for name in header[1]]

    def _rows(self, content: BinaryIO, columns: Sequence[str]) -> Iterator[TableRow]:
        for column in columns:
            if self.columns.count(column) > 1:
                raise UnreadableFile(f"{self.path}: the column {column!r} comes twice")
        indexes = [(column, self.columns.index(column)) for column in columns]
        width = len(self.columns)
        lines = _TextLines(self.path, content, self._options)
        records = self._records(lines)
        if self._options.columns is None:
            next(records)
        for number, values, problem in records:
            if not problem and len(values) != width:
                problem = f"has {len(values)} columns, the file has {width}"
            given: dict[str, object] = {} if problem else {column: values[index] for column, index in indexes}
            yield TableRow(number, given, lines.record.rstrip("\r\n"), problem)

    def _records(self, lines: _TextLines) -> Iterator[tuple[int, list[str], str]]:
        """Number, values and problem of each record that is not empty."""
        quote = self._options.quote
        reader = csv.reader(
            lines,
            delimiter=self._options.delimiter,
            quotechar=quote or None,
            quoting=csv.QUOTE_MINIMAL if quote else csv.QUOTE_NONE,
            strict=True,
        )
        while True:
            lines.begin()
            try:
                values = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                problem = f"{error}; a quote is perhaps not closed" if quote else str(error)
                if lines.number > lines.first:
                    problem += f" (up to line {lines.number})"
                yield lines.first, [], problem
                continue
            if values:
                yield lines.first, values, ""


class _TextLines:
    """The lines of a file, decoded; `record` is what was read since `begin`, which is at line `first`.

    A byte that the encoding does not have becomes a lone surrogate.
    """

    def __init__(self, path: Path, content: BinaryIO, options: Csv):
        self._path = path
        encoding = "utf-8-sig" if _is_utf8(options.encoding) else options.encoding
        self._text = io.TextIOWrapper(content, encoding, errors=_ERRORS, newline="")
        self.number = 0
        for _ in range(options.skip_lines):
            self._read()
        self.begin()

    def begin(self) -> None:
        self.record, self.first = "", self.number + 1

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._read()
        if not line:
            raise StopIteration
        self.record += line
        return line

    def _read(self) -> str:
        try:
            line = self._text.readline(LONGEST_LINE)
        except UnicodeError as error:
            raise UnreadableFile(f"{self._path}, line {self.number + 1}: {error}") from None
        if len(line) == LONGEST_LINE and line[-1] not in "\r\n":
            raise UnreadableFile(
                f"{self._path}, line {self.number + 1}: longer than {LONGEST_LINE:,} characters: is it a CSV file?"
            )
        self.number += bool(line)
        return line


def _check(options: Csv) -> None:
    """Raises `MappingError` for options that cannot be followed."""
    if len(options.delimiter) != 1 or options.delimiter in "\r\n":
        raise MappingError(f"csv.delimiter: must be one character, is {options.delimiter!r}")
    if len(options.quote) > 1 or options.quote in ("\r", "\n", options.delimiter):
        raise MappingError(f"csv.quote: must be one character other than delimiter, is {options.quote!r}")
    try:
        io.TextIOWrapper(io.BytesIO(), options.encoding)
    except (LookupError, ValueError) as error:
        raise MappingError(f"csv.encoding: {error}") from None


def _is_utf8(encoding: str) -> bool:
    return codecs.lookup(encoding).name == "utf-8"


def _mark(error: UnicodeError) -> tuple[str, int]:
    """Bytes that an encoding does not have, as the lone surrogates of `surrogateescape`."""
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return "".join(chr(0xDC00 + max(byte, 0x80)) for byte in error.object[error.start : error.end]), error.end


_ERRORS = "fraudstream.mark"
codecs.register_error(_ERRORS, _mark)


def _undecodable(text: str) -> bool:
    return "\0" in text or (not text.isascii() and any("\udc80" <= letter <= "\udcff" for letter in text))


def _encoding_hint(sample: bytes, encoding: str) -> str:
    likely = likely_encoding(sample)
    if b"\0" in sample and not likely.startswith("utf-16"):
        return "no text: is it a CSV file?"
    return f"not {encoding}; probably {likely}: add `csv: {{encoding: {likely}}}` to the mapping"


def likely_encoding(sample: bytes) -> str:
    """The likeliest encoding of text that is not UTF-8."""
    if sample.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    if sample.count(0) > len(sample) // 4:
        return "utf-16-le" if sample[1::2].count(0) > sample[::2].count(0) else "utf-16-be"
    try:
        sample.decode("cp1252")
    except UnicodeDecodeError:
        return "latin-1"
    return "cp1252"


_UNREADABLE = (*DAMAGED, ValueError, LookupError, OverflowError, MemoryError)


class ParquetTable:
    """A Parquet file; `columns` are its own and the paths of values within structs."""

    columns: list[str]

    def __init__(self, path: Path):
        self.path, self.done = path, 0
        try:
            self._file = pyarrow.parquet.ParquetFile(path)
            self.columns = list(_paths(self._file.schema_arrow))
        except _UNREADABLE as error:
            raise UnreadableFile(f"{path}: no readable Parquet: {_one_line(error)}") from None
        self.total = self._file.metadata.num_rows

    def chunks(self, columns: Sequence[str]) -> Iterator[list[TableRow]]:
        names = self._file.schema_arrow.names
        paths = [[column] if column in names else _steps(column, names) for column in columns]
        wanted = list(dict.fromkeys(path[0] for path in paths))
        try:
            for batch in self._file.iter_batches(CHUNK_ROWS, columns=wanted):
                values = [_values(batch, path) for path in paths]
                numbered = zip(range(self.done + 1, self.done + 1 + len(batch)), *values, strict=True)
                rows = [
                    TableRow(number, dict(zip(columns, row, strict=True)), "") for number, *row in numbered
                ]
                self.done += len(batch)
                yield rows
        except _UNREADABLE as error:
            raise UnreadableFile(f"{self.path}, after row {self.done}: {_one_line(error)}") from None


def _paths(fields: Sequence[pa.Field] | pa.Schema, before: str = "") -> Iterator[str]:
    for field in fields:
        yield before + field.name
        if pa.types.is_struct(field.type):
            yield from _paths(
                [field.type.field(i) for i in range(field.type.num_fields)], f"{before}{field.name}."
            )


def _steps(path: str, names: Sequence[str]) -> list[str]:
    """The names of a path, the first of which may have points in it."""
    first = next(name for name in sorted(names, key=len, reverse=True) if path.startswith(f"{name}."))
    return [first, *path.removeprefix(f"{first}.").split(".")]


def _values(batch: pa.RecordBatch, path: Sequence[str]) -> list[object]:
    column = batch[path[0]]
    for name in path[1:]:
        column = pyarrow.compute.struct_field(column, name)
    kind = column.type
    if pa.types.is_timestamp(kind) and kind.unit == "ns":  # Python's times have microseconds
        column = column.cast(pa.timestamp("us", kind.tz), safe=False)
    return list(column.to_pylist())


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]
