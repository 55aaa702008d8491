"""Sequences computed in chunks have the same results with less memory."""

from __future__ import annotations

import copy
import weakref
from typing import Any

import pytest
import torch
from comparing import BATCHED, DISTINCT, STEPS, Case, I, T, build, compare, randomise, scheme_of
from hidden_states import parts_of
from tolerances import SUMS, VALUES, assert_close, assert_equal
from torch import Tensor, nn

import seqnorm
from seqnorm.nn.autocast import is_autocast
from seqnorm.nn.layers.chunks import Chunks
from seqnorm.nn.recurrence import zoneout
from seqnorm.nn.statistics.processes import Processes

LENGTHS = (5, 0, 3, 6, 3)


def pooled(name: str, cell: str) -> bool:
    scheme = scheme_of(name, cell)
    return scheme is not None and any(norm.over_time for norm in scheme.norms.values())


@pytest.mark.parametrize(("name", "cell"), DISTINCT)
def test_against_the_oracle(name: str, cell: str) -> None:
    """Outputs, states, all gradients and statistics are right for every cell and scheme."""
    scheme = scheme_of(name, cell)
    layer = build(cell, scheme, bidirectional=True)
    for training, steps, recompute in ((True, 2, True), (False, 4, True), (False, 1, False)):
        if training and pooled(name, cell):
            continue
        randomise(layer)
        layer.train(training)
        seqnorm.compute_in_chunks(layer, steps, recompute=recompute)
        compare(layer, scheme, Case.draw(layer))


@pytest.mark.parametrize("recompute", [True, False])
def test_several_layers_against_the_oracle(recompute: bool) -> None:
    scheme = seqnorm.preset("batch", "LSTM")
    layer = build("LSTM", scheme, num_layers=2, bidirectional=True, proj_size=2)
    randomise(layer)
    for steps in (1, 2, 3, 6):
        seqnorm.compute_in_chunks(layer, steps, recompute=recompute)
        compare(layer, scheme, Case.draw(layer))


@pytest.mark.parametrize("cell", STEPS)
@pytest.mark.parametrize("max_steps", [2, 3, 50])
def test_calls_that_go_on(cell: str, max_steps: int) -> None:
    """A call with ``start`` is a later part of a longer one, past the end of the table too."""
    scheme = seqnorm.preset("batch", cell, max_steps=max_steps, min_count=3)
    for training in (True, False):
        whole = build(cell, scheme, num_layers=2)
        randomise(whole)
        whole.train(training)
        parts = copy.deepcopy(whole)
        case = Case.draw(whole)
        hx = None if case.states is None else case.states
        expected, last = whole(case.input, hx if len(hx or ()) > 1 else hx[0], lengths=LENGTHS)  # type: ignore[index]
        found, state = [], hx if len(hx or ()) > 1 else hx[0]  # type: ignore[index]
        for start in range(0, T, 2):
            x = case.input[start : start + 2]
            lengths = [min(max(length - start, 0), len(x)) for length in LENGTHS]
            output, state = parts(x, state, lengths=lengths, first_step=start)
            found.append(output)
        assert_close(torch.cat(found), expected, VALUES)
        for one, other in zip(parts_of(state), parts_of(last)):
            assert_close(one, other, VALUES)
        for one, other in zip(parts.buffers(), whole.buffers()):
            assert_close(one, other, VALUES)


def test_the_error_beyond_the_table_counts_from_the_start() -> None:
    scheme = seqnorm.preset("batch", "GRU", max_steps=4, beyond="error")
    layer = seqnorm.GRU(I, 4, norm=scheme)
    layer(torch.randn(2, 3, I), first_step=2)
    with pytest.raises(IndexError, match="step 4 has no statistics of its own"):
        layer(torch.randn(2, 3, I), first_step=3)


def kept_bytes(layer: Any, x: Tensor) -> int:
    """Return the bytes that the graph of a pass holds, beside parameters and the input."""
    held: dict[int, Tensor] = {}

    def note(tensor: Tensor) -> Tensor:
        held[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda t: t):
        output, _ = layer(x)
    own = {p.untyped_storage().data_ptr() for p in (*layer.parameters(), x, output)}
    return sum(t.untyped_storage().nbytes() for place, t in held.items() if place not in own)


