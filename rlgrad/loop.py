"""One training loop, two directions.

A problem states whether its objective is to be maximized or minimized. `make_optimizer` turns that into the one sign
of the project, and `updates` moves the parameters without knowing the direction:

    θ ← θ + α ∇J(θ)    ascent, where J is to be maximized: an expected return, a log-likelihood
    θ ← θ − α ∇J(θ)    descent, where J is to be minimized: a loss, a cost

Every parameter has a leading axis R of replicas: independent copies trained side by side. An objective returns one
value per replica. Replicas share no parameters, so the gradient of the sum is exactly the gradient of each replica.
"""

import enum
import functools
import itertools
from collections import UserDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from rlgrad import optimizers
from rlgrad.errors import RunError
from rlgrad.optimizers.curvature import Curvature
from rlgrad.optimizers.parts import Part
from rlgrad.replicas import Gradient, norm_per_replica


class Direction(enum.Enum):
    """Whether an objective is to be maximized or minimized. The values are also the modes of `ReduceLROnPlateau`."""

    MAXIMIZE = "max"
    MINIMIZE = "min"

    @property
    def sign(self) -> Literal[1, -1]:
        """The sign in θ ± α∇J. It also turns a quantity to maximize into an objective of this direction: q is maximized
        as it is, or its cost −q is minimized. Both have the same optimum, and their gradients differ only in the sign.
        """
        return 1 if self is Direction.MAXIMIZE else -1

    @property
    def opposite(self) -> "Direction":
        return Direction.MINIMIZE if self is Direction.MAXIMIZE else Direction.MAXIMIZE


class Estimate(NamedTuple):
    """What a problem computes from one batch."""

    value: Tensor  # [R] the objective; autograd differentiates it, unless `gradient` is given below
    metrics: Mapping[str, Tensor]  # [R] each, detached: other quantities to log
    gradient: Gradient | None = None  # one tensor per parameter, if the problem computes it itself
    curvature: Callable[[], Curvature] | None = None  # the second derivatives, for Newton and the natural gradient
    notes: Any = None  # what the problem keeps for the diagnosis of the update
    resting: Tensor | None = None  # [R] bool: the replicas that do not move in this pass, if the problem `rests`
    surrogate: Tensor | None = None  # [R] same gradient; changes with θ on data drawn already (`value` may not)

    @property
    def compared(self) -> Tensor:
        """[R] the value that a line search compares on the same data: the surrogate, if there is one."""
        return self.value if self.surrogate is None else self.surrogate


class Lazy(UserDict[str, Tensor]):
    """Metrics that are computed when the first of them is read, because many updates are not logged."""

    def __init__(self, compute: Callable[[], dict[str, Tensor]]):
        self._compute = compute

    @functools.cached_property
    def data(self) -> dict[str, Tensor]:  # type: ignore[override]
        return self._compute()


class Problem:
    """Anything the loop can train: derive from it, and give it a direction, a model and an objective.

    The form of data and batches is up to the problem: the loop only passes them on.
    """

    direction: Direction
    model: nn.Module  # the parameters are [R, ...]
    curved = False  # whether the estimates have second derivatives, so that Newton's method is possible
    rests = False  # whether some replicas may rest (not move) in a pass while others move
    informed = False  # whether the curvature is a Fisher information, so that the natural gradient is possible
    line_search = True  # whether the value, or the surrogate, changes with all parameters on the same data

    def __getattr__(self, name: str) -> Any:
        if name in ("direction", "model"):
            raise RunError(f"{type(self).__name__} has no `{name}`: a problem needs a direction and a model")
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def sample(self, step: int) -> Any:
        """Return the data of update `step`: episodes, a minibatch, or None."""
        return None

    def passes(self, data: Any) -> Iterable[Any]:
        """The batches of an update, one for each step of the optimizer. By default: one batch, which is the data."""
        return (data,)

    def objective(self, batch: Any) -> Estimate:
        """The objective on this batch, at the current parameters."""
        raise NotImplementedError


Transform = Callable[[Gradient], Gradient]  # changes a gradient before the optimizer sees it, such as clipping


