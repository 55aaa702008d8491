"""The backend of a call, and the reasons of the others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from .. import backends
from .cell import RecurrentCell
from .layer import RecurrentLayer


class Explanation(NamedTuple):
    """The backend of each layer and direction of a call; ``print`` shows it in words.

    Attributes:
        backends: the backend's name, by the suffix of the parameters ("_l0", "_l0_reverse", ...).
        reasons: for each suffix, all backends by name, with ``None`` for a backend that takes the
            call, or the reason why it does not.
    """

    backends: dict[str, str]
    reasons: dict[str, dict[str, str | None]]

    def __str__(self) -> str:
        groups: dict[tuple[str, ...], list[str]] = {}
        for suffix, name in self.backends.items():
            reasons = self.reasons[suffix].items()
            said = [f"  {other}: {reason or 'takes it'}" for other, reason in reasons]
            groups.setdefault((name, *said), []).append(suffix)
        lines: list[str] = []
        for (name, *said), suffixes in groups.items():
            where = "the call" if len(groups) == 1 else ", ".join(suffixes)
            lines += [f"backend {name!r} computes {where}", *said]
        return "\n".join(lines)


def explain(
    layer: RecurrentLayer | RecurrentCell,
    input: Tensor | PackedSequence,
    lengths: Tensor | Sequence[int] | None = None,
    *,
    resets: Tensor | PackedSequence | None = None,
    cu_seqlens: Tensor | Sequence[int] | None = None,
) -> Explanation:
    """Return which backend takes a call of a layer, and why each other one does not.

    >>> lstm = seqnorm.LSTM(16, 32, norm="layer")
    >>> print(seqnorm.explain(lstm, torch.randn(5, 3, 16), lengths=[5, 2, 4]))
    backend 'cpu' computes the call
      aten: torch's fused layer has no norm
      cpu: takes it
      reference: takes it
      triton: its kernels are for NVIDIA GPUs, and the input is on cpu

    Nothing is computed and no statistics change. The answer respects ``use_backend`` and
    ``SEQNORM_BACKEND``. A layer that computes in chunks is explained as if it did not.

    Args:
        layer: a layer, or a cell, which "reference" always computes.
        input, lengths, resets, cu_seqlens: the arguments of a call of the layer.

    Raises:
        TypeError: ``layer`` is neither; write ``explain(model.rnn, ...)`` for a layer of a model.
        RuntimeError: the pinned backend does not take the call.
        ValueError: the call itself would raise this error for the input.
    """
    if isinstance(layer, RecurrentCell):
        reason = "a single step is computed by the definition"
        reasons: dict[str, str | None] = dict.fromkeys(backends.BACKENDS, reason)
        return Explanation({"": "reference"}, {"": reasons | {"reference": None}})
    if not isinstance(layer, RecurrentLayer):
        raise TypeError(
            f"explain takes a recurrent layer or cell of seqnorm, got {type(layer).__name__}: "
            "write explain(model.rnn, input) for the layer of a model"
        )
    chosen: dict[str, str] = {}
    found: dict[str, dict[str, str | None]] = {}
    for suffix, call in layer.calls(input, lengths, resets, cu_seqlens).items():
        found[suffix] = backends.explain(*call)
        taken = backends.choice(*call)
        chosen[suffix] = next(n for n, module in backends.BACKENDS.items() if module is taken)
    return Explanation(chosen, found)
