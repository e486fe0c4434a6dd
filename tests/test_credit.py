"""What each action is credited with, from a rollout that is written down, by naive loops over its episodes."""

from typing import Any

import numpy as np
import pytest
import torch

from rlgrad.agents.credit import credit, standardised, values
from rlgrad.agents.rollouts import Rollout
from rlgrad.config import load_config
from rlgrad.errors import RunError
from rlgrad.problems.reinforce import Reinforce, objective_of

SETTINGS: dict[str, Any] = {
    "problem": "reinforce", "environment": "CartPole-v1", "updates": 1, "optimizer": {"name": "SGD", "lr": 1.0},
    "critic": {"hidden": [4]}, "discount": 0.9, "gae_lambda": 0.5, "baseline": "critic",
}  # fmt: skip
ENDS = [(3, True, False), (4, False, True), (6, True, True)]  # length, terminated, truncated, of three episodes


def made(**changes: Any) -> Reinforce:
    problem: Reinforce = load_config(SETTINGS | changes).build().problem
    return problem


def played(ends: list[tuple[int, bool, bool]] = ENDS) -> Rollout:
    rng = np.random.default_rng(0)
    shape = 1, 8, len(ends)
    observation, last = (torch.from_numpy(rng.normal(size=n)).float() for n in ((*shape, 4), (1, len(ends), 4)))
    alive, terminated, truncated, over = (torch.zeros(shape, dtype=torch.bool) for _ in range(4))
    for b, (length, ended, cut) in enumerate(ends):
        alive[0, :length, b], over[0, length - 1, b] = True, True
        terminated[0, length - 1, b], truncated[0, length - 1, b] = ended, cut
    reward = torch.from_numpy(rng.normal(size=shape)).float() * alive
    return Rollout(observation * alive[..., None], alive.long(), reward, alive, terminated, truncated, over, last)


@pytest.mark.parametrize("ends", [ENDS, [(3, True, False), (5, True, False)]])
@pytest.mark.parametrize("time_limit", ["end", "bootstrap"])
def test_generalized_advantages_are_those_of_a_loop_over_each_episode(time_limit: str, ends: Any) -> None:
    """Only what a time limit alone has cut off goes on, and only if the settings say so; where no step is, nothing is
    earned, whatever the critic thinks of zeros."""
    problem, batch = made(time_limit=time_limit), played(ends)
    critic = problem.model.critic
    assert critic is not None
    with torch.no_grad():
        for parameter in critic.parameters():
            parameter += 0.3
        value = values(critic, batch.observation)
        assert (value[~batch.alive].abs() > 0.1).all()
        found = credit(problem.settings, problem.model, batch, value)
        after = critic(batch.last_observation)[0]
    order = sorted(range(len(ends)), key=lambda b: ends[b][0])  # in which the last observations stand
    for b, (length, ended, _) in enumerate(ends):
        ahead = 0.0
        for t in reversed(range(length)):
            goes_on = time_limit == "bootstrap" and not ended
            following = value[0, t + 1, b] if t + 1 < length else after[order.index(b)] if goes_on else 0.0
            ahead = batch.reward[0, t, b] + 0.9 * following - value[0, t, b] + 0.9 * 0.5 * ahead
            assert found.advantage[0, t, b].item() == pytest.approx(float(ahead), abs=1e-6)
            assert found.target[0, t, b].item() == pytest.approx(float(ahead + value[0, t, b]), abs=1e-6)
    assert (found.advantage[~batch.alive] == 0).all()


def test_whole_returns_are_credited_to_every_step() -> None:
    batch = played()
    problem = made(baseline="none", returns="whole", gae_lambda=1.0, discount_weighting=True)
    found = credit(problem.settings, problem.model, batch, None).target
    for b, (length, *_) in enumerate(ENDS):
        whole = sum(0.9**t * float(batch.reward[0, t, b]) for t in range(length))
        assert found[0, :length, b].tolist() == pytest.approx([whole] * length, abs=1e-6)


def test_beside_a_large_offset_advantages_are_those_of_double_precision() -> None:
    batch = played([(8, True, False)] * 3)
    exact = 1e9 + torch.from_numpy(np.random.default_rng(1).normal(size=batch.reward.shape))
    batch = batch._replace(reward=exact.float(), exact_reward=exact)
    problem = made(baseline="leave_one_out", gae_lambda=1.0, discount=1.0)
    found = credit(problem.settings, problem.model, batch, None).advantage
    returns = exact.flip(1).cumsum(1).flip(1)
    assert torch.allclose(found.double(), returns - (returns.sum(2, keepdim=True) - returns) / 2, atol=1e-4)


def test_what_is_no_more_than_rounding_of_the_returns_is_alike() -> None:
    problem, batch = made(standardise_advantages=True), played()
    for small, alike in ((1e-2, True), (1e3, False)):
        found = standardised(problem.settings, batch.reward * small, batch.alive, torch.full_like(batch.reward, 1e6))
        assert (found == 0).all() == alike


def test_a_last_observation_that_is_not_finite_matters_where_a_critic_guesses_what_follows() -> None:
    batch = played()
    for slot, place in ((0, 0), (1, 1), (2, 2)):  # of which the time limit alone has cut off the second
        last = batch.last_observation.clone()
        last[0, place] = torch.nan
        for time_limit in ("end", "bootstrap"):
            problem, seen = made(time_limit=time_limit), batch._replace(last_observation=last)
            value = torch.zeros(batch.reward.shape)
            if slot == 1 and time_limit == "bootstrap":
                with pytest.raises(RunError, match=r"episode 1, step 3"):
                    credit(problem.settings, problem.model, seen, value)
            else:
                assert credit(problem.settings, problem.model, seen, value).advantage.isfinite().all()


def test_in_segments_every_step_has_the_same_share_and_what_is_none_has_no_share() -> None:
    batch = played()
    value, share = objective_of(made(segment=8, discount_weighting=False).settings, batch, batch.reward + 1)
    assert value.item() == pytest.approx(float((batch.reward + 1)[batch.alive].mean()))
    assert share[batch.alive].tolist() == pytest.approx([1 / 13] * 13)
    assert (share[~batch.alive] == 0).all()
