"""The libraries themselves, where they are installed: their outputs against those of our layers.

Axes: T steps, B sequences, I = input size, H = hidden size.
"""

from __future__ import annotations

import importlib
import os
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from publications import B, I, T
from tolerances import REORDERED, SINGLE, assert_close, assert_equal
from torch import Tensor

import seqnorm

H = 4
pytestmark = pytest.mark.filterwarnings("ignore")  # warnings of the libraries


def library(name: str) -> Any:
    """Import a module of another library, or skip the test with the reason."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return importlib.import_module(name)
        except (ImportError, OSError) as error:  # OSError: a compiled part of it does not load
            pytest.skip(f"needs {name.partition('.')[0]}: {error}")


def randomised(layer: Any) -> Any:
    """Return a module of torch in float64 with random weights and statistics, in inference."""
    layer = layer.double().eval()
    with torch.no_grad():
        for tensor in layer.parameters():
            tensor.normal_(0.0, 0.5)
        for name, tensor in layer.named_buffers():
            if name.endswith(("running_mean", "running_var")):
                tensor.uniform_(0.5, 1.5)
    return layer


def draw() -> Tensor:
    return torch.randn(T, B, I, dtype=torch.float64)


@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_torchrl(kind: str) -> None:
    modules = library("torchrl.modules")
    theirs = randomised(getattr(modules, kind)(I, H, num_layers=2))
    layer = getattr(seqnorm, kind)(I, H, num_layers=2, dtype=torch.float64)
    seqnorm.load_weights(layer, theirs.state_dict(), "torchrl")
    x = draw()
    assert_close(layer(x)[0], theirs(x.transpose(0, 1))[0].transpose(0, 1), REORDERED)
    theirs.load_state_dict(seqnorm.to_weights(layer, "torchrl"))
    cell = randomised(getattr(modules, f"{kind}Cell")(I, H))
    own = getattr(seqnorm, f"{kind}Cell")(I, H, dtype=torch.float64)
    seqnorm.load_weights(own, cell.state_dict(), "torchrl")
    wanted, got = cell(x[0]), own(x[0])
    assert_close(
        got if kind == "GRU" else got[0], wanted if kind == "GRU" else wanted[0], REORDERED
    )


@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize("kind", ["LSTM", "GRU", "SimpleRNN"])
def test_keras(kind: str, both: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERAS_BACKEND", os.environ.get("KERAS_BACKEND", "torch"))
    keras = library("keras")
    theirs = getattr(keras.layers, kind)(H, return_sequences=True, dtype="float64")
    if both:
        theirs = keras.layers.Bidirectional(theirs, dtype="float64")
    theirs.build((B, T, I))
    theirs.set_weights([np.random.default_rng(0).normal(size=w.shape) for w in theirs.weights])
    ours = getattr(seqnorm, kind.removeprefix("Simple"))
    layer = ours(I, H, batch_first=True, bidirectional=both, dtype=torch.float64)
    seqnorm.load_weights(layer, theirs.get_weights(), "keras")
    x = draw().transpose(0, 1)
    wanted = torch.as_tensor(np.asarray(keras.ops.convert_to_numpy(theirs(x.numpy()))))
    # Keras adds the terms of a SimpleRNN in float32 on this backend, whatever its dtype.
    assert_close(layer(x)[0], wanted, SINGLE if kind == "SimpleRNN" else REORDERED)
    named = ours(I, H, batch_first=True, bidirectional=both, dtype=torch.float64)
    snake = {"LSTM": "lstm", "GRU": "gru", "SimpleRNN": "simple_rnn"}[kind]
    if not both:
        paths = {weight.path: weight.numpy() for weight in theirs.weights}
        prefix = f"{theirs.name}/{snake}_cell/"
        seqnorm.load_weights(named, paths, "keras", prefix=prefix)
        assert_equal(named(x)[0], layer(x)[0])
    before = theirs.get_weights()
    back = seqnorm.to_weights(layer, "keras")
    theirs.set_weights([value.numpy() for value in back.values()])
    for old, new in zip(before, theirs.get_weights()):
        np.testing.assert_array_equal(new, old)


@pytest.fixture
def jax() -> Iterator[Any]:
    """Jax with numbers of 64 bits."""
    found = library("jax")
    before = found.config.jax_enable_x64
    found.config.update("jax_enable_x64", True)
    yield found
    found.config.update("jax_enable_x64", before)


@pytest.mark.parametrize("kind", ["LSTM", "OptimizedLSTM", "GRU", "Simple"])
def test_flax_linen(kind: str, jax: Any) -> None:
    linen = library("flax.linen")
    double = jax.numpy.float64
    cell = getattr(linen, f"{kind}Cell")(H, dtype=double, param_dtype=double)
    module = linen.RNN(cell)
    x = draw().transpose(0, 1)
    variables = module.init(jax.random.key(0), x.numpy())
    rng = np.random.default_rng(0)
    variables = jax.tree_util.tree_map(lambda a: rng.normal(size=a.shape), variables)
    ours = {"Simple": seqnorm.RNN, "GRU": seqnorm.GRU}.get(kind, seqnorm.LSTM)
    layer = ours(I, H, batch_first=True, dtype=torch.float64)
    seqnorm.load_weights(layer, variables["params"], "flax")
    assert_close(layer(x)[0], torch.tensor(np.array(module.apply(variables, x.numpy()))), REORDERED)
    back = seqnorm.to_weights(layer, "flax")
    for name, value in back.items():
        owner, which = name.split("/")
        assert_equal(value, torch.tensor(variables["params"]["cell"][owner][which]))


@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_flax_in_both_directions(kind: str, jax: Any) -> None:
    linen = library("flax.linen")
    double = jax.numpy.float64
    options = {"dtype": double, "param_dtype": double}
    ways = [linen.RNN(getattr(linen, f"{kind}Cell")(H, **options)) for _ in range(2)]
    module = linen.Bidirectional(*ways)
    x = draw().transpose(0, 1)
    rng = np.random.default_rng(0)
    variables = module.init(jax.random.key(0), x.numpy())
    variables = jax.tree_util.tree_map(lambda a: rng.normal(size=a.shape), variables)
    layer = getattr(seqnorm, kind)(I, H, bidirectional=True, batch_first=True, dtype=torch.float64)
    seqnorm.load_weights(layer, variables["params"], "flax")
    assert_close(layer(x)[0], torch.tensor(np.array(module.apply(variables, x.numpy()))), REORDERED)


@pytest.mark.parametrize("kind", ["LSTM", "OptimizedLSTM", "GRU", "Simple"])
def test_flax_nnx(kind: str, jax: Any) -> None:
    nnx = library("flax.nnx")
    double = jax.numpy.float64
    options = {"dtype": double, "param_dtype": double, "rngs": nnx.Rngs(0)}
    cell = getattr(nnx, f"{kind}Cell")(I, H, **options)
    rng = np.random.default_rng(0)
    state = nnx.state(cell, nnx.Param)
    nnx.update(cell, jax.tree_util.tree_map(lambda a: rng.normal(size=a.shape), state))
    ours = {"Simple": seqnorm.RNN, "GRU": seqnorm.GRU}.get(kind, seqnorm.LSTM)
    layer = ours(I, H, batch_first=True, dtype=torch.float64)
    given = nnx.to_pure_dict(nnx.state(cell, nnx.Param))
    seqnorm.load_weights(layer, given, "flax_nnx")
    x = draw().transpose(0, 1)
    wanted = nnx.RNN(cell, rngs=nnx.Rngs(0))(jax.numpy.asarray(x.numpy()))
    assert_close(layer(x)[0], torch.tensor(np.array(wanted)), REORDERED)


@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize(
    ("kind", "options", "norm"),
    [
        ("LiGRU", {"normalization": "batchnorm"}, "ravanelli2018"),
        ("LiGRU", {"normalization": "layernorm"}, "layer"),
        ("SLiGRU", {}, "moumen2023"),
    ],
)
def test_speechbrain(kind: str, options: dict[str, Any], norm: str, both: bool) -> None:
    modules = library("speechbrain.nnet.RNN")
    theirs = getattr(modules, kind)(
        hidden_size=H, input_shape=(B, T, I), num_layers=2, bidirectional=both, **options
    )
    theirs = randomised(theirs)
    layer = seqnorm.LiGRU(
        I, H, 2, norm=norm, bidirectional=both, batch_first=True, dtype=torch.float64
    ).eval()
    seqnorm.load_weights(layer, theirs.state_dict(), "speechbrain")
    x = draw().transpose(0, 1)
    assert_close(layer(x)[0], theirs(x)[0], REORDERED)
    back = seqnorm.to_weights(layer, "speechbrain")
    assert not theirs.load_state_dict(back, strict=False).unexpected_keys
