"""Detection of forward passes that run a second time to compute gradients."""

from __future__ import annotations

import torch


def is_recomputed() -> bool:
    """Return whether this pass runs inside a backward pass, as in ``torch.utils.checkpoint``.

    If so, the first pass has already updated the running statistics. A graph of ``torch.compile``
    cannot tell; there the result is False.
    """
    return not torch.compiler.is_compiling() and torch._C._current_graph_task_id() >= 0
