"""What the tests of several processes run under torchrun: python ranked.py JOBS, a file of configs by run directory."""

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces

from rlgrad import train
from rlgrad.errors import UsageError


class Blinking(gymnasium.Env):
    """Four steps of a picture that is bright or dark; it pays to say which. Beside it stands the number of the step."""

    observation_space = spaces.Dict({"picture": spaces.Box(0, 255, (10, 10, 1), np.uint8), "t": spaces.Box(0, 4)})
    action_space = spaces.Discrete(2)

    def seen(self) -> dict[str, np.ndarray]:
        self.bright = int(self.np_random.integers(2))
        picture = np.full((10, 10, 1), 40 + 150 * self.bright, np.uint8)
        return {"picture": picture, "t": np.array([self.t], np.float32)}

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.t = 0
        return self.seen(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        reward, self.t = float(action == self.bright), self.t + 1
        return self.seen(), reward, self.t == 4, False, {}


class Deadly(Blinking):
    """In the first attempt, the second of several processes is killed after some episodes."""

    episodes = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        Deadly.episodes += 1
        if Deadly.episodes > 30 and (os.environ.get("RANK"), os.environ["TORCHELASTIC_RESTART_COUNT"]) == ("1", "0"):
            os.kill(os.getpid(), signal.SIGKILL)
        return super().reset(seed=seed)


def work(config: dict[str, Any], out: str | Path) -> None:
    """Train as a config says; where its environment is None, with the one above, and where its seed is, with another in
    each process."""
    blinking = config.get("environment", "") is None
    changes: dict[str, Any] = {"environment": "-"} if blinking else {}
    changes |= {"seed": int(os.environ["RANK"])} if config.get("seed", 0) is None else {}
    train({**config, **changes}, out=out, environment=Blinking if blinking else None)


def work_through(jobs: str) -> None:
    """Do them one after the other; what is refused is said in a file."""
    for out, config in json.loads(Path(jobs).read_text()).items():
        try:
            work(config, out)
        except UsageError as error:
            with open(f"{out}.txt", "a") as file:
                file.write(f"{error}\n")


if __name__ == "__main__":
    torch.set_default_dtype(torch.float64)
    work_through(sys.argv[1])
