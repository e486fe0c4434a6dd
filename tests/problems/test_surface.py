"""Points on surfaces: they reach what calculus says they must, both ways, and say what they have reached."""

import itertools
import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import optimize

from rlgrad.cli import main
from rlgrad.config import Config, load_config
from rlgrad.errors import RunError, UsageError
from rlgrad.loop import updates
from rlgrad.run import resume, train
from rlgrad.surfaces.calculus import Kind, classify, derivatives, eigenvalues
from rlgrad.surfaces.expressions import parse
from rlgrad.surfaces.findings import groups
from rlgrad.surfaces.table import SURFACES

SGD = {"name": "SGD", "lr": 0.05}


def config(function="bowl", updates=3, **settings):
    return {"problem": "surface", "function": function, "optimizer": SGD, "updates": updates} | settings


def lines(run):
    return [json.loads(line) for line in (run.directory / "metrics.jsonl").read_text().splitlines()]


def strict(text):
    """JSON without NaN and Infinity."""
    return json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} in JSON"))


@pytest.mark.parametrize("name", SURFACES)
def test_known_extrema(name):
    surface = SURFACES[name]
    function = parse(surface.expression)
    assert function.variables == tuple(surface.box)
    for kind, point, value in surface.extrema:
        at = torch.tensor([point], dtype=torch.float64)
        found, gradient, hessian = derivatives(function, at)
        assert found.item() == pytest.approx(value, abs=1e-9)
        noise = torch.randn(200, len(point), dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        around = function(at + 1e-3 * noise)
        assert (around > found).all() if kind is Kind.MINIMUM else (around < found).all()
        if name not in ("absolute", "cusp"):
            assert classify(gradient, eigenvalues(hessian), 1e-7) == [kind]


@pytest.mark.parametrize("name", ["bowl", "ill_conditioned", "saddle", "rosenbrock", "himmelblau"])
def test_no_minimum_is_missing(name):
    """SciPy, from a grid over the box, finds the minima of the table and no others."""
    surface = SURFACES[name]
    function = parse(surface.expression)
    known = np.array([extremum.point for extremum in surface.extrema if extremum.kind is Kind.MINIMUM])
    seen = set()
    for start in itertools.product(*(np.linspace(low, high, 5) + 0.01 for low, high in surface.box.values())):
        found = optimize.minimize(lambda x: function(torch.from_numpy(x)).item(), start, tol=1e-12).x
        distance = np.linalg.norm(known - found, axis=1)
        assert distance.min() < 1e-3
        seen.add(int(distance.argmin()))
    assert seen == set(range(len(known)))


def test_gradient_descent_in_closed_form():
    """On a quadratic every step shrinks the coordinates by 1 - lr * eigenvalue."""
    problem, optimizer, _ = Config(*mapping(config(start=[[1, -2], [0.5, 3]], replicas=2)), "c").build()
    for _ in itertools.islice(updates(problem, optimizer), 10):
        pass
    shrunk = torch.tensor([0.9**10, 0.7**10]) * torch.tensor([[1, -2], [0.5, 3]])
    torch.testing.assert_close(problem.model().detach(), shrunk, check_dtype=False)


def mapping(data):
    return data, {(): "config"}


@pytest.mark.parametrize("optimizer", [SGD, {"name": "Adam", "lr": 0.1}, {"name": "LBFGS"}, {"name": "Muon"}])
def test_ascent_on_the_dome_is_descent_in_the_bowl_bit_for_bit(optimizer, tmp_path):
    down, up = (
        train(config(name, updates=20, optimizer=optimizer, replicas=3), out=tmp_path / name)
        for name in ("bowl", "dome")
    )
    assert (down.summary["direction"], up.summary["direction"]) == ("minimize", "maximize")
    assert torch.equal(down.problem.model(), up.problem.model())
    for a, b in zip(lines(down), lines(up), strict=True):
        assert [-value for value in a["objective/value"]] == b["objective/value"]
        assert a["gradient/norm"] == b["gradient/norm"]
        assert a["update/size"] == b["update/size"]


def test_the_logged_value_is_the_function_before_the_update(tmp_path):
    run = train(config(start=[[1, 1]]), out=tmp_path / "r")
    assert [line["objective/value"][0] for line in lines(run)][:2] == pytest.approx([4, 0.9**2 + 3 * 0.7**2])
    assert lines(run)[0]["gradient/norm"] == pytest.approx([math.hypot(2, 6)])


def test_evaluation(tmp_path):
    run = train(config("himmelblau", start=[[3, 2], [0, 0]], replicas=2, optimizer={"name": "SGD", "lr": 1e-12}),
                out=tmp_path / "r")  # fmt: skip
    found = {name: run.summary[f"evaluation.{name}"]["per_replica"] for name in
             ("value", "gradient_norm", "smallest_eigenvalue", "largest_eigenvalue", "distance")}  # fmt: skip
    assert found["value"] == pytest.approx([0, 170], abs=1e-6)
    assert found["gradient_norm"] == pytest.approx([0, math.hypot(14, 22)], abs=1e-6)
    spread = math.sqrt((74 - 34) ** 2 / 4 + 20**2)  # the Hessian at (3, 2) is [[74, 20], [20, 34]]
    assert found["smallest_eigenvalue"] == pytest.approx([54 - spread, -42], abs=1e-6)  # at (0, 0): diag(-42, -26)
    assert found["largest_eigenvalue"] == pytest.approx([54 + spread, -26], abs=1e-6)
    assert found["distance"] == pytest.approx([0, math.hypot(3, 2)], abs=1e-6)  # not that of the maximum, which is near


def test_replica_k_is_the_run_alone_with_seed_plus_k(tmp_path):
    many = train(config("rosenbrock", optimizer={"name": "Adam", "lr": 0.01}, replicas=3, seed=5), out=tmp_path / "m")
    alone = train(config("rosenbrock", optimizer={"name": "Adam", "lr": 0.01}, seed=7), out=tmp_path / "a")
    torch.testing.assert_close(many.problem.model()[2:], alone.problem.model(), rtol=1e-12, atol=0)
    assert len({tuple(point) for point in many.problem.model().tolist()}) == 3


def test_resumed_bit_for_bit(tmp_path):
    settings = config("himmelblau", updates=20, optimizer={"name": "Adam", "lr": 0.1}, replicas=2)
    whole = train(settings, out=tmp_path / "whole")
    half = train(settings, updates=10, out=tmp_path / "half")
    path = half.directory / "config.yaml"
    path.write_text(path.read_text().replace("updates: 10\n", "updates: 20\n", 1))
    assert torch.equal(resume(half.directory).problem.model(), whole.problem.model())


def test_a_line_search_is_counted(tmp_path):
    run = train(config("rosenbrock", optimizer={"name": "LBFGS", "line_search_fn": "strong_wolfe"}), out=tmp_path / "r")
    assert run.summary["evaluations"] > 20
    assert train(config("rosenbrock"), out=tmp_path / "s", optimizer={"lr": 1e-4}).summary["evaluations"] == 3


# What a run says at its end


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (config("bowl", 300), "replica 0 reached a minimum at x = 0, y = 0, f = 0"),
        (config("dome", 300, replicas=3), "all 3 replicas reached a maximum at x = 0, y = 0, f = 0"),
        (config("saddle", 300, start=[[1, 0]]), "replica 0 reached a saddle at x = 0, y = 0"),
        (config("x**2 + y**4", 300, direction="minimize", start=[[1, 0.001]]), "a degenerate stationary point"),
        (config("plateau", 10, start=[[6, 6]]), "replica 0 reached a degenerate stationary point at x = 6, y = 6"),
        (config("bowl", 2), "replica 0 reached no stationary point: the gradient's norm is still"),
        (config("absolute", 300, schedule={"name": "CosineAnnealingLR", "T_max": 300}), "a kink at x = 0, f = 0"),
        (config("-abs(x - 1)", 1, direction="maximize", start=[[1]]), "a kink at x = 1, f = 0"),
    ],
)
def test_conclusion(settings, says, tmp_path):
    run = train(settings, out=tmp_path / "r")
    assert says in run.summary["conclusion"][0]
    assert json.loads((run.directory / "summary.json").read_text())["conclusion"] == run.summary["conclusion"]


