"""What a run needs of a problem, beyond what the loop needs."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from rlgrad.loop import Direction, Problem, Update


class Trainable(Problem):
    """A problem that a run can follow. Everything here has a default; override what your problem needs."""

    work = "work/evaluations"  # the metric that counts the work of an update, such as "episode/env_steps"
    measures = "objective"  # what the objective is, in a word or two, such as "discounted return"
    headline: tuple[str, ...] = ()  # the metrics of `evaluate` that matter most, the first one first
    judged: tuple[str, Direction] | None = None  # the metric of `evaluate` that compares models, and its direction
    patience: int | None = None  # a replica stops after this many evaluations in a row with no better `judged`
    uses: tuple[str, ...] = ("evaluate",)  # the commands that use the trained model
    shares = 0  # the number of episodes or rows of an update, which ranks divide among themselves; 0: not divisible
    progress = 0.0  # how much of the run is done, from 0 to 1; the run sets it before each update
    finished = False  # whether nothing is left to do: then a run ends early
    by_chance = True  # whether replicas differ only by chance: then intervals over them are reported
    solved: tuple[str, float] | None = None  # a metric of `evaluate`; from this value on the problem is solved
    timed: Mapping[str, tuple[Any, str]] = {}  # what a profile times separately: label -> (object, name of its method)
    shown: str = ""  # which of the `documents`, a short table, is printed at the end
    tags: Mapping[str, str] = {}  # what the problem's own metrics mean: a sentence for each, with its unit
    facts: Mapping[str, str] = {}  # facts for a run's first lines and environment.json

    def description(self) -> dict[str, Any]:
        """All that is needed to use the model, besides its tensors: spaces, names, preprocessing, as JSON values. It is
        saved with the weights. A run that begins with these weights must have the same entry `form`."""
        return {}

    def begin_from(self, tensors: Mapping[str, Tensor], description: Mapping[str, Any]) -> None:
        """Begin with the model of another run. tensors: [R, ...] each, the model's state; description: that run's
        `description`. Raises ValueError if they do not fit."""
        self.model.load_state_dict(tensors)

    def evaluate(self, step: int) -> Mapping[str, Tensor]:
        """Metrics [R] on held-out data, or in held-out episodes that are played for this update."""
        return {}

    def pictures(self) -> Mapping[str, bytes]:
        """Pictures of what was learned so far: PNG or GIF bytes by tag. Raises RunError if pictures are expected but
        cannot be made."""
        return {}

    def identity(self) -> Mapping[str, str]:
        """Texts, by name, that identify data which the settings only name, such as a file's content. Every checkpoint
        has them; a run whose data has changed is not resumed, reproduced or evaluated."""
        return {}

    @torch.no_grad()
    def after(self, update: Update) -> Tensor:
        """The objective [R] on the data of this update, at the current parameters."""
        return self.objective(update.passes[0].batch).value.detach()

    def final(self, update: Update) -> Tensor:
        """The objective [R] at the current parameters, which are the saved ones, for the summary. update: the last one.
        If there is more data than an update uses, the objective is measured on all of it."""
        return self.after(update)

    def diagnose(self, update: Update, promised: Tensor) -> Mapping[str, Tensor]:
        """The change of the objective that the update promised, and the change it achieved: [R] each.

        promised: [R] the inner product of the gradient before the update and the whole step of the update.
        """
        achieved = self.after(update) - update.value
        return {"objective/predicted_change": promised, "objective/achieved_change": achieved}

    def close(self) -> None:
        """Release what is not memory, such as processes. Called at the end of a run, even after an error."""

    def conclusion(self) -> Sequence[str]:
        """The results, in sentences."""
        return ()

    def findings(self) -> Mapping[str, Any]:
        """The results as JSON values, for the summary. Called after `conclusion`."""
        return {}

    def documents(self) -> Mapping[str, str]:
        """The results as texts for the run directory, by file name. Called after `conclusion`. TensorBoard shows those
        in Markdown."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """State for the checkpoint, if an update depends on more than the parameters, the buffers of `model` and the
        number of the update: for example episodes that go on across updates.

        It consists of tensors, numbers, texts, bytes, lists and dicts. Nothing else is read from a checkpoint, because
        a pickled environment could run a stranger's code. What it cannot hold is drawn again from the streams of the
        update; if that is impossible, this raises RunError.
        """
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from this state. Raises ValueError if it is not a state of this problem."""
