from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from rlgrad.agents.advantages import CHUNK, reward_to_go
from rlgrad.agents.policies import CategoricalPolicy
from rlgrad.agents.rollouts import Player, Rollout, play, returns_of
from rlgrad.environments import GymnasiumEnvironments
from rlgrad.errors import RunError
from rlgrad.networks import MLP
from rlgrad.streams import Purpose, streams


def policy(inputs: int, replicas: int = 2) -> CategoricalPolicy:
    return CategoricalPolicy(MLP(inputs, 2, (4,), streams(0, replicas, Purpose.INITIAL), output_gain=1.0), 2)


def played(id: str, replicas: int = 2, episodes: int = 3, limit: int = 100, **options: object) -> Rollout:
    environments = GymnasiumEnvironments(id, replicas * episodes, options)
    return play(policy(1, replicas), environments, streams(0, replicas, Purpose.SAMPLE), episodes, limit=limit)


def test_episodes_are_whole_and_masked_after_their_end() -> None:
    episodes = played("tests/Countdown-v0", episodes=8)
    length = episodes.length
    assert length.unique().numel() > 2  # short and long ones
    assert torch.equal(length, episodes.observation[:, 0, :, 0].long())  # it counts down from its first observation
    steps = torch.arange(1, episodes.reward.shape[1] + 1).reshape(1, -1, 1)
    assert torch.equal(episodes.alive, steps <= length.unsqueeze(1))
    assert torch.equal(episodes.reward, torch.where(episodes.alive, steps, 0).float())
    assert torch.equal(
        episodes.observation[..., 0], torch.where(episodes.alive, length.unsqueeze(1) - steps + 1, 0).float()
    )
    assert torch.equal(episodes.over, episodes.terminated)
    assert (episodes.over.sum(1) == 1).all()
    assert (episodes.over & (steps == length.unsqueeze(1))).sum() == length.numel()
    assert episodes.reward.shape[1] == CHUNK  # all of them shorter: padded to one piece
    assert [episodes.alive[:, piece].shape for piece in episodes.pieces()] == [(2, CHUNK, 8)]


def test_a_time_limit_is_not_an_end() -> None:
    episodes = played("tests/Limited-v0", episodes=8)
    starts = episodes.observation[:, 0, :, 0].long()
    assert (starts > 3).any()
    assert (starts < 3).any()
    assert torch.equal(episodes.length, starts.clamp(max=3))
    assert torch.equal(episodes.terminated.any(1), starts <= 3)
    assert torch.equal(episodes.truncated.any(1), starts >= 3)  # both in the third step, if that is the end


def test_actions_follow_the_policy_s_probabilities() -> None:
    model = policy(1, 1)
    environments = GymnasiumEnvironments("tests/Countdown-v0", 4000, {"fixed": 1})
    episodes = play(model, environments, streams(0, 1, Purpose.SAMPLE), 4000)
    p = float(model(torch.ones(1, 1, 1)).probs[0, 0, 1].detach())
    assert 0.1 < p < 0.9
    z = (float(episodes.action[episodes.alive].float().mean()) - p) / np.sqrt(p * (1 - p) / 4000)
    assert abs(z) < 4


def test_the_greedy_policy_takes_the_most_probable_action() -> None:
    model = policy(1, 1)
    observation = np.linspace(-3, 3, 50, dtype=np.float32).reshape(50, 1)
    action = Player(model, streams(0, 1, Purpose.SAMPLE), 50, greedy=True).act(observation)
    assert torch.equal(torch.from_numpy(action), model(torch.from_numpy(observation)[None]).probs[0].argmax(-1))


@pytest.mark.parametrize("discount", [1.0, 0.9])
def test_the_score_is_that_of_the_same_episodes(discount: float) -> None:
    model, environments = policy(1, 2), GymnasiumEnvironments("tests/Countdown-v0", 10, {})
    episodes = play(model, environments, streams(0, 2, Purpose.SAMPLE), 5)
    returns, lengths = returns_of(model, environments, streams(0, 2, Purpose.SAMPLE), 5, discount=discount)
    torch.testing.assert_close(returns, reward_to_go(episodes.reward, discount)[:, 0])
    assert torch.equal(lengths, episodes.length.to(lengths.dtype))
    assert lengths.min() < lengths.max()


def test_replica_k_plays_what_it_plays_alone() -> None:
    def of(replicas: int) -> Rollout:
        return played("tests/Countdown-v0", replicas)

    one, many = of(1), of(3)
    steps = one.alive.shape[1]
    for name in ("observation", "action", "reward", "alive"):
        alone: Tensor = getattr(one, name)
        assert torch.equal(alone[0], getattr(many, name)[0, :steps]), name


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("how", [play, returns_of])
def test_what_is_not_finite_is_named_where_it_arises(how: Callable, value: float) -> None:
    environments = GymnasiumEnvironments("tests/Countdown-v0", 6, {"poison": value, "fixed": 3})
    with pytest.raises(RunError, match=r"observation that is not finite \(replica 0, episode 0, step 2\)"):
        how(policy(1), environments, streams(0, 2, Purpose.SAMPLE), 3)


def test_an_environment_that_never_ends_is_noticed() -> None:
    with pytest.raises(RunError, match="did not end within 5 steps"):
        played("tests/Countdown-v0", limit=5, fixed=6)
