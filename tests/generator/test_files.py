from datetime import datetime, timedelta

import pyarrow.csv
import pyarrow.parquet
import pytest

from include.generator.config import Config, GeneratorError
from include.generator.files import write
from include.generator.world import World
from tests.generator.worlds import START

CONFIG = Config(customers=100, merchants=50, fraud_rate=0.05)
WINDOW = (START, START + timedelta(hours=3))


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_file_holds_all_transactions_with_their_truth(tmp_path, kind):
    path = tmp_path / f"shop.{kind}"
    batches = list(World(CONFIG).between(*WINDOW, events=2_000))
    assert write(batches, path) == 2_000
    read = pyarrow.csv.read_csv(path) if kind == "csv" else pyarrow.parquet.read_table(path)
    assert read["transaction_id"].to_pylist() == [
        t for b in batches for t in b.events["transaction_id"].to_pylist()
    ]
    assert read["is_fraud"].to_pylist() == [t for b in batches for t in b.truth["is_fraud"].to_pylist()]
    assert read["full_name"].to_pylist() == [t for b in batches for t in b.events["full_name"].to_pylist()]


def test_csv_times_are_iso_8601(tmp_path):
    path = tmp_path / "shop.csv"
    write(World(CONFIG).between(*WINDOW, events=100), path, truth=False)
    header, first = path.read_text().splitlines()[:2]
    row = dict(zip(header.replace('"', "").split(","), first.split(","), strict=False))
    assert START <= datetime.fromisoformat(row["timestamp"].strip('"')) < WINDOW[1]
    assert "is_fraud" not in header


def test_unusable_files_are_named(tmp_path):
    with pytest.raises(GeneratorError, match=r"shop.xlsx.*\.csv or \.parquet"):
        write([], tmp_path / "shop.xlsx")
    with pytest.raises(GeneratorError, match="no transactions"):
        write([], tmp_path / "shop.csv")
