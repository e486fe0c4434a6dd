import ast
import itertools
import math
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import nn

import rlgrad
from rlgrad.errors import RunError
from rlgrad.loop import Apart, Direction, Estimate, Evaluation, Problem, make_optimizer, updates
from rlgrad.optimizers import ELEMENTWISE
from rlgrad.optimizers.curvature import Differentiated
from rlgrad.replicas import clipping, product_per_replica

ARGUMENTS = {
    "SGD": {"lr": 0.02, "momentum": 0.9, "weight_decay": 0.1},
    "Adam": {"lr": 0.05, "weight_decay": 0.1, "amsgrad": True},
    "AdamW": {"lr": 0.05, "weight_decay": 0.1},
    "RMSprop": {"lr": 0.05, "momentum": 0.5, "weight_decay": 0.1, "centered": True},
    "Rprop": {"lr": 0.05},
    "Muon": {"lr": 0.05, "weight_decay": 0.1},
    "LBFGS": {"lr": 0.5, "line_search_fn": "strong_wolfe", "max_iter": 5},
    "Newton": {"max_iter": 1},
}
OPTIMIZERS = sorted(ELEMENTWISE | {"LBFGS", "Muon", "Adafactor", "Newton"})


class Hill(nn.Module, Problem):
    """A dome with some unevenness over parameters [R, 2, 3]; `turned` makes a bowl of it."""

    curved = True

    def __init__(self, replicas: int = 3, turned: bool = False):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.point = nn.Parameter(torch.randn(replicas, 2, 3, generator=generator))
        self.turned = turned
        self.direction = Direction.MINIMIZE if turned else Direction.MAXIMIZE

    @property
    def model(self) -> nn.Module:
        return self

    def sample(self, step: int) -> float:
        return 1 + 0.1 * step

    def objective(self, batch: float) -> Estimate:
        height = self._height(batch)
        return Estimate(height, {}, curvature=lambda: Differentiated(self._height(batch), self.parameters()))

    def _height(self, batch: float) -> torch.Tensor:
        height = (torch.sin(self.point) - batch * self.point.square() - 0.1 * self.point.pow(4)).sum((1, 2))
        return height.neg() if self.turned else height


def trained(problem: Hill, name: str, steps: int = 10, **arguments: object) -> torch.Tensor:
    optimizer = make_optimizer(problem, name, **(ARGUMENTS.get(name, {}) | arguments))
    for _ in itertools.islice(updates(problem, optimizer), steps):
        pass
    return problem.point.detach()


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_ascent_on_f_is_descent_on_minus_f_bit_for_bit(name: str) -> None:
    up, down = trained(Hill(), name), trained(Hill(turned=True), name)
    assert torch.equal(up, down)
    assert not torch.equal(up, Hill().point.detach())


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_goes_the_objective_s_way(name: str) -> None:
    problem = Hill()
    before = problem.objective(1.0).value
    trained(problem, name, steps=5)
    assert (problem.objective(1.0).value > before).all()


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_replica_is_untouched_by_the_others(name: str) -> None:
    alone = trained(Hill(), name)
    for spoiled in (math.nan, 1e4, 0.0):
        problem = Hill()
        with torch.no_grad():
            problem.point[1] = spoiled
        together = trained(problem, name)
        assert torch.equal(together[0], alone[0])
        assert torch.equal(together[2], alone[2])


@pytest.mark.parametrize("name", ["SGD", "LBFGS", "Adafactor"])
def test_a_replica_of_many_is_the_run_alone(name: str) -> None:
    many = trained(Hill(), name)
    for replica in range(3):
        one = Hill(1)
        with torch.no_grad():
            one.point[0] = Hill().point[replica]
        assert torch.allclose(trained(one, name)[0], many[replica], atol=1e-6)


@pytest.mark.parametrize("name", ["Adam", "LBFGS", "Newton"])
def test_an_optimizer_continues_from_its_state(name: str) -> None:
    whole = trained(Hill(), name, steps=10)
    problem = Hill()
    optimizer = make_optimizer(problem, name, **ARGUMENTS[name])
    for _ in itertools.islice(updates(problem, optimizer), 4):
        pass
    again = Hill()
    again.load_state_dict(problem.state_dict())
    resumed = make_optimizer(again, name, **ARGUMENTS[name])
    resumed.load_state_dict(optimizer.state_dict())
    for _ in itertools.islice(updates(again, resumed, first=4), 6):
        pass
    assert torch.equal(again.point.detach(), whole)


def test_the_wrong_direction_can_be_asked_for() -> None:
    problem = Hill()
    before = problem.objective(1.0).value
    optimizer = make_optimizer(problem, "SGD", direction=problem.direction.opposite, lr=0.01)
    next(updates(problem, optimizer))
    assert (problem.objective(1.0).value < before).all()


def test_a_schedule_reaches_every_replica_s_optimizer() -> None:
    def moved(rate: float) -> torch.Tensor:
        problem = Hill()
        optimizer = make_optimizer(problem, "Muon", lr=0.1, weight_decay=0.0)
        optimizer.param_groups[0]["lr"] = rate
        before = problem.point.detach().clone()
        next(updates(problem, optimizer))
        return problem.point.detach() - before

    assert torch.allclose(moved(0.01) * 10, moved(0.1), rtol=1e-4)


