"""A small model with norms of the batch and a short training, to test ``NormStatistics``.

Axes: B rows, T steps, F features.
"""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader

import seqnorm
from seqnorm.training import NormStatistics

LENGTHS = [[6, 4, 4, 1], [3, 3, 2, 2], [7, 5, 2, 1], [4, 4, 4, 4]]
STEPS, B, INPUTS = 5, 4, 3
SITE = "layer.norm_ih_l0"


class Batches(torch.utils.data.Dataset[tuple[Tensor, Tensor]]):
    def __len__(self) -> int:
        return len(LENGTHS)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(index)
        x = torch.randn(B, max(LENGTHS[index]), INPUTS, generator=generator) * (index + 1)
        return x, torch.tensor(LENGTHS[index])


class Model(LightningModule):
    """A normalised LSTM and a BatchNorm of torch after it; it records the inputs of its norms."""

    def __init__(self, norm: str = "batch", torch_norm: bool = True, **options: Any) -> None:
        super().__init__()
        torch.manual_seed(0)
        kind = seqnorm.Norm(norm, **options)
        scheme = seqnorm.NormScheme(input=kind)
        self.layer = seqnorm.LSTM(INPUTS, 2, batch_first=True, norm=scheme)
        self.dropout = nn.Dropout(0.3)
        self.torch_norm = nn.BatchNorm1d(2) if torch_norm else nn.Identity()
        self.seen: list[dict[str, Any]] = []

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        output, _ = self.layer(x, lengths=lengths)
        last = output[torch.arange(B), lengths - 1]
        if self.training and torch.is_grad_enabled():
            self.remember(x, lengths, last)
        return self.torch_norm(last)  # type: ignore[no-any-return]

    def remember(self, x: Tensor, lengths: Tensor, last: Tensor) -> None:
        projected = x @ self.weight.T
        rows = [projected[lengths > step, step] for step in range(x.shape[1])]
        if self.layer.norm_ih_l0.norm.over_time:
            rows = [torch.cat(rows)]
        self.seen.append({"rows": rows, "table": self.before, "torch": (last.detach(), self.torch)})

    def training_step(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        self.weight = self.layer.weight_ih_l0.detach().clone()
        self.before = {k: v.clone() for k, v in self.layer.state_dict().items() if "table" in k}
        self.torch = {k: v.clone() for k, v in self.torch_norm.state_dict().items()}
        return self.dropout(self(*batch)).square().sum() + self.layer.weight_hh_l0.sum()

    def validation_step(self, batch: tuple[Tensor, Tensor]) -> None:
        self(*batch)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.05)


def fit(model: LightningModule, *callbacks: Callback, epochs: int = 2, **options: Any) -> Trainer:
    loader = DataLoader(Batches(), batch_size=None)
    silent = ("enable_progress_bar", "enable_model_summary", "enable_checkpointing", "logger")
    checkpoint = options.pop("ckpt_path", None)
    validation = options.pop("validation", False)
    settings: dict[str, Any] = (
        dict.fromkeys(silent, False) | {"max_epochs": epochs, "log_every_n_steps": 1} | options
    )
    settings["limit_val_batches"] = float(validation)
    trainer = Trainer(callbacks=list(callbacks), accelerator="cpu", **settings)
    torch.manual_seed(1)
    trainer.fit(model, loader, loader, ckpt_path=checkpoint)
    return trainer


def quiet(**options: Any) -> NormStatistics:
    return NormStatistics(min_rows=0, max_drift=1e9, tolerated=0.99, **options)
