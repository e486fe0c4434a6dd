"""Playing with a policy, for R replicas at once: whole episodes, or segments of episodes that go on in the next."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from rlgrad.advantages import CHUNK, pieces
from rlgrad.environments import Continuing, Environments, Transition
from rlgrad.policies import Policy
from rlgrad.settings import RunError


class Rollout(NamedTuple):
    """What R replicas have played for an update, each in B slots: T rows, some of which may be no step of an episode.

    Where `alive` is False everything else is zero. Whole episodes have one in each slot; T is as many as the longest
    takes, rounded up to a multiple of CHUNK. A segment has the same number of rows in each slot and any number of ends.
    """

    observation: Tensor  # [R, T, B, *O] what the action was chosen on
    action: Tensor  # [R, T, B, *A]
    reward: Tensor  # [R, T, B] what it earned
    alive: Tensor  # [R, T, B] bool: the row is a step of an episode
    terminated: Tensor  # [R, T, B] bool: the step reached the episode's end
    truncated: Tensor  # [R, T, B] bool: a time limit cut the episode off after this step
    over: Tensor  # [R, T, B] bool: what follows this step is not in the next row
    last_observation: Tensor  # [R, E, *O] what follows it, in the order of the rows; E: the most ends of any replica,
    # rounded up like T
    step: int = 0  # the number of the update that this was played for

    @property
    def length(self) -> Tensor:
        """[R, B] steps in each slot."""
        return self.alive.sum(1)

    def pieces(self) -> Iterator[slice]:
        return pieces(self.alive.shape[1])

    def of(self, episodes: slice) -> "Rollout":
        """Some of the slots; `last_observation` stays that of all."""
        names = [name for name in Rollout._fields if name not in ("last_observation", "step")]
        return self._replace(**{name: getattr(self, name)[:, :, episodes] for name in names})

    def after(self, value: Tensor) -> Tensor:
        """Numbers [R, E] that belong to `last_observation`, in the rows that they follow: [R, T, B], elsewhere 0."""
        number = self.over.flatten(1).cumsum(1) - 1  # which of the ends
        found = value.gather(1, number.clamp(min=0)) * self.over.flatten(1)
        return found.reshape(self.over.shape)


class Tape:
    """Records steps [R * B] one after the other, and makes a Rollout of them."""

    def __init__(self, replicas: int, episodes: int):
        self.replicas, self.episodes = replicas, episodes
        self.rows: list[tuple[np.ndarray, ...]] = []
        self.ends: list[tuple[np.ndarray, np.ndarray]] = []  # which slots, and what was seen last in them

    def note(
        self, observation: np.ndarray, action: np.ndarray, alive: np.ndarray, last: bool, found: Transition
    ) -> np.ndarray:
        """Keep a step, and return in which slots [R * B] it has ended the episode. last: the segment ends here."""
        over: np.ndarray = alive & (found.terminated | found.truncated)
        left = over | (alive & last)
        row = observation, action, found.reward, alive, alive & found.terminated, alive & found.truncated, left
        self.rows.append(row)
        if left.any():
            self.ends.append((np.flatnonzero(left), found.observation[left]))
        return over

    def rollout(self, rows: int) -> Rollout:
        """All that was noted, with empty rows behind it up to `rows`."""
        observation, action, reward, *masks = (self._together(each, rows) for each in zip(*self.rows, strict=True))
        alive, terminated, truncated, over = (mask.contiguous() for mask in masks)
        played = Rollout(
            masked(observation, alive),
            masked(action, alive),
            masked(reward.to(torch.get_default_dtype()), alive),
            alive, terminated, truncated, over,
            self._last(),
        )  # fmt: skip
        for name, whose in (
            ("action", "the policy took an"), ("observation", "the environment returned an"),
            ("reward", "the environment returned a"),
        ):  # fmt: skip
            check_finite(f"{whose} {name}", getattr(played, name))
        return played

    def _together(self, steps: Sequence[np.ndarray], rows: int) -> Tensor:
        stacked = np.zeros((rows, *steps[0].shape), steps[0].dtype)  # [T, R * B, ...]
        np.stack(steps, out=stacked[: len(steps)])
        return as_tensor(stacked).reshape(rows, self.replicas, self.episodes, *stacked.shape[2:]).transpose(0, 1)

    def _last(self) -> Tensor:
        slots = np.concatenate([which for which, _ in self.ends])
        seen = np.concatenate([observation for _, observation in self.ends])
        replica = slots // self.episodes
        count = np.bincount(replica, minlength=self.replicas)
        order = np.argsort(replica, kind="stable")  # in time, for each replica
        number = np.arange(len(slots)) - np.repeat(count.cumsum() - count, count)
        most = math.ceil(count.max() / CHUNK) * CHUNK
        result = np.zeros((self.replicas, most, *seen.shape[1:]), seen.dtype)
        result[replica[order], number] = seen[order]
        return as_tensor(result)


class Player:
    """Chooses actions [R * B] with noise that comes from the replicas' streams, CHUNK steps at a time."""

    def __init__(self, policy: Policy, streams: Sequence[np.random.Generator], episodes: int, greedy: bool = False):
        self.policy, self.streams, self.episodes, self.greedy = policy, streams, episodes, greedy
        self.actor = policy.actor()
        self.precision = np.dtype(str(torch.get_default_dtype()).rpartition(".")[2])
        self.taken = 0

    def act(self, observation: np.ndarray) -> np.ndarray:
        """The policy's own actions; `policy.to_environment` makes of them what the environment understands."""
        noise = None
        if not self.greedy:
            if self.taken % CHUNK == 0:
                drawn = [self.policy.noise(rng, CHUNK, self.episodes) for rng in self.streams]
                self.noise = np.stack(drawn, axis=1)  # [CHUNK, R, B, ...]
            noise = self.noise[self.taken % CHUNK]
        if observation.dtype.kind == "f":
            observation = observation.astype(self.precision, copy=False)
        self.taken += 1
        action = self.actor(observation.reshape(len(self.streams), self.episodes, *observation.shape[1:]), noise)
        return action.reshape(len(observation), *action.shape[2:])


