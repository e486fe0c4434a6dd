"""The clock that a run's `first_solved` is read from: the seconds that somebody has waited for the run."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_IMPORTED = time.monotonic()
_began: ContextVar[float | None] = ContextVar("began", default=None)


@contextmanager
def running(since: float | None = None) -> Iterator[None]:
    """Start the clock for what is done within: now, or at an earlier moment of time.monotonic().

    A clock that runs already goes on. So a command's clock starts with its process, and the imports count; where a
    process that was there before calls `train`, it starts with the call.
    """
    moments = (_began.get(), since, time.monotonic())
    token = _began.set(next(moment for moment in moments if moment is not None))
    try:
        yield
    finally:
        _began.reset(token)


def seconds_since_start() -> float:
    """Wall seconds since the clock was started; where none runs, since this file was imported."""
    began = _began.get()
    return time.monotonic() - (_IMPORTED if began is None else began)
