import itertools
import math
from typing import Any, Literal

import numpy as np
import pytest
import torch
from scipy.sparse import linalg

from rlgrad import UsageError, optimizers, updates
from rlgrad.config import load_config
from rlgrad.loop import make_optimizer
from rlgrad.optimizers import NaturalGradient, Newton, Proximal, natural, newton, schedules
from rlgrad.optimizers.curvature import Dense, Differentiated
from rlgrad.problems.logistic import Logistic, Settings
from rlgrad.supervised.data import Dataset

NEWTON = {"name": "Newton"}


def synthetic(examples: int, features: int, classes: int = 2, dtype: torch.dtype = torch.float32) -> Dataset:
    """Labels drawn from a linear model, which therefore does not separate them."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((examples, features)) @ (np.eye(features) + 0.3)
    scores = x @ rng.standard_normal((features, classes)) + rng.gumbel(size=(examples, classes))
    y = torch.from_numpy(scores.argmax(1))
    inputs = torch.from_numpy(x).to(dtype)
    y = y.to(dtype) if classes == 2 else y
    return Dataset(inputs, y, inputs[:9], y[:9], classes)


def fitted(dataset: Dataset, steps: int, optimizer: dict[str, Any], **settings: Any) -> Logistic:
    problem = Logistic(Settings(data="made.csv", updates=1, optimizer=NEWTON, **settings), dataset)
    for _ in itertools.islice(updates(problem, make_optimizer(problem, **optimizer)), steps):
        pass
    return problem


@pytest.mark.parametrize("solver", ["direct", "cg"])
@pytest.mark.parametrize("classes", [2, 3])
def test_the_unpenalised_optimum_is_statsmodels_s(float64: None, classes: int, solver: str) -> None:
    models = pytest.importorskip("statsmodels.discrete.discrete_model")
    dataset = synthetic(300, 3, classes, torch.float64)
    optimizer = NEWTON | {"solver": solver, "tolerance": 1e-15, "max_iter": 40}
    linear = fitted(dataset, 1, optimizer, objective="log_likelihood").model.linear
    inputs = np.column_stack([np.ones(300), dataset.x.numpy()])
    model = (models.Logit if classes == 2 else models.MNLogit)(dataset.y.numpy(), inputs)
    expected = model.fit(disp=0, tol=1e-12, method="newton").params.reshape(4, -1)  # [intercept and features, K or K-1]
    found = torch.cat([linear.bias[0], linear.weight[0]]).detach().numpy()
    found = found if classes == 2 else (found - found[:, :1])[:, 1:]  # there the first class is what others are held to
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("objective", ["log_likelihood", "negative_log_likelihood"])
@pytest.mark.parametrize(
    ("classes", "settings"),
    [
        (2, {}),
        (2, {"batch_size": 500, "batch_growth": 8.0, "curvature_examples": 4000}),
        (3, {"batch_size": 500, "batch_growth": 8.0}),
    ],
)
def test_shortcuts_and_single_precision_end_at_scikit_learn_s_optimum(
    classes: int, settings: dict, objective: str
) -> None:
    """To 1e-6 of the objective, where it is evaluated in double precision."""
    from sklearn.linear_model import LogisticRegression

    dataset = synthetic(20_000, 10, classes)
    optimizer = NEWTON | {"tolerance": 1e-8, "solver": "direct" if classes == 2 else "cg"}
    l2 = 1 / len(dataset.y)
    problem = fitted(dataset, 3, optimizer, l2=l2, objective=objective, **settings)
    x, y = dataset.x.double(), dataset.y
    exact = dataset._replace(x=x, y=y.double() if classes == 2 else y)

    def cost(weight: torch.Tensor, bias: torch.Tensor) -> float:
        judge = Logistic(Settings(data="made.csv", updates=1, optimizer=NEWTON, l2=l2, gradient="autograd"), exact)
        with torch.no_grad():
            judge.model.linear.weight.copy_(weight)
            judge.model.linear.bias.copy_(bias)
            return float(judge.objective(judge.sample(0)).value)

    reference = LogisticRegression(tol=1e-10, max_iter=1000, solver="newton-cg").fit(x.numpy(), y.numpy())
    best = cost(torch.from_numpy(reference.coef_.T)[None], torch.from_numpy(reference.intercept_)[None, None])
    linear = problem.model.linear
    assert cost(linear.weight, linear.bias) / best - 1 < 1e-6


def test_a_batch_that_grows_is_a_function_of_seed_replica_and_step() -> None:
    def made(seed: int, replicas: int) -> Logistic:
        settings = {"seed": seed, "replicas": replicas, "batch_size": 40, "batch_growth": 3.0}
        return Logistic(Settings(data="made.csv", updates=1, optimizer=NEWTON, **settings), synthetic(1000, 3))

    many = made(5, 3)
    assert [many.sample(step).x.shape for step in range(4)] == [
        (3, 40, 3), (3, 120, 3), (3, 360, 3), (3, 1000, 3)
    ]  # fmt: skip
    assert many.sample(10**9).x.shape == (3, 1000, 3)
    for step in (1, 2):
        batch = many.sample(step)
        assert torch.equal(batch.x, made(5, 3).sample(step).x)  # in any order, and again
        for replica in range(3):
            assert torch.equal(batch.x[replica], made(5 + replica, 1).sample(step).x[0])
            assert len(batch.x[replica].unique(dim=0)) == batch.x.shape[1]  # none twice
        assert not torch.equal(batch.x[0], batch.x[1])


def test_a_quadratic_takes_one_step_up_or_down() -> None:
    for name in ("bowl", "dome"):
        problem, optimizer, _ = load_config(name, {"optimizer": NEWTON | {"max_iter": 1}, "schedule": None}).build()
        next(updates(problem, optimizer))
        assert (problem.evaluate(0)["distance"] < 1e-6).all(), name


def test_it_leaves_a_saddle_downhill_though_the_plain_step_would_lead_there() -> None:
    given = {"problem": "surface", "function": "x**2 - y**2 + y**4 / 4", "direction": "minimize", "updates": 1}
    start = [[0.5, 0.3], [-1.0, -0.2]]
    settings = given | {"start": start, "replicas": 2, "optimizer": NEWTON | {"tolerance": 0.0, "max_iter": 50}}
    problem, optimizer, _ = load_config(settings).build()
    next(updates(problem, optimizer))
    expected = torch.tensor([[0, math.sqrt(2)], [0, -math.sqrt(2)]], dtype=torch.float64)
    torch.testing.assert_close(problem.model().detach(), expected, atol=1e-6, rtol=0)


def test_a_step_that_is_too_long_is_halved() -> None:
    """From here the plain step runs away: log cosh is straight where |x| is large (Nesterov 2018, example 1.2.3)."""
    given = {"problem": "surface", "function": "log(exp(x) + exp(0 - x))", "direction": "minimize", "updates": 1}
    settings = given | {"start": [[3.0], [0.5]], "replicas": 2, "optimizer": NEWTON | {"max_iter": 1}}
    problem, optimizer, _ = load_config(settings).build()
    values = [update.value for update in itertools.islice(updates(problem, optimizer), 12)]
    assert all((later <= earlier + 1e-12).all() for earlier, later in itertools.pairwise(values))
    assert (problem.model().abs() < 1e-6).all()


def test_the_wrong_sign_goes_the_wrong_way_with_newton_too() -> None:
    given = {"problem": "logistic", "data": "breast_cancer", "updates": 1, "l2": 0.01, "initial_deviation": 0.1}
    problem, optimizer, _ = load_config(given | {"optimizer": NEWTON | {"max_iter": 1}, "wrong_sign": True}).build()
    values = [float(update.value) for update in itertools.islice(updates(problem, optimizer), 4)]
    assert values == sorted(values)
    assert values[-1] > values[0]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            {"optimizer": NEWTON | {"max_iter": 0}},
            "optimizer: Newton: max_iter must be a whole number of at least 1, not 0",
        ),
        ({"optimizer": NEWTON | {"lr": 0}}, "optimizer: Newton: lr must be positive, not 0"),
        ({"optimizer": NEWTON | {"lr": "fast"}}, "optimizer.lr: input should be a valid number"),
        ({"optimizer": NEWTON | {"tolerance": -1}}, "optimizer.tolerance: input should not be negative (here: -1)"),
        (
            {"optimizer": NEWTON | {"solver": "lu"}},
            "optimizer.solver: input should be 'auto', 'direct' or 'cg' (here: lu)",
        ),
        ({"optimizer": NEWTON | {"sign": 1}}, "optimizer.sign: Newton has no such argument"),
        ({"optimizer": {"name": "Newtom"}}, "did you mean Newton?"),
        ({"batch_growth": 0.5}, "batch_growth"),
    ],
)
def test_a_mistake_is_one_line(change: dict, said: str) -> None:
    given = {"problem": "logistic", "data": "breast_cancer", "updates": 1, "optimizer": NEWTON}
    with pytest.raises(UsageError) as caught:
        load_config(given | change).build()
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("config", "optimizer", "says"),
    [
        ("cartpole", "Newton", "it needs second derivatives of the objective, which this problem does not have"),
        ("bowl", "NaturalGradient", "it needs a Fisher information, which only a policy or a likelihood has"),
        (
            "acrobot",
            "NaturalGradient",
            "one part of this one goes the other way: give that part an optimizer of its own",
        ),
    ],
)
def test_an_optimizer_that_the_problem_cannot_serve_is_refused(config: str, optimizer: str, says: str) -> None:
    changes: dict[str, Any] = {"optimizer": {"name": optimizer}, "schedule": None}
    with pytest.raises(UsageError, match=f"{optimizer}: .*{says}"):
        load_config(config, changes | ({"baseline": "critic"} if config == "acrobot" else {})).build()


def test_numpy_s_way_and_torch_s_to_a_newton_step_are_one(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    roots, gradient = rng.standard_normal((5, 6, 6)), rng.standard_normal((5, 6))
    matrices = roots @ roots.mT
    matrices[1] *= -1  # a summit, where a valley is sought
    matrices[2, 0], matrices[2, :, 0] = 0, 0  # flat in one direction
    matrices[3] = np.nan
    found = {}
    for few in (0, 64):
        monkeypatch.setattr(newton, "FEW", few)
        found[few] = newton.direct(Dense(matrices), gradient, 1, 1e-12)
        for replica in range(5):
            alone = Dense(matrices[replica, None])
            step = newton.direct(alone, gradient[replica, None], 1, 1e-12)
            np.testing.assert_array_equal(step[0], found[few][replica])
    np.testing.assert_allclose(found[0], found[64], rtol=1e-9)
    for replica, sign in ((0, 1), (1, -1), (4, 1)):
        np.testing.assert_allclose(sign * matrices[replica] @ found[64][replica], gradient[replica], rtol=1e-8)
    flat = np.linalg.pinv(matrices[2]) @ gradient[2]
    np.testing.assert_allclose(found[64][2], flat, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("solver", ["direct", "cg"])
def test_the_last_step_is_taken_though_the_tolerance_is_met_before_it(float64: None, solver: str) -> None:
    """One that promises less than the tolerance: the coefficients are those of a fit without any tolerance."""
    dataset = synthetic(300, 3, 2, torch.float64)
    exact = fitted(dataset, 3, NEWTON | {"tolerance": 0.0, "max_iter": 40}).model.linear.weight
    found = fitted(dataset, 1, NEWTON | {"max_iter": 40, "solver": solver}).model.linear.weight
    value = fitted(dataset, 1, NEWTON | {"tolerance": 1e-2, "max_iter": 1, "solver": solver}).model.linear.weight
    assert (value != 0).all()  # a single step is taken, however little it promises
    assert (found - exact).abs().max() < 1e-7  # it was 4e-5 when that step was thrown away


def test_a_line_search_over_a_policy_gradient_needs_a_surrogate() -> None:
    settings = {
        "problem": "reinforce", "environment": "rlgrad/TwoRooms-v0", "episodes": 2, "updates": 1,
        "optimizer": {"name": "LBFGS", "line_search_fn": "strong_wolfe"},
    }  # fmt: skip
    load_config(settings).build()
    load_config(settings | {"baseline": "critic", "critic": {"optimizer": {"name": "SGD"}}}).build()
    for baseline in ("optimal_constant", "critic"):  # whose correction, or error, no surrogate has
        with pytest.raises(UsageError, match="its line search needs values that change, on the same data"):
            load_config(settings | {"baseline": baseline}).build()
    load_config(settings | {"baseline": "optimal_constant", "optimizer": {"name": "LBFGS"}}).build()


def test_the_objective_that_is_reported_is_that_of_the_saved_parameters_on_all_training_examples(tmp_path) -> None:
    from sklearn.metrics import log_loss

    from rlgrad import train

    settings = {"problem": "logistic", "data": "iris", "batch_size": 16, "updates": 7, "replicas": 2}
    run = train(settings | {"optimizer": {"name": "SGD", "lr": 0.5}}, out=tmp_path / "run")
    data = run.problem.dataset
    for replica in range(2):
        linear = run.problem.model.linear
        with torch.no_grad():
            p = (data.x @ linear.weight[replica] + linear.bias[replica]).softmax(1)
        expected = log_loss(data.y.numpy(), p.double().numpy())
        assert run.summary["objective"]["per_replica"][replica] == pytest.approx(expected, rel=1e-5)


class Curve:
    """A function of one number, with its derivatives: the closure of a Newton step for one replica."""

    def __init__(self, f: Any, start: float):
        self.f, self.x = f, torch.tensor([[start]], dtype=torch.float64, requires_grad=True)

    def __call__(self) -> torch.Tensor:
        value = self.f(self.x[:, 0])
        (self.x.grad,) = torch.autograd.grad(value.sum(), self.x)
        return value.detach()

    def curvature(self) -> Differentiated:
        return Differentiated(self.f(self.x[:, 0]), [self.x])


def newton_step(f: Any, start: float, sign: Any = -1, **arguments: Any) -> float:
    curve = Curve(f, start)
    Newton([curve.x], sign, **({"max_iter": 1} | arguments)).step(curve)
    return float(curve.x.detach())


@pytest.mark.parametrize("solver", ["direct", "cg"])
@pytest.mark.parametrize("lr", [1.0, 0.5, 0.1, 1.5])
def test_lr_is_the_part_of_newton_s_step_that_is_taken(lr: float, solver: str) -> None:
    assert newton_step(lambda x: 3 * (x - 2).square(), 7.0, lr=lr, solver=solver) == pytest.approx(7 - 5 * lr)
    assert newton_step(lambda x: -3 * (x - 2).square(), 7.0, 1, lr=lr, solver=solver) == pytest.approx(7 - 5 * lr)


def test_a_step_that_improves_next_to_nothing_is_halved() -> None:
    """x + x²/2 + c x⁴ at 0: the whole step is -1, for which the slope promises 1. With c = 0.49995 it gives 0.00005, too
    little by half; with c = 0.4998 it gives 0.0002, which is enough (Armijo's condition with 1e-4)."""
    assert newton_step(lambda x: x + x.square() / 2 + 0.49995 * x**4, 0.0) == -0.5
    assert newton_step(lambda x: x + x.square() / 2 + 0.4998 * x**4, 0.0) == -1.0


def test_newton_rests_where_nothing_improves() -> None:
    """A constant, a minimum; and a straight line, which has a slope and no curvature to tell how far to go."""
    assert newton_step(lambda x: 0 * x + 4, 3.0) == 3.0
    assert newton_step(lambda x: (x - 1).square() + 5, 1.0) == 1.0
    assert newton_step(lambda x: 2 * x, 1.0) == 1.0


def test_a_step_that_never_improves_is_not_taken() -> None:
    """The slope at 0 promises that going down helps, and yet the value rises on both sides."""
    assert newton_step(lambda x: 1e5 * x.detach().abs() + x + x.square() / 2, 0.0) == 0.0


@pytest.mark.parametrize(
    "wrong",
    [{"max_iter": 2.5}, {"max_iter": 0}, {"lr": 0.0}, {"lr": math.nan}, {"tolerance": -1.0}, {"tolerance": math.nan},
     {"solver": "lu"}],
)  # fmt: skip
def test_newton_s_arguments_are_checked(wrong: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Newton([torch.zeros(1, 1, requires_grad=True)], -1, **wrong)


@pytest.mark.parametrize("bowl", [1, -1])
def test_conjugate_gradients_stop_where_little_is_left(bowl: int) -> None:
    """scipy's iterates, the first of which leaves no more than 0.2 of the gradient; for three replicas at once, which
    need a different number of them. The square root of the gradient's length, in units of √|J|, is 0.2 here."""
    rng, size, found, alone = np.random.default_rng(0), 12, [], []
    matrices = np.stack([np.diag(np.linspace(1, steepest, size) ** 2) for steepest in (1.2, 6, 40)])
    basis = np.linalg.qr(rng.normal(size=(3, size, size)))[0]
    matrices = basis @ matrices @ basis.mT
    gradient = rng.normal(size=(3, size))
    sizes = (gradient**2).sum(1) / 0.2**4, np.zeros(3)
    for matrix, g in zip(matrices, gradient, strict=True):
        iterates: list[np.ndarray] = []
        linalg.cg(matrix, g, rtol=1e-12, callback=lambda x, to=iterates: to.append(x.copy()))
        left = [np.linalg.norm(g - matrix @ x) / np.linalg.norm(g) for x in iterates]
        found.append(next(number for number, part in enumerate(left) if part <= 0.2))
        expected = iterates[found[-1]]
        step = newton.conjugate(Dense(bowl * matrix[None]), g[None], bowl, 1e-16, (g**2).sum() / 0.2**4, np.zeros(1))[0]
        assert np.allclose(step, expected, rtol=1e-8, atol=1e-10)
        alone.append(step)
    assert len(set(found)) == 3
    together = newton.conjugate(Dense(bowl * matrices), gradient, bowl, 1e-16, *sizes)
    assert np.allclose(together, alone, rtol=1e-12)


def test_conjugate_gradients_go_along_the_gradient_where_it_curves_the_wrong_way() -> None:
    gradient = np.array([[1.0, 2.0], [1.0, 2.0]])
    curvature = Dense(np.stack([-np.eye(2), np.diag([2.0, 2.0])]))
    assert newton.conjugate(curvature, gradient, 1, 1e-16, np.ones(2), np.zeros(2)).tolist() == [[1.0, 2.0], [0.5, 1.0]]


@pytest.mark.parametrize("few", [1, 64])
def test_a_direction_without_curvature_is_left_as_it_is(few: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Though rounding has left some: diag(4, 1e-17). The second replica curves both ways, the third as it should."""
    monkeypatch.setattr(newton, "FEW", few)
    matrices = np.stack([np.diag([4.0, 1e-17]), np.diag([4.0, -2.0]), np.diag([4.0, 2.0])])
    for bowl in (1, -1):
        step = newton.direct(Dense(bowl * matrices), np.ones((3, 2)), bowl, np.finfo(float).eps)
        assert np.allclose(step, [[0.25, 0.0], [0.25, 0.5], [0.25, 0.5]], rtol=1e-14)


@pytest.mark.parametrize("epoch_length", [0, -1, 2.5])
def test_an_epoch_has_a_whole_number_of_updates(epoch_length: Any) -> None:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)])
    with pytest.raises(ValueError, match="epoch_length"):
        schedules.Hyperbolic(optimizer, epoch_length)


def test_hyperbolic_is_harrington_s_alpha() -> None:
    """4 / (1 + j + i) + 0.01 for update i of epoch j, as the book prints it."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=4.0)
    schedule = schedules.Hyperbolic(optimizer, epoch_length=3, decay=1.0, floor=0.01)
    for j in range(3):
        for i in range(3):
            assert schedule.get_last_lr() == [pytest.approx(4 / (1.0 + j + i) + 0.01)]
            optimizer.step()
            schedule.step()


@pytest.mark.parametrize(("mode", "sign"), [("max", 1), ("min", -1)])
@pytest.mark.parametrize("threshold_mode", ["rel", "abs"])
@pytest.mark.parametrize("offset", [100.0, -100.0])
def test_a_plateau_is_one_below_zero_too(mode: Any, sign: int, threshold_mode: Any, offset: float) -> None:
    """An improvement of 2 of 100 counts where the threshold is 1 (in 100), one of 0.5 does not, nor does a change for
    the worse."""
    each = {"rel": 0.01, "abs": 1.0}[threshold_mode]
    for change, reduced in ((2.0, False), (0.5, True), (0.0, True), (-2.0, True)):
        optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
        schedule = schedules.ReduceLROnPlateau(
            optimizer, mode, factor=0.5, patience=0, threshold=each, threshold_mode=threshold_mode
        )
        schedule.step(offset)
        schedule.step(offset + sign * change)
        assert (schedule.get_last_lr()[0] < 1) is reduced


class Told:
    """A closure that answers what it is told: values, a gradient and a curvature of two replicas with one number."""

    def __init__(self, values: Any, gradient: list[float], matrix: list[float], at: list[float]):
        """values: what J is at numbers [2]."""
        self.x = torch.nn.Parameter(torch.tensor(at, dtype=torch.float64)[:, None])
        self.values, self.gradient = values, torch.tensor(gradient, dtype=torch.float64)[:, None]
        self.bent, self.calls = Dense(np.array(matrix)[:, None, None]), 0

    def value_alone(self) -> torch.Tensor:
        self.calls += 1
        found: torch.Tensor = self.values(self.x.detach().squeeze(1))
        return found

    def __call__(self) -> torch.Tensor:
        self.x.grad = self.gradient.clone()
        return self.value_alone()

    def curvature(self) -> Dense:
        return self.bent


def test_newton_gives_up_where_no_step_is_better() -> None:
    """The gradient points the wrong way, as that of a program with a mistake would."""
    told = Told(torch.square, [-6.0, -2.0], [2.0, 2.0], [3.0, 1.0])
    Newton([told.x], -1).step(told)
    assert told.x.flatten().tolist() == [3.0, 1.0]
    assert told.calls <= 1 + newton.HALVINGS + 2


def test_newton_rests_where_nothing_changes_any_more() -> None:
    """J is all rounding here: no step is promised more than that, nor brings more."""
    told = Told(torch.ones_like, [1e-6, 1e-6], [1.0, 1.0], [3.0, 1.0])
    Newton([told.x], -1, tolerance=0.0).step(told)
    assert told.calls == 2


def test_a_replica_that_has_diverged_rests_while_another_moves() -> None:
    told = Told(torch.square, [6.0, math.inf], [2.0, 2.0], [3.0, 1.0])
    Newton([told.x], -1, max_iter=1).step(told)
    assert told.x.flatten().tolist() == [0.0, 1.0]


@pytest.mark.parametrize("sign", [1, -1])
def test_a_line_search_takes_what_is_better_its_way_and_else_nothing(sign: Literal[1, -1]) -> None:
    """The second replica's gradient points the wrong way. Without a radius F⁻¹∇J is the whole step: x -> 0."""
    told = Told(lambda x: -sign * x.square(), [-sign * 6.0, sign * 2.0], [2.0, 2.0], [3.0, 1.0])
    NaturalGradient([told.x], sign, kl=None, damping=0.0, line_search=True).step(told)
    assert told.x.flatten().tolist() == [0.0, 1.0]
    assert told.calls <= 1 + natural.SHRINKINGS + 1


def test_a_step_over_a_kink_is_promised_what_the_kink_gives_back() -> None:
    """2 (x - 1)² + 2 |x| is least at 1/2. From 3 on its slope, and the kink's, are 8 and 2 over a way of 5/2."""
    curvature = Dense(np.full((1, 1, 1), 4.0))
    curvature.kink = np.full((1, 1), 2.0)
    step, promised = newton.ahead(newton.direct, curvature, np.array([[8.0]]), np.array([[3.0]]), -1)
    assert (step.item(), promised.item()) == (2.5, (8 + 2) * 2.5)


def test_the_quadratic_distance_is_half_the_curvature_along_the_way() -> None:
    assert Dense(np.diag([2.0, 4.0])[None]).distance(np.array([[1.0, 3.0]])).tolist() == [(2 * 1 + 4 * 9) / 2]


def test_second_derivatives_are_over_all_parameters_together() -> None:
    """a² b + b³ at (2, 3): [[2 b, 2 a], [2 a, 6 b]]."""
    a, b = (torch.tensor([[x]], dtype=torch.float64, requires_grad=True) for x in (2.0, 3.0))
    found = Differentiated((a.square() * b + b.pow(3)).squeeze(1), [a, b]).matrix()
    assert found.tolist() == [[[6.0, 4.0], [4.0, 18.0]]]


@pytest.mark.parametrize("name", ["SGD", "LBFGS"])
def test_each_replica_has_its_learning_rate_in_whatever_order(name: str) -> None:
    """x² from 1: a step of the gradient leads to 1 - 2 lr; LBFGS's first one is cut to lr / |gradient| of it."""
    x = torch.nn.Parameter(torch.ones(3, 1, dtype=torch.float64))
    rates = torch.tensor([0.1, 0.2, 0.1])
    more = {"max_iter": 1} if name == "LBFGS" else {}
    optimizer = optimizers.make(name, [optimizers.Part([x], -1)], {"lr": rates, **more})

    def closure() -> torch.Tensor:
        value = x.square().squeeze(1)
        x.grad = torch.autograd.grad(value.sum(), x)[0]
        return value.detach()

    optimizer.step(closure)  # type: ignore[arg-type]
    assert torch.allclose(x.detach().squeeze(1), 1 - (1 if name == "LBFGS" else 2) * rates.double())


@pytest.mark.parametrize("name", ["LBFGS", "SGD"])
def test_a_learning_rate_that_is_set_from_outside_is_taken(name: str) -> None:
    """As a schedule sets it: of an optimizer for each replica, or for each stretch of them, or for each part of a
    model, and after its state was loaded."""
    x, y = (torch.nn.Parameter(torch.ones(2, 1)) for _ in range(2))

    def made() -> torch.optim.Optimizer:
        several = optimizers.make(name, [optimizers.Part([x], -1)], {"lr": torch.tensor([0.5, 0.25])})
        return optimizers.ByPart([several, optimizers.make("Adam", [optimizers.Part([y], -1)], {"lr": 0.5})])

    def closure() -> torch.Tensor:
        x.grad, y.grad = 2 * x.detach(), 2 * y.detach()
        return (x.square() + y.square()).squeeze(1).detach()

    optimizer = made()
    optimizer.load_state_dict(made().state_dict())
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    optimizer.step(closure)  # type: ignore[arg-type]
    assert x.flatten().tolist() == y.flatten().tolist() == [1.0, 1.0]
    for group in optimizer.param_groups:
        group["lr"] = 0.125
    optimizer.step(closure)  # type: ignore[arg-type]
    assert (x < 1).all()
    assert (y < 1).all()


def test_a_proximal_step_by_hand() -> None:
    """From 1 down the slope 2 to 0.8, and nearer to zero by 0.1 times the kink, 3 or 20."""
    told = Told(torch.square, [2.0, 2.0], [2.0, 2.0], [1.0, 1.0])
    told.bent.kink = np.array([[3.0], [20.0]])
    optimizer = Proximal([told.x], -1, lr=0.1, momentum=0.5)
    optimizer.step(told)
    assert told.x.flatten().tolist() == pytest.approx([0.5, 0.0])
    optimizer.step(told)  # 0.5 - 0.2 - 0.25 is nearer to zero than 0.3; so is 0 - 0.2 - 0.5 than 2
    assert told.x.flatten().tolist() == pytest.approx([0.0, 0.0])
    told.bent.kink[:] = 1.0
    optimizer.step(told)
    assert told.x.flatten().tolist() == pytest.approx([-0.2 - 0.25 + 0.1, -0.2 + 0.1])
