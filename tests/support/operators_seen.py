"""The operators of seqnorm that a program calls, as a dispatch mode and as a graph show them."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode


class Seen(TorchDispatchMode):
    """Within: every call of an operator of seqnorm, with its arguments."""

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
    """Their names in a graph, in its order."""
    targets = [str(node.target) for node in graph.graph.nodes if node.op == "call_function"]
    return [target.split(".")[1] for target in targets if target.startswith("seqnorm.")]
