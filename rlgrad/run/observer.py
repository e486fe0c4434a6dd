"""The interface of every observer of a run, ours and yours."""

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
    """What is known of one update. An observer may add to it; the observers after it see that too."""

    values: dict[str, Tensor]  # by tag, [R] each; NaN for replicas that are set aside
    numbers: dict[str, float] = field(default_factory=dict)  # by tag, one number for all replicas together
    pictures: dict[str, bytes] = field(default_factory=dict)  # by tag, each a PNG or a GIF
    evaluated: bool = False  # whether this record has a held-out evaluation


class Observer:
    """Watches a run, and changes nothing in it. Derive from it and override what you need: the defaults do nothing."""

    def begin(self, run: "Following") -> None:
        """Called before the first update of a sitting."""

    def seen(self, run: "Following", update: Update, record: Record) -> None:
        """Called after each update."""

    def conclusion(self, run: "Following") -> Sequence[str]:
        """Called after the last update. Returns sentences for the summary."""
        return ()

    def end(self, run: "Following", summary: Mapping[str, Any]) -> None:
        """Called at the end of a sitting, also after a failure. summary: the content of summary.json."""

    def close(self) -> None:
        """Release resources, such as files. Called after `end`, and also if the run is left at once."""

    def state_dict(self) -> Any:
        """The state for a checkpoint: tensors, numbers, texts, lists and dicts; None: there is none."""
        return None

    def load_state_dict(self, state: Any) -> None:
        """Restore the state. Called before `begin`."""


def tell(observer: Observer, method: str, *arguments: Any) -> Any:
    """Call a method of an observer. Raises RunError, with the observer's name, if one of yours raises anything; ours
    raise OSError if the run directory cannot be written to."""
    if type(observer).__module__.startswith("rlgrad."):
        return getattr(observer, method)(*arguments)
    try:
        return getattr(observer, method)(*arguments)
    except Exception as error:
        raise RunError(f"the observer {called(observer)}: {blame(error)}") from error


def by_name(observers: Iterable[Observer]) -> dict[str, Observer]:
    """The observers by their names in a checkpoint: the class, with a number if there are several of one class."""
    result: dict[str, Observer] = {}
    for observer in observers:
        name = called(observer)
        count = sum(type(other) is type(observer) for other in result.values())
        result[f"{name} {count + 1}" if count else name] = observer
    return result


def check_observers(observers: Iterable[Observer]) -> None:
    """Raises UsageError if one is not an observer, such as a class instead of an object."""
    for each in observers:
        if not isinstance(each, Observer):
            what = "must be an object of a class that derives from rlgrad.Observer"
            raise UsageError(f"observers: {called(each)} {what}")
