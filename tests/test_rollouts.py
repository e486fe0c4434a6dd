from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from rlgrad.agents.advantages import CHUNK, reward_to_go
from rlgrad.agents.policies import CategoricalPolicy
from rlgrad.agents.rollouts import Player, Rollout, play, returns_of
from rlgrad.environments import GymnasiumEnvironments, Transition
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
    assert torch.equal(episodes.env_steps, episodes.length)
    environments = GymnasiumEnvironments("tests/Limited-v0", 16, {})
    for limit, cut in ((100, starts < 0), (2, starts > 2)):  # an evaluation is cut off at its own limit alone
        found = returns_of(policy(1), environments, streams(0, 2, Purpose.SAMPLE), 8, limit=limit)
        assert torch.equal(found[2].bool(), cut)
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
    returns, lengths, _ = returns_of(model, environments, streams(0, 2, Purpose.SAMPLE), 5, discount=discount)
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


class Dealt:
    """Environments [R * B] in which a copy gets what is written in a script: what is seen, earned, and when it ends."""

    def __init__(
        self,
        lengths: list[int],
        seen: dict[tuple[int, int], float] | None = None,
        earned: dict[tuple[int, int], float] | None = None,
    ):
        self.lengths, self.seen, self.earned = np.array(lengths), seen or {}, earned or {}

    def reset(self, streams: object) -> np.ndarray:
        self.t = 0
        return self._look()

    def step(self, action: np.ndarray) -> Transition:
        reward = np.array([self.earned.get((k, self.t), 1.0 + k) for k in range(len(self.lengths))])
        self.t += 1
        return Transition(self._look(), reward, self.lengths == self.t, np.zeros(len(self.lengths), bool))

    def _look(self) -> np.ndarray:
        return np.array([[self.seen.get((k, self.t), 0.1 * self.t)] for k in range(len(self.lengths))], np.float32)


@pytest.mark.parametrize("how", [play, returns_of])
@pytest.mark.parametrize("t", [2, CHUNK + 3])
def test_the_message_names_the_replica_the_episode_and_the_step(how: Callable, t: int) -> None:
    """Of 2 replicas of 3 episodes it is the last of the second one, or the middle one of the first."""
    for copy, where in ((5, "replica 1, episode 2"), (1, "replica 0, episode 1")):
        for kind, what in (("seen", "observation"), ("earned", "reward")):
            broken = Dealt([50] * 6, **{kind: {(copy, t): np.nan}})
            with pytest.raises(RunError, match=rf"{what} that is not finite \({where}, step {t}\)"):
                how(policy(1), broken, streams(0, 2, Purpose.SAMPLE), 3)


def test_a_reward_that_single_precision_cannot_hold_is_named_with_its_value() -> None:
    broken = Dealt([50] * 6, earned={(1, 2): 1e300})
    with pytest.raises(
        RunError, match=r"reward of 1e\+300, which is too large for torch\.float32 \(replica 0, episode 1"
    ):
        play(policy(1), broken, streams(0, 2, Purpose.SAMPLE), 3)


def test_what_is_dealt_after_an_end_counts_nowhere() -> None:
    """Rewards, observations and ends of a copy whose episode is over: they may be anything."""
    lengths = [2, 5, 4, 3]
    after = {(k, t): np.nan for k, length in enumerate(lengths) for t in range(length, 6)}
    environments = Dealt(lengths, {(k, t): x for (k, t), x in after.items() if t > lengths[k]}, after)
    played = play(policy(1), environments, streams(0, 2, Purpose.SAMPLE), 2)
    returns, steps, _ = returns_of(policy(1), environments, streams(0, 2, Purpose.SAMPLE), 2, discount=0.5)
    assert played.length.tolist() == steps.tolist() == [[2, 5], [4, 3]]
    assert played.reward.sum(1).tolist() == [[2, 10], [12, 12]]
    assert returns.tolist() == [[1.5, 2 * 1.9375], [3 * 1.875, 4 * 1.75]]
    assert (played.action[~played.alive] == 0).all()
    last = played.after(played.last_observation[..., 0])
    for k, length in enumerate(lengths):
        expected = torch.zeros(CHUNK)
        expected[length - 1] = 0.1 * length
        torch.testing.assert_close(last[k // 2, :, k % 2], expected)


def test_no_two_draws_of_noise_are_alike() -> None:
    """Of no two steps, also beyond those that are drawn at once, of no two episodes, and of no two replicas."""
    player = Player(policy(1), streams(0, 2, Purpose.SAMPLE), 3)
    seen: list[np.ndarray] = []
    act = player.actor
    player.actor = lambda observation, noise: (seen.append(noise.copy()), act(observation, noise))[1]
    for _ in range(2 * CHUNK + 1):
        player.act(np.zeros((6, 1), np.float32))
    drawn = np.stack(seen).reshape(-1, 2)
    assert len(drawn) == (2 * CHUNK + 1) * 6
    assert len(np.unique(drawn, axis=0)) == len(drawn)


def test_an_episode_may_last_as_long_as_the_limit() -> None:
    play(policy(1), Dealt([5] * 6), streams(0, 2, Purpose.SAMPLE), 3, limit=5)
    with pytest.raises(RunError, match="did not end within 5 steps"):
        play(policy(1), Dealt([5, 6, 5, 5, 5, 5]), streams(0, 2, Purpose.SAMPLE), 3, limit=5)


def test_what_is_evaluated_is_cut_off_at_the_limit() -> None:
    for lengths, cut in (([5] * 6, [0] * 6), ([5, 6, 5, 5, 5, 5], [0, 1, 0, 0, 0, 0])):
        found = returns_of(policy(1), Dealt(lengths), streams(0, 2, Purpose.SAMPLE), 3, limit=5)
        assert found[2].flatten().tolist() == cut
        assert found[1].flatten().tolist() == [5] * 6


def test_the_step_at_which_an_environment_raises_is_named() -> None:
    class Broken(Dealt):
        def step(self, action: np.ndarray) -> Transition:
            if self.t == 3:
                raise KeyError("no such move")
            return super().step(action)

    with pytest.raises(RunError, match="raised KeyError at step 3: 'no such move'"):
        play(policy(1), Broken([5] * 6), streams(0, 2, Purpose.SAMPLE), 3)


def test_some_of_the_slots() -> None:
    batch = play(policy(1), Dealt([2, 5, 4, 3, 1, 2]), streams(0, 2, Purpose.SAMPLE), 3)
    part = batch.of(slice(1, 3))
    assert part.length.tolist() == [[5, 4], [1, 2]]
    assert torch.equal(part.reward, batch.reward[:, :, 1:])


def test_rewards_that_are_whole_numbers_become_real_ones() -> None:
    class Whole(Dealt):
        def step(self, action: np.ndarray) -> Transition:
            found = super().step(action)
            return found._replace(reward=found.reward.astype(np.int32))

    assert play(policy(1), Whole([2] * 6), streams(0, 2, Purpose.SAMPLE), 3).reward.dtype == torch.float32
