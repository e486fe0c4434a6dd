"""A run is a guest in somebody's process: it leaves threads and the working directory as they were."""

import contextlib
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import threadpoolctl
import torch


@contextmanager
def threads(count: int) -> Iterator[None]:
    """So many threads for torch; one for numpy's products, whose other threads would only spin beside torch's."""
    here = os.getcwd()
    libraries = numpy_libraries()
    before = torch.get_num_threads(), {library: library.num_threads for library in libraries}
    set_threads(count, dict.fromkeys(libraries, 1))
    try:
        yield
    finally:
        set_threads(*before)
        with contextlib.suppress(OSError):  # it may be gone
            os.chdir(here)  # an environment may have left it


def set_threads(torch_s: int, numpy_s: Mapping[Any, int]) -> None:
    torch.set_num_threads(torch_s)
    for library, count in numpy_s.items():
        if library.num_threads != count:  # OpenBLAS would start its threads anew
            library.set_num_threads(count)


def numpy_libraries() -> list[Any]:
    """The libraries of numpy's products that have been loaded by now; others, such as scipy's own, may come later."""
    found = threadpoolctl.ThreadpoolController().lib_controllers
    return [library for library in found if library.user_api == "blas" and "torch" not in library.filepath]
