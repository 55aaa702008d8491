"""Batch Renormalization in layers, against the oracle and against BatchNorm.

Axes: T steps, B sequences, I inputs, F features.
"""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from beside_reference import F64, needs_kernels
from comparing import STEPS, Case, I, T, build, by_layer, compare, copy_of, randomise
from hidden_states import parts_of
from tolerances import GRADIENTS, VALUES, assert_close, assert_equal
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.utils.checkpoint import checkpoint
from torch_versions import needs_compiler

import seqnorm
from seqnorm import Norm, NormScheme, preset
from seqnorm.nn.statistics import RunningTable
from seqnorm.nn.statistics.renormalization import Renormalization

# Some corrections are clipped by the first limits, and none by the last.
LIMITS = [(1.2, 0.3), (3.0, 5.0), (1e9, 1e9)]
RENORM: dict[str, Any] = {"r_max": 1.3, "d_max": 0.4}
BATCH = Norm("batch", gain=0.8, bias=0.1, max_steps=20, **RENORM)
POOLED = Norm("batch_pooled", gain=0.8, bias=0.1, **RENORM)
SCHEMES = {
    "past the table": NormScheme(input=BATCH, hidden=BATCH).replace(max_steps=3),
    "momentum None": NormScheme(input=BATCH, hidden=BATCH).replace(momentum=None),
    "few rows": NormScheme(input=BATCH, hidden=BATCH).replace(min_count=4),
    "sum": NormScheme(sum=BATCH, bias_ih="inside"),
    "sum and frame": NormScheme(sum=BATCH, frame=POOLED, bias_ih="inside"),
    "pooled": NormScheme(input=POOLED),
    "pooled and output": NormScheme(input=POOLED, output=BATCH),
    "pooled and batch": NormScheme(input=POOLED, hidden=BATCH),
    "beside LayerNorm": NormScheme(input=BATCH, hidden=Norm("layer")),
    "eps on std": NormScheme(hidden=BATCH).replace(eps_on="std", eps=1e-2),
}


def tables(module: nn.Module) -> list[RunningTable]:
    return [part for part in module.modules() if isinstance(part, RunningTable)]


@pytest.mark.parametrize(("r_max", "d_max"), LIMITS)
@pytest.mark.parametrize("cell", STEPS)
def test_every_cell_against_the_oracle(cell: str, r_max: float, d_max: float) -> None:
    """Outputs, states, all gradients and tables; late steps have no statistics, or few rows."""
    scheme = preset("batch", cell, r_max=r_max, d_max=d_max)
    layer = build(cell, scheme, num_layers=2, bidirectional=True)
    for training in (True, False):
        randomise(layer)
        layer.train(training)
        compare(layer, scheme, Case.draw(layer))


@pytest.mark.parametrize("cell", ["LSTM", "GRU", "LiGRU"])
@pytest.mark.parametrize("name", SCHEMES)
def test_every_place_against_the_oracle(name: str, cell: str) -> None:
    layer = build(cell, SCHEMES[name], bidirectional=True)
    for training in (True, True, False):  # the second time over what the first has written
        if training:
            randomise(layer)
        layer.train(training)
        compare(layer, SCHEMES[name], Case.draw(layer))


def test_the_limits_matter() -> None:
    """Some corrections lie within the limits above, and others do not."""
    table = RunningTable(50, 1, dtype=F64)
    table.adopt(0.5 * torch.randn(50), torch.rand(50) + 0.5)
    norm = Renormalization(1.3, 0.4, dtype=F64)
    mean, var = 0.5 * torch.randn(1, 50).double(), torch.rand(1, 50).double() + 0.5
    r, d = norm.correction(mean, var, norm.before(table, 0, 1, 1e-5), 1e-5)
    for of, low, high in ((r, 1 / 1.3, 1.3), (d, -0.4, 0.4)):
        assert bool(((of >= low - 1e-15) & (of <= high + 1e-15)).all())
        clipped = (of - low).abs().minimum((of - high).abs()) < 1e-12
        assert 5 < int(clipped.sum()) < 45


