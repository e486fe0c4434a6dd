"""Folds within folds: an unbiased error for a penalty that folds have chosen.

    python examples/nested_folds.py 5

The least error on a path of penalties is too low, because it is the least of many. So the path and the choice are made
without an outer fold, and the resulting model is tested on that fold, which had no part in the choice.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import StratifiedKFold

import rlgrad

CONFIG = {"problem": "logistic", "label": "y", "test_fraction": 0, "optimizer": {"name": "Newton"}, "updates": 2}


def write(file: Path, x: np.ndarray, y: np.ndarray) -> str:
    header = ",".join([*(f"x{k}" for k in range(x.shape[1])), "y"])
    np.savetxt(file, np.column_stack([x, y]), delimiter=",", header=header, comments="", fmt="%.17g")
    return str(file)


def nested(outer: int) -> None:
    x, y = load_breast_cancer(return_X_y=True)
    promised, honest = [], []
    with tempfile.TemporaryDirectory() as folder:
        for fold, (inside, outside) in enumerate(StratifiedKFold(outer, shuffle=True, random_state=0).split(x, y)):
            files = [write(Path(folder) / f"{k}.csv", x[rows], y[rows]) for k, rows in enumerate((inside, outside))]
            inner = rlgrad.train(CONFIG, data=files[0], l2={"path": 30}, replicas={"folds": 5})
            choice = inner.summary["choice"]["one_standard_error"]
            l2, promise = choice["settings"]["l2"], choice["mean"]
            chosen = rlgrad.train(CONFIG, data=files[0], test_data=files[1], l2=l2)
            promised.append(promise)
            honest.append(chosen.summary["evaluation.log_loss"]["mean"])
            print(f"outer fold {fold}: l2={l2:g} promises {promise:.4f} and has {honest[-1]:.4f}")
    error = np.std(honest, ddof=1) / outer**0.5
    print(f"log-loss: promised {np.mean(promised):.4f}, honest {np.mean(honest):.4f}, standard error {error:.4f}")


if __name__ == "__main__":
    nested(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
