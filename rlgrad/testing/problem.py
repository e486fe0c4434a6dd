"""Checks whether your own problem does what the loop, a run and resuming rely on.

from rlgrad.testing import check_problem

def test_my_problem():
    assert check_problem(lambda: MyProblem(replicas=3)) == []
"""

import io
import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any

import torch

from rlgrad.errors import RunError, text_of
from rlgrad.loop import Problem, Update, make_optimizer, updates
from rlgrad.run.resuming import restore_optimizer
from rlgrad.testing.probing import Turned, equal, generators_restored, per_replica, probe, seed
from rlgrad.trainable import Trainable


def check_problem(factory: Callable[[], Problem], optimizer: str = "SGD", **arguments: Any) -> list[str]:
    """Check a problem. Returns a sentence for each fault, which says what to change; an empty list if there is none.

    factory: makes a new problem, the same each time, with two replicas or more.
    optimizer, arguments: as for `make_optimizer`; the check makes a few updates with it.
    """
    check = Checks(factory, optimizer, arguments)
    with generators_restored():
        found = check.attempt(check.contract) or check.attempt(check.repeats)
        if found:
            return found  # the other checks need problems that are equal each time they are made
        others = (check.replicas, check.directions, check.resumes, check.metrics, check.evaluates)
        return [sentence for each in others for sentence in check.attempt(each)]


