"""What a run asks of a problem, beyond what the loop asks."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from rlgrad.loop import Direction, Problem, Update


class Trainable(Problem):
    """A problem that a run can follow. Everything here has a default; say more where there is more to say."""

    work = "work/evaluations"  # the metric that counts the work of an update, such as "episode/env_steps"
    measures = "objective"  # what the objective is, in a word or two, such as "discounted return"
    headline: tuple[str, ...] = ()  # the metrics of `evaluate` that matter most, the first one first
    judged: tuple[str, Direction] | None = None  # the metric of `evaluate` by which models are compared, and its way
    patience: int | None = None  # after how many evaluations in a row that are no better, by `judged`, a replica stops
    uses: tuple[str, ...] = ("evaluate",)  # the commands that use the trained model
    shares = (
        0  # of how many episodes or rows the work of an update consists, as ranks can have them; 0: it is one piece
    )
    progress = 0.0  # how much of the run is done, from 0 to 1: whoever follows it sets this before each update
    finished = False  # whether there is nothing left to do: then a run ends before its length
    by_chance = True  # whether replicas differ by chance alone: then there are intervals over them
    solved: tuple[str, float] | None = None  # a metric of `evaluate`, and the value from which it counts as solved
    timed: Mapping[str, tuple[Any, str]] = {}  # what a profile times apart, by name: whose function, and its name
    shown: str = ""  # the one of its `documents` that a person is shown at the end, a table, where it is a short one
    tags: Mapping[str, str] = {}  # what the metrics of its own mean: a sentence for each, with its unit
    facts: Mapping[str, str] = {}  # worth knowing before it begins: in a run's first lines, and in environment.json

    def description(self) -> dict[str, Any]:
        """What it takes to use the model, besides its tensors: spaces, names, preprocessing, as JSON has it. It is kept
        with the weights. What stands in its `form` has to be the same where another run begins with them."""
        return {}

    def begin_from(self, tensors: Mapping[str, Tensor], description: Mapping[str, Any]) -> None:
        """Begin with what another run has learned. tensors: [R, ...] each, as those of the model; description: that
        run's. Raises ValueError where it does not fit."""
        self.model.load_state_dict(tensors)

    def evaluate(self, step: int) -> Mapping[str, Tensor]:
        """Metrics [R] on held-out data, or in held-out episodes that are drawn for this step."""
        return {}

    def pictures(self) -> Mapping[str, bytes]:
        """What has been learned so far, to be looked at: PNGs or GIFs by their tags. Raises RunError where there should
        be some, and none can be made."""
        return {}

    def identity(self) -> Mapping[str, str]:
        """What it learns from that the settings only name, such as the content of a file: texts by name. Every
        checkpoint has them, and a run whose data has changed is not resumed, reproduced or evaluated."""
        return {}

    @torch.no_grad()
    def after(self, update: Update) -> Tensor:
        """The objective [R] on the data of this update, at the parameters as they are now."""
        return self.objective(update.passes[0].batch).value.detach()

    def final(self, update: Update) -> Tensor:
        """The objective [R] at the parameters as they are now, which are those that are saved: what the summary
        reports. update: the last one. Where there is more data than that of an update, it is measured on all."""
        return self.after(update)

    def diagnose(self, update: Update, promised: Tensor) -> Mapping[str, Tensor]:
        """What the update came to, beside what it promised: [R] each.

        promised: [R] the gradient before the update times the whole step of the update.
        """
        achieved = self.after(update) - update.value
        return {"objective/predicted_change": promised, "objective/achieved_change": achieved}

    def close(self) -> None:
        """Let go of what it holds besides memory, such as processes: at the end of a run, however that came about."""

    def conclusion(self) -> Sequence[str]:
        """What has come out, in sentences."""
        return ()

    def findings(self) -> Mapping[str, Any]:
        """What has come out, in numbers, as JSON has it: for the summary, after `conclusion`."""
        return {}

    def documents(self) -> Mapping[str, str]:
        """What has come out, as texts for the run directory, by the names of their files, after `conclusion`.
        TensorBoard shows those in Markdown."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint is to hold where an update depends on more than the parameters, the buffers of `model` and
        the update's number: such as episodes that go on across updates.

        It is made of tensors, numbers, texts, bytes, lists and dicts, as nothing else is ever read from a checkpoint (a
        pickled environment would run a stranger's code). What it cannot hold is drawn again from the streams of the
        update, or this raises RunError and says so.
        """
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there. Raises ValueError where the state is not one of its own."""
