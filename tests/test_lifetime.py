"""Environments from their making to their closing: what they remember, and whether anything of them is left."""

import builtins
import contextlib
import json
import multiprocessing
import os
import re
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.vector import AsyncVectorEnv

from rlgrad import RunError, load, train
from rlgrad.cli import main
from rlgrad.config import load_config
from rlgrad.environments import GymnasiumEnvironments, moments_of
from rlgrad.environments.moments import moments
from rlgrad.environments.vector import close
from rlgrad.run import resume
from rlgrad.streams import Purpose
from tests.environments import Walk, normalised_walk

CONFIG: dict[str, Any] = {
    "problem": "reinforce",
    "episodes": 4,
    "updates": 4,
    "optimizer": {"name": "Adam", "lr": 0.05},
    "evaluation": {"every_updates": 2, "episodes": 6},
}


class Counted(Walk):
    """Notes when a copy is made and closed."""

    tally: ClassVar[Counter[str]] = Counter()

    def __init__(self) -> None:
        self.tally["made"] += 1
        self.tally["open"] += 1
        self.tally["most"] = max(self.tally["most"], self.tally["open"])

    def close(self) -> None:
        self.tally["open"] -= 1


class Breaks(Counted):
    def step(self, action: int) -> Any:
        raise ValueError("broken")


class Worn(Walk):
    """Each episode of a copy leaves a trace, as that of a physics engine that is not built anew."""

    wear = 0.0

    def step(self, action: int) -> Any:
        self.wear += 1e-9
        observation, *rest = super().step(action)
        return observation + self.wear, *rest


class Market(Walk):
    """An episode begins where the last one has ended in the data, whatever the seed."""

    place = 0

    def see(self) -> np.ndarray:
        self.place += 1
        self.x = np.sin(self.place)
        return np.array([self.x])


class Settles(Walk):
    """Leaves a trace where an action is held for long, as bodies do that come to lie still."""

    last, same, wear = -1, 0, 0.0

    def step(self, action: int) -> Any:
        self.same = self.same + 1 if action == self.last else 0
        self.last = action
        self.wear += 1e-9 * (self.same > 30)
        observation, reward, *_ = super().step(action)
        return observation + self.wear, reward, self.t == 50, False, {}


class Unseeded(Walk):
    def see(self) -> np.ndarray:
        self.x = np.random.normal()
        return np.array([self.x])


class Reseeded(Walk):
    """Its seed goes to numpy's own random numbers, which all copies share."""

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        np.random.seed(seed)
        return super().reset(seed=seed)

    def see(self) -> np.ndarray:
        self.x = np.random.normal()
        return np.array([self.x])


class Shared(Walk):
    """Keeps its places in a list of its class, which a reset empties."""

    places: ClassVar[list[float]] = []

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        self.places.clear()
        return super().reset(seed=seed)

    def see(self) -> np.ndarray:
        self.x = self.np_random.normal()
        self.places.append(self.x)
        return np.array([sum(self.places)])


def processes(num_envs: int) -> AsyncVectorEnv:
    return AsyncVectorEnv([Walk] * num_envs)


class Endless(Walk):
    """Ends where action 1 is taken, and so never under a policy that prefers 0."""

    def step(self, action: int) -> Any:
        observation, *_ = super().step(action)
        return observation, 1.0, bool(action), False, {}


class Long(Exception):
    def __str__(self) -> str:
        return "\x1b[2J" + "x" * 5000


class Unsayable(Exception):
    def __str__(self) -> str:
        raise ValueError


class Exits(Walk):
    def __init__(self, what: str = "SystemExit", at: str = "step"):
        self.what, self.at = getattr(builtins, what, None) or globals()[what], at

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        if self.at == "reset":
            raise self.what
        return super().reset(seed=seed)

    def step(self, action: int) -> Any:
        raise self.what

    def close(self) -> None:
        if self.at == "close":
            raise self.what


class Leaves(Walk):
    def __init__(self) -> None:
        os.chdir("/")


for made in (
    Walk,
    Counted,
    Breaks,
    Worn,
    Settles,
    Market,
    Unseeded,
    Reseeded,
    Shared,
    Endless,
    Exits,
    Leaves,
):
    gymnasium.register(f"life/{made.__name__}-v0", made)
gymnasium.register("life/normalised-v0", normalised_walk)
gymnasium.register("life/Processes-v0", Walk, vector_entry_point=processes)


