"""Snapshots of a policy, taken in memory while a contestant trains, and played by play.py after its end.

So no contestant's time includes evaluation. The seconds count from the start of the process, including imports.
"""

import os
import time
from collections.abc import Callable, Sequence

import numpy as np

Layers = Sequence[tuple[np.ndarray, np.ndarray]]  # weight [out, in] and bias [out] of each, from the first to the last


def seconds_since_start() -> float:
    """Wall seconds since the system started this process, to 10 ms."""
    with open("/proc/self/stat") as file:
        ticks = int(file.read().rpartition(")")[2].split()[19])  # field 22, counted from the end of the command's name
    return time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")


class Snapshots:
    """every: environment steps between snapshots; 0: one at every call of `offer`."""

    def __init__(self, every: int = 1000):
        self.every, self.next = every, 0
        self.rows: list[tuple[int, float, Layers]] = []

    def offer(self, steps: int, layers: Callable[[], Layers], last: bool = False) -> None:
        """Take a snapshot if it is due. layers: a function that copies the policy's present layers."""
        if steps >= self.next or last:
            self.rows.append((int(steps), seconds_since_start(), layers()))
            self.next = steps + self.every

    def save(self, file: str, activation: str) -> None:
        steps, seconds, layers = zip(*sorted(self.rows, key=lambda row: row[0]), strict=True)
        arrays = {"steps": np.array(steps), "seconds": np.array(seconds), "activation": np.array(activation)}
        for number, snapshots in enumerate(zip(*layers, strict=True)):  # of one layer
            for name, kept in zip(("weight", "bias"), zip(*snapshots, strict=True), strict=True):
                arrays[f"{name}{number}"] = np.stack(kept)
        np.savez(file, **arrays)


def linear_layers(module: object) -> Layers:
    """Copies of the Linear layers of a torch module, in order."""
    import torch

    found = [layer for layer in module.modules() if isinstance(layer, torch.nn.Linear)]  # type: ignore[attr-defined]
    return [(layer.weight.detach().numpy().copy(), layer.bias.detach().numpy().copy()) for layer in found]
