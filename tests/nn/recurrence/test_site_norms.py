"""Norms at sites that no preset has: the frame, the output, u h, and any number of sets.

Axes: T steps, B sequences, I = input size, H = hidden size.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from comparing import STEPS, Case, H, I, T, build, compare, randomise
from hidden_states import as_hx, parts_of
from tolerances import VALUES, assert_close, assert_equal

from seqnorm import Norm, NormScheme
from seqnorm.nn.recurrence.scheme import KINDS

SHAPED: list[tuple[str, dict[str, Any]]] = [
    ("LSTM", {"proj_size": 2}),
    ("GRU", {"num_layers": 2, "bidirectional": True}),
]


@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize("site", ["frame", "output"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("cell", "shape"), SHAPED)
def test_frame_and_output(
    cell: str, shape: dict[str, Any], kind: str, site: str, mode: str
) -> None:
    scheme = NormScheme(**{site: Norm(kind)})
    layer = build(cell, scheme, **shape)
    randomise(layer)
    compare(layer.train(mode == "train"), scheme, Case.draw(layer))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("cell", "shape"), SHAPED)
def test_both_over_several_calls(cell: str, shape: dict[str, Any], kind: str) -> None:
    """Tables of two sites and several directions are updated separately, then read in inference."""
    scheme = NormScheme(frame=Norm(kind), output=Norm(kind))
    layer = build(cell, scheme, **shape)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.normal_(0.0, 0.6)
    for lengths in [(2, 4, 1), (1, 3, 4, 5, 2)]:
        compare(layer.train(), scheme, Case.draw(layer, lengths=lengths, steps=5))
    compare(layer.eval(), scheme, Case.draw(layer, lengths=(7, 2, 6), steps=7))


SCHEMES = [
    ("LSTM", NormScheme(cell=Norm(sets=2))),
    ("LSTM", NormScheme(input=Norm(sets=2), hidden=Norm(sets=2), cell=Norm(sets=2))),
    ("LSTM", NormScheme(input=Norm(sets=2), hidden=Norm(sets=4))),
    ("LSTM", NormScheme(input=Norm("rms", 8), cell=Norm("rms", 4))),
    ("LSTM", NormScheme(sum=Norm(sets=8), bias_ih="inside", output=Norm(sets=2))),
    ("GRU", NormScheme(input=Norm(sets=6), hidden=Norm(sets=3))),
    ("RNN", NormScheme(sum=Norm(sets=2), bias_ih=None)),
    ("IndRNN", NormScheme(hidden=Norm(), bias_hh="outside")),
    ("IndRNN", NormScheme(sum=Norm("rms", 2), bias_ih="inside", bias_hh="inside")),
    ("LiGRU", NormScheme(sum=Norm("batch"), bias_ih="inside")),
    ("LiGRU", NormScheme(input=Norm(sets=4), hidden=Norm(sets=2))),
    ("SLSTM", NormScheme(input=Norm(sets="heads"), hidden=Norm(sets="heads"))),
    ("SLSTM", NormScheme(sum=Norm("rms", "heads"), bias_ih="inside", output=Norm(sets=2))),
    ("SLSTM", NormScheme(hidden=Norm(sets="separate"), output=Norm(sets="separate"))),
]


@pytest.mark.parametrize(("cell", "scheme"), SCHEMES)
def test_schemes(cell: str, scheme: NormScheme) -> None:
    layer = build(cell, scheme, bidirectional=True)
    randomise(layer)
    compare(layer, scheme, Case.draw(layer))


def test_a_set_for_each_head_of_each_gate() -> None:
    """Scaling all units of one head in one gate changes nothing, whatever the others do."""
    scheme = NormScheme(input=Norm(sets="heads", eps=1e-15))
    layer = build("SLSTM", scheme, hidden=8, num_heads=2)
    x = torch.randn(T, 3, I).double()
    before, _ = layer(x)
    with torch.no_grad():
        for number, rows in enumerate(layer.weight_ih_l0.split(4)):
            rows.mul_(1.0 + number)
    after, _ = layer(x)
    assert_close(after, before, VALUES)
    with torch.no_grad():
        layer.weight_ih_l0[1] *= 2.0
    assert (layer(x)[0] - before).abs().max() > 1e-3


@pytest.mark.parametrize("cell", STEPS)
def test_the_state_goes_on_without_the_norm_of_the_output(cell: str) -> None:
    """The recurrence is the same with and without it, in one call or in two."""
    layer, plain = (build(cell, s) for s in (NormScheme(output=Norm()), NormScheme()))
    randomise(layer)
    plain.load_state_dict(layer.state_dict(), strict=False)
    x = torch.randn(T, 4, I).double()
    output, final = layer(x)
    bare, bare_final = plain(x)
    for ours, theirs in zip(parts_of(final), parts_of(bare_final)):
        assert_equal(ours, theirs, "state")
    assert_close(output, layer.norm_output_l0(bare), VALUES, "output")
    first, state = layer(x[:3])
    second, last = layer(x[3:], as_hx(parts_of(state)))
    assert_close(torch.cat([first, second]), output, VALUES, "in two calls")
    for ours, theirs in zip(parts_of(last), parts_of(final)):
        assert_close(ours, theirs, VALUES, "state after two calls")


@pytest.mark.parametrize("cell", STEPS)
def test_where_the_modules_hang(cell: str) -> None:
    """Every layer and direction has its own, with the sizes of its input and output."""
    scheme = NormScheme(frame=Norm(), output=Norm("rms", bias=None))
    layer = build(cell, scheme, num_layers=2, bidirectional=True)
    for suffix, inputs in (("l0", I), ("l0_reverse", I), ("l1", 2 * H), ("l1_reverse", 2 * H)):
        frame, output = (getattr(layer, f"norm_{site}_{suffix}") for site in ("frame", "output"))
        assert frame.weight.shape == frame.bias.shape == (inputs,)
        assert output.weight.shape == (H,)
        assert output.bias is None
    assert build("LSTM", scheme, proj_size=3).norm_output_l0.weight.shape == (3,)
