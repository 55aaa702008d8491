"""The header file: declarations, and the implementation behind a macro.

Axes: T steps, I = input_size, O = size of a layer's output.
"""

from __future__ import annotations

import textwrap
from pathlib import Path

import torch
from torch import nn

from ...files import write_atomically
from ...version import __version__
from .arrays import PREFIX, Arrays
from .direction import Code
from .names import checked
from .source import Source, read

_RUNTIME = Path(__file__).with_name("runtime.h")


@torch.no_grad()
def to_c(
    module: nn.Module, path: str | Path, *, name: str | None = None, weights: str = "header"
) -> list[Path]:
    """Write a recurrent layer or cell as a C99 header that needs nothing but libm.

    >>> layer = seqnorm.GRU(16, 32, norm="layer").eval()
    >>> seqnorm.export.to_c(layer, "denoiser.h")  # doctest: +SKIP

    The header declares a type and functions that begin with its name: ``denoiser_create``,
    ``denoiser_step`` (an input x (I,) to an output y (O,)), ``denoiser_run`` (x (T, I) to y (T, O)),
    ``denoiser_reset`` and ``denoiser_free``. The source file that defines
    ``DENOISER_IMPLEMENTATION`` before it includes the header gets the code. The page *A C library*
    shows all of it.

    The code computes what the layer computes in evaluation mode, one sequence at a time: all cells
    of the library with all norms but windows, several layers, projections, learned initial states,
    and two directions for whole sequences. Statistics of every step are read at the number of the
    step since the last reset.

    Args:
        module: a layer or a cell of seqnorm in float32.
        path: the header, which ends in .h; its folder has to exist.
        name: the name in C; by default that of the file.
        weights: "header" for constant arrays in the header, or "file" for a file beside it that
            ends in .bin, of which the program passes the content to ``denoiser_create``.

    Returns:
        The paths of the written files.

    Raises:
        TypeError: the module is no layer or cell of the library, has a step of the user's own, or
            is not in float32.
        ValueError: the layer is in training mode and would draw or use the batch, has a norm with a
            window, or holds NaN; the name is no identifier of C; or the path does not end in .h.
        OSError: the file cannot be written.
    """
    path = Path(path)
    if weights not in ("header", "file"):
        raise ValueError(f'weights must be "header" or "file", got {weights!r}')
    if path.suffix != ".h":
        raise ValueError(f"path must end in .h, got {str(path)!r}: write {path.stem or 'model'}.h")
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder: write the path of a file in it")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"there is no folder {path.parent} for {path.name}: make it first")
    name = checked(path.stem, "the name of the file") if name is None else checked(name, "name")
    source = read(module)
    arrays = Arrays(name, weights == "file")
    text = _Header(name, source, arrays).text()
    written = [path]
    if weights == "file":
        written.append(path.with_suffix(".bin"))
        write_atomically(written[1], arrays.file())
    write_atomically(path, text)
    return written


