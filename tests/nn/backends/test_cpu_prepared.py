"""Prepared calls of the kernels are equal to the definition, for every norm that is prepared.

Axes: T steps, B sequences, H = hidden size, L layers.
"""

from __future__ import annotations

import itertools
import threading
from typing import Any

import pytest
import torch
from beside_reference import (
    F32,
    F64,
    SINGLE_VALUES,
    each_variant,
    needs_kernels,
    single,
    taken,
)
from hidden_states import as_hx, output_normed, parts_of
from prepared_calls import assert_same, by_definition, results, trained
from tolerances import VALUES
from torch import Tensor, nn

import seqnorm
from seqnorm.nn.backends.cpu import kernels, library
from seqnorm.nn.backends.cpu.plan import inference_plan
from seqnorm.nn.backends.cpu.prepared import can_prepare
from seqnorm.nn.layers.cells import LAYERS

pytestmark = needs_kernels
NAMES = taken()
PREPARED = {
    name: pair
    for name, pair in NAMES.items()
    if can_prepare(LAYERS[pair[0]](3, 8, norm=pair[1]).directions())
}
# An sLSTM's norm "layer" is one of its output, which stands outside of the recurrence.
OF_ROWS = {"SLSTM": seqnorm.NormScheme(input=seqnorm.Norm("layer"), hidden=seqnorm.Norm("layer"))}


def drawn_state(layer: Any, *shape: int) -> tuple[Tensor, ...]:
    """Return a random state; n of an sLSTM, a sum of exponentials, is positive."""
    letters = layer.step.states
    parts = [torch.randn(*shape).to(F64) for _ in letters]
    return tuple([p.abs() + 0.5 if k == "n" else p for k, p in zip(letters, parts)])


def test_what_is_prepared() -> None:
    """All norms of the kernels but those outside of the recurrence.

    Layers without a norm are prepared if torch has no such layer.
    """
    for name, (cell, norm) in NAMES.items():
        (direction,) = LAYERS[cell](3, 8, norm=norm).directions()
        plain = norm is None and direction.step.fused is not None
        expected = not plain and not inference_plan(direction).outside
        assert (name in PREPARED) == expected, name
    assert len(PREPARED) > 30


