"""Play with a policy, for R replicas at once: whole episodes, or segments of episodes that go on in the next update."""

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from rlgrad import distributed, ranks
from rlgrad.agents.advantages import CHUNK, pieces
from rlgrad.agents.pictures import Film, Frames, beside
from rlgrad.agents.policies import Policy
from rlgrad.environments import Environments, Transition, steps_taken
from rlgrad.environments.spaces import Picture
from rlgrad.errors import RunError, strange, text_of


class Rollout(NamedTuple):
    """What R replicas have played for an update, each in B slots of T rows. A row may be empty.

    A row is a step of an episode if `alive` is True, else all its numbers are zero. A slot has one whole episode, or
    several one after the other; T is the length of the longest slot, rounded up to a multiple of CHUNK. A segment has
    the same number of rows in each slot and any number of ends.
    """

    observation: Tensor | Frames  # [R, T, B, *O] before the action
    action: Tensor  # [R, T, B, *A]
    reward: Tensor  # [R, T, B] of the action
    alive: Tensor  # [R, T, B] bool: the row is a step of an episode
    terminated: Tensor  # [R, T, B] bool: the step reached the episode's end
    truncated: Tensor  # [R, T, B] bool: a time limit cut the episode off after this step
    over: Tensor  # [R, T, B] bool: the observation after this step is not in the next row
    last_observation: Tensor  # [R, E, *O] the observations after these steps, in the order of the rows; E: the largest
    # number of such steps of a replica, rounded up like T
    step: int = 0  # the number of the update that this was played for
    exact_reward: Tensor | None = None  # [R, T, B] the reward in double precision; None: `reward` is exact
    env_steps: Tensor | None = None  # [R, B] calls of the environment's `step`; None: as many as actions

    @property
    def length(self) -> Tensor:
        """[R, B] steps in each slot."""
        return self.alive.sum(1)

    def pieces(self) -> Iterator[slice]:
        return pieces(self.alive.shape[1])

    def of(self, episodes: slice) -> "Rollout":
        """Return some of the slots; `last_observation` stays that of all slots."""
        x = self.observation
        x = x.slots(episodes) if isinstance(x, Frames) else x[:, :, episodes]
        names = ("action", "reward", "alive", "terminated", "truncated", "over", "exact_reward")
        some = {name: each[:, :, episodes] for name in names if (each := getattr(self, name)) is not None}
        return self._replace(observation=x, **some)

    def after(self, value: Tensor) -> Tensor:
        """Return numbers [R, E] of `last_observation` in the rows before these observations: [R, T, B], elsewhere 0."""
        number = self.over.flatten(1).cumsum(1) - 1  # index into E
        found = value.gather(1, number.clamp(min=0)) * self.over.flatten(1)
        return found.reshape(self.over.shape)


class Tape:
    """Records steps [R * B] one after the other, and makes a Rollout of them. pictures: those in the observations."""

    def __init__(self, replicas: int, episodes: int, pictures: Sequence[Picture] = (), precise: bool = False):
        """precise: whether observations in double precision stay so."""
        self.replicas, self.episodes, self.precise = replicas, episodes, precise
        self.films = [Film(each, replicas * episodes) for each in pictures if each.box.dtype == np.uint8]
        self.rows: list[tuple[np.ndarray, ...]] = []
        self.env_steps = np.zeros(replicas * episodes, np.int64)  # in each slot
        self.ends: list[tuple[np.ndarray, np.ndarray]] = []  # slots whose rows end, and their last observations

    def note(
        self,
        observation: np.ndarray,
        action: np.ndarray,
        alive: np.ndarray,
        last: bool,
        found: Transition,
        taken: np.ndarray | int,
    ) -> np.ndarray:
        """Record a step, and return the slots [R * B] in which it has ended the episode. last: whether the segment ends
        here. taken: the number of environment steps that the action was held for."""
        self.env_steps += alive * taken
        over: np.ndarray = alive & (found.terminated | found.truncated)
        left = alive if last else over
        if self.films:
            self.shape, flat = observation.shape[1:], observation.reshape(len(observation), -1)
            for film in self.films:
                film.take(flat, alive)
            observation = flat[:, beside([film.picture for film in self.films], flat.shape[1])]
        row = observation, action, found.reward, alive, alive & found.terminated, alive & found.truncated, left
        self.rows.append(row)
        if left.any():
            self.ends.append((np.flatnonzero(left), found.observation[left]))
        return over

    def rollout(self, rows: int) -> Rollout:
        """Return all that was recorded, followed by empty rows up to `rows`."""
        observation, action, reward, *masks = (self._together(each, rows) for each in zip(*self.rows, strict=True))
        alive, terminated, truncated, over = (mask.contiguous() for mask in masks)
        reward = masked(reward.double(), alive)
        seen = masked(as_tensor(observation, self.precise), alive)
        check_finite("the environment returned an observation", seen, given=observation)
        played = Rollout(
            self._filmed(seen, rows) if self.films else seen,
            masked(as_tensor(action), alive),
            reward.to(torch.get_default_dtype()),
            alive, terminated, truncated, over,
            self._last(),
            exact_reward=reward,
            env_steps=torch.as_tensor(self.env_steps).reshape(self.replicas, self.episodes),
        )  # fmt: skip
        check_finite("the policy took an action", played.action)
        check_finite("the environment returned a reward", played.reward, given=reward)
        return played

    def _together(self, steps: Sequence[np.ndarray], rows: int) -> Tensor:
        stacked = np.zeros((rows, *steps[0].shape), steps[0].dtype)  # [T, R * B, ...]
        np.stack(steps, out=stacked[: len(steps)])
        return torch.as_tensor(stacked).reshape(rows, self.replicas, self.episodes, *stacked.shape[2:]).transpose(0, 1)

    def _filmed(self, rest: Tensor, rows: int) -> Frames:
        """Return the observations, from the films and the numbers that belong to no picture."""
        numbers = [self._together(film.numbers, rows) for film in self.films]
        frames = [film.frames() for film in self.films]
        return Frames([film.picture for film in self.films], frames, numbers, rest, self.shape)

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
        return as_tensor(result, self.precise)


