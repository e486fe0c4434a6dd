"""Atari games, as they are usually played."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

import rlgrad
from rlgrad.cli import main
from rlgrad.config import load_config
from rlgrad.environments import describe
from rlgrad.environments.around import Around

PLAIN = {
    "frame_skip": 4, "size": 84, "grey": True, "stack": 4, "no_ops": 30, "fire": True, "sticky": 0.0,
    "life_loss_ends": True, "clip_rewards": True, "training": False,
}  # fmt: skip
CONFIG = {
    "problem": "reinforce", "environment": "ALE/Pong-v5", "atari": True, "episodes": 2, "segment": 8, "baseline": "critic",
    "discount_weighting": False, "updates": 1, "optimizer": {"name": "SGD", "lr": 0.01}, "policy": {"filters": [[4, 8, 8]]},
    "critic": {"filters": [[4, 8, 8]]}, "evaluation": {"episodes": 1, "episode_limit": 5},
}  # fmt: skip


@pytest.fixture
def ale() -> Any:
    return pytest.importorskip("ale_py", reason="ale-py is not installed: the extra `atari` brings it")


def game(name: str, **how: Any) -> Any:
    return describe(f"ALE/{name}-v5", {}, Around(atari=PLAIN | how))


def act(env: Any, seed: int, actions: np.ndarray) -> list[tuple[Any, ...]]:
    found: list[tuple[Any, ...]] = [env.reset(seed=seed)[:1]]
    for action in actions:
        found.append(env.step(action)[:4])
        if found[-1][2] or found[-1][3]:
            break
    return found


@pytest.mark.parametrize(("name", "how"), [
    ("pong", {}), ("breakout", {"size": 60, "stack": 2}), ("ms_pacman", {"grey": False, "frame_skip": 3}),
    ("boxing", {"frame_skip": 1, "training": True, "clip_rewards": True}),
])  # fmt: skip
def test_a_game_is_that_of_ale_py_s_vector_environment(ale: Any, name: str, how: dict[str, Any]) -> None:
    from ale_py.vector_env import AtariVectorEnv

    told = PLAIN | how
    other = AtariVectorEnv(
        name, num_envs=1, img_height=told["size"], img_width=told["size"], grayscale=told["grey"], stack_num=told["stack"],
        frameskip=told["frame_skip"], noop_max=0, use_fire_reset=False, reward_clipping=told["training"], num_threads=1,
    )  # fmt: skip
    env = game(name.title().replace("_P", "P"), no_ops=0, fire=False, **how)
    assert env.observation_space == other.single_observation_space
    assert env.action_space == other.single_action_space
    seen, expected = env.reset(seed=1)[0], other.reset(seed=1)[0][0]
    rng, earned = np.random.default_rng(0), 0.0
    for _ in range(150):
        assert np.abs(seen.astype(int) - expected).max() <= 1  # two ways to round
        assert (seen != expected).mean() < 0.02
        action = rng.integers(env.action_space.n)
        seen, reward, terminated, truncated, _ = env.step(action)
        (expected,), *rest = other.step(np.array([action]))
        assert [reward, terminated, truncated] == [each[0] for each in rest[:3]]
        earned += abs(reward)
    other.close()
    assert earned > 0 or name != "ms_pacman"


@pytest.mark.parametrize("sticky", [0.0, 0.25])
def test_an_episode_is_a_function_of_its_seed_and_its_actions_and_a_reset_loads_nothing(
    ale: Any, sticky: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    actions = np.random.default_rng(0).integers(4, size=60)
    env, fresh = game("Breakout", sticky=sticky), game("Breakout", sticky=sticky)
    monkeypatch.setattr(type(env.unwrapped), "load_game", lambda *_: pytest.fail("the game was loaded again"))
    first = act(env, 7, actions)
    other = act(env, 8, actions)
    assert any(not np.array_equal(a[0], b[0]) for a, b in zip(first, other, strict=False))
    for again in (act(env, 7, actions), act(fresh, 7, actions)):
        assert len(again) == len(first)
        for one, two in zip(first, again, strict=True):
            assert all(np.array_equal(a, b) for a, b in zip(one, two, strict=True))
    assert env.unwrapped.ale.getFloat("repeat_action_probability") == 0


def test_the_no_ops_are_drawn_from_one_to_their_number_and_fire_is_pressed_after_them(ale: Any) -> None:
    for fire in (False, True):
        env = game("Breakout", no_ops=5, fire=fire)
        frames = set()
        for seed in range(60):
            env.reset(seed=seed)
            frames.add(env.unwrapped.ale.getEpisodeFrameNumber() - fire)
        assert frames == {1, 2, 3, 4, 5}
    env = game("Pong", no_ops=0, fire=False)
    env.reset(seed=0)
    assert env.unwrapped.ale.getEpisodeFrameNumber() == 0


def test_how_often_an_action_sticks(ale: Any) -> None:
    """Actions are never the same twice in a row: a frame's action is the old one where it stuck from the first frame."""
    env = game("Pong", sticky=0.25, frame_skip=1, no_ops=0)
    env.reset(seed=0)
    given, stuck = [], 0
    inner = env.ale

    class Listening:
        def __getattr__(self, name: str) -> Any:
            return getattr(inner, name)

        def act(self, button: Any) -> Any:
            given.append(button)
            return inner.act(button)

    env.ale = Listening()
    for t in range(1200):
        env.step(t % 2 + 2)
        stuck += given[-1] != env.buttons[t % 2 + 2]
    assert abs(stuck / 1200 - 0.2) < 0.05  # p / (1 + p): what was stuck and sticks again is what was asked for


