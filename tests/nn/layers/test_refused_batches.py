"""A refused batch leaves a whole model unchanged: tables, counts and past warnings.

Axes: T steps, B sequences, I = input size, H = hidden size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from tolerances import assert_equal
from torch import nn

import seqnorm
from seqnorm import Norm, NormScheme
from seqnorm.models import TextClassifier
from seqnorm.models.image_classifier import GhostBatchNorm2d
from seqnorm.nn.layers.cells import LAYERS

B, I, H = 4, 3, 8  # noqa: E741  the axes' letters


@contextmanager
def unchanged(model: nn.Module) -> Iterator[None]:
    """Check that nothing of the model changes within, and that no hook is called."""
    before = {name: value.clone() for name, value in model.state_dict().items()}
    warned = {name: vars(m)["_warned"] for name, m in model.named_modules() if "_warned" in vars(m)}
    told: list[Any] = []
    tables = [m for m in model.modules() if isinstance(m, seqnorm.nn.statistics.RunningTable)]
    handles = [table.register_update_hook(lambda *args: told.append(args)) for table in tables]
    yield
    for handle in handles:
        handle.remove()
    assert not told
    for name, value in model.state_dict().items():
        assert_equal(value, before[name], name)
    for name, module in model.named_modules():
        assert vars(module).get("_warned") == warned.get(name), name


def ended(table: Any, steps: int) -> None:
    """Shorten the table, so that it refuses later steps."""
    table.beyond = "error"
    table.max_steps = steps
    for name in ("running_mean", "running_var", "count"):
        setattr(table, name, getattr(table, name)[:steps].clone())


def site_of(layer: Any, last: bool) -> Any:
    tables = [
        module
        for module in layer.modules()
        if isinstance(module, seqnorm.nn.statistics.RunningTable)
    ]
    return tables[-1 if last else 0]


@pytest.mark.parametrize("backend", [None, "reference"])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("options", [{"num_layers": 3}, {"bidirectional": True}, {}], ids=str)
@pytest.mark.parametrize("kind", LAYERS)
def test_one_table_of_a_layer(
    kind: str, options: dict[str, Any], last: bool, training: bool, backend: str | None
) -> None:
    """The refusing table is first or last, in any layer, of one or both directions."""
    layer = LAYERS[kind](I, H, norm="batch", **options)
    layer(torch.randn(6, B, I))
    ended(site_of(layer, last), 4)
    layer.train(training)
    run: Callable[..., Any] = layer
    if backend is not None:

        def run(*args: Any, **named: Any) -> Any:
            with seqnorm.use_backend(backend):
                return layer(*args, **named)

    with unchanged(layer):
        for lengths in (None, [6, 2, 1, 0]):
            with pytest.raises(IndexError, match=r"step 4 has no statistics.*table of 4 steps"):
                run(torch.randn(6, B, I), lengths=lengths)
        with pytest.raises(IndexError, match="step 4 has"):
            run(nn.utils.rnn.pack_sequence([torch.randn(n, I) for n in (5, 3)]))
        if not options.get("bidirectional"):
            with pytest.raises(IndexError, match="step 7 has"):
                run(torch.randn(2, B, I), first_step=7)
    assert run(torch.randn(4, B, I))[0].isfinite().all()


@pytest.mark.parametrize("kind", LAYERS)
def test_a_step_that_was_not_seen(kind: str) -> None:
    """Only the last table lacks a step in inference."""
    layer = LAYERS[kind](I, H, 2, norm=seqnorm.preset("batch", kind, beyond="error"))
    layer(torch.randn(6, B, I))
    site_of(layer, True).count[3] = 0
    layer.eval()
    with unchanged(layer), pytest.raises(IndexError, match=r"step 3 .*512 steps, 5 of them seen"):
        layer(torch.randn(6, B, I))
    assert layer(torch.randn(3, B, I))[0].isfinite().all()


@pytest.mark.parametrize("refusing", ["input", "hidden", "cell", "frame", "output"])
def test_one_of_several_sites(refusing: str) -> None:
    norms: dict[str, Any] = dict.fromkeys(("input", "hidden", "cell", "output"), Norm("batch"))
    norms["frame"] = Norm("batch_pooled")
    norms[refusing] = Norm("batch", max_steps=2, beyond="error")
    layer = seqnorm.LSTM(I, H, 2, norm=NormScheme(**norms))
    with unchanged(layer), pytest.raises(IndexError, match="step 2 has"):
        layer(torch.randn(5, B, I))


def test_no_warning_is_used_up() -> None:
    """The warning about a batch of one comes with the first computed batch."""
    layer = seqnorm.LSTM(I, H, norm=seqnorm.preset("batch", max_steps=2, beyond="error"))
    cell = seqnorm.LSTMCell(I, H, norm=seqnorm.preset("batch", max_steps=2, beyond="error"))
    norm = seqnorm.BatchNorm(I, max_steps=2, beyond="error", layout="NTC")
    with unchanged(nn.ModuleList([layer, cell, norm])):
        with pytest.raises(IndexError):
            layer(torch.randn(5, 1, I))
        with pytest.raises(IndexError):
            cell(torch.randn(1, I), first_step=2)
        with pytest.raises(IndexError):
            norm(torch.randn(1, 5, I))
    for call in (
        lambda: layer(torch.randn(2, 1, I)),
        lambda: cell(torch.randn(1, I), first_step=0),
        lambda: norm(torch.randn(1, 2, I)),
    ):
        with pytest.warns(UserWarning, match="1 row"):
            call()


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("kind", LAYERS)
def test_a_cell(kind: str, training: bool) -> None:
    cell = getattr(seqnorm, f"{kind}Cell")(I, H, norm="batch")
    for step in range(3):
        cell(torch.randn(B, I), first_step=step)
    ended(site_of(cell, True), 2)
    cell.train(training)
    with unchanged(cell), pytest.raises(IndexError, match="step 2 has"):
        cell(torch.randn(B, I), first_step=2)
    cell(torch.randn(B, I), first_step=1)


@pytest.mark.parametrize("layout", ["NTC", "NCT"])
@pytest.mark.parametrize("training", [True, False])
def test_a_norm_of_sequences(training: bool, layout: str) -> None:
    norm = seqnorm.BatchNorm(I, max_steps=3, beyond="error", layout=layout)
    x = torch.randn(B, 5, I) if layout == "NTC" else torch.randn(B, I, 5)
    short = x[:, :3] if layout == "NTC" else x[..., :3]
    norm(short)
    norm.train(training)
    with unchanged(norm):
        for lengths in (None, [5, 1, 2, 2]):
            with pytest.raises(IndexError, match="step 3 has"):
                norm(x, lengths)
    norm(short)


@pytest.mark.parametrize("training", [True, False])
def test_in_chunks_and_in_a_model(training: bool) -> None:
    model = TextClassifier(
        9, 2, norm="batch", num_layers=3, embedding_size=I, hidden_size=H, word_dropout=0.0
    )
    tokens = torch.randint(9, (B, 6))
    lengths = torch.tensor([6, 5, 4, 4])
    model(tokens, lengths)
    ended(site_of(model, True), 4)
    model.train(training)
    for steps in (None, 2):
        seqnorm.compute_in_chunks(model, steps, recompute=training)
        with unchanged(model), pytest.raises(IndexError, match="step 4 has"):
            model(tokens, lengths)
    model(tokens[:, :4], lengths.clamp(max=4))


@pytest.mark.parametrize("estimate", ["population", "average"])
def test_statistics_that_are_taken_anew(estimate: str) -> None:
    """The last norm refuses the second of three batches."""
    layer = seqnorm.GRU(I, H, 2, norm="batch")
    model = nn.ModuleDict({"images": nn.BatchNorm1d(I), "rnn": layer})
    layer(torch.randn(4, B, I))
    ended(site_of(layer, True), 4)

    def forward(model: Any, x: torch.Tensor) -> None:
        model["images"](x.flatten(0, 1))
        model["rnn"](x)

    batches = [torch.randn(steps, B, I) for steps in (4, 5, 4)]
    with unchanged_buffers(model), pytest.raises(IndexError, match="step 4 has"):
        seqnorm.reestimate_statistics(model, batches, forward, estimate=estimate)
    assert all(module.training for module in model.modules())


@contextmanager
def unchanged_buffers(model: nn.Module) -> Iterator[None]:
    before = {name: value.clone() for name, value in model.named_buffers()}
    yield
    for name, value in model.named_buffers():
        assert_equal(value, before[name], name)


X = torch.randn(8, I)
LATE: dict[str, Callable[[Any], object]] = {
    "another device": lambda norm: norm(X.to("meta")),
    "whole numbers": lambda norm: norm(X.long()),
    "a mask of numbers": lambda norm: norm(X, torch.ones(8)),
    "a mask of another size": lambda norm: norm(X, torch.ones(3, dtype=torch.bool)),
    "one row": lambda norm: norm(X[:1]),
    "one valid row": lambda norm: norm(X, torch.arange(8) < 1),
    "other channels": lambda norm: norm(torch.randn(8, I + 1)),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("options", [{}, {"affine": False}, {"momentum": None}], ids=str)
@pytest.mark.parametrize("case", LATE)
def test_norms_as_torchs(case: str, options: dict[str, Any], dtype: torch.dtype) -> None:
    """torch counts a batch before it checks it."""
    norm = seqnorm.BatchNorm1d(I, **options, dtype=dtype)
    with unchanged(norm), pytest.raises((ValueError, TypeError, RuntimeError)):
        LATE[case](norm)


def test_ghost_batches() -> None:
    norm = GhostBatchNorm2d(I, 1)
    with unchanged(norm), pytest.raises(ValueError, match="more than 1 value"):
        norm(torch.randn(4, I, 1, 1))
    norm(torch.randn(4, I, 2, 2))
    assert norm.num_batches_tracked == 1
