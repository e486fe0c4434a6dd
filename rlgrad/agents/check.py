"""The report of `rlgrad check`: how the suite sees an environment."""

import math
import time
import warnings
from collections.abc import Callable, Mapping
from contextlib import closing
from functools import partial
from typing import Any

import gymnasium
import numpy as np
from gymnasium.utils.env_checker import check_env

from rlgrad.agents.policies import outputs
from rlgrad.environments import describe, make, played, played_by
from rlgrad.environments.around import Around, find_mask
from rlgrad.environments.spaces import pictures, visible_space
from rlgrad.environments.trial import faults, memory
from rlgrad.errors import SettingError, blame, strange, text_of
from rlgrad.streams import Purpose, streams

GYMNASIUM = "Gymnasium's own check"
SECONDS = 0.5  # how long speed is measured
SLOW = 0.1  # seconds from which a reset with a seed is called slow


def report(id: str, options: Mapping[str, Any]) -> dict[str, str]:
    """Return a line for each thing worth knowing. Raises SettingError if there is no such environment."""
    with warnings.catch_warnings(action="ignore"):
        environment = describe(id, options)
        lines, around = results(spaces(environment)), Around()
        try:
            around = Around(mask=find_mask(environment, "auto"))
        except SettingError as error:
            lines["wrong"] = f"{'.'.join(error.path)}: {error}"
        if around.mask:
            lines["legal actions"] = f"those of the mask in {'info' if around.mask == 'info' else 'the observations'}"
        if sound(lines):
            if wrong := faults(environment):
                lines["wrong"] = "; ".join(wrong)
            else:
                lines |= results(playing(id, options, environment, around))
        return lines | {name: line for name, line in results({"closing": environment.close}).items() if line}


def sound(lines: Mapping[str, str]) -> bool:
    """Return whether a report found no fault. Gymnasium's own check does not count: it asks for more than is needed."""
    counted = {name: line for name, line in lines.items() if name != GYMNASIUM}
    return "wrong" not in counted and not any(line.startswith(("nothing", "fails")) for line in counted.values())


def results(looks: Mapping[str, Callable[[], Any]]) -> dict[str, str]:
    """Return the result of each check, or the error that it raised, in one line."""
    lines = {}
    for name, look in looks.items():
        try:
            lines[name] = look() or ""
        except BaseException as error:
            if not strange(error):
                raise
            lines[name] = f"fails: {blame(error)}"
    return lines


def spaces(environment: gymnasium.Env[Any, Any]) -> dict[str, Callable[[], str]]:
    """Return the checks that do not play the environment."""
    observation, action, spec = environment.observation_space, environment.action_space, environment.spec
    limit, threshold = (spec.max_episode_steps, spec.reward_threshold) if spec else (None, None)

    def seen() -> str:
        try:
            total, shown = math.prod(visible_space(observation).shape or ()), pictures(observation)
        except TypeError as error:
            return f"nothing: {error}"
        rest = total - sum(each.own.stop - each.own.start for each in shown)
        each = [f"a picture, {one}" for one in shown] + ([f"a vector of {rest}"] if rest else [])
        return "; ".join(each)

    def given() -> str:
        wanted = outputs(action)
        numbers = "1 number" if wanted == 1 else f"{wanted} numbers"
        return f"{numbers} for each" if wanted else "nothing: no policy supports these actions"

    return {
        "observations": lambda: str(observation),
        "the policy sees": seen,
        "actions": lambda: str(action),
        "the policy gives": given,
        "time limit": lambda: (
            f"{limit} steps, then truncated" if limit else "none: set episode_limit if it may not end"
        ),
        "counts as solved": lambda: "never: no threshold" if threshold is None else f"a mean return of {threshold:g}",
    }


def playing(id: str, options: Mapping[str, Any], environment: Any, around: Around) -> dict[str, Callable[[], str]]:
    """Return the checks that play the environment."""
    one, action = partial(make, id, 1, 1, options=options, around=around), environment.action_space

    def form() -> str:
        with closing(one()) as made:
            return played_by(made, id, options, around=around)

    def begins() -> str:
        with closing(one()) as made:
            found = memory(one, action, masked=around.key is not None) if played(made) else None
        return f"not from its seed alone: it depends on {found}" if found else "from its seed alone"

    def autoreset() -> str:
        with closing(gymnasium.make_vec(id, num_envs=1, **options)) as vector:
            return str(vector.metadata.get("autoreset_mode", "not stated")).rpartition(".")[2]

    def reset() -> str:
        began = time.perf_counter()
        environment.reset(seed=1)
        seconds = time.perf_counter() - began
        return f"{seconds:.2g} s{': slow, and there is one for each episode' if seconds > SLOW else ''}"

    speeds = {f"steps per second, {n} at once": partial(speed, id, options, n, action) for n in (1, 64)}
    first = {"played by": form, "an episode begins": begins, "autoreset": autoreset, "a reset with a seed": reset}
    if around.mask:  # the other checks play any actions, legal or not
        return first
    return {**first, **speeds, GYMNASIUM: lambda: gymnasium_says(environment)}


def speed(id: str, options: Mapping[str, Any], copies: int, action: gymnasium.Space[Any]) -> str:
    """Return environment steps per second with random actions, with resets; steps of finished copies do not count."""
    rng = streams(0, 1, Purpose.SAMPLE)
    drawn = [np.stack([np.asarray(action.sample()) for _ in range(copies)]) for _ in range(100)]
    steps, turns, alive = 0, 0, np.zeros(copies, bool)
    with closing(make(id, 1, copies, options=options)) as environments:
        began = time.perf_counter()
        while time.perf_counter() - began < SECONDS:
            if not alive.any():
                environments.reset(rng)
                alive[:] = True
            found = environments.step(drawn[turns % len(drawn)])
            turns, steps = turns + 1, steps + int(alive.sum())
            alive &= ~(found.terminated | found.truncated)
        return f"{steps / (time.perf_counter() - began):,.0f}"


def gymnasium_says(environment: gymnasium.Env[Any, Any]) -> str:
    try:
        check_env(environment.unwrapped, skip_render_check=True)
    except BaseException as error:  # it raises whatever the environment raises, and assertions of its own
        if not strange(error):
            raise
        return f"fails: {text_of(error) or type(error).__name__}"
    return "passes"
