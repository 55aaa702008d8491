"""The header file: declarations, and the implementation behind a macro.

Axes: T steps, I = input_size, O = size of a layer's output.
"""

from __future__ import annotations

import os
import textwrap
from pathlib import Path
from typing import Union

import torch
from torch import nn

from ...files import write_atomically
from ...version import __version__
from .arrays import Arrays
from .functions import Model
from .names import checked
from .source import read

PathLike = Union[str, "os.PathLike[str]"]
_RUNTIME = Path(__file__).with_name("runtime.h")
# @ stands for the name of the model, and @@ for the name in capitals.
_HEADER = """\
#ifndef @@_H_INCLUDED
#define @@_H_INCLUDED

#include <stddef.h>

$MACROS
#ifdef __cplusplus
extern "C" {
#endif

$TYPES
$DECLARATIONS
#ifdef __cplusplus
}
#endif

#endif

#if defined(@@_IMPLEMENTATION) && !defined(@@_IMPLEMENTED)
#define @@_IMPLEMENTED

#ifndef @@_NO_MALLOC
#include <stdlib.h>
#endif

$RUNTIME
$ARRAYS
$STEPS
$FUNCTIONS
#endif
"""


@torch.no_grad()
def to_c(
    module: nn.Module, path: PathLike, *, name: str | None = None, weights: str = "header"
) -> list[Path]:
    """Write a recurrent layer or cell as a C99 header that needs nothing but libm.

    >>> layer = seqnorm.GRU(16, 32, norm="layer").eval()
    >>> seqnorm.export.to_c(layer, "denoiser.h")  # doctest: +SKIP

    The header declares a type and functions that begin with its name: ``denoiser_create``,
    ``denoiser_step`` (an input x (I,) to an output y (O,)), ``denoiser_run`` (x (T, I) to
    y (T, O)), ``denoiser_reset`` and ``denoiser_free``. The source file that defines
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
    model = Model(name, read(module), Arrays(name, weights == "file"))
    written = [path]
    if model.apart:
        written.append(path.with_suffix(".bin"))
        write_atomically(written[1], model.arrays.file())
    write_atomically(path, _text(model))
    return written


def _text(model: Model) -> str:
    """Return the header of a model."""
    macros = "".join(f"#define @@_{key} {value}\n" for key, value in model.macros().items())
    arrays = "".join(f"{code.source()}\n" for code in model.codes)
    text = _HEADER.replace("$MACROS", macros).replace("$TYPES", model.types())
    text = text.replace("$DECLARATIONS", model.declarations())
    text = text.replace("$FUNCTIONS", model.functions())
    text = text.replace("@@", model.name.upper()).replace("@", model.name)
    text = text.replace("$RUNTIME", _RUNTIME.read_text(encoding="utf-8"))
    text = text.replace("$ARRAYS", model.arrays.source()).replace("$STEPS", arrays)
    return _comment(model) + text


def _comment(model: Model) -> str:
    words = f"{model.name}: {model.source.words}, written by seqnorm {__version__}."
    how = f"Define {model.name.upper()}_IMPLEMENTATION before including this file in one source "
    how += "file of the program, and link with libm. Nothing but the struct is written, so that "
    how += "several can be used at once, each by one thread at a time."
    lines = [*textwrap.wrap(words.replace("*/", ""), 96), "", *textwrap.wrap(how, 96)]
    return "\n".join(["/*", *(f" * {line}".rstrip() for line in lines), " */\n"])