class Evaluation:
    """The objective on one batch, as the optimizer asks for it: this is the closure that `optimizer.step` gets.

    `value`, `metrics`, `notes` and `gradient` are those of the first call, before the step; the gradient is kept as it
    was before the transform. `calls` counts how often the objective was evaluated.
    """

    value: Tensor  # [R]
    metrics: Mapping[str, Tensor]  # [R] each
    notes: Any
    gradient: Gradient = ()  # for each parameter [R, ...] or None; empty in the later passes of an update

    def __init__(
        self,
        problem: Problem,
        batch: Any,
        parameters: Sequence[nn.Parameter],
        transform: Transform | None = None,
        first: bool = True,
        check: bool = False,
    ):
        """first: whether this is the first pass of its update. check: whether to check what the problem returns."""
        self.problem, self.batch, self.parameters, self.transform = problem, batch, parameters, transform
        self.first, self.check = first, check
        self.calls = 0

    def __call__(self) -> Any:  # torch's annotations expect a float
        """Return the value [R], or its surrogate, and set each parameter's `grad` to the transformed gradient."""
        estimate = self.problem.objective(self.batch)
        if self.check:
            check_contract(type(self.problem).__name__, estimate, self.parameters)
            self.check = False
        differentiate(estimate, self.parameters)
        gradient = [parameter.grad for parameter in self.parameters]
        if self.calls == 0:
            self.value, self.metrics, self.notes = estimate.value.detach(), estimate.metrics, estimate.notes
            self.gradient = gradient if self.first else ()
        self.calls += 1
        self._curvature, self.resting = estimate.curvature, estimate.resting
        if self.transform:
            for parameter, transformed in zip(self.parameters, self.transform(gradient), strict=True):
                parameter.grad = transformed
        return estimate.compared.detach()

    @torch.no_grad()
    def value_alone(self) -> Tensor:
        """The value [R], or its surrogate, at the current parameters, without a gradient: enough for a line search."""
        self.calls += 1
        return self.problem.objective(self.batch).compared

    def curvature(self) -> Curvature:
        """The second derivatives at the point of the last call. Raises RunError if the estimate has none."""
        if self._curvature is None:
            raise RunError(f"{type(self.problem).__name__}.objective gives no curvature, which the optimizer needs")
        return self._curvature()


class Update(NamedTuple):
    """One update of the parameters, as `updates` yields it. All its values are from before its first step."""

    step: int
    passes: Sequence[Evaluation]

    @property
    def value(self) -> Tensor:
        """The objective [R]."""
        return self.passes[0].value

    @property
    def metrics(self) -> Mapping[str, Tensor]:
        """The metrics, [R] each."""
        return self.passes[0].metrics

    @property
    def gradient(self) -> Gradient:
        """The gradient of each parameter, [R, ...] or None, before any transform."""
        return self.passes[0].gradient

    @property
    def gradient_norm(self) -> Tensor:
        """The Euclidean norm [R] of the gradient."""
        return norm_per_replica(g for g in self.gradient if g is not None)

    @property
    def evaluations(self) -> int:
        """How often the objective was evaluated, in all passes; each time for all replicas together."""
        return sum(each.calls for each in self.passes)


def updates(
    problem: Problem, optimizer: torch.optim.Optimizer, first: int = 0, transform: Transform | None = None
) -> Iterator[Update]:
    """Train forever, one update at a time. The caller's `for` loop decides what to log, what to save and when to stop.

    The data of an update is drawn with the parameters after the previous update: rollouts are on-policy.

    first: the number of the first update; not 0 if a run is continued.
    transform: changes each gradient before the optimizer sees it, such as `replicas.clipping(1.0)`.

    Raises RunError, with a sentence, if the problem does not return what the loop needs.
    """
    if not isinstance(problem, Problem):
        raise RunError(f"{type(problem).__name__} must derive from rlgrad.Problem, or from rlgrad.Trainable")
    parameters = list(problem.model.parameters())
    for step in itertools.count(first):
        data = problem.sample(step)
        passes: list[Evaluation] = []
        for batch in problem.passes(data):
            is_first = not passes
            check = is_first and step == first
            passes.append(Evaluation(problem, batch, parameters, transform, is_first, check))
            optimizer.step(passes[-1])  # θ + α∇J if J is maximized, θ − α∇J if it is minimized
        yield Update(step, passes)


def differentiate(estimate: Estimate, parameters: Sequence[nn.Parameter]) -> None:
    """Set the `grad` of each parameter to its gradient of the objective, and discard any earlier one."""
    stated = estimate.gradient or itertools.repeat(None)
    for parameter, gradient in zip(parameters, stated, strict=False):
        parameter.grad = gradient
    if estimate.gradient is None:
        torch.autograd.backward(estimate.value.sum())


