"""Signals: a run finishes its update before it ends, or before it is saved."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rlgrad import ranks
from rlgrad.errors import say
from rlgrad.usage import too_early

URGENT = (signal.SIGINT, signal.SIGTERM)  # they end a run; a second one of them does so at once
UNLESS_TAKEN = ("SIGHUP", "SIGUSR1")  # they end and save it, where a system has them and nobody else has a use for them


@contextmanager
def received() -> Iterator[tuple[list[int], list[int]]]:
    """Collects the signals that ask for the end of the run, and those that ask for a checkpoint, for whoever looks
    after each update. A second SIGINT or SIGTERM raises KeyboardInterrupt with its number."""
    ends: list[int] = []
    saves: list[int] = []

    def handle(number: int, frame: Any) -> None:
        if number in URGENT and any(earlier in URGENT for earlier in ends):
            raise KeyboardInterrupt(number)
        if signal.Signals(number).name == "SIGUSR1":
            saves.append(number)
            told("\nsaving after this update")
        else:
            ends.append(number)
            told("\ninterrupted: finishing this update (again to leave at once)")

    def told(text: str) -> None:
        if ranks.here.first:
            say(text)

    if threading.current_thread() is not threading.main_thread():  # only the main thread gets signals
        yield ends, saves
        return
    free = [vars(signal)[name] for name in UNLESS_TAKEN if name in vars(signal)]
    free = [number for number in free if signal.getsignal(number) in (signal.SIG_DFL, too_early)]  # as not under nohup
    before = {number: signal.signal(number, handle) for number in (*URGENT, *free)}
    try:
        yield ends, saves
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
