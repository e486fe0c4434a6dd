"""How often the intervals over replicas, and those on a test set, contain the true value: docs/intervals.md.

    python benchmarks/coverage.py > docs/intervals.md

Draws many samples of R returns from distributions whose mean is known, and counts. Takes about three minutes.
"""

from collections.abc import Callable

import numpy as np

from rlgrad.run.statistics import summarize
from rlgrad.supervised.judgement import figures, judge

SAMPLES = 10_000
TESTS, TRUTH = 100, 200_000
REPLICAS = (2, 3, 4, 8, 16, 32)
Draw = Callable[[np.random.Generator, tuple[int, int]], np.ndarray]

KINDS: dict[str, tuple[Draw, float, str]] = {
    "normal": (lambda rng, shape: rng.normal(size=shape), 0.0, "returns that are sums of many small things"),
    "uniform": (lambda rng, shape: rng.uniform(size=shape), 0.5, "bounded, and spread evenly between the bounds"),
    "two halves": (
        lambda rng, shape: np.where(rng.random(shape) < 0.5, 500.0, 200.0),
        350.0,
        "half of the agents at 500, half at 200",
    ),
    "near a bound": (
        lambda rng, shape: 500 - rng.exponential(20, shape),
        480.0,
        "most agents close to 500, the others below: exponential",
    ),
    "a few failures": (
        lambda rng, shape: np.where(rng.random(shape) < 0.9, 500.0, 200.0) + rng.normal(size=shape),
        470.0,
        "nine of ten agents at 500, one of ten at 200",
    ),
    "heavy tail": (
        lambda rng, shape: rng.lognormal(0, 1.5, shape),
        float(np.exp(1.5**2 / 2)),
        "a few agents far above all others: log-normal, deviation 1.5 of the logarithm",
    ),
}


def coverage(draw: Draw, mean: float, replicas: int) -> float:
    """The share of samples whose interval contains the mean; a sample without an interval counts as a miss."""
    rng, hits = np.random.default_rng(replicas), 0
    for sample in draw(rng, (SAMPLES, replicas)):
        low, high = summarize(sample.tolist())["ci95"]
        hits += low is not None and low <= mean <= high
    return hits / SAMPLES


def main() -> None:
    table = {name: [coverage(draw, mean, r) for r in REPLICAS] for name, (draw, mean, _) in KINDS.items()}
    print(
        f"""\
# How sure is an interval?

Every mean over replicas has an interval. It is Student's: for normal returns, 95% of such intervals contain the true
mean. The table counts, over {SAMPLES:,} samples of R returns each, how often the interval contained the true mean. It
should be 0.95. This page is made by `python benchmarks/coverage.py > docs/intervals.md`.

| returns | {" | ".join(f"R = {r}" for r in REPLICAS)} |
|---|{"---|" * len(REPLICAS)}"""
    )
    for name, row in table.items():
        print(f"| {name} | {' | '.join(f'{share:.2f}' for share in row)} |")
    print()
    for name, (_, _, text) in KINDS.items():
        print(f"- **{name}**: {text}.")
    print(
        """
What to take from it:

- If returns are about normal, the interval contains the true mean in 95% of the samples, with two replicas as with
  thirty. If they are bounded and spread evenly, it nearly does.
- If **few agents fail and most succeed**, or if **few are far above all others**, no interval of the mean can reach 95%
  with so few replicas: most samples show no failure at all, and an interval cannot contain what was not seen. Look at
  the lowest and the highest replica, which every summary has, and train 32 replicas or more.
- One replica has no interval, and neither have replicas that are all equal: their spread is not known, and it is not 0.
- The starting points of a surface are not a random sample, so there is no interval over them.
- The interquartile mean has no interval. It leaves out the lowest and the highest quarter of the replicas, so it is the
  result of a typical agent, and not the mean over agents.
- An interval is about other seeds with this config. It says nothing about another config, machine or environment."""
    )
    on_test_sets()


def on_test_sets() -> None:
    sizes, shown = (50, 150), ("accuracy", "log_loss", "brier", "auc", "average_precision", "calibration_error")
    print(
        f"""
## On a test set

At its end a run of a classifier says how good the first replica is on the test set: `judgement` in `summary.json`, and
`judgement.md`. These intervals are about the examples, and not about seeds: they say what other test sets of the same
size would give, with the same classifier. The interval of the accuracy is Wilson's (1927). That of the AUC of two
classes is Newcombe's (2006, method 5), which has some width also at an AUC of 1. That of the calibration error has all
values that the error takes for frequencies of the bins that are as near to the observed ones, in chi-squared distance,
as those of 95% of test sets; if there is an error, it contains the true value more often than that. The others are
percentiles of the bootstrap (Efron & Tibshirani 1993, chapter 13): rows of the test set are drawn with replacement, up
to 1,000 times. The table counts, over {TESTS} test sets of M examples and a classifier with the right probabilities,
how often the intervals contained the value from {TRUTH:,} examples.

| figure | {" | ".join(f"{k} classes, M = {m}" for k in (2, 3) for m in sizes)} |
|---|{"---|" * 2 * len(sizes)}"""
    )
    held = {(k, m): on_test_set(k, m) for k in (2, 3) for m in sizes}
    for name in shown:
        print(f"| {name.replace('_', ' ')} | {' | '.join(f'{each[name]:.2f}' for each in held.values())} |")
    print(
        """
- For several classes, AUC, average precision and the calibration error are the means over classes of each class against
  the rest; the calibration error looks at the most probable class. Brier's score is their sum.
- The **calibration error** is a mean of distances. Chance alone makes it larger, above all in a small test set. So look
  at the lower end of its interval: if it is 0, the predictions may be right. Here they are right, and the true value is
  0.
- A classifier without a mistake on the test set has an average precision of 1 in every resample, so there is no
  interval. The AUC has one; for several classes it is the mean of Newcombe's interval for each class.
- A test set with one class has no AUC and no average precision, and the run says so."""
    )


def on_test_set(classes: int, size: int) -> dict[str, float]:
    """How often each interval contains the true value."""
    rng = np.random.default_rng(size)
    p = rng.dirichlet(np.ones(classes), TRUTH)
    y = (rng.random((TRUTH, 1)) > p.cumsum(1)).sum(1).clip(max=classes - 1)
    truth = {name: float(values[0]) for name, values in figures(y, p, np.ones((1, TRUTH))).items()}
    truth["calibration_error"] = 0.0
    held = dict.fromkeys(truth, 0)
    for _ in range(TESTS):
        some = rng.integers(TRUTH, size=size)
        for name, each in judge(y[some], p[some], np.full(classes, 1 / classes), range(classes))["figures"].items():
            low, high = each.get("ci95", [None, None])
            held[name] += low is not None and low <= truth[name] <= high
    return {name: hits / TESTS for name, hits in held.items()}


if __name__ == "__main__":
    main()
