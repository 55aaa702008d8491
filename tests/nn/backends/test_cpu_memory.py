"""No number comes from memory that nobody wrote, none is written where it does not belong, and
calls from several threads do not meet.

Axes: T steps, B sequences, I = input size, H = hidden size.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from beside_reference import (
    F32,
    F64,
    Call,
    assert_same,
    build,
    each_variant,
    needs_kernels,
    outcome,
    ragged,
    single,
    taken,
)
from hidden_states import as_hx, parts_of
from tolerances import SUMS, VALUES, assert_close, assert_equal
from torch import Tensor

import seqnorm
from seqnorm.nn.backends.cpu import memory, operators

pytestmark = needs_kernels
I, H = 5, 9  # noqa: E741  the axes' letters
LENGTHS = [3, 0, 4, 6, 4]
# With 8 rows and more for each thread W_ih x is computed step by step.
MANY = [3] * 9 + [2] * 16 + [1, 0]
TAKEN = taken()
CASES = ["LSTM None", "LSTM kiros2016", "LSTM icefall", "LSTM laurent2016"]
CASES += ["GRU None", "GRU kinds", "GRU dreamer", "GRU laurent2016"]
Threads = Callable[[int], None]


def undefine(memory: torch.UntypedStorage) -> None:
    """Every byte 255: NaN for reals, -1 for integers."""
    torch.tensor([], dtype=torch.uint8).set_(memory).fill_(255)


def undefined(tensor: Tensor) -> Tensor:
    undefine(tensor.untyped_storage())
    return tensor


def poison(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is undefined is NaN: new tensors, and the memory that is used again."""
    for owner, name in (
        (torch, "empty"),
        (torch, "empty_like"),
        (torch.Tensor, "new_empty"),
        (memory, "take"),
    ):
        make = getattr(owner, name)
        monkeypatch.setattr(
            owner, name, lambda *args, make=make, **kwargs: undefined(make(*args, **kwargs))
        )


def test_the_poison_works(monkeypatch: pytest.MonkeyPatch) -> None:
    poison(monkeypatch)
    x = torch.ones(3, 2)
    for made in (torch.empty(3), torch.empty_like(x), x.new_empty(2, 2), memory.take((2, 5), F64)):
        assert bool(made.isnan().all())
    assert int(memory.take((3,), torch.int64).sum()) == -3


