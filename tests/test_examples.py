"""Every example runs, and does what it says."""

import ast
import re
import runpy
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import rlgrad
from rlgrad.testing import check_problem
from tests.run.support import assert_same, crashing, rows

EXAMPLES = Path(rlgrad.__file__).parent.parent / "examples"
LOGGED = ("path/length", "path/distance", "update/size")


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> Any:
    """What an example prints, in a folder of its own."""
    monkeypatch.chdir(tmp_path)

    def run(name: str, *arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", [name, *arguments])
        monkeypatch.setattr(sys, "path", list(sys.path))
        monkeypatch.delitem(sys.modules, name, raising=False)
        runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
        return capsys.readouterr().out

    return run


def example(name: str) -> dict[str, Any]:
    return runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name=name)


def test_each_is_short_and_stands_in_the_list_with_a_command_that_is_its_own() -> None:
    text = (EXAMPLES / "README.md").read_text()
    files = sorted(EXAMPLES.glob("*.py"))
    assert sorted(re.findall(r"`python examples/(\w+\.py) \d+`", text)) == [file.name for file in files]
    for file in files:
        assert len(file.read_text().splitlines()) < 80, file.name
        assert f"python examples/{file.name} " in ast.get_docstring(ast.parse(file.read_text())), file.name


def test_a_bare_loop_goes_both_ways_and_writes_nothing(run: Any, tmp_path: Path) -> None:
    printed = run("bare_loop", "60")
    ends = re.findall(r"(\w+) ends at (.*)", printed)
    assert [name for name, _ in ends] == ["MAXIMIZE", "MINIMIZE"]
    assert ends[0][1] == ends[1][1]
    assert not any(ast.literal_eval(ends[0][1]))
    assert "MAXIMIZE 0 value -1.0 slope 4.0" in printed
    assert "MINIMIZE 0 value 1.0 slope 4.0" in printed
    assert list(tmp_path.iterdir()) == []


def test_an_environment_of_one_s_own_is_learned(run: Any) -> None:
    def reached(updates: str) -> float:
        return float(run("custom_environment", updates).split()[2])

    best = 1 - 0.02 * (6 + 1) / 2  # starts 0 to 5 are equally likely, and 6 to 1 steps from the end
    assert reached("1") < 0.9
    assert reached("20") == pytest.approx(best, abs=0.02)


def test_a_network_of_one_s_own_plays(run: Any) -> None:
    assert float(run("custom_network", "2").split()[2]) > 9
    module = example("custom_network")
    network = module["make"](3, 2, rlgrad.streams.streams(0, 2, rlgrad.streams.Purpose.INITIAL))
    assert [list(parameter.shape) for parameter in network.parameters()] == [[2, 12, 2]]
    x = torch.randn(2, 5, 4, 3)
    one = network(x)[1, 2, 3]
    features = torch.cat([x[1, 2, 3], torch.outer(x[1, 2, 3], x[1, 2, 3]).flatten()])
    assert torch.allclose(one, features @ network.weight[1])


def test_an_observer_of_one_s_own_sees_every_update(run: Any, tmp_path: Path) -> None:
    printed = run("custom_observer", "6")
    assert printed.endswith("ended: completed after 6 updates\n6 of 6 rows of the log have path/length\n")
    (directory,) = (tmp_path / "runs").iterdir()
    seen = {name: torch.tensor([row[name] for row in rows(directory)]) for name in LOGGED}
    length, distance, size = (seen[name] for name in LOGGED)
    assert torch.allclose(length, size.cumsum(0), rtol=1e-4)
    assert (distance <= length * 1.00001).all()
    assert torch.allclose(distance[0], size[0], rtol=1e-4)


def test_a_problem_of_one_s_own_is_short_and_finds_the_weights(run: Any, tmp_path: Path) -> None:
    text = (EXAMPLES / "custom_problem.py").read_text().partition('"""')[2].partition('"""')[2]
    assert len([line for line in text.splitlines() if line.strip()]) < 40
    assert float(run("custom_problem", "300").split()[1]) < 0.1
    (directory,) = (tmp_path / "runs").iterdir()
    written = {path.name.split(".")[0] for path in directory.iterdir()}
    assert {"metrics", "summary", "checkpoint", "config", "model", "events"} <= written
    assert check_problem(example("custom_problem")["Poisson"], "Adam") == []


def test_a_problem_of_one_s_own_resumes_to_the_same_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    main = example("custom_problem")["main"]
    main(120, "whole")
    crashing(70, lambda: main(120, "broken"))
    assert not (tmp_path / "broken" / "summary.json").exists()
    main(120, "broken")
    assert_same(tmp_path / "whole", tmp_path / "broken")


def test_folds_within_folds_have_an_honest_error(run: Any) -> None:
    """The same by scikit-learn, with the penalties that were chosen."""
    printed = run("nested_folds", "2")
    found = [[float(word) for word in line] for line in re.findall(r"l2=(\S+) promises (\S+) and has (\S+)", printed)]
    x, y = load_breast_cancer(return_X_y=True)
    splits = StratifiedKFold(2, shuffle=True, random_state=0).split(x, y)
    for (l2, promised, honest), (inside, outside) in zip(found, splits, strict=True):
        model = make_pipeline(StandardScaler(), LogisticRegression(C=1 / (l2 * len(inside)), tol=1e-8, max_iter=1000))
        model.fit(x[inside], y[inside])
        assert honest == pytest.approx(log_loss(y[outside], model.predict_proba(x[outside])), abs=1e-3)
        assert promised == pytest.approx(honest, abs=0.05)
    assert f"honest {np.mean([honest for *_, honest in found]):.4f}" in printed
