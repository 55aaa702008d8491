"""``statistics_set`` describes the set over which the layer averages.

An output depends only on the elements of its set, so the set is found by changing one input at a
time and observing which outputs change.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from comparing import build
from torch import Tensor, nn
from torch_versions import TORCH

import seqnorm
from seqnorm.nn import statistics_set
from seqnorm.nn.recurrence.packing import Packing

F64 = torch.float64
# With a small eps, a set of two elements is normalised to -1 and 1, whatever their values.
EPS = {"eps": 0.1, "dtype": F64}
N, C, T = 3, 4, 4
LENGTHS = (4, 2, 4)  # two rows at least at every step
SIZES = {1: (3,), 2: (2, 3), 3: (2, 1, 2)}

Call = Callable[[nn.Module, Tensor], Tensor]


def plain(layer: nn.Module, x: Tensor) -> Tensor:
    out: Tensor = layer(x)
    return out


def with_lengths(layer: nn.Module, x: Tensor) -> Tensor:
    out: Tensor = layer(x, LENGTHS)
    return out


def of_styles(layer: nn.Module, x: Tensor) -> Tensor:
    out: Tensor = layer(x, torch.tensor([1, 0, 1]))
    return out


def of_gain(layer: nn.Module, x: Tensor) -> Tensor:
    gain = torch.full((len(x), x.shape[1]), 2.0, dtype=F64)
    out: Tensor = layer(x, weight=gain, bias=gain)
    return out


def cases() -> dict[str, tuple[nn.Module, tuple[int, ...], Call]]:
    found: dict[str, tuple[nn.Module, tuple[int, ...], Call]] = {}
    for library, name in ((nn, "torch"), (seqnorm, "seqnorm")):
        for dims, sizes in SIZES.items():
            for kind in ("BatchNorm", "InstanceNorm"):
                layer = getattr(library, f"{kind}{dims}d")(C, **EPS)
                found[f"{name} {kind}{dims}d"] = (layer, (N, C, *sizes), plain)
    for groups in (1, 2, C):
        found[f"GroupNorm {groups}"] = (nn.GroupNorm(groups, C, **EPS), (N, C, *SIZES[2]), plain)
    since_2_4 = [nn.RMSNorm] if TORCH >= (2, 4) else []
    for kind in (nn.LayerNorm, *since_2_4):
        for shape in ((C,), (C, 3), (C, 2, 2)):
            x = (N, 3, C) if len(shape) == 1 else (N, *shape)
            found[f"torch {kind.__name__} {shape}"] = (kind(shape, **EPS), x, plain)
    styled = seqnorm.ConditionalInstanceNorm2d(C, 2, **EPS)
    images = (N, C, *SIZES[2])
    found["conditional"] = (styled, images, of_styles)
    of_classes = seqnorm.ConditionalBatchNorm2d(C, 2, **EPS)
    found["of classes"] = (of_classes, images, of_styles)
    found["adaptive"] = (seqnorm.AdaptiveInstanceNorm2d(eps=0.1), images, of_gain)
    found["LayerNorm2d"] = (seqnorm.LayerNorm2d(C, **EPS), images, plain)
    for layout, shape in (("NTC", (N, T, C)), ("NCT", (N, C, T))):
        options = EPS | {"layout": layout}
        sequences = {
            "layer": seqnorm.LayerNorm(C, **options),
            "rms": seqnorm.RMSNorm(C, **options),
            "instance": seqnorm.InstanceNorm(C, **options),
            "pooled": seqnorm.BatchNorm(C, **options),
            "per step": seqnorm.BatchNorm(C, max_steps=T, **options),
        }
        for kind, layer in sequences.items():
            found[f"{layout} {kind}"] = (layer, shape, with_lengths)
    for groups in (1, 2):
        of_frames = seqnorm.GroupNorm(groups, C, **EPS, layout="NTC")
        found[f"NTC GroupNorm {groups}"] = (of_frames, (N, T, C), with_lengths)
        found[f"our GroupNorm {groups}"] = (seqnorm.GroupNorm(groups, C, **EPS), images, plain)
    return found


CASES = cases()


def moved(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Return a mask (outputs, inputs), both flat, of outputs that change with an input."""
    before = function(x)
    rows = []
    for number in range(x.numel()):
        other = x.clone()
        other.view(-1)[number] += 0.7
        rows.append(((function(other) - before).abs() > 1e-9).flatten())
    return torch.stack(rows, 1)


