"""The public names are those in ``seqnorm.__all__``, and all of them are documented."""

from __future__ import annotations

import doctest
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import seqnorm
import seqnorm.nn

CELLS = ["GRU", "LSTM", "RNN", "SLSTM", "GRUCell", "IndRNN", "IndRNNCell", "LSTMCell", "LiGRU"]
CELLS += ["LiGRUCell", "RNNCell", "SLSTMCell"]
OF_ANY_STEP = ["RecurrentCell", "RecurrentLayer"]
WITHOUT_LAYER = ["DreamerGRUCell"]
NORMS = ["AdaptiveInstanceNorm2d", "BatchNorm", "BatchNorm1d", "BatchNorm2d", "BatchNorm3d"]
NORMS += ["ConditionalInstanceNorm2d", "GroupNorm", "InstanceNorm", "InstanceNorm1d"]
NORMS += ["InstanceNorm2d", "InstanceNorm3d", "LayerNorm", "LayerNorm2d", "RMSNorm"]
NORMS += ["BatchInstanceNorm2d", "ConditionalBatchNorm2d", "SwitchableNorm2d"]
NORMS += ["DynamicErf", "DynamicTanh", "PowerNorm"]
STREAMS = ["Stream"]
SCHEMES = ["PRESETS", "Norm", "NormScheme", "Step", "preset"]
FUNCTIONS = ["available_backends", "compute_in_chunks", "convert_norm", "convert_sync_batchnorm"]
FUNCTIONS += [
    "convert_rnn",
    "explain",
    "fit_eval_norm",
    "freeze_statistics",
    "quantize_",
    "reestimate_statistics",
    "renormalization_limits",
    "report",
    "revert_sync_batchnorm",
    "set_renormalization",
    "size_mask",
]
FUNCTIONS += ["statistics_set", "steps_since_reset", "update_bn", "use_backend"]
FUNCTIONS += ["weight_standardisation"]
PUBLIC = sorted([*CELLS, *OF_ANY_STEP, *WITHOUT_LAYER, *NORMS, *SCHEMES, *STREAMS, *FUNCTIONS])
# Results of public functions, and helpers, which stand in the wings.
IN_WINGS = {
    "statistics": ["Report", "RunningTable", "batch_statistics"],
    "statistics_sets": ["MixedSets", "SiteSets", "StatisticsSet"],
    "norms": ["style_statistics"],
}
LAYERS = [name for name in CELLS if not name.endswith("Cell")]
CLASSES = [name for name in PUBLIC if inspect.isclass(getattr(seqnorm, name))]
# Methods of every torch module, which torch documents.
OF_TORCH = {"forward", "extra_repr"}


def members(cls: type) -> Iterator[tuple[str, Any]]:
    """Yield public methods and properties that a class of seqnorm defines or inherits from ours."""
    for name in dir(cls):
        if name.startswith("_"):
            continue
        owner = next(base for base in cls.__mro__ if name in vars(base))
        member = vars(owner)[name]
        wrapped = isinstance(member, (classmethod, staticmethod))
        member = member.__func__ if wrapped else member
        of_torch = getattr(member, "__module__", "seqnorm").startswith("torch")
        ours = owner.__module__.startswith("seqnorm") and not of_torch
        if ours and (inspect.isroutine(member) or isinstance(member, property)):
            yield name, member


def test_the_public_names() -> None:
    assert seqnorm.__all__ == seqnorm.nn.__all__
    assert sorted(seqnorm.__all__) == PUBLIC
    for name in PUBLIC:
        assert getattr(seqnorm, name) is getattr(seqnorm.nn, name)
    for wing, names in IN_WINGS.items():
        for name in names:
            assert getattr(getattr(seqnorm.nn, wing), name).__doc__
    star: dict[str, Any] = {}
    exec("from seqnorm import *", star)
    assert set(PUBLIC) == set(star) - {"__builtins__"}


def test_the_prediction_helper() -> None:
    """``load`` is public, and stays out of a star import, which must not need Lightning."""
    assert "load" in dir(seqnorm)
    assert "load" not in seqnorm.__all__
    assert "checkpoint" in (seqnorm.load.__doc__ or "")
    for argument in inspect.signature(seqnorm.load).parameters:
        assert f"{argument}:" in (seqnorm.load.__doc__ or "")


