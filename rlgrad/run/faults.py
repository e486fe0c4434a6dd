"""What goes wrong in a problem's own code, above all in its environments: a clear line instead of a traceback."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from rlgrad.errors import RunError, blame, strange

Answer = TypeVar("Answer")


def attempt(call: Callable[[], Answer], seconds: float | None = None) -> Answer:
    """What `call` returns. Whatever it raises becomes a RunError of one line, and so does a silence that is longer than
    `seconds`, be it that of an environment or of a process that an environment waits for."""
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
    """Raises RunError in the body where it takes longer.

    It works in the main thread of systems with SIGALRM, and between two instructions of Python: code that hangs inside
    a C function without ever returning is out of its reach.
    """
    if seconds is None or not hasattr(signal, "SIGALRM") or threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(number: int, frame: Any) -> None:
        while frame:
            if frame.f_code.co_filename.startswith("<frozen importlib"):  # nobody wants half a module
                signal.setitimer(signal.ITIMER_REAL, seconds, 1.0)  # nor to be blamed for what was not there yet
                return
            frame = frame.f_back
        raise RunError(f"it takes longer than {seconds:g} s, the `update_seconds_limit`; does the environment hang?")

    before = signal.signal(signal.SIGALRM, handle)
    signal.setitimer(signal.ITIMER_REAL, seconds, 1.0)  # again every second, in case somebody swallows the error
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