class Player:
    """Chooses actions [R * B], with noise from the replicas' streams, drawn for CHUNK steps at a time."""

    def __init__(self, policy: Policy, streams: Sequence[np.random.Generator], episodes: int, greedy: bool = False):
        self.policy, self.streams, self.episodes, self.greedy = policy, streams, episodes, greedy
        self.actor = policy.actor()
        self.precision = np.dtype(str(torch.get_default_dtype()).rpartition(".")[2])
        self.taken = 0

    def act(self, observation: np.ndarray) -> np.ndarray:
        """Return actions in the policy's own form; `policy.to_environment` converts them for the environment."""
        noise = None
        if not self.greedy:
            if self.taken % CHUNK == 0:
                drawn = [self.policy.noise(rng, CHUNK, self.episodes) for rng in self.streams]
                self.noise = np.stack(drawn, axis=1)  # [CHUNK, R, B, ...]
            noise = self.noise[self.taken % CHUNK]
        if observation.dtype.kind == "f" and not (self.policy.precise and observation.dtype == np.float64):
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
    least: int = 0,
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, Transition]]:
    """Yield the steps of all R * B episodes, until no episode goes on or the limit is reached: the observations, the
    actions, which episodes of this process still go on, and the transitions. least: after an episode, a slot plays
    another one as long as its replica has fewer steps than this."""
    player, each = Player(policy, streams, episodes, greedy), len(streams)
    observation = environments.reset(streams)
    own = ranks.own(len(observation))  # the episodes of this process
    alive = playing = own | (least > 0)  # the steps of other processes decide whether another episode begins
    count, seeds = np.zeros(each, np.int64), np.zeros(len(observation), np.int64)  # of replicas; of episodes
    while playing.any() and player.taken < limit:
        action = player.act(observation)
        found = step(environments, policy.to_environment(action), player.taken - 1)
        mine = alive & own if least else alive
        yield observation, action, mine, found
        over = mine & (found.terminated | found.truncated)
        if least:
            over = distributed.put_together(over)
            count += alive.reshape(each, -1).sum(1)
        alive = playing = playing & ~over
        observation = found.observation
        if least and (again := over & np.repeat(count < least, episodes)).any():
            draw_seeds(seeds, again, streams)
            observation, ready = environments.restart(again, seeds)  # type: ignore[attr-defined]
            playing = playing | again
            alive = playing & ready


def draw_seeds(seeds: np.ndarray, over: np.ndarray, streams: Sequence[np.random.Generator]) -> None:
    """Draw a new seed, from its replica's stream, for each of the copies `over` [N] whose next episode begins."""
    for rng, own, which in zip(streams, np.split(seeds, len(streams)), np.split(over, len(streams)), strict=True):
        if which.any():
            own[which] = rng.integers(2**31, size=which.sum())


@torch.no_grad()
def play(
    policy: Policy,
    environments: Environments,
    streams: Sequence[np.random.Generator],
    episodes: int,
    *,
    limit: int = 100_000,
    least: int = 0,
) -> Rollout:
    """Play `episodes` whole episodes for each stream; noise and initial states come from the replica's own.

    limit: steps after which an episode that goes on is considered as one that never ends.
    least: go on with new episodes, in the same slots, until each replica has this many steps; needs `Continuing`.

    Raises RunError if an episode never ends, or if the environment returns something that is not finite.
    """
    tape = Tape(len(streams), episodes, policy.pictures, policy.precise)
    stream = steps(policy, environments, streams, episodes, False, limit + least, least)
    for observation, action, alive, found in stream:
        over = tape.note(observation, action, alive, False, found, steps_taken(environments))
    if (alive & ~over).any():
        if_not = "set `episode_limit` if it may last longer, `segment` if it has no end"
        raise RunError(f"an episode did not end within {limit} steps; {if_not}")
    rows = max(distributed.gathered(len(tape.rows)))
    return together(tape.rollout(math.ceil(rows / CHUNK) * CHUNK))


