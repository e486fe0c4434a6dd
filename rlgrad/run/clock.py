"""The clock for a run's `first_solved`: the seconds that a user has waited for the run."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_IMPORTED = time.monotonic()
_began: ContextVar[float | None] = ContextVar("began", default=None)


@contextmanager
def running(since: float | None = None) -> Iterator[None]:
    """Start the clock for the body of a `with`: now, or at an earlier moment of time.monotonic().

    A clock that runs already is not restarted. So the clock of a command starts with its process and includes imports;
    the clock of a call of `train` in Python starts with the call.
    """
    moments = (_began.get(), since, time.monotonic())
    token = _began.set(next(moment for moment in moments if moment is not None))
    try:
        yield
    finally:
        _began.reset(token)


def seconds_since_start() -> float:
    """Wall seconds since the clock was started; if no clock runs, since this file was imported."""
    began = _began.get()
    return time.monotonic() - (_IMPORTED if began is None else began)
