"""Seconds and memory to read tables: a CSV file compared with pandas, a Parquet file compared with its own matrix.

    python benchmarks/tables.py [ROUNDS] [PARQUET_ROWS]

CSV: 200,000 rows of 20 columns, 17 digits each, by `pandas.read_csv` and by rlgrad, which also splits and standardises
them; `read` is only the reading. Parquet: 50 columns in single precision, 1,000,000 rows by default; the memory is that
of reading, as a multiple of the resulting matrix, and that of `rlgrad predict`. Each runs in a process of its own, in
turns. Imports are done, and a small table is read, before the clock starts. Memory is the peak of the process minus its
memory before.
"""

import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from harness import Contestant, alternate, column, machine, own_version, ratios, spread, version_line, versions

ROWS, COLUMNS = 200_000, 20
PARQUET_ROWS, PARQUET_COLUMNS = 1_000_000, 50


def memory(key: str) -> float:
    """The memory of this process in MB: VmHWM, its peak, or VmRSS, its memory now."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(key)).split()[1]) / 1024


def make(folder: Path, rows: int) -> None:
    """Make the files: normal numbers, with the sign of the first as the label."""
    import pandas
    import pyarrow as pa
    from pyarrow import parquet

    rng = np.random.default_rng(0)
    x = rng.standard_normal((ROWS, COLUMNS - 1))
    names = [f"x{k}" for k in range(COLUMNS - 1)]
    frame = pandas.DataFrame(x, columns=names).assign(y=(x[:, 0] > 0).astype(int))
    frame.to_csv(folder / "large.csv", index=False)
    frame[:100].to_csv(folder / "small.csv", index=False)
    names = [f"x{k}" for k in range(PARQUET_COLUMNS)]
    schema = pa.schema([*((name, pa.float32()) for name in names), ("y", pa.int64())])
    with parquet.ParquetWriter(folder / "large.parquet", schema) as file:
        for start in range(0, rows, 100_000):
            x = rng.standard_normal((min(100_000, rows - start), PARQUET_COLUMNS), dtype=np.float32)
            file.write_batch(pa.record_batch([*x.T, (x[:, 0] > 0).astype(np.int64)], schema=schema))


def read(name: str, folder: Path) -> dict[str, float]:
    """Run one contestant in this process."""
    if name == "pandas":
        import pandas

        pandas.read_csv(folder / "small.csv")
        before, began = memory("VmRSS"), time.perf_counter()
        pandas.read_csv(folder / "large.csv")
        return {"seconds": time.perf_counter() - began, "peak": memory("VmHWM") - before}
    import sklearn.model_selection  # noqa: F401

    from rlgrad.reports.predicting import predict
    from rlgrad.supervised.data import load_dataset
    from rlgrad.supervised.settings import DataSettings
    from rlgrad.supervised.trained import TrainedClassifier, description

    small = load_dataset(DataSettings(data=str(folder / "small.csv")))
    before, began = memory("VmRSS"), time.perf_counter()
    if name == "read":
        settings = DataSettings(data=str(folder / "large.csv"))
        settings.table(Path(settings.data), "data").keep(range(COLUMNS), {COLUMNS - 1})
    elif name == "predict":
        import torch

        width = PARQUET_COLUMNS
        features = [f"x{k}" for k in range(width)]
        done = small.preprocessing._replace(features=features, mean=[0.0] * width, deviation=[1.0] * width)
        tensors = {"linear.weight": torch.ones(1, width, 1), "linear.bias": torch.zeros(1, 1, 1)}
        model = TrainedClassifier(tensors, description([0, 1], done))
        predict(model, DataSettings(data="iris"), folder / "large.parquet", folder / "predictions.csv")
    else:
        found = load_dataset(DataSettings(data=str(folder / f"large.{name}")))
        matrix = (found.x.numel() + found.test_x.numel()) * found.x.element_size() / 2**20
        peak = memory("VmHWM") - before
        return {"seconds": time.perf_counter() - began, "peak": peak, "peak_over_matrix": peak / matrix}
    return {"seconds": time.perf_counter() - began, "peak": memory("VmHWM") - before}


def main(rounds: int, rows: int) -> None:
    names = ("pandas", "read", "csv", "parquet", "predict")
    with tempfile.TemporaryDirectory() as folder:
        make(Path(folder), rows)
        needs = ("pandas", "pyarrow")
        contestants = [Contestant(name, [__file__, "--one", name, folder], needs=needs) for name in names]
        found = alternate(contestants, rounds)
    print(f"{machine()}; rlgrad {own_version()}, {version_line(versions(Path(sys.executable), needs))}")
    print(f"{rounds} rounds; the median, and from least to most\n")
    for name in found:
        seconds, peak = spread(column(found, name, "seconds")), spread(column(found, name, "peak"))
        print(f"{name:8} {seconds.text()} s, {peak.text()} MB")
    for name in ("read", "csv"):
        print(f"{name} / pandas: seconds {ratios(found, name, 'pandas', 'seconds').text()}, ", end="")
        print(f"peak {ratios(found, name, 'pandas', 'peak').text()}")
    print(f"parquet: peak / matrix {spread(column(found, 'parquet', 'peak_over_matrix')).text()}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        print(json.dumps(read(sys.argv[2], Path(sys.argv[3]))))
    else:
        main(int((sys.argv[1:] or ["5"])[0]), int((sys.argv[2:] or [PARQUET_ROWS])[0]))
