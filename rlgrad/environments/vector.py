"""Gymnasium's environments: one copy after the other, or in a vector environment of whatever kind."""

import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.wrappers.vector import FlattenObservation

from rlgrad.environments.interface import Transition, seeds_from
from rlgrad.environments.spaces import is_image, visible_space
from rlgrad.environments.trial import faults
from rlgrad.errors import RunError, blame, strange


def precision(seen: spaces.Space[Any]) -> Any:
    """The type of an observation as the policy gets it: real numbers and images as they are."""
    return seen.dtype if is_image(seen) or np.issubdtype(seen.dtype, np.floating) else np.float32


class GymnasiumEnvironments:
    """Any registered environment, one copy after the other. A copy whose episode is over stands still.

    pool: copies that are there already; more are made where these are not enough, and closing closes them all.
    """

    repeatable = True

    def __init__(self, id: str, copies: int, options: Mapping[str, Any], pool: list[Any] | None = None):
        self.pool = [] if pool is None else pool
        try:
            while len(self.pool) < copies:
                self.pool.append(gymnasium.make(id, disable_env_checker=True, **options))
        except BaseException:
            self.close()
            raise
        self.copies = self.pool[:copies]
        self.space = self.copies[0].observation_space
        seen = visible_space(self.space)
        self.as_it_is = seen == self.space
        self.observation = np.zeros((copies, *seen.shape), precision(seen))  # type: ignore[misc]
        self.over = np.zeros(copies, bool)

    def close(self) -> None:
        close(self.pool)

    def reset(self, streams: Sequence[np.random.Generator]) -> np.ndarray:
        everywhere = np.ones(len(self.copies), bool)
        return self.restart(everywhere, seeds_from(streams, len(self.copies) // len(streams)))[0]

    def restart(self, over: np.ndarray, seeds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        for k in np.flatnonzero(over):
            self._see(k, first(self.copies[k], int(seeds[k])))
        self.over &= ~over
        return self.observation.copy(), np.ones(len(self.copies), bool)

    def step(self, action: np.ndarray) -> Transition:
        reward = np.zeros(len(self.copies))
        terminated, truncated = self.over.copy(), np.zeros(len(self.copies), bool)
        for k in np.flatnonzero(~self.over):
            try:
                observation, reward[k], terminated[k], truncated[k], _ = self.copies[k].step(action[k])
            except (TypeError, ValueError) as error:  # it may speak another interface
                raise outspoken(self.copies[k], error) from error
            self._see(k, observation)
        self.over = terminated | truncated
        return Transition(self.observation.copy(), reward, terminated, truncated)

    def _see(self, copy: Any, observation: Any) -> None:
        if not self.as_it_is:
            observation = spaces.flatten(self.space, observation)
        elif np.shape(observation) != self.observation.shape[1:]:  # numpy would make some of these fit
            raise ValueError(f"an observation of shape {np.shape(observation)}, not {self.observation.shape[1:]}")
        self.observation[copy] = observation


class VectorEnvironments:
    """Gymnasium's vector environments, one of B copies for each replica, and so with a generator of its own.

    This is the one place that knows the three ways in which they go on after an episode's end
    (https://farama.org/Vector-Autoreset-Mode):

    - NEXT_STEP: the next step resets the copy; its action is ignored, and it is no transition.
    - SAME_STEP: the step that ends the episode returns the first observation of the next one already; the last one of
      the old is in `info["final_obs"]`.
    - DISABLED: a copy stays where it is until it is told to reset.

    make: the environment [B] of a replica, by the seeds of its copies.
    anew: whether it has to be made again for other seeds, as its reset takes none.
    """

    def __init__(self, make: Callable[[Sequence[int]], VectorEnv[Any, Any, Any]], replicas: int, episodes: int,
                 anew: bool = False):  # fmt: skip
        self.make, self.anew, self.episodes = make, anew, episodes
        self.each: list[VectorEnv[Any, Any, Any]] = []
        try:
            for _ in range(replicas):
                self.each.append(self._made(range(episodes)))
        except BaseException:
            self.close()
            raise
        self.mode = AutoresetMode(self.each[0].metadata.get("autoreset_mode", AutoresetMode.NEXT_STEP))
        self.repeatable = self.mode == AutoresetMode.DISABLED and takes_many_seeds(self.each[0])
        self.over = np.zeros(replicas * episodes, bool)

    def close(self) -> None:
        close(self.each)

    def reset(self, streams: Sequence[np.random.Generator]) -> np.ndarray:
        seeds = seeds_from(streams, self.episodes)
        self.over[:] = False
        first = []
        for k, own in enumerate(np.split(seeds, len(self.each))):
            given = [int(seed) for seed in own]
            if self.anew:
                self.each[k].close()
                self.each[k] = self._made(given)
                first.append(self.each[k].reset()[0])
            else:
                first.append(reset(self.each[k], given))
        self.observation = self._joined(first)
        return self.observation

    def step(self, action: np.ndarray) -> Transition:
        if self.mode == AutoresetMode.DISABLED and self.over.any():  # nobody has asked for more of these copies
            self.restart(self.over, np.zeros(len(self.over), int))
        parts = [env.step(own) for env, own in zip(self.each, np.split(action, len(self.each)), strict=True)]
        observation = self._joined([part[0] for part in parts])
        reward, terminated, truncated = (np.concatenate([part[n] for part in parts]) for n in (1, 2, 3))
        self.over = terminated | truncated
        if self.mode == AutoresetMode.SAME_STEP:
            self.first = observation.copy()
            for k in np.flatnonzero(self.over):
                replica, copy = divmod(int(k), self.episodes)
                observation[k] = parts[replica][4]["final_obs"][copy]
        self.observation = observation
        return Transition(observation, reward, terminated, truncated)

    def restart(self, over: np.ndarray, seeds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        ready = np.ones(len(over), bool)
        if self.mode == AutoresetMode.NEXT_STEP:
            return self.observation, ready & ~over
        if self.mode == AutoresetMode.SAME_STEP:
            return self.first, ready
        replicas = zip(
            self.each, *(np.split(one, len(self.each)) for one in (over, seeds, self.observation)), strict=True
        )
        found = [reset(env, own.tolist(), which) if which.any() else old for env, which, own, old in replicas]
        self.over = self.over & ~over
        self.observation = self._joined(found)
        return self.observation, ready

    def _made(self, seeds: Sequence[int]) -> VectorEnv[Any, Any, Any]:
        made = self.make(seeds)
        with warnings.catch_warnings(action="ignore"):  # some make their spaces anew, and imprecisely, at every look
            space = made.single_observation_space
            seen = visible_space(space)
        self.precision = precision(seen)
        return made if seen == space else FlattenObservation(made)

    def _joined(self, parts: Sequence[np.ndarray]) -> np.ndarray:
        """A copy: Gymnasium may write the next observations into the same array."""
        return np.concatenate(parts).astype(self.precision)


def reset(env: VectorEnv[Any, Any, Any], seeds: list[int], which: np.ndarray | None = None) -> np.ndarray:
    """Begin again in all copies, or in those of a mask, with a seed each; or with one for all, where that is all that
    the environment takes."""
    options = None if which is None else {"reset_mask": which.copy()}
    seed: Any = seeds if takes_many_seeds(env) else seeds[0]
    return np.asarray(env.reset(seed=seed, options=options)[0])


def first(env: gymnasium.Env[Any, Any], seed: int) -> Any:
    """The first observation. Raises RunError where the environment does not speak Gymnasium's interface."""
    try:
        found = env.reset(seed=seed)
        if isinstance(found, tuple) and len(found) == 2:
            return found[0]
    except (TypeError, ValueError) as error:
        raise outspoken(env, error) from error
    raise outspoken(env, ValueError(f"reset returns {type(found).__name__}"))


def outspoken(env: gymnasium.Env[Any, Any], error: Exception) -> Exception:
    """What to raise instead of an error in a reset or step: what is wrong with the interface, if that is to blame."""
    wrong = [line for line in faults(env) if not line.startswith("it raises")]
    return RunError(f"the environment does not speak Gymnasium's interface: {wrong[0]}") if wrong else error


def close(envs: list[Any]) -> None:
    """Close them all, whatever comes of it, and forget them. Worker processes that do not answer are ended."""
    fault: BaseException | None = None
    while envs:
        env = envs.pop()
        try:
            env.close(**({"timeout": 1} if isinstance(env.unwrapped, gymnasium.vector.AsyncVectorEnv) else {}))
        except BaseException as error:
            if not strange(error):
                raise
            fault = error
    if fault:
        print(f"an environment could not be closed: {blame(fault)}", file=sys.stderr)


def takes_many_seeds(env: VectorEnv[Any, Any, Any]) -> bool:
    """One of single environments does; an environment's own vector form has one generator for all its copies."""
    return hasattr(env.unwrapped, "env_fns")