def config(name: str, **changes: Any) -> dict[str, Any]:
    return CONFIG | {"environment": f"life/{name}-v0"} | changes


def facts(run: Any) -> str:
    return " ".join(
        f"{k}: {v}" for k, v in json.loads((run.directory / "environment.json").read_text())["facts"].items()
    )


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("Walk", None),
        ("Worn", "earlier episodes"),
        ("Settles", "earlier episodes"),
        ("Market", "earlier episodes"),
        ("Unseeded", "more than its seed"),
        ("Reseeded", "more than its seed"),
        ("Shared", "more than its seed"),
    ],
)
def test_what_an_episode_depends_on_is_said_before_the_run(tmp_path: Path, name: str, said: str | None, capsys) -> None:
    run = train(config(name, updates=1), out=tmp_path / "run", quiet=False)
    for text in (facts(run), capsys.readouterr().out):
        assert ("depends on" in text) == (said is not None)
        assert said is None or said in text


def test_running_moments_are_saved_and_frozen_in_evaluations(tmp_path: Path) -> None:
    whole = train(config("normalised"), out=tmp_path / "whole")
    learned = whole.problem.model.moments.numbers
    policy = load(whole.directory, replica=0)  # used alone, it sees what it has learned from
    alone = policy.make_environment()
    assert np.allclose(moments([alone])[0], learned[0, 0], rtol=1e-6)
    alone.reset(seed=0)
    alone.step(0)
    assert np.allclose(moments([alone])[0][:3], learned[0, 0, :3], rtol=1e-6)  # it learns no more
    train(config("normalised", updates=2), out=tmp_path / "half")
    half = resume(tmp_path / "half", extend_to=4)
    assert "frozen in evaluations" in facts(whole)
    assert "depends on" not in facts(whole)
    a, b = (
        [json.loads(line) for line in (run.directory / "metrics.jsonl").read_text().splitlines()]
        for run in (whole, half)
    )
    assert [row["objective/value"] for row in a] == [row["objective/value"] for row in b]
    assert [row.get("evaluation/return") for row in a] == [row.get("evaluation/return") for row in b]
    assert whole.problem.model.moments.numbers.equal(half.problem.model.moments.numbers)
    observations, rewards = whole.problem.model.moments.numbers[0][:, [2, 5]].T  # how many there were
    assert np.allclose(rewards, 1e-4 + 4 * 5)  # of the four updates, and of no evaluation
    assert np.allclose(observations, 1e-4 + 4 * 6)
    assert whole.problem.evaluate(9)["return"] == half.problem.evaluate(9)["return"]
    judged = moments_of(half.problem.experience._environments_of(6))  # by the moments of those that learn, in turn
    assert np.array_equal(judged[:, :6], learned[0].numpy()[[0, 1, 2, 3, 0, 1], :6])


def test_evaluations_leave_an_environment_with_a_memory_alone() -> None:
    """Where an episode begins is where the last one of the same copy has ended."""
    found = []
    for every in (1, 4):
        problem = load_config(config("Market", evaluation={"every_updates": every, "episodes": 4})).build().problem
        seen = []
        for step in range(3):
            seen.append(problem.sample(step).observation[0, 0, :, 0].tolist())
            if every == 1:
                problem.evaluate(step)
                problem.experience.returns(problem.model.policy, Purpose.SAMPLE, step, 4)  # as a diagnosis does
        found.append(seen)
        problem.close()
    assert found[0] == found[1]


def test_an_episode_without_an_end_fails_at_its_limit() -> None:
    told = config("Walk") | {"environment": "Pendulum-v1", "environment_options": {"max_episode_steps": -1}}
    problem = load_config(told | {"episode_limit": 7}).build().problem
    with pytest.raises(RunError, match="an episode did not end within 7 steps"):
        problem.sample(0)


