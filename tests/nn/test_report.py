"""The report on running statistics counts the rows that each step rests on."""

from __future__ import annotations

import re

import pytest
import torch

import seqnorm
from seqnorm.nn.cells import LAYERS

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
    """A frame of every step of its own, and an output over all of them, named by their places."""
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


def test_report_without_tables() -> None:
    report = seqnorm.report(seqnorm.LSTM(I, H, norm="layer"))
    assert report.rows == {}
    assert "no running statistics" in str(report)
