"""The optimizer's closure: what it keeps, what it counts, what it refuses; passes, parts, and replicas side by side."""

import copy
import itertools
from collections.abc import Iterable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from rlgrad import Direction, Estimate, RunError, Trainable, clipping, make_optimizer, updates
from rlgrad.loop import Apart, Evaluation
from rlgrad.optimizers import ByPart, schedules
from rlgrad.run.observers.diagnosis import effect


class Valley(Trainable):
    """Rosenbrock's valley, of another narrowness for each replica, from other starts: some need a longer search."""

    direction = Direction.MINIMIZE
    curved = True
    starts = ((-1.2, 1.0), (0.9, 0.8), (3.0, -2.0), (1.0, 1.0), (-2.0, 2.5))
    narrow = (100.0, 1.0, 10.0, 5.0, 40.0)

    def __init__(self, replicas: Iterable[int] = range(5)):
        chosen = list(replicas)
        self.model = nn.ParameterDict({"p": torch.tensor([self.starts[k] for k in chosen], dtype=torch.float64)})
        self.narrowness = torch.tensor([self.narrow[k] for k in chosen], dtype=torch.float64)
        self.asked = 0

    def objective(self, batch: Any) -> Estimate:
        self.asked += 1
        return Estimate(self.height(self.model["p"]), {}, curvature=self.curvature)

    def height(self, p: Tensor) -> Tensor:
        x, y = p.unbind(1)
        return (1 - x).square() + self.narrowness * (y - x.square()).square()

    def curvature(self) -> Any:
        from rlgrad.optimizers.curvature import Differentiated

        with torch.enable_grad():
            return Differentiated(self.height(self.model["p"]), self.model.parameters())


LBFGS = {"lr": 1.0, "max_iter": 20, "line_search_fn": "strong_wolfe"}


def test_replicas_side_by_side_cost_the_evaluations_of_the_slowest_and_change_no_number() -> None:
    together = Valley()
    stream = updates(together, make_optimizer(together, "LBFGS", **LBFGS))
    alone = [Valley([k]) for k in range(5)]
    each = [updates(problem, make_optimizer(problem, "LBFGS", **LBFGS)) for problem in alone]
    counted = []
    for _ in range(4):
        update, of_each = next(stream), [next(one) for one in each]
        counts = [one.evaluations for one in of_each]
        counted.append(counts)
        assert update.evaluations == max(counts)
        assert torch.equal(update.value, torch.cat([one.value for one in of_each]))
        assert torch.equal(together.model["p"], torch.cat([problem.model["p"] for problem in alone]))
    assert len(set(counted[0])) > 1  # they do need different numbers
    assert together.asked < sum(problem.asked for problem in alone)


def test_optimizers_that_ask_once_share_one_evaluation() -> None:
    problem = Valley()
    assert next(updates(problem, make_optimizer(problem, "Adafactor", lr=0.01))).evaluations == 1


def test_an_error_in_the_objective_leaves_the_side_by_side_steps() -> None:
    problem = Valley()
    stream = updates(problem, make_optimizer(problem, "LBFGS", **LBFGS))
    next(stream)
    problem.narrowness = None  # type: ignore[assignment]
    with pytest.raises(TypeError):
        next(stream)
    assert torch.is_grad_enabled()


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("SGD", {"lr": 1e-4, "momentum": 0.9}), ("Adam", {"lr": 0.01}), ("Muon", {"lr": 0.01}),
        ("Adafactor", {"lr": 0.01}), ("LBFGS", LBFGS), ("Newton", {"max_iter": 3}),
    ],
)  # fmt: skip
@pytest.mark.parametrize("clipped", [False, True])
def test_what_was_promised_is_the_gradient_before_the_step_unclipped_times_the_step(
    name: str, arguments: dict[str, Any], clipped: bool
) -> None:
    class Square(Valley):  # Muon wants matrices
        def __init__(self) -> None:
            super().__init__()
            self.model = nn.ParameterDict({"p": self.model["p"].detach().reshape(5, 1, 2).clone()})

        def height(self, p: Tensor) -> Tensor:
            return super().height(p.reshape(5, 2))

    problem = Square()
    before = problem.model["p"].detach().clone()
    (gradient,) = torch.autograd.grad(problem.height(problem.model["p"]).sum(), [problem.model["p"]])
    update = next(updates(problem, make_optimizer(problem, name, **arguments), 0, clipping(0.5) if clipped else None))
    step = problem.model["p"].detach() - before
    found = effect(problem, update, [step])
    assert step.abs().max() > 0
    torch.testing.assert_close(found["objective/predicted_change"], (gradient * step).flatten(1).sum(1))
    torch.testing.assert_close(update.gradient_norm, gradient.flatten(1).norm(dim=1))
    with torch.no_grad():
        change = problem.height(problem.model["p"]) - problem.height(before)
    torch.testing.assert_close(found["objective/achieved_change"], change)