def compare(
    of: seqnorm.nn.statistics_sets.StatisticsSet,
    function: Callable[[Tensor], Tensor],
    shape: Sequence[int],
    lengths: Sequence[int] | None,
) -> None:
    x = torch.randn(*shape, dtype=F64)
    found = moved(function, x)
    seen = of.valid(shape, lengths)
    assert not found[~seen.flatten()].any(), "padding stays zero"
    for number, element in enumerate(itertools.product(*map(range, shape))):
        if seen[element]:
            claimed = of.mask(shape, element, lengths)
            assert claimed[element]
            assert torch.equal(claimed.flatten(), found[number]), element


@pytest.mark.parametrize("name", CASES)
def test_the_set_is_the_one_that_an_answer_depends_on(name: str) -> None:
    layer, shape, call = CASES[name]
    of = statistics_set(layer)

    def function(x: Tensor) -> Tensor:
        return call(copy.deepcopy(layer), x)  # each call has new running statistics

    assert layer.training
    compare(of, function, shape, LENGTHS if "T" in of.axes else None)
    if call is with_lengths:
        compare(of, lambda x: plain(copy.deepcopy(layer), x), shape, None)


@pytest.mark.parametrize("name", CASES)
def test_running_statistics_are_there_as_it_says(name: str) -> None:
    layer, shape, call = CASES[name]
    of = statistics_set(layer)
    assert of.running == any("running_mean" in name for name, _ in layer.named_buffers())
    assert of.running == of.spans_batch, "if and only if S contains the batch"
    # With running statistics, a result in inference depends only on its own element.
    found = moved(lambda x: call(copy.deepcopy(layer).eval(), x), torch.randn(*shape, dtype=F64))
    if of.running:
        assert not (found & ~torch.eye(len(found), dtype=torch.bool)).any()
    assert of.per_step == (name.endswith("per step"))
    assert of.centred == ("rms" not in name.lower())


def test_group_norm_takes_any_number_of_positions() -> None:
    for groups in (1, 2, C):
        for layer in (nn.GroupNorm(groups, C, **EPS), seqnorm.GroupNorm(groups, C, **EPS)):
            for dims in (2, 3):
                of = statistics_set(layer, spatial=dims)
                compare(of, layer, (N, C, *SIZES[dims]), None)
    assert statistics_set(nn.GroupNorm(2, C), spatial=1).axes == ("N", "C", "L")
    with pytest.raises(ValueError, match="takes only sequences"):
        statistics_set(seqnorm.GroupNorm(2, C, layout="NTC"), spatial=2)
    assert statistics_set(nn.SyncBatchNorm(C), spatial=3).axes == ("N", "C", "D", "H", "W")
    with pytest.raises(ValueError, match=r"spatial=2 is for norms .*BatchNorm2d takes its own"):
        statistics_set(nn.BatchNorm2d(C), spatial=2)
    with pytest.raises(ValueError, match="spatial must be 1, 2 or 3, got 4"):
        statistics_set(nn.GroupNorm(2, C), spatial=4)


def sites() -> list[tuple[str, str]]:
    """Yield every norm site of every distinct preset."""
    return [
        (name, cell)
        for name, schemes in seqnorm.PRESETS.items()
        for cell in schemes
        if name in ("layer", "rms", "batch", "batch_pooled", "icefall", "tf_contrib", "ba2016")
        or name in ("cooijmans2016_sequencewise", "dreamer", "nemo_batch", "xlstm")
    ]


@pytest.mark.parametrize(("name", "cell"), sites())
def test_the_sets_of_a_recurrent_layer(name: str, cell: str) -> None:
    layer = build(cell, seqnorm.preset(name, cell).replace(eps=0.1))
    sets = statistics_set(layer)
    direction = layer.directions()[0]
    assert list(sets) == list(direction.norms)
    assert len(sets) == len(direction.norms) > 0
    lengths = torch.tensor(LENGTHS)
    for site, of in sets.items():
        norm = direction.norms[site]
        assert of.axes == ("T", "B", "F")
        assert of.channels == norm.features
        assert of.running == of.spans_batch == norm.norm.over_batch
        assert of.per_step == (norm.norm.kind == "batch")

        def function(x: Tensor, norm: Any = norm) -> Tensor:
            packing = Packing.from_lengths(lengths, x.device)
            run = copy.deepcopy(norm).start(packing.batch_sizes)
            return packing.pad(run.whole(packing.pack(x)), len(x))

        compare(of, function, (T, N, norm.features), LENGTHS)
        alone = statistics_set(norm)
        element = (1, 0, 0)
        shape = (T, N, norm.features)
        assert torch.equal(alone.mask(shape, element), of.mask(shape, element))


