"""A run is a guest in somebody's process: it leaves threads and the working directory as they were."""

import contextlib
import functools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import threadpoolctl
import torch


@contextmanager
def threads(count: int) -> Iterator[None]:
    """So many threads for torch; one for numpy's products, whose other threads would only spin beside torch's."""
    here = os.getcwd()
    before = torch.get_num_threads(), [library.num_threads for library in numpy_libraries()]
    set_threads(count, [1] * len(before[1]))
    try:
        yield
    finally:
        set_threads(*before)
        with contextlib.suppress(OSError):  # it may be gone
            os.chdir(here)  # an environment may have left it


def set_threads(torch_s: int, numpy_s: list[int]) -> None:
    torch.set_num_threads(torch_s)
    for library, count in zip(numpy_libraries(), numpy_s, strict=True):
        if library.num_threads != count:  # OpenBLAS would start its threads anew
            library.set_num_threads(count)


@functools.cache
def numpy_libraries() -> list[Any]:
    """The libraries of numpy's products: looking for them takes a moment."""
    found = threadpoolctl.ThreadpoolController().lib_controllers
    return [library for library in found if library.user_api == "blas" and "torch" not in library.filepath]