def steps(
    policy: Policy,
    environments: Environments,
    streams: Sequence[np.random.Generator],
    episodes: int,
    greedy: bool,
    limit: int,
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, Transition]]:
    """One step of all R * B episodes after the other, until none goes on: the observations, the actions chosen on them,
    whose episodes still go on, and what came of it.

    Raises RunError where an environment never ends.
    """
    player = Player(policy, streams, episodes, greedy)
    observation = environments.reset(streams)
    alive = np.ones(len(observation), dtype=bool)
    while alive.any():
        if player.taken == limit:
            raise RunError(f"an episode did not end within {limit} steps; set `episode_limit` if it may last longer")
        action = player.act(observation)
        found = step(environments, policy.to_environment(action), player.taken)
        yield observation, action, alive, found
        alive = alive & ~(found.terminated | found.truncated)
        observation = found.observation


@torch.no_grad()
def play(
    policy: Policy,
    environments: Environments,
    streams: Sequence[np.random.Generator],
    episodes: int,
    *,
    limit: int = 100_000,
) -> Rollout:
    """Play `episodes` whole episodes for each stream; noise and initial states come from the replica's own.

    limit: steps after which an episode that goes on is taken to be one that never ends.

    Raises RunError where an environment never ends or returns something that is not finite.
    """
    tape = Tape(len(streams), episodes)
    for observation, action, alive, found in steps(policy, environments, streams, episodes, False, limit):
        tape.note(observation, action, alive, False, found)
    return tape.rollout(math.ceil(len(tape.rows) / CHUNK) * CHUNK)


@torch.no_grad()
def score(
    policy: Policy,
    environments: Environments,
    streams: Sequence[np.random.Generator],
    episodes: int,
    *,
    greedy: bool = False,
    discount: float = 1.0,
    limit: int = 100_000,
) -> tuple[Tensor, Tensor]:
    """The returns and lengths [R, B] of the episodes that `play` would play, of which nothing else is kept.

    greedy: take the most probable action, instead of drawing one.
    """

    def apart(x: np.ndarray) -> Tensor:
        """[R * B, ...] -> [R, 1, B, ...]."""
        return as_tensor(x).reshape(len(streams), 1, episodes, *x.shape[1:])

    returns, lengths = np.zeros((2, len(streams) * episodes))
    stream = steps(policy, environments, streams, episodes, greedy, limit)
    for t, (observation, _, alive, found) in enumerate(stream):
        for name, x in (("an observation", observation), ("a reward", found.reward)):
            if x.dtype.kind == "f" and not np.isfinite(x).all():
                check_finite(f"the environment returned {name}", masked(apart(x), apart(alive)), t)
        np.add(returns, discount**t * found.reward, out=returns, where=alive)
        lengths += alive
    return apart(returns)[:, 0], apart(lengths)[:, 0]