def test_a_cell_has_the_sets_of_its_layer() -> None:
    for cell in ("LSTM", "GRU", "RNN"):
        layer, single = (getattr(seqnorm, cell + end)(3, 4, norm="layer") for end in ("", "Cell"))
        ours, theirs = statistics_set(single), statistics_set(layer)
        assert list(ours) == list(theirs)
        assert [of.groups for of in ours.values()] == [of.groups for of in theirs.values()]
        assert str(ours).startswith(f"{cell}Cell, {next(iter(theirs))}, x (T, B, F): all units")


def test_words() -> None:
    def words(layer: nn.Module) -> str:
        return statistics_set(layer).words

    assert words(nn.BatchNorm2d(8)) == "one channel, all examples of the mini-batch, all positions"
    assert words(seqnorm.LayerNorm2d(8)) == "all channels, one example, one position"
    assert words(nn.GroupNorm(1, 8)) == "all channels, one example, all positions"
    assert words(nn.GroupNorm(4, 8)) == (
        "the 2 channels of one of 4 groups, one example, all positions"
    )
    assert words(seqnorm.BatchNorm(8, max_steps=3, layout="NTC")) == (
        "one channel, all sequences of the mini-batch that reach this step, one time step"
    )
    assert words(seqnorm.BatchNorm(8, layout="NTC")) == (
        "one channel, all sequences of the mini-batch, all time steps"
    )
    sets = statistics_set(seqnorm.GRU(3, 4, norm="ba2016"))
    assert sets["hidden"].words == (
        "all units of one set of gates (rz or n), one sequence, one time step"
    )
    joint = statistics_set(seqnorm.LSTM(3, 4, norm="layer"))["input"]
    assert joint.words == "all units of the gates i, f, g and o, one sequence, one time step"
    apart = statistics_set(seqnorm.LSTM(3, 4, norm="tf_contrib"))["sum"]
    assert apart.words.startswith("all units of one gate (i, f, g or o)")


def test_sentences() -> None:
    batch = str(statistics_set(nn.BatchNorm2d(8)))
    assert batch.startswith("BatchNorm2d, x (N, C, H, W): one channel, all examples")
    assert "depends on the other examples" in batch
    assert "running statistics instead." in batch
    assert "those of each time step apart" in str(
        statistics_set(seqnorm.BatchNorm(8, max_steps=3, layout="NTC"))
    )
    assert "in inference too" in str(statistics_set(nn.BatchNorm2d(8, track_running_stats=False)))
    inside = str(statistics_set(nn.InstanceNorm2d(8)))
    assert "Stays inside one example: an answer does not depend" in inside
    assert "The mean is not subtracted" not in inside
    assert "The mean is not subtracted" in str(statistics_set(seqnorm.RMSNorm(8, layout="NTC")))
    tracked = statistics_set(nn.InstanceNorm2d(8, track_running_stats=True))
    assert (tracked.running, tracked.spans_batch) == (True, False)
    assert "the two compute different things" in str(tracked)
    assert "one of 5" in str(statistics_set(seqnorm.ConditionalInstanceNorm2d(8, 5)))
    assert "all processes" in str(statistics_set(nn.SyncBatchNorm(8)))
    lines = str(statistics_set(seqnorm.LSTM(3, 4, norm="batch"))).splitlines()
    assert [line.split(",")[1].strip() for line in lines] == ["input", "hidden", "cell"]


