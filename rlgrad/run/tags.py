"""Every tag that a run logs, with its meaning and unit. docs/tags.md is made from this table."""

import re
from collections.abc import Mapping, Sequence
from functools import cache

from rlgrad.run.events import Band, Charts

TAGS = {
    "objective/value": "The objective itself, mean over replicas: what the run maximizes or minimizes, measured on the "
    "data of the update with the parameters before it (its own unit). In segments: the mean, over their steps, of the "
    "reward-to-go, from the rewards and the critic's estimate; its gradient treats the visited states as fixed.",
    "objective/predicted_change": "The predicted change of the objective: its gradient before the update, unclipped, "
    "times the whole step of the update, whatever the optimizer (the objective's unit); every "
    "`diagnose_every_updates`. It is left out where the gradient is not that of the objective: with "
    "`standardise_advantages` or `entropy_bonus`, and in whole episodes with `gae_lambda` below 1, with `time_limit: "
    "bootstrap`, or with a discount but no `discount_weighting`.",
    "objective/achieved_change": "The change of the objective that the update achieved, on the same data, or in "
    "episodes with the same random numbers (the objective's unit); every `diagnose_every_updates`. It is left out with "
    "wrappers that normalise, because their unit moves.",
    "surrogate/predicted_change": "In segments and with `batch_steps`, where no episode is played again: the predicted "
    "change of the objective of the same steps, each weighted by how much more probable its action has become (the "
    "objective's unit); every `diagnose_every_updates`. It is left out with `standardise_advantages` or "
    "`entropy_bonus`, because the gradient is then not that of the surrogate.",
    "surrogate/achieved_change": "In segments and with `batch_steps`: the change of the same surrogate that the update "
    "achieved (the objective's unit); every `diagnose_every_updates`.",
    "work/evaluations": "How often the objective was evaluated so far, each time for all replicas together: once an "
    "update, or more often with a line search or several passes (evaluations).",
    "gradient/half_cosine": "Cosine between the gradients from the two halves of the episodes: 1 is all signal, 0 all "
    "noise (-1 to 1); every `diagnose_every_updates`.",
    "gradient/deviation": "Standard deviation of the gradient over batches, estimated from the two halves (objective "
    "per unit of parameter); every `diagnose_every_updates`.",
    "gradient/signal_to_noise": "Squared length of the expected gradient over the variance of its estimate, from the "
    "two halves (1, cut off at a million); every `diagnose_every_updates`.",
    "gradient/norm": "Euclidean norm of the gradient before clipping, mean over replicas (objective per unit of "
    "parameter).",
    "update/number": "How many updates the run has made, including this one, as the terminal counts them (updates).",
    "update/size": "Euclidean norm of the change that the update made to the parameters, mean over replicas (units of "
    "parameter).",
    "update/learning_rate": "Learning rate that the optimizer used for the update (units of parameter per unit of its "
    "step); for the natural gradient its radius `kl` (nats).",
    "episode/return": "Undiscounted return of the episodes played for the update, mean over episodes and replicas "
    "(reward).",
    "episode/length": "Length of the episodes played for the update, mean over episodes and replicas (decisions: "
    "environment steps, unless `action_repeat` holds them).",
    "episode/env_steps": "Environment steps played for updates so far, mean over replicas: calls of the environment's "
    "`step`, of which `action_repeat` makes several for one decision (environment steps).",
    "episode/decisions": "Actions that the policy chose for the update, mean over replicas; only with `action_repeat`, "
    "without which they are the environment steps (decisions).",
    "policy/entropy": "Entropy of the policy at the observations of the update, mean over steps and replicas (nats). "
    "For continuous actions it is the entropy before actions are clipped or squashed to their bounds; after that the "
    "entropy is lower, and has no closed form.",
    "policy/kl": "Kullback-Leibler divergence from the policy that played the update to the one after it, in closed "
    "form, mean over the update's steps (nats); every `diagnose_every_updates`.",
    "ppo/clip_fraction": "Share of the steps at which PPO's clip leaves no gradient, mean over the passes (1).",
    "ppo/kl": "Divergence from the policy that played the update, on the minibatch of PPO's last pass (nats).",
    "ppo/passes": "Passes that PPO made in the update, before the divergence stopped it (passes).",
    "ppo/surrogate": "PPO's clipped surrogate, on the minibatch of its last pass (unit of the advantages).",
    "policy/effective_episodes": "Effective number of the update's episodes for the policy after it, which makes their "
    "actions more or less probable: all of them if the policy has not changed (episodes); every "
    "`diagnose_every_updates`.",
    "baseline/explained_variance": "Part of the variance of the returns, or of their estimates, that the baseline "
    "explains: 1 is perfect, 0 is no better than one number for all (1); every `diagnose_every_updates`.",
    "critic/error": "Half the mean squared error of the critic at the steps of the update, before it learned from them "
    "(squared reward).",
    "batch/accuracy": "Part of the update's examples whose most probable label is the right one, mean over replicas "
    "(0 to 1).",
    "batch/log_loss": "Mean negative log-likelihood of the update's labels, without any penalty (nats per example).",
    "batch/deviance": "Mean Poisson deviance of the update's counts: twice the difference in log-likelihood to a model "
    "whose means are the counts themselves (nats per example).",
    "batch/squared_error": "Mean squared error of the update's labels that are numbers (their unit, squared).",
    "batch/examples": "Examples learned from so far, counted each time, mean over replicas (examples).",
    "evaluation/return": "Undiscounted return of the greedy policy on held-out episodes, after the update (reward).",
    "evaluation/length": "Length of those held-out episodes (decisions: environment steps, unless `action_repeat` "
    "holds them).",
    "evaluation/cut_off": "Part of those held-out episodes that did not end within `evaluation.episode_limit`, and "
    "count with their return up to then; logged if it is not 0 (1).",
    "evaluation/reward_per_step": "Reward per step of the greedy policy, over the first `evaluation.steps` steps of "
    "each held-out episode, after the update (reward per decision: environment step, unless `action_repeat` holds it).",
    "evaluation/accuracy": "Part of the held-out examples whose most probable label is the right one, after the update "
    "(0 to 1).",
    "evaluation/log_loss": "Mean negative log-likelihood of the held-out labels, after the update (nats per example).",
    "evaluation/auc": "Area under the ROC curve of the held-out examples, after the update: how often an example of "
    "class 1 gets a higher probability than one of class 0; for two classes only (0 to 1, 0.5 is chance).",
    "evaluation/deviance": "Mean Poisson deviance of the held-out counts, after the update (nats per example).",
    "evaluation/squared_error": "Mean squared error of the held-out labels that are numbers, after the update (their "
    "unit, squared).",
    "evaluation/validation_log_loss": "The same log-loss on the validation part, which is neither learned from nor "
    "tested on (nats per example).",
    "evaluation/validation_deviance": "The same deviance on the validation part (nats per example).",
    "evaluation/validation_squared_error": "The same squared error on the validation part (the labels' unit, squared).",
    "evaluation/prior_deviance": "The same deviance for always predicting the training part's mean (nats per example).",
    "evaluation/prior_squared_error": "The same squared error for always predicting the training part's mean (the "
    "labels' unit, squared).",
    "evaluation/prior_accuracy": "The same accuracy for always predicting the most frequent class of the training part "
    "(0 to 1).",
    "evaluation/prior_log_loss": "The same log-loss for always predicting the training part's class frequencies (nats "
    "per example).",
    "surface/evaluations": "How often the update evaluated the function, for each replica: once, or more often with a "
    "line search (evaluations).",
    "point/x": "Coordinate x of the point before the update (its own unit); point/y and so on are the others. With "
    "several replicas they are in `metrics.jsonl` only, because the mean of several points means nothing.",
    "evaluation/value": "The function's value after the update (its own unit).",
    "evaluation/gradient_norm": "Euclidean norm of the function's gradient after the update (value per unit of "
    "coordinate).",
    "evaluation/smallest_eigenvalue": "Smallest eigenvalue of the function's Hessian after the update: the least "
    "curvature in any direction (value per unit of coordinate, squared).",
    "evaluation/largest_eigenvalue": "Largest eigenvalue of that Hessian (value per unit of coordinate, squared).",
    "evaluation/distance": "Distance to the nearest known minimum or maximum, whichever the run looks for, after the "
    "update (units of coordinate).",
    "speed/work_per_second": "Environment steps, examples or evaluations, all replicas together, per second of wall "
    "time since the previous update, including evaluation and logging (1/s).",
    "speed/seconds": "Wall time of the run until then, over all its sittings (s).",
    "speed/updates_per_second": "Updates per second of wall time, since the previous one (1/s).",
}

