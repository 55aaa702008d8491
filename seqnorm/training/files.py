"""Files that are there as a whole, after an error or a crash too: the new one or the old one."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO


@contextmanager
def replacing(path: str | Path) -> Iterator[IO[bytes]]:
    """A file to write to, which takes the place of ``path`` at the end, flushed to the disk.

    It lies beside it, for on another file system the last move would be a copy that an interruption
    leaves half done. After an error within nothing is left of it.

    Raises:
        OSError: it cannot be written; what ``path`` was before is still there.
    """
    path = Path(path)
    unfinished = path.with_name(f".{path.name}.unfinished")
    try:
        file = unfinished.open("wb")
    except OSError as error:  # about the name that the caller knows
        raise OSError(error.errno, error.strerror, str(path)) from error
    try:
        with file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileNotFoundError):
            shutil.copymode(path, unfinished)
        unfinished.replace(path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
    if os.name == "posix":  # elsewhere a folder cannot be opened, nor needs to be
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def write_atomically(path: str | Path, content: str | bytes) -> None:
    """Writes a whole file, text as UTF-8; raises as ``replacing`` does, and says so."""
    try:
        with replacing(path) as file:
            file.write(content.encode() if isinstance(content, str) else content)
    except OSError as error:
        raise unwritten(error, path, "the file") from error


def unwritten(error: OSError, path: str | Path, what: str) -> OSError:
    """The error in words, of ``what`` should have been ``path``."""
    before = "; the one before is whole" if Path(path).exists() else ""
    words = f"{what} could not be written{before}: {error.strerror}"
    return OSError(error.errno, words, str(path))
