"""Tests whether code that learns from segments, ours or yours, handles ends, time limits and resets correctly.

The environments here play a script, whatever the actions are. Each observation is a number that occurs once, and is its
own value V(s) = s. So the right result can be computed by hand: which steps there are, and the advantage and the return
of each, by the definition of generalized advantage estimation

    δₜ = rₜ + γ V(sₜ₊₁) (0 where the episode has terminated) - V(sₜ)      Aₜ = Σ (γλ)ᵏ δₜ₊ₖ, up to an end or the cut

A time limit is not a termination: the rest that it cuts off counts with the value of the last observation. After an end
comes another episode, which must not affect the one before. A step in which Gymnasium only resets a copy must not be
learned from.

    from rlgrad.testing import conformance

    def estimate(env, value, steps, segments, discount, weight):
        ...  # run your code on a gymnasium.vector.VectorEnv, with action 0 everywhere
        return [(value of the observation, advantage, return), ...]  # for every step that it would learn from

    assert conformance(estimate) == []
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Literal, NamedTuple

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv, VectorEnv

End = Literal["terminated", "truncated", "both"]
Learned = tuple[float, float, float]  # value of the observation, advantage, return
Value = Callable[[np.ndarray], np.ndarray]  # observations [N, D] -> their values [N]
Estimator = Callable[[Any, Value, int, int, float, float], Iterable[Learned]]

STEPS, SEGMENTS, DISCOUNT, WEIGHT, COPIES = 5, 2, 0.5, 0.5, 2

# The lengths of the episodes, and how they end. After the last one the first comes again.
CASES: dict[str, tuple[tuple[int, End], ...]] = {
    "terminated": ((3, "terminated"), (30, "terminated")),
    "truncated": ((3, "truncated"), (30, "terminated")),
    "both at once": ((3, "both"), (30, "terminated")),
    "at the first step": ((1, "terminated"), (1, "truncated"), (1, "both"), (30, "terminated")),
    "at the last step": ((5, "terminated"), (5, "truncated"), (30, "terminated")),
    "longer than the segments": ((30, "terminated"),),
    "short ones": ((2, "truncated"), (1, "terminated"), (3, "truncated"), (2, "terminated")),
}


class Episode(NamedTuple):
    """The script of an episode of n steps."""

    observations: list[float]  # n + 1, including the one after the last step
    rewards: list[float]  # n
    end: End


def script(case: str, copy: int, episodes: int = 12) -> list[Episode]:
    """The episodes of a copy: observations 1, 2, 3, … in its first, 51, 52, … in its second; rewards 1, 2, 3, …

    Of two copies the second begins with the second episode, so that the two do not end together.
    """
    found = []
    for number in range(episodes):
        length, end = CASES[case][(number + copy) % len(CASES[case])]
        first = 1 + 50 * number + 1000 * copy
        found.append(Episode([float(first + t) for t in range(length + 1)], [t + 1.0 for t in range(length)], end))
    return found


class Scripted(gymnasium.Env[np.ndarray, Any]):
    """An environment that plays the script of a copy; a reset begins its next episode."""

    observation_space = spaces.Box(0, np.inf, (1,), np.float32)
    action_space = spaces.Discrete(2)

    def __init__(self, case: str, copy: int = 0):
        self.episodes = script(case, copy)
        self.number, self.t = 0, 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        if self.t > 0:  # a reset before the first step changes nothing
            self.number, self.t = self.number + 1, 0
        return self._seen(), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        episode = self.episodes[self.number]
        reward = episode.rewards[self.t]
        self.t += 1
        over = self.t == len(episode.rewards)
        terminated, truncated = over and episode.end != "truncated", over and episode.end != "terminated"
        return self._seen(), reward, terminated, truncated, {}

    def _seen(self) -> np.ndarray:
        return np.array([self.episodes[self.number].observations[self.t]], dtype=np.float32)


class ScriptedVector(VectorEnv[np.ndarray, np.ndarray, np.ndarray]):
    """The same as a vector environment of its own; its copies are reset in the step after an end (NEXT_STEP)."""

    metadata = {"autoreset_mode": AutoresetMode.NEXT_STEP}

    def __init__(self, num_envs: int, case: str):
        self.num_envs, self.copies = num_envs, [Scripted(case, copy) for copy in range(num_envs)]
        self.single_observation_space, self.single_action_space = Scripted.observation_space, Scripted.action_space
        self.observation_space = gymnasium.vector.utils.batch_space(self.single_observation_space, num_envs)
        self.action_space = gymnasium.vector.utils.batch_space(self.single_action_space, num_envs)
        self.over = np.zeros(num_envs, bool)

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        self.over[:] = False
        return np.stack([copy.reset()[0] for copy in self.copies]), {}

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        rows = [
            (copy.reset()[0], 0.0, False, False) if over else copy.step(int(action))[:4]
            for copy, over, action in zip(self.copies, self.over, actions, strict=True)
        ]
        observation, reward, terminated, truncated = (np.array(column) for column in zip(*rows, strict=True))
        self.over = terminated | truncated
        return observation, reward, terminated, truncated, {}


gymnasium.register(
    "rlgrad/Scripted-v0",
    "rlgrad.testing.conformance:Scripted",
    vector_entry_point="rlgrad.testing.conformance:ScriptedVector",
)


def vectors(case: str) -> Iterator[tuple[str, AutoresetMode, VectorEnv[Any, Any, Any]]]:
    """Yield every kind of Gymnasium vector environment, in each of its autoreset modes, with its name and mode."""
    copies = [lambda copy=copy: Scripted(case, copy) for copy in range(COPIES)]
    for mode in AutoresetMode:
        yield "SyncVectorEnv", mode, SyncVectorEnv(copies, autoreset_mode=mode)
        yield "AsyncVectorEnv", mode, AsyncVectorEnv(copies, autoreset_mode=mode)
    own = gymnasium.make_vec("rlgrad/Scripted-v0", num_envs=COPIES, vectorization_mode="vector_entry_point", case=case)
    yield "vector entry point", AutoresetMode.NEXT_STEP, own


def expected(episodes: Sequence[Episode], resets_take_a_step: bool) -> list[Learned]:
    """The right result for SEGMENTS segments of STEPS steps of one copy, by the definition above.

    episodes: their observations are also their values. resets_take_a_step: whether a reset takes a step of a segment.
    """
    learned: list[Learned] = []
    rows: list[tuple[Episode, int] | None] = []  # episode and step of each row; None: the copy was reset
    for episode in episodes:
        rows += [(episode, t) for t in range(len(episode.rewards))]
        rows += [None] if resets_take_a_step else []
    for segment in range(SEGMENTS):
        played = rows[segment * STEPS : (segment + 1) * STEPS]
        for number, row in enumerate(played):
            if row is None:
                continue
            episode, t = row
            v = list(episode.observations)
            if episode.end != "truncated":
                v[-1] = 0.0  # nothing comes after an end
            last = t
            for later in played[number + 1 :]:
                if later is None or later[0] is not episode:
                    break
                last = later[1]
            delta = [episode.rewards[k] + DISCOUNT * v[k + 1] - v[k] for k in range(t, last + 1)]
            advantage = math.fsum((DISCOUNT * WEIGHT) ** k * d for k, d in enumerate(delta))
            learned.append((v[t], advantage, advantage + v[t]))
    return learned


def differences(found: Iterable[Learned], wanted: Sequence[Learned], where: str) -> list[str]:
    """A line for each step that is missing, or must not be there, or has wrong numbers."""
    missing, lines = {value: rest for value, *rest in wanted}, []
    for value, *rest in sorted(found):
        step = f"{where}: the step from {value:g}"
        nearest = min(missing, key=lambda one: abs(one - value), default=math.inf)
        if not math.isclose(nearest, value, rel_tol=1e-5, abs_tol=1e-6):
            lines.append(f"{step} is not one to learn from, or came twice")
            continue
        for name, number, right in zip(("advantage", "return"), rest, missing.pop(nearest), strict=True):
            if not math.isclose(number, right, rel_tol=1e-4, abs_tol=1e-4):
                lines.append(f"{step} has the {name} {number:g}, not {right:g}")
    return lines + [f"{where}: the step from {value:g} is missing" for value in missing]


def conformance(estimate: Estimator, cases: Iterable[str] = tuple(CASES)) -> list[str]:
    """Run your code on every case, in every kind of vector environment and each of its modes; return a line per fault.

    estimate(env, value, steps, segments, discount, weight): plays `segments` segments of `steps` rows with action 0,
    and returns (value, advantage, return) of every step that it would learn from; value: observations [N, D] -> [N].
    """

    def value(observation: np.ndarray) -> np.ndarray:
        return observation[..., 0]

    lines: list[str] = []
    for case in cases:
        for kind, mode, env in vectors(case):
            resets = mode == AutoresetMode.NEXT_STEP
            wanted = [one for copy in range(COPIES) for one in expected(script(case, copy), resets)]
            try:
                found = list(estimate(env, value, STEPS, SEGMENTS, DISCOUNT, WEIGHT))
            finally:
                env.close()
            lines += differences(found, wanted, f"{case}, {kind}, {mode.name}")
    return lines


def envpool_conformance(estimate: Estimator, limit: int = 4, seed: int = 3) -> list[str]:
    """The same on envpool's CartPole with a time limit, compared with a pool of the same seeds that is stepped here.

    Raises ImportError if envpool is not installed.
    """
    import envpool

    def pool() -> Any:
        seeds = [seed + copy for copy in range(COPIES)]
        return envpool.make("CartPole-v1", env_type="gymnasium", num_envs=COPIES, seed=seeds, max_episode_steps=limit)

    def value(observation: np.ndarray) -> np.ndarray:
        return 10 * observation[..., 2]

    by_hand, episodes = pool(), [[Episode([], [], "terminated")] for _ in range(COPIES)]
    observation, _ = by_hand.reset()
    for _ in range(2 * STEPS * SEGMENTS):
        before = observation
        observation, reward, terminated, truncated, info = by_hand.step(np.zeros(COPIES, int))
        for copy in range(COPIES):
            if info["elapsed_step"][copy] == 0:  # this was a reset
                episodes[copy].append(Episode([], [], "terminated"))
                continue
            episode = episodes[copy][-1]
            episode.observations.append(float(value(before[copy])))
            episode.rewards.append(float(reward[copy]))
            if terminated[copy] or truncated[copy]:
                episode.observations.append(float(value(observation[copy])))
                episodes[copy][-1] = episode._replace(end="terminated" if terminated[copy] else "truncated")
    whole = [[one for one in each if len(one.observations) > len(one.rewards)] for each in episodes]
    wanted = [one for each in whole for one in expected(each, resets_take_a_step=True)]
    return differences(estimate(pool(), value, STEPS, SEGMENTS, DISCOUNT, WEIGHT), wanted, "envpool")
