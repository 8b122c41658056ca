"""Writes simulated transactions to a file, as a shop would have recorded them."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from include.generator.batch import Batch, fixed_text, plain, text_of_times
from include.generator.config import GeneratorError


def write(batches: Iterable[Batch], path: Path, truth: bool = True) -> int:
    """Writes the transactions of batches to a `.csv` or `.parquet` file, one batch in memory at a time.

    Args:
        truth: adds the columns is_fraud and scenario_id.

    Returns:
        The number of transactions.

    Raises:
        GeneratorError: another suffix, or no transactions.
    """
    if path.suffix not in (".csv", ".parquet"):
        raise GeneratorError(f"{path}: a file's name must end in .csv or .parquet")
    count, writer = 0, None
    with ExitStack() as stack:
        for batch in batches:
            rows = _rows(batch, truth, as_text=path.suffix == ".csv")
            writer = writer or stack.enter_context(_open(path, rows.schema))
            writer.write_table(rows)
            count += len(batch)
    if not count:
        raise GeneratorError(f"{path}: there are no transactions in this time")
    return count


def _open(path: Path, schema: pa.Schema) -> pyarrow.csv.CSVWriter | pyarrow.parquet.ParquetWriter:
    if path.suffix == ".csv":
        return pyarrow.csv.CSVWriter(path, schema)
    return pyarrow.parquet.ParquetWriter(path, schema)


def _rows(batch: Batch, truth: bool, as_text: bool) -> pa.Table:
    rows = plain(batch.events)
    if truth:
        for name in ("is_fraud", "scenario_id"):
            if name not in rows.column_names:
                rows = rows.append_column(name, batch.truth[name])
    if as_text:
        column = rows.column_names.index("timestamp")
        rows = rows.set_column(column, "timestamp", fixed_text(text_of_times(batch.time)))
    return rows