def together(own: Rollout) -> Rollout:
    """Return what all processes that train together have played. own: of this process, with the other slots empty."""
    if ranks.here.size == 1:
        return own
    names = ("observation", "action", "reward", "alive", "terminated", "truncated", "over", "exact_reward", "env_steps")
    parts = {name: getattr(own, name) for name in names}
    if isinstance(own.observation, Frames):
        parts["observation"] = own.observation.together(own.alive)
    there = {name: part for name, part in parts.items() if isinstance(part, Tensor)}
    parts |= dict(zip(there, distributed.summed(*there.values()), strict=True))
    number, numbers = (over.flatten(1).cumsum(1).reshape(over.shape) - 1 for over in (own.over, parts["over"]))
    replica, t, slot = own.over.nonzero(as_tuple=True)
    most = math.ceil((int(numbers.max()) + 1) / CHUNK) * CHUNK
    last = own.last_observation.new_zeros(len(numbers), most, *own.last_observation.shape[2:])
    last[replica, numbers[replica, t, slot]] = own.last_observation[replica, number[replica, t, slot]]
    return own._replace(**parts, last_observation=distributed.summed(last)[0])


@torch.no_grad()
def returns_of(
    policy: Policy,
    environments: Environments,
    streams: Sequence[np.random.Generator],
    episodes: int,
    *,
    greedy: bool = False,
    discount: float | Tensor = 1.0,
    limit: int = 100_000,
) -> tuple[Tensor, Tensor, Tensor]:
    """Play the episodes that `play` would play, and return only their returns and lengths [R, B], and which of them
    were cut off.

    limit: steps after which an episode is cut off.
    discount: γ, or one [R] for each replica.
    greedy: take the most probable action, instead of drawing one.
    """

    def apart(x: np.ndarray) -> Tensor:
        """[R * B, ...] -> [R, 1, B, ...]."""
        return as_tensor(x).reshape(len(streams), 1, episodes, *x.shape[1:])

    returns, lengths = np.zeros((2, len(streams) * episodes))
    cut = np.zeros(len(returns), bool)
    factor: Any = np.repeat(discount.numpy(), episodes) if isinstance(discount, Tensor) else discount
    stream = steps(policy, environments, streams, episodes, greedy, limit)
    for t, (observation, _, alive, found) in enumerate(stream):
        for name, x in (("an observation", observation), ("a reward", found.reward)):
            if x.dtype.kind == "f" and not np.isfinite(x).all():
                check_finite(f"the environment returned {name}", masked(apart(x), apart(alive)), t)
        np.add(returns, factor**t * found.reward, out=returns, where=alive)
        lengths += alive
        cut = alive & ~(found.terminated | found.truncated)
    parts = distributed.summed(*(apart(each)[:, 0] for each in (returns, lengths, cut)))
    return parts[0], parts[1], parts[2]


def step(environments: Environments, action: np.ndarray, t: int) -> Transition:
    """Take a step in all copies. Raises RunError if the environment raises anything."""
    try:
        return environments.step(action)
    except RunError:  # it says what is wrong already
        raise
    except BaseException as error:  # an environment can raise anything
        if not strange(error):
            raise
        reason = text_of(error)
        message = f"the environment raised {type(error).__name__} at step {t}"
        raise RunError(message + (f": {reason}" if reason else "")) from error


def as_tensor(x: np.ndarray | Tensor, precise: bool = False) -> Tensor:
    """Return the array as a tensor; real numbers get the precision of the models, or stay double if `precise`."""
    tensor = torch.as_tensor(x)
    kept = not tensor.is_floating_point() or (precise and tensor.dtype == torch.float64)
    return tensor if kept else tensor.to(torch.get_default_dtype())


def masked(x: Tensor, mask: Tensor) -> Tensor:
    """Return x [R, T, B, ...] with zeros where the mask is False. x * mask would keep numbers that are not finite."""
    return torch.where(mask.reshape(*mask.shape, *[1] * (x.dim() - mask.dim())), x, torch.zeros((), dtype=x.dtype))


def check_finite(what: str, x: Tensor, first: int = 0, given: Tensor | None = None) -> None:
    """Raises RunError if x [R, T, B, ...] is not finite, and says where. first: the number of its first step.
    given: the same numbers before they were rounded to the precision of x."""
    if not x.isfinite().all():
        place = (~x.isfinite()).nonzero()[0].tolist()
        replica, t, episode = place[:3]
        where = f"replica {ranks.here.before + replica}, episode {episode}, step {first + t}"
        value = math.nan if given is None else float(given[tuple(place)])
        how = f"of {value:g}, which is too large for {x.dtype}" if math.isfinite(value) else "that is not finite"
        raise RunError(f"{what} {how} ({where})")
