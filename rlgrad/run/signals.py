"""Signals: a run finishes its update before it ends, or before it is saved."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rlgrad import ranks
from rlgrad.errors import say
from rlgrad.usage import too_early

URGENT = (signal.SIGINT, signal.SIGTERM)  # they end a run; a second one ends it at once
UNLESS_TAKEN = ("SIGHUP", "SIGUSR1")  # SIGHUP ends a run and SIGUSR1 saves it, unless other code handles them


@contextmanager
def received() -> Iterator[tuple[list[int], list[int]]]:
    """Collect the signals that ask for the end of the run, and those that ask for a checkpoint, in two lists that are
    read after each update. A second SIGINT or SIGTERM raises KeyboardInterrupt with its number."""
    ends: list[int] = []
    saves: list[int] = []

    def handle(number: int, frame: Any) -> None:
        if number in URGENT and any(earlier in URGENT for earlier in ends):
            raise KeyboardInterrupt(number)
        if signal.Signals(number).name == "SIGUSR1":
            saves.append(number)
            announce("\nsaving after this update")
        else:
            ends.append(number)
            announce("\ninterrupted: finishing this update (again to leave at once)")

    def announce(text: str) -> None:
        if ranks.here.first:
            say(text)

    if threading.current_thread() is not threading.main_thread():  # only the main thread gets signals
        yield ends, saves
        return
    free = [vars(signal)[name] for name in UNLESS_TAKEN if name in vars(signal)]
    # a signal with another handler is left alone: under nohup SIGHUP is ignored
    free = [number for number in free if signal.getsignal(number) in (signal.SIG_DFL, too_early)]
    before = {number: signal.signal(number, handle) for number in (*URGENT, *free)}
    try:
        yield ends, saves
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