def test_clipping_is_per_replica() -> None:
    parameter = nn.Parameter(torch.zeros(4, 2))
    parameter.grad = torch.tensor([[3.0, 4.0], [0.3, 0.4], [0.0, 0.0], [math.nan, 1.0]])
    before = parameter.grad.clone()
    (clipped,) = clipping(1.0)([parameter.grad])
    assert torch.equal(parameter.grad[:3], before[:3])  # what is kept for the diagnosis stays as it was
    assert torch.allclose(clipped[:3], torch.tensor([[0.6, 0.8], [0.3, 0.4], [0.0, 0.0]]))


def test_the_gradient_reported_is_the_one_before_clipping_and_the_value_the_one_before_the_step() -> None:
    problem, plain = Hill(), Hill()
    expected = plain.objective(1.0).value
    expected.sum().backward()
    update = next(updates(problem, make_optimizer(problem, "SGD", lr=0.1), transform=clipping(0.1)))
    assert torch.equal(update.value, expected.detach())
    assert torch.allclose(update.gradient_norm, plain.point.grad.flatten(1).norm(dim=1))
    moved = (problem.point - plain.point).detach().flatten(1).norm(dim=1)
    assert torch.allclose(moved, torch.full((3,), 0.01), rtol=1e-3)


def test_the_order_of_events_is_one_tape() -> None:
    tape: list[str] = []

    class Tape(Hill):
        def sample(self, step: int) -> float:
            tape.append(f"play {step} at {float(self.point[0, 0, 0].detach()):.1f}")
            return 1.0

        def objective(self, batch: float) -> Estimate:
            tape.append("objective")
            return Estimate(self.point.sum((1, 2)), {})  # slope 1 everywhere: every step moves by the learning rate

    problem = Tape(replicas=1)
    with torch.no_grad():
        problem.point.zero_()
    optimizer = make_optimizer(problem, "SGD", lr=0.5)
    optimizer.register_step_post_hook(lambda *_: tape.append("step"))
    for update in itertools.islice(updates(problem, optimizer, first=7), 3):
        tape.append(f"watched {update.step}")
    assert tape == [
        "play 7 at 0.0", "objective", "step", "watched 7",
        "play 8 at 0.5", "objective", "step", "watched 8",
        "play 9 at 1.0", "objective", "step", "watched 9",
    ]  # fmt: skip


class Finding(NamedTuple):
    file: str
    line: int
    what: str


