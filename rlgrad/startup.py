"""Saves time at the start of a process, before its first update."""

import gc
import importlib
import sys
from types import ModuleType
from typing import Any


class Dynamo(ModuleType):
    """Replaces `torch._dynamo`, torch's compiler, until code uses more of it than torch.optim does.

    Every optimizer imports the compiler (which takes about as long as `import torch` itself) to tell it two things: not
    to trace some methods, and to break its graph around a step. If nothing is compiled, neither has any effect, so both
    do nothing here. Any other use imports the real module.
    """

    def graph_break(self) -> None:
        return None

    def disable(self, function: Any, recursive: bool = True, **options: Any) -> Any:
        return function

    def __getattr__(self, name: str) -> Any:
        if name in ("__spec__", "__file__"):  # the import system reads these; that is not a use of the module
            raise AttributeError(name)
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        return getattr(importlib.import_module(self.__name__), name)


def import_torch(own: bool = True) -> None:
    """Import torch without its compiler, and without garbage collection: it makes some hundred thousand objects that
    all stay, so the search is wasted time. own: whether the process is ours; then later collections skip these objects
    too."""
    if "torch" not in sys.modules:
        collecting = gc.isenabled()
        gc.disable()
        import torch  # noqa: F401

        if own:
            gc.freeze()
        if collecting:
            gc.enable()
    sys.modules.setdefault("torch._dynamo", Dynamo("torch._dynamo"))
