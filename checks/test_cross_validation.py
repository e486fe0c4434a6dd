"""Cross-validated logistic regression by Newton's method has the accuracy of scikit-learn on the same folds."""

import itertools
from pathlib import Path

import numpy as np
import pytest

from rlgrad import updates
from rlgrad.config import load_config
from tests.test_textbook import NEWTON


@pytest.mark.parametrize(("data", "folds", "accuracy"), [("breast_cancer", 10, 0.981), ("digits", 5, 0.920)])
def test_cross_validated_accuracy(tmp_path: Path, data: str, folds: int, accuracy: float) -> None:
    """scikit-learn's folds, each written to a pair of files."""
    import sklearn.datasets
    from sklearn.model_selection import StratifiedKFold

    x, y = getattr(sklearn.datasets, f"load_{data}")(return_X_y=True)
    table, right = np.column_stack([x, y]), []
    for train_rows, test_rows in StratifiedKFold(folds).split(x, y):
        for name, rows in (("train.csv", train_rows), ("test.csv", test_rows)):
            np.savetxt(tmp_path / name, table[rows], delimiter=",", fmt="%.10g")
        settings = {"data": str(tmp_path / "train.csv"), "test_data": str(tmp_path / "test.csv"), "optimizer": NEWTON}
        config = load_config({"problem": "logistic", "updates": 1, "l2": 1 / len(train_rows), **settings})
        problem, optimizer, _ = config.build()
        for _ in itertools.islice(updates(problem, optimizer), 8):
            pass
        right.append(float(problem.evaluate(0)["accuracy"]))
    assert sum(right) / folds == pytest.approx(accuracy, abs=2e-3)
