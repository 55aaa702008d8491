"""The learning rate, the decaying parameters, and the loss."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from torch.nn import functional as F
from torch.utils.data import DataLoader

from seqnorm.datasets import TextBatch, Tokenizer
from seqnorm.training import TextClassification
from seqnorm.training.tasks.classification import balanced_weights

TOKENIZER = Tokenizer.train(["corn wheat", "goal team"]).to_json()


def module(**options: Any) -> TextClassification:
    sizes = {"embedding_size": 4, "hidden_size": 3}
    return TextClassification(TOKENIZER, ("grain", "sport"), **sizes, **options)


def rates(steps: int, **options: Any) -> list[float]:
    """Return the learning rate of the optimizer at every step."""
    model = module(**options)
    model._trainer = SimpleNamespace(estimated_stepping_batches=steps)
    configured = model.configure_optimizers()
    optimizer = configured["optimizer"]
    scheduler = configured["lr_scheduler"]["scheduler"]
    found = []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        assert optimizer.param_groups[1]["lr"] == found[-1]
        optimizer.step()
        scheduler.step()
    return found


def test_schedules() -> None:
    rise = [0.2 * k for k in (1, 2, 3, 4)]
    assert rates(8, lr=1.0, warmup=0.5, schedule="constant") == pytest.approx([*rise, 1, 1, 1, 1])
    assert rates(8, lr=1.0, warmup=0.5, schedule="linear") == pytest.approx(
        [*rise, 1, 0.75, 0.5, 0.25]
    )
    cosine = [(1 + math.cos(math.pi * k / 4)) / 2 for k in range(4)]
    assert rates(8, lr=1.0, warmup=0.5) == pytest.approx([*rise, *cosine])
    assert rates(4, lr=0.3, warmup=0, schedule="linear") == pytest.approx([0.3, 0.225, 0.15, 0.075])


def test_a_schedule_without_an_end() -> None:
    with pytest.raises(ValueError, match=r"needs an end: set trainer\.max_epochs"):
        rates(math.inf)  # type: ignore[arg-type]


@pytest.mark.parametrize("warmup", [-0.1, 1.0])
def test_bad_warmup(warmup: float) -> None:
    with pytest.raises(ValueError, match="warmup is a part of the training steps"):
        module(warmup=warmup)


@pytest.mark.parametrize("norm", ["layer", "rms", "batch", "batch_pooled", None])
@pytest.mark.parametrize("embedding", [False, True])
def test_what_decays(norm: str | None, embedding: bool) -> None:
    model = module(norm=norm, pooling="attention", decay_embedding=embedding, weight_decay=0.01)
    model._trainer = SimpleNamespace(estimated_stepping_batches=1)
    decayed, kept = model.configure_optimizers()["optimizer"].param_groups
    assert (decayed["weight_decay"], kept["weight_decay"]) == (0.01, 0.0)
    names = {id(p): name for name, p in model.network.named_parameters()}
    expected = {"head.weight", "pooling.projection.weight", "embedding_pooling.projection.weight"}
    expected |= {
        f"recurrent.weight_{place}_l0{direction}"
        for place in ("ih", "hh")
        for direction in ("", "_reverse")
    }
    if embedding:
        expected.add("embedding.weight")
    assert {names[id(p)] for p in decayed["params"]} == expected
    assert {names[id(p)] for p in kept["params"]} == set(names.values()) - expected


def test_the_loss_smooths_labels_in_training_only(monkeypatch: pytest.MonkeyPatch) -> None:
    model = module(label_smoothing=0.2).eval()
    logged: dict[str, Any] = {}
    monkeypatch.setattr(model, "log", lambda name, value, **_: logged.update({name: value}))
    monkeypatch.setattr(model, "log_dict", lambda values, **_: logged.update(values))
    model._trainer = SimpleNamespace(optimizers=[SimpleNamespace(param_groups=[{"lr": 0.5}])])
    labels = torch.tensor([0, 1])
    batch = TextBatch(torch.tensor([[2, 3], [4, 5]]), torch.tensor([2, 2]), labels, labels)
    chances = model(batch.tokens, batch.lengths).log_softmax(-1)
    plain = -(chances[0, 0] + chances[1, 1]) / 2
    loss = model.training_step(batch)
    torch.testing.assert_close(loss, 0.8 * plain - 0.2 * chances.mean())
    assert logged["lr"] == 0.5
    model.validation_step(batch)
    torch.testing.assert_close(logged["val_loss"], plain)
    torch.testing.assert_close(
        model.predict_step(batch), F.softmax(model(batch.tokens, batch.lengths), -1)
    )


def test_weights_of_the_classes() -> None:
    found = balanced_weights([30, 0, 10], 3)
    assert found.tolist() == pytest.approx([40 / (2 * 30), 0, 40 / (2 * 10)])
    assert float(found @ torch.tensor([30.0, 0.0, 10.0])) == pytest.approx(40), "a mean of 1"
    for counts, classes in ((None, 2), ([1], 2), ([-1, 1], 2)):
        with pytest.raises(ValueError, match="class_weights need class_counts"):
            balanced_weights(counts, classes)
    with pytest.raises(ValueError, match="are all 0"):
        balanced_weights([0, 0], 2)
    with pytest.raises(ValueError, match="class_weights need class_counts"):
        module(class_weights="balanced")


def test_the_weighted_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    """A document counts as many times as its weight says, whatever else is in its batch."""
    model = module(class_weights="balanced", class_counts=[30, 10], label_smoothing=0.1).eval()
    assert "class_weight" not in model.state_dict()
    assert dict(model.hparams)["class_counts"] == [30, 10]
    monkeypatch.setattr(model, "log", lambda *_, **__: None)
    model._trainer = SimpleNamespace(optimizers=[SimpleNamespace(param_groups=[{"lr": 0.5}])])
    tokens, lengths = torch.tensor([[2, 3], [4, 5], [2, 5]]), torch.tensor([2, 2, 2])
    labels = torch.tensor([0, 1, 0])
    loss = model.training_step(TextBatch(tokens, lengths, labels, labels))
    chances = model(tokens, lengths).log_softmax(-1)
    each = [-0.9 * chances[n, y] - 0.1 * chances[n].mean() for n, y in enumerate(labels.tolist())]
    expected = (each[0] * 2 / 3 + each[1] * 2 + each[2] * 2 / 3) / 3
    torch.testing.assert_close(loss, expected)
    repeated = TextClassification(**dict(model.hparams))
    torch.testing.assert_close(repeated.class_weight, torch.tensor([2 / 3, 2.0]))


@pytest.mark.filterwarnings("ignore:.*does not have many workers")
@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")
def test_the_loss_of_many_batches_in_half_precision() -> None:
    """A count in bfloat16 would stop at 256."""
    trainer = Trainer(
        precision="bf16-true",
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    model, label = module(), torch.tensor([0])
    batch = TextBatch(torch.tensor([[2, 3]]), torch.tensor([2]), label, label)
    losses = []
    for count in (1, 400):
        loader = DataLoader([batch] * count, batch_size=None)
        (values,) = trainer.validate(model, loader, verbose=False)
        losses.append(values["val_loss"])
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
