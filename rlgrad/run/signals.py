"""Interruptions: a run finishes its update before it ends."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def interruptions() -> Iterator[list[int]]:
    """Collects SIGINT and SIGTERM for whoever looks after each update; a second signal raises KeyboardInterrupt."""
    received: list[int] = []

    def handle(number: int, frame: Any) -> None:
        received.append(number)
        if len(received) > 1:
            raise KeyboardInterrupt(number)
        print("\ninterrupted: finishing this update (again to leave at once)", file=sys.stderr, flush=True)

    if threading.current_thread() is not threading.main_thread():  # only the main thread gets signals
        yield received
        return
    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def silence(stream: Any) -> None:
    """Let what is written to a stream from here on, and what is still in its buffer, go nowhere."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)
