"""Code of a user's own: modules that a config names, and objects that are given from Python."""

import functools
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from gymnasium.wrappers import TimeLimit
from torch import nn

import rlgrad
from rlgrad import cli
from rlgrad.config import load_config
from rlgrad.errors import called
from rlgrad.networks import MLP
from rlgrad.streams import Purpose, streams
from tests.environments import Countdown
from tests.run.support import AGENT, assert_same, rows, summary

ROOT = Path(rlgrad.__file__).parent.parent
MODULE = """
import gymnasium, numpy as np, torch
from torch import nn
import rlgrad
from rlgrad.networks import MLP
from rlgrad.settings import RunSettings
from tests.environments import Countdown

class MyEnv(Countdown):
    pass

def make(inputs, outputs, streams):
    return MLP(inputs, outputs, [3], streams)

def narrow(inputs, outputs, streams):
    return MLP(inputs, outputs + 1, [3], streams)

def alone(inputs, outputs, streams):
    return nn.Linear(inputs, outputs)

def chance(inputs, outputs, streams):
    return nn.Sequential(MLP(inputs, outputs, [3], streams), nn.Dropout())

class Beside(MLP):
    def forward(self, x):
        return super().forward(x) + x.mean(1, keepdim=True)

def beside(inputs, outputs, streams):
    return Beside(inputs, outputs, [3], streams)

def still(inputs, outputs, streams):
    return MLP(inputs, outputs, [3], streams).requires_grad_(False)

class Apart(MLP):
    def forward(self, x):
        return super().forward(x).detach()

def apart(inputs, outputs, streams):
    return Apart(inputs, outputs, [3], streams)

def nothing(inputs, outputs, streams):
    return "nothing"

def broken(*arguments):
    raise KeyError("out of order")

def swish(x):
    return x * torch.sigmoid(x)

def wrong(x):
    return x.nonsense()

class MyObserver(rlgrad.Observer):
    count = 0
    def seen(self, run, update, record):
        self.count += 1
        record.numbers["mine/count"] = float(self.count)
    def state_dict(self):
        return self.count
    def load_state_dict(self, state):
        self.count = state

class MySettings(RunSettings):
    start: float = 2.0
    def build(self, **objects):
        return Slope(self.replicas, self.start)

class Slope(rlgrad.Trainable):
    direction = rlgrad.Direction.MINIMIZE
    def __init__(self, replicas, start):
        self.model = nn.Module()
        self.model.x = nn.Parameter(torch.full((replicas, 1), start))
    def objective(self, batch):
        return rlgrad.Estimate(self.model.x.square().sum(1), {})
    def evaluate(self, step):
        return {"value": self.model.x.detach().square().sum(1)}
"""
PROBLEM = """\
imports: [{module}]
problem: {module}:MySettings
start: 3.0
updates: 6
replicas: 2
optimizer: {{name: SGD, lr: 0.1}}
observers: [{module}:MyObserver]
evaluation: {{every_updates: 2}}
checkpoint: {{every_updates: 2}}
"""
PLAYER = """\
imports: [{module}]
problem: reinforce
environment: {module}:MyEnv
episodes: 2
updates: 4
replicas: 2
baseline: critic
policy:
  network: {module}:make
critic:
  activation: {module}:swish
optimizer: {{name: Adam, lr: 0.05}}
observers:
  - {module}:MyObserver
evaluation: {{every_updates: 2, episodes: 2}}
"""