class _Header:
    """The text of the header of one model."""

    def __init__(self, name: str, source: Source, arrays: Arrays) -> None:
        self._name, self._source, self._arrays = name, source, arrays
        self._parts = [part for layer in source.layers for part in layer]
        self._codes = [Code(name, part, arrays) for part in self._parts]
        self._initial = {
            field: arrays.add(f"{field}_0", value)
            for part, code in zip(self._parts, self._codes)
            for field, value in zip(code.fields, part.initial)
            if bool(value.any())
        }
        tables = max(code.rows_of_tables for code in self._codes)
        # The number of a step is counted only so far as it makes a difference.
        self._last = max(tables - 1, source.steps or 0)
        self._apart = bool(arrays.count) and not arrays.source()

    def text(self) -> str:
        upper = self._name.upper()
        parts = [self._comment(), f"#ifndef {upper}_H_INCLUDED\n#define {upper}_H_INCLUDED\n\n"]
        parts += [*self._macros(), '\n#ifdef __cplusplus\nextern "C" {\n#endif\n\n']
        parts += [*self._types(), *self._declarations()]
        parts.append("\n#ifdef __cplusplus\n}\n#endif\n\n#endif\n\n")
        parts.append(f"#if defined({upper}_IMPLEMENTATION) && !defined({upper}_IMPLEMENTED)\n")
        parts.append(f"#define {upper}_IMPLEMENTED\n\n")
        parts.append(f"#ifndef {upper}_NO_MALLOC\n#include <stdlib.h>\n#endif\n\n")
        parts += [_RUNTIME.read_text(encoding="utf-8"), "\n", self._arrays.source(), "\n"]
        parts += [f"{code.source()}\n" for code in self._codes]
        parts += [*self._functions(), "\n#endif\n"]
        return "".join(parts)

    def _comment(self) -> str:
        upper = self._name.upper()
        words = f"{self._name}: {self._source.words}, written by seqnorm {__version__}."
        words = words.replace("*/", "")
        how = f"Define {upper}_IMPLEMENTATION before including this file in one source file of the "
        how += "program, and link with libm. All numbers of a model stand in its struct: several "
        how += "can be used at once, each by one thread at a time."
        lines = [*textwrap.wrap(words, 96), "", *textwrap.wrap(how, 96)]
        return "/* " + "\n".join(f" * {line}".rstrip() for line in lines)[3:] + "\n */\n"

    def _macros(self) -> list[str]:
        states = sum(sum(part.state_sizes) for part in self._parts)
        values: dict[str, object] = {
            "INPUT_SIZE": self._source.input_size,
            "OUTPUT_SIZE": self._source.output_size,
            "STATE_SIZE": f"{states} /* floats */",
        }
        if self._source.steps is not None:
            values["STEPS"] = (
                f"{self._source.steps}L /* steps after a reset that have statistics */"
            )
        if self._source.bidirectional:
            floats = self._source.output_size if len(self._source.layers) > 1 else 0
            values["WORK_SIZE(steps)"] = f"((size_t)(steps) * {floats}) /* floats */"
        if self._apart:
            size = 4 * (PREFIX + self._arrays.count)
            values["WEIGHTS_BYTES"] = f"{size} /* length of {self._name}'s file of weights */"
        macros = [f"#define {self._name.upper()}_{key} {value}\n" for key, value in values.items()]
        return ["#include <stddef.h>\n\n", *macros]

    def _types(self) -> list[str]:
        name, fields = self._name, ""
        for part, code in zip(self._parts, self._codes):
            for field, size in zip(code.fields, part.state_sizes):
                fields += f"    float {field}[{size}];\n"
        if self._last and not self._source.bidirectional:
            fields += (
                "    long step; /* steps since the last reset, as far as they are counted */\n"
            )
        buffers: dict[str, int] = {}
        for code in self._codes:
            for buffer, size in code.buffers.items():
                buffers[buffer] = max(size, buffers.get(buffer, 0))
        if len(self._codes) > 1 and not self._source.bidirectional:
            buffers["between"] = max(part.state_sizes[0] for part in self._parts)
        work = "".join(f"    float {buffer}[{size}];\n" for buffer, size in buffers.items())
        weights = "    const float *weights;\n" if self._apart else ""
        return [
            "/* What a sequence leaves behind; a copy of it is a copy of the sequence's state. */\n",
            f"typedef struct {name}_state {{\n{fields}}} {name}_state;\n\n",
            f"typedef struct {name} {{\n    {name}_state state;\n{weights}",
            f"    /* What one step needs. */\n{work}}} {name};\n\n",
        ]

    def _declarations(self) -> list[str]:
        name, upper = self._name, self._name.upper()
        given = "const void *weights" if self._apart else "void"
        init = ", const void *weights" if self._apart else ""
        found = []
        if self._apart:
            found.append(
                "/* weights: the content of the file of weights, at an address that float may have. "
                "It must\n * stay there as long as the model is used. */\n"
            )
        found += [
            f"#ifndef {upper}_NO_MALLOC\n",
            "/* A new model at the beginning of a sequence; NULL without memory"
            f"{' or with other weights' if self._apart else ''}. */\n",
            f"{name} *{name}_create({given});\n",
            f"void {name}_free({name} *self);\n#endif\n",
            "/* The same in memory of the caller. ",
            "Returns 0, or 1 for weights of another header. */\n"
            if self._apart
            else "Returns 0. */\n",
            f"int {name}_init({name} *self{init});\n",
            f"/* Begin a new sequence. */\nvoid {name}_reset({name} *self);\n",
        ]
        refusal = ""
        if self._source.steps is not None:
            refusal = f", or 1, with nothing done, for steps beyond {upper}_STEPS"
        if self._source.bidirectional:
            found.append(
                f"/* A whole sequence, x (steps, {upper}_INPUT_SIZE) to y (steps, "
                f"{upper}_OUTPUT_SIZE). Both\n * directions begin anew. work has "
                f"{upper}_WORK_SIZE(steps) floats. Returns 0{refusal}. */\n"
                f"int {name}_run({name} *self, long steps, const float *x, float *y, float *work);\n"
            )
        else:
            found.append(
                f"/* One step, x ({upper}_INPUT_SIZE) to y ({upper}_OUTPUT_SIZE). Returns 0{refusal}."
                f" */\nint {name}_step({name} *self, const float *x, float *y);\n"
                f"/* Several steps, x (steps, {upper}_INPUT_SIZE) to y (steps, {upper}_OUTPUT_SIZE)."
                f" */\nint {name}_run({name} *self, long steps, const float *x, float *y);\n"
            )
        return found

    def _functions(self) -> list[str]:
        name, upper, apart = self._name, self._name.upper(), self._apart
        copies = "".join(
            f"    memcpy(self->state.{field}, {array}, sizeof self->state.{field});\n"
            for field, array in self._initial.items()
        )
        found = [
            f"void {name}_reset({name} *self) {{\n",
            f"    memset(&self->state, 0, sizeof self->state);\n{copies}}}\n\n",
            f"int {name}_init({name} *self{', const void *weights' if apart else ''}) {{\n",
        ]
        if apart:
            numbers = ", ".join(f"{number}u" for number in self._arrays.prefix)
            found += [
                f"    static const uint32_t wanted[{PREFIX}] = {{{numbers}}};\n",
                "    if (!weights || memcmp(weights, wanted, sizeof wanted) != 0) return 1;\n",
                "    self->weights = (const float *)weights;\n",
            ]
        given, passed = ("const void *weights", ", weights") if apart else ("void", "")
        found += [
            f"    {name}_reset(self);\n    return 0;\n}}\n\n#ifndef {upper}_NO_MALLOC\n",
            f"{name} *{name}_create({given}) {{\n",
            f"    {name} *self = ({name} *)malloc(sizeof *self);\n",
            f"    if (self && {name}_init(self{passed}) != 0) {{\n",
            "        free(self);\n        self = NULL;\n    }\n    return self;\n}\n\n",
            f"void {name}_free({name} *self) {{\n    free(self);\n}}\n#endif\n\n",
        ]
        return found + (self._whole() if self._source.bidirectional else self._single())

    def _single(self) -> list[str]:
        """Return ``step`` and ``run`` of a model in one direction."""
        name, upper = self._name, self._name.upper()
        found = [f"int {name}_step({name} *self, const float *x, float *y) {{\n"]
        if self._source.steps is not None:
            found.append(f"    if (self->state.step >= {upper}_STEPS) return 1;\n")
        step = "self->state.step" if self._last else "0"
        for number, code in enumerate(self._codes):
            given = "self->between" if number else "x"
            to = "y" if number == len(self._codes) - 1 else "self->between"
            found.append(f"    {name}{code.part.suffix}(self, {given}, {to}, {step});\n")
        if self._last:
            found.append(f"    if (self->state.step < {self._last}) self->state.step++;\n")
        found.append("    return 0;\n}\n\n")
        found.append(f"int {name}_run({name} *self, long steps, const float *x, float *y) {{\n")
        if self._source.steps is not None:
            found.append(f"    if (steps > {upper}_STEPS - self->state.step) return 1;\n")
        found += [
            f"    for (; steps > 0; steps--, x += {upper}_INPUT_SIZE, y += {upper}_OUTPUT_SIZE)\n",
            f"        {name}_step(self, x, y);\n    return 0;\n}}\n",
        ]
        return found

    def _whole(self) -> list[str]:
        """Return ``run`` of a model in two directions."""
        name, upper, layers = self._name, self._name.upper(), self._source.layers
        found = [
            f"int {name}_run({name} *self, long steps, const float *x, float *y, float *work) {{\n"
        ]
        if self._source.steps is not None:
            found.append(f"    if (steps > {upper}_STEPS) return 1;\n")
        found.append(f"    {name}_reset(self);\n")
        found += ["    (void)work;\n"] if len(layers) == 1 else []
        given, width = "x", self._source.input_size
        for number, layer in enumerate(layers):
            # The last layer writes to y, and those before it in turn to the work and to y.
            to = "y" if (len(layers) - number) % 2 else "work"
            size = sum(part.state_sizes[0] for part in layer)
            place = 0
            for part, row in zip(layer, ("t", "(steps - 1 - t)")):
                found += [
                    "    for (long t = 0; t < steps; t++)\n",
                    f"        {name}{part.suffix}(self, {given} + {row} * {width}, "
                    f"{to} + {row} * {size} + {place}, t);\n",
                ]
                place += part.state_sizes[0]
            given, width = to, size
        return [*found, "    return 0;\n}\n"]
