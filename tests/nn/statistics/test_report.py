"""The report on running statistics counts the rows of each step."""

from __future__ import annotations

import math
import re

import pytest
import torch

import seqnorm
from seqnorm.nn.layers.cells import LAYERS

I, H = 3, 4  # noqa: E741 (the axes' letters)


def test_report_counts_rows() -> None:
    layer = seqnorm.LSTM(I, H, bidirectional=True, norm=seqnorm.preset("batch", max_steps=6))
    model = torch.nn.ModuleDict({"rnn": layer, "head": torch.nn.Linear(2 * H, 2)})
    for lengths in ([4, 2, 4, 3, 1], [2, 2, 5, 0, 0]):
        layer(torch.randn(5, 5, I), lengths=lengths)
    # Rows of each step; two sets of statistics need two rows.
    counts = (5 + 3, 4 + 3, 3, 2, 0, 0)
    own, whole = layer.report(), seqnorm.report(model)
    names = [
        f"norm_{site}_l0{direction}.table"
        for direction in ("", "_reverse")
        for site in ("ih", "hh", "cell")
    ]
    assert own.rows == dict.fromkeys(names, counts)
    assert own.min_count == dict.fromkeys(names, 2)
    assert whole.rows == {f"rnn.{name}": counts for name in names}
    assert own.trusted(names[0]) == 4
    text = str(own)
    assert "4 of 6 steps seen" in text
    for line in ("step 0 8 rows", "step 1 7 rows", "step 2 3 rows", "step 3 2 rows", "4-5 0 rows"):
        assert line in re.sub(r" +", " ", text)
    assert "statistics of step 3" in text


def test_report_of_frames() -> None:
    layer = seqnorm.GRU(I, H, norm="batch_pooled")
    layer(torch.randn(5, 3, I), lengths=[5, 0, 2])
    assert layer.report().rows == {"norm_ih_l0.table": (7,)}


@pytest.mark.parametrize("kind", LAYERS)
def test_report_of_norms_outside_of_the_recurrence(kind: str) -> None:
    """Norms of the frame for every step and of the output over all steps have their own names."""
    scheme = seqnorm.NormScheme(
        frame=seqnorm.Norm("batch", max_steps=4), output=seqnorm.Norm("batch_pooled")
    )
    layer = LAYERS[kind](I, H, 2, norm=scheme)
    layer(torch.randn(5, 4, I), lengths=[5, 0, 2, 3])
    rows = {"norm_frame_{}.table": (3, 3, 2, 0), "norm_output_{}.table": (10,)}
    assert layer.report().rows == {
        name.format(end): counts for end in ("l0", "l1") for name, counts in rows.items()
    }
    assert "step 2" in str(layer.report())


def of(counts: list[int]) -> seqnorm.nn.statistics.Report:
    return seqnorm.nn.statistics.Report({"t": tuple(counts)}, {"t": 2}, {"t": "last"})


@pytest.mark.parametrize(
    "counts",
    [
        [320 - t for t in range(300)] + [0] * 200,
        [1_000_000 // (t + 1) for t in range(500)],
        [int(1000 * abs(math.sin(t))) for t in range(500)],
        [t % 2 * 900 for t in range(500)],
        list(range(500)),
        [5] * 500,
        [0] * 500,
        [7],
    ],
    ids=lambda counts: str(counts[:3]),
)
def test_bands(counts: list[int]) -> None:
    """A few lines cover all steps, however many; the rows have each of them."""
    report = of(counts)
    bands = report.bands("t")
    assert len(bands) <= 12
    assert [band.first for band in bands] == [0, *(band.last + 1 for band in bands[:-1])]
    assert bands[-1].last == len(counts) - 1
    for first, last, fewest, most in bands:
        inside = counts[first : last + 1]
        assert (fewest, most) == (min(inside), max(inside))
    assert report.rows["t"] == tuple(counts)
    lines = str(report).splitlines()
    assert len(lines) <= 2 + len(bands) + 1
    assert max(len(line) for line in lines) <= 80


def test_bands_are_of_similar_support() -> None:
    """A band has equal counts, or counts within a factor of two; unseen steps are separate."""
    assert of([9, 9, 4, 0]).bands("t") == [(0, 1, 9, 9), (2, 2, 4, 4), (3, 3, 0, 0)]
    found = of([320 - t for t in range(300)] + [0] * 200).bands("t")
    assert found[-1] == (300, 499, 0, 0)
    assert all(band.most <= 2 * band.fewest for band in found)
    text = str(of([320 - t for t in range(300)] + [0] * 200))
    assert re.search(r"^ +0-160 +160-320 rows  #{24}$", text, re.MULTILINE)
    assert re.search(r"^ +300-499 +0 rows$", text, re.MULTILINE)


def test_report_without_tables() -> None:
    report = seqnorm.report(seqnorm.LSTM(I, H, norm="layer"))
    assert report.rows == {}
    assert "no running statistics" in str(report)
