import numpy as np
import pytest
import torch

from rlgrad.advantages import (
    batch_mean,
    discount_factors,
    generalized_advantage,
    leave_one_out,
    next_values,
    reward_to_go,
    standardise,
)


@pytest.mark.parametrize("discount", [1.0, 0.9, 0.5])
def test_reward_to_go_is_the_discounted_sum_of_what_follows(float64: None, discount: float) -> None:
    reward = torch.randn(2, 5, 3)
    for t in range(5):
        expected = sum(discount ** (k - t) * reward[:, k] for k in range(t, 5))
        assert torch.allclose(reward_to_go(reward, discount)[:, t], expected)


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
    following = next_values(value, alive, after)
    discount, weight = 0.9, 0.7
    found = generalized_advantage(reward, value, following, discount, weight)
    for b in range(3):
        n = int(length[0, b])
        v = [*value[0, :n, b].tolist(), float(after[0, b])]
        delta = [float(reward[0, t, b]) + discount * v[t + 1] - v[t] for t in range(n)]
        for t in range(n):
            expected = sum((discount * weight) ** (k - t) * delta[k] for k in range(t, n))
            assert float(found[0, t, b]) == pytest.approx(expected)
        assert (found[0, n:, b] == 0).all()


def test_generalized_advantages_are_those_of_stable_baselines3() -> None:
    """Its rollout buffer, filled with an episode that ends and one that is cut off."""
    buffers = pytest.importorskip("stable_baselines3.common.buffers")
    from gymnasium import spaces

    rng = np.random.default_rng(3)
    for terminated in (True, False):
        steps, discount, weight = 12, 0.97, 0.9
        reward, value = rng.normal(size=(2, steps, 1)).astype(np.float32)
        last = rng.normal(size=1).astype(np.float32)
        buffer = buffers.RolloutBuffer(
            steps, spaces.Box(-1, 1, (1,)), spaces.Discrete(2), "cpu", weight, discount, n_envs=1
        )
        for t in range(steps):
            start = np.array([t == 0], dtype=np.float32)
            given = torch.tensor(value[t]), torch.zeros(1)
            buffer.add(np.zeros((1, 1)), np.zeros((1, 1)), reward[t], start, *given)
        buffer.compute_returns_and_advantage(torch.tensor(last), dones=np.array([terminated]))
        r, v = (torch.tensor(x).reshape(1, steps, 1) for x in (reward, value))
        after = torch.tensor(last).reshape(1, 1) * (not terminated)
        following = next_values(v, torch.ones(1, steps, 1, dtype=torch.bool), after)
        found = generalized_advantage(r, v, following, discount, weight)
        np.testing.assert_allclose(found.flatten().numpy(), buffer.advantages.flatten(), atol=1e-5)
        np.testing.assert_allclose((found + v).flatten().numpy(), buffer.returns.flatten(), atol=1e-5)


def test_standardised_advantages_and_the_mean_of_the_batch() -> None:
    x, alive = torch.randn(2, 64, 3), torch.rand(2, 64, 3) < 0.6
    found = standardise(x * alive, alive)
    for replica in range(2):
        kept = x[replica][alive[replica]]
        expected = (kept - kept.mean()) / kept.std(correction=0)
        assert torch.allclose(found[replica][alive[replica]], expected, atol=1e-5)
    assert (found[~alive] == 0).all()
    assert batch_mean(torch.tensor([[[1.0, 2.0, 6.0]]])).tolist() == [[[3.0, 3.0, 3.0]]]
