"""Questions about the tensors of a call, and about who follows what is done with them."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch._subclasses.functional_tensor import FunctionalTensor
from torch.autograd import forward_ad
from torch.nn import Parameter
from torch.utils._python_dispatch import _get_current_dispatch_mode_stack

# Hooks of saved tensors, if there are some. Without the function, in an older torch, they see of a
# call of the kernels only its arguments and its output.
_top_hooks = getattr(torch._C._autograd, "_top_saved_tensors_default_hooks", None)
_is_wrapped = torch._C._functorch.is_functorch_wrapped_tensor


def is_plain(tensor: Tensor) -> bool:
    """Whether a tensor has memory of its own that means what it says."""
    if type(tensor) not in (Tensor, Parameter):
        return False
    try:
        address = tensor.data_ptr()
    except RuntimeError:  # one that stands for many, as in a vectorised backward pass
        return False
    # There is no memory behind a meta tensor, a freed storage or a tensor of symbolic zeros.
    return (address != 0 or not tensor.numel()) and not _is_wrapped(tensor)


def refuse_freed(tensors: Iterable[Tensor]) -> None:
    """Refuse what torch's own functions follow to where nothing is, so that the process dies.

    Raises:
        RuntimeError: the storage of a tensor was freed, as a sharded model does.
    """
    if torch.compiler.is_compiling():
        return
    for tensor in tensors:
        if type(tensor) not in (Tensor, Parameter) or is_plain(tensor) or _is_wrapped(tensor):
            continue
        if tensor.device.type not in ("cpu", "cuda") or tensor._is_zerotensor():
            continue
        if not tensor.untyped_storage().nbytes():
            raise RuntimeError(
                f"a tensor {tuple(tensor.shape)} of this call has no memory: its storage was "
                "freed, as of a parameter that a sharded model keeps elsewhere"
            )


def is_traceable(tensor: Tensor) -> bool:
    """Whether a tensor is plain, or stands for a plain one."""
    return type(tensor) in (Tensor, Parameter, FakeTensor, FunctionalTensor)


def is_traced(tensors: Iterable[Tensor]) -> bool:
    """Whether somebody follows what the kernels would do unseen."""
    return (
        torch.compiler.is_compiling()
        or torch._C._len_torch_dispatch_stack() > 0
        or (_top_hooks is not None and _top_hooks(False) is not None)
        or any(type(tensor) not in (Tensor, Parameter) for tensor in tensors)
    )


def is_transformed() -> bool:
    """Whether ``torch.func`` is at work, vmap included."""
    return torch._C._are_functorch_transforms_active()


def is_forward_mode() -> bool:
    """Whether tensors may carry tangents of forward-mode differentiation."""
    return forward_ad._current_level >= 0


def counts_operations() -> bool:
    """Whether torch.utils.flop_counter counts, which knows formulas of torch's own operators."""
    if torch.compiler.is_compiling():
        return False
    modes = _get_current_dispatch_mode_stack()
    return any(type(mode).__module__ == "torch.utils.flop_counter" for mode in modes)
