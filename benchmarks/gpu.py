"""An update on the CPU, with one thread and with all cores, beside one on a GPU: small agents, classifiers of a million
examples, and agents that learn from pictures. It works without a GPU, too, and then has one column less.

    python benchmarks/gpu.py [--write] [--rows N]

The seconds are those of the bare loop, without a log or evaluations, after two updates that warm up. Pictures are of
random pixels, so that the time is that of the networks.
"""

import argparse
import os
import statistics
import time
from typing import Any

import gymnasium
import harness
import numpy as np
import torch
from gymnasium import spaces

from rlgrad import distributed, updates
from rlgrad.config import Built, load_config
from rlgrad.named import build_optimizer
from rlgrad.problems.classifier import Classifier
from rlgrad.problems.logistic import Logistic
from rlgrad.run import guest

NAMES = {
    "cartpole": "CartPole, 10 agents of 64 units",
    "wide": "CartPole, one agent of 2 x 2048 units",
    "newton": "logistic regression by Newton's method, {rows:,} x 100",
    "network": "classifier with 256 hidden units by Adam, {rows:,} x 100",
    "a2c": "A2C from 84 x 84 x 4 pixels, 8 x 128 steps",
    "ppo": "PPO from 84 x 84 x 4 pixels, 8 x 128 steps, 3 epochs of 4 minibatches",
}


class Pictures(gymnasium.Env[Any, Any]):
    """Episodes of 200 random pictures."""

    observation_space = spaces.Box(0, 255, (84, 84, 4), np.uint8)
    action_space = spaces.Discrete(6)
    shown = np.random.default_rng(0).integers(0, 256, (64, 84, 84, 4), np.uint8)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.t = 0
        return self.shown[0], {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.t += 1
        return self.shown[self.t % 64], float(action == self.t % 6), self.t == 200, False, {}


def agent(name: str) -> Built:
    """One that plays."""
    if name == "cartpole":
        return load_config("cartpole", {"replicas": 10}).build()
    if name == "wide":
        return load_config("cartpole", {"replicas": 1, "policy.hidden": [2048, 2048]}).build()
    told: dict[str, Any] = {"atari": False, "workers": 0}
    if name == "ppo":
        told |= {"problem": "ppo", "epochs": 3, "minibatches": 4}
    return load_config("pong", told, objects={"environment": Pictures}).build()


def classifier(name: str, rows: int) -> Built:
    """One that learns from a million random examples."""
    newton = {"problem": "logistic", "l2": 1e-6, "optimizer": {"name": "Newton", "max_iter": 1}}
    adam = {"problem": "classifier", "hidden": [256], "optimizer": {"name": "Adam", "lr": 1e-3}}
    own = newton if name == "newton" else adam
    settings: Any = load_config({"data": "breast_cancer", "updates": 9, **own}).settings
    rng = np.random.default_rng(0)
    x = rng.standard_normal((rows, 100), np.float32)
    y = (x[:, :10].sum(1) + rng.logistic(size=rows) > 0).astype(np.float32)
    dataset = settings.dataset()._replace(x=torch.as_tensor(x), y=torch.as_tensor(y))
    problem = (Logistic if name == "newton" else Classifier)(settings, dataset)
    return Built(problem, build_optimizer(settings, problem), None)


def seconds(name: str, device: str, threads: int, rows: int) -> list[float]:
    """Of each of some updates."""
    found: list[float] = []
    wait = torch.cuda.synchronize if device == "cuda" else lambda: None
    with guest.on(distributed.place(device)), guest.threads(threads):
        problem, optimizer, _ = classifier(name, rows) if name in ("newton", "network") else agent(name)
        stream, began = updates(problem, optimizer), time.perf_counter()
        while len(found) < 5 or (time.perf_counter() - began < 3 and len(found) < 100):
            start = time.perf_counter()
            next(stream)
            wait()
            found.append(time.perf_counter() - start)
        problem.close()
    return found[2:]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--write", action="store_true", help="into docs/scaling.md")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--only", nargs="*", choices=NAMES, default=list(NAMES))
    options = parser.parse_args()
    cores = os.cpu_count() or 1
    ways = {"CPU, one thread": ("cpu", 1), f"CPU, {cores} threads": ("cpu", cores)}
    if torch.cuda.is_available():
        ways[torch.cuda.get_device_name()] = ("cuda", 1)
    rows = []
    for name in options.only:
        each = [statistics.median(seconds(name, *way, options.rows)) for way in ways.values()]
        rows.append([NAMES[name].format(rows=options.rows), *(f"{value:.3g}" for value in each)])
        harness.say("  ".join(rows[-1]))
    text = harness.table(["seconds an update", *ways], rows)
    text += f"\n\n{harness.machine()}; PyTorch {torch.__version__}.\n"
    print(text)
    if options.write:
        harness.write("gpu", text, harness.ROOT / "docs" / "scaling.md")


if __name__ == "__main__":
    main()
