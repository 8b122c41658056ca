"""Files are read with the numbers of their rows, whatever their form."""

from __future__ import annotations

from datetime import datetime

import pyarrow as pa
import pyarrow.parquet
import pytest

from include.events.mapping import Csv, MappingError
from include.imports import tabular
from include.imports.tabular import UnreadableFile, open_table


def read(path, content: bytes, wanted: list[str], **options) -> tuple[list[tuple], list[tuple[int, int]]]:
    """Rows with their numbers, and the malformed ones."""
    path.write_bytes(content)
    table = open_table(path, Csv(**options))
    rows, malformed = [], []
    for chunk in table.chunks(wanted):
        rows += zip(chunk.numbers, *chunk.values, strict=True)
        malformed += chunk.malformed
    assert table.done == table.total
    return rows, malformed


def test_values_are_texts_as_written_and_rows_are_numbered_like_a_spreadsheets(tmp_path):
    rows, malformed = read(tmp_path / "a.csv", b'a,b,c\n01,"x, ""y""",\nNA,null,3\n', ["c", "a", "b"])
    assert rows == [(2, "", "01", 'x, "y"'), (3, "3", "NA", "null")]
    assert malformed == []


def test_rows_with_too_few_or_too_many_values_are_named_and_the_others_keep_their_numbers(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(tabular, "CHUNK_BYTES", 200)
    content = (
        b"a,b\n"
        + b"".join(b"%d\n" % i if i % 50 == 0 else b"%d,%d\n" % (i, i) for i in range(300))
        + b"1,2,3\n"
    )
    rows, malformed = read(tmp_path / "a.csv", content, ["a"])
    assert malformed == [(i + 2, 1) for i in range(0, 300, 50)] + [(302, 3)]
    assert rows == [(i + 2, str(i)) for i in range(300) if i % 50]


def test_separators_encodings_line_breaks_in_values_and_byte_order_marks(tmp_path):
    content = 'a;b\r\n"two\nlines";é\r\n'
    rows = [(2, "two\nlines", "é")]
    assert (
        read(tmp_path / "a.csv", content.encode("latin-1"), ["a", "b"], delimiter=";", encoding="latin-1")[0]
        == rows
    )
    assert read(tmp_path / "b.csv", b"\xef\xbb\xbf" + content.encode(), ["a", "b"], delimiter=";")[0] == rows
    assert read(tmp_path / "c.tsv", b"x\ty\n", ["b"], delimiter="\t", columns=["a", "b"])[0] == [(1, "y")]


def test_a_text_that_is_not_utf8_stays_bytes(tmp_path):
    assert read(tmp_path / "a.csv", b"a\nok\n\xff\n", ["a"])[0] == [(2, b"ok"), (3, b"\xff")]


def test_parquet_values_keep_their_types(tmp_path, monkeypatch):
    monkeypatch.setattr(tabular, "CHUNK_ROWS", 2)
    at = datetime(2026, 1, 31, 12)
    table = pa.table(
        {
            "n": [1, 2, None],
            "x": [0.5, None, 2.0],
            "at": pa.array([at, at, None], pa.timestamp("ns")),
            "s": pa.array(["a", "b", "a"]).dictionary_encode(),
        }
    )
    pa.parquet.write_table(table, tmp_path / "a.parquet")
    opened = open_table(tmp_path / "a.parquet", Csv())
    assert (opened.columns, opened.total) == (["n", "x", "at", "s"], 3)
    rows = [
        row
        for chunk in opened.chunks(["s", "n", "at"])
        for row in zip(chunk.numbers, *chunk.values, strict=True)
    ]
    assert rows == [(1, "a", 1, at), (2, "b", 2, at), (3, "a", None, None)]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"", "Empty CSV"),
        ("a.xlsx", b"x", "must end in .csv, .tsv, .txt or .parquet"),
        ("a.parquet", b"PAR1 and nothing", "a.parquet: "),
        ("a.csv", b"a,a\n1,2\n", "'a' comes twice"),
    ],
)
def test_files_that_cannot_be_read_are_named(tmp_path, name, content, message):
    with pytest.raises(UnreadableFile) as error:
        read(tmp_path / name, content, ["a"])
    assert message in str(error.value) and name in str(error.value)


def test_wrong_options_are_named(tmp_path):
    with pytest.raises(UnreadableFile, match="no such file"):
        open_table(tmp_path / "absent.csv", Csv())
    with pytest.raises(MappingError, match="csv.delimiter: must be one character"):
        read(tmp_path / "a.csv", b"a\n", ["a"], delimiter=";;")
    with pytest.raises(UnreadableFile, match="klingon"):
        read(tmp_path / "a.csv", b"a\n1\n", ["a"], encoding="klingon")
