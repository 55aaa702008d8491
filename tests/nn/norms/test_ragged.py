"""Norms of sequences without padding equal those of the padded batch.

Axes: N sequences, T steps, R rows, C channels.
"""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from tolerances import GRADIENTS, SINGLE, VALUES, assert_close, assert_equal
from torch import Tensor

import seqnorm

C = 6
LENGTHS = [3, 5, 0, 2, 5]
BOUNDS = [0, 3, 8, 8, 10, 15]
NORMS: dict[str, Any] = {
    "layer": lambda: seqnorm.LayerNorm(C, layout="NTC", dtype=torch.float64),
    "rms": lambda: seqnorm.RMSNorm(C, layout="NTC", dtype=torch.float64),
    "group": lambda: seqnorm.GroupNorm(2, C, layout="NTC", dtype=torch.float64),
    "single channels": lambda: seqnorm.GroupNorm(C, C, layout="NTC", dtype=torch.float64),
    "instance": lambda: seqnorm.InstanceNorm(C, affine=True, layout="NTC", dtype=torch.float64),
    "batch": lambda: seqnorm.BatchNorm(C, layout="NTC", dtype=torch.float64),
    "batch of every step": lambda: seqnorm.BatchNorm(
        C, layout="NTC", max_steps=4, min_count=3, dtype=torch.float64
    ),
    "batch, renormalised": lambda: seqnorm.BatchNorm(
        C, layout="NTC", r_max=1.3, d_max=0.4, dtype=torch.float64
    ),
    "batch of every step, renormalised": lambda: seqnorm.BatchNorm(
        C, layout="NTC", max_steps=4, min_count=3, r_max=1.3, d_max=0.4, dtype=torch.float64
    ),
    "batch of every step, frozen": lambda: frozen(
        seqnorm.BatchNorm(C, layout="NTC", max_steps=4, dtype=torch.float64)
    ),
}


def frozen(norm: seqnorm.BatchNorm) -> seqnorm.BatchNorm:
    norm(torch.arange(25 * C).double().sin().reshape(5, 5, C) + 1.0, LENGTHS)
    seqnorm.freeze_statistics(norm)
    return norm


def flat(padded: Tensor) -> Tensor:
    return torch.cat([padded[b, :n] for b, n in enumerate(LENGTHS)])


def outcome(
    norm: Any, call: Any, x: Tensor
) -> tuple[Tensor, tuple[Tensor, ...], dict[str, Tensor]]:
    """Return rows, gradients of a random cotangent, and the state afterwards."""
    norm = copy.deepcopy(norm)
    rows = call(norm)
    torch.manual_seed(1)
    loss = (rows * torch.randn(15, C).double()).sum()
    gradients = torch.autograd.grad(loss, [x, *norm.parameters()])
    return rows.detach(), gradients, norm.state_dict()


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("form", ["one after another", "nested"])
@pytest.mark.parametrize("name", NORMS)
def test_they_equal_the_padded_batch(name: str, form: str, training: bool) -> None:
    if form == "nested" and not hasattr(torch.nested, "nested_tensor_from_jagged"):
        pytest.skip("needs torch 2.4")
    norm = NORMS[name]()
    for parameter in norm.parameters():
        parameter.data.normal_()
    x = torch.randn(5, 5, C).double().requires_grad_()
    norm(x.detach() + 1.0, LENGTHS)  # the table has statistics
    norm.train(training)

    def ragged(norm: Any) -> Tensor:
        if form == "nested":
            given = torch.nested.nested_tensor_from_jagged(flat(x), torch.tensor(BOUNDS))
            output = norm(given)
            assert output.is_nested
            assert output.shape == given.shape
            return output.values()
        return norm(flat(x), cu_seqlens=BOUNDS)

    rows, gradients, state = outcome(norm, ragged, x)
    right, slopes, after = outcome(norm, lambda norm: flat(norm(x, LENGTHS)), x)
    assert_close(rows, right, VALUES)
    for one, two in zip(gradients, slopes):
        assert_close(one, two, GRADIENTS)
    for key, value in after.items():
        assert_close(state[key], value, VALUES if value.is_floating_point() else 0.0, key)


@pytest.mark.skipif(
    not hasattr(torch.nested, "nested_tensor_from_jagged"), reason="needs torch 2.4"
)
@pytest.mark.parametrize("name", NORMS)
def test_rows_between_sequences_are_not_read(name: str) -> None:
    norm = NORMS[name]()
    x = torch.randn(5, 5, C).double()
    for b, n in enumerate(LENGTHS):
        x[b, n:] = torch.nan
    starts, lengths = torch.zeros(5).long(), torch.tensor(LENGTHS)
    output = norm(torch.nested.narrow(x, 1, starts, lengths, layout=torch.jagged))
    assert_close(output.values().reshape(5, 5, C), NORMS[name]()(x, LENGTHS), VALUES)


@pytest.mark.parametrize("name", NORMS)
def test_no_rows(name: str) -> None:
    norm = NORMS[name]().eval()
    x = torch.zeros(0, C).double()
    assert_equal(norm(x, cu_seqlens=[0, 0, 0]), x)
    assert_equal(norm.train()(x, cu_seqlens=[0]), x)


def test_half_precision_is_normalised_in_float32() -> None:
    x = 40.0 + torch.randn(15, C)
    for name in ("group", "instance", "batch", "batch of every step"):
        norm = NORMS[name]().float()
        found = norm(x.bfloat16(), cu_seqlens=BOUNDS)
        assert found.dtype == torch.bfloat16
        assert_close(found.float(), norm(x.bfloat16().float(), cu_seqlens=BOUNDS), 0.02)


@pytest.mark.parametrize("name", ["group", "instance"])
def test_many_rows_in_float32(name: str) -> None:
    """Sums of many numbers are not rounded at each of them."""
    x = 100.0 + torch.randn(200_000, C)
    right = NORMS[name]()(x.double(), cu_seqlens=[0, 200_000])
    assert_close(NORMS[name]().float()(x, cu_seqlens=[0, 200_000]).double(), right, SINGLE)


@pytest.mark.parametrize("name", ["instance", "single channels"])
def test_sets_of_one_element_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="in training on sequences of one row"):
        NORMS[name]()(torch.zeros(2, C).double(), cu_seqlens=[0, 1, 2])


def test_wrong_arguments() -> None:
    norm, x = NORMS["layer"](), torch.zeros(15, C).double()
    with pytest.raises(ValueError, match="rise from 0 to the 15 rows"):
        norm(x, cu_seqlens=LENGTHS)
    with pytest.raises(ValueError, match="rows of C = 6 channels"):
        norm(x[:, 1:], cu_seqlens=BOUNDS)
    with pytest.raises(TypeError, match="LayerNorm"):
        norm(x.long(), cu_seqlens=BOUNDS)
    with pytest.raises(ValueError, match="leave lengths=None"):
        norm(x, LENGTHS, cu_seqlens=BOUNDS)
    with pytest.raises(ValueError, match="leave mask=None"):
        NORMS["group"]()(x, mask=x > 0, cu_seqlens=BOUNDS)
