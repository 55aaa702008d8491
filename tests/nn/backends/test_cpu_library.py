"""The library of kernels: C and Python use the same numbers."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from seqnorm.nn.backends import cpu
from seqnorm.nn.backends.cpu import library, prepared

HEADER = Path(cpu.__file__).parent / "src" / "arguments.h"
TYPES = {"int64_t": ctypes.c_int64, "double": ctypes.c_double}


def fields_of_the_header() -> Iterator[tuple[str, Any]]:
    text = re.sub(r"/\*.*?\*/", "", HEADER.read_text(), flags=re.DOTALL)
    body = re.search(r"typedef struct \{(.*?)\} Arguments;", text, flags=re.DOTALL)
    assert body is not None
    for declaration in body[1].split(";"):
        words = declaration.replace("const ", "").split(None, 1)
        if not words:
            continue
        kind, names = words
        for name in names.split(","):
            parts = re.fullmatch(r"\s*(\*?)(\w+)(?:\[(\d+)\])?", name)
            assert parts is not None, name
            field: Any = ctypes.c_void_p if parts[1] else TYPES[kind]
            yield parts[2], field * int(parts[3]) if parts[3] else field


def test_arguments_are_those_of_the_header() -> None:
    header = list(fields_of_the_header())
    assert len(header) > 40
    ours = [(name, kind) for name, kind, *_ in library.Arguments._fields_]
    assert [name for name, _ in ours] == [name for name, _ in header]
    for (name, kind), (_, expected) in zip(ours, header):
        assert (kind._type_, getattr(kind, "_length_", 0)) == (
            expected._type_,
            getattr(expected, "_length_", 0),
        ), name


def test_numbers_are_those_of_the_header() -> None:
    """The numbers of cells and kinds of norms agree."""
    enums = re.findall(r"enum \{(.*?)\};", HEADER.read_text())
    cells, kinds, halves, places = ([name.strip() for name in enum.split(",")] for enum in enums)
    assert cells == [name.upper() for name in library.STEPS]
    assert list(library.STEPS.values()) == list(range(len(cells)))
    short = [str(kind).upper().replace("BATCH_POOLED", "POOLED") for kind in library.KINDS]
    assert kinds == short
    assert list(library.KINDS.values()) == list(range(len(kinds)))
    assert halves == ["REALS", "ROUNDED", "PAIRS"]
    assert library.way_of_half(False) == halves.index("REALS")
    assert library.way_of_half(True) == halves.index("PAIRS" if library.PAIRS else "ROUNDED")
    assert places == [f"{name} = {bit}" for name, bit in zip(("IN_X", "OF_X", "OF_H"), (1, 2, 4))]
    assert list(prepared._BITS.values()) == [1, 2, 4]