STATISTICS = {  # the endings of an evaluation tag, or of the objective's tag
    "mean": "mean over replicas",
    "iqm": "interquartile mean over replicas: the mean of the middle half",
    "ci95_low": "lower end of the 95% interval of the mean over replicas (Student's t); the mean if there is no "
    "interval because all replicas are equal; absent with one replica, and for the starting points of a surface",
    "ci95_high": "upper end of that interval, with the same exceptions",
}


def description(tag: str, own: Mapping[str, str]) -> str:
    """The meaning of a tag; empty if it has none. own: the meanings of the tags of the user's own problem."""
    tags = {**TAGS, **own}
    stem, _, last = tag.rpartition("/")
    if stem.startswith("sweep/"):
        swept, _, cell = stem.removeprefix("sweep/").rpartition("/")
        return f"{tags.get(swept, swept)} Here: with {cell}, the {STATISTICS[last]}."
    if last in STATISTICS and stem in tags:
        return f"{tags[stem]} Here: the {STATISTICS[last]}."
    return tags.get(tag, "")


@cache
def shown(tag: str) -> str:
    """The name of a tag in TensorBoard, which sorts groups by name. To have the evaluation and objective first, tags
    of groups that would come before them are put under `update/` or `replicas/`."""
    group, _, rest = tag.partition("/")
    if rest.rpartition("/")[2] in STATISTICS.keys() - {"mean"}:
        return f"replicas/{tag}"
    return tag if group == "evaluation" or group >= "objective" else f"update/{tag}"


