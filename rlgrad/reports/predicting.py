"""Predicts the rows of a table, batch by batch, so that the memory needed does not grow with the table."""

import itertools
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from rlgrad.errors import SettingError, UsageError, say
from rlgrad.supervised import tables
from rlgrad.supervised.trained import TrainedClassifier

EVERY = 5.0  # seconds between lines of progress
SIGNS = {".": "points", ",": "commas"}


def predict(model: TrainedClassifier, settings: Any, path: Path, to: Path) -> int:
    """Write the model's prediction for each row of a table; return the number of rows.

    settings: those of the model's run, which define the format of the table. Raises UsageError and OSError, and then
    writes no file.
    """
    import pyarrow as pa
    from pyarrow import csv, parquet

    classes = [str(label) for label in model.classes_]
    names = ["class", *(f"probability of {label}" for label in classes)] if classes else ["mean"]
    rows, shown = 0, time.monotonic()

    def predictions(x: np.ndarray) -> pa.RecordBatch:
        found = model.answer(x)
        columns = [pa.array(column, from_pandas=True) for column in found.T]  # NaN becomes null
        if classes:
            unknown = np.isnan(found).any(1)
            columns.insert(0, pa.array(np.array(classes)[np.where(unknown, 0, found.argmax(1))], mask=unknown))
        return pa.record_batch(columns, names)

    try:
        table = settings.table(path.absolute(), "table", then := model.preprocessing.decimal)
        if then not in ("", table.decimal):
            say(f"{path} has decimal {SIGNS[table.decimal]}, and the training data has decimal {SIGNS[then]}")
        if left := tables.unused(table, [*tables.found(table, model.features), *table.unused]):
            say(f"not used: {left}")
        blocks = map(predictions, model.read(table))
        first = next(blocks, None) or predictions(np.zeros((0, len(model.features))))
        with tempfile.TemporaryDirectory(prefix=".rlgrad-", dir=to.absolute().parent) as folder:
            temporary = Path(folder) / to.name
            with (parquet.ParquetWriter if to.suffix == ".parquet" else csv.CSVWriter)(temporary, first.schema) as file:
                for batch in itertools.chain([first], blocks):
                    file.write_batch(batch)
                    rows += len(batch)
                    if time.monotonic() - shown > EVERY:
                        shown = time.monotonic()
                        say(f"{rows:,}{f' of {table.rows:,}' if table.rows else ''} rows")
            os.replace(temporary, to)
    except SettingError as error:
        hint = "; these are settings of the run: train again to change one" if "`" in str(error) else ""
        raise UsageError(f"{error}{hint}") from error
    return rows