class Checks:
    """The checks. Each returns a sentence if it finds a fault, and otherwise None."""

    def __init__(self, factory: Callable[[], Problem], optimizer: str, arguments: Mapping[str, Any]):
        self.factory, self.optimizer, self.arguments = factory, optimizer, arguments
        self.seeds = itertools.count(1)
        self.name = "The problem"

    def attempt(self, check: Callable[[], str | None]) -> list[str]:
        """Run a check; return its fault in a list, or an empty list. An exception is a fault too."""
        try:
            sentence = check()
        except RunError as error:  # its message is a sentence already
            sentence = str(error)
        except Exception as error:
            reason = text_of(error)
            sentence = f"{self.name} raised {type(error).__name__} in the check of {check.__name__}: {reason}"
        return [sentence] if sentence else []

    def made(self) -> Any:
        """A new problem. The global generators are seeded anew, so that a problem that draws from them shows it."""
        seed(next(self.seeds))
        problem = self.factory()
        seed(next(self.seeds))
        self.name = type(problem).__name__
        return problem

    def running(self, problem: Problem, first: int = 0) -> tuple[torch.optim.Optimizer, Iterator[Update]]:
        """An optimizer for the problem, and the stream of its updates."""
        optimizer = make_optimizer(problem, self.optimizer, **self.arguments)
        return optimizer, updates(problem, optimizer, first)

    def contract(self) -> str | None:
        """Check that the problem can be trained, has two replicas, and begins the same each time."""
        problem = self.made()
        if not isinstance(problem, Problem):
            return f"{self.name} must derive from rlgrad.Problem, or from rlgrad.Trainable"
        next(self.running(problem)[1])
        if len(next(problem.model.parameters())) < 2:
            return f"{self.name} has one replica: let the factory make it with two or more, to compare them"
        if not equal(self.made().model.state_dict(), self.made().model.state_dict()):
            return f"the model of {self.name} begins differently each time: draw its parameters from a fixed seed"
        return None

    def repeats(self) -> str | None:
        """Check that an update is the same each time."""
        for step in (0, 3):  # update 3 without the updates before it
            if not equal(probe(self.made(), step), probe(self.made(), step)):
                said = f"update {step} of {self.name} differs each time: draw what is random in it from a generator "
                return said + "that is seeded by the seed and the step, as rlgrad.streams.stream does, not a global one"
        return None

    def replicas(self) -> str | None:
        """Check that a change of the first replica does not affect the others."""
        expected = [[x[1:] for x in each] for each in probe(self.made(), 0)]
        for spoiled in (1.0, math.nan):
            problem = self.made()
            with torch.no_grad():
                for parameter in problem.model.parameters():
                    parameter[0] += spoiled * torch.randn_like(parameter[0])
            with suppress(RunError):  # the problem may refuse parameters that are not finite
                if not equal([[x[1:] for x in each] for each in probe(problem, 0)], expected):
                    said = f"the replicas of {self.name} are not independent: if only the first one has other "
                    said += "parameters, the value or the gradient of the others changes; let no sum, mean, norm or "
                    return said + "batch normalisation go over the first axis"
        return None

    def directions(self) -> str | None:
        """Check that ascent on f moves the parameters exactly as descent on -f."""
        expected, factor = probe(self.made(), 0), -1
        if not equal(probe(Turned(self.made(), 1), 0), expected):
            factor = 1  # the objective's sign already follows the direction, so it must not be turned twice
            if not equal(probe(Turned(self.made(), -1), 0), expected):
                said = f"the objective of {self.name} depends on its direction by more than the sign: leave the "
                return said + "direction to the optimizer, or multiply the whole objective by direction.sign"
        if self.optimizer == "Newton":  # the curvature would have to be turned too
            return None
        problem, turned = self.made(), Turned(self.made(), factor)
        for each in (problem, turned):
            list(itertools.islice(self.running(each)[1], 3))
        if not equal(list(problem.model.parameters()), list(turned.model.parameters())):
            said = f"{self.name} does not move the same when its negative goes the opposite way: let its data and its "
            return said + "passes not depend on the direction"
        return None

    def resumes(self) -> str | None:
        """Check that a problem continues from its saved state as without a break."""
        one = self.made()
        optimizer, stream = self.running(one)
        list(itertools.islice(stream, 3))
        file = io.BytesIO()
        own = one.state_dict() if isinstance(one, Trainable) else {}
        torch.save([one.model.state_dict(), optimizer.state_dict(), own], file)
        file.seek(0)
        try:
            model, moments, state = torch.load(file, weights_only=True)
        except Exception:  # torch's own message is long, and advises to trust the file
            return f"{self.name}.state_dict must be made of tensors, numbers, texts, bytes, lists and dicts only"
        other = self.made()
        other.model.load_state_dict(model)
        again, continued = self.running(other, 3)
        restore_optimizer(again, moments)
        if isinstance(other, Trainable):
            other.load_state_dict(state)
        for expected, update in zip(itertools.islice(stream, 2), continued, strict=False):
            said = [(u.value, list(p.model.parameters())) for u, p in ((expected, one), (update, other))]
            if not equal(*said):
                return (
                    f"{self.name} does not continue from its state as it would have without a break: put what it keeps "
                    "from update to update into buffers of the model, or into state_dict and load_state_dict"
                )
        return None

    def metrics(self) -> str | None:
        """Check the metrics of the objective: one number for each replica, and the one that `work` names."""
        problem = self.made()
        update = next(self.running(problem)[1])
        missing = isinstance(problem, Trainable) and problem.work not in {"work/evaluations", *update.metrics}
        if missing:
            return f"{self.name}.objective must give the metric {problem.work!r}, which its `work` names"
        return per_replica(f"{self.name}.objective", update.metrics, len(update.value))

    def evaluates(self) -> str | None:
        """Check that an evaluation repeats its result and changes nothing."""
        problem = self.made()
        if not isinstance(problem, Trainable):
            return None
        found = dict(problem.evaluate(0))
        if fault := per_replica(f"{self.name}.evaluate", found, len(next(iter(problem.model.parameters())))):
            return fault
        seed(next(self.seeds))
        if not equal(found, dict(problem.evaluate(0))):
            return f"{self.name}.evaluate must return the same for the same step: seed what it draws by the step"
        if not equal(probe(problem, 0), probe(self.made(), 0)):
            return f"{self.name}.evaluate must change nothing: without it, the next update is different"
        return None
