"""Texts for a language model: as one stream, or document by document."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any, Literal

from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from torch import Tensor
from torch.utils.data import Dataset

from seqnorm.datasets import (
    LanguageTokenizer,
    StreamWindows,
    TextDataset,
    Texts,
    collate_documents,
    load_texts,
)

from .base import TextDataModule
from .batches import Batches

NO_FOLDS = (
    "folds are for classification and regression: a language model is tested on texts that follow "
    "those of training; leave folds out and give a test part"
)


class LanguageData(TextDataModule):
    """Texts, to train a language model that predicts each token.

    As a *stream*, all texts of a part follow one another in ``batch_size`` parallel rows, which are
    read in windows of ``window`` tokens. The state is carried from window to window, and
    back-propagation ends at the beginning of a window. With ``reset_at_documents``, the state is
    the initial one again where a text begins. As *documents*, every text is read whole from the
    initial state, in batches of similar length. In both modes every token of a part is predicted
    exactly once an epoch.

    Args:
        corpus: The name of a corpus (r8, r52, 20news, imdb, mr, zh_reviews) or of a benchmark whose
            files are in ``root`` (ptb, wikitext2, text8); your own folder with train.txt and
            perhaps validation.txt and test.txt, one text a line; your own .txt file, table of texts
            or labelled files; torchtext:NAME for a data set of torchtext (PennTreebank, WikiText2,
            WikiText103, or a labelled one); or hf:NAME or hf:PATH for one of Hugging Face's library
            datasets.
        mode: The form of the texts: stream, or documents.
        level: The level of the tokens: character, or word (separated by white space).
        lowercase: Ignore the case of letters.
        window: The tokens of a stream through which a gradient flows back. BatchNorm of every time
            step counts its steps from the beginning of a window, in inference too; with
            ``reset_at_documents`` it counts them from the beginning of a text.
        reset_at_documents: Begin each text of a stream anew, without what the state holds of the
            text before.
        max_length: In training, cut documents after so many tokens; null for never.
        batch_size: The number of rows of the stream, over all processes, or of documents in a batch
            of each process.
        eval_batch_size: The same in evaluation. null takes as many documents as in training, or one
            row of the stream in each process, so that in a single process every token but the first
            is predicted with all of its context.
        options: The other arguments of ``TextDataModule``.

    Raises:
        ValueError: A size is below 1, or there are folds.
    """

    def __init__(
        self,
        corpus: str = "mr",
        *,
        mode: Literal["stream", "documents"] = "stream",
        level: Literal["word", "character"] = "character",
        lowercase: bool = False,
        window: int = 100,
        reset_at_documents: bool = False,
        max_length: int | None = None,
        batch_size: int = 32,
        eval_batch_size: int | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        sizes = self.chosen("window", "max_length", "batch_size", "eval_batch_size")
        for name, size in sizes.items():
            if size is not None and size < 1:
                raise ValueError(f"{name} must be at least 1, got {size}")
        if self.fold is not None:
            raise ValueError(NO_FOLDS)
        if reset_at_documents and mode == "documents":
            raise ValueError(
                "reset_at_documents is for mode stream, and mode documents reads every text from "
                "its beginning anyway: leave one of them out"
            )
        self._streams: dict[str, Tensor] = {}
        self._documents: dict[str, TextDataset] = {}
        self._unknown: dict[str, int] = {}

    instead = "score or continue texts with seqnorm predict"
    no_test = "give a folder with train.txt and test.txt"

    @cached_property
    def corpus(self) -> Texts:
        names = ["corpus", "root", "text_column", "delimiter", "quotes", "drop_unlabelled"]
        names += ["validation_fraction", "split_seed"]
        found = load_texts(**self.chosen(*names), alone=self._alone)
        if found.text_column is not None:  # checkpoints state a column that was guessed
            self.hparams["text_column"] = found.text_column
        if self.hparams["mode"] == "documents" and not found.ends:
            raise ValueError(
                f"{found.name} is one text without parts: read it with --data.mode stream"
            )
        if self.hparams["reset_at_documents"] and not found.ends:
            raise ValueError(
                f"{found.name} is one text without parts, so there is no document to begin with: "
                "leave data.reset_at_documents=false"
            )
        return found

    @cached_property
    def tokenizer(self) -> LanguageTokenizer:
        """The tokenizer, made from the training part only, or that of a checkpoint."""
        if self.adopted is not None:
            return LanguageTokenizer.from_json(self.adopted.hyper_parameters["tokenizer"])
        options = self.chosen("level", "vocab_size", "min_frequency", "lowercase")
        return LanguageTokenizer.learn(self.corpus.parts["train"], **options)

    @property
    def columns(self) -> dict[str, tuple[Sequence[str], ...]]:
        return {part: (texts,) for part, texts in self.corpus.parts.items()}

    @property
    def ends(self) -> bool:
        """True if each text ends with a token for its end, false for pieces of one long text."""
        return self.corpus.ends

    @property
    def has_test(self) -> bool:
        return "test" in self.corpus.parts

    def setup(self, stage: str) -> None:
        """Tokenise the parts that ``stage`` needs, unless that was done before.

        Raises:
            ValueError: The part does not exist.
        """
        for part in self.parts_of(stage):
            if part not in self._streams and part not in self._documents:
                self._tokenise(part)

    def _tokenise(self, part: str) -> None:
        texts = self.corpus.parts[part]
        if self.hparams["mode"] == "stream":
            tokens = self.tokenizer.stream(texts, ends=self.corpus.ends)
            self._streams[part] = tokens
            self._windows(part)  # raises now, not in training, if there are too few tokens
            count, unknown = len(tokens), int((tokens == self.tokenizer.unk_id).sum())
        else:
            cut = self.hparams["max_length"] if part == "train" else None
            documents = self.tokenizer.documents(texts, cut)
            self._documents[part] = TextDataset(documents)
            count = sum(len(ids) - 1 for ids in documents)
            unknown = sum(ids.count(self.tokenizer.unk_id) for ids in documents)
        if part == "train" and self.untold_notice:
            rank_zero_info(self.untold_notice)
        rank_zero_info(
            f"{part}: {len(texts):,} texts, {count:,} tokens to predict, {unknown / count:.2%} of "
            f"them unknown; {len(self.tokenizer):,} in the vocabulary"
        )
        self._unknown[part] = unknown
        if unknown and self._unknown.get("train") == 0:
            rank_zero_warn(
                f"{part}: {unknown:,} of the tokens are unknown, and none in the training part, so "
                "the model never learns to expect one, and they may dominate the perplexity: set "
                "data.min_frequency to 2, so that tokens that occur once in training are unknown"
            )

    def _batch_size(self, part: str) -> int:
        stream, processes = self.hparams["mode"] == "stream", self.process["num_replicas"]
        name = "batch_size"
        if part != "train" and self.hparams["eval_batch_size"] is not None:
            name = "eval_batch_size"
        elif part != "train" and stream:
            return processes
        size: int = self.hparams[name]
        if stream and size < processes:
            raise ValueError(
                f"data.{name} is the number of rows of a stream over all processes, and each "
                f"needs a row: {size} row(s) cannot be divided among {processes} processes"
            )
        return size

    def _windows(self, part: str) -> StreamWindows:
        rows, window, before = self._batch_size(part), self.hparams["window"], self.tokenizer.eos_id
        anew = before if self.hparams["reset_at_documents"] else None
        return StreamWindows(
            self._streams[part], rows, window, before, reset_at=anew, **self.process
        )

    def loader(self, part: str) -> Batches[object]:
        if self.hparams["mode"] == "stream":
            windows: Dataset[object] = self._windows(part)
            return Batches(windows, batch_size=None)
        documents: Dataset[object] = self._documents[part]
        lengths = [length - 1 for length in self._documents[part].lengths]
        sampler = self.buckets(part, lengths, batch_size=self._batch_size(part))
        return Batches(documents, batch_sampler=sampler, collate_fn=collate_documents)
