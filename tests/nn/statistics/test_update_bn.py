"""``update_bn`` does the same as torch's and also updates the tables.

Axes: T steps, B sequences, I inputs, H = hidden size.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from tolerances import SINGLE, assert_close, assert_equal
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_sequence
from torch.optim import swa_utils

import seqnorm

I, H = 3, 5  # noqa: E741  the axes' letters


class Both(nn.Module):
    """A norm as torch's, dropout, and a layer with tables, for padded frames (B, T, I)."""

    def __init__(self) -> None:
        super().__init__()
        self.images = nn.BatchNorm1d(I)
        self.masked = seqnorm.BatchNorm1d(I, momentum=None)
        self.dropout = nn.Dropout(0.5)
        scheme = seqnorm.preset("batch", "GRU", max_steps=6)
        self.rnn = seqnorm.GRU(I, H, 2, batch_first=True, norm=scheme)

    def forward(self, x: Tensor) -> Tensor:
        x = self.dropout(self.images(x.mT).mT)
        return self.rnn(self.masked(x.mT).mT)[0]  # type: ignore[no-any-return]


def batches(sizes: tuple[int, ...] = (4, 4, 2)) -> list[Tensor]:
    """Return batches of which the last is smaller, as from a loader."""
    generator = torch.Generator().manual_seed(3)
    return [torch.randn(n, 5, I, generator=generator) + n for n in sizes]


def trained() -> Both:
    model = Both()
    for x in batches((3, 5)):
        model(3 * x)
    return model


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("form", ["tensors", "tuples", "lists", "generator"])
def test_torchs_norms_are_as_torch_leaves_them(form: str, training: bool) -> None:
    """Batches have equal weight, dropout is active, and modes and momenta are restored."""
    ours = trained().train(training)
    ours.rnn.eval()
    theirs = copy.deepcopy(ours)
    loader: Any = {
        "tensors": batches(),
        "tuples": [(x, x.sum()) for x in batches()],
        "lists": [[x, x.sum(), "label"] for x in batches()],
    }.get(form, batches())
    torch.manual_seed(1)
    assert seqnorm.update_bn(iter(loader) if form == "generator" else loader, ours) is None  # type: ignore[func-returns-value]  # as torch's
    torch.manual_seed(1)
    swa_utils.update_bn(loader, theirs)
    for name in ("images", "masked"):
        for key, right in getattr(theirs, name).state_dict().items():
            assert_close(getattr(ours, name).state_dict()[key], right, 10 * SINGLE, key)
    assert ours.images.momentum == 0.1
    assert ours.masked.track_running_stats
    modes = {name: module.training for name, module in ours.named_modules()}
    assert modes == {name: training and not name.startswith("rnn") for name in modes}


def test_tables_hold_the_batches() -> None:
    """Every step counts its rows, also in a batch that ends early; old statistics are gone."""
    layer = seqnorm.LSTM(I, H, norm=seqnorm.preset("batch", max_steps=6))
    layer(100 * torch.randn(6, 4, I))
    layer.eval()
    x, y = torch.randn(5, 4, I), torch.randn(3, 2, I)
    theirs = copy.deepcopy(layer)
    before = copy.deepcopy(layer.state_dict())
    swa_utils.update_bn([x, y], theirs)
    for key, value in before.items():
        assert_equal(theirs.state_dict()[key], value, "torch's does nothing")
    seqnorm.update_bn([x, y], layer)
    assert not layer.training
    table = layer.norm_ih_l0.table
    assert table.count.tolist() == [6, 6, 6, 4, 4, 0]
    for step in range(5):
        own = [
            (batch[step] @ layer.weight_ih_l0.T).detach() for batch in (x, y) if step < len(batch)
        ]
        rows = torch.tensor([float(len(one)) for one in own])[:, None]
        mean, var = (torch.stack([f(one) for one in own]) for f in (mean_of, var_of))
        assert_close(table.running_mean[step], (mean * rows).sum(0) / rows.sum(), SINGLE)
        assert_close(table.running_var[step], (var * rows).sum(0) / rows.sum(), 10 * SINGLE)


def mean_of(x: Tensor) -> Tensor:
    return x.mean(0)


def var_of(x: Tensor) -> Tensor:
    return x.var(0)


def test_packed_sequences_and_devices() -> None:
    """A ``PackedSequence`` is an input, although it is a tuple."""
    layer = seqnorm.GRU(I, H, norm=seqnorm.preset("batch", "GRU", max_steps=6))
    packed = pack_sequence([torch.randn(n, I) for n in (5, 3, 3)])
    seqnorm.update_bn([packed, (packed, "labels")], layer, device="cpu")
    assert layer.norm_ih_l0.table.count.tolist() == [6, 6, 6, 0, 0, 0]
    seqnorm.update_bn(
        [torch.randn(2, 4, I, dtype=torch.float64)], layer.double(), torch.device("cpu")
    )
    assert layer.norm_ih_l0.table.count.tolist() == [4, 4, 0, 0, 0, 0]


def test_averaged_weights() -> None:
    """In the documented use, the averaged model has statistics of its own weights."""
    model = trained()
    average = swa_utils.AveragedModel(model)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.5)
    average.update_parameters(model)
    seqnorm.update_bn(batches(), average)
    assert average.module.rnn.report().rows == dict.fromkeys(
        model.rnn.report().rows, (10, 10, 10, 10, 10, 0)
    )
    x = batches()[0]
    assert average.eval()(x).isfinite().all()