def test_limits_of_one_and_zero_are_batchnorm() -> None:
    """Results, gradients and tables are equal to the last bit, by the definition."""
    plain = build("LSTM", preset("batch", "LSTM"), num_layers=2)
    randomise(plain)
    other = build("LSTM", preset("batch", "LSTM", r_max=1.0, d_max=0.0), num_layers=2)
    other.load_state_dict(plain.state_dict())
    case = Case.draw(plain)
    cotangents = [torch.randn(T, 5, 4).double(), *[torch.randn(2, 5, 4).double()] * 2]
    expected = by_layer(plain, case, cotangents, "reference")
    found = by_layer(other, case, cotangents, "reference")
    for one, two in (
        (dict(enumerate(found.values)), dict(enumerate(expected.values))),
        (found.gradients, expected.gradients),
        (found.state_dict, expected.state_dict),
    ):
        assert one.keys() == two.keys()
        for name in one:
            assert_equal(one[name], two[name], str(name))  # type: ignore[index]  # numbers or names


def test_without_limits_training_is_inference() -> None:
    """Within wide limits the value in training is that of inference, and not the gradient."""
    layer = build("GRU", preset("batch", "GRU", r_max=1e9, d_max=1e9, max_steps=4))
    randomise(layer)
    x = torch.randn(4, 6, I).double()
    expected, _ = layer.eval()(x)
    found, _ = layer.train()(x)
    assert_close(found, expected, VALUES)
    plain, _ = build("GRU", preset("batch", "GRU", max_steps=4))(x)
    assert (plain - expected).abs().max() > 1e-2


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_forward_mode_is_backward_mode() -> None:
    """r and d are constants in both."""
    layer = build("GRU", preset("batch", "GRU", r_max=1e9, d_max=1e9))
    randomise(layer)
    norm = seqnorm.BatchNorm(I, layout="NTC", r_max=1e9, d_max=1e9, dtype=F64)
    x, along = torch.randn(4, 6, I).double(), torch.randn(4, 6, I).double()
    norm(2 * x)
    for module in (layer, norm):
        before = copy_of(module.state_dict())

        def call(x: Tensor, module: nn.Module = module) -> Tensor:
            found = module(x)
            return found if isinstance(found, Tensor) else found[0]

        leaf = x.clone().requires_grad_()
        output = call(leaf)
        cotangent = torch.randn_like(output)
        (grad,) = torch.autograd.grad(output, leaf, cotangent)
        module.load_state_dict(before)
        with forward_ad.dual_level():
            tangent = forward_ad.unpack_dual(call(forward_ad.make_dual(x, along))).tangent
        assert tangent is not None
        assert_close((tangent * cotangent).sum(), (grad * along).sum(), GRADIENTS)


def test_padding_does_not_matter() -> None:
    results = []
    for poison in (0.0, float("nan"), float("inf"), 1e6):
        torch.manual_seed(0)
        layer = build("LSTM", preset("batch", "LSTM", **RENORM), bidirectional=True)
        randomise(layer)
        case = Case.draw(layer)
        for b, length in enumerate(case.lengths):
            case.input[length:, b] = poison
        x = case.input.requires_grad_()
        output, _ = layer(x, lengths=case.lengths)
        output.square().sum().backward()
        assert x.grad is not None
        results.append([output.detach(), x.grad, *[t.running_var for t in tables(layer)]])
    for others in results[1:]:
        for found, expected in zip(others, results[0]):
            assert_equal(found, expected)


@pytest.mark.parametrize("recompute", [True, False])
@pytest.mark.parametrize("steps", [1, 2, 4])
def test_chunks_against_the_oracle(steps: int, recompute: bool) -> None:
    for cell in ("LSTM", "GRU"):
        for scheme in (preset("batch_renorm", cell, **RENORM), SCHEMES["past the table"]):
            layer = build(cell, scheme, num_layers=2, bidirectional=True)
            randomise(layer)
            seqnorm.compute_in_chunks(layer, steps, recompute=recompute)
            compare(layer, scheme, Case.draw(layer))


