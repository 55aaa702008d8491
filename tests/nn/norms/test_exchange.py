"""``convert_norm`` compared with networks built by hand, and its errors and warnings."""

from __future__ import annotations

import copy
import doctest
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from quiet_exchange import quietly
from tolerances import VALUES, assert_close, assert_equal
from torch import Tensor, nn
from zipped import zipped

import seqnorm
from seqnorm.nn import convert_norm
from seqnorm.nn.norms import counterparts
from seqnorm.nn.norms import exchange as swap

F64 = torch.float64
Norm = Callable[[int], nn.Module]
DROPPED = "running statistics are dropped, which the new norm has no use for"
FRESH = "new running statistics have seen no data yet"


class Residual(nn.Module):
    """Two convolutions with a norm each, and a shortcut with a third if channels change."""

    def __init__(self, before: int, after: int, norm: Norm) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, padding=1, bias=False)
        self.bn1 = norm(after)
        self.conv2 = nn.Conv2d(after, after, 3, padding=1, bias=False)
        self.bn2 = norm(after)
        self.shortcut: nn.Module = nn.Identity()
        if before != after:
            self.shortcut = nn.Sequential(nn.Conv2d(before, after, 1, bias=False), norm(after))

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn1(self.conv1(x)).relu()
        out: Tensor = (self.bn2(self.conv2(y)) + self.shortcut(x)).relu()
        return out


def small(norm: Norm) -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 8, 3), norm(8), nn.ReLU(), nn.Conv2d(8, 4, 3), norm(4))


def residual(norm: Norm) -> nn.Module:
    stem = nn.Sequential(nn.Conv2d(3, 4, 3), norm(4), nn.ReLU())
    blocks = nn.Sequential(Residual(4, 4, norm), Residual(4, 8, norm))
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5))
    return nn.Sequential(stem, blocks, head)


