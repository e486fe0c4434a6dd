"""Playing whole episodes with a policy, for R replicas at once."""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from rlgrad.advantages import CHUNK, pieces
from rlgrad.environments import Environments
from rlgrad.policies import Policy
from rlgrad.settings import RunError


class Episodes(NamedTuple):
    """B episodes for each of R replicas, T steps: as many as the longest takes, rounded up to a multiple of CHUNK.

    After an episode's last step everything is zero and `alive` is False.
    """

    observation: Tensor  # [R, T, B, *O] what the action was chosen on
    action: Tensor  # [R, T, B, *A]
    reward: Tensor  # [R, T, B] what it earned
    alive: Tensor  # [R, T, B] bool: the step belongs to the episode
    terminated: Tensor  # [R, B] bool: the episode reached its end, and was not cut off by a time limit
    last_observation: Tensor  # [R, B, *O] what was seen after the last step
    step: int = 0  # the number of the update that they were played for

    @property
    def length(self) -> Tensor:
        """[R, B] steps of each episode."""
        return self.alive.sum(1)

    def pieces(self) -> Iterator[slice]:
        return pieces(self.alive.shape[1])


@torch.no_grad()
def play(
    policy: Policy,
    environments: Environments,
    streams: Sequence[np.random.Generator],
    episodes: int,
    *,
    greedy: bool = False,
    limit: int = 100_000,
) -> Episodes:
    """Play `episodes` whole episodes for each stream; noise and initial states come from the replica's own.

    greedy: take the most probable action, instead of drawing one.
    limit: steps after which an episode that goes on is taken to be one that never ends.

    Raises RunError where an environment never ends or returns something that is not finite.
    """
    replicas, copies = len(streams), len(streams) * episodes
    observation = environments.reset(streams)
    alive = np.ones(copies, dtype=bool)
    ended = np.zeros(copies, dtype=bool)
    last_observation = observation.copy()
    observations: list[np.ndarray] = []
    actions: list[np.ndarray] = []
    rewards: list[np.ndarray] = []
    alives: list[np.ndarray] = []
    noise = torch.empty(0)
    while alive.any():
        t = len(alives)
        if t == limit:
            raise RunError(f"an episode did not end within {limit} steps; set `episode_limit` if it may last longer")
        if not greedy and t % CHUNK == 0:
            drawn = [policy.noise(rng, CHUNK, episodes) for rng in streams]
            noise = torch.from_numpy(np.stack(drawn, axis=1))  # [CHUNK, R, B, ...]
        seen = as_tensor(observation).reshape(replicas, episodes, *observation.shape[1:])
        action = policy.act(seen, None if greedy else noise[t % CHUNK]).flatten(0, 1).numpy()
        observations.append(observation)
        actions.append(action)
        alives.append(alive)
        observation, reward, terminated, truncated = environments.step(policy.to_environment(action))
        rewards.append(reward)
        over = alive & (terminated | truncated)
        ended |= alive & terminated
        if over.any():
            last_observation[over] = observation[over]
        alive = alive & ~over

    padded = math.ceil(len(alives) / CHUNK) * CHUNK

    def together(steps: list[np.ndarray]) -> Tensor:
        stacked = np.zeros((padded, *steps[0].shape), steps[0].dtype)  # [T, R * B, ...]
        np.stack(steps, out=stacked[: len(steps)])
        return as_tensor(stacked).reshape(padded, replicas, episodes, *stacked.shape[2:]).transpose(0, 1)

    mask = together(alives).contiguous()
    played = Episodes(
        masked(together(observations), mask),
        masked(together(actions), mask),
        masked(together(rewards).to(torch.get_default_dtype()), mask),
        mask,
        torch.from_numpy(ended).reshape(replicas, episodes),
        as_tensor(last_observation).reshape(replicas, episodes, *observation.shape[1:]),
    )
    for name in ("observation", "reward"):
        check_finite(name, getattr(played, name))
    return played


def as_tensor(x: np.ndarray) -> Tensor:
    """The array as a tensor; what is a real number has the precision of the models."""
    tensor = torch.from_numpy(x)
    return tensor.to(torch.get_default_dtype()) if tensor.is_floating_point() else tensor


def masked(x: Tensor, mask: Tensor) -> Tensor:
    """x [R, T, B, ...] with zeros after the end: not x * mask, as what comes there may be infinite or NaN."""
    return torch.where(mask.reshape(*mask.shape, *[1] * (x.dim() - mask.dim())), x, torch.zeros((), dtype=x.dtype))


def check_finite(name: str, x: Tensor) -> None:
    if not x.isfinite().all():
        replica, t, episode = (~x.isfinite()).nonzero()[0, :3].tolist()
        raise RunError(
            f"the environment returned a {name} that is not finite (replica {replica}, episode {episode}, step {t})"
        )
