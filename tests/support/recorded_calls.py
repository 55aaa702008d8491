"""Calls of the kernels, recorded here and repeated by a library for another processor.

Axes: T steps, B sequences, H = hidden size.
"""

from __future__ import annotations

import ctypes
import os
import runpy
import shutil
import struct
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor

from seqnorm.nn.backends.cpu import kernels, library, memory, prepared

TESTS = Path(__file__).resolve().parent
COMPILER, EMULATOR = "aarch64-linux-gnu-gcc", "qemu-aarch64"
LIBRARIES = "/usr/aarch64-linux-gnu"
# The path of a library for ARM that is tested in place of one that is compiled here.
VARIABLE = "SEQNORM_ARM_LIBRARY"
FORWARD, BACKWARD, PREPARED = range(3)
POINTERS = [name for name, kind in library.Arguments._fields_ if kind is ctypes.c_void_p]
# Memory that only the kernels read, whose contents may differ.
OWN = ("scratch", "kept")


def why_not() -> str:
    """Return why the kernels cannot be built for ARM and run here; "" if they can."""
    for program in (COMPILER, EMULATOR):
        if shutil.which(program) is None:
            return f"needs {program}: apt-get install gcc-aarch64-linux-gnu qemu-user"
    return ""


def build(folder: Path) -> Path:
    """Return a program that repeats calls on ARM.

    Its kernels are compiled as setup.py does, or those of the library that the environment names.
    """
    with mock.patch("setuptools.setup"):
        setup = runpy.run_path(str(TESTS.parents[1] / "setup.py"))
    compiler = [COMPILER, *setup["FLAGS"]]
    library = os.environ.get(VARIABLE)
    if library:
        parts = [library, f"-Wl,-rpath,{Path(library).resolve().parent}"]
    else:
        sources = TESTS.parents[1] / setup["SOURCES"]
        flags, width = setup["VARIANTS"]["base"]
        parts = [str(sources / "entry.c")]
        for precision in ("float", "double"):
            macros = [f"-DVECTOR_BYTES={width}", f"-DSUFFIX=base_{precision}"]
            macros += ["-DSEQNORM_DOUBLE=1"] if precision == "double" else []
            parts.append(str(folder / f"{precision}.o"))
            source = ["-c", str(sources / "loop.c"), "-o", parts[-1]]
            subprocess.run([*compiler, *flags, *macros, *source], check=True)
    program = folder / "recorded_calls"
    command = [
        *compiler,
        str(TESTS / "recorded_calls.c"),
        *parts,
        "-o",
        str(program),
        "-lm",
        "-ldl",
    ]
    subprocess.run(command, check=True)
    return program


@dataclass
class Recorded:
    """One call: its memory before and after it.

    Attributes:
        blocks: The memory before the call; the first one is the argument of the function.
        links: Places that hold addresses: a block, an offset, and the block of the address.
        results: The numbers of the blocks that are compared, each with its name and dtype, and the
            contents after the call.
    """

    function: int
    numbers: tuple[int, int, int, int]
    blocks: list[bytes] = field(default_factory=list)
    links: list[tuple[int, int, int]] = field(default_factory=list)
    results: dict[int, tuple[str, torch.dtype, bytes]] = field(default_factory=dict)

    def add(self, contents: bytes) -> int:
        self.blocks.append(contents)
        return len(self.blocks) - 1

    def packed(self) -> bytes:
        """Return the call as ``recorded_calls.c`` reads it."""
        parts = [struct.pack("=6q", self.function, *self.numbers, len(self.blocks))]
        for block in self.blocks:
            parts += [struct.pack("=q", len(block)), block]
        parts.append(struct.pack("=q", len(self.links)))
        parts += [struct.pack("=3q", *link) for link in self.links]
        parts.append(struct.pack(f"={1 + len(self.results)}q", len(self.results), *self.results))
        return b"".join(parts)


def contents(tensor: Tensor) -> bytes:
    return ctypes.string_at(tensor.data_ptr(), tensor.numel() * tensor.element_size())


