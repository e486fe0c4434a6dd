import copy
import dataclasses
import functools
import importlib.util
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import yaml
from gymnasium.envs.classic_control.cartpole import CartPoleEnv
from gymnasium.envs.registration import EnvSpec, WrapperSpec

from rlgrad.cli import main
from rlgrad.config import load_config
from rlgrad.environments import Continuing, GymnasiumEnvironments, Simulator, bare, describe, make, played_by
from rlgrad.environments.spaces import visible_space
from rlgrad.errors import SettingError
from rlgrad.streams import Purpose, streams
from tests.environments import Countdown

Controller = Callable[[np.ndarray, np.random.Generator], np.ndarray]
COPIES = 6


def erratic(good: np.ndarray, other: np.ndarray, rng: np.random.Generator, worst: float) -> np.ndarray:
    """Good actions in the first copies, and less and less often in the others."""
    return np.where(rng.random(COPIES) < np.linspace(0, worst, COPIES), other, good)


def balance(state: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    good = state[2] + 0.3 * state[3] + 0.02 * state[0] + 0.05 * state[1] > 0
    return erratic(good.astype(np.int64), rng.integers(2, size=COPIES), rng, 0.5)


def swing(state: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return erratic(1 + np.sign(state[3]).astype(np.int64), rng.integers(3, size=COPIES), rng, 1)


def pump(state: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return erratic(np.where(state[1] < 0, 0, 2), rng.integers(3, size=COPIES), rng, 1)


def pump_gently(state: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    push = np.where(state[1] < 0, -1, 1) * np.linspace(0, 1.2, COPIES)
    return push[:, None].astype(np.float32)


def anything(state: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return rng.uniform(-3, 3, (COPIES, 1)).astype(np.float32)


@pytest.mark.parametrize(
    ("id", "controller", "ends"),
    [
        ("Acrobot-v1", swing, "both"),
        ("CartPole-v1", balance, "both"),
        ("MountainCar-v0", pump, "both"),
        ("MountainCarContinuous-v0", pump_gently, "both"),
        ("Pendulum-v1", anything, "truncated"),
    ],
)
def test_ours_is_gymnasium_s_step_for_step(id: str, controller: Controller, ends: str) -> None:
    rng = np.random.default_rng(0)
    ours: Any = make(id, 3, COPIES // 3, options={})
    assert not isinstance(ours, GymnasiumEnvironments)
    first = ours.reset(streams(0, 3, Purpose.SAMPLE))
    theirs: list[Any] = [gymnasium.make(id) for _ in range(COPIES)]
    for env, seen in zip(theirs, first, strict=True):
        env.reset()
        assert seen.dtype == np.float32
        assert seen in env.observation_space
    assert ((ours.state.T >= ours.LOW) & (ours.state.T <= ours.HIGH)).all()
    alive, terminated_in_all = np.ones(COPIES, bool), 0
    for t in range(1000):
        action = controller(ours.state, rng)
        for env, state in zip(theirs, ours.state.T, strict=True):  # so that no rounding error grows: Acrobot is chaotic
            env.unwrapped.state = state.copy()
        observation, reward, terminated, truncated = ours.step(action)
        for k in np.flatnonzero(alive):
            expected = theirs[k].step(action[k])
            np.testing.assert_allclose(observation[k], expected[0], rtol=0, atol=1e-6)
            assert reward[k] == pytest.approx(expected[1], rel=0, abs=1e-6)
            assert (terminated[k], truncated[k]) == expected[2:4], f"copy {k}, step {t}"
        terminated_in_all += int((alive & terminated).sum())
        alive &= ~(terminated | truncated)
        if not alive.any():
            break
    assert not alive.any()
    assert 0 < terminated_in_all < COPIES if ends == "both" else terminated_in_all == 0


@pytest.mark.parametrize("way", [1, -1])
def test_links_turn_no_faster_than_gymnasium_s(way: int) -> None:
    """At twice the velocities that are reached by playing."""
    ours, theirs = make("Acrobot-v1", 1, 1, options={}), gymnasium.make("Acrobot-v1")
    ours.reset(streams(0, 1, Purpose.SAMPLE))
    theirs.reset()
    ours.state = way * np.array([[0.5], [1.0], [25.0], [-56.0]])
    theirs.unwrapped.state = ours.state[:, 0].copy()
    found, expected = ours.step(np.array([2])), theirs.step(2)
    np.testing.assert_allclose(found.observation[0], expected[0], rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "id", ["Acrobot-v1", "CartPole-v1", "MountainCar-v0", "MountainCarContinuous-v0", "Pendulum-v1"]
)
def test_initial_states_fill_the_box_that_gymnasium_s_come_from(id: str) -> None:
    ours: Any = make(id, 1, 4000, options={})
    ours.reset(streams(0, 1, Purpose.SAMPLE))
    theirs: Any = gymnasium.make(id).unwrapped
    found = np.array([theirs.reset(seed=seed) and np.array(theirs.state) for seed in range(1000)])
    for mine, other, low, high in zip(ours.state, found.T, ours.LOW, ours.HIGH, strict=True):
        for sample in (mine, other):
            assert low - 1e-6 <= sample.min() <= low + 0.02 * (high - low)  # a thousand uniform numbers: p < 1e-8
            assert high - 0.02 * (high - low) <= sample.max() <= high + 1e-6


@pytest.mark.parametrize("id", ["CliffWalking-v1", "FrozenLake-v1", "FrozenLake8x8-v1"])
def test_a_table_is_gymnasium_s_step_for_step(id: str) -> None:
    """With the same random numbers: one copy a replica, and Gymnasium's generator made the same as that replica's."""
    ours: Any = make(id, COPIES, 1, options={})
    assert not isinstance(ours, GymnasiumEnvironments)
    observation = ours.reset(streams(0, COPIES, Purpose.SAMPLE))
    theirs: list[Any] = [gymnasium.make(id) for _ in range(COPIES)]
    for k, (env, own) in enumerate(zip(theirs, streams(0, COPIES, Purpose.SAMPLE), strict=True)):
        env.reset()
        env.unwrapped.np_random = own.spawn(1)[0]
        assert observation[k].argmax() == env.reset()[0]
    rng = np.random.default_rng(0)
    actions = theirs[0].action_space.n
    alive, terminated_in_all, earned = np.ones(COPIES, bool), 0, 0.0
    for t in range(300):
        action = rng.integers(actions, size=COPIES)
        observation, reward, terminated, truncated = ours.step(action)
        for k in np.flatnonzero(alive):
            state, *expected = theirs[k].step(action[k])
            np.testing.assert_array_equal(observation[k], np.eye(theirs[k].observation_space.n)[state])
            assert [reward[k], terminated[k], truncated[k]] == expected[:3], f"copy {k}, step {t}"
        terminated_in_all += int((alive & terminated).sum())
        earned += reward[alive].sum()
        alive &= ~(terminated | truncated)
        if not alive.any():
            break
    assert terminated_in_all > 0 or earned < -100  # a hole; or, more than once, a cliff


def test_copies_of_ours_begin_again_one_by_one() -> None:
    ours: Any = make("Pendulum-v1", 2, 2, options={}, continuing=True)
    assert isinstance(ours, Continuing)
    ours.reset(streams(0, 2, Purpose.SAMPLE))
    for _ in range(150):
        ours.step(np.ones((4, 1), dtype=np.float32))
    before = ours.state.copy()
    observation, ready = ours.restart(np.array([False, True, False, True]), np.array([1, 2, 3, 4]))
    np.testing.assert_array_equal(ours.state[:, ::2], before[:, ::2])
    again = observation[1]
    assert ready.all()
    for t in range(200):
        truncated = ours.step(np.ones((4, 1), dtype=np.float32)).truncated
        assert truncated.tolist() == [t >= 49, t >= 199, t >= 49, t >= 199]
    other: Any = make("Pendulum-v1", 1, 1, options={})
    other.reset(streams(5, 1, Purpose.SAMPLE))
    np.testing.assert_array_equal(other.restart(np.array([True]), np.array([2]))[0][0], again)


@pytest.mark.parametrize("simulator", ["auto", "gymnasium"])
def test_an_action_is_held_until_its_steps_are_over_or_the_episode_is(simulator: Simulator) -> None:
    held: Any = make("MountainCarContinuous-v0", 1, 4, options={}, simulator=simulator, action_repeat=7)
    plain: Any = make("MountainCarContinuous-v0", 1, 4, options={}, simulator="gymnasium")
    observation = held.reset(streams(0, 1, Purpose.SAMPLE))
    if simulator == "auto":
        plain.reset(streams(0, 1, Purpose.SAMPLE))
        for env, state in zip(plain.copies, held.inner.state.T, strict=True):
            env.unwrapped.state = state.copy()
    else:
        np.testing.assert_array_equal(observation, plain.reset(streams(0, 1, Purpose.SAMPLE)))
    alive, inside = np.ones(4, bool), 0
    push = np.array([[0.0], [0.8], [0.9], [1.0]], dtype=np.float32)  # the first never arrives
    while alive.any():
        action = np.where(observation[:, 1:] < 0, -push, push)
        observation, reward, terminated, truncated = held.step(action)
        for k in np.flatnonzero(alive):
            earned = 0.0
            for step in range(7):
                seen, one, *over, _ = plain.copies[k].step(action[k])
                earned += one
                if any(over):
                    inside += step < 6
                    break
            np.testing.assert_allclose(observation[k], seen, rtol=0, atol=1e-5)
            assert reward[k] == pytest.approx(earned, rel=0, abs=1e-6)
            assert [terminated[k], truncated[k]] == over
        alive &= ~(terminated | truncated)
    assert inside > 0  # an episode ended before the action did


@pytest.mark.parametrize("segment", [None, 3])
@pytest.mark.parametrize("held", [1, 4])
def test_environment_steps_are_calls_of_step(segment: int | None, held: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Episodes of 1 to 6 steps end while an action is held."""
    calls: list[float] = []
    plain = Countdown.step
    monkeypatch.setattr(Countdown, "step", lambda self, action: (calls.append(self.left), plain(self, action))[1])
    more = {"segment": segment, "baseline": "critic"} if segment else {}
    config = {"problem": "reinforce", "environment": "tests/Countdown-v0", "episodes": 5, "replicas": 2, "updates": 3}
    problem: Any = load_config(
        config | {"action_repeat": held, "optimizer": {"name": "SGD", "lr": 0.1}} | more
    ).build()[0]
    problem.sample(0)  # copies are made, and tried, when they are needed first
    for step in (1, 2, 3):
        calls.clear()
        batch = problem.sample(step)
        found = problem.objective(batch).metrics
        assert found["episode/env_steps"].sum() == len(calls)
        assert batch.alive.sum() * held > len(calls) or held == 1
        if held > 1:
            assert found["episode/decisions"].tolist() == batch.alive.sum((1, 2)).tolist()


@pytest.mark.parametrize("simulator", ["auto", "gymnasium", "vector", "envpool"])
def test_what_a_replica_plays_does_not_depend_on_the_others(simulator: str) -> None:
    if simulator == "envpool":
        pytest.importorskip("envpool")

    def played(replicas: int) -> np.ndarray:
        copies = make("CartPole-v1", replicas, 2, options={}, simulator=simulator)
        seen = [copies.reset(streams(3, replicas, Purpose.SAMPLE))]
        seen += [copies.step(np.ones(2 * replicas, dtype=np.int64)).observation for _ in range(5)]
        return np.stack(seen)[:, :2]

    np.testing.assert_array_equal(played(1), played(4))


def test_options_go_to_gymnasium_s_environment() -> None:
    copies = make("CartPole-v1", 1, 1, options={"sutton_barto_reward": True})
    assert isinstance(copies, GymnasiumEnvironments)
    copies.reset(streams(0, 1, Purpose.SAMPLE))
    assert copies.step(np.zeros(1, dtype=np.int64)).reward == 0


def changed(spec: EnvSpec, **fields: Any) -> EnvSpec:
    return dataclasses.replace(copy.deepcopy(spec), **fields)


class Paying(CartPoleEnv):
    """CartPole that pays -7 a step."""

    def step(self, action):
        observation, _, *rest = super().step(action)
        return observation, -7.0, *rest


HALVED = WrapperSpec("Halved", "tests.environments:Halved", {})


@pytest.mark.parametrize(
    ("fields", "said", "reward", "limit"),
    [
        ({"max_episode_steps": 9}, "another max_episode_steps", 1.0, 9),
        ({"entry_point": Paying}, "another entry_point", -7.0, 500),
        ({"entry_point": f"{__name__}:Paying", "max_episode_steps": 9}, "entry_point and max_episode_steps", -7.0, 9),
        ({"kwargs": {"sutton_barto_reward": True}}, "another kwargs", 0.0, 500),
        ({"additional_wrappers": (HALVED,)}, "another additional_wrappers", 0.5, 500),
        ({"order_enforce": False}, "another order_enforce", 1.0, 500),
    ],
)
def test_an_id_that_was_registered_anew_is_played_as_it_is_now(
    fields: dict, said: str, reward: float, limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = changed(gymnasium.spec("CartPole-v1"), **fields)
    monkeypatch.setitem(gymnasium.registry, "CartPole-v1", now)
    copies = make("CartPole-v1", 1, 2, options={})
    assert isinstance(copies, GymnasiumEnvironments)
    assert said in played_by(copies, "CartPole-v1", {})
    copies.reset(streams(0, 1, Purpose.SAMPLE))
    assert copies.step(np.zeros(2, np.int64)).reward.tolist() == [reward] * 2
    assert copies.copies[0].spec.max_episode_steps == limit


@pytest.mark.parametrize("what", ["step", "class"])
def test_a_class_that_was_changed_in_place_is_played_as_it_is_now(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if what == "step":
        plain = CartPoleEnv.step

        @functools.wraps(plain)
        def step(self, action):
            observation, _, *rest = plain(self, action)
            return observation, -7.0, *rest

        monkeypatch.setattr(CartPoleEnv, "step", step)
    else:
        monkeypatch.setattr("gymnasium.envs.classic_control.cartpole.CartPoleEnv", Paying)
    copies = make("CartPole-v1", 1, 2, options={})
    assert "code of another module" in played_by(copies, "CartPole-v1", {})
    copies.reset(streams(0, 1, Purpose.SAMPLE))
    assert copies.step(np.zeros(2, np.int64)).reward.tolist() == [-7.0] * 2


@pytest.mark.parametrize(
    ("id", "options"),
    [
        ("CartPole-v1", {"max_episode_steps": 4}),
        ("Pendulum-v1", {"max_episode_steps": 4}),
        ("MountainCar-v0", {"max_episode_steps": -1}),
        ("FrozenLake-v1", {"max_episode_steps": 4, "is_slippery": False}),
        ("FrozenLake-v1", {"desc": ["SFG"], "is_slippery": False}),
        ("CliffWalking-v1", {"max_episode_steps": 4}),
    ],
)
def test_options_that_our_form_knows_are_as_gymnasium_has_them(id: str, options: dict) -> None:
    ours: Any = make(id, 1, 1, options=options)
    assert played_by(ours, id, options) == "our own vectorized form"
    theirs = gymnasium.make(id, **options)
    ours.reset(streams(0, 1, Purpose.SAMPLE))
    theirs.reset(seed=0)
    action = np.full((1, 1), 0.5, np.float32) if id == "Pendulum-v1" else np.array([2 if "desc" in options else 0])
    for _ in range(250):
        found, expected = ours.step(action), theirs.step(action[0])[2:4]
        assert (found.terminated[0], found.truncated[0]) == expected
        if any(expected):
            break
    assert any(expected) == (options.get("max_episode_steps") != -1)


@pytest.mark.parametrize(
    ("id", "options", "said"),
    [
        ("CartPol-v1", {}, "CartPole-v1"),
        ("CartPole-v1", {"colour": "red"}, "colour"),
        ("nosuch:Thing-v0", {}, "nosuch"),
    ],
)
def test_an_environment_that_cannot_be_made_is_refused(id: str, options: dict, said: str) -> None:
    with pytest.raises(SettingError, match=said) as refusal:
        describe(id, options)
    assert "\n" not in str(refusal.value)


def test_check_says_what_the_suite_sees(capsys: pytest.CaptureFixture) -> None:
    assert main(["check", "CartPole-v1"]) == 0
    found = dict(line.split("  ", 1) for line in capsys.readouterr().out.splitlines())
    found = {name: text.strip() for name, text in found.items()}
    assert found["the policy sees"] == "a vector of 4"
    assert found["actions"] == "Discrete(2)"
    assert found["time limit"] == "500 steps, then truncated"
    assert found["counts as solved"] == "a mean return of 475"
    assert found["played by"] == "our own vectorized form"
    assert found["autoreset"] == "NEXT_STEP"
    assert found["Gymnasium's own check"] == "passes"
    assert int(found["steps per second, 64 at once"].replace(",", "")) > 0


def test_check_names_what_no_policy_serves_and_what_gymnasium_finds_wrong(capsys: pytest.CaptureFixture) -> None:
    assert main(["check", "tests/Levers-v0"]) == 1
    assert "no policy supports these actions" in capsys.readouterr().out
    assert main(["check", "tests/Texts-v0"]) == 1
    assert "nothing: Text" in capsys.readouterr().out
    assert main(["check", "tests.environments:tests/Countdown-v0"]) == 0
    assert "passes" in capsys.readouterr().out
    for wrong in ("CartPol-v1", "nosuch:Thing-v0"):
        assert main(["check", wrong]) == 2
        assert capsys.readouterr().err.count("\n") == 1


def test_mujoco_warns_once_and_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
) -> None:
    mujoco = pytest.importorskip("mujoco")
    monkeypatch.chdir(tmp_path)
    mujoco.set_mju_user_warning(None)
    with warnings.catch_warnings(record=True) as heard:
        for _ in range(3):  # its file asks for something that MuJoCo will not do for ever
            bare("HalfCheetah-v5", {}).close()
        mujoco.get_mju_user_warning()("unstable")
    assert [str(each.message) for each in heard].count("unstable") == 1
    assert capfd.readouterr() == ("", "")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("module", "more"),
    [
        ("Box2D", {"environment": "LunarLander-v3"}),
        ("mujoco", {"environment": "InvertedPendulum-v5"}),
        ("envpool", {"environment": "CartPole-v1", "simulator": "envpool"}),
    ],
)
def test_an_extra_plays_where_it_is_installed_and_is_asked_for_where_it_is_not(
    module: str, more: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    config = {
        "problem": "reinforce", "updates": 1, "optimizer": {"name": "SGD"}, "episodes": 2, "evaluation": {"episodes": 1},
        "episode_limit": 2000, **more,
    }  # fmt: skip
    path = tmp_path / "c.yaml"
    path.write_text(yaml.safe_dump(config))
    if importlib.util.find_spec(module):
        assert main(["train", "--config", str(path), "--out", str(tmp_path / "there")]) == 0
    for name in [name for name in sys.modules if name.startswith((f"gymnasium.envs.{module.lower()}", module))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)
    capsys.readouterr()
    assert main(["train", "--config", str(path), "--out", str(tmp_path / "absent")]) == 2
    said = capsys.readouterr().err
    assert f"pip install 'rlgrad[{module.lower()}]'" in said
    assert said.count("\n") == 1
    assert not (tmp_path / "absent").exists()


@pytest.mark.parametrize("space", [gymnasium.spaces.Dict, lambda **parts: gymnasium.spaces.Tuple(parts.values())])
def test_what_has_no_fixed_size_is_refused_wherever_it_stands(space: Any) -> None:
    with pytest.raises(TypeError, match="no fixed size"):
        visible_space(space(a=gymnasium.spaces.Discrete(2), b=gymnasium.spaces.Text(5)))


@pytest.mark.parametrize(
    "id", ["Acrobot-v1", "CartPole-v1", "FrozenLake-v1", "rlgrad/TwoRooms-v0", "rlgrad/LinearQuadratic-v0"]
)
@pytest.mark.parametrize("simulator", ["auto", "gymnasium"])
def test_a_reset_begins_afresh_and_what_was_returned_stays_as_it_was(id: str, simulator: Simulator) -> None:
    """In the midst of episodes too: what follows is what new copies play from the same streams."""

    def played(copies: Any) -> list[np.ndarray]:
        found = [copies.reset(streams(3, 2, Purpose.SAMPLE))]
        for t in range(4):
            action = np.full((4, 1), 0.5, np.float32) if "Linear" in id else np.full(4, t % 2)
            found += copies.step(action)
        return found

    used, fresh = (make(id, 2, 2, options={}, simulator=simulator) for _ in range(2))
    first = played(used)
    kept = [x.copy() for x in first]
    again, expected = played(used), played(fresh)
    for x, before, y, z in zip(first, kept, again, expected, strict=True):
        np.testing.assert_array_equal(x, before)
        np.testing.assert_array_equal(y, z)
    if "Two" not in id and "Lake" not in id and "Linear" not in id:
        assert len(np.unique(first[0], axis=0)) == 4  # no two copies begin alike
