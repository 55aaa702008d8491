"""A class with the name of one of torch's behaves the same, or its errors name the differences.

Axes: N examples, C channels, T steps; positions in any number.
"""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import torch
from tolerances import SINGLE, VALUES, assert_close
from torch import nn

import seqnorm
from seqnorm.nn.norms.layout import SequenceNorm

C = 6
NAMES = [name for name in seqnorm.__all__ if hasattr(nn, name) and "Norm" in name]
ALIKE = [name for name in NAMES if name not in ("LayerNorm", "RMSNorm")]
# The norms of sequences; some have no namesake in torch, only a similar name.
OF_SEQUENCES = ["LayerNorm", "RMSNorm", "InstanceNorm", "BatchNorm"]
SHAPES = [(5, C), (C, C), (5, C, C), (3, C, 4), (C, 3, 4), (2, C, 3, 4), (C, 2, 3, 2)]
SHAPES += [(2, C, 2, 3, 2), (2, C, 2, 1, 2, 2)]


def made(name: str, module: Any = seqnorm, **options: Any) -> Any:
    """Return a norm of C channels."""
    return getattr(module, name)(*((2,) if name == "GroupNorm" else ()), C, **options)


def test_the_names_are_found() -> None:
    assert set(NAMES) >= {"LayerNorm", "GroupNorm", "BatchNorm1d", "InstanceNorm3d"}


@pytest.mark.parametrize("name", NAMES)
def test_arguments_stand_in_torchs_order_with_its_defaults(name: str) -> None:
    ours, theirs = (inspect.signature(getattr(of, name)).parameters for of in (seqnorm, nn))
    of_position = [p for p in ours.values() if p.kind is not p.KEYWORD_ONLY]
    expected = [p for p in theirs.values() if p.kind is not p.KEYWORD_ONLY]
    # The channels of a frame are one axis, but torch's shape means the last axes of any tensor.
    renamed = {"normalized_shape": "num_channels"}
    assert [p.name for p in of_position] == [renamed.get(p.name, p.name) for p in expected]
    assert [p.default for p in of_position] == [p.default for p in expected]
    for option in theirs.values():
        if option.kind is option.KEYWORD_ONLY:
            assert ours[option.name].default == option.default


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", ALIKE)
def test_results_are_torchs(name: str, shape: tuple[int, ...], training: bool) -> None:
    ours, theirs = made(name), made(name, nn)
    assert repr(ours) == repr(theirs)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    for parameter in theirs.parameters():
        nn.init.normal_(parameter)
    ours.load_state_dict(theirs.state_dict())
    numbers = torch.linspace(-2, 3, torch.Size(shape).numel()).sin().reshape(shape)
    x, y = (numbers.clone().requires_grad_() for _ in range(2))
    ours.train(training)
    try:
        expected = theirs.train(training)(y)
    except (ValueError, RuntimeError, UserWarning):  # the number of channels is ignored by the last
        with pytest.raises(ValueError, match="takes"):
            ours(x)
        return
    found = ours(x)
    assert_close(found, expected, 10 * SINGLE)
    cotangent = torch.randn(shape)
    (of_x,) = torch.autograd.grad(found, x, cotangent)
    (of_y,) = torch.autograd.grad(expected, y, cotangent)
    assert_close(of_x, of_y, 100 * SINGLE)
    for key, value in theirs.state_dict().items():
        assert_close(ours.state_dict()[key], value, 10 * SINGLE, key)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", [name for name in NAMES if name not in ALIKE])
def test_a_norm_of_frames_is_torchs_over_the_last_axis(name: str, dtype: torch.dtype) -> None:
    ours, theirs = made(name, layout="NTC", dtype=dtype), made(name, nn, dtype=dtype)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    # The values are so small that eps matters.
    x = (1e-3 * torch.randn(3, 4, C, dtype=torch.float64)).to(dtype)
    bound = {torch.float64: VALUES, torch.float32: SINGLE}.get(dtype, 2 * torch.finfo(dtype).eps)
    assert_close(ours(x), theirs(x), bound)
    assert_close(made(name, layout="NCT", dtype=dtype)(x.mT), theirs(x).mT, bound)


