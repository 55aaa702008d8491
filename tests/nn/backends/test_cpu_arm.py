"""The kernels for ARM, in an emulator, compute what those of this machine compute.

``SEQNORM_ARM_CALLS=2000 pytest tests/nn/backends/test_cpu_arm.py`` compares more layers and prints
the largest differences with ``-s``. SEQNORM_ARM_LIBRARY names the library of a wheel to be tested.

Axes: T steps, B sequences.
"""

from __future__ import annotations

import copy
import os
import random
from collections import defaultdict
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import recorded_calls
import torch
from beside_reference import F32, F64, Call, needs_kernels, outcome, taken
from hidden_states import as_hx
from sanitized_calls import drawn_layer
from tolerances import GRADIENTS, VALUES

import seqnorm
from seqnorm.nn.backends import cpu

VARIABLE = "SEQNORM_ARM_CALLS"
LAYERS = int(os.environ.get(VARIABLE, "60"))
# Float32: both processors round differently, and a norm magnifies it.
SINGLE = 1e-4
# A library that is given is tested, or the test fails.
if recorded_calls.VARIABLE not in os.environ:
    pytestmark = [
        needs_kernels,
        pytest.mark.skipif(bool(recorded_calls.why_not()), reason=recorded_calls.why_not()),
    ]


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return recorded_calls.build(tmp_path_factory.mktemp("arm"))


def one(draw: random.Random, cell: str, norm: Any, dtype: torch.dtype) -> None:
    """Call a layer of random sizes, with and without gradients, and prepared.

    The operands of products are rounded to bfloat16 in some calls. In float32, both processors
    could round nearly equal operands to different numbers.
    """
    B, T = draw.choice([1, 2, 5, 9]), draw.choice([1, 2, 3])
    lengths = [draw.randint(0, T) for _ in range(B)]
    lengths[draw.randrange(B)] = T
    layer = drawn_layer(draw, cell, norm).to(dtype)
    layer.train(B > 1)
    call = Call.draw(layer, lengths).to(dtype)
    half = dtype == F64 and draw.random() < 0.4
    with mock.patch.object(cpu, "in_half", return_value=half):
        outcome(layer, call)
    layer.eval()
    with torch.no_grad():
        for given in (None, as_hx(call.state)):
            layer(call.input, given)  # looks at the tables
            layer(call.input, given)
        if dtype == F64:  # in float32, too, both could round to different numbers
            small = seqnorm.quantize_(copy.deepcopy(layer))
            small(call.input, as_hx(call.state), lengths)
            small(call.input, as_hx(call.state))


@pytest.mark.filterwarnings("ignore:BatchNorm in training")
@pytest.mark.timeout(300 + LAYERS)
def test_arm(program: Path) -> None:
    """All norms, both precisions: results, gradients and statistics."""
    draw = random.Random(0)
    torch.manual_seed(0)
    norms = list(taken().items())
    with recorded_calls.recording() as calls:
        for number in range(LAYERS):
            if number % len(norms) == 0:
                draw.shuffle(norms)
            one(draw, *norms[number % len(norms)][1], (F32, F64)[number % 2])
    functions = {call.function for call in calls}
    assert functions == {recorded_calls.FORWARD, recorded_calls.BACKWARD, recorded_calls.PREPARED}
    largest: defaultdict[torch.dtype, float] = defaultdict(float)
    compared = 0
    for name, there, here in recorded_calls.repeat(program, calls):
        scale = max(1.0, float(here.abs().max()))
        distance = float((there - here).abs().max()) / scale
        tolerance = SINGLE if here.dtype == F32 else max(VALUES, GRADIENTS)
        assert distance <= tolerance, f"{name}: {distance} apart at magnitude {scale}"
        largest[here.dtype] = max(largest[here.dtype], distance)
        compared += 1
    assert compared > 5 * len(calls)
    print(f"{len(calls)} calls of {LAYERS} layers, largest differences: {dict(largest)}")


def test_a_difference_is_seen(program: Path) -> None:
    """Another input there than here."""
    torch.manual_seed(0)
    with recorded_calls.recording() as calls:
        one(random.Random(1), "LSTM", "layer", F64)
    call = calls[0]
    (number,) = (k for k, (name, _, _) in call.results.items() if name == "input")
    call.blocks[number] = bytes(len(call.blocks[number]))
    found = {
        name: torch.equal(there, here)
        for name, there, here in recorded_calls.repeat(program, [call])
    }
    assert not found["output"]
