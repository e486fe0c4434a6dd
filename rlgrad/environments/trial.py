"""A trial of an environment: whether it follows Gymnasium's interface, and whether each episode begins afresh."""

import copy
import inspect
import itertools
import numbers
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces, wrappers

from rlgrad.environments.around import KEY, MaskSeen, choices, flattened, forbidding, legal_sample
from rlgrad.errors import RunError, blame, strange

EPISODES, STEPS, SECONDS = 4, 250, 10.0  # most episodes of the used copy, steps of each, time of all
PACED, PATIENT = 32, 0.2  # at most this many steps are timed, for at most about these seconds

NUMBERS, ENDS = (int, float, np.float32, np.float64), (bool, np.bool_)  # the usual types of rewards and ends
OLD = "as in gym before 0.26"


def faults(environment: gymnasium.Env[Any, Any]) -> list[str]:
    """Return what is wrong in one reset and one step of an environment, a line for each fault. Gymnasium's own wrappers
    around it are left out, as they would fail on wrong results."""
    ours = (wrappers.TimeLimit, wrappers.OrderEnforcing, wrappers.PassiveEnvChecker, MaskSeen)
    while isinstance(environment, ours):
        environment = environment.env
    found: list[str] = []
    try:
        found += faults_raising(environment)
    except BaseException as error:
        if not strange(error):
            raise
        found.append(f"it raises {blame(error)}")
    return found


def faults_raising(environment: gymnasium.Env[Any, Any]) -> Iterator[str]:
    """Yield these faults; errors of the environment are raised."""
    taken = inspect.signature(environment.reset).parameters
    anything = any(each.kind == each.VAR_KEYWORD for each in taken.values())
    for name, old in (("seed", f", {OLD}"), ("options", "")):
        if name not in taken and not anything:
            yield f"reset takes no {name}{old}: it must be reset(*, seed=None, options=None)"
            return
    came = environment.reset(seed=0)
    if wrong := fault_of_reset(came):
        yield wrong
        return
    observation, info = came
    if observation not in environment.observation_space:
        yield f"reset returns the observation {shown(observation)}, which is not in {environment.observation_space}"
        return
    mask = info.get(KEY, observation.get(KEY) if isinstance(observation, dict) else None)
    actions, legal = environment.action_space, np.zeros(0) if mask is None else flattened(mask)
    fits = legal.shape == (sum(sizes := choices(actions)),)
    if fits and forbidding(legal[None], sizes).any():
        yield f"reset returns an action mask that forbids every action: {legal.tolist()!s:.60}"
        return
    yield from faults_of_step(environment.step(legal_sample(actions, legal) if fits and sizes else actions.sample()))


def fault_of_reset(came: Any) -> str | None:
    """Return what is wrong in the result of a reset, or None."""
    if isinstance(came, tuple) and len(came) == 2 and isinstance(came[1], dict):
        return None
    old = "" if isinstance(came, tuple) else f", {OLD}"
    return f"reset returns {shown(came)}{old}: it must be (observation, info), and info a dict"


def usual(came: Any) -> bool:
    """Return whether a step's result has the usual types: then `faults_of_step` finds nothing."""
    if type(came) is not tuple or len(came) != 5:
        return False
    _, reward, terminated, truncated, info = came
    kinds = type(terminated) in ENDS and type(truncated) in ENDS and type(info) is dict
    return kinds and type(reward) in NUMBERS


def faults_of_step(came: Any) -> Iterator[str]:
    """Yield what is wrong in the result of a step."""
    if not (isinstance(came, tuple) and len(came) == 5):
        old = f", {OLD}" if isinstance(came, tuple) and len(came) == 4 else ""
        yield f"step returns {shown(came)}{old}: it must be (observation, reward, terminated, truncated, info)"
        return
    _, reward, *ends, info = came
    array = isinstance(reward, np.ndarray) and reward.shape == () and reward.dtype.kind in "biuf"
    if not (array or isinstance(reward, numbers.Real | np.bool_)):
        yield f"the reward is {shown(reward)}: it must be one number"
    for name, end in zip(("terminated", "truncated"), ends, strict=True):
        if not isinstance(end, bool | np.bool_):
            yield f"{name} is {shown(end)}: it must be True or False"
    if not isinstance(info, dict):
        yield f"info is {shown(info)}: it must be a dict"


