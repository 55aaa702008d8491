"""Labelled texts: fetched, split, tokenised and batched by length."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any, Literal

from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

from seqnorm.datasets import (
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

from ..checkpoints.checkpoint_file import Checkpoint
from .base import TextDataModule
from .batches import Batches


class TextData(TextDataModule):
    """Labelled texts, to train a classifier.

    Args:
        corpus: The name of a corpus (r8, r52, 20news, imdb, mr, zh_reviews), the path of your own
            file or folder, torchtext:NAME for a data set of torchtext, or hf:NAME or hf:PATH for
            one of Hugging Face's library datasets.
        label_column: The column of the labels in your own files; null for "label".
        language: The language of your own files, as en or zh; null for unknown.
        test_fraction: The part of your own files to split off as a test part if they have none.
        pipeline: The library that makes tokens and vocabulary: tokenizers, or torchtext, which
            needs torch 2.3 and gives the same tokens of the kinds word and character.
        torchtext_tokens: The name of a tokenizer for torchtext's get_tokenizer, as basic_english;
            null for tokens of ``kind``.
        kind: The kind of tokens; null chooses by the corpus's language.
        lowercase: Ignore case.
        max_length: Cut documents after so many tokens; null for never.
        batch_size: Documents in a batch; null to limit batches by max_tokens only.
        max_tokens: Most tokens in a batch, padding included; null for no limit.
        validation: The documents of every class that are split off for validation: random, or last
            in the corpus.
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
        validation: Literal["random", "last"] = "random",
        vectors: str | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        if torchtext_tokens is not None and pipeline != "torchtext":
            raise ValueError(
                "data.torchtext_tokens is for the torchtext pipeline: set data.pipeline torchtext"
            )
        self._parts: dict[str, TextDataset] = {}

    instead = "label texts with seqnorm predict"
    no_test = (
        "set test_fraction before training, to split one off, or give a folder with train.csv and "
        "test.csv"
    )

    @cached_property
    def corpus(self) -> Corpus:
        names = ["root", "text_column", "label_column", "delimiter", "quotes", "drop_unlabelled"]
        options = self.chosen(*names, "language", "test_fraction")
        return load_corpus(self.hparams["corpus"], **options)

    @cached_property
    def _documents(self) -> dict[str, Documents]:
        train, validation = self.corpus.train, self.corpus.validation
        fraction = self.hparams["validation_fraction"]
        if validation is None and self.hparams["validation"] == "last":
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
            self._parts[part] = self._encode(self._documents[part])
        if stage == "fit" and missing:
            sizes = ", ".join(f"{len(self._parts[part])} for {part}" for part in parts)
            about = f"{sizes}; {len(self.tokenizer)} tokens; {len(self.classes)} classes"
            lines = [self.untold_notice, str(self.corpus.report), f"Documents: {about}"]
            rank_zero_info("\n".join(filter(None, lines)))

    def _encode(self, documents: Documents) -> TextDataset:
        numbers = {name: number for number, name in enumerate(self.classes)}
        if unknown := set(self.corpus.classes) - set(numbers):
            raise ValueError(
                f"{self.corpus.name} has classes that the checkpoint was not trained on: "
                f"{', '.join(sorted(unknown))}; it knows {', '.join(self.classes)}"
            )
        labels = [numbers[self.corpus.classes[label]] for label in documents.labels]
        tokens = self.tokenizer.encode(documents.texts, self.hparams["max_length"])
        return TextDataset(tokens, labels)

    def loader(self, part: str) -> Batches[Item]:
        limits = self.chosen("batch_size", "max_tokens")
        sampler = self.buckets(part, self._parts[part].lengths, **limits)
        rank_zero_info(
            f"{part}: {len(sampler)} batches, {sampler.padding_waste():.1%} of their cells padding"
        )
        return Batches(self._parts[part], batch_sampler=sampler, collate_fn=collate)