def test_chunks_are_recomputed_as_they_were() -> None:
    """Later passes and other limits do not change a gradient, nor does the second computation."""
    grads = []
    told: list[int] = []
    for recompute in (False, True):
        torch.manual_seed(0)
        layer = build("LSTM", preset("batch_renorm", "LSTM", **RENORM))
        randomise(layer)
        seqnorm.compute_in_chunks(layer, 2, recompute=recompute)
        x = torch.randn(5, 6, I).double()
        told.clear()
        for table in tables(layer):
            table.register_update_hook(lambda *update: told.append(update[-1]))
        output, _ = layer(x)
        later, _ = layer(2 * x)
        seqnorm.set_renormalization(layer, 1.0, 0.0)
        (output.square().sum() + later.sum()).backward()
        assert len(told) == 2 * 3 * 3, "two passes, three norms, three chunks"
        state = [table.running_mean.clone() for table in tables(layer)]
        grads.append([parameter.grad for parameter in layer.parameters()] + state)
    for found, expected in zip(*grads):
        assert_close(found, expected, GRADIENTS)


@pytest.mark.parametrize("reentrant", [True, False])
def test_a_checkpoint_of_torch_is_refused(reentrant: bool) -> None:
    """The first pass has updated the statistics that the second one would read."""
    x = torch.randn(5, 6, I, requires_grad=True)
    for module in (
        seqnorm.LSTM(I, 4, norm="batch_renorm"),
        seqnorm.BatchNorm(I, layout="NTC", **RENORM),
    ):

        def call(x: Tensor, module: nn.Module = module) -> Tensor:
            found = module(x)
            return found if isinstance(found, Tensor) else found[0]

        output = checkpoint(call, x, use_reentrant=reentrant)
        with pytest.raises(RuntimeError, match=r"leave the norm out of torch\.utils\.checkpoint"):
            output.sum().backward()
        module.eval()
        checkpoint(call, x, use_reentrant=reentrant).sum().backward()


def test_cells_are_the_layer() -> None:
    """Steps one by one, each with its number, are a sequence."""
    scheme = preset("batch_renorm", "LSTM", **RENORM)
    layer = build("LSTM", scheme)
    randomise(layer)
    cell = seqnorm.LSTMCell(I, 4, norm=scheme, dtype=F64)
    cell.load_state_dict({k.replace("_l0", ""): v for k, v in layer.state_dict().items()})
    x = torch.randn(6, 5, I).double()
    expected, last = layer(x)
    state = None
    for t in range(6):
        state = cell(x[t], state, first_step=t)
        assert_close(state[0], expected[t], VALUES)
    for one, two in zip(parts_of(state), parts_of(last)):
        assert_close(one, two[0], VALUES)
    for one, two in zip(cell.buffers(), layer.buffers()):
        assert_close(one, two, VALUES)


@needs_kernels
def test_the_kernels_compute_it() -> None:
    """In training and in inference, for norms of every step; pooled ones are computed before."""
    x = torch.randn(5, 4, I)
    for name in ("LSTM", "GRU"):
        for norm in ("batch_renorm", preset("batch_pooled", name, **RENORM)):
            layer = getattr(seqnorm, name)(I, 4, norm=norm)
            assert seqnorm.explain(layer, x).backends == {"_l0": "cpu"}
            assert seqnorm.explain(layer.eval(), x).backends == {"_l0": "cpu"}


@needs_compiler
def test_it_compiles() -> None:
    """A graph reads the limits, which may change without a new graph."""
    torch._dynamo.reset()
    scheme = preset("batch_renorm", "GRU", **RENORM)
    layer = build("GRU", scheme)
    randomise(layer)
    before = copy_of(layer.state_dict())
    x = torch.randn(4, 6, I).double()
    graphs: list[Any] = []
    made: list[int] = []

    def backend(graph: torch.fx.GraphModule, inputs: Any) -> Any:
        graphs.append(graph)
        return graph.forward

    compiled = torch.compile(layer, backend=backend)
    for limits in ((1.3, 0.4), (2.0, 1.0), (1.0, 0.0)):
        seqnorm.set_renormalization(layer, *limits)
        found = []
        for call in (layer, compiled):
            layer.load_state_dict(before)
            output, _ = call(x)
            grads = torch.autograd.grad(output.square().sum(), list(layer.parameters()))
            found.append([output, *grads, *[t.running_mean.clone() for t in tables(layer)]])
        for one, two in zip(*found):
            assert_close(two, one, GRADIENTS)
        made.append(len(graphs))
    assert made[0] == made[-1] > 0
    torch._dynamo.reset()


