"""What an environment does when it is tried, before a run: whether it begins afresh with each episode."""

import time
from collections.abc import Callable
from contextlib import closing
from typing import Any

import gymnasium
import numpy as np

from rlgrad.environments.interface import Environments
from rlgrad.errors import strange

EPISODES, STEPS, SECONDS = 4, 250, 2.0  # of the used copy; the first of them again, by the copy beside it


def memory(make: Callable[[], Any], actions: gymnasium.Space[Any]) -> str | None:
    """What a copy's episode hangs on besides its seed and its actions, in words; None: nothing that was seen.

    A copy is used for some episodes, the last with the seed and the actions of its first, which a second copy plays
    too. Of each at most 250 steps are played, and no more when two seconds are over: at most 1,250 steps.

    make: one copy.
    """
    actions.seed(0)
    chosen = [[np.asarray(actions.sample())[None] for _ in range(STEPS)] for _ in range(EPISODES - 1)]
    until = time.monotonic() + SECONDS
    try:
        with closing(make()) as used, closing(make()) as fresh:
            first = episode(used, 0, chosen[0], until)
            if (there := differ(first, episode(fresh, 0, chosen[0], until))) is not None:
                return f"more than its seed (two new copies, same seed and actions, differ at step {there})"
            for seed in range(1, EPISODES - 1):
                episode(used, seed, chosen[seed], until)
            if (there := differ(first, episode(used, 0, chosen[0], until))) is not None:
                return f"its earlier episodes (a used copy beside a new one, same seed and actions, differ at step {there})"
    except BaseException as error:
        if not strange(error):
            raise
        return None  # the run itself will come to it, and say so
    return None


def episode(copy: Environments, seed: int, actions: list[np.ndarray], until: float) -> list[tuple[np.ndarray, ...]]:
    """What comes of it, step for step, up to its end or the last of the actions."""
    found: list[tuple[np.ndarray, ...]] = [(np.array(copy.reset([np.random.default_rng(seed)])),)]
    for action in actions:
        if time.monotonic() > until:
            break
        step = copy.step(action)
        found.append(tuple(np.array(part) for part in step))
        if step.terminated.any() or step.truncated.any():
            break
    return found


def differ(one: list[tuple[np.ndarray, ...]], other: list[tuple[np.ndarray, ...]]) -> int | None:
    """At which step two episodes first differ; one that is cut off is compared as far as it goes."""
    for t, (a, b) in enumerate(zip(one, other, strict=False)):
        if not all(np.array_equal(x, y, equal_nan=True) for x, y in zip(a, b, strict=True)):
            return t
    return None
