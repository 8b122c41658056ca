"""Files are read with the numbers of their lines, whatever their form."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zipfile
from datetime import datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest

from include.events.mapping import Csv, MappingError
from include.imports import tabular
from include.imports.sources import UnreadableFile, find_files
from include.imports.tabular import open_table


def read(path: Path, content: bytes, wanted: list[str], **options) -> tuple[list[tuple], list[tuple]]:
    """Good rows with their numbers, and number and problem of the others."""
    path.write_bytes(content)
    table = open_table(path, Csv(**options))
    rows = [row for chunk in table.chunks(wanted) for row in chunk]
    assert table.done == table.total
    good = [(row.number, *(row.values[name] for name in wanted)) for row in rows if not row.problem]
    return good, [(row.number, row.problem) for row in rows if row.problem]


def test_values_are_texts_as_written_and_rows_have_the_number_of_their_line(tmp_path):
    rows, bad = read(tmp_path / "a.csv", b'a,b,c\n01,"x, ""y""",\nNA,null,3\n', ["c", "a", "b"])
    assert rows == [(2, "", "01", 'x, "y"'), (3, "3", "NA", "null")]
    assert bad == []


def test_blank_lines_and_line_breaks_in_values_count_as_lines(tmp_path):
    content = b'# written by a till\n\nid,text\n1,a\n\n\n2,"two\nlines"\n3,b\n4\n5,c'
    rows, bad = read(tmp_path / "a.csv", content, ["id", "text"], skip_lines=1)
    assert rows == [(4, "1", "a"), (7, "2", "two\nlines"), (9, "3", "b"), (11, "5", "c")]
    assert bad == [(10, "has 1 columns, the file has 2")]


def test_rows_with_too_few_or_too_many_values_are_named_and_the_others_keep_their_numbers(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(tabular, "CHUNK_ROWS", 20)
    lines = [b"%d\n" % i if i % 50 == 0 else b"%d,%d\n" % (i, i) for i in range(300)]
    rows, bad = read(tmp_path / "a.csv", b"a,b\n" + b"".join(lines) + b"1,2,3\n", ["a"])
    assert [number for number, _ in bad] == [*range(2, 302, 50), 302]
    assert rows == [(i + 2, str(i)) for i in range(300) if i % 50]


def test_a_quote_that_is_not_closed_is_one_bad_row(tmp_path):
    rows, bad = read(tmp_path / "a.csv", b'a,b\n1,2\n3,"4\n5,6\n7,"8"\n9,10\n', ["a"])
    assert rows == [(2, "1"), (6, "9")]
    assert [number for number, _ in bad] == [3] and "a quote is perhaps not closed (up to line 5)" in bad[0][
        1
    ]
    rows, bad = read(tmp_path / "b.csv", b'a,b\n1,2\n3,"4\n', ["a"])
    assert rows == [(2, "1")] and bad[0][0] == 3


def test_quotes_are_what_the_mapping_says(tmp_path):
    content = b"a,b\n'x, y',5\" pipe\n"
    assert read(tmp_path / "a.csv", content, ["a", "b"], quote="'")[0] == [(2, "x, y", '5" pipe')]
    assert read(tmp_path / "b.csv", b'a,b\n"x,y"\n', ["a", "b"], quote="")[0] == [(2, '"x', 'y"')]


def test_separators_encodings_and_byte_order_marks(tmp_path):
    content = 'a;b\r\n"two\nlines";é\r\n'
    rows = [(2, "two\nlines", "é")]
    for encoding in ("latin-1", "utf-16", "cp1252"):
        assert (
            read(tmp_path / "a.csv", content.encode(encoding), ["a", "b"], delimiter=";", encoding=encoding)[
                0
            ]
            == rows
        )
    assert read(tmp_path / "b.csv", b"\xef\xbb\xbf" + content.encode(), ["a", "b"], delimiter=";")[0] == rows
    assert read(tmp_path / "c.tsv", b"x\ty\n", ["b"], delimiter="\t", columns=["a", "b"])[0] == [(1, "y")]
    assert read(tmp_path / "d.csv", b"a,b\r1,2\r", ["a", "b"])[0] == [(2, "1", "2")]


def test_undecodable_bytes_stay_marked_in_their_row(tmp_path):
    assert read(tmp_path / "a.csv", b"a\nok\n\xff\n", ["a"])[0] == [(2, "ok"), (3, "\udcff")]


@pytest.mark.parametrize(
    ("encoding", "likely"), [("cp1252", "cp1252"), ("utf-16", "utf-16"), ("utf-16-le", "utf-16-le")]
)
def test_an_undecodable_header_names_the_likely_encoding_which_reads_it(tmp_path, encoding, likely):
    content = "Käufer;Betrag\nMüller;1\n".encode(encoding)
    with pytest.raises(UnreadableFile, match=f"line 1: not utf8; probably {likely}: add `csv:"):
        read(tmp_path / "a.csv", content, [])
    options = {"delimiter": ";", "encoding": likely}
    assert read(tmp_path / "a.csv", content, ["Käufer"], **options)[0] == [(2, "Müller")]


def zipped(content: bytes, *names: str) -> bytes:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        for name in names:
            file.writestr(name, content)
    return archive.getvalue()


def zstd(content: bytes) -> bytes:
    return pa.compress(content, "zstd", asbytes=True)


@pytest.mark.parametrize(
    "compress", [gzip.compress, bz2.compress, lzma.compress, zstd], ids=lambda f: f.__name__
)
@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "a"])
def test_compressed_files_are_read_whatever_their_name(tmp_path, compress, name):
    content = b"a,b\n" + b"1,2\n" * 50_000
    rows, _ = read(tmp_path / name, compress(content), ["a", "b"])
    assert len(rows) == 50_000 and rows[0] == (2, "1", "2")
    if name != "a.csv":
        return
    lines = b'{"a": 1}\n' * 3
    assert len(read(tmp_path / "a.jsonl.gz", compress(lines), ["a"])[0]) == 3
    with pytest.raises(UnreadableFile, match=r"a\.csv"):
        read(tmp_path / "a.csv", compress(content)[:-20], ["a"])