def test_the_limits_are_set_later() -> None:
    layer = seqnorm.LSTM(I, 4, norm="batch_renorm")
    keys = layer.state_dict().keys()
    assert keys == seqnorm.LSTM(I, 4, norm="batch").state_dict().keys(), "weights are exchangeable"
    model = nn.ModuleList([layer, seqnorm.BatchNorm(4, layout="NTC", **RENORM)])
    seqnorm.set_renormalization(model, 2.0, 0.5)
    for copied in (model, copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        parts = [part for part in copied.modules() if isinstance(part, Renormalization)]
        assert [part.limits.tolist() for part in parts] == [[2.0, 0.5]] * 4
        assert "Renormalization(r_max=2, d_max=0.5)" in repr(copied)
    layer.reset_parameters()
    renormalization = layer.norm_hh_l0.renormalization
    assert renormalization.limits.tolist() == [3.0, 5.0]
    assert layer.half().norm_hh_l0.renormalization.limits.tolist() == [3.0, 5.0]


def test_the_schedule_of_the_paper() -> None:
    limits = seqnorm.renormalization_limits
    assert [limits(step) for step in (0, 5000, 25_000, 40_000, 10**6)] == [
        (1.0, 0.0),
        (1.0, 0.0),
        (1.0 + 2.0 * 20 / 35, 5.0),
        (3.0, 5.0),
        (3.0, 5.0),
    ]
    short = [limits(step, 10, 20, 30, 2.0, 4.0) for step in (10, 15, 20, 25, 30)]
    assert short == [(1.0, 0.0), (1.5, 1.0), (2.0, 2.0), (2.0, 3.0), (2.0, 4.0)]
    assert [limits(step, 3, 3, 3) for step in (2, 3)] == [(1.0, 0.0), (3.0, 5.0)]


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"r_max": 3.0}, ValueError, r"has both limits.*add d_max=5\.0"),
        ({"d_max": 3.0}, ValueError, r"has both limits.*add r_max=3\.0"),
        ({"r_max": 0.5, "d_max": 1.0}, ValueError, "r_max must be at least 1"),
        ({"r_max": 2.0, "d_max": -1.0}, ValueError, "d_max must be at least 0"),
        ({"r_max": "3", "d_max": 1.0}, TypeError, "r_max should be a number"),
        ({"r_max": 2.0, "d_max": float("nan")}, ValueError, "d_max must be finite"),
    ],
)
def test_bad_limits(options: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        Norm("batch", **options)
    with pytest.raises(error, match=words):
        seqnorm.BatchNorm(3, layout="NTC", **options)
    if len(options) == 2:
        with pytest.raises(error, match=words):
            seqnorm.set_renormalization(seqnorm.LSTM(2, 3, norm="batch_renorm"), **options)


def test_bad_places_and_schedules() -> None:
    with pytest.raises(ValueError, match="r_max belongs to running statistics, and 'layer' has"):
        Norm("layer", r_max=3.0, d_max=5.0)
    with pytest.raises(ValueError, match="no norm of this scheme has running statistics"):
        preset("layer", "LSTM", r_max=3.0, d_max=5.0)
    with pytest.raises(ValueError, match=r'no norm in LSTM has .*norm="batch_renorm"'):
        seqnorm.set_renormalization(seqnorm.LSTM(2, 3, norm="batch"), 3.0, 5.0)
    with pytest.raises(ValueError, match="0 <= begin <= r_end and begin <= d_end, got begin=9"):
        seqnorm.renormalization_limits(0, 9, 8, 10)
    with pytest.raises(TypeError, match="step should be a number"):
        seqnorm.renormalization_limits("0")  # type: ignore[arg-type]
    layer = seqnorm.GRU(2, 3, norm=preset("batch_pooled", "GRU", **RENORM))
    seqnorm.compute_in_chunks(layer, 2)
    with pytest.raises(ValueError, match="a chunk does not have"):
        layer(torch.randn(5, 3, 2))


def test_a_resumed_layer_of_another_norm() -> None:
    """A layer trained with BatchNorm goes on with Batch Renormalization, and back."""
    layer = seqnorm.LSTM(I, 4, norm="batch")
    layer(torch.randn(5, 6, I))
    other = seqnorm.LSTM(I, 4, norm="batch_renorm")
    other.load_state_dict(layer.state_dict())
    x = torch.randn(5, 6, I)
    torch.testing.assert_close(other.eval()(x)[0], layer.eval()(x)[0])
    assert repr(preset("batch_renorm", "LSTM")).count("r_max=3.0, d_max=5.0") == 3
