"""The compiled kernels, which stand beside this file where the installation could compile them."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

CELLS = {"LSTM": 0, "GRU": 1}
KINDS = {None: 0, "layer": 1, "rms": 2, "batch": 3}
_INTEGERS = ("cell", "T", "B", "I", "H", "G", "threads", "sets")
_NORMS = ("norm_x", "norm_h", "norm_c", "own_x", "own_h", "own_c", "sum", "swapped")
_EPS = ("eps_x", "eps_h", "eps_c")
_READ = (
    *("rows", "input", "weight_ih", "weight_hh", "bias_in", "h_0", "c_0"),
    *("gain_x", "gain_h", "bias_x", "bias_h", "gain_c", "bias_c"),
    *("columns_x", "columns_h", "columns_c", "var_x", "var_h", "var_c"),
    *("stay_h", "stay_c", "output", "h_n", "c_n"),
)
_GRADIENTS = (
    *("grad_output", "grad_h", "grad_c", "grad_x"),
    *("grad_input", "grad_weight_ih", "grad_weight_hh", "grad_sums"),
)


# Calls that run at the same time, at most.
TOGETHER = 2


class Arguments(ctypes.Structure):
    """``src/arguments.h``, field by field."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in _INTEGERS),
        ("set_end", ctypes.c_int64 * 4),
        *((name, ctypes.c_int64) for name in _NORMS),
        *((name, ctypes.c_double) for name in (*_EPS, "zoneout_h", "zoneout_c")),
        *((name, ctypes.c_void_p) for name in _READ),
        ("keep", ctypes.c_int64),
        *((name, ctypes.c_void_p) for name in ("kept", *_GRADIENTS, "scratch")),
    )


def _load() -> tuple[Any, str]:
    """The library, or None and why there is none."""
    path = Path(__file__).with_name("_kernels.so")
    if not path.exists():
        return None, (
            "its kernels were not compiled when seqnorm was installed: install a C compiler (gcc "
            "or clang), then seqnorm anew"
        )
    try:
        library = ctypes.CDLL(str(path))
    except OSError as error:
        return None, f"its kernels cannot be loaded ({error}): install seqnorm anew"
    library.seqnorm_variant.restype = ctypes.c_char_p
    library.seqnorm_variant.argtypes = [ctypes.c_int64]
    library.seqnorm_has_threads.restype = ctypes.c_int64
    number, call = ctypes.c_int64, ctypes.POINTER(Arguments)
    library.seqnorm_sizes.argtypes = [number, number, call, number, ctypes.POINTER(number)]
    library.seqnorm_sizes.restype = None
    for name in ("seqnorm_forward", "seqnorm_backward"):
        getattr(library, name).argtypes = [number, number, ctypes.POINTER(call), number, number]
        getattr(library, name).restype = None
    return library, ""


def _variants() -> dict[str, int]:
    names = {} if LIBRARY is None else {k: LIBRARY.seqnorm_variant(k) for k in range(3)}
    return {name.decode(): number for number, name in names.items() if name}


LIBRARY, WHY_NOT = _load()
# Instruction sets that the library and this machine both have, by name, the widest last.
VARIANTS = _variants()


def describe() -> str:
    """What of this machine the kernels use."""
    pool = "PyTorch's threads" if LIBRARY.seqnorm_has_threads() else "one thread (no OpenMP found)"
    return f"{list(VARIANTS)[-1]}, {pool}"
