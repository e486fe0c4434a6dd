"""The check of a problem passes ours, and names what is broken in others."""

import random
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from rlgrad.config import load_config
from rlgrad.loop import Direction, Estimate
from rlgrad.streams import Purpose, streams
from rlgrad.testing import check_problem
from rlgrad.trainable import Trainable

SHARED = {"updates": 9, "replicas": 3, "optimizer": {"name": "SGD", "lr": 0.1}}
PLAYS = SHARED | {"problem": "reinforce", "episodes": 3, "policy": {"hidden": [4]}, "evaluation": {"episodes": 2}}
CRITIC = {"baseline": "critic", "critic": {"hidden": [4], "learning_rate": 0.2}}
OURS = {
    "minibatches": {"problem": "logistic", "data": "iris", "batch_size": 16},
    "minibatches, upwards": {"problem": "logistic", "data": "iris", "batch_size": 16, "objective": "log_likelihood"},
    "the whole table": {"problem": "logistic", "data": "iris"},
    "surface": {"problem": "surface", "function": "rosenbrock"},
    "episodes": PLAYS | {"environment": "rlgrad/TwoRooms-v0"},
    "critic": PLAYS | CRITIC | {"environment": "CartPole-v1"},
    "segments": PLAYS | CRITIC | {"environment": "CartPole-v1", "segment": 16, "normalise_returns": True},
    "normalised": PLAYS | {"environment": "CartPole-v1", "normalise_observations": True, "baseline": "running_mean"},
    "continuous": PLAYS | {"environment": "Pendulum-v1", "episodes": 2, "action_repeat": 20},
}


@pytest.mark.parametrize("name", OURS)
def test_our_problems_keep_their_promises(name: str) -> None:
    rate = {"surface": 1e-4, "continuous": 1e-5}.get(name, 0.1)
    assert check_problem(lambda: load_config(SHARED | OURS[name]).build().problem, lr=rate) == []


@pytest.mark.parametrize("optimizer", ["Adam", "NAdam", "LBFGS", "Newton"])
def test_with_any_optimizer(optimizer: str) -> None:
    assert check_problem(lambda: load_config(SHARED | OURS["minibatches"]).build().problem, optimizer) == []


class Sound(Trainable):
    """Points that climb a dome in noise; each test breaks one thing."""

    direction = Direction.MAXIMIZE
    replicas = 3

    def __init__(self) -> None:
        self.model = nn.ParameterDict({"x": torch.linspace(-2, 2, 2 * self.replicas).reshape(self.replicas, 2)})

    def sample(self, step: int) -> Any:
        drawn = [rng.normal(size=2) for rng in streams(0, self.replicas, Purpose.SAMPLE, step)]
        return torch.tensor(np.array(drawn), dtype=torch.float32)

    def objective(self, batch: Any) -> Estimate:
        height = self.height(self.model["x"] - batch)
        return Estimate(height, {"height": height.detach()})

    def height(self, x: Tensor) -> Tensor:
        return (3 - x**2).mean(1)

    def evaluate(self, step: int) -> dict[str, Tensor]:
        return {"distance": self.model["x"].detach().norm(dim=1)}


class OneValue(Sound):
    def height(self, x: Tensor) -> Tensor:
        return (3 - x**2).mean()


class Detached(Sound):
    def height(self, x: Tensor) -> Tensor:
        return super().height(x).detach()


class One(Sound):
    replicas = 1


class Begins(Sound):
    def __init__(self) -> None:
        self.model = nn.ParameterDict({"x": torch.randn(3, 2)})


class GlobalTorch(Sound):
    def sample(self, step: int) -> Any:
        return torch.randn(3, 2)


class GlobalNumpy(Sound):
    def sample(self, step: int) -> Any:
        return float(np.random.normal())


class GlobalRandom(Sound):
    def passes(self, data: Any) -> Any:
        return [data, data * random.random()]


class OnlyLater(Sound):
    def sample(self, step: int) -> Any:
        return torch.randn(3, 2) if step else 0.0


class BatchNormalised(Sound):
    def height(self, x: Tensor) -> Tensor:
        return super().height((x - x.mean(0)) / x.std(0))


class InfectedByNaN(Sound):
    def height(self, x: Tensor) -> Tensor:
        return super().height(x) + 0 * x.sum()