class Critic(Apart):
    direction = Direction.MINIMIZE

    def __init__(self, replicas: int = 3):
        super().__init__()
        self.guess = nn.Parameter(torch.zeros(replicas, 2))


class ActorCritic(Trainable):
    """A point climbs a hill, and a critic learns where it was; in one pass for both, or with passes for the critic."""

    direction = Direction.MAXIMIZE

    def __init__(self, critic_steps: int = 0, optimizer: tuple[str, dict[str, Any]] | None = None):
        self.critic = Critic()
        self.critic.optimizer = optimizer
        self.point = nn.Parameter(torch.tensor([[1.0, -2.0], [0.5, 0.1], [2.0, 3.0]]))
        self.model = nn.Module()
        self.model.point, self.model.critic = self.point, self.critic
        self.critic_steps = critic_steps

    def passes(self, data: Any) -> Iterable[str]:
        return ["policy"] + ["critic"] * self.critic_steps if self.critic_steps else ["both"]

    def objective(self, batch: str) -> Estimate:
        with torch.no_grad():
            value = 3 - self.point.square().sum(1)
            climb = None if batch == "critic" else -2 * self.point
            error = None if batch == "policy" else self.critic.guess - self.point
        return Estimate(value, {}, gradient=[climb, error])


def test_a_part_s_own_optimizer_moves_as_a_group_of_the_same_kind_would() -> None:
    def trained(optimizer: tuple[str, dict[str, Any]] | None) -> list[Tensor]:
        problem = ActorCritic(optimizer=optimizer)
        for _ in itertools.islice(updates(problem, make_optimizer(problem, "Adam", lr=0.1)), 5):
            pass
        return list(problem.model.parameters())

    for one, other in zip(trained(None), trained(("Adam", {"lr": 0.1})), strict=True):
        assert torch.equal(one, other)


def test_one_update_may_hold_a_step_of_the_policy_and_twenty_of_its_critic() -> None:
    problem = ActorCritic(critic_steps=20, optimizer=("SGD", {"lr": 0.1}))
    optimizer = make_optimizer(problem, "SGD", lr=0.25)
    assert isinstance(optimizer, ByPart)
    start = problem.point.detach().clone()
    update = next(updates(problem, optimizer))
    torch.testing.assert_close(problem.point.detach(), start - 0.25 * 2 * start)  # moved once
    torch.testing.assert_close(problem.critic.guess.detach(), problem.point.detach() * (1 - 0.9**20))  # and after it
    assert update.evaluations == 21
    assert [bool(each.gradient) for each in update.passes] == [True] + [False] * 20  # only the first keeps its own
    assert torch.equal(update.value, 3 - start.square().sum(1))


def test_parts_resume_and_are_scheduled() -> None:
    def made() -> tuple[ActorCritic, Any]:
        problem = ActorCritic(optimizer=("Adam", {"lr": 0.05}))
        return problem, make_optimizer(problem, "SGD", lr=0.1, momentum=0.9)

    problem, optimizer = made()
    stream = updates(problem, optimizer)
    for _ in range(3):
        next(stream)
    again, resumed = made()
    again.model.load_state_dict(problem.model.state_dict())
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    schedules.ExponentialLR(optimizer, 0.5).step()
    schedules.ExponentialLR(resumed, 0.5).step()
    assert [group["lr"] for group in optimizer.each[1].param_groups] == [0.025]
    follow = updates(again, resumed, first=3)
    for _ in range(3):
        next(stream), next(follow)
    for one, other in zip(problem.model.parameters(), again.model.parameters(), strict=True):
        assert torch.equal(one, other)