def in_cell(tag: str, cell: str) -> str:
    """The tag of the replicas of one cell of a sweep. cell: its name."""
    return f"sweep/{tag}/{cell}"


def charts(evaluated: Sequence[str], banded: bool, cells: Sequence[str] = ()) -> dict[str, Charts]:
    """The charts of TensorBoard's tab CUSTOM SCALARS. evaluated: the most important tags of the evaluation.
    banded: whether there are intervals over replicas. cells: the names of the cells of a sweep, each with a line."""
    first: dict[str, Sequence[str] | Sequence[Band]] = {}
    for tag, mean in [*((tag, f"{tag}/mean") for tag in evaluated), ("objective/value", "objective/value")]:
        each = {in_cell(tag, cell): f"{in_cell(tag, cell)}/mean" for cell in cells} or {tag: mean}
        bands = [Band(line, shown(f"{one}/ci95_low"), shown(f"{one}/ci95_high")) for one, line in each.items()]
        first[f"{tag}, for each value" if cells else tag] = bands if banded else list(map(re.escape, each.values()))
    update = {
        "what the step promised and achieved": ("objective/predicted_change", "objective/achieved_change"),
        "the gradient's norm": ("update/gradient/norm",),
        "the size of the step": ("update/size",),
    }
    return {"objective and evaluation": first, "one update": update}


def page() -> str:
    """The text of docs/tags.md."""
    lines = [
        "# What a run logs",
        "",
        "Every key in `metrics.jsonl` and every tag in TensorBoard, with its unit in brackets. `metrics.jsonl` has",
        "the values of all replicas, TensorBoard their mean. Two keys have no tag: `step` is the work that one",
        "replica has done by then (environment steps, examples or evaluations; the mean, if replicas differ), and",
        "`update` is the number of the update, counted from 1. The step of a point in TensorBoard is the same",
        "`step`, so that runs with batches of different sizes can be compared.",
        "",
        "TensorBoard sorts the groups of its charts by name. To have the evaluation and the objective first, tags of",
        "groups that would come before them are under `update/` there: `update/episode/return`,",
        "`update/gradient/norm`. This page is made by `rlgrad tags`; the same sentences are TensorBoard's tooltips.",
        "",
        "| tag | meaning |",
        "|---|---|",
        *(f"| `{tag}` | {text} |" for tag, text in TAGS.items()),
        "",
        "In TensorBoard an evaluation tag, and the tag of the objective, has each of these endings. All but the mean",
        "are under `replicas/`.",
        "",
        "| ending | meaning |",
        "|---|---|",
        *(f"| `/{ending}` | {text[0].upper() + text[1:]}. |" for ending, text in STATISTICS.items()),
        "",
        "With `pictures_every_updates` there are pictures: `pictures/film`, the greedy policy of the first replica at",
        "play; `pictures/path`, a surface of one or two variables with the path on it; and for a classifier, on its",
        "test set, `pictures/calibration`, `pictures/roc`, `pictures/boundary` and `pictures/coefficients`.",
        "",
        "A sweep has the evaluation and the objective for each value too, as",
        "`sweep/evaluation/return/optimizer.lr=0.01/mean`, and `sweep` (text) is the table of the last evaluation.",
        "",
        "Besides these, `config` (text) is the config with all defaults, and `direction` (text) says what",
        "`objective/value` is and whether the run moves it up or down. The tab CUSTOM SCALARS shows both with the",
        "interval over replicas as a band. The tab HPARAMS lists the settings that are not their defaults, and the",
        "seed, beside the last objective and evaluation.",
    ]
    return "\n".join(lines) + "\n"
