"""How good a classifier is on its test set, each figure with a 95% interval, beside predicting the class frequencies.

The intervals are about the test set: what other test sets of this size would give, with the same classifier. That of
the accuracy is Wilson's; the others are percentiles of the bootstrap (Efron & Tibshirani 1993, chapter 13), over
examples that are drawn anew with replacement. docs/intervals.md counts how often they hold the truth.
"""

from collections.abc import Iterator, Sequence
from statistics import NormalDist
from typing import Any

import numpy as np

BINS = 10  # of equal width, for the calibration error
NUMBERS = 1 << 22  # weights of examples at a time, and how many samples are drawn at least and at most
SAMPLES = 100, 1000


def judge(y: np.ndarray, p: np.ndarray, frequency: np.ndarray, labels: Sequence[Any]) -> dict[str, Any]:
    """What is to be said of probabilities p [M, K] for the class numbers y [M], as JSON has it.

    frequency: [K] of the classes in the training part, which the constant predicts. labels: [K]. A figure that cannot
    be given has the value None, and says why.
    """
    once = np.ones((1, len(y)))
    learned, constant = figures(y, p, once), figures(y, np.broadcast_to(frequency, p.shape), once)
    drawn = [figures(y, p, counts) for counts in resampled(len(y))]
    found: dict[str, dict[str, Any]] = {}
    for name, values in learned.items():
        interval = ends(np.concatenate([each[name] for each in drawn]))
        found[name] = {"value": float(values[0]), "ci95": interval, "constant": float(constant[name][0])}
    right = int((p.argmax(1) == y).sum())
    found["accuracy"]["ci95"] = wilson(right, len(y))
    seen = np.bincount(y, minlength=p.shape[1])
    if (seen > 0).sum() < 2:
        why = f"all examples of the test set are of one class, {labels[int(seen.argmax())]}"
        found |= {name: {"value": None, "reason": why} for name in ("auc", "average_precision")}
    confusion = np.zeros((len(seen), len(seen)), int)
    np.add.at(confusion, (y, p.argmax(1)), 1)
    shares = [[wilson(int(n), int(of)) for n in row] for row, of in zip(confusion, seen, strict=True)]
    table = {"labels": list(labels), "counts": confusion.tolist(), "ci95_of_row_share": shares}
    return {"examples": len(y), "figures": found, "confusion": table}


def figures(y: np.ndarray, p: np.ndarray, counts: np.ndarray) -> dict[str, np.ndarray]:
    """Of each sample [B]; counts: [B, M] how many times it has each example. Where there are more than two classes, AUC
    and average precision are means over the classes that occur, each against the rest (Brier's score is the sum)."""
    examples, classes = p.shape
    weight = counts / counts.sum(1, keepdims=True)
    is_label = np.eye(classes)[y]
    best = p.argmax(1)
    surprise = np.log(1 / np.maximum(p[np.arange(examples), y], np.finfo(float).tiny))
    confidence, event = (p[:, 1], y == 1) if classes == 2 else (p.max(1), best == y)
    found = {
        "accuracy": weight @ (best == y),
        "log_loss": weight @ surprise,
        "brier": weight @ ((p - is_label) ** 2).sum(1) / (2 if classes == 2 else 1),
        "calibration_error": calibration_error(confidence, event, weight),
    }
    sides = [1] if classes == 2 else [k for k in range(classes) if is_label[:, k].any()]
    if 0 < is_label[:, sides[0]].sum() < examples:
        ranked = np.stack([ranks(p[:, k], is_label[:, k], weight) for k in sides])  # [K, 2, B]
        found["auc"], found["average_precision"] = ranked.mean(0)
    return found


def ranks(score: np.ndarray, event: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The area under the ROC curve and the average precision [B], of scores [M] for events [M] that are 0 or 1,
    examples with weights [B, M]; NaN where a sample has no event, or nothing else."""
    order = np.argsort(score)[::-1]
    last = np.flatnonzero(np.append(np.diff(score[order]) != 0, True))  # of those with equal scores
    hits = np.cumsum(weight[:, order] * event[order], 1)[:, last]
    misses = np.cumsum(weight[:, order] * (1 - event[order]), 1)[:, last]
    with np.errstate(invalid="ignore", divide="ignore"):
        recall, fallout = hits / hits[:, -1:], misses / misses[:, -1:]
        precision = np.nan_to_num(hits / (hits + misses))
    start = np.zeros((len(weight), 1))
    gained = np.diff(recall, axis=1, prepend=start)
    before = np.concatenate([start, recall[:, :-1]], 1)
    area = (np.diff(fallout, axis=1, prepend=start) * (recall + before) / 2).sum(1)
    return area, (gained * precision).sum(1)


def calibration_error(p: np.ndarray, event: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """How far [B] predicted probabilities p [M] are from the frequencies of the event, in the mean over bins (Naeini et
    al. 2015, https://doi.org/10.1609/aaai.v29i1.9602)."""
    bins = np.eye(BINS)[np.minimum((p * BINS).astype(int), BINS - 1)]  # [M, BINS]
    error: np.ndarray = np.abs(weight @ (bins * (p - event)[:, None])).sum(1)
    return error


def resampled(examples: int) -> Iterator[np.ndarray]:
    """How many times samples have each example, [B, M], some samples at a time."""
    rng, samples = np.random.default_rng(0), int(np.clip(NUMBERS // examples, *SAMPLES))
    together = max(1, min(samples, NUMBERS // examples))
    for _ in range(0, samples, together):
        drawn = (rng.integers(examples, size=examples) for _ in range(together))
        yield np.stack([np.bincount(rows, minlength=examples) for rows in drawn])


def ends(values: np.ndarray) -> list[float | None]:
    """The 95% interval of a figure, from what samples [B] give; none where most of them cannot."""
    known = values[np.isfinite(values)]
    return [float(end) for end in np.percentile(known, (2.5, 97.5))] if 2 * len(known) > len(values) else [None, None]


def wilson(successes: int, trials: int, level: float = 0.95) -> list[float | None]:
    """The interval of a probability (Wilson 1927, https://doi.org/10.1080/01621459.1927.10502953)."""
    if not trials:
        return [None, None]
    z, share = NormalDist().inv_cdf((1 + level) / 2), successes / trials
    middle = share + z * z / (2 * trials)
    margin = z * (share * (1 - share) / trials + (z / (2 * trials)) ** 2) ** 0.5
    return [max(0.0, (middle - margin) / (1 + z * z / trials)), min(1.0, (middle + margin) / (1 + z * z / trials))]
