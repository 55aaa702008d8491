"""Tables of norms before and after the recurrence, whose rows are known without its loop.

Axes: T steps, B sequences, I = input size, H = hidden size, P = size of h.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tolerances import VALUES, assert_close, assert_equal
from torch import Tensor, nn

import seqnorm
from seqnorm.nn.layers.cells import LAYERS

I, H, T = 3, 8, 6  # noqa: E741  the axes' letters
F64 = torch.float64
# Three sequences at step 3, two at step 4, one (too few) at the last; one is empty.
LENGTHS = [6, 0, 4, 5, 3]
KINDS = [(kind, {}) for kind in LAYERS] + [("LSTM", {"proj_size": 2})]
EPS = 1e-5


def pair(
    kind: str, site: str, norm: str, **options: Any
) -> tuple[nn.Module, nn.Module, list[seqnorm.nn.statistics.RunningTable]]:
    """Return a layer with one norm, the same without, and the tables of its two directions."""
    options |= {"bidirectional": True, "dtype": F64}
    described = seqnorm.Norm(norm, gain=None, bias=None, max_steps=T)
    layer = LAYERS[kind](I, H, norm=seqnorm.NormScheme(**{site: described}), **options)
    plain = LAYERS[kind](I, H, norm=seqnorm.NormScheme(), **options)
    plain.load_state_dict({k: v for k, v in layer.state_dict().items() if "norm" not in k})
    norms = [getattr(layer, f"norm_{site}_l0{end}") for end in ("", "_reverse")]
    return layer, plain, [norm.table for norm in norms]


def batch() -> Tensor:
    """Return random frames with padding that must not be read."""
    x = torch.randn(T, len(LENGTHS), I, dtype=F64)
    for b, length in enumerate(LENGTHS):
        x[length:, b] = torch.nan
    return x


def rows(values: Tensor, backward: bool) -> list[Tensor]:
    """Return the rows of ``values`` (T, B, F) at each step of a direction."""
    found = []
    for step in range(T):
        alive = [b for b, length in enumerate(LENGTHS) if length > step]
        times = [LENGTHS[b] - 1 - step if backward else step for b in alive]
        found.append(values[times, alive])
    return found


def raw(plain: nn.Module, site: str, x: Tensor, backward: bool) -> list[Tensor]:
    """Return the rows before the norm for each step."""
    if site == "frame":
        return rows(x, backward)
    return rows(plain(x, lengths=LENGTHS)[0].detach().chunk(2, -1)[backward], backward)


@pytest.mark.parametrize("norm", ["batch", "batch_pooled"])
@pytest.mark.parametrize("site", ["frame", "output"])
@pytest.mark.parametrize(("kind", "options"), KINDS)
def test_tables_describe_the_rows_of_their_site(
    kind: str, options: dict[str, Any], site: str, norm: str
) -> None:
    layer, plain, tables = pair(kind, site, norm, **options)
    x = batch()
    layer(x, lengths=LENGTHS)
    for backward, table in enumerate(tables):
        steps = raw(plain, site, x, bool(backward))
        steps = [torch.cat(steps)] if norm == "batch_pooled" else steps
        enough = [step for step, values in enumerate(steps) if len(values) >= 2]
        assert len(table.count) == len(steps)
        assert table.count.tolist() == [len(v) if len(v) >= 2 else 0 for v in steps]
        assert enough == list(range(1 if norm == "batch_pooled" else 5))
        for step in enough:
            assert_close(table.running_mean[step], steps[step].mean(0), VALUES, f"step {step}")
            assert_close(table.running_var[step], steps[step].var(0), VALUES, f"step {step}")
        for step in set(range(len(steps))) - set(enough):
            assert_equal(table.running_mean[step], torch.zeros_like(table.running_mean[step]))


@pytest.mark.parametrize("norm", ["batch", "batch_pooled"])
@pytest.mark.parametrize("kind", LAYERS)
def test_training_normalises_the_output_by_the_batch(kind: str, norm: str) -> None:
    layer, plain, tables = pair(kind, "output", norm)
    x = batch()
    output, _ = layer(x, lengths=LENGTHS)
    for backward, half in enumerate(output.chunk(2, -1)):
        steps = rows(half, bool(backward))
        before = raw(plain, "output", x, bool(backward))
        if norm == "batch_pooled":
            steps, before = [torch.cat(steps)], [torch.cat(before)]
        for step, (got, values) in enumerate(zip(steps, before)):
            mean, var = values.mean(0), values.var(0, correction=0)
            if len(values) < 2:  # the last step with statistics is used
                mean, var = (getattr(tables[backward], f"running_{m}")[4] for m in ("mean", "var"))
            assert_close(got, (values - mean) / (var + EPS).sqrt(), VALUES, f"step {step}")


@pytest.mark.parametrize("norm", ["batch", "batch_pooled"])
@pytest.mark.parametrize("site", ["frame", "output"])
@pytest.mark.parametrize("kind", LAYERS)
def test_inference_reads_the_tables(kind: str, site: str, norm: str) -> None:
    """Steps past the last one in training read the tables as well."""
    layer, plain, tables = pair(kind, site, norm)
    layer(batch(), lengths=LENGTHS)
    layer.eval()
    plain.eval()
    x = torch.randn(T + 2, 3, I, dtype=F64)
    seen = [0] * len(x) if norm == "batch_pooled" else [min(t, 4) for t in range(len(x))]

    def normalised(values: Tensor, backward: bool) -> Tensor:
        """Return normalised rows (T, B, F); step k of a direction is the k-th that it takes."""
        order = values.flip(0) if backward else values
        mean = tables[backward].running_mean[seen][:, None]
        var = tables[backward].running_var[seen][:, None]
        found = (order - mean) / (var + EPS).sqrt()
        return found.flip(0) if backward else found

    for backward, half in enumerate(layer(x)[0].chunk(2, -1)):
        fed = normalised(x, bool(backward)) if site == "frame" else x
        expected = plain(fed)[0].chunk(2, -1)[backward]
        if site == "output":
            expected = normalised(expected, bool(backward))
        assert_close(half, expected, VALUES)


def test_sizes_of_the_tables() -> None:
    """A frame has I units, or both directions' outputs in later layers; an output has P."""
    site = seqnorm.Norm("batch", max_steps=T)
    scheme = seqnorm.NormScheme(frame=site, output=site)
    layer = seqnorm.LSTM(I, H, 2, bidirectional=True, proj_size=5, norm=scheme)
    shapes = {
        name: tuple(value.shape)
        for name, value in layer.named_buffers()
        if name.endswith("running_mean")
    }
    ends = ("_l0", "_l0_reverse", "_l1", "_l1_reverse")
    assert shapes == {f"norm_frame{end}.table.running_mean": (T, I) for end in ends[:2]} | {
        f"norm_frame{end}.table.running_mean": (T, 10) for end in ends[2:]
    } | {f"norm_output{end}.table.running_mean": (T, 5) for end in ends}
