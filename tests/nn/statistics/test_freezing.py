"""Frozen running statistics: training computes the function of inference, with its gradients.

Axes: T steps, B sequences, I inputs, C channels.
"""

from __future__ import annotations

import copy
import warnings
from typing import Any

import pytest
import torch
from beside_reference import needs_kernels
from comparing import BATCHED, Case, I, T, build, by_layer, by_oracle, copy_of, randomise, scheme_of
from tolerances import GRADIENTS, VALUES, assert_close, assert_equal
from torch import Tensor, nn
from torch_versions import needs_compiler

import seqnorm
from seqnorm import freeze_statistics
from seqnorm.nn.backends import BACKENDS
from seqnorm.nn.statistics import RunningTable, batch_statistics
from seqnorm.nn.statistics.freezing import is_frozen

DEEP = {"num_layers": 2, "bidirectional": True}


@pytest.mark.parametrize("chunk", [None, 2])
@pytest.mark.parametrize(("name", "cell"), BATCHED)
def test_training_is_inference(name: str, cell: str, chunk: int | None) -> None:
    """Outputs, states and all gradients are the oracle's in inference; tables stay, unasked.

    The last steps have few rows and no statistics of their own. Norms pooled over time may be
    computed in chunks, for a chunk needs no statistics.
    """
    scheme = scheme_of(name, cell)
    layer = build(cell, scheme, **DEEP)
    randomise(layer)
    case = Case.draw(layer)
    cotangents = [torch.randn(T, 5, 2 * layer.hidden_size).double()]
    cotangents += [torch.randn_like(part) for part in case.states or ()]
    right = by_oracle(layer.eval(), scheme, case, cotangents, ())
    layer.train()
    freeze_statistics(layer)
    seqnorm.compute_in_chunks(layer, chunk, recompute=True)
    told: list[Any] = []
    for module in layer.modules():
        if isinstance(module, RunningTable):
            module.register_update_hook(lambda *update: told.append(update))
    for backend in (None, *BACKENDS):
        try:
            ours = by_layer(layer, case, cotangents, backend)
        except RuntimeError as error:
            if backend is None or "does not take" not in str(error):
                raise
            continue
        for actual, expected in zip(ours.values, right.values):
            assert_close(actual, expected, VALUES, f"{backend}")
        for key, expected in right.gradients.items():
            assert_close(ours.gradients[key], expected, GRADIENTS, f"{backend}, {key}")
        for key, expected in right.state_dict.items():
            assert_equal(ours.state_dict[key], expected, f"{backend}, {key}")
    assert not told


@needs_kernels
@pytest.mark.parametrize(("name", "cell"), [("batch", "LSTM"), ("batch_renorm", "GRU")])
def test_the_kernels_compute_it(name: str, cell: str) -> None:
    layer = build(cell, scheme_of(name, cell))
    freeze_statistics(layer)
    x = torch.randn(4, 3, I).double()
    assert seqnorm.explain(layer, x).backends == {"_l0": "cpu"}
    with seqnorm.use_backend("cpu"):
        layer(x)[0].sum().backward()
        with torch.no_grad():
            prepared = layer(x)[0]
    with seqnorm.use_backend("reference"):
        assert_close(prepared, layer(x)[0], VALUES)
    freeze_statistics(layer, False)
    with torch.no_grad():
        assert (layer(x)[0] - prepared).abs().max() > 1e-3, "the prepared call is not taken again"


def trained() -> tuple[nn.Module, Tensor]:
    """Return a model with every kind of norm that has running statistics, and an input."""
    model = nn.ModuleDict(
        {
            "lstm": seqnorm.LSTM(I, 4, batch_first=True, norm="batch"),
            "sequence": seqnorm.BatchNorm(4, max_steps=5, layout="NTC"),
            "pooled": seqnorm.BatchNorm(4, layout="NTC", r_max=3.0, d_max=5.0),
            "signal": seqnorm.BatchNorm1d(4),
            "torchs": nn.BatchNorm1d(4),
            "untracked": nn.BatchNorm1d(4, track_running_stats=False),
            "layer": nn.LayerNorm(4),
        }
    ).double()
    for _ in range(3):
        run(model, torch.randn(6, 7, I).double())
    return model, torch.randn(6, 7, I).double()


