"""Some rows of a file, or the newest records of a topic, and how they are written."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from include.broker import kafka
from include.events.live_mapping import json_record
from include.events.mapping import Csv
from include.events.strict_json import Rejected
from include.events.translate import at_path
from include.imports.sources import UnreadableFile, open_bytes
from include.imports.tabular import SAMPLE_BYTES, CsvTable, JsonTable, likely_encoding, open_table
from include.settings import Settings

ROWS = 1_000  # at the beginning of a file, and as many from what follows
LAST = 200_000  # row that is looked at
RECORDS = 500  # of each partition of a topic
DELIMITERS = ",;\t|"
DEEPEST = 6  # levels of a path


@dataclass
class Sample:
    """Columns or paths with some of their values in order of the rows, None where one is missing.

    csv has the options that differ from the usual ones; topic says that the rows are those of one.
    """

    name: str
    columns: dict[str, list[object]]
    csv: dict[str, object] = field(default_factory=dict)
    topic: bool = False

    @property
    def rows(self) -> int:
        return len(next(iter(self.columns.values()), []))


def sample_file(path: Path) -> Sample:
    """Rows of a file: its first ones, and some of those that follow.

    Raises:
        UnreadableFile: it is none that an import reads, or it has no rows.
    """
    options = Csv()
    written: dict[str, object] = {}
    table = open_table(path, Csv(columns=["any"]))  # the header is not looked at before its encoding is known
    if isinstance(table, CsvTable):
        written = _csv_options(path)
        options = Csv(**written)  # type: ignore[arg-type]
        table = open_table(path, options)
    if isinstance(table, JsonTable):
        columns = _of_records(_json_records(path))
    else:
        wanted = [name for name in table.columns or [] if name and not _is_parent(name, table.columns or [])]
        wanted = [name for name, times in Counter(wanted).items() if times == 1]
        columns = {name: [] for name in wanted}
        rows = (row for chunk in table.chunks(wanted) for row in chunk if not row.problem)
        for number, row in enumerate(islice(rows, LAST)):
            if number < ROWS or number % (LAST // ROWS) == 0:
                for name in wanted:
                    columns[name].append(row.values[name])
    sample = Sample(path.name, columns, written)
    if not sample.rows:
        raise UnreadableFile(f"{path}: it has no rows")
    return sample


def sample_topic(settings: Settings, topic: str) -> Sample:
    """The newest records of a topic that are JSON objects.

    Raises:
        KafkaError: the topic does not exist, or Kafka does not answer.
        UnreadableFile: none of the records is a JSON object.
    """
    ranges = {
        partition: kafka.Bounds(max(begin, end - RECORDS), end)
        for partition, (begin, end) in kafka.bounds(settings, topic).items()
    }
    values = (message.value() for message in kafka.records(settings, topic, ranges))
    columns = _of_records(_objects(value for value in values if value is not None))
    if not columns:
        raise UnreadableFile(f"the topic {topic} has no record that is a JSON object")
    return Sample(topic, columns, topic=True)


def _is_parent(name: str, names: Iterable[str]) -> bool:
    """Whether a column is a struct whose values have paths of their own."""
    return any(other.startswith(f"{name}.") for other in names)


def _objects(values: Iterable[bytes]) -> Iterator[dict[str, object]]:
    for value in values:
        try:
            yield json_record(value)
        except Rejected:
            continue


def _json_records(path: Path) -> list[dict[str, object]]:
    with open_bytes(path) as (content, _):
        lines = content.read(64 * SAMPLE_BYTES).removeprefix(b"\xef\xbb\xbf").splitlines()[: 2 * ROWS]
    return list(_objects(line.strip() for line in lines))


def _of_records(records: Iterable[dict[str, object]]) -> dict[str, list[object]]:
    """The values of each path of JSON objects."""
    kept = list(records)
    paths = dict.fromkeys(path for record in kept for path in _paths(record))
    return {path: [at_path(record, path) for record in kept] for path in paths}


def _paths(record: Mapping[str, object], before: str = "", depth: int = 1) -> Iterator[str]:
    for name, value in record.items():
        if isinstance(value, dict) and depth < DEEPEST:
            yield from _paths(value, f"{before}{name}.", depth + 1)
        elif value is not None and not isinstance(value, list):
            yield before + name


def _csv_options(path: Path) -> dict[str, object]:
    """Encoding, delimiter and lines before the header of a CSV file, where they are not the usual ones."""
    with open_bytes(path) as (content, _):
        start = content.read(SAMPLE_BYTES)
    options: dict[str, object] = {}
    try:
        text = start.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if error.start > len(start) - 4 and len(start) == SAMPLE_BYTES:  # cut within a letter
            text = start[: error.start].decode("utf-8-sig")
        else:
            options["encoding"] = likely_encoding(start)
            text = start.decode(str(options["encoding"]), "replace")
    if text.count("\0") > len(text) // 4:
        options["encoding"] = likely_encoding(start)
        text = start.decode(str(options["encoding"]), "replace")
    if len(start) == SAMPLE_BYTES:
        text = text[: text.rfind("\n") + 1] or text
    lines = text.splitlines(keepends=True)
    shapes = {delimiter: _shape(lines, delimiter) for delimiter in DELIMITERS}
    delimiter = max(DELIMITERS, key=lambda sign: (shapes[sign][0] > 1, shapes[sign][2], shapes[sign][0]))
    if delimiter != ",":
        options["delimiter"] = delimiter
    if skipped := shapes[delimiter][1]:
        options["skip_lines"] = skipped
    header = next(csv.reader(lines[skipped:], delimiter=delimiter), [])
    if header and any(_is_value(name) for name in header):
        options["columns"] = [f"column{number}" for number in range(1, len(header) + 1)]
    return options


def _shape(lines: list[str], delimiter: str) -> tuple[int, int, int]:
    """Most rows' number of values, the lines before the first of them, and how many rows have it."""
    reader = csv.reader(io.StringIO("".join(lines)), delimiter=delimiter)
    widths: list[tuple[int, int]] = []  # width, and lines before
    before = 0
    try:
        for row in reader:
            if row:
                widths.append((len(row), before))
            before = reader.line_num
    except csv.Error:
        pass
    if not widths:
        return 1, 0, 0
    width, times = Counter(width for width, _ in widths).most_common(1)[0]
    return width, next(before for other, before in widths if other == width), times if width > 1 else 0


def _is_value(text: str) -> bool:
    """Whether a cell is a number or a time and so no name of a column."""
    return (
        bool(text.strip())
        and not any(letter.isalpha() for letter in text.replace("T", "").replace("Z", ""))
        and any(letter.isdigit() for letter in text)
    )