def test_recomputing_keeps_little() -> None:
    layer = seqnorm.LSTM(8, 16, norm="layer")
    x = torch.randn(400, 2, 8, requires_grad=True)
    with seqnorm.use_backend("reference"):
        before = kept_bytes(layer, x)
        seqnorm.compute_in_chunks(layer, 20, recompute=True)
        after = kept_bytes(layer, x)
    assert after < before / 20


def test_nothing_of_a_chunk_outlives_it() -> None:
    """Tensors of a step are freed after the pass, and again after its gradient."""
    layer = seqnorm.LSTM(8, 16, norm="layer")
    seqnorm.compute_in_chunks(layer, 5, recompute=True)
    made: list[weakref.ref[Tensor]] = []
    alive: list[int] = []
    run = seqnorm.nn.backends.reference.run

    def watched(*call: Any) -> Any:
        alive.append(sum(reference() is not None for reference in made))
        output, state = run(*call)
        made.append(weakref.ref(output))
        return output, state

    with pytest.MonkeyPatch.context() as patch, seqnorm.use_backend("reference"):
        patch.setattr(seqnorm.nn.backends.reference, "run", watched)
        output, _ = layer(torch.randn(60, 2, 8))
        made.clear()  # outputs of chunks live until they are joined
        output.sum().backward()
    assert len(made) == 12
    assert max(alive[12:]) <= 1


def test_dropout_and_zoneout_are_drawn_once() -> None:
    """The backward pass uses the random units of the forward pass."""
    layer = seqnorm.LSTM(
        I, 6, 2, norm="layer", zoneout=0.4, dropout=0.3, recurrent_dropout=0.3, dtype=torch.float64
    )
    x = torch.randn(9, 3, I, dtype=torch.float64)
    found = []
    for recompute in (False, True):
        seqnorm.compute_in_chunks(layer, 2, recompute=recompute)
        layer.zero_grad()
        torch.manual_seed(3)
        output, _ = layer(x, lengths=[9, 4, 7])
        after = torch.get_rng_state()
        output.square().sum().backward()
        assert_equal(torch.get_rng_state(), after)
        found.append([output, *(p.grad for p in layer.parameters())])
    for one, other in zip(*found):
        assert one is not None
        assert other is not None
        assert_close(other, one, SUMS)


def test_chunks_have_draws_of_their_own() -> None:
    layer = seqnorm.GRU(I, 50, norm="layer", zoneout=0.5)
    seqnorm.compute_in_chunks(layer, 1)
    drawn: list[Tensor] = []
    with pytest.MonkeyPatch.context() as patch, seqnorm.use_backend("reference"):
        draw = zoneout.draw
        patch.setattr(zoneout, "draw", lambda *a: drawn.extend(draw(*a)) or drawn[-1:])  # type: ignore[func-returns-value]
        layer(torch.randn(2, 1, I))
    assert not torch.equal(*drawn)


@pytest.mark.parametrize(("name", "cell"), [pair for pair in BATCHED if not pooled(*pair)])
def test_statistics_and_hooks_see_a_pass_once(name: str, cell: str) -> None:
    layer = build(cell, scheme_of(name, cell))
    tables = [m for m in layer.modules() if isinstance(m, seqnorm.nn.statistics.RunningTable)]
    told: list[int] = []
    for table in tables:
        table.register_update_hook(lambda table, mean, var, rows, first: told.append(first))
    seqnorm.compute_in_chunks(layer, 3, recompute=True)
    output, _ = layer(torch.randn(7, 4, I, dtype=torch.float64))
    before = copy.deepcopy(layer.state_dict())
    assert sorted(told) == sorted([0, 3, 6] * len(tables))
    output.sum().backward()
    assert len(told) == 3 * len(tables)
    for key, value in layer.state_dict().items():
        assert_equal(value, before[key], key)