@pytest.mark.parametrize("number", [1, 3])
@pytest.mark.parametrize("name", TAKEN)
def test_nothing_is_read_before_it_is_written(
    name: str, number: int, threads: Threads, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor is anything that a call left behind read by the next."""
    threads(number)
    cell, norm = TAKEN[name]
    for hidden, lengths in ((3, [1, 0, 3, 1]), (41, MANY)):
        layer = build(cell, norm, I, hidden).eval()
        call = Call.draw(layer, lengths)
        expected = outcome(layer, call, "reference")
        with monkeypatch.context() as patch:
            poison(patch)
            for variant in each_variant(patch):
                assert_same(outcome(layer, call), expected, variant)
            found = outcome(single(layer), call.to(F32))
            layer.requires_grad_(False)
            with seqnorm.backend("cpu"):
                output, _ = layer(call.input, as_hx(call.state), call.lengths)
        assert_same(found, expected, "float32", F32)
        assert_close(output, expected["output"], VALUES, "without gradients")


EDGE = 37


def fenced(tensor: Tensor) -> tuple[Tensor, Tensor]:
    """A copy between NaN on both sides, at an address that no vector is aligned to."""
    around = tensor.new_full((tensor.numel() + 2 * EDGE,), torch.nan)
    inside = around[EDGE:-EDGE].view(tensor.shape)
    return around, inside.copy_(tensor)


def fence(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Puts everything that a kernel reads and writes between fences; the names of what it saw."""
    call, seen = operators._call, []

    def between(name: str, plan: Any, tensors: Any, places: Any, *others: Any) -> None:
        fences = {
            key: (*fenced(tensor), tensor)
            for key, tensor in (*zip(operators.Inputs._fields, tensors), *places.items())
            if tensor is not None
        }
        inside = {key: found[1] for key, found in fences.items()}
        given = {k: t if t is None else inside[k] for k, t in tensors._asdict().items()}
        into = {k: None if t is None else inside[k] for k, t in places.items()}
        call(name, plan, operators.Inputs(**given), into, *others)
        for key, (around, found, tensor) in fences.items():
            assert bool(around[:EDGE].isnan().all()), f"{name} wrote before {key}"
            assert bool(around[-EDGE:].isnan().all()), f"{name} wrote behind {key}"
            if key in places:
                tensor.copy_(found)
            else:
                assert_equal(found, tensor, f"{name} wrote {key}")
            seen.append(key)

    monkeypatch.setattr(operators, "_call", between)
    take = memory.take

    def taken(shape: Any, dtype: torch.dtype) -> Tensor:
        """Scratch ends where it ends, and not where its memory does."""
        if dtype != torch.uint8:
            return take(shape, dtype)
        scratch = take((shape[0] + EDGE,), dtype)
        scratch.fill_(255)
        scratches.append(scratch)
        return scratch[:-EDGE]

    scratches: list[Tensor] = []

    def given(*tensors: Tensor | None) -> None:
        while scratches:
            assert scratches.pop()[-EDGE:].tolist() == [255] * EDGE, "wrote behind the scratch"
        give(*tensors)

    give = memory.give
    monkeypatch.setattr(memory, "take", taken)
    monkeypatch.setattr(memory, "give", given)
    return seen


@pytest.mark.parametrize("number", [1, 3])
@pytest.mark.parametrize("name", TAKEN)
def test_no_access_outside(
    name: str, number: int, threads: Threads, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads(number)
    cell, norm = TAKEN[name]
    for hidden, lengths in ((3, [1]), (7, [1, 0, 3, 1]), (41, MANY)):
        layer = build(cell, norm, hidden + 2, hidden)
        call = Call.draw(layer, lengths)
        layer.eval()
        expected = outcome(layer, call, "reference")
        with monkeypatch.context() as patch:
            seen = fence(patch)
            for variant in each_variant(patch):
                assert_same(outcome(layer, call), expected, variant)
            found = outcome(single(layer), call.to(F32))
            layer.requires_grad_(False)(call.input, lengths=lengths)
        assert_same(found, expected, "float32", F32)
        assert {"input", "weight_hh", "h_0", "output", "h_n", "grad_output", "grad_h"} <= set(seen)


@pytest.mark.parametrize("name", CASES)
def test_what_was_given_out_stays_as_it_is(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Results and gradients do not share memory with later calls, nor what a graph keeps."""
    cell, norm = TAKEN[name]
    layer = build(cell, norm, I, H)
    call, other = Call.draw(layer, LENGTHS), Call.draw(layer, LENGTHS)
    expected = outcome(layer, call)
    input = call.input.clone().requires_grad_()
    state = tuple(part.clone().requires_grad_() for part in call.state)
    leaves = [input, *state, *layer.parameters()]

    def others() -> None:
        outcome(layer, other)
        for spare in list(memory._spare):
            undefine(spare)

    with seqnorm.backend("cpu"):
        output, last = layer(input, as_hx(state), lengths=LENGTHS)
        results = (output, *parts_of(last))
        others()
        loss = sum((value * by).sum() for value, by in zip(results, call.cotangents))
        grads = torch.autograd.grad(loss, leaves, retain_graph=True)
        others()
        again = torch.autograd.grad(loss, leaves)
        others()
    for found, part in zip(results, ("output", "h_n", "c_n")):
        assert_close(found.detach(), expected[part], SUMS, part)
    names = ["input", "h_0", "c_0"][: 1 + len(state)]
    names += [leaf for leaf, _ in layer.named_parameters()]
    for leaf, first, second in zip(names, grads, again):
        assert_close(first, expected[f"gradient of {leaf}"], SUMS, leaf)
        assert_equal(second, first, leaf)


def test_memory_is_used_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_spare", [])
    first, second = memory.take((10, 100), F64), memory.take((10, 100), F64)
    assert first.data_ptr() != second.data_ptr()
    assert first.shape == (10, 100)
    place = first.data_ptr()
    memory.give(first, None)
    assert memory.take((10, 100), F64).data_ptr() == place
    memory.give(first)
    assert memory.take((10, 150), F32).data_ptr() == place, "part of it"
    memory.give(first)
    assert memory.take((10,), F32).data_ptr() != place, "most of it would lie idle"
    assert memory.take((10, 101), F64).data_ptr() != place, "too little"


def test_memory_has_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was given last is kept."""
    monkeypatch.setattr(memory, "_spare", [])
    monkeypatch.setattr(memory, "LIMIT", 10_000)
    given = [memory.take((size,), torch.uint8) for size in (3000, 5000, 2000, 6000)]
    memory.give(*given)
    assert sum(spare.nbytes() for spare in memory._spare) <= 10_000
    found = memory.take((6000,), torch.uint8)
    assert found.data_ptr() == given[-1].data_ptr()
    memory.give(memory.take((20_000,), torch.uint8))
    assert sum(spare.nbytes() for spare in memory._spare) <= 10_000


def test_the_same_calls_need_no_more_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a call takes it gives back, with gradients and without."""
    monkeypatch.setattr(memory, "_spare", [])
    for name in CASES:
        cell, norm = TAKEN[name]
        layer = build(cell, norm, I, H)
        call = Call.draw(layer, LENGTHS)
        kept = []
        for _ in range(12):
            outcome(layer, call)
            with torch.no_grad():
                layer(call.input, lengths=LENGTHS)
            kept.append(sum(spare.nbytes() for spare in memory._spare))
        assert kept[0] > 0
        # It settles: which spare piece fits best depends on those that are there.
        assert kept[-1] == kept[-6], (name, kept)


@pytest.mark.parametrize("number", [1, 3])
def test_several_python_threads(number: int, threads: Threads) -> None:
    """Calls at the same time, each with its own layer or all with one, give what they give one
    after another."""
    threads(number)
    jobs = []
    for k, name in enumerate(CASES * 2):
        cell, norm = TAKEN[name]
        layer = build(cell, norm, I, [H, 33, 70][k % 3]).eval()
        jobs += [(layer, Call.draw(layer, ragged(3 + k % 4, 5))) for _ in range(3)]
    expected = [outcome(*job) for job in jobs]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda job: [outcome(*job) for _ in range(2)], jobs, timeout=60))
    for again, first in zip(found, expected):
        for one in again:
            for leaf, value in first.items():
                assert_equal(one[leaf], value, leaf)
