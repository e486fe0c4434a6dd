"""Films of a policy that plays."""

import contextlib
import itertools
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium.error import DependencyNotInstalled

from rlgrad.agents.trained import TrainedPolicy
from rlgrad.errors import RunError, SettingError, UsageError, blame

EXTRA = "pip install 'rlgrad[play]'"
OPENGL = "MuJoCo needs OpenGL: set MUJOCO_GL=egl and install libegl1, or MUJOCO_GL=osmesa and libosmesa6"
SHORT, PATIENCE = 300, 10.0  # a film in a report has at most this many pictures, and takes at most these seconds
FPS = 30.0  # if the environment does not say


class Show:
    """Shows episodes of a policy, greedy or, with `sample`, with drawn actions. returns: of the episodes that ended."""

    def __init__(self, policy: Any, mode: str = "rgb_array", sample: bool = False):
        """policy: a TrainedPolicy. mode: "human" for a window, "rgb_array" for pictures. Raises UsageError if it cannot
        be shown, and SettingError if there is no such environment."""
        if not isinstance(policy, TrainedPolicy):
            raise UsageError(f"only a policy can be watched at play: this is {policy.origin}")
        if mode == "human":
            check_screen()
        elif sys.platform == "linux" and not screens():  # MuJoCo and pygame would look for one
            os.environ.setdefault("MUJOCO_GL", "egl")
            os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
        self.policy, self.sample, self.id, self.returns = policy, sample, policy.settings.environment, list[float]()
        self.window: Any = None  # of MuJoCo, whose closing is watched
        self.shut = False  # whether the user has closed it
        plain = policy.make_environment()
        modes = plain.metadata.get("render_modes") or []
        plain.close()
        robot = any("mujoco" in each.__module__ for each in type(plain.unwrapped).__mro__)
        self.needs = f"; {OPENGL if robot else EXTRA + ' installs what most environments need'}"
        if mode not in modes:
            raise UsageError(f"{self.id} has no pictures to show: its render modes are {', '.join(modes) or 'none'}")
        try:
            self.environment = policy.make_environment(render_mode=mode)
        except SettingError as error:  # it could be made above, without drawing
            raise UsageError(f"{self.id} cannot be drawn: {error}{self.needs}") from error
        self.fps = (self.environment.metadata.get("render_fps") or FPS) / policy.settings.action_repeat

    def frames(self, episodes: int = 1, seed: int = 0) -> Iterator[Any]:
        """Yield the pictures, step by step. Raises UsageError if the environment cannot be drawn, and RunError if it
        fails."""
        try:
            shown = itertools.chain.from_iterable(self._episode(seed + number) for number in range(episodes))
            yield from itertools.takewhile(lambda _: not self._closed(), shown)
        except (ImportError, DependencyNotInstalled) as error:
            raise UsageError(f"{self.id} cannot be drawn: {error}{self.needs}") from let_go(error)
        except Exception as error:  # an environment and what it draws with raise anything
            raise RunError(f"{self.id} cannot be shown: {blame(error)}{self.needs}") from let_go(error)
        finally:
            with contextlib.suppress(Exception):
                self.environment.close()

    def _closed(self) -> bool:
        """Return whether the user has closed the window, pygame's or MuJoCo's: environments go on without it."""
        pygame, glfw = sys.modules.get("pygame"), sys.modules.get("glfw")
        renderer = getattr(self.environment.unwrapped, "mujoco_renderer", None)
        window = getattr(getattr(renderer, "viewer", None), "window", None)
        if glfw and window and not self.window:
            self.window = window
            glfw.set_window_close_callback(window, self._close)
        return self.shut or bool(pygame and pygame.display.get_init() and pygame.event.peek(pygame.QUIT))

    def _close(self, window: Any) -> None:
        """Note that the window should be closed; `frames` does it. MuJoCo's own way ends in errors."""
        self.shut = True
        sys.modules["glfw"].set_window_should_close(window, False)

    def _episode(self, seed: int) -> Iterator[Any]:
        observation, earned = self.environment.reset(seed=seed)[0], 0.0
        yield self.environment.render()
        for _ in range(self.policy.settings.episode_limit):
            action, _ = self.policy.predict(observation, deterministic=not self.sample)
            observation, reward, terminated, truncated, _ = self.environment.step(action)
            earned += float(reward)
            yield self.environment.render()
            if terminated or truncated:
                break
        self.returns.append(earned)


def let_go(error: Exception) -> Exception:
    """Return the error without the objects that it holds, such as half a window: deleting it may fail and print."""
    before, sys.unraisablehook = sys.unraisablehook, lambda _: None
    error.with_traceback(None)
    sys.unraisablehook = before
    return error


def screens() -> list[str]:
    """Return what may show a window on Linux, by SDL's names."""
    known = {"DISPLAY": "x11", "WAYLAND_DISPLAY": "wayland"}
    return [driver for name, driver in known.items() if os.environ.get(name)]


def check_screen() -> None:
    """Raise UsageError if no window can be opened: SDL would draw unseen, and MuJoCo would abort the process."""
    import pygame

    if sys.platform == "linux":
        os.environ.setdefault("SDL_VIDEODRIVER", ",".join(screens()) or "x11")
    try:
        pygame.display.init()
    except pygame.error as error:
        os.environ.pop("SDL_VIDEODRIVER", None)
        raise UsageError(f"there is no screen for a window ({error}): --to film.gif makes a film") from error


def film(frames: Iterator[Any], fps: float, suffix: str = ".gif") -> bytes:
    """Return pictures as a film: a GIF that repeats for ever, or an MP4. Raises ImportError if a package is missing."""
    pictures = (np.ascontiguousarray(frame, np.uint8) for frame in frames)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"film{suffix}"
        (gif if suffix == ".gif" else mp4)(path, pictures, fps)
        return path.read_bytes()


def beginning(frames: Iterator[Any]) -> Iterator[Any]:
    """Yield the first frames: not more than a page has room for, and than its reader will wait for."""
    ends = time.monotonic() + PATIENCE
    for number, frame in enumerate(frames, 1):
        yield frame
        if number == SHORT or time.monotonic() > ends:
            return


def gif(path: Path, pictures: Iterator[np.ndarray], fps: float) -> None:
    from PIL import Image

    images = (Image.fromarray(picture).quantize(64, method=Image.Quantize.FASTOCTREE) for picture in pictures)
    pause = max(20, round(100 / fps) * 10)  # milliseconds; viewers slow down pictures that are shorter
    next(images).save(path, save_all=True, append_images=images, duration=pause, loop=0)


def mp4(path: Path, pictures: Iterator[np.ndarray], fps: float) -> None:
    import imageio_ffmpeg

    first = next(pictures)
    writer = imageio_ffmpeg.write_frames(str(path), first.shape[1::-1], fps=fps, macro_block_size=2)
    writer.send(None)
    for picture in itertools.chain([first], pictures):
        writer.send(picture)
    writer.close()
