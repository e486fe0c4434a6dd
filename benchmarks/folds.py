"""Ten folds and a path of penalties in one run, compared with scikit-learn's LogisticRegressionCV and glum's
GeneralizedLinearRegressorCV, in turns.

    python benchmarks/folds.py [--examples 20000] [--penalties 100] [--rounds N] [--threads N] [--write]

All get the same examples, folds and penalties, and compare penalties by the log-loss on each fold. The time of rlgrad
is that of a whole run: it reads the table, trains, evaluates, chooses, and writes everything. The time of the others is
that of `fit`, on arrays in memory, with their default tolerances. `--examples 200000` is the full size.
"""

import argparse
import json
import os
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import harness

FEATURES, FOLDS = 100, 10
NAMES = {"rlgrad": "rlgrad", "sklearn": "scikit-learn", "glum": "glum"}
NEEDS = {"rlgrad": ["torch"], "sklearn": ["scikit-learn"], "glum": ["glum"]}


def made(examples: int) -> tuple[Any, Any]:
    """Correlated features with mean 0 and deviation 1, and labels."""
    import numpy as np

    rng = np.random.default_rng(0)
    x = rng.standard_normal((examples, FEATURES))
    x = (x + rng.standard_normal((examples, 5)) @ rng.standard_normal((5, FEATURES))) / 6**0.5
    x = ((x - x.mean(0)) / x.std(0)).astype("float32")
    scores = x @ rng.standard_normal(FEATURES) * 6 / FEATURES**0.5 - 0.5
    return x, (rng.random(examples) < 1 / (1 + np.exp(-scores))).astype(int)


def penalties(count: int) -> list[float]:
    return [float(f"{100 * 1e-6 ** (k / (count - 1)):.6g}") for k in range(count)]


def write_table(folder: str, examples: int) -> None:
    import numpy as np
    import pyarrow as pa
    from pyarrow import parquet

    x, y = made(examples)
    columns = {f"x{k}": x[:, k] for k in range(FEATURES)} | {"y": y}
    parquet.write_table(pa.table(columns), f"{folder}/table.parquet")
    np.savez(f"{folder}/table.npz", x=x, y=y)


def rlgrad_s(folder: str, path: list[float]) -> tuple[float, list[float]]:
    """The seconds of rlgrad's run, and the mean log-loss of each penalty."""
    import rlgrad

    config = {"problem": "logistic", "data": f"{folder}/table.parquet", "test_fraction": 0, "standardise": False}
    config |= {"optimizer": {"name": "Newton"}, "updates": 1, "l2": {"sweep": path}, "replicas": {"folds": FOLDS}}
    config["curvature_examples"] = 25_000
    config["threads"] = int(os.environ["OMP_NUM_THREADS"])
    with tempfile.TemporaryDirectory() as out:
        began = time.perf_counter()
        run = rlgrad.train(config, out=f"{out}/run")
        seconds = time.perf_counter() - began
    return seconds, [cell["evaluation.log_loss"]["mean"] for cell in run.summary["sweep"]]


def theirs(name: str, folder: str, path: list[float]) -> tuple[float, list[float]]:
    """The seconds of another library's fit, and the mean log-loss of each penalty."""
    import warnings

    import numpy as np
    from sklearn.linear_model import LogisticRegressionCV
    from sklearn.model_selection import StratifiedKFold

    warnings.simplefilter("ignore")
    found = np.load(f"{folder}/table.npz")
    x, y = found["x"], found["y"]
    splits = list(StratifiedKFold(FOLDS, shuffle=True, random_state=0).split(x, y))
    if name == "glum":
        from glum import GeneralizedLinearRegressorCV

        model: Any = GeneralizedLinearRegressorCV(family="binomial", l1_ratio=0, alphas=path, cv=splits)
        y = y.astype(x.dtype)
    else:
        learned = len(y) * (FOLDS - 1) / FOLDS
        each = [1 / (penalty * learned) for penalty in path]
        model = LogisticRegressionCV(Cs=each, cv=splits, scoring="neg_log_loss", refit=False)
    began = time.perf_counter()
    model.fit(x, y)
    seconds = time.perf_counter() - began
    if name == "glum":
        return seconds, (np.asarray(model.deviance_path_).reshape(FOLDS, -1).mean(0) / 2).tolist()
    scores = model.scores_[1] if isinstance(model.scores_, dict) else model.scores_
    return seconds, (0 - np.asarray(scores).reshape(FOLDS, -1).mean(0)).tolist()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=int, default=20_000)
    parser.add_argument("--penalties", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", default=str(os.cpu_count() or 1))
    parser.add_argument("--only", nargs="+", choices=NAMES, default=list(NAMES))
    parser.add_argument("--write", action="store_true", help=harness.WRITES)
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    path = penalties(options.penalties)
    if options.one:
        name, folder = options.one
        seconds, losses = rlgrad_s(folder, path) if name == "rlgrad" else theirs(name, folder, path)
        Path(f"{folder}/{name}.json").write_text(json.dumps(losses))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps({"seconds": seconds, "core_seconds": harness.own_seconds(), "peak": peak}))
        return
    with tempfile.TemporaryDirectory() as folder:
        write_table(folder, options.examples)
        told = [str(Path(__file__).resolve()), "--penalties", str(options.penalties), "--one"]
        threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), options.threads)
        contestants = [
            harness.Contestant(NAMES[key], [*told, key, folder], needs=NEEDS[key], environment=threads)
            for key in options.only
        ]
        found = harness.alternate(contestants, options.rounds, timeout=7200)
        losses = {NAMES[key]: json.loads(Path(f"{folder}/{key}.json").read_text()) for key in options.only}
    rows = []
    for name in found:
        each = [harness.spread(harness.column(found, name, key)).text() for key in ("seconds", "core_seconds", "peak")]
        keys = ("seconds", "core_seconds") if name != "rlgrad" else ()
        times = [harness.ratios(found, name, "rlgrad", key).text() for key in keys] or ["", ""]
        least = min(losses[name])
        apart = max(abs(a - b) for a, b in zip(losses[name], losses["rlgrad"], strict=True))
        at = f"{path[losses[name].index(least)]:.3g}"
        rows.append([name, *each, *times, f"{least:.6f}", at, "" if name == "rlgrad" else f"{apart:.0e}"])
    head = [
        "",
        "seconds: median (range)",
        "core seconds",
        "peak memory, MB",
        "times rlgrad's seconds",
        "times its core seconds",
    ]
    head += ["least log-loss", "with l2", "largest difference from rlgrad's log-loss"]
    text = harness.table(head, rows)
    needs = harness.versions(Path(sys.executable), [need for key in options.only for need in NEEDS[key]])
    size = f"{options.examples:,} examples of {FEATURES} features, {FOLDS} folds, {options.penalties} penalties"
    text += f"\n\n{size}, {options.threads} threads, {options.rounds} rounds. {harness.machine()}; rlgrad "
    text += f"{harness.own_version()}; {harness.version_line(needs)}."
    print(text)
    if options.write:
        harness.write("folds.py", text)


if __name__ == "__main__":
    main()