@pytest.mark.parametrize("name", ["load_weights", "to_weights"])
def test_the_exchange_of_weights(name: str) -> None:
    """It is public, and is loaded when it is asked for."""
    assert name in dir(seqnorm)
    assert name not in seqnorm.__all__
    found = getattr(seqnorm, name)
    for argument in inspect.signature(found).parameters:
        assert f"{argument}:" in found.__doc__


def test_the_version() -> None:
    assert seqnorm.__version__.count(".") == 2
    assert all(piece.isdigit() for piece in seqnorm.__version__.split("."))


@pytest.mark.parametrize("name", [name for name in PUBLIC if name != "PRESETS"])
def test_every_public_name_is_documented(name: str) -> None:
    found = getattr(seqnorm, name)
    assert found.__doc__
    assert len(found.__doc__.splitlines()[0]) > 20
    assert not found.__doc__.startswith(f"{name}("), "the docstring that a dataclass generates"


@pytest.mark.parametrize("name", CLASSES)
def test_every_public_method_is_documented(name: str) -> None:
    found = dict(members(getattr(seqnorm, name)))
    for method in found:
        if method not in OF_TORCH:
            assert inspect.getdoc(getattr(getattr(seqnorm, name), method)), f"{name}.{method}"
    if name in CELLS:
        assert {"forward", "report", "reset_parameters"} <= set(found)
        assert found["forward"].__doc__
        of_torch = hasattr(torch.nn, name)
        assert ("from_torch" in found) == of_torch
        assert ("to_torch" in found) == (of_torch and name in LAYERS)


@pytest.mark.parametrize("name", CLASSES)
def test_every_argument_is_documented(name: str) -> None:
    """The docstring of the class, or the one it refers to, names each argument."""
    cls = getattr(seqnorm, name)
    text = cls.__doc__ + "".join(
        getattr(seqnorm, other).__doc__
        for other in PUBLIC
        if other != name and f"``{other}``" in cls.__doc__
    )
    text += seqnorm.LSTM.__doc__ if "Cell" in name else ""
    for argument in set(inspect.signature(cls).parameters) - {"device", "dtype"}:
        assert argument in text, f"{name}({argument}=...)"


def table(name: str) -> list[str]:
    """Return the first words of the rows of equations in a layer's docstring."""
    _, _, body, _ = re.split(r"^ +=+ =+$", getattr(seqnorm, name).__doc__, flags=re.MULTILINE)
    return [line.split()[0] for line in body.splitlines() if re.match(r" {4}\S", line)]


def test_the_layers_are_those_that_are_registered() -> None:
    assert (
        set(LAYERS) == set(seqnorm.nn.layers.cells.LAYERS) == set(seqnorm.nn.recurrence.step.STEPS)
    )
    assert {name + "Cell" for name in LAYERS} == set(CELLS) - set(LAYERS)
    for name in LAYERS:
        assert f"``{name}``" in seqnorm.preset.__doc__ or f"seqnorm.{name}" in (
            seqnorm.preset.__doc__
        )


@pytest.mark.parametrize("name", LAYERS)
def test_every_preset_is_documented(name: str) -> None:
    """The docstring of the layer has an equation for it, or names an equal preset."""
    presets = [preset for preset, schemes in seqnorm.PRESETS.items() if name in schemes]
    assert presets
    words = set(re.findall(r"\w+", getattr(seqnorm, name).__doc__))
    assert set(presets) <= words
    rows = table(name)
    assert rows[0] == "None"
    assert set(rows[1:]) <= set(presets), "no missing preset is documented"
    assert len(rows) == len(set(rows))
    assert {"layer", "rms", "batch", "batch_pooled"} <= set(rows)


def test_presets_are_schemes_of_known_layers() -> None:
    for schemes in seqnorm.PRESETS.values():
        assert set(schemes) <= set(LAYERS)
        for scheme in schemes.values():
            assert isinstance(scheme, seqnorm.NormScheme)


def test_descriptions_are_immutable() -> None:
    norm, scheme = seqnorm.Norm(), seqnorm.NormScheme()
    for value, field in ((norm, "eps"), (scheme, "input")):
        with pytest.raises(AttributeError, match="cannot assign"):
            setattr(value, field, None)
        assert {value: 1}[type(value)()] == 1


def test_the_example_of_the_package_runs() -> None:
    result = doctest.testmod(seqnorm)
    assert result.attempted >= 4
    assert result.failed == 0


def test_types_are_shipped() -> None:
    assert (Path(seqnorm.__file__).parent / "py.typed").exists()
