"""The quality of a classifier on its test set: figures with 95% intervals, compared with predicting class frequencies.

The intervals are over test sets: the results that other test sets of this size would give, with the same classifier.
The interval of the accuracy is Wilson's, that of the area under one ROC curve is Newcombe's, and that of the
calibration error uses a chi-squared distance. The others are percentiles of the bootstrap (Efron & Tibshirani 1993,
chapter 13), with examples drawn with replacement. docs/intervals.md counts how often the intervals hold the truth.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from statistics import NormalDist
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rlgrad.supervised.preprocessing import Preprocessing

Z = NormalDist().inv_cdf(0.975)  # half the width of a 95% interval, in deviations
BINS = 10  # of equal width, for the calibration error
NUMBERS = 1 << 22  # weights of examples at a time
SAMPLES = 100, 1000  # the smallest and the largest number of samples
ENOUGH = 40_000  # examples times classes: samples of larger test sets use a part of them
POINTS = 200  # of a curve, at most
SIDE, MOST = 60, 500  # grid points along a side of a plane, and examples in it at most


def judge(y: np.ndarray, p: np.ndarray, frequency: np.ndarray, labels: Sequence[Any]) -> dict[str, Any]:
    """Judge probabilities p [M, K] for class numbers y [M]; the result is JSON values.

    frequency: [K] of the classes in the training part, which the constant predicts. labels: [K]. A figure that does not
    exist has the value None and a reason.
    """
    once = np.ones((1, len(y)))
    learned, constant = figures(y, p, once), figures(y, np.broadcast_to(frequency, p.shape), once)
    intervals = bootstrapped(y, p)
    found: dict[str, dict[str, Any]] = {}
    for name, values in learned.items():
        interval = intervals.get(name, [None, None])
        found[name] = {"value": float(values[0]), "ci95": interval, "constant": float(constant[name][0])}
    right = int((p.argmax(1) == y).sum())
    found["accuracy"]["ci95"] = wilson(right, len(y))
    error, ends = calibration_error(*confident(y, p))
    always, _ = calibration_error(*confident(y, np.broadcast_to(frequency, p.shape)))
    found["calibration_error"] = {"value": error, "ci95": ends, "constant": always}
    seen = np.bincount(y, minlength=p.shape[1])
    if "auc" in found and (p.shape[1] == 2 or learned["auc"][0] == 1):  # in that case every sample has the same area
        area, counts = float(learned["auc"][0]), [int(n) for n in seen if 0 < n < len(y)]
        each = [interval_of_probability(area, n, len(y) - n) for n in counts]
        found["auc"]["ci95"] = np.mean(each, 0).tolist()
    if (seen > 0).sum() < 2:
        why = f"all examples of the test set are of one class, {labels[int(seen.argmax())]}"
        found |= {name: {"value": None, "reason": why} for name in ("auc", "average_precision")}
    confusion = np.zeros((len(seen), len(seen)), int)
    np.add.at(confusion, (y, p.argmax(1)), 1)
    shares = [[wilson(int(n), int(of)) for n in row] for row, of in zip(confusion, seen, strict=True)]
    table = {"labels": list(labels), "counts": confusion.tolist(), "ci95_of_row_share": shares}
    drawn_of = {"calibration": calibration(*confident(y, p)), "roc": roc(y, p, labels)}
    return {"examples": len(y), "figures": found, "confusion": table, **drawn_of}


def sentence(judgement: dict[str, Any]) -> str:
    """The most important figures in a sentence."""
    said = []
    for name in ("accuracy", "log_loss", "auc"):
        each, called = judgement["figures"].get(name, {}), name.replace("_", "-")
        if each.get("reason"):
            said.append(f"no {called}, as {each['reason']}")
        elif each:
            between = "no interval" if None in each["ci95"] else " to ".join(f"{end:.4g}" for end in each["ci95"])
            said.append(f"{called} {each['value']:.4g} ({between}; constant {each['constant']:.4g})")
    return f"on {judgement['examples']} examples, with 95% intervals and beside the constant: {', '.join(said)}"


def markdown(judgement: dict[str, Any]) -> str:
    """The whole judgement, as tables in Markdown."""
    lines = [
        f"On {judgement['examples']} examples.",
        "",
        "|  | value | 95% interval | constant |",
        "|---|---:|---:|---:|",
    ]
    for name, each in judgement["figures"].items():
        interval = " to ".join(f"{end:.4g}" for end in each.get("ci95", ()) if end is not None)
        value = each["reason"] if each["value"] is None else f"{each['value']:.4g}"
        lines.append(f"| {name.replace('_', ' ')} | {value} | {interval} | {each.get('constant', float('nan')):.4g} |")
    labels = [in_cell(str(label)) for label in judgement["confusion"]["labels"]]
    lines += ["", f"| true \\ predicted | {' | '.join(labels)} |", "|---" + "|---:" * len(labels) + "|"]
    for label, row in zip(labels, judgement["confusion"]["counts"], strict=True):
        lines.append(f"| {label} | {' | '.join(map(str, row))} |")
    return "\n".join([*lines, ""])


def in_cell(text: str) -> str:
    """The text for a cell of a table in Markdown: in one line, with the sign between cells escaped."""
    return " ".join(text.split()).replace("|", "\\|")


def confident(y: np.ndarray, p: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The probabilities [M] for calibration, and whether each event came true: the second of two classes, or the most
    probable of several classes."""
    return (p[:, 1], y == 1) if p.shape[1] == 2 else (p.max(1), p.argmax(1) == y)


