"""What a recurrent cell is to the rest of the library: pure mathematics, no parameters, no time.

The terms x = N_input(W_ih x_t) + b and h = N_hidden(W_hh h_(t-1)) + b' arrive apart, for a GRU
needs them apart; ``norm(site, z)`` is the only way a cell meets the norms of its other sites.

Axes: n rows, H = hidden_size, G gates.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from .scheme import NormScheme

Normalise = Callable[[str, Tensor], Tensor]

NONLINEARITIES: dict[str, Callable[[Tensor], Tensor]] = {"tanh": torch.tanh, "relu": torch.relu}

# Every cell by its name, and every published scheme by its name and the cell's.
STEPS: dict[str, type[Step]] = {}
PRESETS: dict[str, dict[str, NormScheme]] = {}


class Step:
    """What a time loop needs to know of a recurrent cell. Defining a subclass makes it known.

    Attributes:
        name: the name of its public layer.
        gates: a letter for each gate, in the order in which W_ih and W_hh stack them.
        states: a letter for each part of the state; the first is the output.
        biases: torch's bias vectors that it has without a norm.
        presets: its schemes by name.
        heads: into how many equal parts its recurrence falls; 0 for a cell without heads.
    """

    name: ClassVar[str]
    gates: ClassVar[str]
    states: ClassVar[str] = "h"
    biases: ClassVar[tuple[str, ...]] = ("bias_ih", "bias_hh")
    presets: ClassVar[dict[str, NormScheme]]
    heads: int = 0

    def __init_subclass__(cls) -> None:
        if "name" not in vars(cls):
            return  # what several cells share
        STEPS[cls.name] = cls
        for name, scheme in cls.presets.items():
            PRESETS.setdefault(name, {})[cls.name] = scheme

    @property
    def fused(self) -> Any:
        """torch's own function for a whole layer without norm, or ``None``."""
        return None

    def check(self, scheme: NormScheme) -> None:
        """Raise ValueError, with what to write instead, for a scheme that this cell cannot have."""
        if scheme.cell is not None:
            raise ValueError(f"a {self.name} has no cell state to normalise: leave cell=None")
        if scheme.update != "keep":
            raise ValueError(
                f"update={scheme.update!r} speaks of a GRU's z, and a {self.name} has none: leave "
                'update="keep"'
            )

    def spans(self, scheme: NormScheme) -> dict[str, str]:
        """The gates that each norm between the terms and the state spans, by site; "" for one of
        H units that are no gates."""
        sites = [site for site in scheme.norms if site not in ("frame", "output")]
        return {site: "" if site == "cell" else self.gates for site in sites}

    def hidden_shape(self, hidden_size: int, width: int) -> tuple[int, ...]:
        """Shape of W_hh, for an h of ``width`` units."""
        return len(self.gates) * hidden_size, width

    def hidden_blocks(self, weight: Tensor, hidden_size: int) -> tuple[Tensor, ...]:
        """The matrices in W_hh that carry one gate from the state to itself."""
        return tuple(weight.split(hidden_size))

    def hidden_term(self, h: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """W_hh h (+ b): (n, width) to (n, G * H)."""
        return F.linear(h, weight, bias)

    def step(
        self,
        x: Tensor,
        h: Tensor,
        state: tuple[Tensor, ...],
        norm: Normalise,
        scheme: NormScheme | None,
    ) -> tuple[Tensor, ...]:
        """The state after this step.

        Args:
            x, h: (n, G * H) the terms of input and state.
            state: parts of shape (n, H).
        """
        raise NotImplementedError


class Nonlinear(Step):
    """A cell with a nonlinearity to choose, f = tanh or ReLU."""

    def __init__(self, nonlinearity: str) -> None:
        if nonlinearity not in NONLINEARITIES:
            raise ValueError(
                f"Unknown nonlinearity {nonlinearity!r}. Select from 'tanh' or 'relu'."
            )
        self.nonlinearity = nonlinearity

    def activate(self, x: Tensor) -> Tensor:
        """f(x)."""
        return NONLINEARITIES[self.nonlinearity](x)