def test_a_lost_life_is_an_end_and_rewards_are_clipped_in_training_only(ale: Any) -> None:
    found = {}
    for training in (True, False):
        env = game("Breakout", training=training, no_ops=0)
        lengths = act(env, 0, np.zeros(150, int))
        found[training] = (len(lengths), lengths[-1][2], env.unwrapped.ale.lives())
    length, over, lives = found[True]
    assert over
    assert lives == 4
    assert not found[False][1]
    assert found[False][0] == 151 > length
    clipped, paid = (
        [step[1] for step in act(game("MsPacman", training=t), 0, np.full(90, 3))[1:]] for t in (True, False)
    )
    assert max(paid) >= 10
    assert clipped == np.sign(paid).tolist()


def test_a_run_trains_with_clipped_rewards_and_is_judged_by_the_whole_game(
    ale: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rlgrad.agents.experience.memory", lambda *_: None)  # which takes some time
    problem = load_config(CONFIG).build().problem
    batch = problem.sample(0)
    assert batch.observation.shape == (1, 8, 2, 4, 84, 84)
    assert len(batch.observation.frames[0]) == 1 + 2 * 8  # those before a game begins are empty
    problem.load_state_dict(problem.state_dict())  # the same games, from their seeds and actions
    problem.evaluate(0)
    (judged,) = problem.experience._environments.values()
    for environments, training in ((judged, False), (problem.experience.segments.environments, True)):
        assert environments.copies[0].get_wrapper_attr("clip_rewards") is training
    assert problem.facts["pictures that ALE/Pong-v5 shows"] == "84 x 84, 4 channels"
    problem.close()
    path = tmp_path / "c.yaml"
    path.write_text(yaml.safe_dump(CONFIG | {"atari": {"size": 42, "sticky": 0.25}}))
    assert main(["train", "--config", str(path), "--out", str(tmp_path / "run"), "--quiet"]) == 0
    env = rlgrad.load(tmp_path / "run").make_environment(render_mode="rgb_array")
    assert env.reset(seed=0)[0].shape == (4, 42, 42)
    assert env.render().shape == (210, 160, 3)
    assert not env.get_wrapper_attr("life_loss_ends")


@pytest.mark.parametrize("simulator", ["vector", "envpool"])
def test_a_game_is_played_by_vector_environments_too(ale: Any, simulator: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rlgrad.agents.experience.memory", lambda *_: None)
    if simulator == "envpool":
        pytest.importorskip("envpool", reason="envpool is not installed")
    config = {key: value for key, value in CONFIG.items() if key not in ("segment", "discount_weighting")}
    config |= {"simulator": simulator, "environment": "ALE/Boxing-v5", "episode_limit": 3000, "episodes": 1,
               "baseline": "none", "environment_options": {"max_num_frames_per_episode": 120} if simulator == "vector" else {"max_episode_steps": 30}}  # fmt: skip
    problem = load_config(config).build().problem
    batch = problem.sample(0)
    assert batch.observation[:, :1].shape == (1, 1, 1, 4, 84, 84)
    assert batch.length.max() <= 31
    assert len(batch.observation.frames[0]) <= 1 + 3 + int(batch.length.sum())
    problem.close()


def test_a_game_needs_ale_py_and_the_setting_a_game(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, tmp_path: Path
) -> None:
    import gymnasium

    for id in [id for id in gymnasium.registry if id.startswith("ALE/")]:
        monkeypatch.delitem(gymnasium.registry, id)
    monkeypatch.setitem(sys.modules, "ale_py", None)
    path = tmp_path / "c.yaml"
    for environment, said in (
        (
            "ALE/Pong-v5",
            "environment: ALE/Pong-v5 needs a package that is not installed; install the extra: pip install 'rlgrad[atari]'",
        ),
        ("CartPole-v1", "atari: it wraps only games of ale-py with Discrete actions, such as ALE/Pong-v5"),
    ):
        path.write_text(yaml.safe_dump(CONFIG | {"environment": environment}))
        assert main(["train", "--config", str(path), "--out", str(tmp_path / "run")]) == 2
        found = capsys.readouterr().err
        assert said in found
        assert found.count("\n") == 1