@pytest.mark.parametrize("name", PREPARED)
def test_layers_equal_the_definition(
    name: str, calls: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each variant, precision and number of layers, with and without a state, late steps too."""
    cell, norm = PREPARED[name]
    torch.manual_seed(0)
    for L, (width, H) in zip((1, 2, 3), ((3, 5), (17, 8), (7, 33))):
        layer = trained(cell, norm, width, H, num_layers=L)
        small = single(layer).eval()
        results(small, torch.zeros(1, 1, width))
        for T, B, first in ((1, 1, 0), (1, 3, 4), (7, 1, 0), (3, 9, 2)):
            x = torch.randn(T, B, width).to(F64)
            state = drawn_state(layer, L, B, H)
            for hx in (None, state):
                given = None if hx is None else as_hx(hx)
                expected = by_definition(layer, x, given, first_step=first)
                halved = None if hx is None else as_hx([part.to(F32) for part in hx])
                for variant in each_variant(monkeypatch):
                    calls.clear()
                    what = f"{name}, {variant}, {T} x {B}"
                    found = results(layer, x, given, first_step=first)
                    assert_same(found, expected, VALUES, what)
                    found = results(small, x.to(F32), halved, first_step=first)
                    assert_same(found, expected, 8 * SINGLE_VALUES, what)
                    assert calls == [T, T], what


@pytest.mark.parametrize("name", [name for name, (_, norm) in PREPARED.items()])
def test_cells_equal_the_definition(name: str, calls: list[int]) -> None:
    cell, norm = PREPARED[name]
    torch.manual_seed(1)
    for width, H in ((3, 5), (16, 33)):
        layer = trained(cell, norm, width, H)
        if output_normed(layer.norm):
            return
        heads = {"num_heads": layer.num_heads} if cell == "SLSTM" else {}
        one = getattr(seqnorm, cell + "Cell")(width, H, norm=norm, dtype=F64, **heads).eval()
        one.load_state_dict({key.replace("_l0", ""): t for key, t in layer.state_dict().items()})
        for B, hx_given, first in itertools.product((1, 4, None), (False, True), (0, 3)):
            shape = () if B is None else (B,)
            x = torch.randn(*shape, width).to(F64)
            state = drawn_state(layer, *shape, H)
            hx = as_hx(state) if hx_given else None
            expected = by_definition(one, x, hx, first_step=first)
            results(one, x, hx, first_step=first)  # looks at the tables
            calls.clear()
            assert_same(results(one, x, hx, first_step=first), expected, VALUES, name)
            assert calls == [1]


@pytest.mark.parametrize("cell", library.STEPS)
@pytest.mark.parametrize("batch_first", [False, True])
def test_forms_of_the_input(cell: str, batch_first: bool, calls: list[int]) -> None:
    """Batched either way, unbatched, strided and expanded."""
    torch.manual_seed(2)
    layer = trained(cell, OF_ROWS.get(cell, "layer"), 4, 6, num_layers=2, batch_first=batch_first)
    for shape in ((5, 3, 4), (1, 3, 4), (5, 1, 4), (5, 4)):
        x = torch.randn(*shape, dtype=F64)
        for form in (x, torch.randn(*shape, 2, dtype=F64)[..., 0], x[:1].expand_as(x), x.flip(0)):
            calls.clear()
            found, expected = results(layer, form), by_definition(layer, form)
            assert_same(found, expected, VALUES, str(shape))
            assert len(calls) == 1
            state = as_hx(
                [part.transpose(0, -1).contiguous().transpose(0, -1) for part in found[1:]]
            )
            assert_same(results(layer, form, state), by_definition(layer, form, state), VALUES)


@pytest.mark.parametrize("cell", library.STEPS)
def test_zoneout_of_inference(cell: str, calls: list[int]) -> None:
    torch.manual_seed(3)
    layer = trained(cell, OF_ROWS.get(cell, "layer"), 4, 6, zoneout=0.3)
    x = torch.randn(5, 2, 4, dtype=F64)
    assert_same(results(layer, x), by_definition(layer, x), VALUES)
    assert calls
    layer.zoneout = 0.6
    assert_same(results(layer, x), by_definition(layer, x), VALUES)


def test_a_stream_equals_the_whole_sequence(calls: list[int]) -> None:
    torch.manual_seed(4)
    layer = trained("LSTM", "batch", 4, 6, num_layers=2)
    x = torch.randn(9, 3, 4, dtype=F64)
    whole = results(layer, x)
    state, outputs = None, []
    for t in range(9):
        output, *state_parts = results(layer, x[t : t + 1], state, first_step=t)
        state = as_hx(state_parts)
        outputs.append(output)
    assert_same((torch.cat(outputs), *parts_of(state)), whole, VALUES)
    assert calls == [9] + [1] * 9


def test_many_threads_of_python() -> None:
    torch.manual_seed(9)
    layer = trained("LSTM", "layer", 4, 40, num_layers=2)
    inputs = [torch.randn(1 + k % 3, 1 + k % 2, 4, dtype=F64) for k in range(8)]
    expected = [by_definition(layer, x) for x in inputs]
    failed: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for _ in range(50):
                assert_same(results(layer, inputs[number]), expected[number], VALUES)
        except BaseException as error:
            failed.append(error)

    workers = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not failed


def test_results_are_plain_tensors_of_their_mode() -> None:
    layer = seqnorm.LSTM(4, 6, norm="layer").eval()
    x, hx = torch.randn(1, 1, 4), (nn.Parameter(torch.zeros(1, 1, 6)),) * 2
    with torch.inference_mode():
        for part in results(layer, x, hx):
            assert part.is_inference()
    for part in results(layer, x, hx):
        assert type(part) is Tensor
        assert not part.requires_grad
        assert not part.is_inference()
    output, h, c = results(layer, x, hx)
    assert len({part.data_ptr() for part in (output, h, c)}) == 3


def test_poisoned_memory_is_not_read() -> None:
    """The new tensors hold NaN before they are written."""
    torch.use_deterministic_algorithms(True)
    try:
        for name in ("LSTM ba2016", "GRU batch"):
            layer = trained(*PREPARED[name], 5, 7, num_layers=2)
            for part in results(layer, torch.randn(3, 2, 5, dtype=F64)):
                assert bool(part.isfinite().all())
    finally:
        torch.use_deterministic_algorithms(False)


def test_several_threads_share_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows, and units where rows are few."""
    monkeypatch.setattr(kernels, "LEAST_WORK", 1)
    before = torch.get_num_threads()
    torch.manual_seed(10)
    layer = trained("LSTM", "layer", 33, 200, num_layers=2)
    try:
        for T, B in ((1, 1), (4, 1), (3, 20)):
            x = torch.randn(T, B, 33, dtype=F64)
            expected = by_definition(layer, x)
            for threads in (1, 2, 3):
                torch.set_num_threads(threads)
                assert_same(results(layer, x), expected, VALUES, f"{threads} threads")
    finally:
        torch.set_num_threads(before)
