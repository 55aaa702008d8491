"""The base of the DataModules."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar, Literal

from lightning.pytorch import LightningDataModule
from lightning.pytorch.trainer.states import TrainerFn

from seqnorm.datasets import BucketBatchSampler, Corpus, Fold, SeriesCorpus, Texts
from seqnorm.datasets.fetching import was_told

from ..checkpoints.checkpoint_file import Checkpoint, read_checkpoint
from .batches import Batches


class PartsDataModule(LightningDataModule, ABC):
    """Examples in parts, whose digests every checkpoint holds.

    A run cannot be resumed with other examples. Validation and test accept them. The constructor of
    a subclass has further options.

    Args:
        root: The folder that corpora are fetched into, and that holds the files of language
            benchmarks.
        noise: The largest difference between the lengths in a batch; see BucketBatchSampler.
        validation_fraction: The part of the training examples to choose the best epoch with, if the
            corpus has no validation part: a random choice of labelled examples, or the last ones of
            other texts.
        split_seed: The seed of that random choice and of the folds. It is not ``seed``, so that
            runs of all seeds train on the same examples.
        folds: The number of parts into which the training and validation examples are divided for
            cross-validation; null for no division. Language models have no folds.
        fold: The part, from 1 to ``folds``, that is the test part of this run. The best epoch is
            chosen with ``validation_fraction`` of the others. fit --folds trains all of them.
        seed: The seed of the order of the batches.

    Raises:
        ValueError: One of ``folds`` and ``fold`` is missing or out of range.
    """

    def __init__(
        self,
        *,
        root: str = "data",
        noise: float = 0.05,
        validation_fraction: float = 0.1,
        split_seed: int = 0,
        folds: int | None = None,
        fold: int | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.save_hyperparameters(logger=False)  # with the arguments of the subclass
        if folds is None and fold is not None:
            raise ValueError(f"data.fold {fold} needs data.folds, the number of folds")
        if folds is not None and fold is None:
            raise ValueError(
                f"data.folds {folds} needs data.fold, the number of the fold to test on; --folds "
                f"{folds} trains all of them"
            )
        self.fold = None if folds is None or fold is None else Fold(fold, folds, split_seed)

    examples: ClassVar[str]  # what the parts hold, in an error
    instead: ClassVar[str]  # what to do with examples that are neither trained on nor tested on
    no_test: ClassVar[str]  # how to get a test part
    _adopted: Checkpoint | None = None
    _alone: Literal["train", "validation", "test"] = "train"

    @property
    @abstractmethod
    def corpus(self) -> Corpus | Texts | SeriesCorpus:
        """The corpus, fetched if necessary."""

    @property
    def untold_notice(self) -> str:
        """Source and licence of the corpus, "" if they were shown when it was fetched."""
        return "" if was_told(self.corpus.notice) else self.corpus.notice

    @property
    @abstractmethod
    def has_test(self) -> bool:
        """True if the corpus has a test part."""

    @property
    @abstractmethod
    def columns(self) -> Mapping[str, tuple[Sequence[str | bytes], ...]]:
        """The examples of each part, in order, and their labels if they have labels."""

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
                f"{type(self).__name__} has {self.examples} to fit, validate and test with, and "
                f"none to {stage}: {self.instead}"
            )
        if stage == "test" and not self.has_test:
            raise ValueError(f"{self.corpus.name} has no test part: {self.no_test}")
        return stages[stage]

    def adopt(self, checkpoint: Checkpoint) -> None:
        """Prepare the data as for the model of a checkpoint, as by its tokenizer and classes."""
        self._adopted = checkpoint

    def evaluate_all(self, part: Literal["validation", "test"]) -> None:
        """Take a file of your own, or a folder of classes, as this part and not for training."""
        self._alone = part

    @property
    def adopted(self) -> Checkpoint | None:
        """The checkpoint that is evaluated, if one is."""
        return self._adopted

    def chosen(self, *names: str) -> dict[str, Any]:
        """Return the options of these names."""
        return {name: self.hparams[name] for name in names}

    @property
    def process(self) -> dict[str, int]:
        """The number of processes that train together, and the number of this one."""
        if not self.trainer:
            return {"num_replicas": 1, "rank": 0}
        return {"num_replicas": self.trainer.world_size, "rank": self.trainer.global_rank}

    def buckets(self, part: str, lengths: Sequence[int], **limits: Any) -> BucketBatchSampler:
        """Return batches of examples of similar ``lengths``, within these ``limits``."""
        options = {**self.chosen("seed", "noise"), **self.process, **limits}
        return BucketBatchSampler(lengths, shuffle=part == "train", **options)

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
                f"{path}: the run cannot be resumed, because the data have changed: "
                f"{self.examples}, labels or their order in the {parts} differ from those at its "
                "start; restore them, or start a new run"
            )

    def state_dict(self) -> dict[str, Any]:
        return {"parts": self.digests}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        assert self.trainer is not None
        if self.trainer.state.fn == TrainerFn.FITTING:
            self.check_same({type(self).__qualname__: state_dict}, self.trainer.ckpt_path)


class TextDataModule(PartsDataModule):
    """Texts in parts.

    Args:
        text_column: The column of the texts in your own files or in a data set of Hugging Face;
            null for "text", or in your own files without this column a guess, which is shown.
        delimiter: The character that separates the fields of your own .csv and .tsv files: comma,
            semicolon, tab, pipe or another character. null takes the file ending's, or another one
            if only that one finds the columns in the header.
        quotes: The meaning of quotation marks in such files: enclose (a field, whatever it holds),
            literal (a character like any other), or null: they enclose a field, but a field that
            seems to hold further records is an error.
        drop_unlabelled: Leave out rows without a label; otherwise they are an error.
        vocab_size: The largest number of tokens in the vocabulary; null for no limit.
        min_frequency: Tokens that occur less often in the training part are unknown. With 1 the
            training part has no unknown tokens, and a language model of words cannot learn to
            expect them.
        vocabulary: A checkpoint whose tokenizer, and whose classes if it has any, are used instead
            of the corpus's own.
        options: The other arguments of ``PartsDataModule``.
    """

    def __init__(
        self,
        *,
        text_column: str | None = None,
        delimiter: str | None = None,
        quotes: Literal["enclose", "literal"] | None = None,
        drop_unlabelled: bool = False,
        vocab_size: int | None = None,
        min_frequency: int = 1,
        vocabulary: str | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)

    examples = "texts"

    @property
    @abstractmethod
    def tokenizer(self) -> Any:
        """The tokenizer of the texts."""

    @property
    def tokenizer_json(self) -> str:
        """The tokenizer as JSON, for the constructor of a model."""
        return str(self.tokenizer.to_json())

    @property
    def adopted(self) -> Checkpoint | None:
        """The checkpoint whose vocabulary is used: that of ``adopt``, or of ``vocabulary``."""
        if self._adopted is None and self.hparams["vocabulary"] is not None:
            self._adopted = read_checkpoint(self.hparams["vocabulary"])
        if self._adopted is not None and "tokenizer" not in self._adopted.hyper_parameters:
            raise ValueError(f"{self._adopted.path} is not of a model of texts: no vocabulary")
        return self._adopted


def _digest(columns: tuple[Sequence[str | bytes], ...]) -> str:
    digest = hashlib.sha256()
    for column in columns:
        digest.update(b"%d:" % len(column))
        for value in column:
            written = value if isinstance(value, bytes) else value.encode("utf-8", "surrogatepass")
            digest.update(b"%d:%b" % (len(written), written))
    return digest.hexdigest()