@pytest.mark.parametrize("name", OF_SEQUENCES)
def test_the_layout_has_to_be_named(name: str) -> None:
    """torch's norms read other axes of x, and not every size would cause an error."""
    cls = getattr(seqnorm, name)
    assert inspect.signature(cls).parameters["layout"].default is inspect.Parameter.empty
    for arguments in ((C,), (C, 1e-5), (C, 1e-5, True, True, "NTC")):
        with pytest.raises(TypeError, match=rf'{name}\(\.\.\., layout="NTC"\).*layout="NCT"'):
            cls(*arguments)
    with pytest.raises(ValueError, match=r"'NTC', 'NCT', got 'NTX'"):
        cls(C, layout="NTX")
    norm = cls(C, layout="NCT")
    assert eval(f"seqnorm.{name}({norm.extra_repr()})").layout == "NCT"


@pytest.mark.parametrize(
    ("option", "hint"),
    [
        ({"normalized_shape": C}, "write num_channels"),
        ({"num_features": C}, "write num_channels"),
        ({"elementwise": True}, "no argument 'elementwise'"),
    ],
    ids=str,
)
@pytest.mark.parametrize("name", OF_SEQUENCES)
def test_arguments_of_torchs_norms_get_a_hint(name: str, option: Any, hint: str) -> None:
    for layout in ({"layout": "NTC"}, {}):
        with pytest.raises(TypeError, match=f"{name} has no argument.*{hint}|{hint}"):
            getattr(seqnorm, name)(**option, **layout)


# A mixture with BatchNorm has those of the batch.
INSTANCE = [n for n in seqnorm.__all__ if "InstanceNorm" in n and not n.startswith("Batch")]


@pytest.mark.parametrize("name", INSTANCE)
def test_no_instance_norm_has_running_statistics(name: str) -> None:
    cls = getattr(seqnorm, name)
    if "track_running_stats" not in inspect.signature(cls).parameters:
        pytest.skip("its gain and bias are a style's")
    layout = {"layout": "NTC"} if issubclass(cls, SequenceNorm) else {}
    with pytest.raises(ValueError, match=r"no running statistics.*or take BatchNorm"):
        cls(C, track_running_stats=True, **layout)
    with pytest.raises(ValueError, match="no running statistics"):
        cls(C, track_running_stats=True)
    assert cls(C, track_running_stats=False, **layout).training
    with pytest.raises(TypeError, match=r"BatchNorm alone has them, and always"):
        seqnorm.BatchNorm(C, track_running_stats=False, layout="NTC")  # type: ignore[call-arg]  # the mistake


def test_groups_of_sequences_are_asked_for() -> None:
    """Sizes that fit two layouts are read as (N, C, *), as in torch."""
    x = torch.randn(3, 4, 4)
    ours, theirs = seqnorm.GroupNorm(2, 4), nn.GroupNorm(2, 4)
    assert_close(ours(x), theirs(x), SINGLE)
    of_frames = seqnorm.GroupNorm(2, 4, layout="NTC")
    assert_close(of_frames(x), theirs(x.mT).mT, SINGLE)
    assert not torch.allclose(of_frames(x), ours(x))
    lengths = [4, 2, 1]
    assert_close(ours(x, lengths), of_frames(x.mT, lengths).mT, SINGLE)


@pytest.mark.parametrize("name", OF_SEQUENCES)
def test_the_other_layout_is_suggested_where_it_fits(name: str) -> None:
    norm = made(name, layout="NCT")
    with pytest.raises(ValueError, match=r"got \(2, 4, 6\): .*NTC, build .* layout=\"NTC\""):
        norm(torch.randn(2, 4, C))
    with pytest.raises(ValueError, match=r"got \(2, 4, 5\)$"):
        norm(torch.randn(2, 4, 5))
    with pytest.raises(ValueError, match=r"got \(2, 4, 6\): .*layout=\"NTC\""):
        seqnorm.GroupNorm(2, C)(torch.randn(2, 4, C))
