"""Wrappers from the config: data, not code; recorded, and put around again by whatever uses the run."""

import json
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import yaml
from gymnasium import spaces, wrappers

from rlgrad import RunError, load, train
from rlgrad.cli import main
from rlgrad.config import load_config
from rlgrad.environments.around import REFUSED, Around, wrapper
from rlgrad.errors import SettingError, UsageError


class Steps(gymnasium.Env):
    """Five steps that pay 100 each; it shows the number of the step, a picture beside it, and a word of its own."""

    observation_space = spaces.Box(-1, 10, (2,), np.float32)

    def __init__(self, continuous: bool = False):
        self.action_space = spaces.Box(-2, 2, (1,), np.float32) if continuous else spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return np.array([0, 1], np.float32), {}

    def step(self, action):
        assert self.action_space.contains(action)
        self.t += 1
        return np.array([self.t, 1], np.float32), 100.0, self.t == 5, False, {}


class Picture(Steps):
    observation_space = spaces.Box(0, 255, (16, 16, 3), np.uint8)

    def reset(self, **how):
        _, info = super().reset(**how)
        return np.zeros((16, 16, 3), np.uint8), info

    def step(self, action):
        return np.full((16, 16, 3), 9, np.uint8), *super().step(action)[1:]


class Grows(gymnasium.Wrapper):
    """Changes its actions after some episodes."""

    resets = 0

    def reset(self, **how):
        self.resets += 1
        if self.resets == 3:
            self.action_space = spaces.Discrete(3)
        return self.env.reset(**how)


class Later(gymnasium.ObservationWrapper):
    """Shows more in the copies that are made later."""

    made = 0

    def __init__(self, env):
        super().__init__(env)
        Later.made += 1
        self.size = 2 if Later.made < 3 else 4
        self.observation_space = spaces.Box(-1, 10, (self.size,), np.float32)

    def observation(self, observation):
        return np.resize(observation, self.size)


for name, made in {"Steps": Steps, "Picture": Picture}.items():
    gymnasium.register(f"tests/{name}-v0", made, max_episode_steps=9)


def config(*named: Any, **more: Any) -> dict[str, Any]:
    return {
        "problem": "reinforce", "environment": "tests/Steps-v0", "updates": 2, "optimizer": {"name": "SGD"},
        "policy": {"hidden": [4]}, "episodes": 2, "evaluation": {"episodes": 2}, "wrappers": list(named), **more,
    }  # fmt: skip


USES: dict[str, dict[str, Any]] = {
    "FlattenObservation": {}, "FrameStackObservation": {"stack_size": 3}, "TimeAwareObservation": {},
    "DelayObservation": {"delay": 1}, "DtypeObservation": {"dtype": "float64"}, "NormalizeObservation": {},
    "RescaleObservation": {"min_obs": [0.0, 0.0], "max_obs": [1.0, 2.0]}, "MaxAndSkipObservation": {"skip": 2},
    "ReshapeObservation": {"shape": [2, 1]}, "ClipReward": {"min_reward": -1, "max_reward": 1}, "NormalizeReward": {},
    "StickyAction": {"repeat_action_probability": 0.1}, "RepeatAction": {"num_repeats": 2}, "PassiveEnvChecker": {},
    "TimeLimit": {"max_episode_steps": 3}, "OrderEnforcing": {}, "RecordEpisodeStatistics": {},
    "DiscretizeObservation": {"bins": 3}, "ClipAction": {}, "RescaleAction": {"min_action": [-1.0], "max_action": [1.0]},
    "DiscretizeAction": {"bins": 3}, "GrayscaleObservation": {"keep_dim": True}, "ResizeObservation": {"shape": [8, 8]},
    "AddWhiteNoise": {"probability_of_noise_per_pixel": 0.1},
    "ObstructView": {"obstructed_pixels_ratio": 0.2, "obstruction_width": 2},
}  # fmt: skip
# What needs a function, a Dict, or an environment that draws or is Atari's.
OTHERS = {"TransformObservation", "TransformAction", "TransformReward", "FilterObservation", "AddRenderObservation"}


@pytest.mark.parametrize("name", USES)
def test_gymnasium_s_wrappers_play_with_arguments_that_yaml_can_say(name: str) -> None:
    if name == "ResizeObservation":
        pytest.importorskip("cv2")
    pictures = {"GrayscaleObservation", "ResizeObservation", "AddWhiteNoise", "ObstructView"}
    environment = gymnasium.make(
        "tests/Picture-v0" if name in pictures else "tests/Steps-v0",
        continuous="Action" in name and name not in ("StickyAction", "RepeatAction"),
    )
    made = Around((wrapper((), name, None, USES[name]),)).single(environment)
    assert isinstance(made, getattr(wrappers, name))
    observation, _ = made.reset(seed=0)
    assert made.observation_space.contains(observation)
    assert made.observation_space.contains(made.step(made.action_space.sample())[0])


def test_every_wrapper_of_gymnasium_s_is_known() -> None:
    """A new one shows up here: it is offered, and has to be looked at."""
    everything = {name for name in wrappers.__all__ if name[0].isupper()}
    assert everything - USES.keys() - OTHERS - REFUSED.keys() == {"AtariPreprocessing"}