def test_a_zip_is_read_if_it_holds_one_file(tmp_path):
    content = b"a\n1\n"
    assert read(tmp_path / "a.csv", zipped(content, "x/", "x/y.csv"), ["a"])[0] == [(2, "1")]
    with pytest.raises(UnreadableFile, match="a zip archive of 2 files"):
        read(tmp_path / "a.csv", zipped(content, "x.csv", "y.csv"), ["a"])
    with pytest.raises(UnreadableFile, match="an Excel workbook: save its sheet as CSV"):
        read(tmp_path / "a.csv", zipped(content, "[Content_Types].xml", "xl/workbook.xml"), ["a"])


def test_json_lines_have_paths_and_keep_the_digits_of_numbers(tmp_path):
    content = (
        b'\xef\xbb\xbf{"id": 1, "sum": {"value": 0.10, "of": [5, 6]}, "a.b": "x"}\n\n{"id": 2}\n[]\n{"id"\n'
    )
    rows, bad = read(tmp_path / "a.jsonl", content, ["id", "sum.value", "sum.of.1", "a.b"])
    assert rows == [(1, 1, "0.10", 6, "x"), (3, 2, None, None, None)]
    assert bad == [(4, "valid JSON, but no object"), (5, "malformed JSON")]


def test_parquet_values_keep_their_types_and_structs_have_paths(tmp_path, monkeypatch):
    monkeypatch.setattr(tabular, "CHUNK_ROWS", 2)
    at = datetime(2026, 1, 31, 12)
    table = pa.table(
        {
            "n": [1, 2, None],
            "x": [0.5, None, 2.0],
            "at": pa.array([at, at, None], pa.timestamp("ns")),
            "s": pa.array(["a", "b", "a"]).dictionary_encode(),
            "deep": [{"er": {"v": 7}}, None, {"er": None}],
        }
    )
    pa.parquet.write_table(table, tmp_path / "a.parquet")
    opened = open_table(tmp_path / "a.parquet", Csv())
    assert opened.total == 3
    assert opened.columns == ["n", "x", "at", "s", "deep", "deep.er", "deep.er.v"]
    wanted = ["s", "n", "at", "deep.er.v"]
    rows = [(row.number, *row.values.values()) for chunk in opened.chunks(wanted) for row in chunk]
    assert rows == [(1, "a", 1, at, 7), (2, "b", 2, at, None), (3, "a", None, None, None)]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"", "the file is empty"),
        ("a.csv", b"\n\n", "no header"),
        ("a.xls", b"\xd0\xcf\x11\xe0 and more", "an Excel workbook"),
        ("a.parquet", b"PAR1 and nothing", "a.parquet: "),
        ("a.json", b'[{"a": 1}]', "a JSON array"),
        ("a.csv", b"a,a\n1,2\n", "'a' comes twice"),
        ("a.csv", b"a" * (2**20 + 1), "line 1: longer than 1,048,576 characters"),
        ("a.csv", bytes(range(256)) * 20, "no text: is it a CSV file?"),
    ],
)
def test_files_that_cannot_be_read_are_named(tmp_path, name, content, message):
    with pytest.raises(UnreadableFile) as error:
        read(tmp_path / name, content, ["a"])
    assert message in str(error.value) and name in str(error.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"delimiter": ";;"}, "csv.delimiter: must be one character"),
        ({"quote": "--"}, "csv.quote: must be one character"),
        ({"quote": ","}, "csv.quote: must be one character other than delimiter"),
        ({"encoding": "klingon"}, "csv.encoding: unknown encoding: klingon"),
        ({"encoding": "base64"}, "csv.encoding: 'base64' is not a text encoding"),
    ],
)
def test_wrong_options_are_named(tmp_path, options, message):
    with pytest.raises(MappingError, match=message):
        read(tmp_path / "a.csv", b"a\n1\n", ["a"], **options)


def test_a_header_without_a_line_end_has_no_rows(tmp_path):
    assert read(tmp_path / "a.csv", b"a,b", ["a"]) == ([], [])


def test_a_folder_or_a_pattern_names_its_files_in_order(tmp_path):
    for name in ("b.csv", "a.csv", "_SUCCESS", ".a.csv.crc", "day=2/c.csv", "a.rejected.csv"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("a\n")
    names = [str(path.relative_to(tmp_path)) for path in find_files(str(tmp_path))]
    assert names == ["a.csv", "b.csv", "day=2/c.csv"]
    assert [path.name for path in find_files(f"{tmp_path}/[ab].csv")] == ["a.csv", "b.csv"]
    (tmp_path / "empty").mkdir()
    for source, message in (
        ("empty", "no file in this folder"),
        ("absent.csv", "no such file"),
        ("x*", "no such"),
    ):
        with pytest.raises(UnreadableFile, match=message):
            find_files(str(tmp_path / source))
