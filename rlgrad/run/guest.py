"""A run is a guest in the user's process: it leaves the threads, the default device and the working directory as
they were."""

import contextlib
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import threadpoolctl
import torch

from rlgrad.trainable import Trainable


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Give torch `count` threads, and numpy's matrix products one, since more would only compete with torch's."""
    here = os.getcwd()
    libraries = numpy_libraries()
    before = torch.get_num_threads(), {library: library.num_threads for library in libraries}
    set_threads(count, dict.fromkeys(libraries, 1))
    try:
        yield
    finally:
        set_threads(*before)
        with contextlib.suppress(OSError):  # the directory may not exist any more
            os.chdir(here)  # an environment may have changed the working directory


@contextmanager
def on(device: torch.device) -> Iterator[None]:
    """Make this the default device for new tensors: `torch.as_tensor` copies a numpy array to it, and
    `tensor.numpy(force=True)` copies it back. A GPU computes in full precision, and repeats its bits. For the CPU this
    does nothing."""
    if device.type == "cpu":
        yield
        return
    exact = torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False)
    with torch.cuda.device(device), exact, device:
        yield


def device_of(problem: Trainable) -> torch.device:
    """Return the device of the problem's parameters."""
    return next((parameter.device for parameter in problem.model.parameters()), torch.device("cpu"))


def set_threads(torch_s: int, numpy_s: Mapping[Any, int]) -> None:
    torch.set_num_threads(torch_s)
    for library, count in numpy_s.items():
        if library.num_threads != count:  # setting the same number would make OpenBLAS restart its threads
            library.set_num_threads(count)


def numpy_libraries() -> list[Any]:
    """The libraries for numpy's products that are loaded now; others, such as scipy's, may be loaded later."""
    found = threadpoolctl.ThreadpoolController().lib_controllers
    return [library for library in found if library.user_api == "blas" and "torch" not in library.filepath]
