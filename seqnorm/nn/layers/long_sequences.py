"""Long sequences in bounded memory.

Axes: T steps.
"""

from __future__ import annotations

from torch import nn

from ..check import check_positive
from .chunks import Chunks
from .layer import RecurrentLayer


def compute_in_chunks(module: nn.Module, steps: int | None, *, recompute: bool = False) -> None:
    """Have every recurrent layer in ``module`` compute at most ``steps`` time steps at once.

    The state is carried from chunk to chunk, so outputs, states and gradients are those of the
    whole sequence, not truncated, and BatchNorm's statistics are those of the same steps. What is
    needed only while steps are computed (normalised sums, gates, a backend's working memory) is
    there for one chunk alone. Kept whole are the inputs and the outputs of every layer.

    With ``recompute`` a pass in training keeps for its backward pass the state at the beginning of
    every chunk, and computes the chunk a second time then (Chen et al. 2016, "Training Deep Nets
    with Sublinear Memory Cost", section 3, with segments of time): about a third more time.
    Gradients are exact; running statistics and hooks on them see a pass once. There are then no
    gradients of gradients. Under ``torch.compile`` layers are computed whole.

    Zoneout draws other units than in one piece from the same seed.

    Args:
        module: a layer, or a network with layers in it; changed in place.
        steps: T of a chunk; ``None`` for the whole sequence again.
        recompute: see above; without gradients it does nothing.

    Raises:
        ValueError: no recurrent layer in ``module``; ``steps`` below 1. On a call in training of
            more steps, a norm that is pooled over time, whose statistics a chunk does not have, or
            one whose statistics several processes share, which they exchange for whole sequences.
        RuntimeError: in a backward pass, the running statistics that the pass had read have been
            updated since.
    """
    if steps is not None:
        steps = check_positive("steps", steps)
    layers = [layer for layer in module.modules() if isinstance(layer, RecurrentLayer)]
    if not layers:
        raise ValueError(f"there is no recurrent layer of seqnorm in {type(module).__name__}")
    for layer in layers:
        layer.chunks = None if steps is None else Chunks(steps, recompute)
