"""The operators of seqnorm that a program calls, from a dispatch mode or a graph."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode


class Seen(TorchDispatchMode):
    """Record every call of an operator of seqnorm within, with its arguments."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[str, tuple[Any, ...]]] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func.namespace == "seqnorm":
            self.calls.append((func._schema.name.split("::")[1], args))
        return func(*args, **(kwargs or {}))


def operators_of(graph: torch.fx.GraphModule) -> list[str]:
    """Return the names of seqnorm's operators in a graph, in order."""
    targets = [str(node.target) for node in graph.graph.nodes if node.op == "call_function"]
    return [target.split(".")[1] for target in targets if target.startswith("seqnorm.")]
