"""The results of a run: whether it has converged, and its coefficients."""

import csv
import io
from collections.abc import Iterable, Mapping
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from rlgrad.loop import Estimate
from rlgrad.optimizers.newton import ahead, either, joined
from rlgrad.supervised.inference import Design, Fitted, estimates, fitted, listed, moments
from rlgrad.supervised.judgement import in_cell
from rlgrad.supervised.resampling import spread
from rlgrad.supervised.separation import separated

CONVERGED = 1e-7  # part of the objective that may be left to gain
MOVED = 0.01  # near an optimum, Newton's next step moves no score further than this
WORK = 1e12  # with more products than this, standard errors are left out


def left_to_gain(estimate: Estimate, parameters: Iterable[Tensor], sign: Literal[1, -1]) -> np.ndarray:
    """How much of the objective is left to gain, by its slope and curvature: [R], as parts of its value."""
    assert estimate.gradient
    assert estimate.curvature
    gradient = joined(g.numpy(force=True) for g in estimate.gradient if g is not None)
    at = joined(parameter.numpy(force=True) for parameter in parameters if parameter.requires_grad)
    size = np.abs(estimate.value.numpy(force=True))
    eps = float(np.finfo(size.dtype).eps)
    with np.errstate(all="ignore"):
        _, promised = ahead(either, estimate.curvature(), gradient, at, sign, eps, size, CONVERGED * size)
        return np.asarray(promised / 2 / size)


def convergence(parts: np.ndarray, further: str) -> str:
    """Say in a sentence whether the run has converged. parts: as `left_to_gain` returns them. further: what helps."""
    late = [k for k, part in enumerate(parts) if not part <= CONVERGED]
    most = float(np.max(np.nan_to_num(parts)))
    found = f"{most:.1e} of the objective is left to gain, by its slope and curvature; {CONVERGED:g} counts as nothing"
    if not late:
        return f"converged: {found}"
    if len(late) == len(parts):
        who = "no replica has converged" if len(parts) > 1 else "not converged"
    else:
        some = f"replica {late[0]}" if len(late) == 1 else f"replicas {listed([str(k) for k in late])}"
        who = f"{some} of {len(parts)} {'has' if len(late) == 1 else 'have'} not converged"
    return f"{who}: {found}; {further} go further"


class Conclusion(NamedTuple):
    """The results in sentences, in numbers and in tables."""

    sentences: list[str]
    findings: dict[str, Any]
    documents: dict[str, str]


def concluded(problem: Any, estimate: Estimate) -> Conclusion:
    """The results of a linear model. estimate: on all training examples, with gradient and curvature in closed form."""
    settings, dataset, model = problem.settings, problem.dataset, problem.model
    parts = left_to_gain(estimate, model.parameters(), problem.direction.sign)
    done = dataset.preprocessing
    rounded = dataset.x.dtype == torch.float32  # and a slope that is rounded may show no way up or down
    further = "more updates, Newton or float64" if rounded else "more updates or Newton"
    sentences = [convergence(parts, further)]
    findings: dict[str, Any] = {"left_to_gain": [float(p) if np.isfinite(p) else None for p in parts]}
    weight, bias = (part[0].double().numpy(force=True) for part in (model.linear.weight, model.linear.bias))
    if len(done.columns) != len(weight):  # the features have no names
        return Conclusion(sentences, findings, {})
    if dataset.drawn is not None and (len(problem.cells) > 1 or not problem.how.bootstrap):
        return Conclusion(sentences, findings, {})
    bound = any(float(np.ravel(each)[0]) for each in (settings.l2, settings.l1))  # the first replica
    why, size = "none, as the optimum is penalised", (weight.shape[0] + 1) * weight.shape[1]
    table = estimates(model.family, weight, bias[0] if settings.intercept else None, done, dataset.labels)
    if dataset.drawn is not None:
        w, b = (part.double().numpy(force=True) for part in (model.linear.weight, model.linear.bias))
        every = dataset.own or [done] * len(w)
        table = spread(model.family, w, b, settings.intercept, every, dataset.labels)
        why = "the deviations of resamples, and intervals are the middle 95% of these"
    elif not bound and len(dataset.y) * size**2 <= WORK:
        table, why = with_errors(problem, table, weight, bias[0], sentences, findings)
    elif not bound:
        why = "none, as there are too many examples and columns"
    first = {"replica": f"the first of {len(parts)}"} if len(parts) > 1 and dataset.drawn is None else {}
    facts = table.facts | {"standard errors": why} | first
    findings["coefficients"] = {"statistic": table.statistic, "rows": [row._asdict() for row in table.rows], **facts}
    return Conclusion(sentences, findings, documents(table, facts, model.family.ratio))