def test_a_point_without_derivatives_is_reported_without_nan(tmp_path, capsys):
    """One step from 1 to exactly 0, where autograd finds nan for the slope of √x²."""
    settings = config("sqrt(x**2)", 1, direction="minimize", start=[[1]], optimizer={"name": "SGD", "lr": 1})
    run = train(settings, out=tmp_path / "r", quiet=False)
    assert run.summary["conclusion"][0] == "replica 0 reached a kink at x = 0, f = 0: " \
        "the function is not differentiable there"  # fmt: skip
    assert strict((tmp_path / "r" / "summary.json").read_text())["evaluation.gradient_norm"]["mean"] is None
    assert strict((tmp_path / "r" / "metrics.jsonl").read_text())["evaluation/gradient_norm"] == [None]
    assert main(["evaluate", str(tmp_path / "r")]) == 0
    assert "nan" not in capsys.readouterr().out.partition("completed")[2]


def test_each_place_has_its_sentence(tmp_path):
    run = train(load_config("himmelblau"), out=tmp_path / "r")
    *reached, curve = run.summary["conclusion"]
    assert len(reached) == 4
    assert all(" reached a minimum at " in sentence for sentence in reached)
    assert curve == "f is neither convex nor concave where that was checked: " \
        "at 512 points with x from -5 to 5, y from -5 to 5"  # fmt: skip
    mentioned = sorted(int(word) for s in reached for word in s.partition(" reached")[0].replace(",", "").split()
                       if word.isdigit())  # fmt: skip
    assert mentioned == list(range(16))


