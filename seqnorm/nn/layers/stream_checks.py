"""Models whose steps can be computed as they arrive, and the refusal of others.

Axes: t steps of a piece, B streams.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules import batchnorm, conv, instancenorm, pooling

from ..norms.sequence import GroupNorm, InstanceNorm
from ..norms.sequence_batch import BatchNorm
from ..recurrence.windows import refuse_window
from ..statistics.blending import Blending
from .layer import RecurrentLayer

_POOLING = tuple(
    kind for name, kind in vars(pooling).items() if name.endswith("d") and "Pool" in name
)
_APART = (
    "give an input of a few steps, Stream(model, example=x), which is computed whole and step by "
    "step, and accepted if the outputs agree"
)


def streamed_layers(model: Any) -> dict[str, RecurrentLayer]:
    """Return the recurrent layers of a model by their paths.

    Raises:
        TypeError: the model is not a module.
        ValueError: it has no such layer, or one that cannot be streamed.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"a Stream takes a model, a torch.nn.Module, got {type(model).__name__}")
    kind = type(model).__name__
    if isinstance(model, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
        raise ValueError(f"a Stream computes in one process: give {kind}'s own model.module")
    found: dict[str, RecurrentLayer] = {}
    for path, module in model.named_modules():
        compiled = getattr(module, "_compiled_call_impl", None) or hasattr(module, "_orig_mod")
        if compiled and any(isinstance(one, RecurrentLayer) for one in module.modules()):
            raise ValueError(
                f"{path or 'the model'} is compiled, and its graph would not ask for the states of "
                "a stream: leave the recurrent layers out of torch.compile"
            )
        if isinstance(module, RecurrentLayer):
            _check_layer(path, module)
            found[path] = module
        elif getattr(module, "state_of_caller", False):
            raise ValueError(
                f"{_at(path, module)}: a cell's state is kept by the code that calls it, where a "
                "Stream cannot find it: use the layer of the same step, if it has one, or call the "
                "cell itself for every frame, state = cell(x, state)"
            )
        elif isinstance(module, (nn.RNNBase, nn.RNNCellBase)):
            raise ValueError(
                f"{_at(path, module)} of torch, which would begin anew with every piece: "
                "seqnorm.convert_rnn(model, norm=None) replaces it by a layer of seqnorm that "
                "computes the same"
            )
    if not found:
        raise ValueError(f"there is no recurrent layer of seqnorm in {kind}")
    return found


def _check_layer(path: str, layer: RecurrentLayer) -> None:
    at = _at(path, layer)
    if layer.bidirectional:
        raise ValueError(
            f"{at} and bidirectional: its backward direction begins at the end of a sequence, "
            "which a stream does not have yet: use a layer with bidirectional=False, or compute "
            "whole sequences"
        )
    refuse_window(
        layer.norm,
        f"{at}, whose pieces would each begin with an empty window",
        "compute the sequences whole, or leave window=None",
    )


def _at(path: str, module: nn.Module) -> str:
    return f"{path or 'the model'} is a {type(module).__name__}"


def refuse_mixing(model: nn.Module) -> None:
    """Raise ValueError if a module other than a recurrent layer may read several steps at once."""
    inside: set[nn.Module] = set()
    for path, module in model.named_modules():
        if isinstance(module, RecurrentLayer):
            inside |= set(module.modules())
        reason = None if module in inside else _mixing(module)
        if reason is not None:
            raise ValueError(
                f"{_at(path, module)}, {reason}, so the outputs of pieces may not be those of the "
                f"whole: if every step is computed by itself, {_APART}; else stream the recurrent "
                "layers alone, and compute the rest around them"
            )


def _mixing(module: nn.Module) -> str | None:
    """Return the reason why a module may read several steps, or None."""
    if isinstance(module, conv._ConvNd):
        sizes = (*module.kernel_size, *module.stride)
        return None if set(sizes) <= {1} else "whose kernel may span several steps"
    if isinstance(module, _POOLING):
        return "which may pool several steps"
    if isinstance(module, nn.MultiheadAttention):
        return "which may attend to several steps"
    if isinstance(module, (instancenorm._InstanceNorm, InstanceNorm, GroupNorm, nn.GroupNorm)):
        return "whose statistics may be those of several steps"
    if isinstance(module, BatchNorm) and module.per_step:
        return "whose statistics of every step count from the beginning of each piece"
    if isinstance(module, batchnorm._BatchNorm) and module.running_mean is None:
        return "without running statistics, so that those of a piece are taken"
    if isinstance(module, Blending) and module.share is not None:
        return "whose statistics are blended with those of a piece"
    return None


def output_of(result: Any) -> Tensor | None:
    """Return the outputs of a model: its result, or the first part of it, if that is a tensor."""
    first = result[0] if isinstance(result, (tuple, list)) and result else result
    return first if isinstance(first, Tensor) else None


def check_example(stream: Callable[[], Callable[[Tensor], Any]], x: Any, time: int) -> None:
    """Raise ValueError unless an input has the same outputs whole and step by step.

    Args:
        stream: a function that returns a stream that begins.
        time: the axis of the steps of x.
    """
    if not isinstance(x, Tensor) or x.dim() <= time or x.shape[time] < 2:
        raise ValueError(
            "example must be an input of the model, a Tensor with two steps or more, got "
            f"{tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__}"
        )
    whole = output_of(stream()(x))
    if whole is None:
        raise ValueError(
            "outputs can be compared if the model returns a Tensor, or a tuple that begins with one"
        )
    one = stream()
    parts = []
    for step in range(x.shape[time]):
        try:
            parts.append(output_of(one(x.narrow(time, step, 1))))
        except Exception as error:
            raise ValueError(f"the model cannot compute step {step} by itself: {error}") from error
    found = torch.cat([part for part in parts if part is not None], time)
    # A norm of nearly equal numbers, such as those of the first step, enlarges rounding errors.
    near = 10 * torch.finfo(whole.dtype).eps ** 0.5 if whole.is_floating_point() else 0.0
    if found.shape == whole.shape and torch.allclose(found, whole, near, near, equal_nan=True):
        return
    apart = ""
    if found.shape == whole.shape:
        differ = ~torch.isclose(found, whole, near, near, equal_nan=True)
        step = int(differ.movedim(time, 0).flatten(1).any(1).nonzero()[0])
        apart = f", first at step {step}"
    raise ValueError(
        f"the model's outputs for the example step by step are not those of the whole{apart}: a "
        "part of it reads several steps at once; stream the recurrent layers alone, and compute "
        "the rest around them"
    )
