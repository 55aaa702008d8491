"""The base of the DataModules."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar

from lightning.pytorch import LightningDataModule
from lightning.pytorch.trainer.states import TrainerFn

from ..checkpoints.checkpoint_file import Checkpoint, read_checkpoint
from .batches import Batches


class TextDataModule(LightningDataModule, ABC):
    """Texts in parts, whose digests every checkpoint holds.

    A run cannot be resumed with other texts. Validation and test accept them.
    """

    instead: ClassVar[str]  # what to do with texts that are neither trained on nor tested on
    no_test: ClassVar[str]  # how to get a test part
    _adopted: Checkpoint | None = None

    @property
    @abstractmethod
    def corpus_name(self) -> str:
        """The name of the corpus."""

    @property
    @abstractmethod
    def has_test(self) -> bool:
        """True if the corpus has a test part."""

    @property
    @abstractmethod
    def tokenizer(self) -> Any:
        """The tokenizer of the texts."""

    @property
    def tokenizer_json(self) -> str:
        """The tokenizer as JSON, for the constructor of a model."""
        return str(self.tokenizer.to_json())

    @property
    @abstractmethod
    def columns(self) -> Mapping[str, tuple[Sequence[str], ...]]:
        """The texts of each part, in order, and their labels if they have labels."""

    @abstractmethod
    def loader(self, part: str) -> Batches[Any]:
        """Return the batches of a part."""

    def train_dataloader(self) -> Batches[Any]:
        return self.loader("train")

    def val_dataloader(self) -> Batches[Any]:
        return self.loader("validation")

    def test_dataloader(self) -> Batches[Any]:
        return self.loader("test")

    def parts_of(self, stage: str) -> tuple[str, ...]:
        """Return the parts that a stage of Lightning's needs.

        Raises:
            ValueError: The stage is not one to train or evaluate, or the corpus has no test part.
        """
        stages = {"fit": ("train", "validation"), "validate": ("validation",), "test": ("test",)}
        if stage not in stages:
            raise ValueError(
                f"{type(self).__name__} has texts to fit, validate and test with, and none to "
                f"{stage}: {self.instead}"
            )
        if stage == "test" and not self.has_test:
            raise ValueError(f"{self.corpus_name} has no test part: {self.no_test}")
        return stages[stage]

    def adopt(self, checkpoint: Checkpoint) -> None:
        """Use the tokenizer and the classes of a checkpoint instead of the corpus's own."""
        self._adopted = checkpoint

    @property
    def adopted(self) -> Checkpoint | None:
        """The checkpoint whose vocabulary is used: that of ``adopt``, or of ``vocabulary``."""
        if self._adopted is None and self.hparams["vocabulary"] is not None:
            self._adopted = read_checkpoint(self.hparams["vocabulary"])
        return self._adopted

    @property
    def processes(self) -> int:
        """The number of processes that train together."""
        return self.trainer.world_size if self.trainer else 1

    @property
    def rank(self) -> int:
        """The number of this process."""
        return self.trainer.global_rank if self.trainer else 0

    @cached_property
    def digests(self) -> dict[str, str]:
        """The digest of each part."""
        return {part: _digest(columns) for part, columns in self.columns.items()}

    def check_same(self, checkpoint: Mapping[str, Any], path: object) -> None:
        """Refuse a checkpoint of a run on other data, as far as it states its data.

        Raises:
            ValueError: A part differs; the error names it.
        """
        state = checkpoint.get(type(self).__qualname__)
        was = state.get("parts") if isinstance(state, Mapping) else None
        if not isinstance(was, Mapping):  # written by an earlier version
            return
        now = self.digests
        other = [part for part in now.keys() | was.keys() if was.get(part) != now.get(part)]
        if other:
            parts = f"{', '.join(sorted(map(str, other)))} part{'s' * (len(other) > 1)}"
            raise ValueError(
                f"{path}: the run cannot be resumed, because the data have changed: texts, labels "
                f"or their order in the {parts} differ from those at its start; restore them, or "
                "start a new run"
            )

    def state_dict(self) -> dict[str, Any]:
        return {"parts": self.digests}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        assert self.trainer is not None
        if self.trainer.state.fn == TrainerFn.FITTING:
            self.check_same({type(self).__qualname__: state_dict}, self.trainer.ckpt_path)


def _digest(columns: tuple[Sequence[str], ...]) -> str:
    digest = hashlib.sha256()
    for column in columns:
        digest.update(b"%d:" % len(column))
        for text in column:
            written = text.encode("utf-8", "surrogatepass")
            digest.update(b"%d:%b" % (len(written), written))
    return digest.hexdigest()
