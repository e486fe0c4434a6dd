"""What is installed, what runs will use, and advice on what could be better."""

import importlib.metadata
import importlib.util
import os
import platform
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

PACKAGES = ("rlgrad", "torch", "gymnasium", "numpy", "tensorboard", "pydantic", "scikit-learn", "matplotlib")
EXTRAS = {  # by extra: a module that it installs, and its purpose
    "atari": ("ale_py", "Atari games"),
    "box2d": ("Box2D", "LunarLander, BipedalWalker"),
    "mujoco": ("mujoco", "Hopper, HalfCheetah and other robots"),
    "envpool": ("envpool", "environments stepped in C++"),
    "formula": ("formulaic", "formulas for tables, as in R"),
    "play": ("pygame", "films and windows of a trained policy"),
    "sweep": ("optuna", "rlgrad search"),
    "export": ("onnx", "models for other programs"),
}


def findings() -> Iterator[str]:
    """Yield the lines to print. Advice has an arrow before it."""
    yield line("python", f"{platform.python_version()}  {sys.executable}")
    for name in PACKAGES:
        yield line(name, version(name) or "not installed")
    for extra, (module, purpose) in EXTRAS.items():
        missing = importlib.util.find_spec(module) is None
        yield line(extra, f"{'not ' * missing}installed: {purpose}", f"pip install 'rlgrad[{extra}]'" * missing)
    yield from machine()
    free = shutil.disk_usage(Path()).free / 1e9
    yield line("disk", f"{free:.0f} GB free here", "make room: a run that cannot write fails" if free < 1 else "")
    if not os.access(Path(), os.W_OK):
        yield line("directory", "this one cannot be written to", "go to another, or give --out")


def machine() -> Iterator[str]:
    """Yield the lines about the machine: cores, processor, device and threads."""
    import torch

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    yield line("cores", f"{cores}; a run takes one thread unless `threads` says more")
    yield line("processor", torch.backends.cpu.get_cpu_capability())
    if torch.cuda.is_available():
        names = (f"cuda:{n} {torch.cuda.get_device_name(n)}" for n in range(torch.cuda.device_count()))
        advice = "--device cuda trains there, which pays for large networks and data"
        yield line("device", f"CPU, {', '.join(names)}", advice)
    elif torch.version.cuda:
        yield line("device", "CPU, and a torch that was built for CUDA", "the CPU build of torch is smaller")
    else:
        yield line("device", "CPU")
    if threads := os.environ.get("OMP_NUM_THREADS"):
        yield line("threads", f"OMP_NUM_THREADS is {threads}; a run sets its own number")


def line(name: str, found: str, advice: str = "") -> str:
    return f"{name:13} {found}" + (f"\n{'':13} -> {advice}" if advice else "")


def version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