class Asymmetric(Sound):
    def height(self, x: Tensor) -> Tensor:
        return super().height(x) + (x.sum(1) if self.direction is Direction.MAXIMIZE else 0)


class OtherData(Sound):
    def sample(self, step: int) -> Any:
        return super().sample(step + (step > 0 and self.direction is Direction.MINIMIZE))


class Hidden(Sound):
    calls = 0

    def sample(self, step: int) -> Any:
        self.calls += 1
        return super().sample(step) * self.calls


class Pickled(Hidden):
    def state_dict(self) -> dict[str, Any]:
        return {"calls": np.array([self.calls])}

    def load_state_dict(self, state: Any) -> None:
        self.calls = int(state["calls"][0])


class AttachedMetrics(Sound):
    def objective(self, batch: Any) -> Estimate:
        height = self.height(self.model["x"] - batch)
        return Estimate(height, {"height": height})


class MetricForAll(Sound):
    def objective(self, batch: Any) -> Estimate:
        estimate = super().objective(batch)
        return estimate._replace(metrics={"height": estimate.value.detach().mean()})


class NoWork(Sound):
    work = "episode/env_steps"


class Evaluates(Sound):
    def evaluate(self, step: int) -> dict[str, Tensor]:
        return {"noise": torch.randn(3)}


class EvaluatesForAll(Sound):
    def evaluate(self, step: int) -> dict[str, Tensor]:
        return {"distance": self.model["x"].detach().norm()}


class EvaluatesAndMoves(Sound):
    moved = 0.0

    def sample(self, step: int) -> Any:
        return super().sample(step) + self.moved

    def evaluate(self, step: int) -> dict[str, Tensor]:
        self.moved = 1.0
        return super().evaluate(step)


class Raises(Sound):
    def evaluate(self, step: int) -> dict[str, Tensor]:
        raise KeyError("no such\ntable")


BROKEN = {
    OneValue: "one value for each of the 3 replicas: shape [3], not []; take sums and means over all axes but the",
    Detached: "was it detached, or computed under torch.no_grad()?",
    One: "One has one replica: let the factory make it with two or more",
    Begins: "the model of Begins begins differently each time: draw its parameters from a fixed seed",
    GlobalTorch: "update 0 of GlobalTorch differs each time",
    GlobalNumpy: "update 0 of GlobalNumpy differs each time",
    GlobalRandom: "update 0 of GlobalRandom differs each time",
    OnlyLater: "update 3 of OnlyLater differs each time",
    BatchNormalised: "the replicas of BatchNormalised are not independent",
    InfectedByNaN: "the replicas of InfectedByNaN are not independent",
    Asymmetric: "the objective of Asymmetric depends on its direction by more than the sign",
    OtherData: "OtherData does not move the same when its negative goes the opposite way",
    Hidden: "Hidden does not continue from its state",
    Pickled: "Pickled.state_dict must be made of tensors, numbers, texts",
    AttachedMetrics: "AttachedMetrics.objective must detach the metric 'height'",
    MetricForAll: "MetricForAll.objective must give the metric 'height' as a tensor with one number for each",
    NoWork: "NoWork.objective must give the metric 'episode/env_steps', which its `work` names",
    Evaluates: "Evaluates.evaluate must return the same for the same step",
    EvaluatesForAll: "EvaluatesForAll.evaluate must give the metric 'distance'",
    EvaluatesAndMoves: "EvaluatesAndMoves.evaluate must change nothing",
    Raises: "Raises raised KeyError in the check of evaluates: 'no such\\ntable'",
    dict: "dict must derive from rlgrad.Problem, or from rlgrad.Trainable",
}  # fmt: skip


@pytest.mark.parametrize("kind", BROKEN)
def test_each_fault_is_named_in_one_sentence(kind: type) -> None:
    (sentence,) = check_problem(kind, lr=0.1)
    assert BROKEN[kind] in sentence
    assert "\n" not in sentence


def test_a_sound_problem_is_found_sound_and_the_generators_are_left_as_they_were() -> None:
    before = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    assert check_problem(Sound, lr=0.1) == []
    assert check_problem(Sound, "LBFGS", line_search_fn="strong_wolfe") == []
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (np.random.get_state()[1].tolist(), random.getstate()) == before[1:]


def test_several_faults_are_all_named() -> None:
    class Worse(BatchNormalised, NoWork, Hidden):
        pass

    assert len(check_problem(Worse, lr=0.1)) == 3
