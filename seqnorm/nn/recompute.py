"""Passes that are computed once more for their gradients."""

from __future__ import annotations

import torch


def is_recomputed() -> bool:
    """Whether this pass runs inside a backward pass, as those of ``torch.utils.checkpoint`` do.

    Its batch was taken into running statistics when it was computed first. In a graph of
    ``torch.compile`` nobody can tell.
    """
    return not torch.compiler.is_compiling() and torch._C._current_graph_task_id() >= 0
