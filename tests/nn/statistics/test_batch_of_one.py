"""BatchNorm in training with too few rows for statistics warns once and uses the table."""

from __future__ import annotations

import copy
import pickle
import re
import warnings
from typing import Any

import pytest
import torch
from tolerances import VALUES, assert_close, assert_equal
from torch import nn

from seqnorm import LSTM, Norm, NormScheme, preset
from seqnorm.nn.layers.cells import LAYERS

I = 2  # noqa: E741  the input size


def running_answer(layer: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Return the results of the layer in inference, with the same tables."""
    twin = copy.deepcopy(layer).eval()
    return twin(x)[0]


def alone(layer: nn.Module, x: torch.Tensor) -> list[warnings.WarningMessage]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        layer(x)
    return caught


@pytest.mark.parametrize("cls", LAYERS.values())
@pytest.mark.parametrize("form", ["batched", "unbatched", "lengths"])
def test_a_batch_of_one_warns_once_and_takes_running_statistics(cls: Any, form: str) -> None:
    layer = cls(I, 4, 2, bidirectional=True, norm="batch", dtype=torch.float64)
    layer(torch.randn(6, 5, I, dtype=torch.float64))
    x = torch.randn(6, 1, I, dtype=torch.float64)
    expected = running_answer(layer, x)
    before = {name: value.clone() for name, value in layer.named_buffers()}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(3):
            if form == "unbatched":
                output = layer(x[:, 0])[0].unsqueeze(1)
            else:
                output = layer(x, lengths=[6] if form == "lengths" else None)[0]
            assert_close(output, expected, VALUES)
    assert len(caught) == 1
    message = str(caught[0].message)
    assert re.search(r"BatchNorm in training .*1 .*min_count=2.*LayerNorm, RMSNorm", message)
    assert caught[0].filename == __file__, "it points at the call, not into a library"
    for name, value in layer.named_buffers():
        assert_equal(value, before[name], name)


def test_a_batch_of_one_is_no_matter_in_inference_or_with_other_norms() -> None:
    x = torch.randn(6, 1, I)
    assert not alone(LSTM(I, 3, norm="batch").eval(), x)
    assert not alone(LSTM(I, 3, norm="layer"), x)
    pooled = LSTM(I, 3, norm=NormScheme(frame=Norm("batch_pooled"), output=Norm("batch_pooled")))
    assert not alone(pooled, x), "at the other sites too"
    for site in ("frame", "output"):
        assert len(alone(LSTM(I, 3, norm=NormScheme(**{site: Norm("batch")})), x)) == 1, site
    assert not alone(LSTM(I, 3, norm="batch_pooled"), x), "six rows are enough for one set"
    assert len(alone(LSTM(I, 3, norm="batch_pooled"), x[:1])) == 1
    assert (
        len(alone(LSTM(I, 3, norm=preset("batch", "LSTM", min_count=4)), torch.randn(6, 3, I))) == 1
    )
    assert not alone(LSTM(I, 3, norm="batch"), torch.zeros(0, 2, I)), "no row, nothing to warn of"
    assert not alone(LSTM(I, 3, norm="batch"), torch.zeros(2, 0, I))


def test_copies_remember_that_they_have_warned() -> None:
    x = torch.randn(6, 1, I)
    layer = LSTM(I, 3, norm="batch")
    assert len(alone(layer, x)) == 1
    assert not alone(copy.deepcopy(layer), x)
    assert not alone(pickle.loads(pickle.dumps(layer)), x)
    assert len(alone(LSTM(I, 3, norm="batch"), x)) == 1, "another layer speaks for itself"
