"""The compiled kernels, which stand beside this file if the installation could compile them.

The environment variable ``SEQNORM_KERNELS`` is read once, here: "avx512", "avx2" or "base" chooses
an instruction set, and "none" disables the kernels.
"""

from __future__ import annotations

import ctypes
import os
from pathlib import Path
from typing import Any

from .missing import why_not

VARIABLE = "SEQNORM_KERNELS"
NONE = "none"
# The steps that have kernels, with their numbers in src/arguments.h.
STEPS = {"LSTM": 0, "GRU": 1, "LiGRU": 2, "RNN": 3, "IndRNN": 4, "SLSTM": 5}
KINDS = {None: 0, "layer": 1, "rms": 2, "batch": 3, "batch_pooled": 4}
_INTEGERS = ("cell", "T", "B", "I", "H", "P", "G", "threads", "sets")
_NORMS = ("norm_x", "norm_h", "norm_c", "own_x", "own_h", "own_c")
_FORMS = ("sum", "swapped", "relu", "half", "heads", "std_c")
_EPS = ("eps_x", "eps_h", "eps_c")
_READ = (
    *("rows", "input", "weight_ih", "weight_hh", "weight_hr"),
    *("scale_ih", "scale_hh", "scale_hr", "bias_in", "h_0", "c_0"),
    *("gain_x", "gain_h", "bias_x", "bias_h", "gain_c", "bias_c"),
    *("columns_x", "columns_h", "columns_c", "var_x", "var_h", "var_c"),
    *("before_x", "before_h", "before_c"),
    *("stay_h", "stay_c", "output", "h_n", "c_n"),
)
_GRADIENTS = (
    *("grad_output", "grad_h", "grad_c", "grad_x"),
    *("grad_input", "grad_weight_ih", "grad_weight_hh", "grad_weight_hr", "grad_sums"),
)
# The largest number of calls that run at the same time.
TOGETHER = 2


class Arguments(ctypes.Structure):
    """``src/arguments.h``, field by field."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in _INTEGERS),
        ("set_end", ctypes.c_int64 * 4),
        *((name, ctypes.c_int64) for name in (*_NORMS, *_FORMS)),
        *((name, ctypes.c_double) for name in (*_EPS, "zoneout_h", "zoneout_c")),
        *((name, ctypes.c_void_p) for name in _READ),
        ("keep", ctypes.c_int64),
        *((name, ctypes.c_void_p) for name in ("kept", *_GRADIENTS, "scratch")),
    )


class Layer(ctypes.Structure):
    """``Layer`` of ``src/arguments.h``."""

    _fields_ = (
        ("fixed", Arguments),
        ("biases", ctypes.c_void_p * 4),
        ("places", ctypes.c_int64 * 4),
        ("means", ctypes.c_void_p * 3),
        ("variances", ctypes.c_void_p * 3),
        ("counts", ctypes.c_void_p * 3),
        ("steps", ctypes.c_int64 * 3),
    )


def _load() -> tuple[Any, str]:
    """Return the library, or None and the reason."""
    if ASKED == NONE:
        return None, f"switched off by {VARIABLE}={NONE}"
    path = Path(__file__).with_name("_kernels.so")
    if not path.exists():
        return None, why_not(path)
    try:
        library = ctypes.CDLL(str(path))
        library.seqnorm_variant.restype = ctypes.c_char_p
        library.seqnorm_variant.argtypes = [ctypes.c_int64]
        library.seqnorm_has_threads.restype = ctypes.c_int64
        library.seqnorm_has_pairs.restype = ctypes.c_int64
        number, call = ctypes.c_int64, ctypes.POINTER(Arguments)
        library.seqnorm_sizes.argtypes = [number, number, call, number, ctypes.POINTER(number)]
        library.seqnorm_sizes.restype = None
        for name in ("seqnorm_forward", "seqnorm_backward"):
            getattr(library, name).argtypes = [number, number, ctypes.POINTER(call), number, number]
            getattr(library, name).restype = None
        library.seqnorm_prepared.argtypes = [ctypes.c_char_p]
        library.seqnorm_prepared.restype = number
    except (OSError, AttributeError) as error:  # AttributeError: a function is missing
        return None, why_not(path, str(error))
    return library, ""


def _variants() -> dict[str, int]:
    names = {} if LIBRARY is None else {k: LIBRARY.seqnorm_variant(k) for k in range(3)}
    return {name.decode(): number for number, name in names.items() if name}


def _chosen() -> str:
    """Return the instruction set that ``SEQNORM_KERNELS`` asks for, or the widest one.

    Raises:
        ValueError: the set does not exist here. This ends the import, so that no program runs on
            other kernels than asked for, or fails only at a later call.
    """
    if ASKED not in ("", NONE, *VARIANTS):
        there = ", ".join(map(repr, (*VARIANTS, NONE)))
        reason = f": {WHY_NOT}" if WHY_NOT else ""
        raise ValueError(f"{VARIABLE} must be one of {there} here, got {ASKED!r}{reason}")
    return ASKED or next(reversed(VARIANTS), NONE)


ASKED = os.environ.get(VARIABLE, "")
LIBRARY, WHY_NOT = _load()
# Instruction sets that the library and this machine both have, by name, the widest last.
VARIANTS = _variants()
CHOSEN = _chosen()
# True if the widest kernels multiply pairs of bfloat16.
PAIRS = LIBRARY is not None and bool(LIBRARY.seqnorm_has_pairs())


def way_of_half(half: bool) -> int:
    """Return how products are computed: REALS, ROUNDED or PAIRS of ``src/arguments.h``."""
    return 1 + PAIRS if half else 0


def describe() -> str:
    """Return the instruction set and the threads that the kernels use."""
    chosen = f"{CHOSEN} (chosen by {VARIABLE})" if ASKED else CHOSEN
    pool = "PyTorch's threads" if LIBRARY.seqnorm_has_threads() else "one thread (no OpenMP found)"
    return f"{chosen}, {pool}"