NETWORKS = {"small": small, "residual": residual}
TARGETS: dict[str, tuple[dict[str, Any], Norm]] = {
    "batch": ({"to": "batch"}, lambda c: seqnorm.BatchNorm2d(c)),
    "groups": ({"to": "group", "num_groups": 2}, lambda c: seqnorm.GroupNorm(2, c)),
    "group size": ({"to": "group", "group_size": 4}, lambda c: seqnorm.GroupNorm(c // 4, c)),
    "one group": ({"to": "group", "num_groups": 1}, lambda c: seqnorm.GroupNorm(1, c)),
    "instance": ({"to": "instance"}, lambda c: seqnorm.InstanceNorm2d(c, affine=True)),
    "layer": ({"to": "layer"}, lambda c: seqnorm.LayerNorm2d(c)),
    "none": ({"to": "none"}, lambda c: nn.Identity()),
}
SOURCES: dict[str, Norm] = {
    "torch batch": lambda c: nn.BatchNorm2d(c),
    "torch instance": lambda c: nn.InstanceNorm2d(c, affine=True),
    "torch group": lambda c: nn.GroupNorm(4, c),
    "batch": lambda c: seqnorm.BatchNorm2d(c),
    "instance": lambda c: seqnorm.InstanceNorm2d(c, affine=True),
    "group": lambda c: seqnorm.GroupNorm(4, c),
    "layer": lambda c: seqnorm.LayerNorm2d(c),
}


def trained(model: nn.Module) -> nn.Module:
    """Return the network with gains, biases and running statistics changed by training."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
        model(torch.randn(6, 3, 9, 9, dtype=next(model.parameters()).dtype))
    return model


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("target", TARGETS)
def test_it_is_the_network_built_by_hand(target: str, source: str, network: str) -> None:
    options, norm = TARGETS[target]
    old = trained(NETWORKS[network](SOURCES[source]).double())
    before = copy.deepcopy(old.state_dict())
    x = torch.randn(5, 3, 9, 9, dtype=F64)
    got = quietly(old, example=x, **options)
    expected = NETWORKS[network](norm).double()
    state = {k: v for k, v in before.items() if k in expected.state_dict()}
    lacking = expected.load_state_dict(state, strict=False).missing_keys
    assert all("running" in key or "tracked" in key for key in lacking)
    assert [type(m) for m in got.modules()] == [type(m) for m in expected.modules()]
    assert got.state_dict().keys() == expected.state_dict().keys()
    # Also in inference, which uses the kept running statistics.
    for mode in (True, False):
        ours, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
        y, z = got.train(mode)(ours), expected.train(mode)(theirs)
        assert_close(y, z, VALUES)
        cotangent = torch.randn_like(y)
        leaves = [dict(model.named_parameters()) for model in (got, expected)]
        found = torch.autograd.grad(y, [ours, *leaves[0].values()], cotangent)
        right = torch.autograd.grad(z, [theirs, *leaves[1].values()], cotangent)
        for name, mine, other in zip(["x", *leaves[0]], found, right):
            assert_close(mine, other, VALUES, name)
    after = old.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before), (
        "the original is as it was"
    )
    assert {type(m) for m in old.modules()} == {
        type(m) for m in NETWORKS[network](SOURCES[source]).modules()
    }


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_from_batch_norm_to_batch_norm_nothing_changes(dims: int) -> None:
    layer = getattr(nn, f"BatchNorm{dims}d")(4, eps=1e-3, momentum=None, dtype=F64)
    x = torch.randn(3, 4, *[3] * dims, dtype=F64)
    for _ in range(3):
        layer(2 * x + 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        new: Any = convert_norm(layer.eval(), to="batch")
    assert type(new) is getattr(seqnorm, f"BatchNorm{dims}d")
    assert (new.eps, new.momentum, new.training) == (1e-3, None, False)
    assert int(new.num_batches_tracked) == 3
    assert_equal(new(x), layer(x))
    assert_close(new.train()(x), layer.train()(x), VALUES)
    for name, value in layer.state_dict().items():
        assert_close(new.state_dict()[name], value, VALUES if "running" in name else 0.0, name)
    untracked: Any = convert_norm(nn.BatchNorm2d(4, track_running_stats=False), to="batch")
    assert untracked.running_mean is None


@pytest.mark.parametrize("through", ["groups", "instance", "layer"])
def test_there_and_back_the_parameters_are_the_same(through: str) -> None:
    old = trained(residual(lambda c: nn.BatchNorm2d(c)))
    x = torch.randn(4, 3, 9, 9)
    there = quietly(old, **TARGETS[through][0])
    back = quietly(there, to="batch", example=x)
    state = back.state_dict()
    for name, value in old.named_parameters():
        assert_equal(state[name], value, name)
    assert_close(back.train()(x), old.train()(x), 1e-5)


def test_signals_volumes_and_features() -> None:
    for dims, sizes in ((1, (5,)), (3, (2, 3, 2))):
        x = torch.randn(4, 6, *sizes, dtype=F64)
        for kind in ("BatchNorm", "InstanceNorm"):
            old = nn.Sequential(getattr(nn, f"{kind}{dims}d")(6, affine=True, dtype=F64))
            instance = quietly(old, to="instance", example=x)
            assert type(instance[0]) is getattr(seqnorm, f"InstanceNorm{dims}d")  # type: ignore[index]  # a Sequential
            assert_close(instance(x), nn.functional.instance_norm(x), VALUES)
            grouped = quietly(old, to="group", num_groups=3)
            assert_close(grouped(x), nn.functional.group_norm(x, 3), VALUES)
            with pytest.raises(ValueError, match=r"(?s)LayerNorm2d is for images.*num_groups=1"):
                quietly(old, to="layer")
    features = nn.Sequential(nn.Linear(3, 6), nn.BatchNorm1d(6))
    x = torch.randn(4, 3)
    grouped = quietly(features, to="group", num_groups=2)
    assert_close(grouped(x), nn.functional.group_norm(features[0](x), 2), 1e-6)
    with pytest.raises(ValueError, match=r"^1 \(BatchNorm1d\): its input may be"):
        quietly(features, to="instance")
    with pytest.raises(ValueError, match=r"x \(4, 6\) has one position per channel"):
        quietly(features, to="instance", example=x)
    with pytest.raises(ValueError, match=r"has one element in each of 6 groups"):
        quietly(features, to="group", group_size=1, example=x)


def test_dtype_device_mode_and_frozen_parameters_stay() -> None:
    model = small(lambda c: nn.BatchNorm2d(c)).to(torch.bfloat16)
    model[1].eval()  # type: ignore[index]  # a Sequential
    model[1].weight.requires_grad_(False)  # type: ignore[index]  # a Sequential
    new: Any = quietly(model, to="group", num_groups=2)
    assert [new[1].training, new[4].training] == [False, True]
    assert new[1].weight.dtype == new[4].bias.dtype == torch.bfloat16
    assert [new[1].weight.requires_grad, new[1].bias.requires_grad] == [False, True]
    bare: Any = quietly(
        nn.Sequential(nn.Conv2d(1, 4, 1).double(), nn.InstanceNorm2d(4)), to="batch"
    )
    assert bare[1].running_mean.dtype == F64, "as the model around it"
    abroad: Any = quietly(small(lambda c: nn.BatchNorm2d(c)).to("meta"), to="instance")
    assert abroad[1].weight.device.type == "meta"


def test_affine() -> None:
    old = nn.Sequential(nn.InstanceNorm2d(4))
    assert convert_norm(old, to="group", num_groups=2)[0].weight is None  # type: ignore[index]  # a Sequential
    new: Any = convert_norm(old, to="group", num_groups=2, affine=True)
    assert new[0].weight.tolist() == [1.0] * 4
    with pytest.warns(UserWarning, match=r"gains and biases are dropped \(at 0\)"):
        gone: Any = convert_norm(new, to="group", num_groups=2, affine=False)
    assert gone[0].weight is gone[0].bias is None
    with pytest.raises(TypeError, match="affine must be True, False or None, got 1"):
        convert_norm(old, to="group", affine=1)  # type: ignore[arg-type]  # the mistake


def test_a_gain_without_a_bias() -> None:
    old = nn.Sequential(seqnorm.LayerNorm2d(4, bias=False, dtype=F64))
    x = torch.randn(2, 4, 3, 3, dtype=F64)
    for to in ("batch", "group", "instance", "layer"):
        options = {"num_groups": 2} if to == "group" else {}
        new = quietly(old, to=to, **options)
        assert [name for name, _ in new.named_parameters()] == ["0.weight"]
        assert new(x).shape == x.shape


def test_what_is_shared_stays_shared() -> None:
    norm = nn.BatchNorm2d(4)
    other = nn.BatchNorm2d(4)
    other.weight = norm.weight
    new: Any = quietly(nn.Sequential(norm, nn.ReLU(), norm, other), to="group", num_groups=2)
    assert new[0] is new[2]
    assert new[0] is not new[3]
    assert new[0].weight is new[3].weight


def test_in_place_an_optimiser_keeps_its_parameters() -> None:
    model: Any = small(lambda c: nn.BatchNorm2d(c))
    held = list(model.parameters())
    assert quietly(model, to="group", num_groups=2, inplace=True) is model
    assert all(mine is other for mine, other in zipped(held, model.parameters()))
    assert type(model[1]) is seqnorm.GroupNorm
    # A norm that cannot be replaced leaves all norms unchanged.
    with pytest.raises(ValueError, match=r"^1 \(GroupNorm\)"):
        convert_norm(model, to="group", num_groups=5, inplace=True)
    assert model[4].num_groups == 2
    with pytest.raises(ValueError, match="itself a norm"):
        convert_norm(nn.BatchNorm2d(4), to="group", inplace=True)


def test_only_some_of_them() -> None:
    model: Any = residual(lambda c: nn.BatchNorm2d(c))

    def exchanged(**patterns: Any) -> list[str]:
        new = quietly(model, to="instance", **patterns)
        return [p for p, m in new.named_modules() if isinstance(m, seqnorm.InstanceNorm2d)]

    everything = ["0.1", "1.0.bn1", "1.0.bn2", "1.1.bn1", "1.1.bn2", "1.1.shortcut.1"]
    assert exchanged() == everything
    assert exchanged(include="1.0") == ["1.0.bn1", "1.0.bn2"]
    assert exchanged(include="*.bn1") == ["1.0.bn1", "1.1.bn1"]
    assert exchanged(include=["0", "*.bn1"], exclude="1.1") == ["0.1", "1.0.bn1"]
    assert exchanged(exclude=["1.*"]) == ["0.1"]
    with pytest.raises(ValueError, match=r"include='1.0.bn3' matches no norm \(did you mean"):
        exchanged(include="1.0.bn3")
    with pytest.raises(ValueError, match="together leave no norm"):
        exchanged(include="0", exclude="0.1")
    with pytest.raises(TypeError, match="include holds patterns of paths, as 'layer1"):
        exchanged(include=[1])


def test_it_says_what_is_dropped() -> None:
    model = residual(lambda c: nn.BatchNorm2d(c))
    with pytest.warns(UserWarning, match=DROPPED) as caught:
        convert_norm(model, to="group", num_groups=2)
    assert len(caught) == 1
    assert "(at 0.1, 1.0.bn1, 1.0.bn2 and 3 more)" in str(caught[0].message)
    assert caught[0].filename == __file__
    with pytest.warns(UserWarning, match=FRESH):
        convert_norm(nn.InstanceNorm2d(4), to="batch")
    with pytest.warns(UserWarning, match=f"{DROPPED}.*gains and biases are dropped"):
        convert_norm(model, to="none")
    # Averages of the variances of images differ from those of batches.
    with pytest.warns(UserWarning, match=f"{DROPPED}.*{FRESH}"):
        convert_norm(nn.InstanceNorm2d(4, track_running_stats=True), to="batch")


def test_every_source_and_target_is_documented() -> None:
    text = convert_norm.__doc__ or ""
    assert all(f'"{word}"' in text for word in counterparts.TARGETS)
    assert all(cls.__name__.rstrip("123d") in text for cls in counterparts.SOURCES)


def test_examples_in_the_docstrings() -> None:
    results = [doctest.testmod(module) for module in (swap, seqnorm.nn.statistics_sets.lookup)]
    assert all(result.attempted and not result.failed for result in results)
