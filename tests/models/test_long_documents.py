"""Long documents read in chunks have the same results."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from tolerances import VALUES, assert_close

import seqnorm
from seqnorm.models import TextClassifier
from seqnorm.models.long_documents import PoolingSoFar
from seqnorm.models.pooling import Pooling
from seqnorm.models.recurrent import CELLS

NORMS = [None, "layer", "batch", "batch_pooled"]
LENGTHS = torch.tensor([13, 0, 7, 11])
EVERY = "last+mean+max+attention"


def classifier(**options: object) -> TextClassifier:
    sizes: dict[str, object] = {"embedding_size": 5, "hidden_size": 8}
    return TextClassifier(20, 3, **{**sizes, **options}).double()  # type: ignore[arg-type]


def batch() -> torch.Tensor:
    return torch.randint(2, 20, (4, 13))


@pytest.mark.parametrize("pooling", [EVERY, "last+mean+max"])
@pytest.mark.parametrize(("layers", "bidirectional"), [(2, False), (1, True), (2, True)])
@pytest.mark.parametrize("norm", NORMS)
def test_the_same_logits(norm: str | None, layers: int, bidirectional: bool, pooling: str) -> None:
    model = classifier(norm=norm, num_layers=layers, bidirectional=bidirectional, pooling=pooling)
    model(torch.randint(2, 20, (4, 9)), torch.tensor([9, 3, 7, 9]))  # some steps have statistics
    model.eval()
    tokens = batch()
    padding = torch.arange(13) >= LENGTHS[:, None]
    expected = model(tokens, LENGTHS)
    with torch.no_grad():
        model.embedding.weight[0] = torch.nan
    for steps in (1, 4, 13, 50):
        for other in (0, 10**9):  # not a token
            found = model.in_chunks(tokens.masked_fill(padding, other), LENGTHS, steps)
            assert_close(found, expected.detach(), VALUES, f"{steps} steps")
    assert model.recurrent.chunks is None


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_sums_of_long_documents_in_half_precision(dtype: torch.dtype) -> None:
    """Many chunks are as precise as one, although the sums are much larger than a chunk."""
    pooling = Pooling(EVERY, 8)
    steps, size = 400, 50
    output = torch.randn(2, steps * size, 8) + 0.5
    lengths = torch.tensor([steps * size, steps * size - 70])
    expected = pooling(output.to(dtype).float(), lengths)
    half = Pooling(EVERY, 8).to(dtype)
    half.load_state_dict(pooling.state_dict())
    so_far = PoolingSoFar(half)
    with torch.no_grad():
        for start in range(0, steps * size, size):
            so_far.add(output[:, start : start + size].to(dtype), (lengths - start).clamp(0, size))
    found = torch.cat(so_far.parts(lengths), -1)
    assert found.dtype == dtype
    assert_close(found.float(), expected.detach(), 4 * torch.finfo(dtype).eps)


def test_no_documents() -> None:
    for bidirectional in (False, True):
        model = classifier(bidirectional=bidirectional, num_layers=2).eval()
        found = model.in_chunks(torch.zeros(0, 7, dtype=torch.int64), torch.zeros(0).long(), 3)
        assert found.shape == (0, 3)


@pytest.mark.parametrize("cell", CELLS)
def test_every_cell(cell: str) -> None:
    for bidirectional in (False, True):
        model = classifier(cell=cell, bidirectional=bidirectional).eval()
        tokens = batch()
        expected = model(tokens, LENGTHS)
        assert_close(model.in_chunks(tokens, LENGTHS, 3), expected.detach(), VALUES)


@pytest.mark.parametrize("bidirectional", [False, True])
def test_empty_documents(bidirectional: bool) -> None:
    model = classifier(bidirectional=bidirectional, pooling=EVERY).eval()
    for steps in (0, 3):
        tokens = torch.full((2, steps), 10**9)
        found = model.in_chunks(tokens, torch.zeros(2, dtype=torch.int64))
        assert torch.equal(found, model.head.bias.expand(2, 3))


def test_what_is_refused() -> None:
    model = classifier()
    with pytest.raises(ValueError, match="in_chunks is for inference: call eval"):
        model.in_chunks(batch(), LENGTHS)
    with pytest.raises(ValueError, match="steps must be at least 1"):
        model.eval().in_chunks(batch(), LENGTHS, 0)
    with pytest.raises(ValueError, match=r"lengths\[0\] is 14"):
        model.in_chunks(batch(), LENGTHS + 1)


def test_training_in_chunks_has_the_same_gradients() -> None:
    model = classifier(
        norm="batch", num_layers=2, word_dropout=0.0, embedding_dropout=0.0, dropout=0.0
    )
    tokens, labels = batch(), torch.tensor([0, 1, 2, 0])
    found = []
    for steps in (None, 4):
        seqnorm.compute_in_chunks(model, steps, recompute=True)
        model.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(tokens, LENGTHS), labels)
        loss.backward()
        found.append({name: p.grad for name, p in model.named_parameters()})
    for name, expected in found[0].items():
        assert expected is not None
        actual = found[1][name]
        assert actual is not None
        assert_close(actual, expected, VALUES, name)


PEAK = """
import pathlib, re, sys, torch
from seqnorm.models import TextClassifier
model = TextClassifier(50, 2, embedding_size=64, hidden_size=32).eval()
def answer(steps):
    tokens = torch.randint(2, 50, (1, steps))
    lengths = torch.tensor([steps])
    with torch.no_grad():
        model.in_chunks(tokens, lengths, 256) if sys.argv[1] == "chunks" else model(tokens, lengths)
def peak():  # KiB; what getrusage says is of the parent too
    return int(re.search(r"VmHWM:\\s*(\\d+)", pathlib.Path("/proc/self/status").read_text())[1])
answer(512)
before = peak()
answer(30_000)
print(peak() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="there is no /proc")
def test_memory_does_not_grow() -> None:
    grown = {
        how: int(subprocess.check_output([sys.executable, "-c", PEAK, how], text=True))
        for how in ("chunks", "whole")
    }
    assert grown["chunks"] < 4_000 < 20_000 < grown["whole"]
