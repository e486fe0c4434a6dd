"""A trained policy at play: in a window, or on film."""

from pathlib import Path
from typing import Any

from rlgrad import files
from rlgrad.agents.films import EXTRA, Show, beginning, film
from rlgrad.errors import RunError, SettingError, UsageError
from rlgrad.reports.loading import load


def film_of(run: Path) -> bytes | None:
    """The beginning of an episode of the run's first replica, as a GIF; None where there is nothing to be seen."""
    try:
        show = Show(load(run, replica=0))
        return film(beginning(show.frames()), show.fps)
    except (UsageError, RunError, SettingError, ImportError):
        return None


def play(policy: Any, to: str | None, episodes: int, seed: int, sample: bool) -> list[float]:
    """Show episodes, in a window or in a file. Their returns. Raises UsageError, RunError and OSError."""
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
