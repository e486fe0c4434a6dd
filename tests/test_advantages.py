from collections.abc import Callable

import numpy as np
import pytest
import torch

from rlgrad.agents.advantages import (
    batch_mean,
    discount_factors,
    generalized_advantage,
    leave_one_out,
    mean_and_variance,
    next_values,
    reward_to_go,
    standardise,
    standardise_each,
)


@pytest.mark.parametrize("discount", [1.0, 0.9, 0.5])
def test_reward_to_go_is_the_discounted_sum_of_what_follows(float64: None, discount: float) -> None:
    reward = torch.randn(2, 5, 3)
    for t in range(5):
        expected = sum(discount ** (k - t) * reward[:, k] for k in range(t, 5))
        assert torch.allclose(reward_to_go(reward, discount)[:, t], expected)


def test_rewards_to_go_end_where_an_episode_does(float64: None) -> None:
    reward, over = torch.randn(2, 9, 3), torch.rand(2, 9, 3) < 0.3
    found = reward_to_go(reward, 0.9, over)
    for place in np.ndindex(2, 9, 3):
        r, t, b = place
        last = next((k for k in range(t, 9) if over[r, k, b]), 8)
        assert found[place].item() == pytest.approx(
            sum(0.9 ** (k - t) * reward[r, k, b].item() for k in range(t, last + 1))
        )


def test_leave_one_out_is_the_mean_of_the_others() -> None:
    returns = torch.tensor([[[1.0, 2.0, 6.0], [0.0, 4.0, 0.0]]])  # [1, 2, 3]
    assert leave_one_out(returns).tolist() == [[[4.0, 3.5, 1.5], [2.0, 0.0, 2.0]]]


def test_leave_one_out_of_one_is_refused() -> None:
    with pytest.raises(ValueError, match="at least two"):
        leave_one_out(torch.ones(1, 2, 1))


def test_discount_factors() -> None:
    assert torch.allclose(discount_factors(3, 0.5), torch.tensor([[1.0], [0.5], [0.25]]))
    assert discount_factors(3, 1.0).tolist() == [[1.0]] * 3


def test_generalized_advantages_are_the_sums_of_their_definition(float64: None) -> None:
    generator = torch.Generator().manual_seed(0)
    length = torch.tensor([[5, 2, 1]])
    alive = torch.arange(5).reshape(1, 5, 1) < length.unsqueeze(1)
    reward, value = (torch.randn(1, 5, 3, generator=generator) * alive for _ in range(2))
    after = torch.randn(1, 3, generator=generator)
    over = torch.arange(1, 6).reshape(1, 5, 1) == length.unsqueeze(1)
    following = next_values(value, over, after.unsqueeze(1) * over)
    discount, weight = 0.9, 0.7
    found = generalized_advantage(reward, value, following, over, discount, weight)
    for b in range(3):
        n = int(length[0, b])
        v = [*value[0, :n, b].tolist(), float(after[0, b])]
        delta = [float(reward[0, t, b]) + discount * v[t + 1] - v[t] for t in range(n)]
        for t in range(n):
            expected = sum((discount * weight) ** (k - t) * delta[k] for k in range(t, n))
            assert float(found[0, t, b]) == pytest.approx(expected)
        assert (found[0, n:, b] == 0).all()


def test_generalized_advantages_are_those_of_stable_baselines3() -> None:
    """Number for number on random segments, with any number of ends in them.

    Its buffer knows no truncation: its collector adds the discounted guess of what was cut off to the reward.
    """
    buffers = pytest.importorskip("stable_baselines3.common.buffers")
    from gymnasium import spaces

    rng, steps, slots = np.random.default_rng(3), 40, 16
    for discount, weight in ((0.97, 0.9), (1.0, 1.0), (0.9, 0.0)):
        reward, value, after = rng.normal(size=(3, steps, slots)).astype(np.float32)
        terminated = rng.random((steps, slots)) < 0.1
        truncated = (rng.random((steps, slots)) < 0.1) & ~terminated
        done = terminated | truncated
        buffer = buffers.RolloutBuffer(
            steps, spaces.Box(-1, 1, (1,)), spaces.Discrete(2), "cpu", weight, discount, n_envs=slots
        )
        for t in range(steps):
            start = done[t - 1] if t else np.ones(slots, bool)
            paid = reward[t] + discount * after[t] * truncated[t]
            buffer.add(
                np.zeros((slots, 1)), np.zeros((slots, 1)), paid, start, torch.tensor(value[t]), torch.zeros(slots)
            )
        buffer.compute_returns_and_advantage(torch.tensor(after[-1]), dones=done[-1])
        over = torch.tensor(done)[None]
        over[:, -1] = True  # the segment's end
        r, v, a = (torch.tensor(x)[None] for x in (reward, value, after))
        following = next_values(v, over, a * ~torch.tensor(terminated))
        found = generalized_advantage(r, v, following, over, discount, weight)
        np.testing.assert_allclose(found[0].numpy(), buffer.advantages, atol=1e-5)
        np.testing.assert_allclose((found + v)[0].numpy(), buffer.returns, atol=1e-5)


def test_mean_and_variance_are_those_of_the_steps_alive() -> None:
    """Of more than one piece, whatever stands in the others."""
    x, alive = 5 + torch.randn(2, 70, 3), torch.rand(2, 70, 3) < 0.6
    mean, variance = mean_and_variance(x, alive)
    for replica in range(2):
        kept = x[replica][alive[replica]].double().numpy()
        assert mean[replica].item() == pytest.approx(kept.mean(), rel=1e-5)
        assert variance[replica].item() == pytest.approx(kept.var(), rel=1e-4)


def test_standardised_advantages_and_the_mean_of_the_batch() -> None:
    x, alive = torch.randn(2, 64, 3), torch.rand(2, 64, 3) < 0.6
    found = standardise(x * alive, alive, torch.ones(2))
    for replica in range(2):
        kept = x[replica][alive[replica]]
        expected = (kept - kept.mean()) / kept.std(correction=0)
        assert torch.allclose(found[replica][alive[replica]], expected, atol=1e-5)
    assert (found[~alive] == 0).all()
    assert batch_mean(torch.tensor([[[1.0, 2.0, 6.0]]])).tolist() == [[[3.0, 3.0, 3.0]]]


def test_standardised_within_each_episode() -> None:
    x, alive = torch.randn(2, 9, 5), torch.arange(9).reshape(1, 9, 1) < torch.tensor([[1, 2, 5, 9, 9]] * 2).unsqueeze(1)
    found = standardise_each(x * alive, alive, torch.ones(2))
    for replica in range(2):
        assert (found[replica, :, 0] == 0).all()  # one step is no better than itself
        for b in range(1, 5):
            kept = x[replica, :, b][alive[replica, :, b]]
            expected = (kept - kept.mean()) / kept.std(correction=0)
            assert torch.allclose(found[replica, :, b][alive[replica, :, b]], expected, atol=1e-5)
    assert (found[~alive] == 0).all()


@pytest.mark.parametrize("standardised", [standardise, standardise_each])
def test_where_every_return_is_the_same_no_action_is_better(standardised: Callable[..., torch.Tensor]) -> None:
    """Not even by the rounding of the returns, which is all that is left of them then."""
    returns = torch.full((1, 7, 31), 1234.567)
    advantage = returns - leave_one_out(returns)
    alive = torch.ones_like(advantage, dtype=torch.bool)
    assert (standardised(advantage + 1e-5 * torch.randn(1, 7, 31), alive, torch.tensor([1234.567])) == 0).all()
