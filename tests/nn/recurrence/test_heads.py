"""LSTM and GRU with heads: every norm against the oracle, and against the dense matrix.

Axes: T steps, B sequences, I = input size, H = hidden size, P = H / heads.
"""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from comparing import DISTINCT, LENGTHS, Case, H, I, T, build, compare, randomise, scheme_of
from hidden_states import as_hx, parts_of
from tolerances import GRADIENTS, VALUES, assert_close, assert_equal
from torch import Tensor, nn

import seqnorm
from seqnorm import Norm, NormScheme
from seqnorm.nn.layers.cells import LAYERS
from seqnorm.nn.layers.cells.gru import GRUStep
from seqnorm.nn.layers.cells.lstm import LSTMStep

CELLS = ("LSTM", "GRU")
DEEP = {"num_layers": 2, "bidirectional": True}
PUBLISHED = [(name, cell) for name, cell in DISTINCT if cell in CELLS]
HEADS = Norm("layer", "heads")
# With a GRU's norm of the sum, the candidate has sets of its own.
BY_HEADS = {
    "terms": NormScheme(input=HEADS, hidden=Norm("rms", "heads", bias=None)),
    "sum": NormScheme(sum=HEADS, bias_ih="inside", bias_hh="inside"),
    "output": NormScheme(output=Norm("rms", "heads"), hidden=HEADS, bias_hh="outside"),
}


def case_with_resets(layer: Any) -> Case:
    case = Case.draw(layer, "none" if layer.counts_steps else "random")
    resets = torch.zeros(T, len(LENGTHS), dtype=torch.bool)
    resets[0, 0] = resets[2, 0] = resets[3, 3] = resets[4, 3] = True
    return Case(case.input, case.lengths, case.states, resets)


@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize(("name", "cell"), PUBLISHED)
def test_against_oracle(name: str, cell: str, mode: str) -> None:
    scheme = scheme_of(name, cell)
    layer = build(cell, scheme, heads=2, **DEEP)
    randomise(layer)
    compare(layer.train(mode == "train"), scheme, Case.draw(layer))


