"""Training ends at the first NaN or infinity, with a report of where it arose."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from lightning.pytorch import LightningModule
from small_runs import SMALL

from seqnorm.training import TextClassification
from seqnorm.training.callbacks.finite import StopAtNonFinite

RUN = Path("runs/tiny/version_0")
Command = Callable[..., None]


def broken_at(
    monkeypatch: pytest.MonkeyPatch, step: int, layer: str, how: Callable[[torch.Tensor], Any]
) -> None:
    """Apply ``how`` to the output of a layer whenever a certain step of training is run."""
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


def stopped(run_seqnorm: Command, capsys: pytest.CaptureFixture[str], *arguments: Any) -> str:
    with pytest.raises(SystemExit) as stop:
        run_seqnorm("fit", *arguments)
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
    run_seqnorm: Command,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    broken_at(monkeypatch, 4, layer, lambda output: output * value)
    options = (*SMALL, "--model.norm=batch", "--trainer.max_epochs=3")
    error = stopped(run_seqnorm, capsys, "--data.corpus", corpus, *options)
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
    run_seqnorm: Command,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def poison(output: torch.Tensor) -> torch.Tensor:
        output = output * 1.0
        output.register_hook(lambda grad: grad * torch.inf)
        return output

    broken_at(monkeypatch, 2, "recurrent", poison)
    error = stopped(run_seqnorm, capsys, "--data.corpus", corpus, *SMALL, "--trainer.max_epochs=2")
    assert error.startswith("error: step 2 (epoch 0, batch 2): the gradient of network.embedding.")
    assert "network.recurrent.weight_hh_l0" in error
    assert "network.head.weight" not in error
    # The NaN arises between the two layers.
    place = r"behind network\.(pooling \(Pooling\)|recurrent \(LSTM\)) on the way back"
    assert re.search(
        rf"finite, first ({place}|on the way back to network\.recurrent \(LSTM\));", error
    )
    assert not (RUN / "checkpoints" / "last.ckpt").exists()


def test_a_weight_is_named(
    corpus: Path,
    run_seqnorm: Command,
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
    error = stopped(run_seqnorm, capsys, "--data.corpus", corpus, *SMALL)
    assert "first in network.head (Linear), from an input that was, with bias not finite" in error


def test_weights_after_the_last_step(
    corpus: Path,
    run_seqnorm: Command,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Keep the checkpoint of the epoch before, although no later loss or gradient shows the NaN."""

    def end(self: TextClassification, *arguments: Any) -> None:
        if self.trainer.global_step == 6:  # an epoch has 3 steps
            with torch.no_grad():
                self.network.head.bias[0] = torch.inf

    arguments = ("--data.corpus", corpus, *SMALL, "--trainer.max_epochs=2")
    with monkeypatch.context() as patch:
        patch.setattr(TextClassification, "on_train_batch_end", end)
        error = stopped(run_seqnorm, capsys, *arguments)
    assert error == (
        "error: after step 6 (epoch 1): what is not finite is network.head.bias; no checkpoint is "
        "written"
    )
    for name in ("best", "last"):
        checkpoint = torch.load(RUN / "checkpoints" / f"{name}.ckpt", weights_only=True)
        assert checkpoint["epoch"] == 0
        assert all(bool(t.isfinite().all()) for t in checkpoint["state_dict"].values())
    run_seqnorm("fit", "--ckpt_path", RUN / "checkpoints" / "last.ckpt")


class Line(LightningModule):
    """A model of one layer, with dropout before it."""

    def __init__(self) -> None:
        super().__init__()
        self.drop = torch.nn.Dropout(0.5)
        self.layer = torch.nn.Linear(64, 1)

    def training_step(self, batch: torch.Tensor) -> torch.Tensor:
        return self.layer(self.drop(batch)).sum()  # type: ignore[no-any-return]


def test_half_precision_in_which_no_step_is_taken() -> None:
    scaler = SimpleNamespace(get_scale=lambda: 0.0625)
    plugin = SimpleNamespace(scaler=scaler, forward_context=nullcontext)
    trainer: Any = SimpleNamespace(
        world_size=1, global_step=0, current_epoch=0, precision_plugin=plugin
    )
    model, stop, optimizer = Line(), StopAtNonFinite(), cast("torch.optim.Optimizer", None)

    def step(value: float) -> None:
        stop.on_train_batch_start(trainer, model, torch.ones(2, 64), 5)
        for parameter in model.parameters():
            parameter.grad = torch.full_like(parameter, value)
        stop.on_before_optimizer_step(trainer, model, optimizer)

    for _ in range(5):
        step(torch.nan)
    with pytest.raises(FloatingPointError, match=r"in all 5 the gradients .* fallen to 0\.0625"):
        stop.on_train_end(trainer, model)
    step(1.0)
    stop.on_train_end(trainer, model)
    for _ in range(19):
        step(torch.inf)
    held, stop = stop.state_dict(), StopAtNonFinite()  # as in a resumed run
    stop.load_state_dict(held)
    stop.on_train_end(trainer, model)
    message = r"layer\.bias is not finite in 20 steps in a row, left out; the scale is 0\.0625, wh"
    with pytest.raises(FloatingPointError, match=message):
        step(torch.inf)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="a GPU has draws of its own")
def test_the_draws_of_a_gpu_are_repeated() -> None:
    trainer: Any = SimpleNamespace(world_size=1, precision_plugin=None)
    model, stop, batch = Line().cuda(), StopAtNonFinite(), torch.ones(2, 64, device="cuda")
    stop.on_train_batch_start(trainer, model, batch, 0)
    found = [model.training_step(batch)]
    after = torch.cuda.get_rng_state()

    def watch(model: Any, batch: torch.Tensor, number: int) -> str:
        found.append(model.training_step(batch))
        return ""

    stop._again(trainer, model, watch)
    assert torch.equal(*found)
    assert torch.equal(torch.cuda.get_rng_state(), after)


def test_it_changes_no_number(
    corpus: Path, run_seqnorm: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = (*SMALL, "--model.norm=batch", "--model.dropout=0.5", "--trainer.max_epochs=2")
    run_seqnorm("fit", "--data.corpus", corpus, *options)
    for name in ("on_train_batch_start", "on_before_backward", "on_before_optimizer_step"):
        monkeypatch.setattr(
            f"seqnorm.training.callbacks.finite.StopAtNonFinite.{name}", lambda *_: None
        )
    run_seqnorm("fit", "--data.corpus", corpus, *options)
    one, two = (
        torch.load(f"runs/tiny/version_{n}/checkpoints/last.ckpt", weights_only=True)["state_dict"]
        for n in (0, 1)
    )
    assert all(torch.equal(one[name], two[name]) for name in one)
