"""Properties of the tensors of a call, and of the tools that trace or watch it."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch._subclasses.functional_tensor import FunctionalTensor
from torch.autograd import forward_ad
from torch.nn import Parameter
from torch.utils._python_dispatch import _get_current_dispatch_mode_stack

# Returns the hooks of saved tensors, if any. An older torch lacks the function: there the hooks see
# only the arguments and the output of a call of the kernels.
_top_hooks = getattr(torch._C._autograd, "_top_saved_tensors_default_hooks", None)
_is_wrapped = torch._C._functorch.is_functorch_wrapped_tensor
# Calls of torch itself: in one step, a function around each would take as long as they do.
tracing_state = torch._C._get_tracing_state
dispatch_modes = torch._C._len_torch_dispatch_stack
is_transformed = torch._C._are_functorch_transforms_active  # vmap is a transform, too
_PLAIN = frozenset((Tensor, Parameter, type(None)))


def refuse_freed(tensors: Iterable[Tensor]) -> None:
    """Raise RuntimeError for a tensor whose storage was freed, as a sharded model does.

    torch's own functions would read from there and end the process.
    """
    if torch.compiler.is_compiling():
        return
    for tensor in tensors:
        if type(tensor) not in _PLAIN or all_plain((tensor,)) or _is_wrapped(tensor):
            continue
        if tensor.device.type not in ("cpu", "cuda") or tensor.layout != torch.strided:
            continue
        if tensor._is_zerotensor():
            continue
        if not tensor.untyped_storage().nbytes():
            raise RuntimeError(
                f"a tensor {tuple(tensor.shape)} of this call has no memory: its storage was "
                "freed, as of a parameter that a sharded model keeps elsewhere"
            )


def refuse_fixed_length() -> None:
    """Raise RuntimeError in ONNX's exporter of torch.jit, which would fix the number of steps."""
    if torch.compiler.is_compiling() or tracing_state() is None:
        return
    if torch.onnx.is_in_onnx_export():
        raise RuntimeError(
            "this exporter would write out every step of the example, for sequences of that length "
            "alone: write torch.onnx.export(..., dynamo=True), or seqnorm.export.to_onnx"
        )


def all_plain(tensors: Iterable[Tensor]) -> bool:
    """Return whether each tensor has memory of its own that holds its numbers."""
    try:
        for tensor in tensors:
            # A meta tensor, a freed storage and a tensor of symbolic zeros have no memory.
            if type(tensor) not in _PLAIN or (not tensor.data_ptr() and tensor.numel()):
                return False
    except RuntimeError:  # a batch of tensors, as in a vectorised backward pass
        return False
    return True


def all_traceable(tensors: Iterable[Tensor]) -> bool:
    """Return whether all tensors are plain or represent plain ones in a trace."""
    kinds = (Tensor, Parameter, FakeTensor, FunctionalTensor)
    return all([type(tensor) in kinds for tensor in tensors])


def is_traced(tensors: Iterable[Tensor | None]) -> bool:
    """Return whether a tool traces or watches operations, which does not see the kernels."""
    return (
        torch.compiler.is_compiling()
        or dispatch_modes() > 0
        or (_top_hooks is not None and _top_hooks(False) is not None)
        or not _PLAIN.issuperset(map(type, tensors))
    )


def is_forward_mode() -> bool:
    """Return whether tensors may carry tangents of forward-mode differentiation."""
    return forward_ad._current_level >= 0


def counts_operations() -> bool:
    """Return whether torch.utils.flop_counter is active, which knows only torch's operators."""
    if torch.compiler.is_compiling():
        return False
    modes = _get_current_dispatch_mode_stack()
    return any(type(mode).__module__ == "torch.utils.flop_counter" for mode in modes)
