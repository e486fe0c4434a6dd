"""Odd numbers that environments have: boxes with a fixed element, bounds that are none, offsets, nothing to see at the end."""

from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces

from rlgrad.agents.policies import GaussianPolicy, outputs, policy_for
from rlgrad.config import load_config
from rlgrad.errors import RunError
from rlgrad.networks import MLP
from rlgrad.streams import Purpose, streams

BIG = float(np.finfo(np.float32).max)
CONFIG = {"problem": "reinforce", "updates": 30, "policy": {"hidden": []}, "optimizer": {"name": "Adam", "lr": 0.1}}


def gaussian(box: spaces.Box) -> Any:
    network = MLP(1, outputs(box) or 0, (), streams(0, 2, Purpose.INITIAL), output_gain=1.0)
    return policy_for(box, network, 2)


def test_a_fixed_element_of_a_box_is_no_part_of_the_distribution() -> None:
    with_it = gaussian(spaces.Box(np.float32([-2, 0.5, -1]), np.float32([2, 0.5, 3])))
    without = gaussian(spaces.Box(np.float32([-2, -1]), np.float32([2, 3])))
    seen, u = torch.ones(2, 4, 1), torch.randn(2, 4, 2)
    for name in ("log_prob", "entropy", "divergence"):
        a, b = (
            getattr(policy(seen), name)(
                *([u] if name == "log_prob" else [policy(0 * seen)] if name == "divergence" else [])
            )
            for policy in (with_it, without)
        )
        assert a.isfinite().all()
        assert torch.equal(a, b)
    given, plain = (policy.to_environment(u[0].numpy()) for policy in (with_it, without))
    assert (given[:, 1] == 0.5).all()
    np.testing.assert_array_equal(given[:, [0, 2]], plain)
    for nothing in (spaces.Box(np.zeros(2), np.zeros(2)), spaces.MultiDiscrete([])):
        assert outputs(nothing) is None


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_bounds_at_the_limit_of_a_type_are_none(dtype: Any) -> None:
    big = np.finfo(dtype).max
    u = np.float32([[0.5], [-3.0]])
    for low, high, expected in (
        (-big, big, [[0.5], [-3.0]]),
        (-np.inf, np.inf, [[0.5], [-3.0]]),
        (0, big, [[0.5], [0.0]]),
        (0, np.inf, [[0.5], [0.0]]),
        (-np.inf, -1, [[-1.0], [-3.0]]),
    ):
        policy = gaussian(spaces.Box(low, high, (1,), dtype))
        assert isinstance(policy, GaussianPolicy)
        assert policy.to_environment(u).tolist() == expected
        assert float(policy(torch.ones(2, 1, 1)).entropy()[0, 0]) == pytest.approx(0.5 * np.log(2 * np.pi * np.e))
    wide = gaussian(spaces.Box(-BIG, BIG, (1,), np.float64))
    assert wide.to_environment(u).tolist() == [[0.5], [-3.0]]


class Offset(gymnasium.Env):
    """Pays a large constant, and 1 more for action 1."""

    observation_space, action_space = spaces.Box(-1, 1, (1,), np.float32), spaces.Discrete(2)

    def __init__(self, offset: float, steps: int):
        self.offset, self.steps = offset, steps

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return np.ones(1, np.float32), {}

    def step(self, action):
        self.t += 1
        return np.ones(1, np.float32), self.offset + float(action), self.t == self.steps, False, {}


class NothingAtTheEnd(gymnasium.Env):
    """Four steps; what is seen after the last is NaN."""

    observation_space, action_space = spaces.Box(-9, 9, (1,), np.float32), spaces.Discrete(2)

    def __init__(self, truncated: bool):
        self.truncated = truncated

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.t += 1
        over = self.t == 4
        seen = np.float32([np.nan if over else self.t])
        return seen, float(action), over and not self.truncated, over and self.truncated, {}


gymnasium.register("tests/Offset-v0", Offset)
gymnasium.register("tests/NothingAtTheEnd-v0", NothingAtTheEnd)


@pytest.mark.parametrize("steps", [1, 5])
@pytest.mark.parametrize(
    "more", [{}, {"baseline": "batch_mean"}, {"standardise_advantages": True}, {"baseline": "optimal_constant"}]
)
def test_an_offset_of_the_reward_leaves_the_gradient_as_it_is(more: dict, steps: int) -> None:
    """As all episodes are of the same length, it does so exactly; but a constant baseline only for one step."""
    if steps > 1 and "optimal" in more.get("baseline", ""):
        return
    gradients = []
    for offset in (0.0, 1e6, 1e8):
        options = {"offset": offset, "steps": steps}
        config = {"environment": "tests/Offset-v0", "environment_options": options, "episodes": 16, "replicas": 2}
        problem: Any = load_config(CONFIG | config | more).build()[0]
        gradients.append(problem.objective(problem.sample(0)).gradient)
    standardised_by_time = steps > 1 and more.get("standardise_advantages")
    for found in gradients[1:]:
        for a, b in zip(gradients[0], found, strict=True):
            assert b.abs().max() > 0.01
            torch.testing.assert_close(b, a, rtol=1e-3 if standardised_by_time else 1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("truncated", "more", "used"),
    [
        (False, {"time_limit": "bootstrap"}, False),
        (True, {}, False),
        (True, {"time_limit": "bootstrap"}, True),
        (False, {"segment": 3}, False),
        (True, {"segment": 3}, False),
        (True, {"segment": 3, "time_limit": "bootstrap"}, True),
        (True, {"baseline": "leave_one_out"}, False),
    ],
)
def test_a_last_observation_that_is_not_finite_matters_only_where_it_is_used(
    truncated: bool, more: dict, used: bool
) -> None:
    options = {"truncated": truncated}
    config = {"environment": "tests/NothingAtTheEnd-v0", "environment_options": options, "episodes": 3}
    problem: Any = load_config(CONFIG | config | {"baseline": "critic"} | more).build()[0]

    def gradients() -> list[torch.Tensor]:
        return [gradient for step in range(3) for gradient in problem.objective(problem.sample(step)).gradient]

    if not used:
        assert all(gradient.isfinite().all() for gradient in gradients())
        return
    with pytest.raises(RunError, match=r"to estimate the return after .* not finite \(replica 0, episode 0, step \d\)"):
        gradients()
