"""Kernels in Triton for NVIDIA GPUs, which PyTorch's builds for CUDA bring along.

They have not run on a GPU yet, so that this backend is the last one, after ``reference``, and
computes a call only where a program asks for it. Under ``TRITON_INTERPRET=1`` they are interpreted
and take tensors on the CPU.

Axes: B sequences, N packed rows, I inputs, H units, P = size of h, G gates.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from ...autocast import autocast_dtype, is_autocast
from ...recurrence.direction import Direction, DirectionCall
from ...recurrence.packing import Packing
from ...recurrence.step import State
from ..cpu.around import alone, finish, start
from ..cpu.plan import Plan, fits, make_plan, units_of
from ..cpu.traced import COMPILES, ENGINES
from ..watching import (
    all_plain,
    all_traceable,
    counts_operations,
    is_forward_mode,
    is_traced,
    is_transformed,
    tracing_state,
)

STEPS = ("LSTM", "GRU", "RNN", "LiGRU")
LEAST = (8, 0)  # compute capability: products of bfloat16 and TF32
# Norms of the batch hold all rows of a step in a tile, and norms of a row all units.
MOST_ROWS, MOST_HIDDEN = 1024, 8192
# Offsets within a step, and within the statistics of all steps, are numbers of 32 bits.
MOST_NUMBERS = 2**31
_HALF = (torch.bfloat16, torch.float16)
FLOATS = (torch.float32, torch.float64, *_HALF)


def status() -> tuple[bool, str]:
    """Return whether Triton and a GPU are there, and a description."""
    why_not = _why_not()
    return not why_not, why_not or "not yet run on hardware, only on request"


def _why_not() -> str:
    if find_spec("triton") is None:
        return "the package triton is not installed, which PyTorch's builds for CUDA bring along"
    if not COMPILES:
        return "its kernels need triton 3.0, which comes with torch 2.4"
    if _interprets():
        return ""
    if not torch.cuda.is_available():
        return "there is no GPU that PyTorch can use"
    return "" if torch.version.hip is None else "its kernels are for NVIDIA GPUs"


def _interprets() -> bool:
    return os.environ.get("TRITON_INTERPRET") == "1"


def claims(direction: Direction, rows: Tensor, packing: Packing, state: State) -> str | None:
    """Return ``None`` for a call that the kernels can compute, or the reason why they cannot."""
    if tracing_state() is not None:
        return "torch.jit.trace does not see what its kernels do"
    if rows.device.type != ("cpu" if _interprets() else "cuda"):
        return f"its kernels are for NVIDIA GPUs, and the input is on {rows.device}"
    compiling = torch.compiler.is_compiling()
    if rows.is_cuda and not compiling and torch.cuda.get_device_capability(rows.device) < LEAST:
        return f"its kernels need compute capability {'.'.join(map(str, LEAST))}"
    if is_forward_mode():
        return "its kernels have no forward-mode derivatives"
    if direction.scales:
        return "it has no kernel for weights of int8"
    given = (*direction.tensors, rows, *state)
    traced = is_traced(given)
    if traced and counts_operations():
        return "its kernels do not say how many operations they are"
    known = all_traceable if traced else all_plain
    if is_transformed() or not known(given):
        return "its kernels take only plain tensors, no subclasses and none inside torch.func"
    return _refusal_of_dtypes(rows, given, traced) or _refusal(direction, packing, len(state[0]))


def _half(rows: Tensor) -> torch.dtype | None:
    """Return the dtype of products with these rows, if it is half precision."""
    if rows.dtype in _HALF:
        return rows.dtype
    kind = rows.device.type
    if rows.dtype == torch.float32 and is_autocast(kind):
        return autocast_dtype(kind)
    return None


def _refusal_of_dtypes(rows: Tensor, given: tuple[Tensor, ...], traced: bool) -> str | None:
    half = _half(rows)
    if rows.dtype not in FLOATS or half not in (None, *_HALF):
        return "its kernels compute only in float32, float64, bfloat16 and float16"
    if traced and half is not None:
        return "its kernels do not compute in half precision in graphs and under tools that watch"
    known = (rows.dtype,) if half is None or rows.dtype in _HALF else (torch.float32, half)
    if any([tensor.dtype not in known or tensor.device != rows.device for tensor in given]):
        return "its kernels take input, weights and states of one dtype, on one device"
    return None


def _refusal(direction: Direction, packing: Packing, batch: int) -> str | None:
    if packing.totals is not None:
        return "its kernels take the statistics of one process, and here several share theirs"
    if packing.empty:
        return "no rows"
    step = direction.step
    if step.name not in STEPS:
        return f"it has no kernel for the {step.name}"
    if step.heads > 1:
        return "it has no kernel with heads"
    if direction.weight_hr is not None:
        return "it has no kernel with a projection (proj_size)"
    plan = _plan_of(direction)
    if plan.reason is not None:
        return plan.reason
    if any(plan.norm_at(site).r_max is not None for site in plan.sites if site):
        return "it has no kernel for Batch Renormalization"
    if plan.batch and batch > MOST_ROWS:
        return f"its kernels hold at most {MOST_ROWS} sequences with norms of the batch"
    if plan.hidden_size > MOST_HIDDEN or batch * plan.hidden_size * 4 >= MOST_NUMBERS:
        return f"its kernels hold at most {MOST_HIDDEN} units, and 2^31 numbers of a step"
    if plan.batch and packing.steps * plan.hidden_size * 8 >= MOST_NUMBERS:
        return "its kernels hold at most 2^31 statistics of all steps"
    return _why_not() or None


def _plan_of(direction: Direction) -> Plan:
    """Return the plan of the recurrence alone: all before and after it is computed apart."""
    found: Plan | None = direction.plans.get("triton")
    if found is None or not fits(found, direction.step):
        hidden = units_of(direction.step, direction.weight_hh)
        found = make_plan(direction.step, direction.scheme, hidden, alone=True)
        direction.plans["triton"] = found
    return found


def run(direction: Direction, rows: Tensor, packing: Packing, state: State) -> tuple[Tensor, State]:
    """Compute packed outputs and final state from packed inputs (N, I) and state (B, P), (B, H)."""
    return run_layer([(direction, rows, packing, state)])[0]


def run_layer(calls: Sequence[DirectionCall]) -> list[tuple[Tensor, State]]:
    """Run all directions of a layer."""
    from . import passes  # Triton is imported only where its kernels run

    works = [start(call, _plan_of(call[0]), _half(call[1]), hoisted=True) for call in calls]
    return finish(calls, works, [alone(one, passes) for one in works])


def _engine() -> Any:
    """Return the module that computes graphs on a GPU, or ``None``."""
    if _why_not():
        return None
    from . import passes

    return passes


# Before any graph is traced, and in a program that loads one.
ENGINES["cuda"] = _engine