def test_statistics_that_were_read_must_not_change_before_the_backward_pass() -> None:
    layer = seqnorm.LSTM(I, 4, norm="batch")
    seqnorm.compute_in_chunks(layer, 2, recompute=True)
    x = torch.randn(6, 3, I)
    whole, _ = layer(x)  # every step has rows and reads nothing
    read, _ = layer(x, lengths=[6, 2, 2])
    layer(x)
    whole.sum().backward()
    with pytest.raises(RuntimeError, match="call backward\\(\\) before the next pass in training"):
        read.sum().backward()
    short = seqnorm.LSTM(I, 4, norm=seqnorm.preset("batch", "LSTM", max_steps=4))
    seqnorm.compute_in_chunks(short, 2, recompute=True)
    read, _ = short(x)  # its last steps are past the table and read it
    short(x)
    with pytest.raises(RuntimeError, match="call backward\\(\\) before the next pass in training"):
        read.sum().backward()


def test_frozen_parameters_and_inputs_without_a_gradient() -> None:
    layer = seqnorm.LSTM(I, 4, norm="layer")
    layer.weight_ih_l0.requires_grad_(False)
    found = []
    for steps in (None, 2):
        seqnorm.compute_in_chunks(layer, steps, recompute=True)
        layer.zero_grad()
        output, _ = layer(torch.ones(5, 2, I))
        output.sum().backward()
        assert layer.weight_ih_l0.grad is None
        assert layer.weight_hh_l0.grad is not None
        found.append(layer.weight_hh_l0.grad)
    torch.testing.assert_close(*found)


