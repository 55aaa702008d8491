"""The drawing of a text, one token after the other.

Axes: T tokens of a piece of text, V tokens of the vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

# The logits (V,) of the token after a piece of text (T,), and the states after it. The arguments
# are the piece, the states before it (None at the beginning) and the number of its first step.
Read = Callable[[Tensor, Any, int], "tuple[Tensor, Any]"]


def draw(
    read: Read,
    prompt: Sequence[int],
    length: int,
    *,
    generator: torch.Generator,
    window: int | None = None,
    temperature: float = 1.0,
    top_k: int | None = None,
    never: Sequence[int] = (),
    stop: int | None = None,
) -> list[int]:
    """Draw at most ``length`` tokens that continue ``prompt``, one after the other.

    Args:
        read: The function that reads a piece of text.

    The other arguments and the errors are those of ``LanguageModel.generate``.
    """
    if not prompt:
        raise ValueError("the prompt must have at least one token, got an empty one")
    if not temperature > 0:
        raise ValueError(
            f"temperature must be above 0, got {temperature}; top_k=1 takes the most probable"
        )
    for name, value in (("top_k", top_k), ("window", window)):
        if value is not None and value < 1:
            raise ValueError(f"{name} must be at least 1 or None, got {value}")
    text = list(prompt)
    states: Any = None
    done = step = 0  # tokens read so far, in all and in this window
    while len(text) < len(prompt) + length:
        piece = text[done:] if window is None else text[done : done + window - step]
        found, states = read(torch.tensor(piece, device=generator.device), states, step)
        done, step = done + len(piece), step + len(piece)
        if step == window:
            step = 0
        if done < len(text):
            continue
        logits = found.double() / temperature
        logits[list(never)] = -torch.inf
        if top_k is not None and top_k < len(logits):
            kept = logits.topk(top_k).indices
            logits = torch.full_like(logits, -torch.inf).index_copy(0, kept, logits[kept])
        drawn = int(torch.multinomial(logits.softmax(0), 1, generator=generator))
        if drawn == stop:
            break
        text.append(drawn)
    return text[len(prompt) :]
