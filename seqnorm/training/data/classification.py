"""Labelled texts: fetched, split, tokenised and batched by length."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

from seqnorm.datasets import (
    CORPORA,
    AnyTokenizer,
    Corpus,
    Documents,
    Item,
    Pipeline,
    TextDataset,
    Tokenizer,
    TorchtextTokenizer,
    collate,
    default_kind,
    load_corpus,
    read_vectors,
    read_vectors_by_torchtext,
    split_last,
    split_validation,
    tokenizer_from_json,
    torchtext_tokens,
)
from seqnorm.datasets.tokenizing import check_texts

from ..checkpoints.checkpoint_file import Checkpoint
from .base import TextDataModule
from .batches import Batches
from .overview import class_table, length_line


class TextData(TextDataModule):
    """Labelled texts, to train a classifier.

    Args:
        corpus: The name of a corpus (r8, r52, 20news, imdb, mr, zh_reviews), the path of your own
            file or folder, torchtext:NAME for a data set of torchtext, or hf:NAME or hf:PATH for
            one of Hugging Face's library datasets.
        label_column: The column of the labels in your own files; null for "label", or in files
            without this column a guess, which is shown.
        language: The language of your own files, as en or zh; null for unknown.
        test_fraction: The part of your own files to split off as a test part if they have none.
        pipeline: The library that makes tokens and vocabulary: tokenizers, or torchtext, which
            needs torch 2.3 and gives the same tokens of the kinds word and character.
        torchtext_tokens: The name of a tokenizer for torchtext's get_tokenizer, as basic_english;
            null for tokens of ``kind``.
        kind: The kind of tokens; null chooses by the corpus's language.
        lowercase: Ignore the case of letters.
        max_length: Cut documents after so many tokens; null for never.
        batch_size: The number of documents in a batch; null to limit batches by max_tokens only.
        max_tokens: The largest number of tokens in a batch, padding included; null for no limit.
        validation: The documents of every class that are split off for validation: random, last in
            the corpus, or nothing: then the model is trained on all of them for a number of epochs
            that was chosen before, and the last epoch is tested.
        vectors: A file of pretrained word vectors, as of GloVe or fastText, with which the
            embeddings of its words start; null for no file.
        options: The other arguments of ``TextDataModule``.
    """

    def __init__(
        self,
        corpus: str = "r8",
        *,
        label_column: str | None = None,
        language: str | None = None,
        test_fraction: float | None = None,
        pipeline: Pipeline = "tokenizers",
        torchtext_tokens: str | None = None,
        kind: Literal["word", "character", "bpe"] | None = None,
        lowercase: bool = True,
        max_length: int | None = 200,
        batch_size: int | None = 32,
        max_tokens: int | None = None,
        validation: Literal["random", "last", "nothing"] = "random",
        vectors: str | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        if torchtext_tokens is not None and pipeline != "torchtext":
            raise ValueError(
                "data.torchtext_tokens is for the torchtext pipeline: set data.pipeline torchtext"
            )
        self._parts: dict[str, TextDataset] = {}
        self._uncut: dict[str, list[int]] = {}  # the lengths of whole documents

    instead = "label texts with seqnorm predict"
    no_test = (
        "set test_fraction before training, to split one off, or give a folder with train.csv and "
        "test.csv"
    )

    @cached_property
    def corpus(self) -> Corpus:
        names = ["root", "text_column", "label_column", "delimiter", "quotes", "drop_unlabelled"]
        options = self.chosen(*names, "language", "test_fraction")
        found = load_corpus(self.hparams["corpus"], alone=self._alone, fold=self.fold, **options)
        if found.columns is not None:  # checkpoints state the columns that were guessed
            self.hparams["text_column"], self.hparams["label_column"] = found.columns
        return found

    @cached_property
    def _documents(self) -> dict[str, Documents]:
        train, validation = self.corpus.train, self.corpus.validation
        fraction = self.hparams["validation_fraction"]
        if not train.texts:  # a file that is evaluated only
            validation = validation or train
        elif self.hparams["validation"] == "nothing":
            if validation is not None:
                train = Documents(
                    (*train.texts, *validation.texts), (*train.labels, *validation.labels)
                )
            validation = Documents((), ())
        elif validation is None and self.hparams["validation"] == "last":
            train, validation = split_last(train, fraction)
        elif validation is None:
            train, validation = split_validation(train, fraction, self.hparams["split_seed"])
        return {"train": train, "validation": validation, "test": self.corpus.test}

    @property
    def columns(self) -> dict[str, tuple[Sequence[str], ...]]:
        classes = self.corpus.classes
        return {
            part: (texts, [classes[label] for label in labels])
            for part, (texts, labels) in self._documents.items()
        }

    @property
    def test_names(self) -> tuple[str, Sequence[str]]:
        """The heading of a column that names the test documents, and these names: the texts."""
        return "text", self.corpus.test.texts

    @property
    def adopted(self) -> Checkpoint | None:
        found = super().adopted
        if found is not None and found.task != "classification":
            raise ValueError(f"{found.path} is not of a classifier: it has no classes")
        return found

    @cached_property
    def tokenizer(self) -> AnyTokenizer:
        """The tokenizer, trained on the training part only, or that of a checkpoint."""
        if self.adopted is not None:
            return tokenizer_from_json(self.adopted.hyper_parameters["tokenizer"])
        kind = self.hparams["kind"] or default_kind(self.corpus.language)
        options = self.chosen("vocab_size", "min_frequency", "lowercase")
        texts = self._documents["train"].texts
        if self.hparams["pipeline"] == "torchtext":
            tokens = torchtext_tokens(self.hparams["torchtext_tokens"], kind)
            return TorchtextTokenizer.train(texts, tokens=tokens, **options)
        return Tokenizer.train(texts, kind=kind, **options)

    @cached_property
    def vectors(self) -> tuple[Tensor, Tensor] | None:
        """Vectors (V, E) of the tokens, and which tokens (V,) have one; None without a file."""
        path = self.hparams["vectors"]
        if path is None:
            return None
        by_torchtext = self.hparams["pipeline"] == "torchtext"
        read = read_vectors_by_torchtext if by_torchtext else read_vectors
        return read(path, self.tokenizer.vocabulary)

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes, in the order of their numbers in a batch."""
        if self.adopted is None:
            return self.corpus.classes
        return tuple(self.adopted.hyper_parameters["classes"])

    @property
    def class_counts(self) -> list[int]:
        """The number of training documents of each class, in the order of ``classes``."""
        counts = Counter(self.corpus.classes[label] for label in self._documents["train"].labels)
        return [counts[name] for name in self.classes]

    @property
    def is_own(self) -> bool:
        """True if the corpus is a file or folder of your own."""
        name = str(self.hparams["corpus"])
        return name not in CORPORA and Path(name).exists()

    @property
    def has_test(self) -> bool:
        return bool(self.corpus.test.texts)

    @property
    def training_tokens(self) -> Sequence[Sequence[int]]:
        """The tokens of every training document, once ``setup("fit")`` has run."""
        return self._parts["train"].tokens

    def setup(self, stage: str) -> None:
        """Tokenise the parts that ``stage`` needs, unless that was done before.

        Raises:
            ValueError: The part does not exist, or a class is missing in the checkpoint that is
                used.
        """
        parts = self.parts_of(stage)
        missing = [part for part in parts if part not in self._parts]
        for part in missing:
            self._parts[part] = self._encode(self._documents[part], part)
        if not self._documents["validation"].texts and stage in ("fit", "validate"):
            if stage == "validate":
                raise ValueError(
                    f"{self.corpus.name} has no validation part, because data.validation is nothing"
                )
            if self.trainer is not None:
                self.trainer.limit_val_batches = 0
        if stage == "fit" and missing:
            sizes = ", ".join(f"{len(self._parts[part])} for {part}" for part in parts)
            about = f"{sizes}; {len(self.tokenizer)} tokens; {len(self.classes)} classes"
            lines = [self.untold_notice, str(self.corpus.report), self.corpus.told]
            lines.append(f"Documents: {about}")
            found = {part: documents.labels for part, documents in self._documents.items()}
            labels = {part: each for part, each in found.items() if each}
            lines.append(class_table(self.corpus.classes, labels))
            lines.append(length_line(self._uncut["train"], self.hparams["max_length"]))
            rank_zero_info("\n".join(filter(None, lines)))

    def _encode(self, documents: Documents, part: str) -> TextDataset:
        numbers = {name: number for number, name in enumerate(self.classes)}
        if unknown := set(self.corpus.classes) - set(numbers):
            raise ValueError(
                f"{self.corpus.name} has classes that the checkpoint was not trained on: "
                f"{', '.join(sorted(unknown))}; it knows {', '.join(self.classes)}"
            )
        labels = [numbers[self.corpus.classes[label]] for label in documents.labels]
        longest = self.hparams["max_length"]
        check_texts(documents.texts, longest)
        tokens = self.tokenizer.encode(documents.texts)
        self._uncut[part] = [len(ids) for ids in tokens]
        return TextDataset([ids[:longest] for ids in tokens], labels)

    def loader(self, part: str) -> Batches[Item]:
        limits = self.chosen("batch_size", "max_tokens")
        sampler = self.buckets(part, self._parts[part].lengths, **limits)
        rank_zero_info(
            f"{part}: {len(sampler)} batches, {sampler.padding_waste():.1%} of their cells padding"
        )
        return Batches(self._parts[part], batch_sampler=sampler, collate_fn=collate)
