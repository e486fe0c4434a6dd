"""Atari games as they are usually played: frames skipped, small, grey and stacked (Machado et al. 2018,
https://doi.org/10.1613/jair.5699). ale-py is imported only if a game is used."""

from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces


class Atari(gymnasium.Wrapper[Any, Any, Any, Any]):
    """A game of ale-py as a policy sees it: frames [stack, size, size], or with colours [stack, size, size, 3].

    An episode is a function of its seed and its actions, and a reset is fast: the state at the beginning is kept and
    restored, and all random parts, the no-ops and the sticky actions, come from the seed. A game may have several
    lives; if the loss of one ends an episode, the next episode is a new game.

    training: without it, a lost life never ends an episode, and rewards are not clipped.
    """

    def __init__(
        self,
        env: gymnasium.Env[Any, Any],
        *,
        frame_skip: int,
        size: int,
        grey: bool,
        stack: int,
        no_ops: int,
        fire: bool,
        sticky: float,
        life_loss_ends: bool,
        clip_rewards: bool,
        training: bool = False,
    ):
        """Raises TypeError if it is not a game of ale-py with Discrete actions."""
        super().__init__(env)
        self.ale: Any = getattr(env.unwrapped, "ale", None)
        if self.ale is None or not isinstance(env.action_space, spaces.Discrete):
            raise TypeError("it wraps only games of ale-py with Discrete actions, such as ALE/Pong-v5")
        self.skip, self.grey, self.no_ops, self.fire, self.sticky = frame_skip, grey, no_ops, fire, sticky
        self.life_loss_ends, self.clip_rewards = training and life_loss_ends, training and clip_rewards
        if self.ale.getFloat("repeat_action_probability") > 0:
            raise TypeError("sticky actions must follow the seed: set atari.sticky, not repeat_action_probability")
        minimal = list(self.ale.getMinimalActionSet())
        self.buttons = minimal if len(minimal) == env.action_space.n else list(self.ale.getLegalActionSet())
        height, width = self.ale.getScreenDims()
        self.rows, self.columns = shares(height, size), shares(width, size).T
        colours = () if grey else (3,)
        self.observation_space = spaces.Box(0, 255, (stack, size, size, *colours), np.uint8)
        self.screens = np.zeros((2, height, width, *colours), np.uint8)  # of the last two frames
        self.ale.reset_game()
        self.start, self.rng = self.ale.cloneState(), np.random.default_rng()

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict[str, Any]]:
        if seed is not None:
            self.rng = np.random.default_rng(seed)
        self.ale.restoreState(self.start)
        self.button = self.buttons[0]
        for _ in range(self.rng.integers(1, self.no_ops + 1) if self.no_ops else 0):
            self.ale.act(self.buttons[0])
        if self.fire and any(button.name == "FIRE" for button in self.buttons):
            self.ale.act(next(button for button in self.buttons if button.name == "FIRE"))
        self.lives, self.stack = self.ale.lives(), np.zeros(self.observation_space.shape or (), np.uint8)
        self._look(0)
        self.screens[1] = self.screens[0]
        return self._seen(), {"lives": self.lives}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        earned = 0.0
        for left in reversed(range(self.skip)):
            if not self.sticky or self.rng.random() >= self.sticky:
                self.button = self.buttons[action]
            earned += self.ale.act(self.button)
            if left < 2:
                self._look(left)
        lives = self.ale.lives()
        lost, self.lives = lives < self.lives, lives
        over = self.ale.game_over(with_truncation=False) or (self.life_loss_ends and lost)
        reward = float(np.sign(earned)) if self.clip_rewards else earned
        return self._seen(), reward, bool(over), bool(self.ale.game_truncated()), {"lives": lives}

    def render(self) -> Any:
        return self.env.unwrapped.render()

    def _look(self, which: int) -> None:
        (self.ale.getScreenGrayscale if self.grey else self.ale.getScreenRGB)(self.screens[which])

    def _seen(self) -> np.ndarray:
        """Return the stack with a new frame: the brighter pixels of the last two, as games draw some things only in
        every second frame."""
        bright = self.screens[: self.skip].max(0).astype(np.float32)
        frame = self.rows @ (bright if self.grey else np.moveaxis(bright, 2, 0)) @ self.columns
        small = np.rint(frame if self.grey else np.moveaxis(frame, 0, 2)).astype(np.uint8)
        self.stack = np.concatenate([self.stack[1:], small[None]])
        return self.stack


def shares(pixels: int, size: int) -> np.ndarray:
    """Return [size, pixels]: the share, by area, of each pixel of a row in each pixel of a smaller row."""
    edges = np.linspace(0, pixels, size + 1)[:, None]
    left = np.arange(pixels)
    covered = np.minimum(edges[1:], left + 1) - np.maximum(edges[:-1], left)
    return np.asarray(covered.clip(0) * size / pixels, np.float32)


def vector_options(simulator: str, atari: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of Atari games as options of ale-py's vector environment, or of envpool's."""
    pool, training = simulator == "envpool", atari["training"]
    names = ("frame_skip", "gray_scale", "reward_clip") if pool else ("frameskip", "grayscale", "reward_clipping")
    skip, grey, clip = names
    return {
        "img_height": atari["size"], "img_width": atari["size"], "stack_num": atari["stack"], grey: atari["grey"],
        skip: atari["frame_skip"], "noop_max": atari["no_ops"], "use_fire_reset": atari["fire"],
        "repeat_action_probability": atari["sticky"], "episodic_life": training and atari["life_loss_ends"],
        clip: training and atari["clip_rewards"],
    }  # fmt: skip
