"""How long rlgrad.LogisticClassifier takes to fit, compared with scikit-learn's LogisticRegression.

    python benchmarks/estimator.py [--rounds 7] [--only breast_cancer digits 200000x100] [--threads 1 2]

Both get the same table, C = 1, and otherwise their defaults. LogisticRegression also fits with settings that come as
close (tol=1e-8, max_iter=10000). They fit in turns, in one process, and ratios are taken within a turn. Prints
Markdown: the medians, the ratios with their range, and the distance of each from the optimum, as the largest difference
of a probability.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
import warnings

PROBLEMS = ("breast_cancer", "breast_cancer raw", "digits", "digits raw", "200000x100", "200000x100 float32")


def table(name: str):
    """X and y: a data set of scikit-learn, standardised or raw, or correlated random data in double precision."""
    import numpy as np
    from sklearn import datasets
    from sklearn.preprocessing import StandardScaler

    which, _, how = name.partition(" ")
    if "x" in which:
        examples, features = map(int, which.split("x"))
        rng = np.random.default_rng(0)
        x = rng.standard_normal((examples, features))
        x = (x + rng.standard_normal((examples, 5)) @ rng.standard_normal((5, features))) / 6**0.5
        scores = x @ rng.standard_normal(features) * 6 / features**0.5 - 0.5
        return x.astype(how or "float64"), (rng.random(examples) < 1 / (1 + np.exp(-scores))).astype(int)
    x, y = getattr(datasets, f"load_{which}")(return_X_y=True)
    return (x if how == "raw" else StandardScaler().fit_transform(x)), y


def compare(name: str, rounds: int) -> str:
    """A row of the table."""
    import numpy as np
    from sklearn.linear_model import LogisticRegression

    from rlgrad import LogisticClassifier

    warnings.simplefilter("ignore")
    x, y = table(name)
    models = {
        "rlgrad": LogisticClassifier(),
        "scikit-learn": LogisticRegression(),
        "as close": LogisticRegression(tol=1e-8, max_iter=10_000),
    }
    seconds = {key: [] for key in models}
    for turn in range(rounds + 1):
        for key, model in models.items():
            began = time.perf_counter()
            model.fit(x, y)
            if turn:  # the first turn is a warm-up
                seconds[key].append(time.perf_counter() - began)
    solver = "newton-cholesky" if len(np.unique(y)) == 2 else "newton-cg"
    best = LogisticRegression(solver=solver, tol=1e-12, max_iter=10_000).fit(x.astype(float), y).predict_proba(x)
    cells = [f"{statistics.median(taken) * 1e3:.1f}" for taken in seconds.values()]
    for key in ("scikit-learn", "as close"):
        ratios = [ours / theirs for ours, theirs in zip(seconds["rlgrad"], seconds[key], strict=True)]
        cells.append(f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")
    cells += [f"{np.abs(model.predict_proba(x) - best).max():.0e}" for model in models.values()]
    return f"| {name} | {os.environ['OMP_NUM_THREADS']} | " + " | ".join(cells) + " |"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", nargs="+", choices=PROBLEMS, default=PROBLEMS)
    parser.add_argument("--threads", nargs="+", default=sorted({"1", str(os.cpu_count() or 1)}))
    parser.add_argument("--one", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        print(compare(given.one, given.rounds))
        sys.exit()
    print("|  | threads | rlgrad, ms | scikit-learn, ms | as close, ms | ratio | ratio to as close | rlgrad off | scikit-learn off | as close off |")  # fmt: skip  # noqa: E501
    print("|---" * 10 + "|", flush=True)
    for threads in given.threads:
        environment = os.environ | {"OMP_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": threads}
        for name in given.only:
            subprocess.run(
                [sys.executable, __file__, "--one", name, "--rounds", str(given.rounds)], env=environment, check=True
            )
