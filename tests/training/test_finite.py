"""A loss or a gradient that is no number ends training, with where it began."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from seqnorm.training import TextClassification

from .conftest import SMALL

RUN = Path("runs/tiny/version_0")
Command = Callable[..., None]


def broken_at(
    monkeypatch: pytest.MonkeyPatch, step: int, layer: str, how: Callable[[torch.Tensor], Any]
) -> None:
    """Has ``how`` done to the output of a layer at a step of training, again and again."""
    now = {"step": -1}
    train = TextClassification.training_step

    def counted(self: TextClassification, batch: Any) -> torch.Tensor:
        if now["step"] < 0:
            self.network.get_submodule(layer).register_forward_hook(hook)
        now["step"] = self.trainer.global_step
        return train(self, batch)

    def hook(module: torch.nn.Module, inputs: Any, output: Any) -> Any:
        if not (module.training and now["step"] == step):
            return None
        if isinstance(output, tuple):
            return how(output[0]), *output[1:]
        return how(output)

    monkeypatch.setattr(TextClassification, "training_step", counted)


def stopped(train_py: Command, capsys: pytest.CaptureFixture[str], *arguments: Any) -> str:
    with pytest.raises(SystemExit) as stop:
        train_py("fit", *arguments)
    assert stop.value.code == 2
    return capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
@pytest.mark.parametrize(
    ("layer", "kind"), [("recurrent", "LSTM"), ("pooling", "Pooling"), ("embedding", "Embedding")]
)
def test_a_loss(
    layer: str,
    kind: str,
    value: float,
    corpus: Path,
    train_py: Command,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    broken_at(monkeypatch, 4, layer, lambda output: output * value)
    options = (*SMALL, "--model.norm=batch", "--trainer.max_epochs=3")
    error = stopped(train_py, capsys, "--data.corpus", corpus, *options)
    # An epoch has 3 steps.
    assert error.startswith("error: step 4 (epoch 1, batch 1): the loss is nan, first in network.")
    assert f"first in network.{layer} ({kind}), from an input that was; documents " in error
    indices = [int(number) for number in error.partition("documents ")[2].split(", ")]
    assert len(indices) == 27
    checkpoint = torch.load(RUN / "checkpoints" / "last.ckpt", weights_only=True)
    assert checkpoint["epoch"] == 0
    assert all(bool(t.isfinite().all()) for t in checkpoint["state_dict"].values())


def test_a_gradient(
    corpus: Path,
    train_py: Command,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def poison(output: torch.Tensor) -> torch.Tensor:
        output = output * 1.0
        output.register_hook(lambda grad: grad * torch.inf)
        return output

    broken_at(monkeypatch, 2, "recurrent", poison)
    error = stopped(train_py, capsys, "--data.corpus", corpus, *SMALL, "--trainer.max_epochs=2")
    assert error.startswith("error: step 2 (epoch 0, batch 2): the gradient of network.embedding.")
    assert "network.recurrent.weight_hh_l0" in error
    assert "network.head.weight" not in error
    # It is made between the two, in what the one gives and the other takes.
    place = r"behind network\.(pooling \(Pooling\)|recurrent \(LSTM\)) on the way back"
    assert re.search(
        rf"finite, first ({place}|on the way back to network\.recurrent \(LSTM\));", error
    )
    assert not (RUN / "checkpoints" / "last.ckpt").exists()


def test_a_weight_is_named(
    corpus: Path,
    train_py: Command,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    train = TextClassification.training_step

    def step(self: TextClassification, batch: Any) -> torch.Tensor:
        if self.trainer.global_step == 1:
            with torch.no_grad():
                self.network.head.bias[0] = torch.nan
        return train(self, batch)

    monkeypatch.setattr(TextClassification, "training_step", step)
    error = stopped(train_py, capsys, "--data.corpus", corpus, *SMALL)
    assert "first in network.head (Linear), from an input that was, with bias not finite" in error


def test_it_changes_no_number(
    corpus: Path, train_py: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = (*SMALL, "--model.norm=batch", "--model.dropout=0.5", "--trainer.max_epochs=2")
    train_py("fit", "--data.corpus", corpus, *options)
    for name in ("on_train_batch_start", "on_before_backward", "on_before_optimizer_step"):
        monkeypatch.setattr(f"seqnorm.training.finite.StopAtNonFinite.{name}", lambda *_: None)
    train_py("fit", "--data.corpus", corpus, *options)
    one, two = (
        torch.load(f"runs/tiny/version_{n}/checkpoints/last.ckpt", weights_only=True)["state_dict"]
        for n in (0, 1)
    )
    assert all(torch.equal(one[name], two[name]) for name in one)