def calibration(p: np.ndarray, event: np.ndarray) -> list[dict[str, Any]]:
    """For each bin with examples: the mean prediction, the observed frequency, and its interval."""
    bins = np.minimum((p * BINS).astype(int), BINS - 1)
    found = []
    for some in (bins == k for k in np.unique(bins)):
        hits, count = int(event[some].sum()), int(some.sum())
        each = {"predicted": float(p[some].mean()), "observed": hits / count, "ci95": wilson(hits, count)}
        found.append({**each, "examples": count})
    return found


def roc(y: np.ndarray, p: np.ndarray, labels: Sequence[Any]) -> dict[str, dict[str, list[float]]]:
    """The ROC curve of each class against the rest, if both occur; of two classes only that of the second."""
    found = {}
    for k in range(1 if p.shape[1] == 2 else 0, p.shape[1]):
        event = y == k
        if 0 < event.sum() < len(y):
            recall, fallout, _ = (part[0] for part in ranked(p[:, k], event, np.ones((1, len(y)))))
            some = np.unique(np.linspace(0, len(recall) - 1, POINTS).astype(int))
            curve = {"fallout": [0.0, *fallout[some].tolist()], "recall": [0.0, *recall[some].tolist()]}
            found[str(labels[k])] = curve
    return found


def figures(y: np.ndarray, p: np.ndarray, counts: np.ndarray) -> dict[str, np.ndarray]:
    """The figures of each sample [B]. counts: [B, M] how often a sample has each example. For several classes AUC
    and average precision are means over the classes that occur, each against the rest (Brier's score is the sum)."""
    examples, classes = p.shape
    weight = counts / counts.sum(1, keepdims=True)
    is_label = np.eye(classes)[y]
    best = p.argmax(1)
    surprise = np.log(1 / np.maximum(p[np.arange(examples), y], np.finfo(float).tiny))
    found = {
        "accuracy": weight @ (best == y),
        "log_loss": weight @ surprise,
        "brier": weight @ ((p - is_label) ** 2).sum(1) / (2 if classes == 2 else 1),
    }
    sides = [1] if classes == 2 else [k for k in range(classes) if is_label[:, k].any()]
    if 0 < is_label[:, sides[0]].sum() < examples:
        ranking = np.stack([ranks(p[:, k], is_label[:, k], weight) for k in sides])  # [K, 2, B]
        found["auc"], found["average_precision"] = ranking.mean(0)
    return found