class Exp(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.exp()


def parametrised(layer: Any) -> None:
    for module in (layer, layer.norm_hh_l0):
        name = "weight_hh_l0" if module is layer else "weight"
        nn.utils.parametrize.register_parametrization(module, name, Exp())


def tied(layer: Any) -> None:
    layer.weight_hh_l0 = layer.weight_ih_l0
    layer.norm_hh_l0.weight = layer.norm_ih_l0.weight


def hooked(layer: Any) -> None:
    for parameter in layer.parameters():
        parameter.register_hook(lambda grad: 2 * grad)


@pytest.mark.parametrize("norm", ["layer", "batch"])
@pytest.mark.parametrize("change", [parametrised, tied, hooked])
def test_gradients_of_parameters_that_are_more_than_they_seem(norm: str, change: Any) -> None:
    layer = seqnorm.LSTM(4, 4, norm=norm, dtype=torch.float64)
    change(layer)
    x = torch.randn(7, 3, 4, dtype=torch.float64)
    found = []
    for steps in (None, 3):
        seqnorm.compute_in_chunks(layer, steps, recompute=True)
        layer.zero_grad()
        layer(x)[0].square().sum().backward()
        found.append({name: p.grad for name, p in layer.named_parameters()})
    assert any(bool(grad.any()) for grad in found[0].values() if grad is not None)
    for name, grad in found[0].items():
        assert grad is not None
        assert_close(found[1][name], grad, SUMS, name)


@pytest.mark.parametrize("norm", ["layer", "batch"])
def test_gradients_of_a_functional_call(norm: str) -> None:
    layer = seqnorm.LSTM(I, 4, norm=norm, dtype=torch.float64)
    x = torch.randn(7, 3, I, dtype=torch.float64)
    found = []
    for steps in (None, 3):
        seqnorm.compute_in_chunks(layer, steps, recompute=True)
        torch.manual_seed(0)
        other = {name: torch.randn_like(p).requires_grad_() for name, p in layer.named_parameters()}
        output, _ = torch.func.functional_call(layer, other, (x,))
        output.square().sum().backward()
        found.append({name: p.grad for name, p in other.items()})
    for name, grad in found[0].items():
        assert grad is not None
        assert_close(found[1][name], grad, SUMS, name)


def test_the_mode_is_that_of_the_first_pass() -> None:
    layer = seqnorm.LSTM(I, 4, norm="batch", zoneout=0.3, dtype=torch.float64)
    x = torch.randn(7, 3, I, dtype=torch.float64)
    found = []
    for recompute in (False, True):
        seqnorm.compute_in_chunks(layer.train(), 3, recompute=recompute)
        layer.zero_grad()
        torch.manual_seed(0)
        output, _ = layer(x)
        layer.eval()
        output.square().sum().backward()
        found.append([p.grad for p in layer.parameters()])
    for one, other in zip(*found):
        assert one is not None
        assert_close(other, one, SUMS)


def test_autocast_holds_in_the_second_pass() -> None:
    layer = seqnorm.GRU(I, 4, norm="layer")
    seqnorm.compute_in_chunks(layer, 3, recompute=True)
    seen: list[tuple[bool, bool]] = []
    run = seqnorm.nn.backends.reference.run

    def watched(*call: Any) -> Any:
        seen.append((is_autocast("cpu"), torch.is_grad_enabled()))
        return run(*call)

    with pytest.MonkeyPatch.context() as patch, seqnorm.use_backend("reference"):
        patch.setattr(seqnorm.nn.backends.reference, "run", watched)
        with torch.autocast("cpu", torch.bfloat16):
            output, _ = layer(torch.ones(5, 2, I))
        output.float().sum().backward()
    assert seen == [(True, False)] * 2 + [(True, True)] * 2
    assert layer.weight_hh_l0.grad is not None
    assert bool(layer.weight_hh_l0.grad.any())


def test_gradients_of_gradients_are_refused() -> None:
    layer = seqnorm.GRU(I, 4, norm="layer")
    seqnorm.compute_in_chunks(layer, 2, recompute=True)
    x = torch.randn(5, 2, I, requires_grad=True)
    output, _ = layer(x)
    with pytest.raises(RuntimeError, match="no gradients of gradients: compute_in_chunks without"):
        torch.autograd.grad(output.sum(), x, create_graph=True)


def test_what_is_refused() -> None:
    layer = seqnorm.LSTM(I, 4, norm="batch_pooled")
    seqnorm.compute_in_chunks(layer, 2)
    with pytest.raises(ValueError, match="takes the statistics of whole sequences"):
        layer(torch.randn(5, 2, I))
    assert layer.eval()(torch.randn(5, 2, I))[0].shape == (5, 2, 4)
    with (
        seqnorm.nn.statistics.batch_statistics(layer),
        pytest.raises(ValueError, match="takes the statistics of whole sequences"),
    ):
        layer(torch.randn(5, 2, I))
    with pytest.raises(ValueError, match="no recurrent layer of seqnorm in Linear"):
        seqnorm.compute_in_chunks(torch.nn.Linear(2, 2), 5)
    with pytest.raises(ValueError, match="steps"):
        seqnorm.compute_in_chunks(layer, 0)
    with pytest.raises(ValueError, match="first_step counts the steps read before"):
        layer(torch.randn(5, 2, I), first_step=-1)
    with pytest.raises(TypeError, match="first_step should be of type int, got: float"):
        layer(torch.randn(5, 2, I), first_step=1.0)
    both = seqnorm.GRU(I, 4, bidirectional=True)
    with pytest.raises(ValueError, match="this one reads from both ends"):
        both(torch.randn(5, 2, I), first_step=3)


def test_is_shown_and_undone() -> None:
    model = torch.nn.Sequential(seqnorm.GRU(I, 4))
    seqnorm.compute_in_chunks(model, 512, recompute=True)
    assert "chunks of 512 steps, recomputed" in repr(model)
    assert model[0].chunks == Chunks(512, True)
    seqnorm.compute_in_chunks(model, None)
    assert "chunks" not in repr(model)


def test_statistics_of_several_processes_are_not_taken_in_chunks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    layer = seqnorm.LSTM(3, 4, norm="batch")
    seqnorm.compute_in_chunks(layer, 5)
    seqnorm.convert_sync_batchnorm(layer)
    monkeypatch.setattr(Processes, "several", True)
    twice = lambda processes, own, first, device: [2 * n for n in own]  # noqa: E731  short
    monkeypatch.setattr(Processes, "rows", twice)
    with pytest.raises(ValueError, match="exchanged for whole sequences"):
        layer(torch.randn(12, 2, 3))
    seqnorm.compute_in_chunks(layer, 12)
    monkeypatch.setattr(Processes, "gather", lambda processes, own: torch.stack([own, own]))
    layer(torch.randn(12, 2, 3))  # in one chunk
    seqnorm.compute_in_chunks(layer, 5)
    layer.eval()
    layer(torch.randn(12, 2, 3))
