"""Whatever stands in a file, an import ends with a report or with one clear line."""

from __future__ import annotations

import gzip
import io
import json
import random
import zipfile
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.parquet
import pytest
import yaml
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from include.events.mapping import MappingError
from include.imports import importer
from include.imports.importer import BadRow, NothingToImport
from include.imports.sample import sample_file
from include.imports.sources import UnreadableFile
from include.imports.suggest import from_options, suggest
from include.settings import Settings

NOW = datetime(2026, 11, 26, 18, tzinfo=UTC)
CLEAR = (UnreadableFile, BadRow, NothingToImport, MappingError)
MAPPING = """
fields:
  transaction_id: id
  user_id: user
  timestamp: at
  amount: {column: sum, symbol: $, thousands: ","}
  currency: money
label: {column: bad, fraud: ["1"], honest: ["0"]}
"""
RECORDS = [
    {
        "id": f"t{i}",
        "user": "Zoë",
        "at": f"2026-10-01T08:00:{i:02}Z",
        "sum": f"{i}.50",
        "money": "EUR",
        "bad": str(i % 2),
    }
    for i in range(30)
]


def csv_file() -> bytes:
    header = ",".join(RECORDS[0])
    return "\n".join(
        [header, *(",".join(f'"{value}"' for value in row.values()) for row in RECORDS), ""]
    ).encode()


def parquet_file() -> bytes:
    file = io.BytesIO()
    pa.parquet.write_table(pa.Table.from_pylist(RECORDS), file)
    return file.getvalue()


def zip_file() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.csv", csv_file())
    return file.getvalue()


JSON = "".join(json.dumps(row) + "\n" for row in RECORDS).encode()
FILES = {
    "a.csv": csv_file(),
    "a.jsonl": JSON,
    "a.parquet": parquet_file(),
    "a.csv.gz": gzip.compress(csv_file()),
    "b.csv": zip_file(),
    "a.jsonl.zst": pa.compress(JSON, "zstd", asbytes=True),
}


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    folder = tmp_path_factory.mktemp("damaged")
    mapping = folder / "mapping.yaml"
    mapping.write_text(MAPPING)

    def run(name: str, content: bytes, skip_bad: bool) -> importer.Report:
        path = folder / name
        path.write_bytes(content)
        return importer.import_events(
            Settings(_env_file=None, home=folder),
            path,
            mapping,
            dry_run=True,
            skip_bad=skip_bad,
            rejected=folder / "out.rejected.csv",
            clock=lambda: NOW,
        )

    return run


@pytest.mark.parametrize("name", FILES)
def test_the_files_are_good_before_they_are_damaged(case, name):
    assert case(name, FILES[name], False).transactions == len(RECORDS)


def damage(content: bytes, seed: int) -> bytes:
    """Some bytes of a file changed, removed, doubled or cut off."""
    rng = random.Random(seed)
    damaged = bytearray(content)
    for _ in range(rng.choice([1, 1, 2, 5, 40])):
        at = rng.randrange(len(damaged) + 1)
        match rng.randrange(6):
            case 0:
                del damaged[at : at + rng.choice([1, 3, 200])]
            case 1:
                damaged[at:at] = rng.randbytes(rng.choice([1, 2, 9]))
            case 2:
                damaged[at : at + 1] = bytes([rng.randrange(256)])
            case 3:
                damaged[at:at] = rng.choice(
                    [b'"', b"\n", b"\r", b"\0", b",", b"{", b"\xef\xbb\xbf", b"\\ud800", b"\xff\xfe"]
                )
            case 4:
                damaged[at:at] = damaged[max(0, at - 50) : at]
            case 5:
                del damaged[at:]
        if not damaged:
            break
    return bytes(damaged)


@pytest.mark.parametrize("name", FILES)
@hypothesis_settings(
    max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(seed=st.integers(0, 2**32), skip_bad=st.booleans())
def test_a_damaged_file_ends_with_a_report_or_one_clear_line(case, name, seed, skip_bad):
    try:
        report = case(name, damage(FILES[name], seed), skip_bad)
    except CLEAR as error:
        message = str(error)
        assert "\n" not in message.replace("\\n", "") and "mapping.yaml" in message or name in message
    else:
        assert report.transactions > 0
        assert report.rows == report.transactions + report.bad_rows + sum(report.left_out.values())


@pytest.mark.parametrize("name", FILES)
@hypothesis_settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_a_damaged_file_gives_a_mapping_that_is_yaml_or_one_clear_line(case, tmp_path_factory, name, seed):
    path = tmp_path_factory.getbasetemp() / name
    path.write_bytes(damage(FILES[name], seed))
    try:
        text = suggest(sample_file(path), from_options({})).text
    except CLEAR as error:
        assert name in str(error)
    else:
        assert isinstance(yaml.load(text, yaml.BaseLoader), dict)


@hypothesis_settings(max_examples=150, deadline=None)
@given(content=st.binary(max_size=300), name=st.sampled_from(list(FILES)))
def test_any_bytes_are_no_traceback(case, content, name):
    with pytest.raises(CLEAR):
        case(name, content, True)
