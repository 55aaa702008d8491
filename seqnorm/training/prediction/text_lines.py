"""Read lines of text, and write a line for each."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TextIO

from seqnorm.datasets.own_files import check_text
from seqnorm.files import replacing


@contextmanager
def opened(input: str, output: str) -> Iterator[tuple[Iterator[str], TextIO]]:
    """Open the lines of ``input``, and a file to print to; - is standard input and output.

    The file ``output``, which may be ``input``, is replaced when all lines are printed.
    """
    with ExitStack() as stack:
        source: Any = getattr(sys.stdin, "buffer", sys.stdin)
        if input != "-":
            source = stack.enter_context(open(input, "rb"))
        out = stack.enter_context(printing(output))
        yield lines_of(source, "standard input" if input == "-" else input), out


@contextmanager
def printing(output: str) -> Iterator[TextIO]:
    """Open a file to print to, which is replaced when all is printed; - is standard output."""
    if output in ("-", "/dev/stdout"):  # opening /dev/stdout would truncate it
        yield sys.stdout
        return
    with _printing(Path(output)) as file:
        yield file


@contextmanager
def _printing(path: Path) -> Iterator[TextIO]:
    target = path.resolve()  # keep a link a link
    replaceable = path.is_file() and os.access(target, os.W_OK)
    if path.exists() and not (replaceable and os.access(target.parent, os.W_OK)):
        # A device or a pipe, or a folder in which no file can be made.
        with open(path, "w", encoding="utf-8") as file:
            yield file
        return
    with replacing(target) as whole:
        text = io.TextIOWrapper(whole, encoding="utf-8")
        yield text
        text.detach()  # flush the text, and leave the file open for ``replacing``


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