def test_what_goes_wrong_leaves_everything() -> None:
    model = trained()
    model.rnn.eval()
    before = {name: value.clone() for name, value in model.named_buffers()}

    def breaks() -> Iterator[Tensor]:
        yield from batches()
        raise OSError("the disk")

    with pytest.raises(OSError, match="the disk"):
        seqnorm.update_bn(breaks(), model)
    with pytest.raises(ValueError, match="no batches"):
        seqnorm.update_bn([], model)
    with pytest.raises(TypeError, match=r"Both does not take the first element of a batch, a list"):
        seqnorm.update_bn([([1.0], 2)], model)
    for name, value in model.named_buffers():
        assert_equal(value, before[name], name)
    assert model.images.track_running_stats
    assert model.training
    assert not model.rnn.training


def test_without_running_statistics_nothing_is_done() -> None:
    """torch's function does not read the batches either."""
    seqnorm.update_bn(iter([object()]), nn.Linear(2, 2))
    seqnorm.update_bn([], seqnorm.LSTM(I, H, norm="layer"))


class OfTwo(nn.Module):
    """Padded frames and their lengths."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = seqnorm.LSTM(I, H, norm="batch")

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        return self.rnn(x, lengths=lengths)[0]  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("model", "batch", "wanted"),
    [
        (seqnorm.LSTM(I, H, norm="batch"), (torch.randn(4, 2, I), 1), "a whole batch, a tuple"),
        (seqnorm.LSTM(I, H, norm="batch"), [torch.randn(4, 2, I)], "a whole batch, a list"),
        (seqnorm.LSTM(I, H, norm="batch"), {"x": 1}, "a whole batch, a dict"),
        (nn.Sequential(nn.Linear(I, I), nn.BatchNorm1d(I)), (torch.randn(4, I), 1), "a tuple"),
        (nn.BatchNorm1d(I), (torch.randn(4, I), 1), "a tuple"),
        (seqnorm.BatchNorm(I, layout="NTC"), (torch.randn(4, 2, I), 1), "a tuple"),
        (OfTwo(), (torch.randn(4, 2, I), torch.tensor([4, 2])), "a tuple"),
        (OfTwo(), torch.randn(4, 2, I), "a Tensor, as its only .*missing .*'lengths'"),
    ],
)
def test_batches_of_more_than_the_input(model: Any, batch: Any, wanted: str) -> None:
    """The error names the argument for such batches, which works."""
    with pytest.raises(TypeError, match=rf"{wanted}.*forward=lambda model, batch: model\(batch\[0"):
        seqnorm.reestimate_statistics(model, [batch])
    if isinstance(model, OfTwo) and isinstance(batch, tuple):
        forward = lambda model, batch: model(*batch)  # noqa: E731  as the message has it
        assert seqnorm.reestimate_statistics(model, [batch], forward) == 1
        assert model.rnn.report().rows["norm_ih_l0.table"][:4] == (2, 2, 0, 0)
        with pytest.raises(TypeError, match=r"the first element of a batch, a Tensor.*forward="):
            seqnorm.update_bn([batch], model)


def test_arguments_the_wrong_way_round() -> None:
    """torch has the loader first, as has only one of the two functions here."""
    model: Any = seqnorm.LSTM(I, H, norm="batch")
    loader: Any = [torch.randn(4, 2, I)]
    with pytest.raises(TypeError, match=r"got list: write update_bn\(loader, model\)"):
        seqnorm.update_bn(model, loader)
    with pytest.raises(TypeError, match=r"got list: write reestimate_statistics\(model, batches\)"):
        seqnorm.reestimate_statistics(loader, model)


def test_models_that_take_a_tuple_still_do() -> None:
    class Pair(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.BatchNorm1d(I)

        def forward(self, pair: tuple[Tensor, Tensor]) -> Tensor:
            return self.norm(pair[0] + pair[1])  # type: ignore[no-any-return]

    model = Pair()
    assert seqnorm.reestimate_statistics(model, [(torch.ones(4, I), torch.ones(4, I))]) == 1
    assert_close(model.norm.running_mean, torch.full((I,), 2.0), SINGLE)


def test_mistakes_in_a_model_are_raised_as_they_are() -> None:
    class Broken(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.BatchNorm1d(I)

        def forward(self, x: Tensor) -> Tensor:
            return self.nrom(x)  # type: ignore[operator, no-any-return]  # the mistake

    with pytest.raises(AttributeError, match="no attribute 'nrom'"):
        seqnorm.update_bn([torch.ones(4, I)], Broken())


@pytest.mark.parametrize("name", ["BatchInstanceNorm2d", "SwitchableNorm2d"])
def test_norms_that_mix_the_batch_with_other_sets(name: str) -> None:
    """Their part of the batch is updated as torch's norm is, which torch's function does not do."""
    norm, plain = getattr(seqnorm, name)(I), nn.BatchNorm2d(I)
    images = [torch.randn(n, I, 4, 5) + n for n in (4, 4, 2)]
    swa_utils.update_bn(images, norm)
    assert int(norm.num_batches_tracked) == 0
    seqnorm.update_bn(images, norm)
    swa_utils.update_bn(images, plain)
    for key, right in plain.named_buffers():
        assert_close(norm.get_buffer(key), right, 10 * SINGLE, key)
