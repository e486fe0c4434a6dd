"""What a process of ours need not pay for before its first update."""

import importlib
import sys
from types import ModuleType
from typing import Any


class Dynamo(ModuleType):
    """Stands in for `torch._dynamo`, torch's compiler, until somebody wants more of it than torch.optim does.

    Every optimizer imports the compiler (about as long as `import torch` itself) to tell it two things: not to trace
    some methods, and to break its graph around a step. Where nothing is compiled neither has any effect, so this
    answers them with nothing. Anything else that is asked of it brings in the real module.
    """

    def graph_break(self) -> None:
        return None

    def disable(self, function: Any, recursive: bool = True, **options: Any) -> Any:
        return function

    def __getattr__(self, name: str) -> Any:
        if name in ("__spec__", "__file__"):  # what the import system looks at on the way; not a use of the module
            raise AttributeError(name)
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        return getattr(importlib.import_module(self.__name__), name)


def spare_dynamo() -> None:
    """Put the stand-in where the compiler would be, unless the compiler is there already."""
    sys.modules.setdefault("torch._dynamo", Dynamo("torch._dynamo"))
