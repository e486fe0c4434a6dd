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

Every mean over replicas comes with an interval. It is Student's: the mean, plus and minus so many standard errors that
95% of such intervals hold the true mean, where returns are normal. The table counts, over {SAMPLES:,} samples of R
returns each, how often it held the true mean. It should be 0.95. This page is written by
`python benchmarks/coverage.py > docs/intervals.md`.

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

- Where returns are about normal, the interval holds what it promises, with two replicas as with thirty. Where they are
  bounded and spread evenly, it nearly does.
- Where **few agents fail and most succeed**, and where **few are far above all others**, no interval of the mean can do
  that with so few replicas: most samples show no failure at all, and what has not been seen cannot be in an interval.
  Look at the lowest and the highest replica, which every summary has, and train 32 replicas or more.
- One replica has no interval, and neither have replicas that are all equal: their spread is not known, and it is not 0.
- The starting points of a surface are no sample of anything, so there is no interval over them.
- The interquartile mean has no interval. It leaves out the lowest and the highest quarter of the replicas, and so it
  says what a middling agent reaches, not what agents reach in the mean.
- An interval is about the seeds of this run: what another config, machine or environment would give is not in it."""
    )
    on_test_sets()


def on_test_sets() -> None:
    sizes, shown = (50, 150), ("accuracy", "log_loss", "brier", "auc", "average_precision", "calibration_error")
    print(
        f"""
## On a test set

At its end a run of a classifier says how good the first replica is on the test set: `judgement` in `summary.json`,
and `judgement.md`. These intervals are about something else: the examples. They say what other test sets of the same
size would give, with the same classifier. That of the accuracy is Wilson's (1927), and that of the AUC of two classes
Newcombe's (2006, method 5), which has some width at an AUC of 1, too. That of the calibration error has all values that
the error takes where the bins' frequencies are as near to the observed ones, in chi-squared distance, as 95% of test
sets have them: where there is an error, it holds the truth more often. The others are percentiles of the bootstrap
(Efron & Tibshirani 1993, chapter 13): the test set is drawn anew from itself, up to 1,000 times. The table counts, over
{TESTS} test sets of M examples and a classifier that is right about its probabilities, how often they held what
{TRUTH:,} examples give.

| figure | {" | ".join(f"{k} classes, M = {m}" for k in (2, 3) for m in sizes)} |
|---|{"---|" * 2 * len(sizes)}"""
    )
    held = {(k, m): on_test_set(k, m) for k in (2, 3) for m in sizes}
    for name in shown:
        print(f"| {name.replace('_', ' ')} | {' | '.join(f'{each[name]:.2f}' for each in held.values())} |")
    print(
        """
- AUC, average precision and the calibration error of several classes are those of each class against the rest, in
  the mean over classes; the calibration error looks at the most probable class. Brier's score is their sum.
- The **calibration error** is a mean of distances. Chance alone makes it larger than it is, the more so in a small test
  set. So look at the lower end of its interval: where that is 0, the predictions may be right. Here they are, and the
  truth is 0.
- A classifier that makes no mistake on the test set has an average precision of 1 in every sample of it: there is no
  interval then. The AUC has one; of several classes it is the mean of Newcombe's for each.
- A test set of one class has no AUC and no average precision, and the run says so."""
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