@pytest.mark.parametrize(
    ("around", "workers"),
    [
        ([], 0),
        ([{"name": "FrameStackObservation", "stack_size": 3}], 0),
        ([{"name": "FrameStackObservation", "stack_size": 3}], 1),
        ([{"name": "DelayObservation", "delay": 2}], 0),
    ],
)
def test_segments_go_on_with_running_moments(around: list[dict[str, Any]], workers: int, tmp_path: Path) -> None:
    """Seven steps an update, where episodes have five: each checkpoint is amid some, with the moments of all before.
    A later wrapper keeps observations that older moments have normalised."""
    changes: dict[str, Any] = {"segment": 7, "baseline": "critic", "discount": 0.9, "discount_weighting": False}
    changes |= {"wrappers": around, "workers": workers}
    whole = train(config("normalised", **changes), out=tmp_path / "whole")
    train(config("normalised", **changes, updates=2), out=tmp_path / "half")
    half = resume(tmp_path / "half", extend_to=4)
    a, b = (torch.load(run.directory / "checkpoint.pt")["model"] for run in (whole, half))
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert np.allclose(a["moments.numbers"][0][:, 5], 1e-4 + 4 * 7)  # one reward for each step, and none played again


@pytest.mark.parametrize("name", ["Counted", "Breaks"])
def test_every_environment_is_closed_and_no_more_are_made_than_play(tmp_path: Path, name: str) -> None:
    Counted.tally.clear()
    if name == "Breaks":
        with pytest.raises(RunError, match="broken"):
            train(config(name), out=tmp_path / "run")
    else:
        train(config(name), out=tmp_path / "run")
    assert Counted.tally["open"] == 0
    assert Counted.tally["most"] <= 6
    assert (
        Counted.tally["made"] <= 6 + 5
    )  # and a look at it: for its spaces, its form and its pace, and two in the trial


def test_no_process_outlives_a_run(tmp_path: Path) -> None:
    train(config("Processes", updates=1, episodes=2, simulator="vector"), out=tmp_path / "run")
    assert multiprocessing.active_children() == []


def test_an_evaluation_without_an_end_is_cut_off(tmp_path: Path, capsys) -> None:
    greedy = {"episodes": 3, "episode_limit": 30}
    run = train(config("Endless", updates=2, evaluation=greedy, seed=1), out=tmp_path / "run", quiet=False)
    found = run.problem.evaluate(0)
    never = found["length"].item() == 30
    assert ("cut_off" in found) == never
    assert not never or "100% cut off" in capsys.readouterr().out


ODD = ["SystemExit", "KeyboardInterrupt", "GeneratorExit", "StopIteration", "Unsayable", "Long"]


@pytest.mark.parametrize(("what", "at"), [(each, at) for each in ODD for at in ("step", "reset")])
def test_an_environment_is_blamed_for_what_it_raises(tmp_path: Path, what: str, at: str) -> None:
    where = f"raised {what} at step 0" if at == "step" else rf"{what}.*\(test_lifetime.py:\d+\)"
    with pytest.raises(RunError, match=where) as caught:
        train(config("Exits", environment_options={"what": what, "at": at}, workers=0), out=tmp_path / "run")
    assert len(str(caught.value)) < 600
    assert json.loads((tmp_path / "run/summary.json").read_text())["status"] == "failed"


