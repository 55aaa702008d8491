"""Refusals of ``convert_norm``, and the calls that their messages suggest."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from quiet_exchange import quietly
from tolerances import assert_close
from torch import Tensor, nn

import seqnorm
from seqnorm.nn import convert_norm


class Activated(nn.BatchNorm2d):
    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input).relu()


def test_what_is_more_than_a_norm_is_refused() -> None:
    def refused(norm: nn.Module, match: str) -> None:
        model = nn.Sequential(nn.BatchNorm2d(4), nn.Sequential(norm))
        with pytest.raises(ValueError, match=rf'(?s){match}.*exclude="1.0"'):
            convert_norm(model, to="instance")
        new: Any = quietly(model, to="instance", exclude="1.0")
        assert type(new[1][0]) is type(norm)

    refused(Activated(4), "1.0 is a Activated, which has a forward of its own")
    hooked = nn.BatchNorm2d(4)
    hooked.register_forward_hook(lambda *_: None)
    refused(hooked, r"1.0 \(BatchNorm2d\) has hooks")
    masked = nn.BatchNorm2d(4)
    masked.register_buffer("chosen", torch.ones(4))
    refused(masked, r"holds more than a norm \(chosen\)")
    lazy = nn.Sequential(nn.LazyBatchNorm2d())
    with pytest.raises(ValueError, match="does not know its channels yet: call the model"):
        convert_norm(lazy, to="group")


def test_channels_that_do_not_fall_into_groups() -> None:
    model = nn.Sequential(nn.BatchNorm2d(64), nn.BatchNorm2d(48))
    with pytest.raises(ValueError, match=r"^1 \(BatchNorm2d\).*write num_groups=16,"):
        convert_norm(model, to="group")
    assert quietly(model, to="group", num_groups=16)[1].num_groups == 16  # type: ignore[index]  # a Sequential
    with pytest.raises(
        ValueError, match=r"do not fall into groups of 5 channels: write num_groups"
    ):
        convert_norm(model, to="group", group_size=5)
    assert quietly(model[:1], to="group")[0].num_groups == 32  # type: ignore[index]  # a Sequential
    with pytest.raises(ValueError, match=r"0 \(BatchNorm2d\): LayerNorm2d over one"):
        convert_norm(nn.Sequential(nn.BatchNorm2d(1)), to="layer")


def test_planes_of_one_position() -> None:
    x = torch.randn(2, 3, 4, 4)
    model = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    with pytest.raises(ValueError, match=r"2 .*x \(2, 4, 1, 1\) has one position per channel"):
        convert_norm(model, to="instance", example=x)
    assert quietly(model, to="group", num_groups=2, example=(x,))(x).shape == (2, 4, 1, 1)


def test_norms_of_unknown_dimension() -> None:
    for norm in (nn.GroupNorm(2, 4), seqnorm.GroupNorm(2, 4), nn.SyncBatchNorm(4)):
        model = nn.Sequential(norm)
        with pytest.raises(ValueError, match=r"takes any number of axes.*give example=x"):
            convert_norm(model, to="batch")
        new: Any = quietly(model, to="batch", example=torch.randn(2, 4, 3, 3))[0]  # type: ignore[index]  # a Sequential
        assert type(new) is seqnorm.BatchNorm2d
    one = nn.Sequential(nn.GroupNorm(2, 4))
    with pytest.raises(
        ValueError, match=r'has more axes of positions than a volume: only to="group"'
    ):
        convert_norm(one, to="batch", example=torch.randn(2, 4, 1, 1, 1, 2))
    assert type(quietly(one, to="batch", example=torch.randn(2, 4))[0]) is seqnorm.BatchNorm1d  # type: ignore[index]  # a Sequential
    sequences = nn.Sequential(seqnorm.GroupNorm(2, 4, layout="NTC"))
    x = torch.randn(2, 3, 4)
    with pytest.raises(ValueError, match=r"x \(2, 3, 4\) is a sequence \(N, T, C\)"):
        convert_norm(sequences, to="instance", example=x)
    assert_close(convert_norm(sequences, to="group", num_groups=2)(x), sequences(x), 0.0)
    signals = nn.Sequential(nn.GroupNorm(2, 4))
    y = torch.randn(2, 4, 3)
    assert_close(convert_norm(signals, to="group", num_groups=2)(y), signals(y), 1e-6)


def test_one_example_without_a_batch() -> None:
    x = torch.randn(4, 3, 5)
    model = nn.Sequential(nn.InstanceNorm2d(4))
    assert_close(convert_norm(model, to="instance", example=x)(x), model(x), 1e-6)
    with pytest.raises(ValueError, match=r"x \(4, 3, 5\) is one example without the axis N"):
        convert_norm(model, to="group", num_groups=2, example=x)


def test_nothing_to_exchange() -> None:
    with pytest.raises(
        ValueError, match=r"Linear has no norm to replace; convert_norm looks for B"
    ):
        convert_norm(nn.Linear(2, 2), to="group")
    for layer in (seqnorm.LSTM(2, 3, norm="layer"), nn.GRU(2, 3)):
        with pytest.raises(
            ValueError, match=r'rnn is a recurrent layer.*convert_rnn\(model, norm="'
        ):
            convert_norm(nn.ModuleDict({"rnn": layer}), to="group")
    both: Any = quietly(
        nn.ModuleList([seqnorm.LSTM(2, 3, norm="batch"), nn.BatchNorm1d(4)]), to="batch"
    )
    assert both[0].norm == seqnorm.preset("batch", "LSTM")


def test_options_that_mean_nothing() -> None:
    model = nn.Sequential(nn.BatchNorm2d(4))
    with pytest.raises(
        ValueError, match=r"to must be one of .* got 'groups' \(did you mean 'group'"
    ):
        convert_norm(model, to="groups")
    with pytest.raises(ValueError, match="group_size is for to=\"group\", and to is 'layer'"):
        convert_norm(model, to="layer", group_size=4)
    with pytest.raises(ValueError, match="give one of them"):
        convert_norm(model, to="group", group_size=4, num_groups=2)
    with pytest.raises(ValueError, match="num_groups must be greater than zero"):
        convert_norm(model, to="group", num_groups=0)
    with pytest.raises(ValueError, match="leave affine out"):
        convert_norm(model, to="none", affine=True)
    with pytest.raises(TypeError, match=r"takes a model, a torch.nn.Module, got 'net'"):
        convert_norm("net", to="group")  # type: ignore[arg-type]  # the mistake
