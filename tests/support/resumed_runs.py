"""Options of runs that are interrupted and resumed, and comparisons of their outcomes."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import torch
from small_runs import SMALL
from zipped import zipped

OPTIONS = (
    *SMALL,
    "--trainer.max_epochs=4",
    "--run.patience=10",
    "--model.dropout=0.5",
    "--model.zoneout=0.1",
    "--model.recurrent_dropout=0.1",
    "--model.word_dropout=0.1",
)
VARIANTS = {
    "layer": ("--model.norm=layer",),
    "steps": ("--model.norm=layer", "--trainer.max_steps=11"),
    "batch": ("--model.norm=batch", "--run.reestimate=true"),
    "average": (
        "--model.norm=batch",
        "--run.reestimate=true",
        "--run.ema_decay=0.9",
        "--run.monitor=val_loss",
    ),
}
VARIANTS |= {
    f"average, {precision}": (*VARIANTS["average"], f"--trainer.precision={precision}")
    for precision in ("64-true", "bf16-true")
}
# The trial validation of a resumed run must not use the average of an epoch without validation.
VARIANTS["average, bf16-true"] += ("--trainer.check_val_every_n_epoch=2",)
LANGUAGE_OPTIONS = (
    *SMALL,
    "--trainer.max_epochs=4",
    "--run.patience=10",
    "--data.batch_size=4",
    "--data.window=40",
    "--model.num_layers=2",
    "--model.word_dropout=0.1",
    "--model.embedding_dropout=0.1",
    "--model.layer_dropout=0.1",
    "--model.output_dropout=0.1",
    "--model.weight_drop=0.1",
    "--model.zoneout=0.1",
)
LANGUAGE_VARIANTS = {
    "stream": ("--data.mode=stream", "--model.norm=layer"),
    "documents": ("--data.mode=documents", "--data.batch_size=10", "--model.norm=batch"),
    "average": (
        "--data.mode=stream",
        "--model.norm=batch",
        "--run.reestimate=true",
        "--run.ema_decay=0.9",
    ),
}
RESUMED = (
    "epoch",
    "global_step",
    "state_dict",
    "current_model_state",
    "optimizer_states",
    "lr_schedulers",
)


def outcome(run: Path) -> dict[str, Any]:
    """Return all that must be equal: both checkpoints and the logged values."""
    found: dict[str, Any] = {}
    for name in ("best", "last"):
        checkpoint = torch.load(run / "checkpoints" / f"{name}.ckpt", weights_only=True)
        found[name] = {key: checkpoint.get(key) for key in RESUMED}
    with (run / "metrics.csv").open(newline="") as file:
        found["metrics"] = list(csv.DictReader(file))
    return found


def assert_same(one: Any, other: Any, place: str = "") -> None:
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, other), place
    elif isinstance(one, dict):
        assert one.keys() == other.keys(), place
        for key in one:
            assert_same(one[key], other[key], f"{place}.{key}")
    elif isinstance(one, (list, tuple)):
        assert len(one) == len(other), place
        for index, pair in enumerate(zipped(one, other)):
            assert_same(*pair, f"{place}[{index}]")
    else:
        assert one == other, place


def last(run: Path) -> Path:
    return run / "checkpoints" / "last.ckpt"
