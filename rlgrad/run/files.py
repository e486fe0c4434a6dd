"""Writing files: whatever happens in between, there is the old content or the new one, never half of either."""

import contextlib
import os
from pathlib import Path


def write(path: Path, content: bytes, previous: Path | None = None) -> None:
    """Put `content` on the disk under another name, and only then give it its own.

    previous: the name that the old file gets; None: it is gone.
    Raises OSError. The old file is then still there, under its own name or as `previous`.
    """
    temporary = path.with_name(path.name + ".tmp")
    temporary.unlink(missing_ok=True)  # of a process that was killed while it wrote
    try:
        with open(temporary, "xb") as file:  # "x" follows no link that somebody else has put there
            file.write(content)
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


def sync_directory(path: Path) -> None:
    """Bring the names in a directory to the disk, as `fsync` does with the content of a file."""
    if os.name != "posix":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def reason(error: OSError) -> str:
    """'checkpoint.pt.tmp: No space left on device'."""
    what = f"{error.filename}: " if error.filename else ""
    return what + (error.strerror or str(error))
