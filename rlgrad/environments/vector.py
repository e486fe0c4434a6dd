"""Gymnasium's environments: one copy after the other, or in a vector environment of any kind."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv

from rlgrad import ranks
from rlgrad.environments.around import NOTHING, Around, choices, forbidding, made_legal
from rlgrad.environments.interface import Transition, seeds_from
from rlgrad.environments.spaces import InvalidObservation, ObservationReader, difference
from rlgrad.environments.trial import fault_of_reset, faults, faults_of_step, shown, usual
from rlgrad.errors import RunError, blame, say_once, strange

LOOKED = 100  # the number of steps in which observations are checked to be finite, as all are later
WRONG_INTERFACE = "the environment does not follow Gymnasium's interface"


class GymnasiumEnvironments:
    """Any registered environment, one copy after the other. A copy whose episode is over is not stepped.

    pool: copies that exist already; more are made if these are not enough, and `close` closes all of them.
    """

    repeatable, first = True, 0  # first: the number of its first copy, if another process has those before

    def __init__(self, id: str, copies: int, options: Mapping[str, Any], pool: list[Any] | None = None,
                 around: Around = NOTHING):  # fmt: skip
        self.pool = [] if pool is None else pool
        try:
            while len(self.pool) < copies:
                how = {"disable_env_checker": True, **around.inside(id, options)}
                one = gymnasium.make(around.spec(id) or id, **how)
                self.pool.append(around.single(one))
        except BaseException:
            self.close()
            raise
        self.copies = self.pool[:copies]
        self.spaces = self.copies[0].observation_space, self.copies[0].action_space
        self.actions = [copy.action_space for copy in self.copies]
        self.reader = ObservationReader(self.spaces[0], around.key)
        self.choices = choices(self.spaces[1]) if around.key else []
        self.observation = np.zeros((copies, *self.reader.shape), self.reader.dtype)
        self.over = np.ones(copies, bool)  # one that has never begun is not stepped
        self.own = np.ones(copies, bool)  # those that this process plays with, if several train together
        self.taken = np.zeros(copies, np.int64)  # steps of the unfinished episodes
        self.each, self.looked = copies, 0

    def close(self) -> None:
        close(self.pool)

    def reset(self, streams: Sequence[np.random.Generator], begin: bool = True) -> np.ndarray:
        self.each, self.own = len(self.copies) // len(streams), ranks.own(len(self.copies))
        return self.restart(np.full(len(self.copies), begin), seeds_from(streams, self.each))[0]

    def restart(self, over: np.ndarray, seeds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        over = over & self.own
        self.taken[over] = 0
        self.over = self.over & ~over
        which = np.flatnonzero(over)
        for k in which:
            if self.copies[k].action_space is not self.actions[k]:
                check_spaces(self.copies[k], self.spaces[0], self.spaces[1])
        self._see(which, [first(self.copies[k], int(seeds[k])) for k in which])
        return self.observation, np.ones(len(self.copies), bool)

    def step(self, action: np.ndarray) -> Transition:
        action = action.copy()  # an environment may write into it
        reward = np.zeros(len(self.copies))
        terminated, truncated = self.over.copy(), np.zeros(len(self.copies), bool)
        which, seen = np.flatnonzero(~self.over), []
        for k in which:
            try:
                came = self.copies[k].step(action[k])
                if not usual(came) and (wrong := next(faults_of_step(came), None)):
                    raise RunError(f"{WRONG_INTERFACE}: {wrong}")
                observation, reward[k], terminated[k], truncated[k], _ = came
            except (TypeError, ValueError) as error:  # it may have another interface
                raise interface_error(self.copies[k], error) from error
            seen.append(observation)
        self.taken[which] += 1
        self.over = terminated | truncated
        self._see(which, seen)
        return Transition(self.observation, reward, terminated, truncated)

    def _see(self, which: np.ndarray, observations: Sequence[Any]) -> None:
        """Take in the observations of some copies, into a new array: other code may keep the last one."""
        if not observations:
            return
        try:
            found = self.reader.read(observations)
        except InvalidObservation as invalid:
            raise refused(str(invalid), which[invalid.copy], self.each, self.taken, self.first) from invalid
        check_masks(self.copies[0], found, self.choices, which, self.over[which], self.each, self.taken, self.first)
        if self.looked < LOOKED:
            self.looked += 1
            if not np.isfinite(found[~self.over[which]]).all():  # after an end it may be anything
                goes_on = ~self.over[which].reshape(-1, *[1] * (found.ndim - 1))
                row, element, *_ = np.argwhere(~np.isfinite(found) & goes_on)[0]
                part = self.reader.part_of(element)
                what = f"an observation that is not finite{' in ' if part else ''}{part.strip()}"
                raise refused(what, which[row], self.each, self.taken, self.first)
        if len(which) < len(self.copies):
            whole = self.observation.copy()
            whole[which] = found
            found = whole
        self.observation = found


class VectorEnvironments:
    """Gymnasium's vector environments: each replica has one of B copies, so it has its own generator.

    Only this class knows the three ways in which they go on after an episode's end
    (https://farama.org/Vector-Autoreset-Mode):

    - NEXT_STEP: the next step resets the copy; its action is ignored, and it is not a transition.
    - SAME_STEP: the step that ends the episode already returns the first observation of the next one; the last
      observation of the old one is in `info["final_obs"]`.
    - DISABLED: a copy stays where it is until it is reset.

    make: makes the environment [B] of a replica from the seeds of its copies.
    anew: whether it has to be made again for other seeds, because its reset takes none.
    """

    def __init__(self, make: Callable[[Sequence[int]], VectorEnv[Any, Any, Any]], replicas: int, episodes: int,
                 anew: bool = False, around: Around = NOTHING):  # fmt: skip
        self.make, self.anew, self.episodes, self.around = make, anew, episodes, around
        self.each: list[VectorEnv[Any, Any, Any]] = []
        try:
            for _ in range(replicas):
                self.each.append(self._made(range(episodes)))
        except BaseException:
            self.close()
            raise
        self.mode = AutoresetMode(self.each[0].metadata.get("autoreset_mode", AutoresetMode.NEXT_STEP))
        self.repeatable = self.mode == AutoresetMode.DISABLED and takes_many_seeds(self.each[0])
        self.over, self.taken = np.zeros(replicas * episodes, bool), np.zeros(replicas * episodes, np.int64)
        self.first: np.ndarray  # of SAME_STEP: what the copies show after a step, also those that have begun again
        self.idle = self.over.copy()  # those that no episode is played in, and that are only stepped with the others

    def close(self) -> None:
        close(self.each)

    def reset(self, streams: Sequence[np.random.Generator], begin: bool = True) -> np.ndarray:
        seeds = seeds_from(streams, self.episodes)
        self.over[:], self.taken[:], self.idle[:] = False, 0, not begin
        first = []
        for k, own in enumerate(np.split(seeds, len(self.each))):
            given = [int(seed) for seed in own]
            if self.anew:
                self.each[k].close()
                self.each[k] = self._made(given)
                first.append(seen_first(self.each[k].reset()))
            else:
                first.append(reset(self.each[k], given))
        self.observation = self._joined(first)
        return self.observation

    def step(self, action: np.ndarray) -> Transition:
        action, idle = action.copy(), self.idle  # an environment may write into its actions
        if self.mode == AutoresetMode.DISABLED and self.over.any():  # these copies are not needed, but must be stepped
            self.restart(self.over, np.zeros(len(self.over), int))
        if self.choices and idle.any():  # their actions were chosen for what another episode has shown
            seen = self.first if self.mode == AutoresetMode.SAME_STEP else self.observation
            action[idle] = made_legal(self.action_space, action[idle], seen[idle])
        actions = np.split(action, len(self.each))
        parts = [env.step(own) for env, own in zip(self.each, actions, strict=True)]
        self.taken = np.where(self.over, 0, self.taken + 1)  # not for DISABLED, where copies begin again in `restart`
        numbers = [numbers_of(part, self.episodes) for part in parts]
        reward, terminated, truncated = (np.concatenate(each) for each in zip(*numbers, strict=True))
        self.over = terminated | truncated
        self.idle = idle | self.over
        observation = self._joined([part[0] for part in parts])
        if self.mode == AutoresetMode.SAME_STEP:
            self.first = observation.copy()
            for replica, part in enumerate(parts):
                ended = np.flatnonzero(self.over[own := slice(replica * self.episodes, (replica + 1) * self.episodes)])
                if len(ended):
                    observation[own][ended] = self._final(part[4].get("final_obs"), ended, own.start)
        self.observation = observation
        return Transition(observation, reward, terminated, truncated)

    def restart(self, over: np.ndarray, seeds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        ready, self.idle = np.ones(len(over), bool), self.idle & ~over
        if self.mode == AutoresetMode.NEXT_STEP:
            return self.observation, ready & ~over
        if self.mode == AutoresetMode.SAME_STEP:
            return self.first, ready
        self.over, self.taken = self.over & ~over, np.where(over, 0, self.taken)
        replicas = zip(self.each, np.split(over, len(self.each)), np.split(seeds, len(self.each)), strict=True)
        found = [reset(env, own.tolist(), which) if which.any() else None for env, which, own in replicas]
        self.observation = self._joined(found)
        return self.observation, ready

    def _made(self, seeds: Sequence[int]) -> VectorEnv[Any, Any, Any]:
        made: VectorEnv[Any, Any, Any] = self.around.vector(self.make(seeds))
        with warnings.catch_warnings(action="ignore"):  # some make their spaces again at each access, and warn
            self.observation_space, self.action_space = made.single_observation_space, made.single_action_space
        self.reader = ObservationReader(self.observation_space, self.around.key)
        self.choices = choices(self.action_space) if self.around.key else []
        return made

    def _joined(self, batches: Sequence[Any]) -> np.ndarray:
        """Return what a policy sees of each replica's batch; None stands for the last observations. It is a copy:
        Gymnasium may write the next observations into the same arrays."""
        rows = []
        for replica, batch in enumerate(batches):
            first = replica * self.episodes
            try:
                old = batch is None
                rows.append(self.observation[first : first + self.episodes] if old else self.reader.read_batch(batch))
                if (count := len(rows[-1])) != self.episodes:
                    raise RunError(f"{WRONG_INTERFACE}: {self.episodes} copies return {count} observations")
            except InvalidObservation as invalid:
                raise refused(str(invalid), first + invalid.copy, self.episodes, self.taken) from invalid
        found = np.concatenate(rows)
        check_masks(self.each[0], found, self.choices, np.arange(len(found)), self.over, self.episodes, self.taken)
        return found

    def _final(self, observations: Any, ended: np.ndarray, first: int) -> np.ndarray:
        """Return what a policy sees of the last observations of the copies that have ended. observations: one object
        for each copy, or a batch. first: the number of its first copy."""
        if observations is None:
            raise RunError(f"{WRONG_INTERFACE}: with SAME_STEP, info['final_obs'] must have the last observations")
        try:
            if isinstance(observations, np.ndarray) and observations.dtype == object:
                return self.reader.read(list(observations[ended]))
            return np.asarray(self.reader.read_batch(observations)[ended])
        except InvalidObservation as invalid:
            raise refused(str(invalid), first + ended[invalid.copy], self.episodes, self.taken) from invalid


def check_spaces(env: Any, observation: Any, action: Any) -> None:
    """Raises RunError if an environment has other spaces than those that its policy was made for."""
    for what, now, then in (
        ("observations", env.observation_space, observation),
        ("actions", env.action_space, action),
    ):
        if found := difference(now, then, bounds=what == "actions"):
            id = env.spec.id if env.spec else "the environment"
            raise RunError(f"{id} has other {what} now than before the run: {found}")


def check_masks(env: Any, seen: np.ndarray, choices: Sequence[int], which: np.ndarray, over: np.ndarray,
                episodes: int, taken: np.ndarray, first: int = 0) -> None:  # fmt: skip
    """Raises RunError if a mask at the end of `seen` forbids everything. over: [N] the copies that need no action."""
    if choices and (none := forbidding(seen, choices) & ~over).any():
        of = f" of {env.spec.id}" if env.spec else ""
        what = f"an action mask that forbids every action{of}; if no action is left, the episode must end"
        raise refused(what, which[none.argmax()], episodes, taken, first)


def refused(what: str, copy: Any, episodes: int, taken: np.ndarray, first: int = 0) -> RunError:
    """Return the error for what a copy returned. taken: [N] steps that the copies have taken in their episodes. first:
    the number of the first copy."""
    replica, episode = divmod(first + int(copy), episodes)
    return RunError(f"the environment returned {what} (replica {replica}, episode {episode}, step {taken[copy]})")


def reset(env: VectorEnv[Any, Any, Any], seeds: list[int], which: np.ndarray | None = None) -> Any:
    """Reset all copies, or those of a mask `which`, with a seed for each; or with one seed for all, if the environment
    takes only one."""
    options = None if which is None else {"reset_mask": which.copy()}
    seed: Any = seeds if takes_many_seeds(env) else seeds[0]
    return seen_first(env.reset(seed=seed, options=options))


def first(env: gymnasium.Env[Any, Any], seed: int) -> Any:
    """Reset a copy, and return the observation. Raises RunError if it does not follow Gymnasium's interface."""
    try:
        return seen_first(env.reset(seed=seed))
    except (TypeError, ValueError) as error:
        raise interface_error(env, error) from error


def seen_first(came: Any) -> Any:
    """Return the observation in the result of a reset. Raises RunError if it does not follow Gymnasium's interface."""
    if wrong := fault_of_reset(came):
        raise RunError(f"{WRONG_INTERFACE}: {wrong}")
    return came[0]


def numbers_of(came: Any, copies: int) -> list[np.ndarray]:
    """Return the rewards and the two kinds of ends [B] in the result of a vector environment's step. Raises RunError if
    it does not follow Gymnasium's interface."""
    if not (isinstance(came, tuple) and len(came) == 5):
        raise RunError(f"{WRONG_INTERFACE}: {next(faults_of_step(came))}")
    found = [np.asarray(each) for each in came[1:4]]
    for name, each, kinds in zip(("rewards", "terminated", "truncated"), found, ("biuf", "b", "b"), strict=True):
        if each.shape != (copies,) or each.dtype.kind not in kinds:
            what = "numbers" if len(kinds) > 1 else "True and False"
            there = f"{shown(each)} of {each.dtype}, and must be {what} of shape ({copies},)"
            raise RunError(f"{WRONG_INTERFACE}: in a step, {name} is {there}")
    return found


def interface_error(env: gymnasium.Env[Any, Any], error: Exception) -> Exception:
    """Return the error to raise instead of one in a reset or step: what is wrong with the interface, if anything is."""
    wrong = [line for line in faults(env) if not line.startswith("it raises")]
    return RunError(f"{WRONG_INTERFACE}: {wrong[0]}") if wrong else error


def close(envs: list[Any]) -> None:
    """Close all environments, even if some fail, and empty the list. Worker processes that do not answer are ended."""
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
        say_once(f"an environment could not be closed: {blame(fault)}")


def takes_many_seeds(env: VectorEnv[Any, Any, Any]) -> bool:
    """Return whether a vector environment takes a seed for each copy. One that is made of single environments does; an
    environment's own vector form has one generator for all its copies."""
    return hasattr(env.unwrapped, "env_fns")
