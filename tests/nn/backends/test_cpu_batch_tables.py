"""Running tables with the kernels: their contents after training, their readers, and refusals.

Axes: T steps, B sequences, I = input size, H = hidden size.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from beside_reference import F64, build, needs_kernels
from comparing import copy_of
from tolerances import VALUES, assert_close, assert_equal
from torch import Tensor, nn

import seqnorm
from seqnorm import Norm, NormScheme

pytestmark = needs_kernels
I, H = 5, 9  # noqa: E741  the axes' letters
SCHEMES = {
    "LSTM": NormScheme(
        input=Norm("batch", max_steps=6, eps=0.1),
        hidden=Norm("batch", max_steps=4, momentum=None, eps=0.1),
        cell=Norm("batch", min_count=4, momentum=0.5, eps=0.1),
        cell_state="normalised",
    ),
    "GRU": NormScheme(
        input=Norm("batch", min_count=4, momentum=0.9, eps=0.1),
        hidden=Norm("batch", max_steps=3, eps=0.1),
    ),
}
SCHEMES |= dict.fromkeys(("LiGRU", "RNN", "IndRNN"), SCHEMES["GRU"])
# Lengths above and below earlier ones, with many and with few rows.
LENGTHS = ([3, 3, 2, 3, 1, 3], [8, 5, 8, 7, 8, 2, 0], [9] * 12, [5, 1, 1, 4], [2, 1, 2, 2, 2])
Layers = dict[str, Any]


def twins(layer: Any) -> Layers:
    """Return a layer for each backend."""
    return {"reference": layer, "cpu": copy.deepcopy(layer)}


def assert_same_tables(layers: Layers) -> None:
    ours, theirs = (dict(layers[name].named_buffers()) for name in ("cpu", "reference"))
    assert ours.keys() == theirs.keys()
    for name, expected in theirs.items():
        assert_close(ours[name], expected, 0.0 if name.endswith("count") else VALUES, name)


def assert_same_outputs(layers: Layers, x: Tensor, lengths: list[int]) -> None:
    found = {}
    for backend, layer in layers.items():
        with torch.no_grad(), seqnorm.use_backend(backend):
            found[backend] = layer(x, lengths=lengths)[0]
    assert_close(found["cpu"], found["reference"], VALUES, str(lengths))


def batch(lengths: list[int]) -> Tensor:
    return torch.randn(max(lengths), len(lengths), I, dtype=F64)


@pytest.mark.parametrize("number", [1, 3])
@pytest.mark.parametrize("cell", SCHEMES)
def test_training_goes_the_same_way(cell: str, number: int, threads: Callable[[int], None]) -> None:
    """Both backends agree over some steps of gradient descent, each followed by inference."""
    threads(number)
    layers = twins(build(cell, SCHEMES[cell], I, H, num_layers=2, bidirectional=True))
    for lengths in LENGTHS:
        x = batch(lengths)
        for backend, layer in layers.items():
            optimizer = torch.optim.SGD(layer.train().parameters(), 0.05)
            optimizer.zero_grad()
            with seqnorm.use_backend(backend):
                layer(x, lengths=lengths)[0].square().mean().backward()
            optimizer.step()
            layer.eval()
        assert_same_tables(layers)
        for others in LENGTHS:
            assert_same_outputs(layers, batch(others), others)
        assert_same_tables(layers)  # inference does not change them


@pytest.mark.parametrize("cell", SCHEMES)
def test_later_steps_read_what_the_call_has_written(cell: str) -> None:
    """With a new table, later steps read the last step of this batch, not the initial 0 and 1."""
    layer = build(cell, NormScheme(hidden=Norm("batch", max_steps=2, momentum=1.0)), I, H)
    x = batch([5] * 6)
    with torch.no_grad(), seqnorm.use_backend("cpu"):
        found, _ = layer(x)
        again, _ = layer.eval()(x)
    table = layer.norm_hh_l0.table
    assert table.count.tolist() == [6, 6]
    assert not table.running_mean[1].eq(0).any()
    # The second step was normalised by its own moments; inference uses their unbiased form.
    assert not found[1].equal(again[1])
    layers = twins(layer.train())
    assert_same_outputs(layers, x, [5] * 6)
    assert_same_tables(layers)


@pytest.mark.parametrize("estimate", ["population", "average"])
@pytest.mark.parametrize("cell", SCHEMES)
def test_reestimated_statistics(cell: str, estimate: str) -> None:
    layers = twins(build(cell, SCHEMES[cell], I, H, num_layers=2))
    first = copy_of(dict(layers["cpu"].named_buffers()))
    batches = [(batch(lengths), lengths) for lengths in LENGTHS]
    for backend, layer in layers.items():

        def forward(model: nn.Module, one: tuple[Tensor, list[int]], backend: str = backend) -> Any:
            with seqnorm.use_backend(backend):
                return model(one[0], lengths=one[1])

        assert seqnorm.reestimate_statistics(layer, batches, forward, estimate=estimate) == 5
    assert_same_tables(layers)
    for name, buffer in layers["cpu"].named_buffers():
        assert not buffer.equal(first[name]), name
    assert_same_outputs({k: layer.eval() for k, layer in layers.items()}, *batches[1])


def errors(layers: Layers, x: Tensor) -> None:
    """Return the errors of both backends, which must leave the same tables."""
    texts = []
    for backend, layer in layers.items():
        with seqnorm.use_backend(backend), pytest.raises(IndexError) as caught:
            layer(x)
        texts.append(str(caught.value))
    assert texts[0] == texts[1]
    assert "has no statistics of its own" in texts[0]
    assert_same_tables(layers)


SITES = {
    "LSTM": [("input",), ("hidden",), ("cell",), ("input", "hidden", "cell"), ("sum", "cell")],
    "GRU": [("input",), ("hidden",), ("input", "hidden"), ("sum",)],
    "LiGRU": [("input", "hidden"), ("sum",)],
    "IndRNN": [("input",), ("hidden",), ("sum",)],
}


@pytest.mark.parametrize("known", [1, 3])
@pytest.mark.parametrize(
    ("cell", "sites"), [(cell, sites) for cell, each in SITES.items() for sites in each]
)
def test_a_step_that_is_refused(cell: str, sites: tuple[str, ...], known: int) -> None:
    """Training refuses a step past the table, and inference also one that was never seen."""
    norm = Norm("batch", max_steps=3, beyond="error")
    layers = twins(build(cell, NormScheme(**dict.fromkeys(sites, norm), bias_ih=None), I, H))
    with torch.no_grad():
        assert_same_outputs(layers, batch([known] * 4), [known] * 4)
    after = copy_of(dict(layers["cpu"].named_buffers()))
    for layer in layers.values():
        layer.eval()
    errors(layers, torch.randn(known + 1, 4, I, dtype=F64))
    for name, buffer in layers["cpu"].named_buffers():
        assert_equal(buffer, after[name], name)
    assert_same_outputs(layers, batch([known] * 4), [known] * 4)
    for layer in layers.values():
        layer.train()
    errors(layers, torch.randn(4, 4, I, dtype=F64))
    # The layer continues from there.
    assert_same_outputs(layers, batch([3, 3, 1]), [3, 3, 1])
    assert_same_tables(layers)


@pytest.mark.parametrize("ends", [(2, 4), (4, 2)])
@pytest.mark.parametrize("refusing", ["input", "hidden", "cell"])
def test_one_norm_refuses(refusing: str, ends: tuple[int, int]) -> None:
    """One of three norms has a shorter or a longer table than the others."""
    own, others = ends
    norms = {site: Norm("batch", max_steps=others) for site in ("input", "hidden", "cell")}
    norms[refusing] = Norm("batch", max_steps=own, beyond="error")
    layers = twins(build("LSTM", NormScheme(**norms), I, H))
    assert_same_outputs(layers, batch([own] * 4), [own] * 4)
    errors(layers, torch.randn(6, 4, I, dtype=F64))