def shown(thing: Any) -> str:
    """Describe any value in a few words."""
    if isinstance(thing, tuple):
        return f"{len(thing)} values ({', '.join(type(each).__name__ for each in thing)})"
    if isinstance(thing, np.ndarray):
        return f"an array of shape {thing.shape}"
    return f"{' '.join(repr(thing).split()):.60} ({type(thing).__name__})"


def memory(make: Callable[[], Any], actions: gymnasium.Space[Any], masked: bool = False) -> str | None:
    """Return in words what a copy's episode depends on besides its seed and its actions; None if nothing was found.

    One copy plays some episodes, the last with the seed and the actions of the first. A second copy plays this one too,
    while the first plays another, step by step in turns: copies that share a state, or numpy's random numbers, differ.
    Each episode has at most 250 steps, and all of them end after ten seconds: at most 1,250 steps. In some episodes the
    same action is held, so that fallen bodies lie still (Box2D remembers the contacts of bodies).

    make: makes one copy. masked: whether action masks follow its observations; then legal actions are drawn. Raises
    whatever the environment raises, and RunError if a reward is not finite.
    """
    actions.seed(0)
    among = actions if masked else None
    chosen = [[np.asarray(actions.sample())[None] for _ in range(STEPS)] for _ in range(EPISODES - 1)]
    held = np.zeros_like(chosen[0][0]) if isinstance(actions, spaces.Box) else chosen[0][0]
    chosen[0] = chosen[-1] = [held] * STEPS
    until = time.monotonic() + SECONDS
    with closing(make()) as used, closing(make()) as fresh:
        first = list(episode(used, 0, chosen[0], until, among))
        both = (episode(each, seed, chosen[seed], until, among) for seed, each in enumerate((fresh, used)))
        if (there := differ(first, [step for step, _ in itertools.zip_longest(*both) if step])) is not None:
            return f"more than its seed (two new copies, same seed and actions, differ at step {there})"
        for seed in range(2, EPISODES - 1):
            list(episode(used, seed, chosen[seed], until, among))
        if (there := differ(first, list(episode(used, 0, chosen[0], until, among)))) is not None:
            return f"earlier episodes (a used copy and a new one, same seed and actions, differ at step {there})"
    return None


def pace(make: Callable[[], Any], actions: gymnasium.Space[Any], masked: bool = False) -> float:
    """Return the seconds that a step of one copy takes; 0 if it raises anything. make, masked: as in `memory`."""
    taken = list[float]()
    try:
        with closing(make()) as one:
            seen = one.reset([np.random.default_rng(0)])
            while len(taken) < PACED and sum(taken) < PATIENT:
                mask = seen[0, -sum(choices(actions)) :] if masked else None
                action = np.asarray(actions.sample() if mask is None else legal_sample(actions, mask))[None]
                began = time.perf_counter()
                seen, _, terminated, truncated = one.step(action)
                taken.append(time.perf_counter() - began)
                if terminated.any() or truncated.any():
                    seen = one.reset([np.random.default_rng(0)])
    except BaseException as error:
        if not strange(error):
            raise
        return 0.0  # the run itself will find this error
    return min(taken)  # other work of the machine can only make steps slower


def episode(
    one: Any, seed: int, actions: list[np.ndarray], until: float, among: Any = None
) -> Iterator[tuple[np.ndarray, ...]]:
    """Play an episode up to its end or the last action, and yield the result of each step. among: the space of
    actions, if legal ones are drawn instead."""
    if among is not None:
        among = copy.deepcopy(among)
        among.seed(seed)
    seen = one.reset([np.random.default_rng(seed)])
    yield (np.array(seen),)
    for t, action in enumerate(actions):
        if time.monotonic() > until:
            return
        if among is not None:
            action = legal_sample(among, seen[0, -sum(choices(among)) :])[None]
        step = one.step(action)
        seen = step.observation
        if not np.isfinite(step.reward).all():
            raise RunError(f"the environment returned a reward that is not finite (step {t})")
        yield tuple(np.array(part) for part in step)
        if step.terminated.any() or step.truncated.any():
            return


def differ(one: list[tuple[np.ndarray, ...]], other: list[tuple[np.ndarray, ...]]) -> int | None:
    """Return the first step at which two episodes differ, or None; the rest of the longer one is not compared."""
    for t, (a, b) in enumerate(zip(one, other, strict=False)):
        if not all(np.array_equal(x, y, equal_nan=True) for x, y in zip(a, b, strict=True)):
            return t
    return None
