"""Atomic writing of files, locks on files, the shipped configurations, and the commit's name.

The folder ``spaces`` of the shipped configurations holds the search spaces of ``seqnorm sweep``.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

_PACKAGE = Path(__file__).resolve().parent
# An installation has a copy of the checkout's folder inside the package.
_SHIPPED = _PACKAGE / "configs"
CONFIGS = _SHIPPED if _SHIPPED.is_dir() else _PACKAGE.parent / "configs"
# The path of a checkpoint in messages that ask for one.
CHECKPOINT = "runs/r8/version_0/checkpoints/best.ckpt"


SPACES = CONFIGS / "spaces"
# The keys of a range of values in a search space.
RANGE = ("low", "high", "log", "step")


def find_config(name: str) -> Path | None:
    """Return a configuration by its path or by its name, as norm/batch; None if not found."""
    return _find(name, CONFIGS)


def find_space(name: str) -> Path | None:
    """Return a search space by its path or by its name, as series; None if not found."""
    return _find(name, SPACES)


def _find(name: str, folder: Path) -> Path | None:
    path = Path(name).expanduser()
    if path.is_file():
        return path
    top = folder.relative_to(CONFIGS.parent).as_posix()
    shipped = folder / f"{name.removeprefix(f'{top}/').removesuffix('.yaml')}.yaml"
    return shipped if shipped.is_file() else None


def config_names() -> list[str]:
    """Return the names of the shipped configurations, without studies and search spaces."""
    paths = sorted(CONFIGS.rglob("*.yaml"))
    names = [path.relative_to(CONFIGS).with_suffix("").as_posix() for path in paths]
    return [name for name in names if not name.startswith(("studies/", "spaces/"))]


def space_names() -> list[str]:
    """Return the names of the shipped search spaces."""
    return [path.stem for path in sorted(SPACES.glob("*.yaml"))]


def is_inline(value: str) -> bool:
    """Return whether the value of ``--config`` or ``--space`` is YAML itself, not a name."""
    return any(sign in value for sign in "{:\n")


def options_of(space: Mapping[object, object], before: str = "") -> Iterator[tuple[str, object]]:
    """Yield the name and the values of each option of a search space.

    The options may be nested as in a configuration: ``{model: {lr: [1e-3, 1e-2]}}`` is the same as
    ``{model.lr: [1e-3, 1e-2]}``. A mapping with a key of ``RANGE`` is a range.
    """
    deepest = before.count(".") > 4  # no option is nested so deeply, but aliases in YAML may be
    for name, values in space.items():
        nested = isinstance(values, Mapping) and values and not set(RANGE).intersection(values)
        if nested and isinstance(values, Mapping) and not deepest:
            yield from options_of(values, f"{before}{name}.")
        else:
            yield f"{before}{name}", values


@contextmanager
def replacing(path: str | Path, *, shared: bool = False) -> Iterator[IO[bytes]]:
    """Open a file that replaces ``path`` at the end of the block, flushed to the disk.

    The new file is written beside ``path``, because on another file system the final move would be
    a copy that an interruption leaves half done. An error within the block removes it. A process
    that is killed leaves it for the next one to overwrite. If several processes may write ``path``
    at once (``shared``), each has a file of its own.

    Raises:
        OSError: The file cannot be written; the previous content of ``path`` is kept.
    """
    path = Path(path)
    name = f"{path.name}.{os.getpid()}" if shared else path.name
    unfinished = path.with_name(f".{name}.unfinished")
    try:
        file = unfinished.open("wb")
    except OSError as error:  # name the file that the caller knows
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
    if os.name == "posix":  # other systems cannot open a folder, and need not
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def write_atomically(path: str | Path, content: str | bytes, *, shared: bool = False) -> None:
    """Write a whole file, text as UTF-8, or leave the previous one.

    Raises:
        OSError: The file cannot be written.
    """
    try:
        with replacing(path, shared=shared) as file:
            file.write(content.encode() if isinstance(content, str) else content)
    except OSError as error:
        raise unwritten(error, path, "the file") from error


def unwritten(error: OSError, path: str | Path, what: str) -> OSError:
    """Return the error in words; ``what`` describes the content, as in "the checkpoint"."""
    before = "; the one before is whole" if Path(path).exists() else ""
    words = f"{what} could not be written{before}: {error.strerror}"
    return OSError(error.errno, words, str(path))


def lock(file: IO[Any], *, wait: bool = True) -> None:
    """Lock an open file against other processes until it is closed.

    Without ``wait``, a file that another process has locked raises an error. Windows and file
    systems without locks leave the file unlocked.

    Raises:
        BlockingIOError: Another process holds the lock, and ``wait`` is false.
    """
    try:
        import fcntl  # exists on POSIX only
    except ModuleNotFoundError:
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        raise
    except OSError:  # the file system has no locks
        return


def commit(folder: str | Path = ".") -> str:
    """Name the commit of the working tree around ``folder``; "" outside of git.

    The name ends in -dirty if files differ from the commit. Files in ``results`` are ignored, so
    that a run that writes results does not change the name for the next one.
    """

    def git(*arguments: str) -> str:
        command = ["git", *arguments]
        answer = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
        return answer.stdout.strip()

    try:
        name = git("describe", "--always")
        changed = git("diff", "HEAD", "--name-only", "--", ":/", ":(top,exclude)results")
    except (FileNotFoundError, subprocess.CalledProcessError):
        return ""
    return f"{name}-dirty" if changed else name
