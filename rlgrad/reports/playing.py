"""Shows a trained policy at play, in a window or on film."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from rlgrad import files
from rlgrad.agents.films import EXTRA, Show, beginning, film
from rlgrad.agents.trained import TrainedPolicy
from rlgrad.environments.around import flattened, legal_sample
from rlgrad.errors import RunError, SettingError, UsageError
from rlgrad.reports.loading import load
from rlgrad.run.faults import attempt


def film_of(run: Path) -> bytes | None:
    """The beginning of an episode of the run's first replica, as a GIF; None if it cannot be shown."""
    try:
        show = Show(load(run, replica=0))
        return film(beginning(show.frames()), show.fps)
    except (UsageError, RunError, SettingError, ImportError):
        return None


def returns_by_chance(run: Path, episodes: int = 20, steps: int = 20_000) -> list[float]:
    """The returns of uniformly random actions in the run's environment, the same at every call. Only whole episodes
    count. steps: the most steps of all episodes together. The list is empty if the run's model is not a policy."""
    try:
        policy = load(run, replica=0)
        if not isinstance(policy, TrainedPolicy):
            return []
        with closing(policy.make_environment()) as environment:
            return attempt(lambda: list(random_play(environment, policy.settings.mask, episodes, steps)))
    except (UsageError, RunError, SettingError):
        return []


def random_play(environment: Any, mask: str | None, episodes: int, steps: int) -> Iterator[float]:
    """Yield the returns of random episodes. mask: the part of the observations that marks the legal actions."""
    actions = environment.action_space
    actions.seed(0)
    for episode in range(episodes):
        seen, _ = environment.reset(seed=2**31 + episode)  # training and evaluation have other seeds
        earned, over = 0.0, False
        while not over:
            if (steps := steps - 1) < 0:
                return
            action = actions.sample() if mask is None else legal_sample(actions, flattened(seen[mask]))
            seen, reward, terminated, truncated, _ = environment.step(action)
            earned, over = earned + float(reward), terminated or truncated
        yield earned


def play(policy: Any, to: str | None, episodes: int, seed: int, sample: bool) -> list[float]:
    """Show episodes in a window, or write a film; return their returns. Raises UsageError, RunError and OSError."""
    try:
        show = Show(policy, "rgb_array" if to else "human", sample)
        if to:
            files.write(Path(to), film(show.frames(episodes, seed), show.fps, Path(to).suffix))
        else:
            for _ in show.frames(episodes, seed):
                pass
    except ImportError as error:
        raise UsageError(f"{error.name or error} is not installed: {EXTRA}") from error
    except SettingError as error:
        raise UsageError(str(error)) from error
    return show.returns