def with_errors(
    problem: Any, table: Fitted, weight: np.ndarray, bias: np.ndarray, sentences: list[str], findings: dict[str, Any]
) -> tuple[Fitted, str]:
    """The table of an optimum without a penalty: with standard errors if they exist, and which these are, or why there
    are none. weight [D, K], bias [K]. What the design shows is added to the sentences and findings."""
    settings, dataset, family = problem.settings, problem.dataset, problem.model.family
    counts, done = dataset.sample_weight, dataset.preprocessing
    design = Design(dataset.x, dataset.y, counts, done.columns, settings.intercept, dataset.class_weight)
    inner = design.inner(weight, bias)
    sentences += design.dependences()
    if apart := unbounded(problem, design, inner):
        why = f"{apart}, so that the likelihood has no maximum"
        end = "the run has ended" if problem.finished else "coefficients grow for as long as a run goes on"
        sentences.append(f"{why}: {end}; set l2, or leave columns out")
        return table, f"none, as {why}"
    if family.dispersed and design.weight.sum() <= len(design.kept):
        return table, "none, as there are no more examples than coefficients"
    left_over = findings["left_to_gain"]
    if left_over[0] is None or left_over[0] > CONVERGED:
        return table, "none, as the run has not converged"
    try:
        return fitted(family, design, inner, done, dataset.labels, settings.errors), settings.errors
    except np.linalg.LinAlgError:
        why = "the likelihood has no curvature at these coefficients"
        sentences[0], left_over[0] = f"not converged: {why}", None
        return table, f"none, as {why}"


def unbounded(problem: Any, design: Design, inner: np.ndarray) -> str | None:
    """Which columns separate the labels, or None. Checked only if Newton's next step would still move a score."""
    first = int(inner.shape[1] > 1)
    try:
        step = moments(problem.model.family, design, inner - first * inner[:, :1]).step
        far = max(np.abs(z[:, design.kept] @ step.reshape(len(design.kept), -1)).max() for z, *_ in design.pieces())
    except np.linalg.LinAlgError:
        far = np.inf
    return None if far <= MOVED else separated(problem.settings.family, design, problem.dataset.classes)


def documents(table: Fitted, facts: Mapping[str, float | str], ratio: str | None) -> dict[str, str]:
    """The table as CSV, Markdown and LaTeX, by file name."""
    headings = {"name": "column", "label": "class", "estimate": "estimate", "error": "standard error"}
    headings |= {"z": table.statistic, "p": "p", "low": "95% low", "high": "95% high", "ratio": ratio or ""}
    shown = [key for key in headings if any(row._asdict()[key] is not None for row in table.rows)]

    def lines(digits: str) -> list[list[str]]:
        cells = ([row._asdict()[key] for key in shown] for row in table.rows)
        said = [["" if c is None else c if isinstance(c, str) else format(c, digits) for c in line] for line in cells]
        return [[headings[key] for key in shown], *said]

    said = "; ".join(f"{key}: {v if isinstance(v, str) else format(v, '.6g')}" for key, v in facts.items())
    head, *body = lines(".4g")
    ruled = [head, ["---", *["---:"] * (len(head) - 1)], *body]
    markdown = "\n".join("| " + " | ".join(map(in_cell, line)) + " |" for line in ruled)
    first, *rest = (" & ".join(map(latex, line)) + r" \\" for line in (head, *body))
    tabular = [rf"\begin{{tabular}}{{l{'r' * (len(head) - 1)}}}", r"\toprule", first, r"\midrule", *rest]
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerows(lines(".17g"))
    return {
        "coefficients.csv": file.getvalue(),
        "coefficients.md": f"{markdown}\n\n{said}\n",
        "coefficients.tex": "\n".join([f"% {said}", *tabular, r"\bottomrule", r"\end{tabular}", ""]),
    }


def latex(cell: str) -> str:
    """The text in one line, with the special characters of LaTeX escaped."""
    own = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    return "".join(own.get(sign, f"\\{sign}" if sign in "&%$#_{}" else sign) for sign in " ".join(cell.split()))
