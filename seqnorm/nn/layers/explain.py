"""Which backend computes a call, and why the others do not."""

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
        backends: the backend's name, by the ending of the parameters' names ("_l0", "_l0_reverse",
            ...).
        reasons: for each of these endings every backend by name, with ``None`` if it takes the
            call, or the reason why it does not.
    """

    backends: dict[str, str]
    reasons: dict[str, dict[str, str | None]]

    def __str__(self) -> str:
        groups: dict[str, list[str]] = {}
        for suffix, name in self.backends.items():
            found = self.reasons[suffix]
            said = [f"  {other}: {reason or 'takes it'}" for other, reason in found.items()]
            groups.setdefault("\n".join([f"backend {name!r} computes ", *said]), []).append(suffix)
        parts = []
        for text, suffixes in groups.items():
            first, _, rest = text.partition("\n")
            where = "the call" if len(groups) == 1 else ", ".join(suffixes)
            parts.append(f"{first}{where}\n{rest}")
        return "\n".join(parts)


def explain(
    layer: RecurrentLayer | RecurrentCell,
    input: Tensor | PackedSequence,
    lengths: Tensor | Sequence[int] | None = None,
) -> Explanation:
    """Return which backend takes a call of a layer, and why each other one does not.

    >>> lstm = seqnorm.LSTM(16, 32, norm="layer")
    >>> print(seqnorm.explain(lstm, torch.randn(5, 3, 16), lengths=[5, 2, 4]))
    backend 'cpu' computes the call
      aten: torch's fused layer has no norm
      cpu: takes it
      reference: takes it

    Nothing is computed and no statistics change. A backend that is pinned by ``use_backend`` or
    preferred by ``SEQNORM_BACKEND`` is respected.

    Args:
        layer: a layer, or a cell, which "reference" always computes.
        input, lengths: as the layer is called.

    Raises:
        TypeError: ``layer`` is neither; write ``explain(model.rnn, ...)`` for a layer of a model.
        RuntimeError: the pinned backend does not take the call.
        ValueError: what the call itself would raise for this input.
    """
    if isinstance(layer, RecurrentCell):
        reason = "a single step is computed by the definition"
        names = list(backends.BACKENDS)
        reasons: dict[str, str | None] = dict.fromkeys(names[:-1], reason)
        return Explanation({"": names[-1]}, {"": reasons | {names[-1]: None}})
    if not isinstance(layer, RecurrentLayer):
        raise TypeError(
            f"explain takes a recurrent layer or cell of seqnorm, got {type(layer).__name__}: "
            "write explain(model.rnn, input) for the layer of a model"
        )
    chosen: dict[str, str] = {}
    found: dict[str, dict[str, str | None]] = {}
    for suffix, call in layer.calls(input, lengths).items():
        found[suffix] = backends.explain(*call)
        taken = backends.choice(*call)
        chosen[suffix] = next(n for n, module in backends.BACKENDS.items() if module is taken)
    return Explanation(chosen, found)
