"""Writes simulated transactions to a file, as a shop would have recorded them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
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
        GeneratorError: another kind of file, or there are no transactions.
    """
    if path.suffix not in (".csv", ".parquet"):
        raise GeneratorError(f"{path}: a file's name must end in .csv or .parquet")
    count, writer = 0, None
    with ExitStack() as stack:
        for batch in batches:
            rows = _rows(batch, truth, as_text=path.suffix == ".csv")
            writer = writer or stack.enter_context(_writer(path)(path, rows.schema))
            writer.write_table(rows)
            count += len(batch)
    if not count:
        raise GeneratorError(f"{path}: there are no transactions in this time")
    return count


def _writer(path: Path) -> Callable:
    return pyarrow.csv.CSVWriter if path.suffix == ".csv" else pyarrow.parquet.ParquetWriter


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