def run(model: Any, x: Tensor, lengths: Any = (7, 7, 5, 4, 3, 2)) -> Tensor:
    y = model["lstm"](x, lengths=lengths)[0]
    y = model["pooled"](model["sequence"](y, lengths))
    for name in ("signal", "torchs"):
        y = model[name](y.transpose(1, 2)).transpose(1, 2)
    out: Tensor = model["layer"](y)
    return out


def outcome(model: nn.Module, x: Tensor) -> list[Tensor]:
    """Return the output and all gradients."""
    learned = [p for name, p in model.named_parameters() if not name.startswith("untracked")]
    x = x.clone().requires_grad_()
    y = run(model, x)
    weight = torch.linspace(-1, 2, y.numel()).double().reshape(y.shape)
    return [y.detach(), *torch.autograd.grad((y * weight).sum(), [x, *learned])]


def test_every_kind_of_norm() -> None:
    model, x = trained()
    before = copy_of(model.state_dict())
    expected = outcome(model.eval(), x)
    model.train()
    freeze_statistics(model)
    assert [name for name, part in model.items() if getattr(part, "frozen", False)] == [
        "sequence",
        "pooled",
    ]
    assert repr(model).count(", frozen") == 5, "three in the LSTM, two of sequences"
    for frozen in (model, copy.deepcopy(model)):
        for found, right in zip(outcome(frozen, x), expected):
            assert_close(found, right, GRADIENTS)
        for name, value in frozen.state_dict().items():
            assert_equal(value, before[name], name)
        assert all(part.training for part in frozen.modules()), "a call leaves the mode"
        freeze_statistics(frozen, False)
        assert (outcome(frozen, x)[0] - expected[0]).abs().max() > 1e-3
        for name, value in frozen.named_buffers():
            assert not torch.equal(value, before.get(name, value + 1)), name
        assert ", frozen" not in repr(frozen)
        freeze_statistics(frozen, False)  # twice is once
        frozen.load_state_dict(before)


def test_a_mode_is_kept_through_train_eval_and_errors() -> None:
    model, x = trained()
    freeze_statistics(model)
    freeze_statistics(model)
    expected = outcome(model.eval(), x)[0]
    assert_equal(outcome(model.train(), x)[0], expected)
    with pytest.raises((ValueError, RuntimeError)):
        model["torchs"](torch.randn(2, 3))  # type: ignore[operator]
    assert model["torchs"].training
    assert_equal(outcome(model, x)[0], expected)
    freeze_statistics(model, False)
    assert not any(is_frozen(part) for name, part in model.items() if name in ("signal", "torchs"))
    assert not model["torchs"]._forward_pre_hooks
    assert not model["torchs"]._forward_hooks


def test_one_sequence_is_enough() -> None:
    """No row depends on another one, so a batch of one neither warns nor differs."""
    layer = build("LSTM", scheme_of("batch", "LSTM"))
    randomise(layer)
    freeze_statistics(layer)
    x = torch.randn(5, 3, I).double()
    together, _ = layer(x)
    for b in range(3):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            alone, _ = layer(x[:, b : b + 1])
        assert_close(alone, together[:, b : b + 1], VALUES)
    strict = build("GRU", seqnorm.preset("batch", "GRU", beyond="error"))
    strict(torch.randn(7, 3, I).double())
    freeze_statistics(strict)
    with pytest.raises(IndexError, match="step 7 has no statistics of its own"):
        strict(torch.randn(8, 3, I).double())


def test_dropout_goes_on() -> None:
    layer = seqnorm.LSTM(I, 8, 2, norm="batch", dropout=0.5, zoneout=0.2)
    x = torch.randn(4, 3, I)
    layer(x)
    freeze_statistics(layer)
    assert not torch.equal(layer(x)[0], layer(x)[0])


