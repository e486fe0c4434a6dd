"""How often the interval over replicas holds the true mean: docs/intervals.md.

    python benchmarks/coverage.py > docs/intervals.md

Draws many samples of R returns from distributions whose mean is known, and counts. Takes about a minute.
"""

from collections.abc import Callable

import numpy as np

from rlgrad.run.statistics import summarize

SAMPLES = 10_000
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
    """The share of samples whose interval holds the mean; a sample without an interval counts as a miss."""
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


if __name__ == "__main__":
    main()
