"""The kernels read no uninitialised memory, write only to their results, and keep calls from
several threads apart.

Axes: T steps, B sequences, I = input size, H = hidden size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar

import pytest
import torch
from beside_reference import (
    F64,
    Call,
    assert_same,
    assert_single,
    build,
    each_variant,
    needs_kernels,
    outcome,
    ragged,
    taken,
)
from hidden_states import as_hx, parts_of
from tolerances import SUMS, VALUES, assert_close, assert_equal
from torch import Tensor

import seqnorm
from seqnorm.nn.backends.cpu import kernels, memory

pytestmark = needs_kernels
GIVE = kernels.Pass.give
I, H = 5, 9  # noqa: E741  the axes' letters
LENGTHS = [3, 0, 4, 6, 4]
# With at least 8 rows for each thread, W_ih x is computed at each step.
MANY = [3] * 9 + [2] * 16 + [1, 0]
TAKEN = taken()
CASES = ["LSTM None", "LSTM kiros2016", "LSTM icefall", "LSTM laurent2016"]
CASES += ["GRU None", "GRU kinds", "GRU dreamer", "GRU laurent2016"]
CASES += ["LSTM cooijmans2016", "LSTM batch ends", "GRU batch", "GRU batch ends"]
CASES += ["LiGRU kinds", "LiGRU ravanelli2018", "RNN layer", "IndRNN None", "IndRNN batch ends"]
CASES += ["SLSTM kinds", "SLSTM batch_pooled", "LSTM deviation", "LSTM batch_pooled"]
Threads = Callable[[int], None]


def with_projections(cell: str, cases: Iterable[Any]) -> Iterator[tuple[Any, dict[str, int]]]:
    """Yield each case without a projection, and with one if the cell can have it."""
    for case in cases:
        yield case, {}
        if cell == "LSTM" and case[1] > 3:  # sets of so few units are step functions in float32
            yield case, {"proj_size": case[1] // 2}


def undefine(memory: torch.UntypedStorage) -> None:
    """Every byte 255: NaN for reals, -1 for integers."""
    torch.tensor([], dtype=torch.uint8).set_(memory).fill_(255)


def undefined(tensor: Tensor) -> Tensor:
    undefine(tensor.untyped_storage())
    return tensor


def poison(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fill new tensors and reused memory with NaN."""
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
    taken = memory.take(128)[:128]
    for made in (torch.empty(3), torch.empty_like(x), x.new_empty(2, 2), taken.view(F64)):
        assert bool(made.isnan().all())
    assert int(taken.view(torch.int64).sum()) == -16


