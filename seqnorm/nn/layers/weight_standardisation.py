"""Weight standardisation: rows of a weight with mean 0 and standard deviation 1.

The weight is computed from a parameter before a call, by a parametrisation of torch, and then used
like any other. So every backend takes it, and neither a cell nor a norm knows of it.

Axes: R rows of a weight, one for each output, K numbers in a row.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from ..check import check_eps, check_number, choose, nearest
from ..statistics.moments import affine, moments, normalise

OF_A_RECURRENCE = ("weight_ih", "weight_hh")
Of = TypeVar("Of", bound=nn.Module)


class WeightStandardisation(nn.Module):
    """A parametrisation: ``(W - mean) / sqrt(var + eps)`` over each row of W, times a gain (R,).

    Args:
        gain: the initial gain (R,), or ``None`` for no gain.
        eps: added to the variance of a row.
    """

    gain: nn.Parameter | None

    def __init__(self, gain: Tensor | None, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.register_parameter("gain", None if gain is None else nn.Parameter(gain))

    def forward(self, weight: Tensor) -> Tensor:
        """Standardise a weight (R, ...); all further axes belong to its rows."""
        rows = weight.flatten(1)
        mean, var, _ = moments(rows, (1,))
        gain = None if self.gain is None else self.gain[:, None]
        standardised = affine(normalise(rows, mean, var, self.eps), gain, None)
        return standardised.to(weight.dtype).reshape(weight.shape)

    def extra_repr(self) -> str:
        return f"eps={self.eps}, gain={self.gain is not None}"


def weight_standardisation(
    module: Of,
    names: str | Iterable[str] = OF_A_RECURRENCE,
    *,
    eps: float = 1e-5,
    gain: float | str | None = None,
) -> Of:
    """Standardise the rows of weights of a module (Qiao et al. 2019, arXiv 1903.10520).

    ``W = gain * (V - mean(V)) / sqrt(var(V) + eps)`` for each row of W, which belongs to one unit
    of one gate. V is learned. Mean and biased variance are over the K numbers of the row, or over
    all inputs and positions of a kernel of a convolution, as in the paper. (Its code divides by the
    unbiased standard deviation plus eps.)

    >>> lstm = seqnorm.weight_standardisation(seqnorm.LSTM(16, 32, norm="layer"))
    >>> w = lstm.weight_hh_l0
    >>> bool(w.mean(1).abs().max() < 1e-5), bool((w.norm(dim=1) - 32**0.5).abs().max() < 0.1)
    (True, True)

    Weights are computed once for each call of a layer, so the kernels stay in use. A cell computes
    them at every step, unless the loop stands in ``torch.nn.utils.parametrize.cached()``. V is
    ``parametrizations.<name>.original`` of the state dict, and the gain is
    ``parametrizations.<name>.0.gain``.
    ``torch.nn.utils.parametrize.remove_parametrizations(module, name)`` makes W an ordinary
    parameter again.

    In torch 2.3, ``torch.compile`` cannot follow a layer with parametrised weights.

    A row of W has the length sqrt(K). In a layer with H units this is sqrt(3 H) times the length of
    an initial row of torch, so a norm should follow, as in the paper. Otherwise choose a gain.

    Args:
        module: a layer or cell of this library, or any other module.
        names: parameters of the module itself; "weight_hh" means that of every layer and
            direction. For a linear layer or a convolution write ``"weight"``.
        eps: added to the variance, which is 1 / (3 H) in torch's initial weights of a layer with H
            units.
        gain: initial value of a learned gain for each row; "unit" for 1 / sqrt(K), with which rows
            begin with length 1 (Scaled Weight Standardization, Brock et al. 2021, arXiv
            2101.08692); ``None`` for no gain, as in Qiao et al.

    Returns:
        The module, which has changed in place.

    Raises:
        ValueError: the module has no such parameter, or has standardised it already; a weight is a
            vector, as the recurrent weight of an IndRNN, or its rows have fewer than three numbers,
            of which two always become 1 and -1; or ``eps`` or ``gain`` is invalid.
        TypeError: ``names``, ``eps`` or ``gain`` is of a wrong type.
    """
    check_eps(eps)
    if isinstance(gain, str):
        choose("gain", gain, ("unit",))
    elif gain is not None:
        check_number("gain", gain)
    found = _named(module, names)
    for name in found:
        _check(module, name)
    for name in found:
        weight = getattr(module, name)
        parametrize.register_parametrization(
            module, name, WeightStandardisation(_initial(gain, weight), eps)
        )
    return module


def _named(module: nn.Module, names: str | Iterable[str]) -> list[str]:
    """Return the parameters of a module that the names mean, without repetition."""
    given = [names] if isinstance(names, str) else list(names)
    if not given or not all(isinstance(name, str) for name in given):
        raise TypeError(f'names should be names of parameters, as ("weight_hh",), got {names!r}')
    own = [name for name, _ in module.named_parameters(recurse=False)]
    if parametrize.is_parametrized(module):
        own += list(module.parametrizations)  # type: ignore[arg-type]  # a ModuleDict
    found: dict[str, None] = {}
    for name in given:
        pattern = re.compile(re.escape(name) + r"(_l\d+(_reverse)?)?")
        matching = [one for one in own if pattern.fullmatch(one)]
        if not matching:
            paths = [path.rpartition(".") for path, _ in module.named_parameters()]
            inside = [part for part, _, last in paths if part and pattern.fullmatch(last)]
            hint = nearest(name, own)
            if inside:
                hint = f": give the part that has it, model.get_submodule({inside[0]!r})"
            raise ValueError(
                f"{type(module).__name__} has no parameter {name!r} of its own{hint}; it has "
                f"{', '.join(own) or 'no parameters'}"
            )
        found.update(dict.fromkeys(matching))
    return list(found)


def _check(module: nn.Module, name: str) -> None:
    """Raise ValueError unless the rows of a weight can be standardised."""
    weight = getattr(module, name)
    if weight.dim() < 2:
        raise ValueError(
            f"{name} is a vector {tuple(weight.shape)}, whose rows would have one element: leave "
            'it out, as names=("weight_ih",) does for the matrices of the input'
        )
    if weight[0].numel() < 3:
        raise ValueError(
            f"a row of {name} {tuple(weight.shape)} is too short: one number always becomes 0, and "
            'two become 1 and -1; leave it out, as names=("weight_hh",) does for the matrices of '
            "the input"
        )
    if parametrize.is_parametrized(module, name):
        steps = module.parametrizations[name]  # type: ignore[index]  # a ModuleDict
        if any(isinstance(step, WeightStandardisation) for step in steps):
            raise ValueError(
                f"{name} is standardised already: remove that first, with "
                f"torch.nn.utils.parametrize.remove_parametrizations(module, {name!r})"
            )


def _initial(gain: float | str | None, weight: Tensor) -> Tensor | None:
    if gain is None:
        return None
    value = 1.0 / math.sqrt(weight[0].numel()) if isinstance(gain, str) else float(gain)
    return torch.full((len(weight),), value, dtype=weight.dtype, device=weight.device)
