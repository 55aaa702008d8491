"""Weights of int8: recurrent layers and cells that are a quarter as large, for inference.

Axes: R rows of a matrix, one for each unit of each gate, K numbers in a row.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from ..recurrence.int8 import matrices, rounded, scale_name
from .cell import RecurrentCell
from .layer import RecurrentLayer

Of = TypeVar("Of", bound=nn.Module)


@torch.no_grad()
def quantize_(model: Of) -> Of:
    """Turn the matrices of every recurrent layer and cell into int8, in place, for inference.

    W_ih, W_hh and the projection W_hr of each layer and direction become whole numbers Q with a
    scale s for each row, which belongs to one unit of one gate::

        s = max |W| / 127        Q = round(W / s)        W is about s Q

    >>> lstm = seqnorm.quantize_(seqnorm.LSTM(256, 256, norm="layer")).eval()
    >>> lstm.weight_hh_l0.dtype, lstm.weight_hh_l0_scale.shape
    (torch.int8, torch.Size([1024]))

    Norms, biases, states and the vector W_hh of an IndRNN stay in floating point. So do all modules
    of other kinds: embeddings, linear layers, layers of ``torch.nn`` (``convert_rnn`` turns torch's
    recurrent layers into those of this library) and ``DreamerGRUCell``. Norms keep the terms of a
    recurrence in one range, which is why recurrences with norms lose little when their weights are
    quantised (Hou et al. 2019, "Normalization Helps Training of Quantized LSTM").

    An element of W moves by s / 2 at most, and an element of W x by s / 2 times the sum of ``|x|``.
    The kernels on a CPU read the int8 as they are, which makes one step of a layer with 512 or more
    units about twice as fast or more. They round each row of x or h to whole numbers, too, of 16
    bits (fewer for K > 516, so that 32 bits hold every sum). This usually moves W x by a hundredth
    as much, or less. Calls of many rows of a small layer are computed in floating point. Elsewhere
    each call computes the matrices in floating point anew: on a GPU, in graphs, under autocast and
    where gradients are recorded.

    Q and s are buffers: ``weight_hh_l0`` and ``weight_hh_l0_scale``. So optimisers do not see them,
    and a state dict has about a quarter of the size. To load it, call ``quantize_`` on a model of
    the same form before. Gradients still reach the input and the other parameters.

    Args:
        model: a model in float32, float64 or bfloat16, or a layer or cell itself. Call ``eval()``
            on it, for in training mode its layers raise an error.

    Returns:
        The model, which has changed in place.

    Raises:
        TypeError: the model is no module.
        ValueError: it has no recurrent layer or cell of this library; one of them is quantised
            already, or its weights are parametrised or not finite. Nothing has changed then.
        RuntimeError: on a later call in training mode.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"quantize_ takes a module, got {type(model).__name__}")
    found = [
        (path, module)
        for path, module in model.named_modules()
        if isinstance(module, (RecurrentLayer, RecurrentCell))
    ]
    if not found:
        raise ValueError(
            f"{type(model).__name__} has no recurrent layer or cell of seqnorm: "
            "seqnorm.convert_rnn(model) turns those of torch into them"
        )
    for path, module in found:
        _check(path or type(module).__name__, module)
    for _, module in found:
        for name, weight in list(_matrices(module)):
            numbers, scale = rounded(weight)
            del module._parameters[name]
            module.register_buffer(name, numbers)
            module.register_buffer(scale_name(name), scale)
        module.quantised = True
    return model


def _matrices(module: RecurrentLayer | RecurrentCell) -> Iterator[tuple[str, Tensor]]:
    suffixes = [[""]] if isinstance(module, RecurrentCell) else module.suffixes
    for layer in suffixes:
        for suffix in layer:
            yield from matrices(module, suffix)


def _check(path: str, module: RecurrentLayer | RecurrentCell) -> None:
    """Raise ValueError unless the matrices of a module can be quantised."""
    if module.quantised:
        raise ValueError(f"{path} is quantised already: call quantize_ once")
    if parametrize.is_parametrized(module):
        raise ValueError(
            f"weights of {path} are parametrised, and are computed anew in each call: fix them "
            "before, torch.nn.utils.parametrize.remove_parametrizations(module, name)"
        )
    for name, weight in _matrices(module):
        if not bool(weight.isfinite().all()):
            raise ValueError(f"{name} of {path} has values that are NaN or infinite")
