"""The errors that a person gets to read: one line that says what is wrong, where, and what to do."""

import contextlib
import difflib
import functools
import os
import re
import signal
import sys
import traceback
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TextIO


class OneLine(Exception):
    """An error whose message is one line, whatever it quotes: a stranger's file does not get to steer the terminal."""

    said: bool | None = None  # whether another process that trains with this one has said it; None: nobody has asked

    @property
    def quiet(self) -> bool:
        """Whether this process is not to say it: before they know of each other, one on each machine does."""
        return os.environ.get("LOCAL_RANK", "0") != "0" if self.said is None else self.said

    def __init__(self, message: str):
        super().__init__(printable(message))


def printable(text: str) -> str:
    """The same in one line, and without what steers a terminal."""
    return "".join(c if c.isprintable() else " " for c in text)


class UsageError(OneLine):
    """Something the user wrote is wrong; the message is one line that says what, where, and what to do."""


class SettingError(OneLine):
    """A setting is wrong: its path in the config, what is wrong, and the valid values that a mistyped one is held to.

    meant: the settings that were probably meant, by their full names.
    Whoever knows where the setting was written turns it into a UsageError with file and line.
    """

    def __init__(
        self,
        path: tuple[str, ...],
        message: str,
        valid: Iterable[str] = (),
        given: str | None = None,
        meant: Sequence[str] = (),
    ):
        super().__init__(message + (nearest(given, valid) if given is not None else ""))
        self.path = path
        self.meant = meant


class RunError(OneLine):
    """A run cannot go on; the message is one line that says why."""


WARNED: set[str] = set()  # Python forgets what it has warned of where code sets filters of its own


def say(text: str) -> None:
    """A line on standard error. Where nobody can read it any more, it is lost, and nothing else is."""
    if sys.stderr is not None:
        with contextlib.suppress(OSError, ValueError, RuntimeError):  # broken, closed, or in use as a signal comes in
            print(text, file=sys.stderr, flush=True)


def warn(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """A warning of Python's in one line, without colours, and once, in the place of `warnings.showwarning`."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", str(message)).strip()
    if (said := f"{category.__name__}: {printable(text)} ({Path(filename).name}:{lineno})") not in WARNED:
        WARNED.add(said)
        say(said)


def settle(stream: Any) -> None:
    """Flush a standard stream. What cannot be written goes nowhere: else the interpreter would try again as it ends,
    and make an error of it."""
    with contextlib.suppress(OSError, ValueError):
        try:
            if stream is not None:
                stream.flush()
        except OSError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)


def nearest(word: str, valid: Iterable[str]) -> str:
    """'; did you mean …?' with the valid words that resemble this one, or the list of them if it is short."""
    valid = sorted(valid)
    same = [each for each in valid if each.lower() == word.lower()]
    close = same or difflib.get_close_matches(word, valid, n=3, cutoff=0.5)
    if close:
        return "; did you mean " + " or ".join(close) + "?"
    return f"; valid: {', '.join(valid)}" if 0 < len(valid) <= 30 else ""


def short(text: object) -> str:
    """What is quoted of something, which may be long."""
    text = str(text)
    return text if len(text) <= 60 else f"{text[:57]}..."


def said(error: BaseException) -> str:
    """'ValueError: no such move', in one line."""
    text = " ".join(str(error).split())[:300]
    return f"{type(error).__name__}{': ' if text else ''}{text}"


def called(thing: object) -> str:
    """What an object from Python is called: 'module.Class', or 'module.function'."""
    while isinstance(thing, functools.partial):
        thing = thing.func
    named: Any = thing if hasattr(thing, "__qualname__") else type(thing)
    return f"{named.__module__}.{named.__qualname__}"


def strange(error: BaseException) -> bool:
    """Whether it is for the code of a stranger, such as an environment, to blame: all but a person's Ctrl-C, which is
    Python's own KeyboardInterrupt where nobody else handles the signal, and otherwise has its number."""
    if not isinstance(error, KeyboardInterrupt):
        return True
    return not error.args and signal.getsignal(signal.SIGINT) is not signal.default_int_handler


class Elsewhere(Exception):
    """What another process has raised: here is a class of that name, its text, and the line where it was raised."""

    place = ""


def blame(error: BaseException) -> str:
    """'ValueError: no such move (my_environment.py:31)', with the innermost line that is nobody's library."""
    return f"{said(error)} ({error.place if isinstance(error, Elsewhere) else place(error)})"


def place(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if "site-packages" not in frame.filename and frame.filename.endswith(".py")]
    where = (own or frames)[-1]
    return f"{Path(where.filename).name}:{where.lineno}"
