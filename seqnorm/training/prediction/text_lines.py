"""Read lines of text, and write text into a file that is replaced at the end."""

from __future__ import annotations

import io
import os
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from seqnorm.datasets.layout import check_text
from seqnorm.files import replacing


def standard_input() -> Iterator[str]:
    """Yield the lines of standard input."""
    source: Any = getattr(sys.stdin, "buffer", sys.stdin)
    return lines_of(source, "standard input")


@contextmanager
def printing(output: str) -> Iterator[TextIO]:
    """Open a file to print to; - is standard output.

    The file, which may be the input, is replaced at the end of the block.
    """
    if output in ("-", "/dev/stdout"):  # opening /dev/stdout would truncate it
        yield sys.stdout
        return
    path = Path(output)
    target = path.resolve()  # keep a link a link
    if path.exists() and not path.is_file():  # a device or a pipe
        with open(path, "w", encoding="utf-8", newline="") as file:
            yield file
        return
    replaceable = os.access(target, os.W_OK) and os.access(target.parent, os.W_OK)
    if path.exists() and not replaceable:
        with _overwriting(target) as file:
            yield file
        return
    with replacing(target) as whole:
        text = io.TextIOWrapper(whole, encoding="utf-8", newline="")
        yield text
        text.detach()  # flush the text, and leave the file open for ``replacing``


@contextmanager
def _overwriting(path: Path) -> Iterator[TextIO]:
    """Open a file whose text overwrites ``path`` at the end of the block.

    It is for a folder in which no file can be made: the text waits in the system's temporary folder
    until the rows of the input, which may be ``path``, are read.
    """
    with (
        path.open("ab") as target,  # an error comes before the work, and nothing is lost yet
        tempfile.TemporaryFile() as whole,
    ):
        text = io.TextIOWrapper(whole, encoding="utf-8", newline="")
        yield text
        text.detach()
        whole.seek(0)
        target.truncate(0)
        shutil.copyfileobj(whole, target)


def lines_of(source: Iterable[bytes | str], name: str) -> Iterator[str]:
    """Yield the lines of a file as text, without their ends.

    Raises:
        ValueError: A line is binary or not UTF-8; the error names the line.
    """
    for number, line in enumerate(source, start=1):
        where = f"{name}, line {number}"
        if isinstance(line, bytes):
            try:
                line = line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise ValueError(f"{where}: not UTF-8: {error}; convert the file") from error
        yield check_text(where, line.rstrip("\r\n"))
