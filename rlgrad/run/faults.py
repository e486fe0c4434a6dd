"""Turns errors in a problem's own code, above all in its environments, into one clear line instead of a traceback."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from rlgrad.errors import RunError, blame, strange

Answer = TypeVar("Answer")


def attempt(call: Callable[[], Answer], seconds: float | None = None) -> Answer:
    """Return what `call` returns. Raises RunError with one line if `call` raises anything or takes more than `seconds`,
    for example because an environment, or a process that it waits for, hangs."""
    try:
        with limited(seconds):
            return call()
    except RunError:
        raise
    except BaseException as error:  # an environment may raise anything
        if not strange(error):
            raise
        raise RunError(blame(error)) from error


@contextmanager
def limited(seconds: float | None) -> Iterator[None]:
    """Raise RunError in the body of a `with` if it takes longer than `seconds`.

    This works in the main thread of systems with SIGALRM, and between two instructions of Python: it cannot stop code
    that hangs inside a C function.
    """
    if seconds is None or not hasattr(signal, "SIGALRM") or threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(number: int, frame: Any) -> None:
        while frame:
            if frame.f_code.co_filename.startswith("<frozen importlib"):  # do not interrupt an import in the middle
                signal.setitimer(signal.ITIMER_REAL, seconds, 1.0)  # and do not count its time
                return
            frame = frame.f_back
        raise RunError(f"it takes longer than {seconds:g} s, the `update_seconds_limit`; does the environment hang?")

    before = signal.signal(signal.SIGALRM, handle)
    signal.setitimer(signal.ITIMER_REAL, seconds, 1.0)  # again every second, in case other code catches the error
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
