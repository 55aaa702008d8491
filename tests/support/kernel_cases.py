"""Random layers that the kernels take, and calls of them by the kernels and by the definition.

Axes: T steps, B sequences, I = input size, H = hidden size.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from beside_reference import NONLINEAR, Call, Outcome, assert_same, build, outcome, taken
from hypothesis import strategies as st

from seqnorm import Norm, NormScheme
from seqnorm.nn.backends.cpu import kernels, library

TAKEN = taken()
GATES = {"LSTM": "ifgo", "GRU": "rzn", "LiGRU": "az", "RNN": "h", "IndRNN": "h", "SLSTM": "ifzo"}
OF_ROWS = ("layer", "rms")


@st.composite
def schemes(draw: st.DrawFn, cell: str) -> NormScheme:
    """Draw a scheme that the kernels take, with norms of rows or of the batch."""
    gates = GATES[cell]
    cuts = draw(st.sets(st.integers(1, len(gates) - 1))) if len(gates) > 1 else ()
    ends = [0, *sorted(cuts), len(gates)]
    divided = tuple(gates[a:b] for a, b in zip(ends, ends[1:]))

    def norm(kinds: tuple[str, ...], sets: str | tuple[str, ...] = "joint") -> Norm:
        kind = draw(st.sampled_from(kinds))
        affine = {
            "gain": draw(st.sampled_from([None, 1.0])),
            "bias": draw(st.sampled_from([None, 0.0])),
        }
        if kind in OF_ROWS:
            return Norm(kind, sets, eps=draw(st.sampled_from([1e-5, 1e-3, 0.1])), **affine)
        return Norm(
            kind,
            eps=draw(st.sampled_from([1e-3, 0.1])),  # rows are few and may be nearly equal
            momentum=draw(st.sampled_from([None, 0.1, 1.0])),
            max_steps=draw(st.integers(1, 8)),
            min_count=draw(st.integers(2, 5)),
            **affine,
        )

    inside = draw(st.sampled_from([OF_ROWS, ("batch",)]))
    fields: dict[str, Any] = {}
    if cell == "GRU":
        fields["update"] = draw(st.sampled_from(["keep", "write"]))
    elif cell == "LSTM" and draw(st.booleans()):
        fields["cell"] = norm(inside)
        fields["cell_state"] = draw(st.sampled_from(["raw", "normalised"]))
    if draw(st.booleans()):
        fields["sum"] = norm(inside, "joint" if cell == "GRU" else divided)
        places: dict[str, list[str | None]] = {
            "bias_ih": [None, "inside"],
            "bias_hh": [None, "inside"],
        }
    else:
        before = draw(st.sampled_from([inside, inside, ("batch", "batch_pooled")]))
        for site, kinds in (("input", before), ("hidden", inside)):
            if draw(st.integers(0, 3)):
                fields[site] = norm(kinds, divided)
        places = {"bias_ih": [None, "inside", "outside", "both"], "bias_hh": [None, "outside"]}
    for site in ("frame", "output"):
        if not draw(st.integers(0, 4)):
            fields[site] = norm((*OF_ROWS, "batch", "batch_pooled"))
    for name, known in places.items():
        fields[name] = draw(st.sampled_from(known))
    return NormScheme(**fields)


@dataclass
class Case:
    """A layer, a call of it, and the number of threads and instruction set."""

    name: str
    cell: str
    norm: Any
    sizes: tuple[int, int]
    options: dict[str, Any]
    lengths: list[int]
    threads: int
    variant: str
    training: bool
    seed: int

    def draw(self) -> tuple[Any, Call]:
        torch.manual_seed(self.seed)
        layer = build(self.cell, self.norm, *self.sizes, **self.options)
        return layer, Call.draw(layer, self.lengths)

    def outcomes(self, layer: Any, call: Call) -> tuple[Outcome, Outcome]:
        """Return the results of the kernels and of the definition."""
        before = torch.get_num_threads()
        with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
            warnings.filterwarnings("ignore", "BatchNorm in training")
            with torch.no_grad():  # tables that have seen half of the steps
                layer(call.input[: 1 + max(self.lengths) // 2])
            layer.train(self.training)
            expected = outcome(layer, call, "reference")
            patch.setattr(kernels, "LEAST_WORK", 1)
            patch.setattr(library, "CHOSEN", self.variant)
            try:
                torch.set_num_threads(self.threads)
                return outcome(layer, call), expected
            finally:
                torch.set_num_threads(before)

    def check(self) -> None:
        assert_same(*self.outcomes(*self.draw()), self.variant)


@st.composite
def cases(draw: st.DrawFn, drawn_scheme: bool, widest: int = 80, longest: int = 6) -> Case:
    # A LayerNorm set of fewer than three units is a step function.
    hidden = draw(st.one_of(st.integers(3, widest // 2), st.integers(3, widest)))
    lengths = draw(st.lists(st.integers(0, longest), min_size=1, max_size=12))
    lengths[draw(st.integers(0, len(lengths) - 1))] = draw(st.integers(1, longest))
    if drawn_scheme:
        cell = draw(st.sampled_from(list(library.STEPS)))
        name, norm = "drawn", draw(schemes(cell))
    else:
        name = draw(st.sampled_from(list(TAKEN)))
        cell, norm = TAKEN[name]
    nonlinearity = {"nonlinearity": draw(st.sampled_from(["tanh", "relu"]))}
    # A norm of the multiples of one vector is a step function, too.
    projection = {"proj_size": draw(st.one_of(st.just(0), st.integers(3, max(3, hidden - 1))))}
    return Case(
        name=name,
        cell=cell,
        norm=norm,
        sizes=(draw(st.integers(2, 40)), hidden),
        options={
            "num_layers": draw(st.integers(1, 2)),
            "bidirectional": draw(st.booleans()),
            "bias": draw(st.booleans()),
            "zoneout": draw(st.sampled_from([0.0, 0.0, 0.3])),
            **(nonlinearity if cell in NONLINEAR else {}),
            **(projection if cell == "LSTM" and hidden > 3 else {}),
        },
        lengths=lengths,
        threads=draw(st.integers(1, 4)),
        variant=draw(st.sampled_from(list(library.VARIANTS) or ["base"])),
        training=draw(st.booleans()),
        seed=draw(st.integers(0, 1000)),
    )
