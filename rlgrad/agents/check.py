"""What the suite sees of an environment, for `rlgrad check`."""

import time
import warnings
from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np
from gymnasium.utils.env_checker import check_env

from rlgrad.agents.policies import outputs
from rlgrad.environments import describe, make, played_by
from rlgrad.environments.spaces import is_image, visible_space
from rlgrad.streams import Purpose, streams

SECONDS = 0.5  # for which speed is measured


def report(id: str, options: Mapping[str, Any]) -> dict[str, str]:
    """A line for each thing worth knowing. Raises SettingError where there is no such environment."""
    with warnings.catch_warnings(action="ignore"):
        environment = describe(id, options)
        spec = environment.spec
        observation, action = environment.observation_space, environment.action_space
        try:
            seen = visible_space(observation)
            shown = f"an image {seen.shape}" if is_image(seen) else f"a vector of {seen.shape[0]}"  # type: ignore[index]
        except TypeError as error:
            shown = f"nothing: {error}"
        wanted = outputs(action)
        limit = spec.max_episode_steps if spec else None
        threshold = spec.reward_threshold if spec else None
        lines = {
            "observations": str(observation),
            "the policy sees": shown,
            "actions": str(action),
            "the policy gives": f"{wanted} numbers for each" if wanted else "nothing: no policy serves these actions",
            "time limit": f"{limit} steps, then truncated" if limit else "none: set episode_limit if it may not end",
            "counts as solved": f"a mean return of {threshold:g}" if threshold is not None else "never: no threshold",
        }
        if shown.startswith("nothing") or not wanted:
            return lines
        lines["played by"] = played_by(make(id, 1, 1, options=options), id, options)
        vector = gymnasium.make_vec(id, num_envs=1, **options)
        lines["autoreset"] = str(vector.metadata.get("autoreset_mode", "not stated")).rpartition(".")[2]
        vector.close()
        for copies in (1, 64):
            lines[f"steps per second, {copies} at once"] = f"{speed(id, options, copies, action):,.0f}"
        lines["Gymnasium's own check"] = gymnasium_says(environment)
        environment.close()
    return lines


def speed(id: str, options: Mapping[str, Any], copies: int, action: gymnasium.Space[Any]) -> float:
    """Environment steps per second with random actions, resets included; what a finished copy does is none."""
    environments = make(id, 1, copies, options=options)
    rng = streams(0, 1, Purpose.SAMPLE)
    actions = np.stack([np.asarray(action.sample()) for _ in range(copies)])
    steps, alive, began = 0, np.zeros(copies, bool), time.perf_counter()
    while time.perf_counter() - began < SECONDS:
        if not alive.any():
            environments.reset(rng)
            alive[:] = True
        found = environments.step(actions)
        steps += int(alive.sum())
        alive &= ~(found.terminated | found.truncated)
    return steps / (time.perf_counter() - began)


def gymnasium_says(environment: gymnasium.Env[Any, Any]) -> str:
    try:
        check_env(environment.unwrapped, skip_render_check=True)
    except Exception as error:  # it raises whatever the environment raises, and assertions of its own
        return f"fails: {' '.join(str(error).split())[:200] or type(error).__name__}"
    return "passes"