def ranked(score: np.ndarray, event: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Recall, fallout and precision [B, S], if the examples down to each of the S different scores count as events."""
    order = np.argsort(score)[::-1]
    last = np.flatnonzero(np.append(np.diff(score[order]) != 0, True))  # the last one of those with equal scores
    hits = np.cumsum(weight[:, order] * event[order], 1)[:, last]
    misses = np.cumsum(weight[:, order] * (1 - event[order]), 1)[:, last]
    with np.errstate(invalid="ignore", divide="ignore"):
        recall, fallout = hits / hits[:, -1:], misses / misses[:, -1:]
        precision = np.nan_to_num(hits / (hits + misses))
    return recall, fallout, precision


def ranks(score: np.ndarray, event: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The area under the ROC curve and the average precision [B], of scores [M] for events [M] that are 0 or 1,
    with weights [B, M] of the examples; NaN if a sample has only events or none."""
    recall, fallout, precision = ranked(score, event, weight)
    start = np.zeros((len(weight), 1))
    gained = np.diff(recall, axis=1, prepend=start)
    before = np.concatenate([start, recall[:, :-1]], 1)
    area = (np.diff(fallout, axis=1, prepend=start) * (recall + before) / 2).sum(1)
    return area, (gained * precision).sum(1)


def auc(score: Tensor, y: Tensor) -> Tensor:
    """The area [R] under the ROC curve of scores [R, N] for labels [N], in which 0 and 1 both occur.

    It is the probability that an example of class 1 has a higher score than one of class 0; a tie counts half.
    """
    negative, positive = score[:, y == 0].sort(1).values, score[:, y == 1].contiguous()  # [R, N₀], [R, N₁]
    below = torch.searchsorted(negative, positive)
    not_above = torch.searchsorted(negative, positive, right=True)
    return (below + not_above).to(score.dtype).mean(1) / (2 * negative.shape[1])


def plane(
    x: Tensor, y: np.ndarray, labels: Sequence[Any], done: Preprocessing, probabilities: Callable[[Tensor], np.ndarray]
) -> dict[str, Any]:
    """The most probable class on a grid around examples x [M, 2] of classes y [M], and some of these examples, in the
    units of the source."""
    ends = torch.stack(x.double().aminmax(dim=0))  # [2, 2]
    sides = [torch.linspace(low, high, SIDE).double() for low, high in ends.T.tolist()]
    grid = torch.stack(torch.meshgrid(*sides, indexing="xy"), -1).reshape(-1, 2)
    mean, unit = (done.mean, done.deviation) if len(done.mean) else (np.zeros(2), np.ones(2))
    low, high, *some = torch.cat([ends, x[:MOST]]).double().numpy(force=True) * unit + mean
    return {
        "names": list(done.columns),
        "labels": [str(label) for label in labels],
        "low": low.tolist(),
        "high": high.tolist(),
        "chosen": probabilities(grid).argmax(1).reshape(SIDE, SIDE).tolist(),
        "points": np.column_stack([np.array(some), y[:MOST]]).tolist(),
    }


def bootstrapped(y: np.ndarray, p: np.ndarray) -> dict[str, list[float | None]]:
    """The bootstrap interval of each figure, if most samples have the figure. For a large test set, samples are drawn
    from a part of it, and their scatter is scaled to the whole by the square root of the sizes' ratio."""
    examples, classes = p.shape
    few = min(examples, ENOUGH // classes)
    some = np.random.default_rng(1).choice(examples, few, replace=False) if few < examples else np.arange(examples)
    whole, part = (figures(y[rows], p[rows], np.ones((1, len(rows)))) for rows in (np.arange(examples), some))
    drawn = [figures(y[some], p[some], counts) for counts in resampled(few, classes)]
    found: dict[str, list[float | None]] = {}
    for name in part:
        values = np.concatenate([each[name] for each in drawn])
        known = values[np.isfinite(values)]
        if 2 * len(known) > len(values):
            scatter = np.percentile(known, (2.5, 97.5)) - part[name][0]
            if scatter.any() or name != "average_precision":  # at 1 no sample shows a mistake, others may
                found[name] = (whole[name][0] + scatter * (few / examples) ** 0.5).tolist()
    return found


def resampled(examples: int, classes: int) -> Iterator[np.ndarray]:
    """Yield, for some samples at a time, how often each has each example [B, M]."""
    rng, samples = np.random.default_rng(0), int(np.clip(NUMBERS // (examples * classes), *SAMPLES))
    together = max(1, min(samples, NUMBERS // (examples * classes)))
    for first in range(0, samples, together):
        drawn = (rng.integers(examples, size=examples) for _ in range(min(together, samples - first)))
        yield np.stack([np.bincount(rows, minlength=examples) for rows in drawn])


def interval_of_probability(probability: float, m: int, n: int) -> tuple[float, float]:
    """The interval of the probability that one of M numbers is above one of N others: of an area under the ROC curve,
    or of one run being better than another. It is Newcombe's method 5 (2006, https://doi.org/10.1002/sim.2324), which
    is Wilson's score interval with the variance of Hanley & McNeil. So it has a width even where all are above all
    others, and a bootstrap has none."""
    more = (m + n) / 2 - 1

    def deviation(p: float) -> float:
        return math.sqrt(p * (1 - p) * (1 + more * ((1 - p) / (2 - p) + p / (1 + p))) / (m * n))

    def end(outermost: float) -> float:
        """The value, between the estimate and `outermost`, from which the estimate is exactly z deviations away."""
        inside, outside = probability, outermost
        for _ in range(60):
            middle = (inside + outside) / 2
            if abs(probability - middle) <= Z * deviation(middle):
                inside = middle
            else:
                outside = middle
        return inside

    return end(0.0), end(1.0)


def calibration_error(p: np.ndarray, event: np.ndarray) -> tuple[float, list[float]]:
    """The mean distance, over bins, between predicted probabilities p [M] and frequencies of the event (Naeini et al.
    2015, https://doi.org/10.1609/aaai.v29i1.9602), and its interval: the smallest and largest distance over all
    frequencies of the bins that are within the 95% chi-squared distance of the observed ones. So the interval contains
    0 if a test such as Hosmer & Lemeshow's (1980, https://doi.org/10.1080/03610928008827941) does not reject p."""
    from scipy.optimize import brentq
    from scipy.special import chdtri

    bins = np.eye(BINS)[np.minimum((p * BINS).astype(int), BINS - 1)]  # [M, BINS]
    count = bins.sum(0)[bins.any(0)]
    predicted, observed, chance = (np.array([p, event, p * (1 - p)]) @ bins)[:, bins.any(0)] / count
    apart, share, limit = np.abs(observed - predicted), count / len(p), float(chdtri(len(count), 0.05))
    variance = np.maximum(np.maximum(chance, observed * (1 - observed)), 1e-9) / count
    value, low = float(share @ apart), 0.0
    high = min(1.0, value + float(limit * share**2 @ variance) ** 0.5)
    if (apart**2 / variance).sum() > limit:
        most = (apart / (share * variance)).max()
        t = brentq(lambda t: (np.minimum(apart, t * share * variance) ** 2 / variance).sum() - limit, 0, most)
        low = float(share @ np.maximum(apart - t * share * variance, 0))
    return value, [low, high]


def wilson(successes: int, trials: int) -> list[float | None]:
    """The interval of a probability (Wilson 1927, https://doi.org/10.1080/01621459.1927.10502953)."""
    if not trials:
        return [None, None]
    share = successes / trials
    middle = share + Z * Z / (2 * trials)
    margin = Z * (share * (1 - share) / trials + (Z / (2 * trials)) ** 2) ** 0.5
    low, high = ((middle + way * margin) / (1 + Z * Z / trials) for way in (-1, 1))
    return [max(0.0, min(low, share)), min(1.0, max(high, share))]  # they contain the share, also after rounding