def check_contract(name: str, estimate: Estimate, parameters: Sequence[nn.Parameter]) -> None:
    """Raise RunError, with a sentence, if a problem's estimate is not what the loop needs. name: the problem's name."""
    said = f"{name}.objective must return an Estimate"
    shapes = [list(parameter.shape) for parameter in parameters]
    replicas = shapes[0][0] if shapes and shapes[0] else 0
    if any(shape[:1] != [replicas] for shape in shapes) or not replicas:
        raise RunError(f"{name}.model must have parameters with a common first axis, the replicas: here {shapes}")
    if not isinstance(estimate, Estimate) or not isinstance(estimate.value, Tensor):
        what = estimate.value if isinstance(estimate, Estimate) else estimate
        raise RunError(f"{said} whose value is a tensor, not {type(what).__name__}")
    value, stated = estimate.value, estimate.gradient
    if list(value.shape) != [replicas]:
        message = f"{said} with one value for each of the {replicas} replicas: shape [{replicas}], not "
        raise RunError(f"{message}{list(value.shape)}; take sums and means over all axes but the first")
    if not value.is_floating_point():
        raise RunError(f"{said} whose value is a real number, not {value.dtype}")
    if not value.isfinite().any():  # if only some replicas are not finite, the run decides
        message = f"{name}: the objective at the first parameters is not finite: {value.tolist()[:5]}; are returns, "
        raise RunError(message + f"losses or data too large for {str(value.dtype).removeprefix('torch.')}?")
    if stated is None and not value.requires_grad:
        message = f"{said} whose value depends on the parameters, or whose gradient is stated: this one does neither; "
        raise RunError(message + "was it detached, or computed under torch.no_grad()?")
    if stated is not None and [list(p.shape if g is None else g.shape) for p, g in zip(parameters, stated)] != shapes:  # noqa: B905
        raise RunError(f"{said} whose gradient has a tensor, or None, for each parameter, in their shapes: {shapes}")


class Apart(nn.Module):
    """A part of a model with a direction of its own: a critic minimizes its error, its policy maximizes the return."""

    direction: Direction
    arguments: Mapping[str, Any] = {}  # optimizer arguments for this part only, such as a learning rate
    optimizer: tuple[str, Mapping[str, Any]] | None = None  # name and arguments of the part's own optimizer


def parts_apart(model: nn.Module) -> list[Apart]:
    """Return the parts of a model that are `Apart`."""
    return [module for module in model.modules() if isinstance(module, Apart)]


def parameters_apart(model: nn.Module) -> set[nn.Parameter]:
    """Return the parameters of these parts."""
    return {parameter for part in parts_apart(model) for parameter in part.parameters()}


def make_optimizer(
    problem: Problem, name: str = "SGD", *, direction: Direction | None = None, **arguments: Any
) -> torch.optim.Optimizer:
    """Make the optimizer of that name in rlgrad.optimizers, which includes torch's, for the problem's direction.

    A part of the model that is `Apart` has its own direction, and its own optimizer if it names one.

    direction: replaces the problem's direction (to see what the wrong sign does).
    arguments: the optimizer's arguments. Raises what the optimizer raises if they are wrong, and ValueError if the
    problem does not have what the optimizer needs.
    """
    if name == "Newton" and not problem.curved:
        raise ValueError("it needs second derivatives of the objective, which this problem does not have")
    if name == "NaturalGradient" and not problem.informed:
        raise ValueError("it needs a Fisher information, which only a policy or a likelihood has")
    searches = name == "Newton" or arguments.get("line_search_fn") or arguments.get("line_search")
    if searches and not problem.line_search:
        message = "its line search needs values that change, on the same data, with all parameters, and this problem's "
        raise ValueError(message + "do not: turn it off (line_search_fn: null), or take NaturalGradient")
    theirs = parameters_apart(problem.model)
    main = [parameter for parameter in problem.model.parameters() if parameter not in theirs]
    together = [Part(main, (direction or problem.direction).sign)]
    alone = []
    for module in parts_apart(problem.model):
        part = Part(list(module.parameters()), module.direction.sign, module.arguments)
        if module.optimizer:
            alone.append(optimizers.make(module.optimizer[0], [part], module.optimizer[1], problem.rests))
        else:
            together.append(part)
    whole = optimizers.make(name, together, arguments, problem.rests)
    return optimizers.ByPart([whole, *alone]) if alone else whole