class Segments:
    """Episodes that are played on from update to update, `steps` rows at a time, in B slots for each of R replicas.

    Where an episode ends the next one begins in the same slot. All that it takes to be here again is the seed of each
    episode that goes on, and its actions so far: `state_dict` has them, and no pickle.
    """

    def __init__(self, environments: Continuing, replicas: int, episodes: int):
        self.environments, self.replicas, self.episodes = environments, replicas, episodes
        slots = replicas * episodes
        self.seeds = np.zeros(slots, np.int64)  # of the episodes that go on
        self.begun = np.zeros(slots, np.int64)  # at which of the actions below
        self.actions: list[np.ndarray] = []  # [R * B, *A] each, as the environment got them
        self.observation: np.ndarray | None = None  # None: nothing has been played yet
        self.ready = np.ones(slots, bool)
        self.earned, self.taken = np.zeros(slots), np.zeros(slots)  # return and steps of the episodes that go on
        self.finished = np.full((2, slots), np.nan)  # return and steps of the last that ended in each slot

    @torch.no_grad()
    def play(self, policy: Policy, streams: Sequence[np.random.Generator], steps: int) -> Rollout:
        """`steps` rows; noise and the seeds of new episodes come from the replica's own stream.

        Raises RunError where an environment returns something that is not finite.
        """
        player, tape = Player(policy, streams, self.episodes), Tape(self.replicas, self.episodes)
        if self.observation is None:
            self.observation = self.environments.reset(streams)
            if self.environments.repeatable:
                self._restart(np.ones(len(self.seeds), bool), streams)
        for t in range(steps):
            observation, alive = self.observation, self.ready
            action = player.act(observation)
            given = policy.to_environment(action)
            found = step(self.environments, given, t)
            over = tape.note(observation, action, alive, t == steps - 1, found)
            self.actions.append(given)
            self.earned += found.reward * alive
            self.taken += alive
            self.observation, self.ready = found.observation, np.ones(len(over), bool)
            if over.any():
                self.finished[:, over] = self.earned[over], self.taken[over]
                self._restart(over, streams)
        self._forget()
        return tape.rollout(steps)

    def _restart(self, over: np.ndarray, streams: Sequence[np.random.Generator]) -> None:
        for replica in np.unique(np.flatnonzero(over) // self.episodes):
            own = slice(replica * self.episodes, (replica + 1) * self.episodes)
            self.seeds[own][over[own]] = streams[replica].integers(2**31, size=over[own].sum())
        self.begun[over] = len(self.actions)
        self.earned[over] = self.taken[over] = 0
        self.observation, self.ready = self.environments.restart(over, self.seeds)

    def _forget(self) -> None:
        """The actions of episodes that have ended."""
        first = int(self.begun.min())
        self.actions, self.begun = self.actions[first:], self.begun - first

    def state_dict(self) -> dict[str, Tensor]:
        """What `load_state_dict` needs of environments that are `repeatable`."""
        if self.observation is None:
            return {}
        shape = (len(self.actions), *(self.actions[0].shape if self.actions else (0,)))
        arrays = {
            "seeds": self.seeds, "begun": self.begun, "earned": self.earned, "taken": self.taken,
            "finished": self.finished, "observation": self.observation,
            "actions": np.concatenate(self.actions).reshape(shape) if self.actions else np.zeros(shape),
        }  # fmt: skip
        return {name: torch.from_numpy(array.copy()) for name, array in arrays.items()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Play the unfinished episodes again. Raises RunError where that leads elsewhere."""
        if not state:
            return
        arrays = {name: tensor.numpy().copy() for name, tensor in state.items()}
        self.seeds, self.begun = arrays["seeds"], arrays["begun"]
        self.earned, self.taken, self.finished = arrays["earned"], arrays["taken"], arrays["finished"]
        self.actions = list(arrays["actions"])
        self.environments.reset([np.random.default_rng(0)] * self.replicas)
        observation, _ = self.environments.restart(np.ones(len(self.seeds), bool), self.seeds)
        waiting = np.zeros(len(self.seeds), bool)
        for t, action in enumerate(self.actions):
            due = (self.begun == t) | waiting  # a slot whose time has not come is kept busy
            if t > 0 and due.any():
                observation, _ = self.environments.restart(due, self.seeds)
            found = self.environments.step(action)
            observation = found.observation
            waiting = (found.terminated | found.truncated) & (self.begun > t)
        if (due := (self.begun == len(self.actions)) | waiting).any():
            observation, _ = self.environments.restart(due, self.seeds)
        if not np.array_equal(observation, arrays["observation"]):
            message = "the environment does not repeat itself: from the same seeds and actions it has come elsewhere, "
            raise RunError(message + "and so a run in segments cannot be continued")
        self.observation = arrays["observation"]


def step(environments: Environments, action: np.ndarray, t: int) -> Transition:
    """Raises RunError where the environment raises anything."""
    try:
        return environments.step(action)
    except RunError:  # it takes too long
        raise
    except Exception as error:  # an environment is anybody's code
        reason = " ".join(str(error).split())
        raise RunError(f"the environment raised {type(error).__name__} at step {t}: {reason}") from error


def as_tensor(x: np.ndarray) -> Tensor:
    """The array as a tensor; what is a real number has the precision of the models."""
    tensor = torch.from_numpy(x)
    return tensor.to(torch.get_default_dtype()) if tensor.is_floating_point() else tensor


def masked(x: Tensor, mask: Tensor) -> Tensor:
    """x [R, T, B, ...] with zeros where the mask is False: not x * mask, as what is there may be infinite or NaN."""
    return torch.where(mask.reshape(*mask.shape, *[1] * (x.dim() - mask.dim())), x, torch.zeros((), dtype=x.dtype))


def check_finite(what: str, x: Tensor, first: int = 0) -> None:
    """Raises RunError that says where x [R, T, B, ...] is not finite. first: the number of its first step."""
    if not x.isfinite().all():
        replica, t, episode = (~x.isfinite()).nonzero()[0, :3].tolist()
        raise RunError(f"{what} that is not finite (replica {replica}, episode {episode}, step {first + t})")
