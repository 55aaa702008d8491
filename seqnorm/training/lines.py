"""Lines of text in, a line out for each."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TextIO

from seqnorm.datasets.own_files import check_text

from .files import replacing


@contextmanager
def opened(input: str, output: str) -> Iterator[tuple[Iterator[str], TextIO]]:
    """The lines of ``input`` as ``lines_of`` gives them, and where to print to; - stands for
    standard input and output.

    A file ``output`` is what it was before, ``input`` perhaps, until all is printed.
    """
    with ExitStack() as stack:
        source: Any = getattr(sys.stdin, "buffer", sys.stdin)
        if input != "-":
            source = stack.enter_context(open(input, "rb"))
        out = sys.stdout
        if output not in ("-", "/dev/stdout"):  # which, opened anew, would be cut short
            out = stack.enter_context(_printing(Path(output)))
        yield lines_of(source, "standard input" if input == "-" else input), out


@contextmanager
def _printing(path: Path) -> Iterator[TextIO]:
    whole_path = path.resolve()  # a link stays one
    if path.exists() and not (path.is_file() and _replaceable(whole_path)):
        # A device or a pipe, which a link may stand for, or where nothing can lie beside it.
        with open(path, "w", encoding="utf-8") as file:
            yield file
        return
    with replacing(whole_path) as whole:
        text = io.TextIOWrapper(whole, encoding="utf-8")
        yield text
        text.detach()  # what it holds goes into the file, which is not yet done


def _replaceable(path: Path) -> bool:
    return os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)


def lines_of(source: Iterable[bytes | str], name: str) -> Iterator[str]:
    """The lines of a file as text, without their ends.

    Raises:
        ValueError: a line is not UTF-8, or binary; it names the line.
    """
    for number, line in enumerate(source, start=1):
        where = f"{name}, line {number}"
        if isinstance(line, bytes):
            try:
                line = line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise ValueError(f"{where}: not UTF-8: {error}; convert the file") from error
        yield check_text(where, line.rstrip("\r\n"))