def test_groups_keep_their_proportions() -> None:
    of = statistics_set(nn.GroupNorm(2, 8))
    assert of.groups == (4, 4)
    assert of.mask((1, 4, 1, 1), (0, 0, 0, 0)).flatten().tolist() == [True, True, False, False]
    unequal = statistics_set(seqnorm.GRU(3, 5, norm="ba2016"))["input"]
    assert unequal.groups == (10, 5)
    assert unequal.mask((1, 1, 6), (0, 0, 5)).flatten().tolist() == [False] * 4 + [True] * 2
    with pytest.raises(ValueError, match="which 3 channels cannot keep: give a multiple of 2"):
        of.mask((1, 3, 1, 1), (0, 0, 0, 0))


def test_a_mask_needs_an_element_of_its_shape() -> None:
    of = statistics_set(seqnorm.LayerNorm(4, layout="NTC"))
    with pytest.raises(ValueError, match=r"axes \(N, T, C\): give a size and an index for each"):
        of.mask((2, 3), (0, 0))
    with pytest.raises(ValueError, match="lies outside of shape"):
        of.mask((2, 3, 4), (0, 3, 0))
    with pytest.raises(ValueError, match="is padding, which is in no set"):
        of.mask((2, 3, 4), (1, 2, 0), (3, 2))
    with pytest.raises(ValueError, match=r"lengths\[0\] is 9"):
        of.mask((2, 3, 4), (1, 2, 0), (9, 2))
    with pytest.raises(ValueError, match="no time axis: leave lengths out"):
        statistics_set(nn.BatchNorm2d(4)).mask((2, 4, 3, 3), (0, 0, 0, 0), (3, 2))


def test_axes_that_no_norm_has() -> None:
    for axes, spans in ((("N", "C"), ("N",)), (("N", "C", "T"), ("H",)), (("C", "H", "W"), ())):
        with pytest.raises(ValueError, match="axes are N or B, C or F, and T"):
            seqnorm.nn.statistics_sets.StatisticsSet("norm", axes, spans)
    with pytest.raises(ValueError, match="divide C, which S spans: leave one out"):
        seqnorm.nn.statistics_sets.StatisticsSet("norm", ("N", "C", "T"), ("C",), groups=(2, 2))


class Activated(nn.BatchNorm2d):
    """A norm with an activation, as in other libraries."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input).relu()


class Renamed(nn.BatchNorm2d):
    """A norm under another name."""


def test_a_class_derived_from_a_norm() -> None:
    assert statistics_set(Renamed(4)).spans == ("N", "H", "W")
    with pytest.raises(TypeError, match="Activated derives from a norm but has a forward"):
        statistics_set(Activated(4))


def test_it_knows_every_norm_of_torch() -> None:
    modules = (nn.modules.batchnorm, nn.modules.instancenorm, nn.modules.normalization)
    names = {name for module in modules for name in module.__all__}
    assert {"BatchNorm3d", "LazyInstanceNorm1d"} <= names
    assert ("RMSNorm" in names) == (TORCH >= (2, 4))
    other = {
        "LocalResponseNorm",
        "CrossMapLRN2d",
    }  # overlapping sets, without division by a deviation
    for name in names - other:
        kind = getattr(nn, name)
        layer = kind() if name.startswith("Lazy") else kind(*[4] * (2 if "Group" in name else 1))
        if name.startswith("Lazy"):
            with pytest.raises(TypeError, match=f"{name} does not know its channels yet"):
                statistics_set(layer)
            layer(torch.randn(2, 4, *[3] * int(name[-2])))
        assert statistics_set(layer).channels == 4


def test_what_is_no_norm() -> None:
    with pytest.raises(TypeError, match="Linear is not a norm that statistics_set knows"):
        statistics_set(nn.Linear(2, 2))
    with pytest.raises(TypeError, match="takes a layer, got 'batch'"):
        statistics_set("batch")  # type: ignore[call-overload]  # the mistake
    with pytest.raises(TypeError, match=r"torch.nn.LSTM has no norm; seqnorm.LSTM.from_torch"):
        statistics_set(nn.LSTM(2, 2))
    with pytest.raises(ValueError, match='this LSTM has no norm: build it with norm="layer"'):
        statistics_set(seqnorm.LSTM(2, 2))
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Sequential(nn.BatchNorm2d(2)))
    with pytest.raises(TypeError, match=r"get_submodule\('1.0'\)\); they are 1.0"):
        statistics_set(model)
    with pytest.raises(TypeError, match=r"normalized_shape \(1, 2, 1, 2, 1\)"):
        statistics_set(nn.LayerNorm((1, 2, 1, 2, 1)))