def test_estimates_are_of_the_batch_all_the_same() -> None:
    model, _ = trained()
    batches = [torch.randn(6, 7, I).double() + 1 for _ in range(3)]
    for estimate in ("population", "average"):
        other = copy.deepcopy(model)
        freeze_statistics(model)
        for one in (model, other):
            seqnorm.reestimate_statistics(one, batches, run, estimate=estimate)
        for name, value in other.state_dict().items():
            assert_equal(model.state_dict()[name], value, name)
        assert model["sequence"].frozen
        assert is_frozen(model["torchs"])
        with batch_statistics(model), batch_statistics(other):
            assert_equal(run(model, batches[0]), run(other, batches[0]))
        assert_equal(outcome(model, batches[0])[0], outcome(other.eval(), batches[0])[0])
        freeze_statistics(model, False)
    layer = seqnorm.GRU(I, 4, norm="batch")
    other_layer = copy.deepcopy(layer)
    freeze_statistics(layer)
    x = [torch.randn(5, 4, I)]
    seqnorm.update_bn(x, layer)
    seqnorm.update_bn(x, other_layer)
    assert_equal(layer.norm_hh_l0.table.running_var, other_layer.norm_hh_l0.table.running_var)
    assert layer.norm_hh_l0.frozen


@needs_compiler
def test_it_compiles() -> None:
    torch._dynamo.reset()
    model, x = trained()
    before = copy_of(model.state_dict())
    freeze_statistics(model)
    compiled = torch.compile(lambda x: run(model, x, None), backend="aot_eager")
    expected = run(model, x, None)
    for _ in range(2):
        assert_close(compiled(x), expected, VALUES)
    for name, value in model.state_dict().items():
        assert_equal(value, before[name], name)
    freeze_statistics(model, False)
    assert (compiled(x) - expected).abs().max() > 1e-3
    torch._dynamo.reset()


@pytest.mark.parametrize("kind", ["BatchNorm2d", "BatchInstanceNorm2d", "SwitchableNorm2d"])
def test_norms_of_images(kind: str) -> None:
    """Those that mix the statistics of the batch with those of an image, too."""
    norm = getattr(seqnorm, kind)(3, dtype=torch.float64)
    for _ in range(2):
        norm(torch.randn(4, 3, 5, 6).double() + 1)
    before = copy_of(norm.state_dict())
    x = torch.randn(4, 3, 5, 6).double().requires_grad_()
    cotangent = torch.randn_like(x)
    mask = seqnorm.size_mask([(5, 6), (2, 3), (4, 4), (5, 2)], (5, 6))
    freeze_statistics(norm)
    for valid in (None, mask):
        outcomes = []
        for training in (True, False):
            y = norm.train(training)(x, valid)
            outcomes.append([y, *torch.autograd.grad(y, [x, *norm.parameters()], cotangent)])
        for found, expected in zip(*outcomes):
            assert_equal(found, expected)
    for name, value in norm.state_dict().items():
        assert_equal(value, before[name], name)


def test_what_cannot_be_frozen() -> None:
    with pytest.raises(ValueError, match="LSTM has no running statistics to freeze"):
        freeze_statistics(seqnorm.LSTM(2, 3, norm="layer"))

    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = RunningTable(3, 1)

    model = nn.Sequential(Own(), seqnorm.BatchNorm(3, layout="NTC"))
    with pytest.raises(TypeError, match=r"0 \(Own\) holds a RunningTable .* frozen = False"):
        freeze_statistics(model)
    assert not model[1].frozen
    batches = [torch.randn(4, 5, 3)]
    seqnorm.reestimate_statistics(model, batches, lambda model, x: model[1](x))  # type: ignore[index,operator]


def test_a_chunk_that_is_computed_again_stays_frozen() -> None:
    """The mode of a norm may change before the backward pass."""
    layer = build("LSTM", scheme_of("batch", "LSTM"))
    randomise(layer)
    freeze_statistics(layer)
    x = torch.randn(5, 6, I).double()
    grads = []
    for recompute in (False, True):
        seqnorm.compute_in_chunks(layer, 2, recompute=recompute)
        freeze_statistics(layer)
        output, _ = layer(x)
        freeze_statistics(layer, False)
        grads.append(torch.autograd.grad(output.square().sum(), list(layer.parameters())))
    for found, expected in zip(*grads):
        assert_close(found, expected, GRADIENTS)
