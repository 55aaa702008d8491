"""The LightningModule of a language model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from seqnorm.datasets import LanguageBatch, LanguageTokenizer
from seqnorm.models import LanguageModel
from seqnorm.models.language_model import LayerStates
from seqnorm.nn import steps_since_reset
from seqnorm.nn.statistics.moments import widen

from .base import Schedule, TaskModule
from .metrics import Surprisal


class Carried(NamedTuple):
    """The state of a stream between two batches.

    Attributes:
        states: The states of the layers.
        steps: The numbers (B,) of tokens since the last document began, if documents begin anew.
    """

    states: LayerStates
    steps: Tensor | None


class LanguageModelling(TaskModule[LanguageModel, Surprisal]):
    """A language model with its loss, metrics and optimizer.

    A batch states whether its sequences start or continue those of the batch before
    (``LanguageBatch.starts``). If they continue, the layers start with the states after the batch
    before, and no gradient flows back beyond it (truncated back-propagation through time). Where a
    batch has ``resets``, documents begin anew within it.
    Perplexity and bits per character are those of all tokens of a part together, without padding.

    Args:
        tokenizer: The tokenizer as JSON.
        ends: True if each text ends with a token for its end, which the pieces of one long text do
            not.
        lr: The highest learning rate.
        warmup: The part of the training steps over which the rate rises linearly to ``lr``.
        schedule: The course of the rate after the warm-up: cosine or linear (it falls to 0 at the
            end of training), or constant.
        weight_decay: The weight decay of AdamW. It applies to the weight matrices of the layers
            only.
        network: The arguments of ``seqnorm.models.LanguageModel``.
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
        )
        self.tokenizer = codes
        self.ends = ends
        self.register_buffer("token_characters", self.tokenizer.characters(), persistent=False)
        self._carried: dict[str, Carried] = {}
        self._began: dict[str, Carried] = {}

    @property
    def files(self) -> dict[str, str]:
        return {"tokenizer.json": self.tokenizer.to_json()}

    def forward(
        self, tokens: Tensor, lengths: Tensor | None = None, states: LayerStates | None = None
    ) -> tuple[Tensor, LayerStates]:
        """Call ``LanguageModel.forward``."""
        return self.network(tokens, lengths, states)

    def surprisal(self, batch: LanguageBatch, stage: str) -> Tensor:
        """Return -log p (N,) of every target of a batch; states are carried within a ``stage``."""
        before = None if batch.starts else self._carried[stage]
        self._began = {} if before is None else {stage: before}
        states, steps = (None, None) if before is None else before
        if batch.resets is not None and steps is None:
            steps = torch.zeros_like(batch.lengths)
        nats, after = self.network.surprisal(
            batch.tokens,
            batch.targets,
            batch.lengths,
            states,
            0 if steps is None else steps,
            batch.resets,
        )
        nats = widen(nats)  # half precision holds neither the sum nor the count of many tokens
        if batch.resets is not None and steps is not None:
            steps = steps_since_reset(batch.resets, steps, batch.lengths, batch_first=True)
        after = [tuple(part.detach() for part in parts) for parts in after]
        self._carried[stage] = Carried(after, steps)
        return nats

    def rewind(self) -> None:
        """Restore the states before the last batch, so that it can be run once more."""
        self._carried.update(self._began)

    def state_inside_epoch(self) -> dict[str, Any]:
        states, steps = self._carried.get("train", (None, None))
        return {**super().state_inside_epoch(), "carried": states, "steps": steps}

    def load_state_inside_epoch(self, state: Mapping[str, Any]) -> None:
        super().load_state_inside_epoch(state)
        if state["carried"] is not None:
            states = [tuple(parts) for parts in state["carried"]]
            self._carried["train"] = Carried(states, state.get("steps"))

    def training_step(self, batch: LanguageBatch) -> Tensor:
        nats = self.surprisal(batch, "train")
        # Processes may have different numbers of tokens, and their gradients are averaged. The
        # division gives every token of the step the same weight.
        tokens = self.trainer.strategy.reduce(nats.new_tensor(len(nats)), reduce_op="mean")
        assert isinstance(tokens, Tensor)
        loss = nats.sum() / tokens.clamp(min=1.0)
        self.log_means({"train_loss": nats.sum() / max(len(nats), 1)}, len(nats))
        self.log("lr", self.trainer.optimizers[0].param_groups[0]["lr"])
        return loss

    def characters(self, before: Tensor, targets: Tensor) -> Tensor:
        """Return the characters (N,) of ``targets`` (N,), each after the token ``before`` (N,)."""
        return self.tokenizer.characters_after(before, targets, self.token_characters)

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
