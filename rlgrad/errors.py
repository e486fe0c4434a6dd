"""The errors that a user reads: one line that says what is wrong, where, and what to do."""

import contextlib
import difflib
import functools
import os
import re
import signal
import sys
import threading
import traceback
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn, TextIO


class OneLine(Exception):
    """An error with a one-line message. Quoted text, such as that of a file, cannot control the terminal."""

    said: bool | None = None  # whether another process of this run has printed it; None: not yet known

    @property
    def quiet(self) -> bool:
        """Whether this process must not print it. While that is not known, one process on each machine prints it."""
        return os.environ.get("LOCAL_RANK", "0") != "0" if self.said is None else self.said

    def __init__(self, message: str):
        super().__init__(printable(message))


def printable(text: str) -> str:
    """The text in one line, without characters that control a terminal."""
    return "".join(c if c.isprintable() else " " for c in text)


class UsageError(OneLine):
    """Something the user wrote is wrong; the message is one line that says what, where, and what to do."""


class SettingError(OneLine):
    """A setting is wrong. path: its path in the config. message: what is wrong with it.

    valid: the valid values; the one most like `given` is suggested. meant: the full names of the settings that were
    probably meant. Code that knows where the setting was written turns this into a UsageError with file and line.
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


WARNED: set[str] = set()  # the warnings shown so far: Python forgets its own list when code changes the filters


def say(text: str) -> None:
    """Print a line on standard error. If that stream is broken, only the line is lost and no error is raised."""
    if sys.stderr is not None:
        with contextlib.suppress(OSError, ValueError, RuntimeError):  # broken, closed, or in use when a signal arrives
            print(text, file=sys.stderr, flush=True)


def warn(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Show a Python warning once, in one line without colours. It replaces `warnings.showwarning`."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", str(message)).strip()
    say_once(f"{category.__name__}: {printable(text)} ({Path(filename).name}:{lineno})")


def say_once(text: str) -> None:
    """Print a line on standard error, if this process has not printed it yet."""
    if text not in WARNED:
        WARNED.add(text)
        say(text)


def settle(stream: Any) -> None:
    """Flush a standard stream. If it cannot be written, send the rest to the null device: otherwise the interpreter
    would try again at its end, and report an error."""
    with contextlib.suppress(OSError, ValueError):
        try:
            if stream is not None:
                stream.flush()
        except OSError:
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, stream.fileno())
            os.close(null)


def nearest(word: str, valid: Iterable[str]) -> str:
    """'; did you mean …?' with the valid words most like this one, or else the list of all valid words, if short."""
    valid = sorted(valid)
    same = [each for each in valid if each.lower() == word.lower()]
    close = same or difflib.get_close_matches(word, valid, n=3, cutoff=0.5)
    if close:
        return "; did you mean " + " or ".join(close) + "?"
    return f"; valid: {', '.join(valid)}" if 0 < len(valid) <= 30 else ""


def short(text: object) -> str:
    """The text for a quotation, cut to 60 characters."""
    text = str(text)
    return text if len(text) <= 60 else f"{text[:57]}..."


def text_of(error: BaseException) -> str:
    """The text of an error in one line, cut to 300 characters; empty if it has none."""
    try:
        return printable(" ".join(str(error).split()))[:300]
    except Exception:  # the classes of others may fail even at this
        return ""


def said(error: BaseException) -> str:
    """The class and text of an error in one line: 'ValueError: no such move'."""
    text = text_of(error)
    return f"{type(error).__name__}{': ' if text else ''}{text}"


def called(thing: object) -> str:
    """The full name of a Python object: 'module.Class', or 'module.function'."""
    while isinstance(thing, functools.partial):
        thing = thing.func
    named: Any = thing if hasattr(thing, "__qualname__") else type(thing)
    return f"{named.__module__}.{named.__qualname__}"


@contextlib.contextmanager
def numbered() -> Iterator[None]:
    """Let Ctrl-C carry its number in the body of a `with`, unless other code handles it: this tells it from a
    KeyboardInterrupt of an environment. Whatever else the body raises after a Ctrl-C, KeyboardInterrupt is raised: an
    import may catch it, and fail later."""
    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    pressed = list[int]()

    def interrupt(number: int, frame: Any) -> NoReturn:
        pressed.append(number)
        raise KeyboardInterrupt(number)

    signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    except Exception as error:
        if pressed:
            raise KeyboardInterrupt(pressed[0]) from error
        raise
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def strange(error: BaseException) -> bool:
    """Whether an error comes from foreign code, such as an environment: every error except the user's own Ctrl-C. That
    is Python's KeyboardInterrupt if nobody else handles the signal; otherwise it carries the number of the signal."""
    if not isinstance(error, KeyboardInterrupt):
        return True
    return not error.args and signal.getsignal(signal.SIGINT) is not signal.default_int_handler


class Elsewhere(Exception):
    """An error that another process raised. It has the class's name and text, and the line where it was raised."""

    place = ""


def blame(error: BaseException) -> str:
    """'ValueError: no such move (my_environment.py:31)', with the innermost line that is not in a library. An error of
    ours says enough already."""
    if isinstance(error, OneLine):
        return str(error)
    if isinstance(error.__cause__, StopIteration):  # which Python turns into another error in a generator
        error = error.__cause__
    return f"{said(error)} ({error.place if isinstance(error, Elsewhere) else place(error)})"


def place(error: BaseException) -> str:
    """The file and line where an error was raised; the innermost line that is not in a library."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if "site-packages" not in frame.filename and frame.filename.endswith(".py")]
    where = (own or frames)[-1]
    return f"{Path(where.filename).name}:{where.lineno}"
