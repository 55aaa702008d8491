"""Training and evaluating a language model."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from seqnorm.datasets import LanguageBatch, LanguageTokenizer
from seqnorm.models import LanguageModel
from seqnorm.models.language_model import LayerStates
from seqnorm.nn.statistics.moments import widen

from .module import Schedule, TextModule


class Surprisal(Metric):
    """Sums -log p of tokens, and counts them and the characters that they stand for.

    Sums of batches of any size, and of several processes, add up to what one batch of all would
    give.
    """

    full_state_update = False
    nats: Tensor
    tokens: Tensor
    characters: Tensor

    def __init__(self) -> None:
        super().__init__()
        zero, count = torch.zeros((), dtype=torch.float64), torch.zeros((), dtype=torch.int64)
        self.add_state("nats", zero, dist_reduce_fx="sum")
        self.add_state("tokens", count, dist_reduce_fx="sum")
        self.add_state("characters", count.clone(), dist_reduce_fx="sum")

    def update(self, nats: Tensor, characters: Tensor) -> None:
        """Takes in -log p (N,) of tokens that stand for ``characters`` (N,)."""
        # A module that is cast as a whole, for half precision, takes this sum along, and it would
        # soon be too large for what a batch adds.
        self.nats = self.nats.double() + nats.sum(dtype=torch.float64)
        self.tokens += len(nats)
        self.characters += characters.sum()

    def compute(self) -> dict[str, Tensor]:
        """loss (nats a token), perplexity, bits_per_character, and what was counted."""
        loss = self.nats / self.tokens
        return {
            "loss": loss,
            "perplexity": loss.exp(),
            "bits_per_character": self.nats / math.log(2) / self.characters,
            "tokens": self.tokens,
            "characters": self.characters,
        }


class LanguageModelling(TextModule[LanguageModel, Surprisal]):
    """A language model with its loss, metrics and optimizer.

    Batches say whether their sequences begin or go on from those before (``LanguageBatch.starts``).
    Where they go on, the layers begin in the states that the batch before left, and no gradient
    goes back beyond it (truncated back-propagation through time). Perplexity and bits per
    character are those of all tokens of a part together, padding not counted.

    Args:
        tokenizer: JSON of the tokenizer.
        ends: whether texts end, in a token of their own, or are pieces of one.
        lr: highest learning rate.
        warmup: part of the training steps over which the rate rises linearly to ``lr``.
        schedule: how it then falls to 0 at the end of training: cosine, linear, or constant (not
            at all).
        weight_decay: of AdamW, on the layers' weight matrices only.
        network: the arguments of ``seqnorm.models.LanguageModel``.
    """

    token_characters: Tensor

    def __init__(
        self,
        tokenizer: str,
        *,
        ends: bool = True,
        lr: float = 5e-3,
        warmup: float = 0.05,
        schedule: Schedule = "cosine",
        weight_decay: float = 0.0,
        **network: Any,
    ) -> None:
        codes = LanguageTokenizer.from_json(tokenizer)
        super().__init__(
            LanguageModel(len(codes), pad_id=LanguageTokenizer.pad_id, **network),
            {stage: Surprisal() for stage in ("val", "test")},
            ("train_loss",),
            lr=lr,
            warmup=warmup,
            schedule=schedule,
            weight_decay=weight_decay,
        )
        self.save_hyperparameters(logger=False)
        self.tokenizer = codes
        self.ends = ends
        self.register_buffer("token_characters", self.tokenizer.characters(), persistent=False)
        self._words = codes.level == "word"
        self._states: dict[str, LayerStates] = {}
        self._began: dict[str, LayerStates] = {}

    def forward(
        self, tokens: Tensor, lengths: Tensor | None = None, states: LayerStates | None = None
    ) -> tuple[Tensor, LayerStates]:
        """``LanguageModel.forward``."""
        return self.network(tokens, lengths, states)

    def surprisal(self, batch: LanguageBatch, stage: str) -> Tensor:
        """-log p of every target of a batch (N,); what goes on, goes on within ``stage``."""
        before = None if batch.starts else self._states[stage]
        self._began = {} if before is None else {stage: before}
        nats, after = self.network.surprisal(batch.tokens, batch.targets, batch.lengths, before)
        nats = widen(nats)  # of many tokens half precision holds neither the sum nor the count
        self._states[stage] = [tuple(part.detach() for part in parts) for parts in after]
        return nats

    def rewind(self) -> None:
        """Go back to where the last batch began, so that it can be run once more."""
        self._states.update(self._began)

    def state_inside_epoch(self) -> dict[str, Any]:
        return {**super().state_inside_epoch(), "carried": self._states.get("train")}

    def load_state_inside_epoch(self, state: Mapping[str, Any]) -> None:
        super().load_state_inside_epoch(state)
        if state["carried"] is not None:
            self._states["train"] = [tuple(parts) for parts in state["carried"]]

    def training_step(self, batch: LanguageBatch) -> Tensor:
        nats = self.surprisal(batch, "train")
        # Of several processes each may have another number of tokens, and their gradients are
        # averaged: every token of the step is to weigh alike.
        tokens = self.trainer.strategy.reduce(nats.new_tensor(len(nats)), reduce_op="mean")
        assert isinstance(tokens, Tensor)
        loss = nats.sum() / tokens.clamp(min=1.0)
        self.log_means({"train_loss": nats.sum() / max(len(nats), 1)}, len(nats))
        self.log("lr", self.trainer.optimizers[0].param_groups[0]["lr"])
        return loss

    def characters(self, before: Tensor, targets: Tensor) -> Tensor:
        """(N,) characters that ``targets`` (N,) stand for, each after the token ``before`` (N,)."""
        found = self.token_characters[targets]
        if self._words:  # the first of a line has no space before it, which others bring along
            words = (targets != self.tokenizer.eos_id) & (found > 0)
            found = found - (words & (before == self.tokenizer.eos_id)).to(found.dtype)
        return found

    def evaluate(self, stage: str, batch: LanguageBatch) -> None:
        nats = self.surprisal(batch, stage)
        steps = torch.arange(batch.targets.shape[1], device=nats.device)
        valid = steps < batch.lengths.to(nats.device)[:, None]
        found = self.characters(batch.tokens[valid], batch.targets[valid])
        self.metric(stage).update(nats, found)

    def log_metrics(self, stage: str) -> None:
        values = self.metric(stage).compute()
        kept = ("loss", "perplexity", "bits_per_character")
        logged = {f"{stage}_{name}": values[name].float() for name in kept}
        self.log_dict(logged, prog_bar=True, sync_dist=True)

    def decays(self, name: str, parameter: Tensor) -> bool:
        return parameter.ndim > 1 and name.startswith("layers")
