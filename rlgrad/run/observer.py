"""What watches a run: the interface of every observer, ours and yours."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from torch import Tensor

from rlgrad.errors import RunError, UsageError, blame, called
from rlgrad.loop import Update

if TYPE_CHECKING:
    from rlgrad.run.following import Following


@dataclass
class Record:
    """What is known of an update. An observer may add to it what those after it are to see."""

    values: dict[str, Tensor]  # by tag, [R] each; NaN for replicas that are set aside
    numbers: dict[str, float] = field(default_factory=dict)  # by tag, of all replicas together
    pictures: dict[str, bytes] = field(default_factory=dict)  # by tag, each a PNG or a GIF
    evaluated: bool = False  # whether held-out data was looked at


class Observer:
    """Watches a run, and changes nothing in it. Derive from it and say what there is to do: the defaults do nothing."""

    def begin(self, run: "Following") -> None:
        """Before the first update of a sitting."""

    def seen(self, run: "Following", update: Update, record: Record) -> None:
        """After each update."""

    def conclusion(self, run: "Following") -> Sequence[str]:
        """What it has to say after the last update, in sentences, for the summary."""
        return ()

    def end(self, run: "Following", summary: Mapping[str, Any]) -> None:
        """At the end, however it came about: `summary` is the content of summary.json."""

    def close(self) -> None:
        """Let go of what is held, such as files: after `end`, and also where a run is left at once."""

    def state_dict(self) -> Any:
        """What a checkpoint is to hold of it: tensors, numbers, texts, lists and dicts; None: nothing."""
        return None

    def load_state_dict(self, state: Any) -> None:
        """Go on from there; called before `begin`."""


def tell(observer: Observer, method: str, *arguments: Any) -> Any:
    """Call a method of an observer. Whatever one of yours raises becomes a RunError that names it; ours raise OSError
    where the run directory cannot be written to."""
    if type(observer).__module__.startswith("rlgrad."):
        return getattr(observer, method)(*arguments)
    try:
        return getattr(observer, method)(*arguments)
    except Exception as error:
        raise RunError(f"the observer {called(observer)}: {blame(error)}") from error


def by_name(observers: Iterable[Observer]) -> dict[str, Observer]:
    """Each by the name that a checkpoint has it under: its class, and its number where there are several of one."""
    result: dict[str, Observer] = {}
    for observer in observers:
        name = called(observer)
        count = sum(type(other) is type(observer) for other in result.values())
        result[f"{name} {count + 1}" if count else name] = observer
    return result


def observed(observers: Iterable[Observer]) -> None:
    """Raises UsageError where one is no observer, such as a class in the place of an object."""
    for each in observers:
        if not isinstance(each, Observer):
            raise UsageError(
                f"observers: {called(each)} must be an object of a class that derives from rlgrad.Observer"
            )
