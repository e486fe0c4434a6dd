"""The run directory: makes it, writes into it, and makes sure that no two runs share one."""

import contextlib
import functools
import importlib.metadata
import itertools
import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import torch

from rlgrad import files, ranks
from rlgrad.errors import UsageError
from rlgrad.notation import write
from rlgrad.run.guest import device_of
from rlgrad.settings import FollowSettings, RunSettings
from rlgrad.trainable import Trainable

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

PACKAGES = ("rlgrad", "torch", "gymnasium", "numpy", "tensorboard")
LIBRARIES = ("OMP_", "MKL_", "KMP_", "OPENBLAS_", "ONEDNN_", "DNNL_", "ATEN_", "TORCH_", "CUBLAS_")  # of variables


def claim(name: str, out: str | Path | None, here: Path = Path()) -> Path:
    """Make the directory of a new run: `out`, or runs/<name>-<number> with the first free number.

    here: the directory that relative paths start from. Raises UsageError if `out` is not empty.
    """
    try:
        if out is None:
            for number in itertools.count(1):
                with contextlib.suppress(FileExistsError):
                    directory = here / "runs" / f"{name}-{number}"
                    directory.mkdir(parents=True)  # of several processes that want one name, it fails for all but one
                    break
        else:
            directory = here / out
            directory.mkdir(parents=True, exist_ok=True)
            if any(directory.iterdir()):
                hint = "continue it with --resume, or " if (directory / "config.yaml").exists() else ""
                raise UsageError(f"--out {out}: the directory is not empty; {hint}name another")
        (directory / "config.yaml").touch(exist_ok=False)
    except OSError as error:
        raise UsageError(f"cannot make the run directory: {error}") from error
    return directory


@contextlib.contextmanager
def held(directory: Path) -> Iterator[None]:
    """Lock a run for this process. The system releases the lock when the process ends, in whatever way.

    Raises UsageError if another process has the lock. Windows, or a file system without locks, does not notice.
    """
    if fcntl is None or not ranks.here.first:
        yield
        return
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise UsageError(f"{directory}: another process is at work on this run") from error
        yield
    finally:
        os.close(descriptor)


def take(file: IO[bytes], place: int, wait: bool = False) -> bool:
    """Lock one byte of a file of locks, until `leave` or the end of the process. False: another process has it.

    place: the number of the byte. wait: whether to wait until the byte is free.
    """
    with contextlib.suppress(OSError):  # a file system without locks
        try:
            if fcntl is not None:
                fcntl.lockf(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB), 1, place)
        except (BlockingIOError, PermissionError):
            return False
    return True


def leave(file: IO[bytes], place: int) -> None:
    with contextlib.suppress(OSError):
        if fcntl is not None:
            fcntl.lockf(file, fcntl.LOCK_UN, 1, place)


def write_json(path: Path, content: Any) -> None:
    files.write(path, as_json(content))


def as_json(content: Any) -> str:
    return json.dumps(content, indent=2, allow_nan=False) + "\n"


def describe(path: Path, settings: FollowSettings, problem: Trainable, anew: bool = True) -> list[str]:
    """Write config.yaml and environment.json; return the names of the files written. Raises OSError.

    anew: whether to write both again; otherwise only missing ones.
    """
    texts: dict[str, Callable[[], str]] = {
        "config.yaml": lambda: dump(settings),
        "environment.json": lambda: as_json(environment(settings, problem)),
    }
    wanted = [name for name in texts if anew or not (path / name).exists()]
    for name in wanted:
        files.write(path / name, texts[name]())
    return wanted


def dump(settings: FollowSettings) -> str:
    """The settings as YAML that `--config` reads back."""
    return write(settings.model_dump())


def environment(settings: FollowSettings, problem: Trainable) -> dict[str, Any]:
    """The content of environment.json: what a result may depend on besides the config, and facts about the problem."""
    imports = settings.imports if isinstance(settings, RunSettings) else ()
    return {
        "command": sys.argv,
        "seed": settings.seed,
        "commit": commit(),
        "python": platform.python_version(),
        "packages": {name: version(name) for name in PACKAGES},
        "imports": {name: files.digest_of(name) for name in imports},
        "machine": {"system": platform.platform(), "processor": processor(), "cores": os.cpu_count()},
        "threads": torch.get_num_threads(),
        "arithmetic": arithmetic() | device(problem),
        "facts": dict(problem.facts),
        "headline": list(problem.headline),
        "judged": problem.judged and [problem.judged[0], problem.judged[1].name.lower()],
        "by_chance": problem.by_chance,
    }


def arithmetic() -> dict[str, Any]:
    """What the last bits of a result depend on, besides the versions of the packages."""
    processes = ranks.here.size
    blas = re.search(r"BLAS_INFO=(\w+)", torch.__config__.show())
    return {
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "blas": blas.group(1) if blas else None,
        "mkldnn": torch.backends.mkldnn.is_available(),  # type: ignore[no-untyped-call]
        "float32_matmul_precision": torch.get_float32_matmul_precision(),
        "variables": {name: os.environ[name] for name in sorted(os.environ) if of_arithmetic(name)},
        **({"processes": processes} if processes > 1 else {}),
    }


def device(problem: Trainable) -> dict[str, str]:
    """Return the name of the GPU, if the problem is on one."""
    where = device_of(problem)
    return {"device": torch.cuda.get_device_name(where)} if where.type == "cuda" else {}


def of_arithmetic(variable: str) -> bool:
    """Whether an environment variable can change the arithmetic. TORCH_NCCL_..., which torchrun sets, cannot."""
    return variable.startswith(LIBRARIES) and not variable.startswith("TORCH_NCCL_")


def processor() -> str:
    """The model of the processor if the system tells it, and otherwise its architecture."""
    with contextlib.suppress(OSError), open("/proc/cpuinfo") as file:
        for line in file:
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()


def otherwise(recorded: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """The differences between two environments that may change bits: 'packages.torch: 2.12.0 -> 2.13.0'."""
    parts = [part for part in ("python", "packages", "imports", "machine", "arithmetic", "facts") if part in recorded]
    a, b = (dotted({part: one.get(part) for part in parts}) for one in (recorded, now))
    a.pop("facts.workers", None), b.pop("facts.workers", None)  # the number of workers changes no bit
    return [f"{key}: {a.get(key)} -> {b.get(key)}" for key in sorted(a.keys() | b.keys()) if a.get(key) != b.get(key)]


@functools.cache
def version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


@functools.cache
def commit() -> str | None:
    """The commit of the checkout that this package is run from, if any; with '-dirty' if files have changed."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        here = Path(__file__).parent
        found = subprocess.run(command, cwd=here, capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return found.stdout.strip() or None


def dotted(nested: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"optimizer": {"lr": 1}} -> {"optimizer.lr": 1}."""
    result: dict[str, Any] = {}
    for key, value in nested.items():
        result |= dotted(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return result


def split_arguments(overrides: Mapping[str, Any], **given: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Split a call's arguments into settings, by dotted names, and Python objects given instead of settings.

    given: either of the two; a text or a mapping is a setting."""
    settings = {name: thing for name, thing in given.items() if isinstance(thing, str | Mapping)}
    return dotted({**settings, **overrides}), {name: given[name] for name in given.keys() - settings.keys()}