@pytest.mark.parametrize("heads", [1, 2, 4])
@pytest.mark.parametrize("cell", CELLS)
def test_any_number_of_heads(cell: str, heads: int) -> None:
    """Heads of one unit too."""
    layer = build(cell, scheme_of("rms", cell), heads=heads)
    assert layer.weight_hh_l0.shape == (len(layer.step.gates) * H, H // heads)
    randomise(layer)
    compare(layer, layer.norm, Case.draw(layer))


@pytest.mark.parametrize("sites", BY_HEADS)
@pytest.mark.parametrize("cell", CELLS)
def test_sets_of_heads(cell: str, sites: str) -> None:
    layer = build(cell, BY_HEADS[sites], heads=2, **DEEP)
    randomise(layer)
    compare(layer, layer.norm, Case.draw(layer))


def test_a_set_for_each_head() -> None:
    layer = build("GRU", BY_HEADS["sum"], hidden=12, heads=3)
    assert layer.norm_sum_l0.sizes == (4,) * 6
    assert layer.norm_candidate_l0.sizes == (4,) * 3
    with pytest.raises(ValueError, match='sets="heads": this cell has no heads'):
        seqnorm.GRU(I, 12, norm=BY_HEADS["sum"])


@pytest.mark.parametrize("name", ["none", "layer", "batch"])
@pytest.mark.parametrize("cell", CELLS)
def test_resets(cell: str, name: str) -> None:
    scheme = scheme_of(name, cell)
    layer = build(cell, scheme, heads=2, learn_initial_state=True, **DEEP)
    randomise(layer)
    compare(layer.eval(), scheme, case_with_resets(layer))


@pytest.mark.parametrize("cell", CELLS)
def test_zoneout_of_inference(cell: str) -> None:
    zoneout = (0.3, 0.2) if cell == "LSTM" else (0.3,)
    layer = build(cell, None, heads=2, zoneout=zoneout if cell == "LSTM" else 0.3)
    randomise(layer)
    compare(layer.eval(), None, Case.draw(layer), zoneout)


@pytest.mark.parametrize("cell", CELLS)
def test_chunks(cell: str) -> None:
    layer = build(cell, scheme_of("layer", cell), heads=2)
    randomise(layer)
    seqnorm.compute_in_chunks(layer, 2)
    compare(layer, layer.norm, Case.draw(layer))


def dense(weight: Tensor, heads: int) -> Tensor:
    """Return the matrix (R, H) of which a weight (R, P) has the blocks."""
    rows, size = weight.shape
    found = torch.zeros(rows, heads * size, dtype=weight.dtype)
    for r in range(rows):
        head = r % (heads * size) // size
        found[r, head * size : (head + 1) * size] = weight[r]
    return found


@pytest.mark.parametrize("name", ["none", "layer", "batch_pooled"])
@pytest.mark.parametrize("cell", CELLS)
def test_a_dense_matrix_with_zeros_computes_the_same(cell: str, name: str) -> None:
    ours = build(cell, scheme_of(name, cell), hidden=12, heads=3)
    randomise(ours)
    theirs = build(cell, scheme_of(name, cell), hidden=12)
    state = ours.state_dict()
    theirs.load_state_dict({**state, "weight_hh_l0": dense(state["weight_hh_l0"], 3)})
    x = torch.randn(T, 3, I).double()
    outputs = [layer(x, lengths=[4, T, 2])[0] for layer in (ours, theirs)]
    assert_close(outputs[0], outputs[1], VALUES)
    cotangent = torch.randn_like(outputs[0])
    of = [
        torch.autograd.grad((output * cotangent).sum(), list(layer.parameters()))
        for output, layer in zip(outputs, (ours, theirs))
    ]
    for (key, _), one, other in zip(ours.named_parameters(), *of):
        other = other * dense(torch.ones_like(one), 3) if key == "weight_hh_l0" else other
        one = dense(one, 3) if key == "weight_hh_l0" else one
        assert_close(one, other, GRADIENTS, key)


@pytest.mark.parametrize("name", ["none", "layer", "batch"])
@pytest.mark.parametrize("cell", CELLS)
def test_a_loop_over_the_cell(cell: str, name: str) -> None:
    """It computes the same as the layer, with resets, the statistics of training included."""
    layer = build(cell, scheme_of(name, cell), hidden=6, heads=3)
    randomise(layer)
    kind = getattr(seqnorm, cell + "Cell")
    one = kind(I, 6, heads=3, norm=scheme_of(name, cell), dtype=torch.float64)
    one.load_state_dict({key.replace("_l0", ""): t for key, t in layer.state_dict().items()})
    x = torch.randn(T, 4, I).double()
    begins = torch.zeros(T, 4, dtype=torch.bool)
    if name != "batch":  # with rows at different steps, few have the same one
        begins[3, 1] = begins[5, 2] = True
    output, last = layer(x, resets=begins)
    state, outputs = None, []
    for t in range(T):
        first = {"first_step": t} if name == "batch" else {}
        state = one(x[t], state, resets=begins[t], **first) if t else one(x[t], **first)
        outputs.append(parts_of(state)[0])
    assert_close(torch.stack(outputs), output, VALUES)
    for mine, part in zip(parts_of(state), parts_of(last)):
        assert_close(mine, part[0], VALUES)
    for key, table in one.state_dict().items():
        if "running" in key:
            assert_close(table, layer.state_dict()[key.replace(".", "_l0.", 1)], VALUES)


@pytest.mark.parametrize("backend", ["cpu", "reference"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e6])
@pytest.mark.parametrize("cell", CELLS)
def test_padding_is_not_read(cell: str, value: float, backend: str) -> None:
    layer = build(cell, scheme_of("layer", cell), heads=2, **DEEP)
    case = Case.draw(layer)
    poisoned = case.input.clone()
    for b, length in enumerate(LENGTHS):
        poisoned[length:, b] = value
    if backend == "cpu" and seqnorm.nn.backends.cpu.LIBRARY is None:
        pytest.skip("there are no kernels here")
    with seqnorm.use_backend(backend):
        results = []
        for x in (case.input, poisoned):
            output, last = layer(x, as_hx(case.states or ()), lengths=LENGTHS)
            loss = output.square().sum() + parts_of(last)[0].square().sum()
            results.append([output, *torch.autograd.grad(loss, list(layer.parameters()))])
    for clean, other in zip(*results):
        assert_equal(other, clean)


@pytest.mark.parametrize("cell", CELLS)
def test_each_head_reads_itself_alone(cell: str) -> None:
    layer = build(cell, None, hidden=8, heads=4)
    case = Case.draw(layer, lengths=(T,) * 3)
    assert case.states is not None
    before, _ = layer(case.input, as_hx(case.states))
    h, *others = (part.clone() for part in case.states)
    h[..., 2:4] += 1.0
    after, _ = layer(case.input, as_hx((h, *others)))
    moved = (after - before).abs().amax((0, 1)) > 1e-6
    assert moved.tolist() == [False, False, True, True, False, False, False, False]


@pytest.mark.parametrize(("cell", "theirs"), [("LSTM", nn.LSTM), ("GRU", nn.GRU)])
def test_one_head_is_torchs_layer(cell: str, theirs: Any) -> None:
    """A seed draws the same numbers, torch's kernel computes it, and it converts both ways."""
    torch.manual_seed(0)
    plain = theirs(I, 8)
    torch.manual_seed(0)
    ours = LAYERS[cell](I, 8, heads=1)
    for key, value in plain.state_dict().items():
        assert_equal(ours.state_dict()[key], value)
    with seqnorm.use_backend("aten"):
        assert_equal(ours(torch.ones(2, 1, I))[0], plain(torch.ones(2, 1, I))[0])
    assert isinstance(ours.to_torch(), theirs)
    assert LAYERS[cell].from_torch(plain).heads == 1
    assert "heads" not in repr(ours)


@pytest.mark.parametrize("init", ["orthogonal", "identity"])
@pytest.mark.parametrize("cell", CELLS)
def test_each_block_is_initialised(cell: str, init: str) -> None:
    scheme = NormScheme(hidden_init=init)
    weight = LAYERS[cell](I, 12, heads=3, norm=scheme, dtype=torch.float64).weight_hh_l0
    for block in weight.detach().split(4):
        assert_close(block @ block.T, torch.eye(4).double(), VALUES)


@pytest.mark.parametrize("cell", CELLS)
def test_copies_keep_the_heads(cell: str) -> None:
    layer = build(cell, scheme_of("layer", cell), hidden=6, heads=3, recurrent_dropout=0.5)
    other = copy.deepcopy(layer)
    assert other.heads == other.step.heads == 3
    assert "heads=3" in repr(other)
    x = torch.randn(T, 2, I).double()
    torch.manual_seed(1)
    expected = layer(x)[0]
    torch.manual_seed(1)
    assert_equal(other(x)[0], expected)


def refusals() -> dict[str, tuple[Any, type[Exception], str]]:
    found: dict[str, tuple[Any, type[Exception], str]] = {}
    for cell in CELLS:
        layer, one = LAYERS[cell], getattr(seqnorm, cell + "Cell")
        says = "heads=3 must divide hidden_size=8"
        found |= {
            f"{cell} indivisible": (lambda f=layer: f(I, 8, heads=3), ValueError, says),
            f"{cell} indivisible cell": (lambda f=one: f(I, 8, heads=3), ValueError, says),
            f"{cell} none": (
                lambda f=layer: f(I, 8, heads=0),
                ValueError,
                "heads must be greater than zero, got 0",
            ),
            f"{cell} not an integer": (
                lambda f=one: f(I, 8, heads=2.0),
                TypeError,
                "heads should be .*int, got: float",
            ),
            f"{cell} of SLSTM": (
                lambda f=layer: f(I, 8, num_heads=2),
                TypeError,
                "num_heads'.*heads",
            ),
            f"{cell} to torch": (
                lambda f=layer: f(I, 8, heads=2).to_torch(),
                ValueError,
                f"torch.nn.{cell} has no heads.*heads=2: only a layer with heads=1 can go back",
            ),
            f"{cell} changed": (
                lambda f=layer: setattr(f(I, 8, heads=2), "heads", 4),
                AttributeError,
                f"{cell}: heads cannot be changed",
            ),
            f"{cell} flat weights": (
                lambda f=layer: f(I, 8, heads=2)._flat_weights,
                RuntimeError,
                f"a step that torch does not have, {cell} with heads=2",
            ),
        }
    found["step"] = (
        lambda: seqnorm.RecurrentLayer(GRUStep(3), I, 8),
        ValueError,
        "heads=3 must divide hidden_size=8",
    )
    found["projection"] = (
        lambda: seqnorm.LSTM(I, 8, heads=2, proj_size=4),
        ValueError,
        "heads=2 divide the H units of h, and proj_size=4 projects them",
    )
    found["projection of a step"] = (
        lambda: seqnorm.RecurrentLayer(LSTMStep(2), I, 8, proj_size=4),
        ValueError,
        "leave one of the two out",
    )
    return found


@pytest.mark.parametrize("name", refusals())
def test_refusal(name: str) -> None:
    build_it, error, says = refusals()[name]
    with pytest.raises(error, match=says):
        build_it()


def test_torchs_matrix_has_no_blocks() -> None:
    """A class whose layers have heads refuses torch's dense W_hh, as ``convert_rnn`` would."""

    class EightHeads(seqnorm.GRU):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **{**options, "heads": 8})

    with pytest.raises(ValueError, match=r"W_hh of torch's layer has no blocks.*heads=8"):
        EightHeads.from_torch(nn.GRU(I, 8))


@pytest.mark.usefixtures("forgotten_steps")
def test_a_step_of_your_own_has_heads_or_a_projection() -> None:
    class Both(LSTMStep):
        def __init__(self) -> None:
            super().__init__(2)
            self.projects = True

    with pytest.raises(ValueError, match=r"with heads=2 has no projection: leave proj_size=0"):
        seqnorm.RecurrentLayer(Both(), I, H, proj_size=H // 2)