def test_the_value_alone_takes_no_gradient_and_counts() -> None:
    problem = Valley()
    evaluation = Evaluation(problem, None, list(problem.model.parameters()))
    value = evaluation()
    kept = problem.model["p"].grad.clone()
    with torch.no_grad():
        problem.model["p"] += 1
    assert not torch.equal(evaluation.value_alone(), value)
    assert torch.equal(problem.model["p"].grad, kept)
    assert torch.equal(evaluation.value, value)
    assert evaluation.calls == 2


class Broken(Trainable):
    direction = Direction.MAXIMIZE

    def __init__(self, say: Any):
        self.model, self.say = nn.ParameterDict({"x": torch.ones(5)}), say

    def objective(self, batch: Any) -> Any:
        return self.say(self.model["x"])


@pytest.mark.parametrize(
    ("say", "said"),
    [
        (lambda x: Estimate((3 - x**2).mean(), {}), r"one value for each of the 5 replicas: shape \[5\], not \[\]"),
        (lambda x: Estimate((3 - x**2)[:, None], {}), r"shape \[5\], not \[5, 1\]"),
        (lambda x: 3 - x**2, "an Estimate whose value is a tensor, not Tensor"),
        (lambda _: Estimate(3.0, {}), "an Estimate whose value is a tensor, not float"),
        (lambda x: Estimate((3 - x**2).detach(), {}), "was it detached"),
        (lambda x: Estimate((3 - x**2).detach().round().long(), {}), "is a real number, not torch.int64"),
        (lambda x: Estimate(x * float("nan"), {}), r"not finite: \[nan.*too large for float32\?"),
        (lambda x: Estimate(x * 3e38 * 10, {}), r"not finite: \[inf"),
        (lambda x: Estimate(x.detach(), {}, gradient=[torch.ones(5, 1)]), "for each parameter"),
        (lambda x: Estimate(x.detach(), {}, gradient=[]), "for each parameter"),
    ],
)
def test_the_contract_is_checked_at_the_door_in_a_sentence(say: Any, said: str) -> None:
    problem = Broken(say)
    with pytest.raises(RunError, match=said):
        next(updates(problem, make_optimizer(problem, "SGD", lr=0.1)))
    assert torch.equal(problem.model["x"], torch.ones(5))  # nothing has moved


def test_a_problem_that_derives_from_nothing_is_told_so() -> None:
    class Nothing:
        direction = Direction.MAXIMIZE

    with pytest.raises(RunError, match=r"Nothing must derive from rlgrad\.Problem"):
        next(updates(Nothing(), torch.optim.SGD([torch.zeros(1)], lr=0.1)))  # type: ignore[arg-type]


@pytest.mark.parametrize("mode", ["min", "max"])
@pytest.mark.parametrize("value", [-7.0, 0.0, 7.0])
@pytest.mark.parametrize("threshold_mode", ["rel", "abs"])
def test_a_plateau_is_one_of_either_sign(mode: str, value: float, threshold_mode: str) -> None:
    def rates(values: Iterable[float]) -> list[float]:
        optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
        schedule = schedules.ReduceLROnPlateau(
            optimizer, mode=mode, patience=2, factor=0.5, threshold=0.01, threshold_mode=threshold_mode
        )
        found = []
        for each in values:
            schedule.step(each)
            found.append(optimizer.param_groups[0]["lr"])
        return found

    assert rates([value] * 5) == [1, 1, 1, 0.5, 0.5]
    better = 1 if mode == "max" else -1
    assert rates(value + better * k for k in range(6)) == [1.0] * 6  # it improves each time
