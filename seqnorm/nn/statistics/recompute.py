"""Passes that are computed once more for their gradients."""

from __future__ import annotations

import torch


def is_recomputed() -> bool:
    """Return whether this pass runs inside a backward pass, as in ``torch.utils.checkpoint``.

    Running statistics have then taken its batch in already, when it was first computed. A graph of
    ``torch.compile`` cannot tell, and the answer there is False.
    """
    return not torch.compiler.is_compiling() and torch._C._current_graph_task_id() >= 0
