"""Prepared calls: inference by addresses that stay between calls.

One step of a small layer takes a few microseconds, and collecting its tensors takes ten times as
long. A prepared call collects them once. It keeps addresses and layouts, never values, so that an
optimiser, ``load_state_dict`` or a write to ``.data`` needs no notice: it changes the memory that
the kernels read. Each call checks that the module still has the same tensors at the same addresses.

Axes: T steps, B sequences, I inputs, H units, P = size of h, L layers.
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

from ...autocast import autocast_dtype, is_autocast
from ...recurrence.direction import Direction
from ...recurrence.site_norms import BatchSiteNorm
from ...recurrence.step import State
from ..watching import dispatch_modes, is_transformed, tracing_state
from . import kernels, library
from .half import only_whole
from .int8 import most_rows
from .library import LIBRARY, STEPS, Arguments, Layer
from .plan import inference_plan

_WIDE = {torch.float32: 0, torch.float64: 1}
_PACK = struct.Struct("15q").pack  # ``Prepared`` of src/arguments.h
_BITS = {"i": 1, "x": 2, "h": 4}  # where biases are added, as there
_NO_MEMORY = 1


def is_plain_inference() -> bool:
    """Return whether nothing records, traces or transforms the operations of a call."""
    return not (
        torch.is_grad_enabled()
        or tracing_state() is not None
        or dispatch_modes() > 0
        or is_transformed()
        or forward_ad._current_level >= 0
    )


def can_prepare(directions: Sequence[Direction]) -> bool:
    """Return whether the kernels can compute these layers, one direction each, by addresses."""
    return LIBRARY is not None and all([_can_prepare(direction) for direction in directions])


def _can_prepare(direction: Direction) -> bool:
    step = direction.step
    if step.name not in STEPS:
        return False
    if direction.scheme is None and step.fused is not None and not direction.scales:
        return False  # torch's own layer
    plan = inference_plan(direction)
    if plan.reason is not None or plan.outside:
        return False
    tensors = list(direction.tensors)
    for norm in direction.norms.values():
        if isinstance(norm, BatchSiteNorm):
            tensors += [norm.table.running_mean, norm.table.running_var]
    dtype = direction.dtype
    matrices = [getattr(direction, name) for name in direction.scales]
    for tensor in tensors:
        if type(tensor) not in (Tensor, nn.Parameter) or not tensor.is_cpu or tensor.is_neg():
            return False
        if not tensor.is_contiguous() or not tensor.data_ptr():
            return False
        if tensor.dtype != dtype and not any([tensor is matrix for matrix in matrices]):
            return False
    return dtype in _WIDE


class Prepared:
    """Layers of one direction each, ready for sequences of equal lengths.

    Args:
        directions: The layers, for which ``can_prepare`` holds.
    """

    def __init__(self, directions: Sequence[Direction]) -> None:
        first = directions[0]
        self.dtype = first.dtype
        self.zoneout = first.zoneout
        self._work = kernels.work_of_row(first.weight_ih, first.weight_hh)
        self._owner = first.places[0][0], first.places[-1][0]
        self._weight = first.scales.get("weight_ih", first.weight_ih)
        self._only_whole = only_whole(first)
        self._most_rows = min([most_rows(direction) for direction in directions])
        # Where each tensor, norm and nonlinearity is found; a tensor with its address and size.
        # Shapes take longer to compare, so only those of matrices are.
        self._tensors: list[tuple[dict[str, Any], str, Tensor, int, int]] = []
        self._matrices: list[tuple[Tensor, torch.Size]] = []
        self._others: list[tuple[dict[str, Any], str, object]] = []
        self._norms_of_batch: list[BatchSiteNorm] = []
        self._layers = (Layer * len(directions))()
        for layer, direction in zip(self._layers, directions):
            self._write(layer, direction)
        self._fixed = _WIDE[self.dtype], ctypes.addressof(self._layers), len(directions)

    def _write(self, layer: Layer, direction: Direction) -> None:
        """Write the addresses of a direction into the structure of the kernels."""
        plan = inference_plan(direction)
        fixed = Arguments.from_buffer_copy(plan.arguments)
        fixed.I = direction.weight_ih.shape[1]
        fixed.weight_ih = direction.weight_ih.data_ptr()
        fixed.weight_hh = direction.weight_hh.data_ptr()
        if direction.weight_hr is not None:
            fixed.P = direction.weight_hr.shape[0]
        fixed.weight_hr = _address(direction.weight_hr)
        for name, scale in direction.scales.items():
            setattr(fixed, name.replace("weight", "scale"), _address(scale))
        for part, p in zip("hc", direction.zoneout):
            setattr(fixed, "zoneout_" + part, p)
        biases = [direction.bias_ih, direction.bias_hh]
        for number, (term, site) in enumerate(zip("xhc", plan.sites)):
            gain, bias = direction.affine.get(site, (None, None))
            setattr(fixed, "gain_" + term, _address(gain))
            if term == "c":
                fixed.bias_c = _address(bias)
            else:
                biases.append(bias)
            norm = direction.norms.get(site)
            if isinstance(norm, BatchSiteNorm):
                self._add_table(layer, number, norm)
        for number, (bias, letters) in enumerate(zip(biases, plan.places)):
            layer.biases[number] = _address(bias)
            layer.places[number] = sum([_BITS[letter] for letter in letters])
        layer.fixed = fixed
        for place in direction.places:
            self._hold(*place)
        step = direction.step
        for option in ("nonlinearity", "heads"):
            self._hold(vars(step), option, vars(step).get(option))

    def _add_table(self, layer: Layer, number: int, norm: BatchSiteNorm) -> None:
        table = norm.table
        self._norms_of_batch.append(norm)
        layer.means[number] = table.running_mean.data_ptr()
        layer.variances[number] = table.running_var.data_ptr()
        layer.counts[number] = table.count.data_ptr()
        layer.steps[number] = table.max_steps
        for name, buffer in table._buffers.items():
            self._hold(table._buffers, name, buffer)

    def _hold(self, where: dict[str, Any], name: str, found: Any) -> None:
        if isinstance(found, Tensor):
            self._tensors.append((where, name, found, found.data_ptr(), found.numel()))
            self._matrices += [(found, found.shape)] if found.dim() > 1 else []
        elif found is not None:
            self._others.append((where, name, found))

    def holds_for(self, module: nn.Module) -> bool:
        """Return whether the module has the same tensors at the same addresses, and can be run.

        Norms of the batch must be in inference, with tables that are unchanged since they were last
        searched for statistics that cannot be trusted.
        """
        parameters, modules = self._owner  # a replica of the module has dictionaries of its own
        if module._parameters is not parameters or module._modules is not modules:
            return False
        try:
            for where, name, tensor, address, size in self._tensors:
                if where[name] is not tensor or tensor.data_ptr() != address:
                    return False
                if tensor.numel() != size:
                    return False
            for where, name, found in self._others:
                if where[name] is not found:
                    return False
        except KeyError:
            return False
        for matrix, shape in self._matrices:  # a square one keeps its shape when it is transposed
            if matrix.shape != shape or not matrix.is_contiguous():
                return False
        for of_batch in self._norms_of_batch:
            if of_batch.learns or not of_batch.table.is_looked_at:
                return False
        return self._weight.dtype is self.dtype

    def run(
        self,
        input: Tensor,
        state: State | None,
        steps: int,
        batch: int,
        first: int,
        output: Tensor,
        new: State,
    ) -> bool:
        """Compute outputs and final state; return False if another backend has to compute them.

        All tensors are contiguous and of the dtype of the parameters.

        Args:
            input: (T, B, I).
            state: (L, B, P) and (L, B, H), or one of them, as ``states.joined`` returns them; zeros
                if None.
            steps, batch: T and B, neither of them 0.
            first: The number of the first step.
            output: (T, B, P), to be written. For one step of one layer it may be ``new[0]``.
            new: The final state, to be written, in the form of ``state``.

        Raises:
            MemoryError: There is not enough memory.
        """
        half = self.dtype is torch.float32 and is_autocast("cpu")
        if half and (self._only_whole or autocast_dtype("cpu") != torch.bfloat16):
            return False
        if steps * batch > self._most_rows:
            return False
        given, written = input.data_ptr(), output.data_ptr()
        h_0, c_0 = (0, 0) if state is None else (state[0].data_ptr(), state[-1].data_ptr())
        threads = min(torch.get_num_threads(), batch * self._work // kernels.LEAST_WORK) or 1
        sizes = steps, batch, first, threads
        final = new[0].data_ptr(), new[1].data_ptr() if len(new) > 1 else 0
        variant = library.VARIANTS[library.CHOSEN]
        way = library.way_of_half(half)
        failed: int = LIBRARY.seqnorm_prepared(
            _PACK(variant, *self._fixed, *sizes, given, h_0, c_0, written, *final, way)
        )
        if failed == _NO_MEMORY:
            raise MemoryError(f"there is not enough memory for {steps} steps of {batch} sequences")
        return not failed


def _address(tensor: Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()
