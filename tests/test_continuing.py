"""Tasks without an end: segments with a discount, judged by the reward per step."""

import json
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces

from rlgrad import load, resume, train
from rlgrad.config import load_config
from rlgrad.errors import UsageError

# P(next | state, action) and rewards of a process that goes on for ever: to stay, or to go round.
MOVES = np.array([[[0.9, 0.1, 0], [0, 0.8, 0.2]], [[0, 1, 0], [0.2, 0, 0.8]], [[0.5, 0, 0.5], [1, 0, 0]]])
PAYS = np.array([[0.3, 0.0], [0.3, 0.0], [0.3, 3.0]])


class Endless(gymnasium.Env):
    """certain: every action does what is most likely."""

    observation_space = spaces.Box(0, 1, (3,), np.float32)
    action_space = spaces.Discrete(2)

    def __init__(self, certain: bool = False):
        self.moves = np.eye(3)[MOVES.argmax(2)] if certain else MOVES

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.state = int(self.np_random.integers(3))
        return np.eye(3, dtype=np.float32)[self.state], {}

    def step(self, action):
        pay = PAYS[self.state, action]
        self.state = int(self.np_random.choice(3, p=self.moves[self.state, action]))
        return np.eye(3, dtype=np.float32)[self.state], pay, False, False, {}


gymnasium.register("tests/Endless-v0", Endless)
SETTINGS: dict[str, Any] = {
    "problem": "reinforce", "environment": "tests/Endless-v0", "updates": 40, "optimizer": {"name": "Adam", "lr": 0.05},
    "policy": {"hidden": []}, "critic": {"hidden": []}, "baseline": "critic", "segment": 16, "episodes": 4,
    "discount": 0.9, "discount_weighting": False, "gae_lambda": 0.9, "evaluation": {"steps": 30, "episodes": 2},
    "diagnose_every_updates": 1000,
}  # fmt: skip


def average(policy: list[int]) -> float:
    """The mean reward under the stationary distribution μ = μP."""
    chosen = MOVES[np.arange(3), policy]
    equations = np.vstack([chosen.T - np.eye(3), np.ones(3)])
    stationary = np.linalg.lstsq(equations, np.array([0, 0, 0, 1.0]), rcond=None)[0]
    return float(stationary @ PAYS[np.arange(3), policy])


@pytest.mark.parametrize("policy", [[1, 1, 1], [0, 1, 1]])
def test_the_reward_per_step_is_that_of_the_stationary_distribution(policy: list[int]) -> None:
    made = load_config(SETTINGS | {"evaluation": {"steps": 800, "episodes": 4}}).build().problem
    weight, bias = made.model.policy.network.parameters()
    with torch.no_grad():
        bias.zero_()
        weight.copy_(torch.tensor([[1.0 - a, float(a)] for a in policy]))
    found = made.evaluate(0)
    assert found.keys() == {"reward_per_step"}
    assert abs(float(found["reward_per_step"]) - average(policy)) < 0.1
    made.close()


def test_an_agent_learns_what_pays_in_the_long_run_and_goes_on_from_where_it_was(tmp_path: Path) -> None:
    """To stay pays 0.3 at once; to go round pays 3 at every third step, so 1. Both are certain here."""
    settings = SETTINGS | {"environment_options": {"certain": True}}
    train(settings, out=tmp_path / "whole")
    train(settings | {"updates": 20}, out=tmp_path / "half")
    resume(tmp_path / "half", extend_to=40)
    lines = [json.loads(line) for line in (tmp_path / "whole" / "metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["evaluation/reward_per_step"] == [pytest.approx(1.0)]
    assert "evaluation/return" not in lines[-1]
    one, other = (load(tmp_path / name).policy.state_dict() for name in ("whole", "half"))
    assert all(torch.equal(one[name], other[name]) for name in one)
    summary = json.loads((tmp_path / "whole" / "summary.json").read_text())
    assert summary["evaluation.reward_per_step"]["mean"] == pytest.approx(1.0)


def test_nothing_says_when_a_task_without_an_end_is_solved() -> None:
    with pytest.raises(UsageError, match="nothing says when this is solved"):
        load_config(SETTINGS | {"environment": "CartPole-v1", "stop_when_solved": True}).build()
