"""First and second derivatives of the reference compared with finite differences, in float64."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from comparing import HEADS, LAYERS, STEPS, copy_of, scheme_of
from hidden_states import as_hx, draw, parts_of
from tolerances import FINITE_DIFFERENCES
from torch import Tensor

import seqnorm
from seqnorm import Norm, NormScheme

SCHEMES: dict[tuple[str, str], NormScheme | None] = {
    (name, cell): scheme_of(name, cell)
    for name, cell in [
        *(("none", cell) for cell in STEPS if cell != "GRU"),
        *(("layer", cell) for cell in STEPS),
        ("rms", "LSTM"),
        ("batch", "LSTM"),
        ("batch", "GRU"),
        ("batch", "SLSTM"),
        ("batch_pooled", "GRU"),
        ("kiros2016", "LSTM"),
        ("kiros_torch", "LSTM"),
        ("icefall", "GRU"),
        ("dreamer", "GRU"),
        ("moumen2023", "LiGRU"),
        ("nemo_batch", "RNN"),
    ]
}
# Sites that no preset of these cells has.
SCHEMES["u h", "IndRNN"] = NormScheme(hidden=Norm("rms"), output=Norm("batch"))
SCHEMES["frame and output", "LSTM"] = NormScheme(frame=Norm("layer"), output=Norm("batch_pooled"))


@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize(
    ("scheme", "cell", "states"),
    [
        *((scheme, cell, "random") for (_, cell), scheme in SCHEMES.items()),
        # The first step from zeros is another function than a step from values near zero.
        *((SCHEMES[name, "SLSTM"], "SLSTM", "none") for name in ("none", "layer", "batch")),
    ],
    ids=[*map("-".join, SCHEMES), *(f"{name}-SLSTM-zeros" for name in ("none", "layer", "batch"))],
)
def test_finite_differences(scheme: NormScheme | None, cell: str, states: str, mode: str) -> None:
    """Derivatives include statistics of the batch, and second ones the graph of the first."""
    heads = HEADS.get(cell)
    options: dict[str, Any] = {} if heads is None else {"num_heads": heads}
    hidden = 2 if heads is None else 2 * heads  # the smallest set has two units
    layer = LAYERS[cell](2, hidden, dtype=torch.float64, norm=scheme, **options)
    # Large sums keep the variance of a set of two units away from 0.
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.normal_(0.0, 1.0)
    layer.train(mode == "train")
    names = [key for key, _ in layer.named_parameters()]
    tables = copy_of(dict(layer.named_buffers()))
    rows = 3 if cell == "LSTM" else 4
    input = torch.randn(3, rows, 2).double().requires_grad_()
    given = draw(cell, 1, rows, hidden) if states == "random" else ()
    # Two rows at every step: a step with fewer reads the table, which has no gradient although
    # these rows have updated it.
    lengths = [3, 3, 1, 2][:rows]

    def function(input: Tensor, *rest: Tensor) -> tuple[Tensor, ...]:
        hx = as_hx(rest[: len(given)]) if given else None
        # Every call starts from the same running statistics.
        values = dict(zip(names, rest[len(given) :])) | copy_of(tables)
        output, last = torch.func.functional_call(layer, values, (input, hx), {"lengths": lengths})
        return (output, *parts_of(last))

    parameters = (p.detach().requires_grad_() for p in layer.parameters())
    arguments = (input, *(part.requires_grad_() for part in given), *parameters)
    rtol, atol = FINITE_DIFFERENCES
    with seqnorm.use_backend("reference"):
        assert torch.autograd.gradcheck(function, arguments, rtol=rtol, atol=atol)
        assert torch.autograd.gradgradcheck(
            function, arguments, rtol=rtol, atol=atol, fast_mode=True
        )
