"""Writes files so that, whatever happens, the disk has the old content or the new one, never a part. Reads only regular
files, because a pipe may never end."""

import contextlib
import errno
import hashlib
import json
import os
import shlex
import shutil
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

from rlgrad.errors import UsageError, say, say_once

IMPORTED: dict[str, tuple[ModuleSpec, str | None]] = {}  # for each module: what it was loaded by, and its digest


def write(path: Path, content: str | bytes, previous: Path | None = None) -> None:
    """Write `content` to a temporary file, then rename it to `path`.

    previous: the new name of the old file; None: the old file is replaced.
    Raises OSError. The old file is then still there, under its own name or as `previous`.
    """
    temporary = path.with_name(path.name + ".tmp")
    temporary.unlink(missing_ok=True)  # it may be left from a process that was killed while it wrote
    try:
        with open(temporary, "xb") as file:  # "x" does not follow a link that somebody else has put there
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        if previous is not None and path.exists():
            os.replace(path, previous)
        os.replace(temporary, path)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def in_command(path: str | Path) -> str:
    """A path as one word of a command line, which is not taken for an option."""
    word = str(path)
    return shlex.quote(f"./{word}" if word.startswith("-") else word)


def digest_of(module: str) -> str | None:
    """The first digits of the SHA-256 of a module's text when it was imported, or first asked for; None without a
    file."""
    spec = getattr(sys.modules.get(module), "__spec__", None)  # a new one, if it is imported or reloaded again
    if spec is None or not spec.has_location:
        return None
    if module not in IMPORTED or IMPORTED[module][0] is not spec:
        IMPORTED[module] = spec, digest(Path(spec.origin))
    return IMPORTED[module][1]


def changed(module: str) -> str | None:
    """The file of a module, if its text is no longer the one that was imported; otherwise None."""
    before = digest_of(module)
    file = None if before is None else IMPORTED[module][0].origin
    return file if file and digest(Path(file)) != before else None


def digest(path: Path) -> str | None:
    """The first digits of the SHA-256 of a file; None if it cannot be read."""
    with contextlib.suppress(OSError):
        return hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    return None


def here() -> Path:
    """The working directory. Raises UsageError if it does not exist any more."""
    try:
        return Path.cwd()
    except FileNotFoundError as error:
        raise UsageError("the working directory does not exist any more: change to another one") from error


def read(path: Path) -> bytes:
    """The content of a regular file, or of the regular file that a link points to. Raises OSError."""
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "it is not a regular file", str(path))
    return path.read_bytes()


def read_json(path: Path) -> dict[str, Any]:
    """The mapping in a JSON file; empty if the file does not exist or cannot be read."""
    try:
        found = json.loads(read(path))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


class Growing:
    """A file that only grows. It knows the digest of its content, and is written again if somebody removes it."""

    def __init__(self, path: Path, state: Any = None):
        """state: the state of the beginning that is kept; None: a new file. Raises OSError, and ValueError if the
        file's beginning is different."""
        self.path, self.digest, self.length = path, hashlib.sha256(), 0
        self.file = open(path, "x+b" if state is None else "r+b", opener=appending)  # noqa: SIM115
        if state is None:
            return
        try:
            self._check(*(state if isinstance(state, tuple | list) else (state, None)))
        except ValueError:
            self.close()
            raise

    def _check(self, length: int, digest: str | None) -> None:
        """Read the beginning and check it. digest: None if the state is of an old version, with the length only."""
        if not isinstance(length, int) or not 0 <= length <= os.fstat(self.file.fileno()).st_size:
            raise ValueError(f"{self.path.name} is shorter than it was at that time")
        while block := self.file.read(min(length - self.length, 2**20)):
            self._add(block)
        if digest not in (None, self.digest.hexdigest()):
            raise ValueError(f"{self.path.name} is damaged: its first {length:,} bytes are not what they were")

    def _add(self, block: bytes) -> None:
        self.digest.update(block)
        self.length += len(block)

    @property
    def state(self) -> tuple[int, str]:
        return self.length, self.digest.hexdigest()

    def write(self, block: bytes) -> None:
        self.file.write(block)
        self._add(block)

    def flush(self) -> None:
        self.file.flush()

    def cut(self) -> None:
        """Delete everything after the beginning that was checked."""
        self.file.truncate(self.length)
        self.file.seek(self.length)

    def keep(self) -> None:
        """Flush the file to the disk. If somebody removed it, write it again under its name. Raises OSError."""
        os.fsync(self.file.fileno())
        if os.fstat(self.file.fileno()).st_size != self.length:
            say_once(f"{self.path} was changed while the run went on: it is damaged, and the run cannot be resumed")
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.stat(self.path), os.fstat(self.file.fileno())):
                return
            self.path.unlink()
        lost, self.file = self.file, open(self.path, "x+b", opener=appending)  # noqa: SIM115
        with lost:
            lost.seek(0)
            shutil.copyfileobj(lost, self.file)
        self.file.flush()
        os.fsync(self.file.fileno())
        say(f"{self.path} was removed; it is written again")

    def close(self) -> None:
        self.file.close()


def appending(path: str, flags: int) -> int:
    """Open a file for writing at its end only, wherever that is by then. Links are not followed."""
    return os.open(path, flags | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0), 0o666)


def sync_directory(path: Path) -> None:
    """Flush the names in a directory to the disk, as `fsync` does for the content of a file."""
    if os.name != "posix":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def reason(error: OSError) -> str:
    """The file and the reason of an error: 'checkpoint.pt.tmp: No space left on device'."""
    what = f"{error.filename}: " if error.filename else ""
    return what + (error.strerror or str(error))