@pytest.mark.parametrize("number", [1, 3])
@pytest.mark.parametrize("name", TAKEN)
def test_nothing_is_read_before_it_is_written(
    name: str, number: int, threads: Threads, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The remains of one call are also not read by the next."""
    threads(number)
    cell, norm = TAKEN[name]
    cases = ((True, 3, [1, 0, 3, 1]), (False, 3, [1, 0, 3, 1]), (True, 41, MANY), (False, 41, MANY))
    for (training, hidden, lengths), projection in with_projections(cell, cases):
        layer = build(cell, norm, I, hidden, **projection).train(training)
        call = Call.draw(layer, lengths)
        expected = outcome(layer, call, "reference")
        with monkeypatch.context() as patch:
            poison(patch)
            for variant in each_variant(patch):
                assert_same(outcome(layer, call), expected, variant)
            assert_single(layer, call, expected)
            layer.requires_grad_(False)
            with seqnorm.use_backend("cpu"):
                output, _ = layer(call.input, as_hx(call.state), call.lengths)
        assert_close(output, expected["output"], VALUES, "without gradients")


EDGE = 37


def fenced(tensor: Tensor) -> tuple[Tensor, Tensor]:
    """Return a copy between NaN on both sides, at an unaligned address."""
    around = tensor.new_full((tensor.numel() + 2 * EDGE,), torch.nan)
    inside = around[EDGE:-EDGE].view(tensor.shape)
    return around, inside.copy_(tensor)


def is_written(name: str, backward: bool, own: bool) -> bool:
    """Return True if a pass writes to this field of ``Arguments``."""
    if backward:
        return name.startswith("grad_") and name != "grad_output"
    return name in ("output", "h_n", "c_n") or (own and name.startswith(("columns_", "var_")))


def use_new_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    spare = memory.Spare()
    for name, value in (("_spare", spare), ("take", spare.take), ("give", spare.give)):
        monkeypatch.setattr(memory, name, value)


class Fenced:
    """Place everything that a kernel reads and writes between fences."""

    seen: ClassVar[set[str]]
    memories: ClassVar[dict[int, Tensor]]  # memory in use, by its first address

    @staticmethod
    def give(one: kernels.Pass, tensors: Iterable[tuple[str, Tensor | None]]) -> None:
        fences = one.__dict__.setdefault("fences", {})
        for name, tensor in tensors:
            if tensor is not None:
                around, inside = fenced(tensor)
                fences[name] = around, inside, tensor
                GIVE(one, [(name, inside)])

    @classmethod
    def check(cls, one: kernels.Pass, backward: bool) -> None:
        """Check the fences after a pass."""
        which = "backward" if backward else "forward"
        for name, (around, found, tensor) in one.__dict__["fences"].items():
            assert bool(around[:EDGE].isnan().all()), f"{which} wrote before {name}"
            assert bool(around[-EDGE:].isnan().all()), f"{which} wrote behind {name}"
            own = bool(getattr(one.arguments, f"own_{name[-1]}", False))
            if is_written(name, backward, own):
                tensor.copy_(found)
            else:
                assert_equal(found, tensor, f"{which} wrote {name}")
            cls.seen.add(name)
        assert one.kept is not None
        assert one.kept.data_ptr() in cls.memories
        for around in cls.memories.values():
            check_memory(around)


BYTES = 8 * EDGE


def check_memory(around: Tensor) -> None:
    """Check working memory; its first number is the count of bytes between the fences."""
    size = int(around[:8].view(torch.int64))
    for part, where in ((around[8:BYTES], "before"), (around[BYTES + size :], "behind")):
        assert bool((part == 255).all()), f"wrote {where} working memory"


def fence(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Make every call of the kernels a ``Fenced`` one, and return the names of its tensors."""
    take, give, run = memory.take, memory.give, kernels.run

    def run_and_check(every: Sequence[kernels.Pass], backward: bool) -> None:
        run(every, backward)
        for one in every:
            Fenced.check(one, backward)

    def taken(size: int) -> Tensor:
        """Return working memory that is not aligned and has the exact size."""
        around = take(size + 2 * BYTES).fill_(255)
        around[:8].view(torch.int64).fill_(size)
        inside = around[BYTES : BYTES + size]
        Fenced.memories[inside.data_ptr()] = around
        return inside

    def given(*tensors: Tensor) -> None:
        for tensor in tensors:
            around = Fenced.memories.pop(tensor.data_ptr())
            check_memory(around)
            give(around)

    monkeypatch.setattr(memory, "take", taken)
    monkeypatch.setattr(memory, "give", given)
    monkeypatch.setattr(kernels.Pass, "give", Fenced.give)
    monkeypatch.setattr(kernels, "run", run_and_check)
    monkeypatch.setattr(Fenced, "seen", set(), raising=False)
    monkeypatch.setattr(Fenced, "memories", {}, raising=False)
    return Fenced.seen


@pytest.mark.parametrize("number", [1, 3])
@pytest.mark.parametrize("name", TAKEN)
def test_no_access_outside(
    name: str, number: int, threads: Threads, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads(number)
    cell, norm = TAKEN[name]
    cases = ((False, 3, [1]), (True, 7, [1, 0, 3, 1]), (True, 41, MANY), (False, 41, MANY))
    for (training, hidden, lengths), projection in with_projections(cell, cases):
        layer = build(cell, norm, hidden + 2, hidden, **projection).train(training)
        call = Call.draw(layer, lengths)
        expected = outcome(layer, call, "reference")
        with monkeypatch.context() as patch:
            seen = fence(patch)
            for variant in each_variant(patch):
                assert_same(outcome(layer, call), expected, variant)
            assert_single(layer, call, expected)
            layer.requires_grad_(False)(call.input, lengths=lengths)
        assert {"input", "weight_hh", "h_0", "output", "h_n", "grad_output", "grad_h"} <= seen


@pytest.mark.parametrize("name", CASES)
def test_what_was_given_out_stays_as_it_is(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Results, gradients and saved tensors do not share memory with later calls."""
    cell, norm = TAKEN[name]
    layer = build(cell, norm, I, H)
    call, other = Call.draw(layer, LENGTHS), Call.draw(layer, LENGTHS)
    expected = outcome(layer, call)
    input = call.input.clone().requires_grad_()
    state = tuple(part.clone().requires_grad_() for part in call.state)
    leaves = [input, *state, *layer.parameters()]

    def others() -> None:
        outcome(layer, other)
        for spares in memory._spare._tensors.values():
            for spare in spares:
                undefined(spare)

    with seqnorm.use_backend("cpu"):
        output, last = layer(input, as_hx(state), lengths=LENGTHS)
        results = (output, *parts_of(last))
        others()
        loss = sum((value * by).sum() for value, by in zip(results, call.cotangents))
        grads = torch.autograd.grad(loss, leaves, retain_graph=True)
        others()
        again = torch.autograd.grad(loss, leaves)
        others()
    letters = layer.step.states
    for found, part in zip(results, ("output", *[f"{letter}_n" for letter in letters])):
        assert_close(found.detach(), expected[part], SUMS, part)
    names = ["input", *[f"{letter}_0" for letter in letters]]
    names += [leaf for leaf, _ in layer.named_parameters()]
    for leaf, first, second in zip(names, grads, again):
        assert_close(first, expected[f"gradient of {leaf}"], SUMS, leaf)
        assert_equal(second, first, leaf)


def test_memory_is_used_again(monkeypatch: pytest.MonkeyPatch) -> None:
    use_new_memory(monkeypatch)
    first, second = memory.take(8000), memory.take(8000)
    assert first.data_ptr() != second.data_ptr()
    assert first.dtype == torch.uint8
    assert 8000 <= len(first) < 9000
    place = first.data_ptr()
    memory.give(first)
    assert memory.take(8000).data_ptr() == place
    memory.give(first)
    assert memory.take(7900).data_ptr() == place, "nearly all of it"
    memory.give(first)
    assert memory.take(40).data_ptr() != place, "most of it would lie idle"
    assert memory.take(len(first) + 1).data_ptr() != place, "too little"


def test_memory_begins_a_cache_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """The memory also has at least the requested size."""
    use_new_memory(monkeypatch)
    for size in (0, 1, 63, 64, 65, 1000):
        found = memory.take(size)
        assert len(found) >= size
        assert found.data_ptr() % 64 == 0


def test_memory_has_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """The memory that was returned last is kept."""
    use_new_memory(monkeypatch)
    monkeypatch.setattr(memory, "LIMIT", 10_000)
    given = [memory.take(size) for size in (3000, 5000, 2000, 6000)]
    for tensor in given:
        memory.give(tensor)
    assert memory._spare.bytes <= 10_000
    found = memory.take(6000)
    assert found.data_ptr() == given[-1].data_ptr()
    memory.give(memory.take(20_000))
    assert memory._spare.bytes <= 10_000


def test_the_same_calls_need_no_more_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """A call returns all the memory that it takes, with gradients and without."""
    use_new_memory(monkeypatch)
    for name in CASES:
        cell, norm = TAKEN[name]
        layer = build(cell, norm, I, H)
        call = Call.draw(layer, LENGTHS)
        kept = []
        for _ in range(4):
            outcome(layer, call)
            with torch.no_grad():
                layer(call.input, lengths=LENGTHS)
            kept.append(memory._spare.bytes)
        assert kept[0] > 0
        assert kept[-1] == kept[0], (name, kept)


@pytest.mark.parametrize("number", [1, 3])
def test_several_python_threads(number: int, threads: Threads) -> None:
    """Concurrent calls, with separate layers or one layer, equal sequential calls."""
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
