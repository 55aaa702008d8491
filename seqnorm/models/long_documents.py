"""Pooling of documents and series while they are read, in memory that does not grow with them.

Axes: B documents, T tokens, K tokens of a chunk, H features of a step, P pooled features.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from seqnorm.nn import compute_in_chunks
from seqnorm.nn.layers.layer import RecurrentLayer
from seqnorm.nn.statistics.masks import valid_mask
from seqnorm.nn.statistics.moments import widen

from .pooling import Pooling

Read = Callable[[Tensor], Tensor]


class PoolingSoFar:
    """Compute ``Pooling`` of a whole sequence from its chunks, added one after the other.

    The weights of attention are exp(score - m) over their sum, where m is the highest score so far.
    If a later chunk raises m, the previous sums are scaled by exp(m_before - m). Sums are kept at
    least in float32: in half precision, further steps of a long document would no longer change
    them.
    """

    def __init__(self, pooling: Pooling) -> None:
        self._pooling = pooling
        self._held: dict[str, Tensor] = {}
        self._dtype = torch.get_default_dtype()

    def add(self, output: Tensor, lengths: Tensor) -> None:
        """Add the next steps (B, K, H), of which ``lengths`` (B,) are valid."""
        valid = valid_mask(lengths, output.shape[1])
        output = output.masked_fill(~valid[..., None], 0)
        self._dtype = output.dtype
        for part in self._pooling.parts:
            getattr(self, f"_{part}")(output, lengths, valid)

    def parts(self, lengths: Tensor) -> list[Tensor]:
        """Return each part (B, H) of the pooling, for sequences of ``lengths`` (B,) steps in all.

        An empty sequence gives zeros.
        """
        found = dict(self._held)
        if "mean" in found:
            found["mean"] = found["mean"] / lengths.clamp(min=1)[:, None]
        if "attention" in found:
            found["attention"] = found["attention"] / found["total"].clamp(min=1)[:, None]
        empty = (lengths == 0)[:, None]
        return [found[part].masked_fill(empty, 0).to(self._dtype) for part in self._pooling.parts]

    def _last(self, output: Tensor, lengths: Tensor, valid: Tensor) -> None:
        rows = torch.arange(len(output), device=output.device)
        last = output[rows, (lengths - 1).clamp(min=0)]
        before = self._held.get("last", last)
        self._held["last"] = torch.where((lengths > 0)[:, None], last, before)

    def _mean(self, output: Tensor, lengths: Tensor, valid: Tensor) -> None:
        total = widen(output).sum(1)
        self._held["mean"] = total + self._held.get("mean", 0)

    def _max(self, output: Tensor, lengths: Tensor, valid: Tensor) -> None:
        most = output.masked_fill(~valid[..., None], -torch.inf).amax(1)
        self._held["max"] = most.maximum(self._held.get("max", most))

    def _attention(self, output: Tensor, lengths: Tensor, valid: Tensor) -> None:
        scores = widen(self._pooling.scores(output, valid))  # (B, K)
        before = self._held.get("highest", scores.amax(1))
        highest = before.maximum(scores.amax(1))
        weights = (scores - highest[:, None]).exp() * valid
        shrunk = (before - highest).exp()
        pooled = shrunk[:, None] * self._held.get("attention", 0)
        total = shrunk * self._held.get("total", 0)
        self._held["attention"] = pooled + (weights[..., None] * widen(output)).sum(1)
        self._held["total"] = total + weights.sum(1)
        self._held["highest"] = highest


def check_inference(model: nn.Module, steps: int) -> None:
    """Refuse to read in chunks what would be trained, or chunks without a step.

    Raises:
        ValueError: The model is in training mode, or ``steps`` is below 1.
    """
    if model.training:
        raise ValueError(
            "in_chunks is for inference: call eval() first; to train on long documents, use "
            "seqnorm.compute_in_chunks(model, steps, recompute=True)"
        )
    if steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps}")


@contextmanager
def layers_in_chunks(layers: RecurrentLayer, steps: int) -> Iterator[None]:
    """Let layers that are not streamed compute ``steps`` steps at once in the block."""
    before = layers.chunks
    compute_in_chunks(layers, steps)
    try:
        yield
    finally:
        layers.chunks = before


def is_streamed(layers: RecurrentLayer, pooling: Pooling) -> bool:
    """Return True if ``pool`` can compute these layers.

    Several bidirectional layers need all steps at once, and so does one whose two directions have a
    common attention.
    """
    return not layers.bidirectional or (layers.num_layers == 1 and "attention" not in pooling.parts)


def pool(
    layers: RecurrentLayer,
    pooling: Pooling,
    embedding_pooling: Pooling | None,
    read: Read,
    lengths: Tensor,
    steps: int,
) -> Tensor:
    """Return the pooled outputs (B, P), and inputs with ``embedding_pooling``, of whole documents.

    A bidirectional layer reads documents twice: its forward direction from the beginning, its
    backward direction from the end.

    Args:
        layers: The layers, which are batch_first, in inference, and accepted by ``is_streamed``.
        read: The function that returns the inputs (B, K, I) of the tokens at positions (B, K); the
            inputs are arbitrary after the end of a document.
        lengths: The lengths (B,) of the documents, on the device of the layers.
        steps: The number of steps of a chunk, K.
    """
    of_inputs = None if embedding_pooling is None else PoolingSoFar(embedding_pooling)
    of_directions = []
    for number in range(2 if layers.bidirectional else 1):
        outputs, state = PoolingSoFar(pooling), None
        # If all documents are empty, they are read as one step of padding.
        for start in range(0, max(1, *lengths.tolist()), steps):
            place = torch.arange(start, start + steps, device=lengths.device)
            places = lengths[:, None] - 1 - place if number else place.expand(len(lengths), -1)
            there = (lengths - start).clamp(0, steps)
            longest = max(1, int(there.max()))
            x = read(places[:, :longest].minimum(lengths[:, None] - 1).clamp(min=0))
            output, state = layers.one_direction(number, x, state, there, start)
            outputs.add(output, there)
            if of_inputs is not None and not number:
                of_inputs.add(x, there)
        of_directions.append(outputs.parts(lengths))
    pooled = [torch.cat(parts, -1) for parts in zip(*of_directions)]
    if of_inputs is not None:
        pooled += of_inputs.parts(lengths)
    return torch.cat(pooled, -1)