@pytest.fixture
def heard() -> Iterator[None]:
    """Ctrl-C as in a process of the foreground: one of the background may have been told to ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("heard")
@pytest.mark.parametrize("caught", [False, True])
def test_a_ctrl_c_while_a_problem_is_made_is_the_user_s_own(tmp_path: Path, caught: bool) -> None:
    """Also if an import catches it, and fails later."""

    def made() -> Any:
        with contextlib.suppress(KeyboardInterrupt if caught else ()):
            signal.raise_signal(signal.SIGINT)
        raise AttributeError

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        train(config("Walk"), environment=made, out=tmp_path / "run")
    assert signal.getsignal(signal.SIGINT) is before
    assert not (tmp_path / "run").exists()


def test_what_an_environment_says_when_it_is_closed_does_not_control_the_terminal(capsys) -> None:
    made: list[Any] = [Exits("Long", "close")]
    close(made)
    line = capsys.readouterr().err
    assert "could not be closed: Long: " in line
    assert len(line) < 500
    assert "\x1b" not in line


def test_an_environment_may_change_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run = train(config("Leaves"), out="here")
    assert Path.cwd() == tmp_path
    assert (run.directory, (tmp_path / "here/summary.json").exists()) == (Path("here"), True)


class OldReset(Walk):
    def reset(self) -> Any:  # type: ignore[override]
        return np.zeros(1)


class OldResult(Walk):
    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        return super().reset(seed=seed)[0]


class Returns(Walk):
    """A step that returns what it is told."""

    def __init__(self, **parts: Any):
        self.parts = {
            "observation": np.zeros(1),
            "reward": 1.0,
            "terminated": True,
            "truncated": False,
            "info": {},
        } | parts

    def step(self, action: int) -> Any:
        return tuple(self.parts.values())


class NoOptions(Walk):
    def reset(self, seed: int | None = None) -> Any:
        return super().reset(seed=seed)


class Later(Walk):
    """A step that returns something else from the thousandth on."""

    def __init__(self, **parts: Any):
        self.parts, self.steps = parts, 0

    def step(self, action: int) -> Any:
        self.steps += 1
        found = dict(
            zip(("observation", "reward", "terminated", "truncated", "info"), super().step(action), strict=True)
        )
        return tuple((found | (self.parts if self.steps >= 1000 else {})).values())


@pytest.mark.parametrize(
    ("part", "said"),
    [
        ({"reward": "2.5"}, r"the reward is '2\.5' \(str\)"),
        ({"reward": None}, "the reward is None"),
        ({"terminated": "no"}, r"terminated is 'no' \(str\)"),
        ({"terminated": np.array([False])}, r"terminated is an array of shape \(1,\)"),
        ({"truncated": {"TimeLimit.truncated": False}}, "truncated is {'TimeLimit"),
        ({"info": None}, "info is None"),
        ({"reward": np.bool_(True), "truncated": np.bool_(False)}, None),
        ({"reward": np.array(1), "info": Counter()}, None),
    ],
)
def test_what_a_step_returns_is_looked_at_for_ever(part: dict[str, Any], said: str | None) -> None:
    gymnasium.registry.pop("life/Later-v0", None)
    gymnasium.register("life/Later-v0", Later)
    environments = GymnasiumEnvironments("life/Later-v0", 1, part)
    environments.reset([np.random.default_rng(0)])
    with contextlib.nullcontext() if said is None else pytest.raises(RunError, match=said):
        for _ in range(1010):
            if environments.step(np.zeros(1, int)).terminated[0]:
                environments.restart(np.ones(1, bool), np.zeros(1, int))


class Four(Walk):
    def step(self, action: int) -> Any:
        return np.zeros(1), 1.0, True, {}


BROKEN: list[tuple[Any, str]] = [
    (OldReset, "reset takes no seed, as in gym before 0.26"),
    (OldResult, "reset returns an array of shape (1,), as in gym before 0.26"),
    (NoOptions, "reset takes no options: it must be reset(*, seed=None, options=None)"),
    (Four, "step returns 4 values (ndarray, float, bool, dict), as in gym before 0.26"),
    (lambda: Returns(reward=np.ones(2)), "the reward is an array of shape (2,)"),
    (lambda: Returns(reward=None), "the reward is None"),
    (lambda: Returns(reward="1"), "the reward is '1' (str)"),
    (lambda: Returns(reward=np.array("1")), "the reward is an array of shape ()"),
    (lambda: Returns(terminated="no"), "terminated is 'no' (str)"),
    (lambda: Returns(info=[]), "info is [] (list)"),
    (Breaks, "it raises ValueError: broken"),
    (Exits, "it raises SystemExit"),
    (lambda: Exits("KeyboardInterrupt"), "it raises KeyboardInterrupt"),
]  # fmt: skip


@pytest.mark.parametrize(("made", "said"), BROKEN)
def test_what_is_wrong_with_an_environment_is_named(
    made: Any, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    spec = gymnasium.envs.registration.EnvSpec("life/Broken-v0", made)
    monkeypatch.setitem(gymnasium.registry, "life/Broken-v0", spec)
    assert main(["check", "life/Broken-v0"]) == 1
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("wrong")]
    assert said in line
    raised = said.removeprefix("it raises ").split(":")[0]
    with pytest.raises(RunError, match=re.escape(raised)) as refused:  # nor is it trained in, whatever it returns
        train(config("Broken"), out=tmp_path / "run")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("outer_first", [True, False])
def test_the_moments_of_observations_stand_before_those_of_rewards(outer_first: bool) -> None:
    """So that an evaluation, which may go without the wrapper of rewards, finds its own; by how many each has seen."""
    each = [gymnasium.wrappers.NormalizeObservation, gymnasium.wrappers.NormalizeReward]
    env: Any = Walk()
    for wrap in each if outer_first else each[::-1]:
        env = wrap(env)
    env.reset(seed=0)
    env.step(0)
    assert moments([env])[0][[2, 5]].tolist() == pytest.approx([2.0001, 1.0001])