def signs_in(path: Path) -> list[Finding]:
    """Negated expressions (constants such as dim=-1 aside) and everything named after a direction's flag."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if (
            isinstance(node, ast.UnaryOp)
            and isinstance(node.op, ast.USub)
            and not isinstance(node.operand, ast.Constant)
        ):
            found.append(Finding(path.name, node.lineno, ast.unparse(node)))
        elif isinstance(node, ast.keyword) and node.arg == "maximize":
            found.append(Finding(path.name, node.value.lineno, "maximize="))
        elif isinstance(node, ast.Name | ast.Attribute):
            name = node.id if isinstance(node, ast.Name) else node.attr
            if name in ("neg", "neg_", "binary_cross_entropy", "cross_entropy", "nll_loss"):
                found.append(Finding(path.name, node.lineno, name))
    return found


def test_the_sign_stands_in_one_place() -> None:
    package = Path(rlgrad.__file__).parent
    folders = (package, package / "problems", package / "agents", package / "supervised")
    of_learning = [path for folder in folders for path in folder.glob("*.py")]
    of_learning = [path for path in of_learning if path.name != "policies.py"]  # densities, whoever goes which way
    assert [finding for path in of_learning for finding in signs_in(path)] == []
    assert [finding.what for finding in signs_in(package / "optimizers" / "__init__.py")] == ["maximize="]


class Narrow(nn.Module, Problem):
    """log(1 + x²), to be minimized, for two replicas: from far out Newton's method has to try steps of several lengths.
    Each evaluation is numbered in the metrics."""

    direction = Direction.MINIMIZE
    curved = True

    def __init__(self) -> None:
        super().__init__()
        self.x = nn.Parameter(torch.tensor([[3.0], [-2.0]], dtype=torch.float64))
        self.calls = 0

    @property
    def model(self) -> nn.Module:
        return self

    def objective(self, batch: object) -> Estimate:
        self.calls += 1
        value = (1 + self.x.squeeze(1).square()).log()
        counted = torch.full((2,), float(self.calls))
        return Estimate(value, {"call": counted}, curvature=lambda: Differentiated(self.curve(), [self.x]))

    def curve(self) -> torch.Tensor:
        return (1 + self.x.squeeze(1).square()).log()


@pytest.mark.parametrize("optimizer", ["Newton", "LBFGS"])
def test_an_update_says_what_was_so_before_its_first_step(optimizer: str) -> None:
    """However often the optimizer evaluates; and nothing of it holds on to a graph."""
    problem = Narrow()
    stream = updates(problem, make_optimizer(problem, optimizer, **({"max_iter": 4} | ARGUMENTS[optimizer])))
    for _ in range(2):
        x, calls = problem.x.detach().clone().squeeze(1), problem.calls
        update = next(stream)
        assert problem.calls - calls == update.evaluations > 1
        assert torch.allclose(update.value, (1 + x.square()).log(), rtol=1e-14)
        assert torch.allclose(update.gradient[0].squeeze(1), 2 * x / (1 + x.square()), rtol=1e-14)
        assert torch.allclose(update.gradient_norm, (2 * x / (1 + x.square())).abs(), rtol=1e-14)
        assert update.metrics["call"].tolist() == [calls + 1] * 2
        assert not update.value.requires_grad
        assert not any(g.requires_grad for g in update.gradient)


@pytest.mark.parametrize("missing", ["direction", "model"])
def test_a_problem_that_lacks_a_part_is_told_so(missing: str) -> None:
    class Partial(Problem):
        def objective(self, batch: Any) -> Estimate:
            return Estimate(-self.model["x"].square(), {})

    partial = Partial()
    if missing == "direction":
        partial.model = torch.nn.ParameterDict({"x": torch.ones(2)})
    else:
        partial.direction = Direction.MAXIMIZE
    with pytest.raises(RunError, match=f"Partial has no `{missing}`: a problem needs a direction and a model"):
        make_optimizer(partial, "SGD", lr=0.1)
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        partial.nothing  # noqa: B018


class Part(Apart):
    direction, arguments = Direction.MAXIMIZE, {"lr": 0.5}

    def __init__(self) -> None:
        super().__init__()
        self.c = nn.Parameter(torch.tensor([[1.0], [2.0]]))


class Several(nn.Module, Problem):
    """J = batch (a² + b³ + c) of two replicas, three times an update; c goes up, at a rate of its own."""

    direction = Direction.MINIMIZE

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = (nn.Parameter(torch.tensor(x)) for x in ([[3.0], [-2.0]], [[0.5], [1.0]]))
        self.part = Part()

    @property
    def model(self) -> nn.Module:
        return self

    def passes(self, data: Any) -> tuple[float, ...]:
        return (1.0, 2.0, 3.0)

    def objective(self, batch: float) -> Estimate:
        return Estimate(batch * (self.a.square() + self.b.pow(3) + self.part.c).squeeze(1), {})


def test_an_update_of_several_passes_and_parts_by_hand() -> None:
    problem = Several()
    a, b, c = (x.detach().clone() for x in (problem.a, problem.b, problem.part.c))
    update = next(updates(problem, make_optimizer(problem, "SGD", lr=0.1)))
    assert torch.allclose(update.value, (a**2 + b**3 + c).squeeze(1))
    assert torch.allclose(update.gradient_norm, (4 * a**2 + 9 * b**4 + 1).sqrt().squeeze(1))
    assert update.evaluations == 3
    assert torch.allclose(problem.a, a * (1 - 0.2) * (1 - 0.4) * (1 - 0.6))
    assert torch.allclose(problem.part.c, c + 0.5 * (1 + 2 + 3))


def test_an_evaluation_counts_its_values_with_and_without_a_gradient() -> None:
    problem = Narrow()
    evaluation = Evaluation(problem, None, [problem.x])
    evaluation()
    evaluation.value_alone()
    assert evaluation.calls == problem.calls == 2


def test_what_a_problem_returns_is_checked_where_a_run_goes_on_too() -> None:
    problem = Several()
    problem.objective = lambda _: Estimate(problem.a.sum(), {})  # type: ignore[method-assign]
    with pytest.raises(RunError, match=r"shape \[2\]"):
        next(updates(problem, make_optimizer(problem, "SGD", lr=0.1), first=7))


def test_inner_products_are_of_each_replica() -> None:
    x, y = torch.arange(12.0).reshape(2, 2, 3), torch.ones(2, 4)
    found = product_per_replica([x, None, y], [x, x, 2 * y])
    assert found.tolist() == [0 + 1 + 4 + 9 + 16 + 25 + 8, 36 + 49 + 64 + 81 + 100 + 121 + 8]


def test_a_part_goes_by_the_gradient_where_the_pass_began() -> None:
    """However far another optimizer, which evaluates again and again, has come by then."""
    problem = Several()
    problem.part.optimizer = ("SGD", {})
    a = problem.a.detach().clone()
    problem.passes = lambda _: (1.0,)  # type: ignore[method-assign]
    problem.objective = lambda _: Estimate((problem.a.square() + problem.a * problem.part.c).squeeze(1), {})  # type: ignore[method-assign]
    with torch.no_grad():
        c = problem.part.c.clone()
    next(updates(problem, make_optimizer(problem, "LBFGS", lr=1.0, max_iter=10)))
    assert not torch.allclose(problem.a, a, atol=0.1)
    assert torch.allclose(problem.part.c, c + 0.5 * a)