@pytest.mark.parametrize(
    ("named", "said"),
    [
        (
            {"name": "FrameStackObservaton"},
            "wrappers.0.name: gymnasium.wrappers has no .*did you mean FrameStackObserv",
        ),
        ({"name": "FrameStackObservation", "stack": 3}, "wrappers.0.stack: .*did you mean stack_size"),
        ({"name": "FrameStackObservation"}, "wrappers.0: .*argument stack_size is missing"),
        ({"name": "FrameStackObservation", "stack_size": -1}, "wrappers.0: FrameStackObservation: ValueError"),
        ({"name": "TransformReward"}, "wrappers.0: TransformReward needs a function, which a config cannot hold"),
        ({"name": "VectorizeTransformReward"}, "wrappers.0.name: .* only vector environments"),
        ({"name": "RecordVideo", "video_folder": "x"}, "wrappers.0.name: RecordVideo cannot be used here"),
        ({"name": "Autoreset"}, "wrappers.0.name: Autoreset cannot be used here"),
        ({"name": "os:system"}, r"wrappers.0.name: os:system is in a module that is not in `imports`"),
        ({"stack_size": 3}, "wrappers.0"),
    ],
)
def test_what_cannot_be_put_around_is_refused_by_its_setting(named: dict, said: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=said):
        load_config(config(named)).build()
    path = tmp_path / "c.yaml"
    path.write_text(yaml.safe_dump(config(named)))
    assert main(["train", "--config", str(path), "--out", str(tmp_path / "run")]) == 2
    assert not (tmp_path / "run").exists()


def test_wrappers_are_recorded_and_put_around_again(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    run = tmp_path / "run"
    named = {"name": "FrameStackObservation", "stack_size": 3}, {"name": "ClipReward", "max_reward": 1}
    train(config(*named), out=run)
    assert yaml.safe_load((run / "config.yaml").read_text())["wrappers"] == list(named)
    assert main(["evaluate", str(run)]) == 0
    policy = load(run)
    assert policy.observation_space.shape == (3, 2)
    environment = policy.make_environment()
    observation, _ = environment.reset(seed=0)
    assert observation.shape == (3, 2)
    policy.predict(observation)
    environment.close()
    capsys.readouterr()


@pytest.mark.parametrize("name", [None, "NormalizeReward", "NormalizeObservation"])
def test_what_a_step_achieved_is_told_in_a_unit_that_stays_only(name: str | None, tmp_path: Path) -> None:
    """Nothing moves here, so that the change is 0."""
    still = {"diagnose_every_updates": 1, "optimizer": {"name": "SGD", "lr": 1e-30}}
    train(config(*([{"name": name}] if name else []), **still), out=tmp_path / "run")
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [row.get("objective/achieved_change") for row in rows] == [None if name else [0.0]] * 2


def test_our_own_form_plays_without_wrappers_only() -> None:
    stacked = {"name": "FrameStackObservation", "stack_size": 2}
    plays = load_config(config(stacked, environment="CartPole-v1")).build().problem.facts["CartPole-v1 is played by"]
    assert plays == "Gymnasium's, copy after copy: our own form does not support wrappers"
    with pytest.raises(UsageError, match="simulator: wrappers need single copies"):
        load_config(config(stacked, environment="CartPole-v1", simulator="vector")).build()


@pytest.mark.parametrize("segment", [None, 4])
def test_what_only_changes_rewards_does_so_in_training_alone(segment: Any, tmp_path: Path) -> None:
    """Five steps pay 100 each; clipped, 1 each. NormalizeReward's moments do not disturb those of the observations."""
    both = {"name": "NormalizeReward"}, {"name": "ClipReward", "max_reward": 1.0}, {"name": "NormalizeObservation"}
    train(config(*both, segment=segment, baseline="critic"), out=tmp_path / "run")
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["evaluation/return"] == [500.0]
    assert lines[-1]["episode/return"][0] <= 5.0
    problem = load_config(config(*both)).build().problem
    seen = []
    policy = problem.model.policy
    inner, problem.model.policy.network = policy.network, _Watching(policy.network, seen)
    problem.sample(0)
    problem.evaluate(0)
    problem.model.policy.network = inner
    rows = problem.experience.moments.get_buffer("numbers").numpy()
    first = (np.array([0, 1]) - rows[0, 0, :2]) / np.sqrt(rows[0, 0, 2:4] + 1e-8)
    assert np.allclose(seen[-5][0, 0], first, atol=1e-5)  # the first of the evaluation's five


class _Watching(__import__("torch").nn.Module):
    def __init__(self, network: Any, seen: list[Any]):
        super().__init__()
        self.network, self.seen = network, seen

    def forward(self, x: Any) -> Any:
        self.seen.append(x.numpy().copy())
        return self.network(x)


@pytest.mark.parametrize(
    ("name", "said"),
    [("Grows", r"other actions now than .* Discrete\(3\), not Discrete\(2\)"), ("Later", "other observations now")],
)
def test_a_space_that_changes_after_the_check_is_named_in_one_line(name: str, said: str, tmp_path: Path) -> None:
    Later.made = 0
    more = {"imports": [__name__], "imports_from": ".", "updates": 5}
    with pytest.raises(RunError, match=said):
        train(config({"name": f"{__name__}:{name}"}, **more), allow_imports=True, out=tmp_path / "run")


def test_a_class_of_one_s_own_must_be_a_wrapper() -> None:
    with pytest.raises(SettingError, match="must be a class that derives from"):
        wrapper((), "tests:Steps", Steps, {})
