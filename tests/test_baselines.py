"""Baselines with a memory, and those that leave the least variance."""

import numpy as np
import pytest
import torch

from rlgrad.agents.baselines import RunningMean, optimal_constant


def test_a_running_mean_is_that_of_earlier_updates_the_older_the_less() -> None:
    """Weights 1, 0.8, 0.64, … from the newest update backwards; none for the one that is played."""
    rng, memory, earlier = np.random.default_rng(0), RunningMean(3), []
    for _ in range(6):
        memory.advance()
        memory.advance()  # nothing new
        if earlier:
            weights = 0.8 ** np.arange(len(earlier))[::-1]
            expected = np.average(earlier, axis=0, weights=weights)
        else:
            expected = np.zeros(3)
        np.testing.assert_allclose(memory().numpy(), expected, rtol=1e-5)
        returns = rng.normal([[5.0], [-3.0], [100.0]], 2.0, (3, 4))
        memory.observe(torch.from_numpy(returns))
        np.testing.assert_allclose(memory().numpy(), expected, rtol=1e-5)  # it does not see its own update
        earlier.append(returns.mean(1))
    assert set(memory.state_dict()) == {"total", "weight", "pending", "pending_weight"}  # it is saved


def test_the_running_mean_of_a_checkpoint_goes_on() -> None:
    one, other = RunningMean(1), RunningMean(1)
    for number in range(3):
        one.observe(torch.tensor([[float(number), 9.0]]))
        if number < 2:
            one.advance()
    other.load_state_dict(one.state_dict())
    for memory in (one, other):
        memory.advance()
    assert one().tolist() == other().tolist() == pytest.approx([(4.5 * 0.64 + 5 * 0.8 + 5.5) / 2.44])


@pytest.mark.parametrize("each", [False, True])
def test_the_best_constant_is_the_least_squares_one_of_the_other_episodes(each: bool) -> None:
    """What is left of Σ (g − b s)² over the others is least: numpy finds the same b, for all parameters or for each."""
    rng, episodes = np.random.default_rng(1), 5
    shapes = [(2, 3, 2), (2, 4)]
    g, s = ([[rng.normal(size=shape) for shape in shapes] for _ in range(episodes)] for _ in range(2))
    found = optimal_constant(*([[torch.from_numpy(x) for x in one] for one in all_] for all_ in (g, s)), each)

    def flat(one: list[np.ndarray], replica: int) -> np.ndarray:
        return np.concatenate([x[replica].ravel() for x in one])

    for replica in range(2):
        expected = np.zeros(10)
        for episode in range(episodes):
            others = [k for k in range(episodes) if k != episode]
            gs, ss = (np.stack([flat(all_[k], replica) for k in others]) for all_ in (g, s))
            if each:
                b = np.array([np.linalg.lstsq(ss[:, [p]], gs[:, p], rcond=None)[0][0] for p in range(10)])
            else:
                b = np.linalg.lstsq(ss.reshape(-1, 1), gs.reshape(-1), rcond=None)[0][0]
            expected += (flat(g[episode], replica) - b * flat(s[episode], replica)) / episodes
        np.testing.assert_allclose(flat([x.numpy() for x in found], replica), expected, rtol=1e-10)
