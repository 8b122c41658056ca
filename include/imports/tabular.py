"""Reads CSV and Parquet files a chunk at a time, with the number of each row."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from include.events.mapping import Csv, MappingError

CHUNK_ROWS = 10_000  # of a Parquet file
CHUNK_BYTES = 2**20  # of a CSV file


class UnreadableFile(ValueError):
    """A file is neither CSV nor Parquet, or is damaged; the message names it."""


class Chunk(NamedTuple):
    """Rows of a file.

    numbers: of the rows. In a CSV file the header is row 1.
    values: a list for each column asked for; texts in a CSV file.
    malformed: numbers of rows whose number of columns is not the file's, and that number.
    """

    numbers: Sequence[int]
    values: list[list[object]]
    malformed: list[tuple[int, int]]


class CsvTable:
    """A CSV file; `columns` are its own, `done` of `total` bytes have been read."""

    def __init__(self, path: Path, options: Csv):
        self._path, self._options = path, options
        self.total, self.done = path.stat().st_size, 0
        try:
            with path.open("rb") as file, self._open(file, [], []) as reader:
                self.columns = reader.schema.names
        except (pa.ArrowException, LookupError) as error:
            raise UnreadableFile(f"{path}: {error}") from None

    def chunks(self, columns: Sequence[str]) -> Iterator[Chunk]:
        """The rows, once, with the values of these columns as text.

        Raises:
            UnreadableFile
        """
        for column in columns:
            if self.columns.count(column) > 1:
                raise UnreadableFile(f"{self._path}: the column {column!r} comes twice")
        number = 1 if self._options.columns is None else 0
        malformed: list[tuple[int, int]] = []  # filled while Arrow reads, which is ahead of the batch
        skipped: set[int] = set()
        try:
            with self._path.open("rb") as file, self._open(file, columns, malformed) as reader:
                for batch in reader:
                    so_far, malformed[:] = malformed[:], []
                    skipped.update(row for row, _ in so_far)
                    numbers: list[int] = []
                    while len(numbers) < len(batch):
                        number += 1
                        if number not in skipped:
                            numbers.append(number)
                    self.done = min(self.done + CHUNK_BYTES, self.total)  # the file itself is read far ahead
                    yield Chunk(numbers, [_texts(column) for column in batch.columns], so_far)
        except pa.ArrowException as error:
            raise UnreadableFile(f"{self._path}, after row {number}: {error}") from None
        self.done = self.total
        if malformed:
            yield Chunk([], [[] for _ in columns], malformed)

    def _open(
        self, file: BinaryIO, columns: Sequence[str], malformed: list[tuple[int, int]]
    ) -> pyarrow.csv.CSVStreamingReader:
        def note(row: pyarrow.csv.InvalidRow) -> str:
            malformed.append((row.number, row.actual_columns))
            return "skip"

        return pyarrow.csv.open_csv(
            file,
            # One thread: rows have numbers only then.
            pyarrow.csv.ReadOptions(
                use_threads=False,
                block_size=CHUNK_BYTES,
                encoding=self._options.encoding,
                column_names=self._options.columns,
            ),
            pyarrow.csv.ParseOptions(
                delimiter=self._options.delimiter, newlines_in_values=True, invalid_row_handler=note
            ),
            pyarrow.csv.ConvertOptions(
                column_types={name: pa.binary() for name in columns},
                include_columns=columns,
                strings_can_be_null=False,
            ),
        )


def _texts(column: pa.Array) -> list[object]:
    try:
        return list(column.cast(pa.string()).to_pylist())
    except pa.ArrowInvalid:  # some value is not UTF-8: encoding the row's event fails later, with its number
        return list(column.to_pylist())


class ParquetTable:
    """A Parquet file; `columns` are its own, `done` of `total` rows have been read."""

    def __init__(self, path: Path):
        self._path = path
        try:
            self._file = pyarrow.parquet.ParquetFile(path)
        except pa.ArrowException as error:
            raise UnreadableFile(f"{path}: {error}") from None
        self.columns = self._file.schema_arrow.names
        self.total = self._file.metadata.num_rows
        self.done = 0

    def chunks(self, columns: Sequence[str]) -> Iterator[Chunk]:
        """The rows, once, with the values of these columns.

        Raises:
            UnreadableFile
        """
        try:
            for batch in self._file.iter_batches(CHUNK_ROWS, columns=list(columns)):
                numbers = range(self.done + 1, self.done + 1 + len(batch))
                self.done += len(batch)
                yield Chunk(numbers, [_values(batch[column]) for column in columns], [])
        except pa.ArrowException as error:
            raise UnreadableFile(f"{self._path}, after row {self.done}: {error}") from None


def _values(column: pa.Array) -> list[object]:
    kind = column.type
    if pa.types.is_timestamp(kind) and kind.unit == "ns":  # Python's times have microseconds
        column = column.cast(pa.timestamp("us", kind.tz), safe=False)
    return list(column.to_pylist())


def open_table(path: Path, csv: Csv) -> CsvTable | ParquetTable:
    """The table in a file; the suffix of its name decides the format.

    Raises:
        UnreadableFile, MappingError
    """
    if not path.is_file():
        raise UnreadableFile(f"{path}: no such file")
    if path.suffix.lower() == ".parquet":
        return ParquetTable(path)
    if path.suffix.lower() not in (".csv", ".tsv", ".txt"):
        raise UnreadableFile(f"{path}: its name must end in .csv, .tsv, .txt or .parquet")
    if len(csv.delimiter) != 1:
        raise MappingError(f"csv.delimiter: must be one character, is {csv.delimiter!r}")
    return CsvTable(path, csv)