@pytest.fixture
def place(tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with a module of its own name and two configs; the working directory is another."""
    module = f"mine_{abs(hash(request.node.nodeid))}"
    folder, other = tmp_path / "code", tmp_path / "elsewhere"
    folder.mkdir()
    other.mkdir()
    (folder / f"{module}.py").write_text(MODULE)
    for name, text in (("problem", PROBLEM), ("player", PLAYER)):
        (folder / f"{name}.yaml").write_text(text.format(module=module))
    monkeypatch.chdir(other)
    yield folder
    sys.modules.pop(module, None)


def module_of(place: Path) -> str:
    return next(place.glob("mine_*.py")).stem


def edited(place: Path, old: str, new: str, name: str = "player") -> str:
    """The config, changed."""
    file, module = place / f"{name}.yaml", module_of(place)
    text, old, new = file.read_text(), old.replace("MODULE", module), new.replace("MODULE", module)
    assert old in text
    file.write_text(text.replace(old, new))
    return str(file)


@pytest.mark.parametrize("name", ["problem", "player"])
def test_a_config_names_a_users_code(place: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Beside the config, from another working directory."""
    before = list(sys.path)
    config = str(place / f"{name}.yaml")
    words = ["train", "--config", config, "--quiet", "--out", "run"]
    assert cli.main(words) == 2
    refused = capsys.readouterr().err
    assert refused.count("\n") == 1
    assert refused.startswith(f"rlgrad: {config}:1: imports: importing '{module_of(place)}' runs its code; say --allow")
    assert not Path("run").exists()
    assert cli.main([*words, "--allow-imports"]) == 0
    assert sys.path == before
    assert rows(Path("run"))[-1]["mine/count"] == len(rows(Path("run")))
    capsys.readouterr()
    assert cli.main(["train", "--config", config, "--help", "--allow-imports"]) == 0
    assert ("--start" if name == "problem" else "--policy.network") in capsys.readouterr().out
    assert cli.main(["evaluate", "run"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert cli.main(["evaluate", "run", "--allow-imports"]) == 0
    assert cli.main(["reproduce", "run", "--allow-imports", "--quiet"]) == 0


@pytest.mark.parametrize("name", ["problem", "player"])
def test_a_users_run_goes_on_to_the_same_bits(place: Path, name: str) -> None:
    config = place / f"{name}.yaml"
    rlgrad.train(config, out="whole", allow_imports=True)
    rlgrad.train(config, out="part", allow_imports=True, updates=2)
    rlgrad.resume("part", allow_imports=True, extend_to=summary(Path("whole"))["updates"])
    assert_same(Path("whole"), Path("part"))


def test_modules_are_found_from_every_command(place: Path, capsys: pytest.CaptureFixture) -> None:
    """Beside the config when it is begun and when it goes on, or in the working directory, and not anywhere else."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}

    def run(way: list[str], *words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, *way, "--allow-imports", "--quiet", *words]
        return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)

    there = Path().absolute() / "run"
    rlgrad.train(place / "problem.yaml", out=there, allow_imports=True)
    del sys.modules[module_of(place)]
    module = place / f"{module_of(place)}.py"
    before = module.read_text()
    module.write_text(before + "# another line\n")
    rlgrad.resume(there, extend_to=8, allow_imports=True)
    assert f"its last bits may change, as these have: imports.{module.stem}: " in capsys.readouterr().err
    module.write_text(before)
    place.rename(moved := place.parent / "moved")
    script = [str(ROOT / "scripts" / "train.py")]
    done = run(script, "--resume", str(there), "--extend-to", "9", cwd=moved)
    assert (done.returncode, done.stderr) == (0, "")
    assert summary(there)["updates"] == 9
    done = run(["-m", "rlgrad", "train"], "--resume", str(there), "--extend-to", "10", cwd=Path())
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "it is looked for beside the config and in the working directory" in done.stderr


@pytest.mark.parametrize(
    ("old", "new", "line", "said"),
    [
        ("MODULE:make", "MODULE:mak", 9, "has no 'mak'; did you mean make?"),
        ("MODULE:make", "json:loads", 9, "json:loads is in a module that is not in `imports`"),
        ("MODULE:make", "MODULE:broken", 9, "MODULE:broken: KeyError: 'out of order' (MODULE.py:"),
        ("MODULE:make", "MODULE:narrow", 9, "it must map [2, 1, 1] to [2, 1, 2], and gives [2, 1, 3]"),
        ("MODULE:make", "MODULE:alone", 9, "one replica's outputs depend on another's parameters"),
        ("MODULE:make", "MODULE:chance", 9, "its outputs for the same inputs differ"),
        ("MODULE:make", "MODULE:beside", 9, "its outputs for an observation depend on the others beside it"),
        ("MODULE:make", "MODULE:still", 9, "it has no parameter that learns"),
        ("MODULE:make", "MODULE:apart", 9, "its outputs depend on no parameter that learns"),
        ("MODULE:make", "MODULE:nothing", 9, "it must be a torch.nn.Module, not str"),
        ("MODULE:swish", "MODULE:wrong", 11, "it fails on inputs [2, 1, 1]: AttributeError"),
        ("MODULE:MyObserver", "MODULE:Slope", 13, "Slope.__init__() missing"),
        ("MODULE:MyObserver", "MODULE:MyEnv", 13, "must be a class that derives from rlgrad.Observer"),
        ("MODULE:MyEnv", "MODULE:broken", 3, "KeyError: 'out of order'"),
        ("MODULE:MyEnv", "MODULE:torch", 3, "must be a class or a function"),
        ("reinforce", "MODULE:MyEnv", 2, "must be a class that derives from rlgrad.settings.RunSettings"),
        ("imports: [MODULE]", "imports: [no_such_module]", 1, "'no_such_module' cannot be imported"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    place: Path, capsys: pytest.CaptureFixture[str], old: str, new: str, line: int, said: str
) -> None:
    config = edited(place, old, new)
    assert cli.main(["train", "--config", config, "--allow-imports", "--quiet", "--out", "run"]) == 2
    printed = capsys.readouterr().err
    assert printed.count("\n") == 1
    assert printed.startswith(f"rlgrad: {config}:{line}: ")
    assert said.replace("MODULE", module_of(place)) in printed
    assert not Path("run").exists()


def limited(steps: int) -> Any:
    return TimeLimit(Countdown(), steps)


SHORT: Any = AGENT | {"updates": 4, "checkpoint": {"every_updates": 1}}


def network(replicas: int = 2) -> nn.Module:
    return MLP(1, 2, [3], streams(0, replicas, Purpose.INITIAL))


class Stop(rlgrad.Observer):
    def seen(self, run: Any, update: rlgrad.Update, record: rlgrad.Record) -> None:
        if update.step == 2:
            raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("factory", "name"),
    [
        (Countdown, "tests.environments.Countdown"),
        (functools.partial(limited, 3), "tests.test_user_modules.limited"),
        (functools.partial(functools.partial(Countdown), fixed=2), "tests.environments.Countdown"),
        (lambda: limited(4), "tests.test_user_modules.<lambda>"),
    ],
)
def test_what_is_given_goes_on_to_the_same_bits(tmp_path: Path, factory: Any, name: str) -> None:
    assert called(factory) == name
    whole, part = tmp_path / "whole", tmp_path / "part"
    rlgrad.train(SHORT, out=whole, environment=factory, policy=network())
    with pytest.raises(KeyboardInterrupt):
        rlgrad.train(SHORT, out=part, environment=factory, policy=network(), observers=[Stop()])
    with pytest.raises(rlgrad.UsageError, match=r"config.yaml:\d+: given.environment: this run's environment was made"):
        rlgrad.resume(part, policy=network())
    with pytest.raises(rlgrad.UsageError, match=r"given.policy: the run was begun with .*MLP, not .*Linear"):
        rlgrad.resume(part, environment=factory, policy=nn.Linear(1, 2))
    rlgrad.resume(part, environment=factory, policy=network(), config=SHORT)
    assert_same(whole, part)
    assert name in (part / "config.yaml").read_text()


class Paid(Countdown):
    """Countdown, with one more reward in each step."""

    def __init__(self, pay: float):
        super().__init__(fixed=3)
        self.pay = pay

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        observation, reward, *ends = super().step(action)
        return observation, reward + self.pay, *ends


def paid(pay: float) -> Any:
    return lambda: Paid(pay)


@pytest.mark.parametrize("lr", [0.05, {"sweep": [0.05, 0.1]}], ids=["one", "sweep"])
def test_what_is_given_stays_where_it_was_given(tmp_path: Path, lr: Any) -> None:
    """Also if another environment of the same name is given meanwhile. One pays in each step, the other takes."""
    more = {"optimizer": {"name": "Adam", "lr": lr}, "evaluation": {"every_updates": 3, "episodes": 9}}
    config = SHORT | more  # an evaluation needs more copies than the updates before it

    class Between(rlgrad.Observer):
        def seen(self, run: Any, update: rlgrad.Update, record: rlgrad.Record) -> None:
            rlgrad.train(config, out=tmp_path / f"pays-{update.step}", environment=paid(50.0))

    alone = rlgrad.train(config, out=tmp_path / "alone", environment=paid(-50.0))
    takes = rlgrad.train(config, out=tmp_path / "takes", environment=paid(-50.0), observers=[Between()])
    assert_same(alone.directory, takes.directory)
    assert takes.problem.facts == alone.problem.facts
    assert (takes.problem.evaluate(7)["return"] < 0).all()
    policies = [rlgrad.load(tmp_path / name, replica=1, environment=paid(pay))
                for name, pay in (("takes", -50.0), ("pays-0", 50.0))]  # fmt: skip
    made = [policy.make_environment() for policy in policies]
    assert [int(each.reset(seed=0)[0][0]) for each in made] == [3, 3]
    assert [each.step(0)[1] for each in made] == [-49.0, 51.0]
    assert {each.spec.id for each in made} == {"given/tests.test_user_modules.paid._locals_._lambda_-v0"}


def test_what_is_given_must_fit(tmp_path: Path) -> None:
    for policy, said in (
        (nn.Linear(1, 2), "given.policy: one replica's outputs depend on another's parameters"),
        (nn.Linear(1, 3), r"config: given.policy: its parameter weight has the shape \[3, 1\], and must be \[2, ...\]"),
        (network(3), r"given.policy: its parameter .* must be \[2, ...\]: the replicas are the first axis"),
        (MLP(1, 5, [3], streams(0, 2, Purpose.INITIAL)), r"must map \[2, 1, 1\] to \[2, 1, 2\], and gives \[2, 1, 5\]"),
        (torch.tanh, "it must be a torch.nn.Module"),
    ):
        with pytest.raises(rlgrad.UsageError, match=said):
            rlgrad.train(SHORT, out=tmp_path / "a", environment=Countdown, policy=policy)  # type: ignore[arg-type]
    with pytest.raises(rlgrad.UsageError, match=r"the problem surface takes no policy from Python"):
        rlgrad.train({"problem": "surface", "function": "rosenbrock", "updates": 1, "optimizer": {"name": "SGD", "lr": 0.1}},
                     out=tmp_path / "a", policy=network())  # fmt: skip
    assert not (tmp_path / "a").exists()


def test_a_ready_config_takes_no_other_settings(tmp_path: Path) -> None:
    ready = load_config(SHORT)
    for other in ({"environment": Countdown}, {"policy": {"hidden": [3]}}, {"seed": 3}):
        with pytest.raises(rlgrad.UsageError, match="a Config is complete"):
            rlgrad.train(ready, out=tmp_path / "a", **other)
    assert not (tmp_path / "a").exists()
    assert rlgrad.train(ready, out=tmp_path / "a", allow_imports=True).summary["status"] == "completed"


def test_a_users_module_may_import_its_neighbour_later(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In the middle of the run, when it is resumed from elsewhere, and when it is evaluated."""
    (place / "neighbour_of_mine.py").write_text("limit = 3")
    file = place / f"{module_of(place)}.py"
    late = "\n    def evaluate(self, step):\n        import neighbour_of_mine"
    file.write_text(file.read_text().replace("\n    def evaluate(self, step):", late))
    before = list(sys.path)
    run = ["train", "--config", str(place / "problem.yaml"), "--allow-imports", "--quiet", "--out", "run"]
    for words in (run, ["train", "--resume", "run", "--extend-to", "8", "--quiet"], ["evaluate", "run"]):
        sys.modules.pop("neighbour_of_mine", None)
        assert cli.main([*words, "--allow-imports"]) == 0
        assert sys.modules.pop("neighbour_of_mine").limit == 3
        assert sys.path == before


def test_a_module_of_the_same_name_from_elsewhere_is_refused(tmp_path: Path) -> None:
    for folder, name in (("one", "twin_of_two"), ("two", "twin_of_two"), ("two", "colorsys")):
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / f"{name}.py").write_text("")
        (tmp_path / folder / f"{name}.yaml").write_text(
            f"problem: surface\nfunction: bowl\nupdates: 1\noptimizer: {{name: SGD}}\nimports: [{name}]\n"
        )
    try:
        load_config(tmp_path / "one" / "twin_of_two.yaml", allow_imports=True).build()
        for name in ("twin_of_two", "colorsys"):
            with pytest.raises(
                rlgrad.UsageError, match=rf"imports: '{name}' is .*, and not .*two/{name}\.py beside the"
            ):
                load_config(tmp_path / "two" / f"{name}.yaml", allow_imports=True).build()
    finally:
        sys.modules.pop("twin_of_two", None)


def test_a_module_that_was_changed_after_it_was_imported_is_told(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is recorded is the text that runs."""
    module = place / f"{module_of(place)}.py"
    recorded = []
    for change in ("", "# another line\n", "# and one more\n"):
        module.write_text(module.read_text() + change)
        if "more" in change:
            del sys.modules[module.stem]
        run = rlgrad.train(place / "problem.yaml", out=f"run{change[:5]}", allow_imports=True)
        recorded.append(json.loads((run.directory / "environment.json").read_text())["imports"][module.stem])
        said = f"{module.name} has changed since it was imported: the old text runs"
        assert (said in capsys.readouterr().err) == ("another" in change)
    assert recorded[0] == recorded[1] != recorded[2]
    assert hashlib.sha256(module.read_bytes()).hexdigest().startswith(recorded[2])
