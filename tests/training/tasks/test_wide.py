"""The loss and the optimizer of a classifier with TF-IDF features, and two readings of a batch."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from torch.nn import functional as F
from torch.utils.data import DataLoader

from seqnorm.datasets import TextBatch, Tokenizer
from seqnorm.training import TextClassification
from seqnorm.training.tasks.classification import symmetric_divergence
from seqnorm.training.tasks.optimizer import AdamWAndSGD

TOKENIZER = Tokenizer.train(["corn wheat", "goal team"]).to_json()
BATCH = TextBatch(
    torch.tensor([[2, 3, 0], [4, 5, 4]]),
    torch.tensor([2, 3]),
    torch.tensor([0, 1]),
    torch.tensor([0, 1]),
)


def module(**options: Any) -> TextClassification:
    sizes = {"embedding_size": 4, "hidden_size": 3}
    made = TextClassification(TOKENIZER, ("grain", "sport"), **sizes, **options)
    made.log_means = lambda values, count: None  # type: ignore[method-assign]  # there is no trainer
    return made


def test_the_loss_has_both_parts() -> None:
    model = module(wide=True, part_loss=0.25, label_smoothing=0.1).eval()
    assert model.network.wide is not None
    torch.nn.init.normal_(model.network.wide.weight)
    deep, wide = model.network.parts(BATCH.tokens, BATCH.lengths)
    assert wide is not None
    losses = [
        F.cross_entropy(logits, BATCH.labels, label_smoothing=0.1)
        for logits in (deep + wide, deep, wide)
    ]
    loss, logits = model.loss_and_logits(BATCH)
    torch.testing.assert_close(loss, losses[0] + 0.25 * (losses[1] + losses[2]))
    torch.testing.assert_close(logits, deep + wide)


def test_the_optimizer_trains_tfidf_by_sgd() -> None:
    model = module(wide=True, wide_lr=0.7, lr=0.01, warmup=0.0)
    model._trainer = SimpleNamespace(estimated_stepping_batches=4)  # type: ignore[assignment]
    optimizer = model.configure_optimizers()["optimizer"]
    assert isinstance(optimizer, AdamWAndSGD)
    assert model.network.wide is not None
    by_sgd = [group for group in optimizer.param_groups if "momentum" in group]
    assert [group["params"] for group in by_sgd] == [[model.network.wide.weight]]
    assert [(group["lr"], group["momentum"]) for group in by_sgd] == [(0.7, 0.9)]
    held = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    assert len(held) == len({id(each) for each in held}) == len(list(model.parameters()))
    alone = module(lr=0.01)
    alone._trainer = model._trainer
    groups = alone.configure_optimizers()["optimizer"].param_groups
    assert not any("momentum" in group for group in groups)


def test_two_readings() -> None:
    model = module(consistency=2.0, dropout=0.5).train()
    torch.manual_seed(0)
    one, logits = model._read(BATCH)
    other, others = model._read(BATCH)
    assert not torch.equal(logits, others)
    torch.manual_seed(0)
    loss, returned = model.loss_and_logits(BATCH)
    p, q = logits.softmax(-1), others.softmax(-1)
    divergence = sum((a * (a / b).log()).sum(-1).mean() / 2 for a, b in ((p, q), (q, p)))
    torch.testing.assert_close(loss, (one + other) / 2 + 2.0 * divergence)
    assert torch.equal(returned, logits)


def test_divergence() -> None:
    logits = torch.randn(3, 4)
    assert symmetric_divergence(logits, logits) == 0
    other = torch.randn(3, 4)
    found = symmetric_divergence(logits, other)
    torch.testing.assert_close(found, symmetric_divergence(other, logits))
    p, q = logits.log_softmax(-1), other.log_softmax(-1)
    mean = (F.kl_div(q, p, log_target=True, reduction="batchmean") + 0) / 2
    mean = mean + F.kl_div(p, q, log_target=True, reduction="batchmean") / 2
    torch.testing.assert_close(found, mean)


@pytest.mark.filterwarnings("ignore:.*does not have many workers")
@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")
@pytest.mark.parametrize("options", [{"wide": True}, {"wide": True, "consistency": 1.0}])
def test_it_learns(options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    model = TextClassification(
        TOKENIZER, ("grain", "sport"), embedding_size=4, hidden_size=3, lr=0.02, **options
    )
    loader = DataLoader([BATCH] * 30, batch_size=None)
    trainer = Trainer(
        max_epochs=1,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    before = model.eval().loss_and_logits(BATCH)[0]
    trainer.fit(model.train(), loader, loader)
    assert model.eval().loss_and_logits(BATCH)[0] < 0.5 * before
    assert model.network.wide is not None
    assert model.network.wide.weight.abs().sum() > 0
