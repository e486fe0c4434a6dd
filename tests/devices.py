"""A device that is none: tensors on `meta` that hold their numbers on the CPU, and refuse to meet a tensor of the CPU.

So a machine without a GPU finds what would go wrong on one: a tensor that was made on the wrong device, numpy's view of
a memory that it cannot see.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_map

DEVICE = torch.device("meta")
CROSSING = {"aten::copy_", "aten::_to_copy", "aten::index.Tensor", "aten::index_put_", "aten::_index_put_impl_"}


class Pretended(torch.Tensor):
    """A tensor of that device."""

    inner: torch.Tensor

    @staticmethod
    def __new__(cls, inner: torch.Tensor) -> "Pretended":
        shape = {"strides": inner.stride(), "storage_offset": inner.storage_offset()}
        made = torch.Tensor._make_wrapper_subclass(cls, inner.shape, dtype=inner.dtype, device=DEVICE, **shape)
        made.inner = inner
        return made

    def numpy(self, *, force: bool = False) -> Any:
        if not force:
            raise TypeError("numpy sees no memory but the CPU's")
        return self.detach().cpu().numpy()

    def __format__(self, spec: str) -> str:
        return format(self.cpu(), spec)

    def tolist(self) -> Any:
        return self.detach().cpu().tolist()

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return computed(func, args, kwargs or {})


def computed(func: Any, args: Any, kwargs: Any) -> Any:
    """What comes of an operation, on the device of its arguments, or on the one that it names."""
    met: list[torch.Tensor] = []
    plain_args, plain_kwargs = within(args, met), {name: within(each, met) for name, each in kwargs.items()}
    theirs = any(type(each) is Pretended for each in met)
    named = kwargs.get("device")
    there = torch.device(named).type == DEVICE.type if named is not None else theirs
    if theirs and func.name() not in CROSSING:
        strangers = [tuple(each.shape) for each in met if type(each) is not Pretended and each.dim()]
        if strangers:
            raise RuntimeError(f"{func} of tensors on two devices: {strangers} on the CPU")
    if named is not None:
        plain_kwargs["device"] = torch.device("cpu")
    found = func(*plain_args, **plain_kwargs)
    if not there:
        return found
    wrapped = tree_map(lambda x: Pretended(x) if isinstance(x, torch.Tensor) else x, found)
    return return_and_correct_aliasing(func, args, kwargs, wrapped) if theirs else wrapped


def within(x: Any, met: list[torch.Tensor]) -> Any:
    """The same with what the CPU has of it. met: gets the tensors."""
    if isinstance(x, torch.Tensor):
        met.append(x)
        return x.inner if type(x) is Pretended else x
    return type(x)(within(each, met) for each in x) if type(x) in (list, tuple) else x


class Pretending(TorchDispatchMode):
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return computed(func, args, kwargs or {})


class Filling(TorchFunctionMode):
    """torch would give a tensor on `meta` no numbers."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in (torch.tensor, torch.as_tensor, torch.asarray) and "device" not in (kwargs or {}):
            return func(*args, **(kwargs or {}), device="cpu").to(DEVICE)
        return func(*args, **(kwargs or {}))


@contextmanager
def pretended() -> Iterator[None]:
    """Everything is made on that device."""
    torch.__future__.set_overwrite_module_params_on_conversion(True)  # torch would convert numbers that it does not see
    try:
        with Pretending(), DEVICE, Filling():
            yield
    finally:
        torch.__future__.set_overwrite_module_params_on_conversion(False)