@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        ("bowl", ["all 8 replicas reached a minimum", "f is convex"]),
        ("dome", ["all 8 replicas reached a maximum", "f is concave"]),
        ("saddle", ["replica 0 reached a saddle", "replicas 1 and 3 reached a minimum", "replica 2 reached a minimum",
                    "f is neither"]),
        ("rosenbrock", ["all 8 replicas reached a minimum at x = 1, y = 1", "f is neither"]),
    ],
)  # fmt: skip
def test_shipped_configs_reach_what_they_say(name, kinds, tmp_path, capsys):
    assert main(["train", "--config", name, "--out", str(tmp_path / "r")]) == 0
    conclusion = strict((tmp_path / "r" / "summary.json").read_text())["conclusion"]
    assert len(conclusion) == len(kinds)
    for sentence, beginning in zip(conclusion, kinds, strict=True):
        assert sentence.startswith(beginning)
    shown = capsys.readouterr().out
    assert all(sentence in shown for sentence in conclusion)
    assert shown.index("objective") < shown.index(conclusion[0])


# The wrong way, and too fast


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--config", "dome", "--direction", "minimize"], "f has no minimum to descend to along y.*maximized instead"),
        (["--config", "bowl", "--direction", "maximize"], "f has no maximum to climb to along y.*minimized instead"),
        (["--config", "bowl", "--optimizer.lr", "0.5"], "the wrong way: the steps overshoot"),
        (["--config", "bowl", "--function", "x*x - y*y", "--direction", "minimize", "--box", "{x: [0, 1], y: [1, 2]}"],
         "no minimum to descend to along y.*f is neither convex nor concave"),
        (["--config", "bowl", "--function", "log(x)", "--direction", "minimize", "--box", "{x: [0.1, 1]}"],
         "the function is not defined there"),
        (["--config", "bowl", "--function", "-exp(x**2)", "--direction", "minimize", "--box", "{x: [1, 2]}"],
         "no minimum to descend to along x"),
    ],
)  # fmt: skip
def test_a_run_that_diverges_fails_in_a_plain_sentence(arguments, says, tmp_path, capsys):
    out = tmp_path / "r"
    assert main(["train", *arguments, "--out", str(out), "--quiet"]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    summary = strict((out / "summary.json").read_text())
    assert summary["status"] == "failed"
    assert "conclusion" not in summary
    for text in (error, summary["error"]):
        assert re.search(says, text), text
    for line in (out / "metrics.jsonl").read_text().splitlines():
        assert None not in [value for values in strict(line).values() if isinstance(values, list) for value in values]


def test_the_last_update_is_watched_too(tmp_path):
    with pytest.raises(RunError, match="has no minimum"):
        train(config("dome", 1, direction="minimize", start=[[1, 1]], bound=5), out=tmp_path / "r")
    train(config("dome", 1, direction="minimize", start=[[1, 1]], bound=7), out=tmp_path / "s")


# What is refused


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--function", "__import__('os').system('touch hacked')"], "cannot be used in an expression"),
        (["--function", "x.__class__"], "'x.__class__'"),
        (["--function", "rosenbrok"], "did you mean rosenbrock"),
        (["--function", "sni(x)", "--direction", "minimize"], "did you mean sin"),
        (["--function", "3"], "--function"),
        (["--function", "x**2 +", "--direction", "minimize"], "not an expression"),
        (["--function", "x**2"], "set minimize or maximize"),
        (["--direction", "down"], "--direction: input should be 'minimize' or 'maximize'"),
        (["--function", "x**2", "--direction", "minimize"], "where should the points start"),
        (["--function", "log(x)", "--direction", "minimize", "--start", "[[-1]]", "--replicas", "1"],
         "start at x = -1, where the function is not defined"),
        (["--function", "log(x)", "--direction", "minimize", "--box", "{x: [-2, -1]}"], "--box: replica 0 would start"),
        (["--function", "sqrt(x)", "--direction", "minimize", "--start", "[[0]]", "--replicas", "1"],
         "no finite gradient"),
        (["--start", "[[1, 2, 3]]", "--replicas", "1"], "the point has 3 coordinates, but the function has 2: x, y"),
        (["--start", "[[1, 2], [3, 4]]", "--replicas", "1"], "2 starting points for 1 replicas"),
        (["--start", "[[1, .nan]]", "--replicas", "1"], "finite number"),
        (["--start", "[]", "--replicas", "1"], "0 starting points"),
        (["--start", "[[1e4, 1]]", "--replicas", "1"], "beyond the bound 1e[+]06"),
        (["--box.z", "0", "1"], "no variable 'z'"),
        (["--box.x", "1", "0"], "the low end must be below"),
        (["--box.x", "1"], "box.x"),
        (["--function", "x*y", "--direction", "minimize", "--box.x", "0", "1"], "low and high of y are missing"),
        (["--variables", "[x, y]"], "bowl has its own"),
        (["--function", "x*z", "--direction", "minimize", "--variables", "[x, y]"], "no variable 'z'"),
        (["--function", "x*y", "--direction", "minimize", "--variables", "[x, y, x]"], "named once"),
        (["--bound", "-1"], "--bound"),
        (["--funktion", "bowl"], "did you mean function"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line_and_writes_nothing(arguments, says, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["train", "--config", "bowl", *arguments]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("rlgrad: ")
    assert shown.err.count("\n") == 1
    assert len(shown.err) < 400
    assert re.search(says, shown.err), shown.err
    assert list(tmp_path.iterdir()) == []


def test_an_error_names_the_line(tmp_path):
    (tmp_path / "c.yaml").write_text("problem: surface\nfunction: x + sni(y)\nupdates: 1\noptimizer: {name: SGD}\n")
    with pytest.raises(UsageError, match=r"c\.yaml:2: function: no function 'sni'"):
        load_config(tmp_path / "c.yaml").build()


def test_points_that_still_move_are_one_group_and_those_that_rest_one_for_each_place():
    near, far = (
        torch.tensor([[0.0, 0.0], [0.0, 0.005], [3.0, 0.0]]),
        torch.tensor([[0.0, 0.0], [0.0, 0.02], [3.0, 0.0]]),
    )
    assert groups(near, [Kind.NONE] * 3) == [[0, 1, 2]]
    assert groups(near, [Kind.MINIMUM] * 3) == [[0, 1], [2]]
    assert groups(far, [Kind.MINIMUM] * 3) == [[0], [1], [2]]
    assert groups(near, [Kind.MINIMUM, Kind.SADDLE, Kind.MINIMUM]) == [[0], [1], [2]]


@pytest.mark.parametrize("ends", [[1, 1], [2, 1]])
def test_a_box_without_room_is_refused(ends):
    with pytest.raises(UsageError, match=r"box\.x: the low end must be below the high end"):
        load_config(config("x**2", direction="minimize", box={"x": ends})).build()


@pytest.mark.parametrize("wrong_sign", [False, True])
def test_what_a_runaway_is_told_follows_the_way_it_goes(wrong_sign):
    """x² has no maximum: who climbs it is told so. Who was to descend, and is carried up, has steps that are too long."""
    start = {"start": [[1.0]], "bound": 100.0, "direction": "minimize", "wrong_sign": wrong_sign}
    problem = load_config(config("x**2", **start)).build().problem
    with torch.no_grad():
        problem.model.point.fill_(11.0)
    says = "no maximum to climb to" if wrong_sign else "the wrong way: the steps overshoot"
    with pytest.raises(RunError, match=says):
        problem.objective(torch.zeros(1))


def test_a_point_may_not_go_beyond_the_bound_where_the_function_is_small_too(tmp_path: Path) -> None:
    """x / 1000 goes down for ever, ten further in each update, and its value stays near zero."""
    told = {"problem": "surface", "function": "x / 1000", "direction": "minimize", "start": [[0.0]], "bound": 15}
    told |= {"updates": 5, "optimizer": {"name": "SGD", "lr": 1e4}}
    with pytest.raises(RunError, match="f has no minimum to descend to along x: replica 0 is at x = -20"):
        train(told, out=tmp_path / "run")


def test_a_long_path_keeps_places_at_equal_distances(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where it is gone on with; and a point that begins elsewhere is held to the value there."""
    monkeypatch.setattr("rlgrad.problems.surface.LONGEST", 4)
    told = {"problem": "surface", "function": "x**2", "direction": "minimize", "start": [[0.0]], "updates": 99}
    told |= {"optimizer": {"name": "SGD", "lr": 0.1}, "pictures_every_updates": 1}
    problem, again = (load_config(told).build().problem for _ in range(2))
    for step in range(40):
        if step == 17:
            again.load_state_dict(problem.state_dict())
        for each in (problem, again) if step >= 17 else (problem,):
            with torch.no_grad():
                each.model.point.fill_(float(step))
            each.sample(step)
    places = [place.item() for place in problem.path]
    assert 2 <= len(places) <= 4
    assert places == [n * problem.apart for n in range(len(places))]
    assert [place.item() for place in again.path] == places
    problem.begin_from({"point": torch.tensor([[[3.0]]], dtype=torch.float64)}, {})
    assert problem.initial.tolist() == [9.0]