@contextmanager
def recording() -> Iterator[list[Recorded]]:
    """Record all calls of the kernels, which use the instruction set "base" and one thread."""
    found: list[Recorded] = []
    threads = torch.get_num_threads()
    real_run, real_prepared = kernels.run, prepared.Prepared.run

    def run(passes: Sequence[Any], backward: bool) -> None:
        one_call = _of_passes(passes, backward)
        real_run(passes, backward)
        for number, (tensor, name) in one_call[1].items():
            one_call[0].results[number] = name, tensor.dtype, contents(tensor)
        found.append(one_call[0])

    def run_prepared(self: Any, input: Tensor, state: Any, *others: Any) -> bool:
        recorded, written = _of_prepared(self, input, state, *others)
        done = real_prepared(self, input, state, *others)
        for number, (tensor, name) in written.items():
            recorded.results[number] = name, tensor.dtype, contents(tensor)
        found.append(recorded)
        return done

    with pytest.MonkeyPatch.context() as patch:
        torch.set_num_threads(1)
        patch.setattr(library, "CHOSEN", "base")
        patch.setattr(kernels, "run", run)
        patch.setattr(prepared.Prepared, "run", run_prepared)
        try:
            yield found
        finally:
            torch.set_num_threads(threads)


Written = dict[int, tuple[Tensor, str]]


def _of_passes(passes: Sequence[Any], backward: bool) -> tuple[Recorded, Written]:
    """Record the memory of passes, as ``kernels.run`` will call them."""
    variant = library.VARIANTS["base"]
    wide = int(passes[0].dtype == torch.float64)
    recorded = Recorded(BACKWARD if backward else FORWARD, (variant, wide, len(passes), 1))
    recorded.add(bytes(8 * len(passes)))
    written: Written = {}
    sizes = (ctypes.c_int64 * 2)()
    for k, one in enumerate(passes):
        arguments = one.arguments
        arguments.threads = 1
        library.LIBRARY.seqnorm_sizes(variant, wide, ctypes.byref(arguments), backward, sizes)
        if one.kept is None:
            one.kept = memory.take(sizes[1])
        tensors = {part.data_ptr(): part for part in one._alive if isinstance(part, Tensor)}
        number = recorded.add(bytes(arguments))
        recorded.links.append((0, 8 * k, number))
        for name in POINTERS:
            address = getattr(arguments, name)
            if name == "rows":
                block = ctypes.string_at(address, 8 * arguments.T)
            elif name == "scratch":
                block = bytes(sizes[0])
            elif name == "kept":
                block = contents(one.kept)
            elif address:
                block = contents(tensors[address])
            else:
                continue
            target = recorded.add(block)
            offset = getattr(library.Arguments, name).offset
            recorded.links.append((number, offset, target))
            if name not in (*OWN, "rows"):
                written[target] = tensors[address], name
    return recorded, written


def _of_prepared(
    call: Any,
    input: Tensor,
    state: Any,
    steps: int,
    batch: int,
    first: int,
    output: Tensor,
    new: Sequence[Tensor],
) -> tuple[Recorded, Written]:
    """Record the memory of a prepared call."""
    wide, _, count = call._fixed
    recorded = Recorded(PREPARED, (library.VARIANTS["base"], wide, count, 1))
    final = [part.data_ptr() for part in new]
    values = [library.VARIANTS["base"], wide, 0, count, steps, batch, first, 1]
    recorded.add(struct.pack("=15q", *values, *[0] * 7))
    layers = recorded.add(bytes(call._layers))
    recorded.links.append((0, 16, layers))
    held = {tensor.data_ptr(): tensor for _, _, tensor, _, _ in call._tensors}
    for at in range(0, ctypes.sizeof(call._layers), 8):
        (word,) = struct.unpack_from("=q", recorded.blocks[layers], at)
        if word in held:
            recorded.links.append((layers, at, recorded.add(contents(held[word]))))
    written: Written = {}
    given = (None, None) if state is None else (state[0], state[-1])
    parts = (input, *given, output, new[0], new[-1] if len(final) > 1 else None)
    for place, (name, tensor) in enumerate(zip(("x", "h_0", "c_0", "output", "h_n", "c_n"), parts)):
        if tensor is not None:
            target = recorded.add(contents(tensor))
            recorded.links.append((0, 8 * (8 + place), target))
            written[target] = tensor, name
    return recorded, written


def repeat(program: Path, calls: Sequence[Recorded]) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Repeat calls in the emulator; yield the name, and the values of there and of here."""
    done = subprocess.run(
        [EMULATOR, "-L", LIBRARIES, str(program)],
        input=b"".join(call.packed() for call in calls),
        stdout=subprocess.PIPE,
        env={**os.environ, "SEQNORM_BACKEND": ""},
        check=True,
    )
    left = memoryview(done.stdout)
    for call in calls:
        for name, dtype, here in call.results.values():
            there, left = bytes(left[: len(here)]), left[len(here) :]
            if here:
                yield name, *(torch.frombuffer(bytearray(b), dtype=dtype) for b in (there, here))
    assert not left, f"{len(left)} bytes too many"
