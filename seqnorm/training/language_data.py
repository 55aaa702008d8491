"""Texts for a language model as Lightning wants them: as one stream, or document by document."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Literal

from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from torch import Tensor
from torch.utils.data import Dataset

from seqnorm.datasets import (
    BucketBatchSampler,
    LanguageTokenizer,
    StreamWindows,
    TextDataset,
    Texts,
    collate_documents,
    load_texts,
)

from .checkpoint import load_checkpoint
from .inside_epoch import Batches
from .parts import PartsData


class LanguageData(PartsData):
    """Texts to be predicted token by token.

    As a *stream*, all texts of a part stand one after the other, in ``batch_size`` parallel rows,
    which are read in windows of ``window`` tokens; the state goes on from window to window, and
    back-propagation ends at a window's beginning. As *documents* every text is read whole from
    an initial state of zero, in batches of like length. Either way every token of a part is
    predicted exactly once an epoch.

    Args:
        corpus: a corpus by name (r8, r52, 20news, imdb, mr, zh_reviews), a benchmark whose files
            are in ``root`` (ptb, wikitext2, text8), a folder of one's own with train.txt and
            perhaps valid.txt and test.txt, a text a line, or a single .txt file, labelled files of
            one's own, torchtext:NAME for a data set of torchtext (PennTreebank, WikiText2,
            WikiText103, or a labelled one), or hf:NAME or hf:PATH for one of Hugging Face's
            library.
        root: where corpora are fetched to, and where the benchmarks' files are.
        text_column: of one's own files or of Hugging Face's data set, the column of the texts; null
            for text.
        delimiter: of labelled .csv and .tsv files of one's own: comma, semicolon, tab, pipe or
            another character; null for that of the ending, or of the header.
        quotes: what quotation marks do in such files: enclose (fields, whatever these hold),
            literal (nothing), or null: they enclose fields, but one that holds what looks like
            further records is refused.
        drop_unlabelled: whether rows of labelled files without a label are left out.
        mode: stream, or documents.
        level: of tokens: character, or word (what stands between white space).
        vocab_size: most tokens in the vocabulary; null for no limit.
        min_frequency: tokens that the training part holds less often are unknown. With 1 none is
            in training, so that a model of words cannot learn what to expect of unknown ones.
        lowercase: whether case is ignored.
        window: tokens of a stream through which a gradient goes back. BatchNorm of every time step
            counts its steps from a window's beginning, in inference too.
        max_length: tokens after which a document is cut, in training alone; null for never.
        batch_size: rows of the stream, over all processes, or documents in a batch of each process.
        eval_batch_size: the same in evaluation; null for as many documents as in training, or one
            row of the stream in each process, so that in one process what is evaluated never begins
            without what came before.
        noise: how far the lengths of batch-mates may differ; see BucketBatchSampler.
        validation_fraction: part of the training texts to choose the epoch with, if the corpus
            brings no validation part: the last ones, or, of labelled texts, a random choice.
        split_seed: of that random choice, of labelled texts alone; not ``seed``, so that all seeds
            train on the same texts.
        seed: of the order of the batches of documents.
        vocabulary: a checkpoint, to use its tokenizer in place of the corpus's own.

    Raises:
        ValueError: a size below 1.
    """

    def __init__(
        self,
        corpus: str = "mr",
        *,
        root: str = "data",
        text_column: str | None = None,
        delimiter: str | None = None,
        quotes: Literal["enclose", "literal"] | None = None,
        drop_unlabelled: bool = False,
        mode: Literal["stream", "documents"] = "stream",
        level: Literal["word", "character"] = "character",
        vocab_size: int | None = None,
        min_frequency: int = 1,
        lowercase: bool = False,
        window: int = 100,
        max_length: int | None = None,
        batch_size: int = 32,
        eval_batch_size: int | None = None,
        noise: float = 0.05,
        validation_fraction: float = 0.1,
        split_seed: int = 0,
        seed: int = 0,
        vocabulary: str | None = None,
    ) -> None:
        super().__init__()
        self.save_hyperparameters(logger=False)
        for name in ("window", "max_length", "batch_size", "eval_batch_size"):
            if self.hparams[name] is not None and self.hparams[name] < 1:
                raise ValueError(f"{name} must be at least 1, got {self.hparams[name]}")
        self._streams: dict[str, Tensor] = {}
        self._documents: dict[str, TextDataset] = {}
        self._unknown: dict[str, int] = {}

    @cached_property
    def texts(self) -> Texts:
        """The corpus, fetched if it was not yet."""
        names = ["corpus", "root", "text_column", "delimiter", "quotes", "drop_unlabelled"]
        names += ["validation_fraction", "split_seed"]
        found = load_texts(**{name: self.hparams[name] for name in names})
        if self.hparams["mode"] == "documents" and not found.ends:
            raise ValueError(
                f"{found.name} is one text without parts: read it with --data.mode stream"
            )
        return found

    @cached_property
    def tokenizer(self) -> LanguageTokenizer:
        """Made from the training part alone, unless ``vocabulary`` gives one."""
        if self.hparams["vocabulary"] is not None:
            given = load_checkpoint(self.hparams["vocabulary"])["hyper_parameters"]
            return LanguageTokenizer.from_json(given["tokenizer"])
        names = ("level", "vocab_size", "min_frequency", "lowercase")
        options = {name: self.hparams[name] for name in names}
        return LanguageTokenizer.learn(self.texts.parts["train"], **options)

    @property
    def tokenizer_json(self) -> str:
        """The tokenizer as text, for a model's constructor."""
        return self.tokenizer.to_json()

    @property
    def columns(self) -> dict[str, tuple[Sequence[str], ...]]:
        return {part: (texts,) for part, texts in self.texts.parts.items()}

    @property
    def ends(self) -> bool:
        """Whether texts end, in a token of their own, or are pieces of one."""
        return self.texts.ends

    @property
    def has_test(self) -> bool:
        """Whether the corpus has a test part."""
        return "test" in self.texts.parts

    def setup(self, stage: str) -> None:
        """Tokenises the parts that ``stage`` needs, unless that was done before.

        Raises:
            ValueError: there is no such part.
        """
        stages = {"fit": ("train", "validation"), "validate": ("validation",), "test": ("test",)}
        if stage not in stages:
            raise ValueError(
                f"LanguageData holds texts to fit, validate and test with, none to {stage}: score "
                "or continue texts with python train.py predict"
            )
        if stage == "test" and not self.has_test:
            raise ValueError(
                f"{self.texts.name} has no test part: give a folder with train.txt and test.txt"
            )
        for part in stages[stage]:
            if part not in self._streams and part not in self._documents:
                self._tokenise(part)

    def _tokenise(self, part: str) -> None:
        texts = self.texts.parts[part]
        if self.hparams["mode"] == "stream":
            tokens = self.tokenizer.stream(texts, ends=self.texts.ends)
            self._streams[part] = tokens
            self._windows(part)  # says now, not in training, that there are not enough tokens
            count, unknown = len(tokens), int((tokens == self.tokenizer.unk_id).sum())
        else:
            cut = self.hparams["max_length"] if part == "train" else None
            documents = self.tokenizer.documents(texts, cut)
            self._documents[part] = TextDataset(documents)
            count = sum(len(ids) - 1 for ids in documents)
            unknown = sum(ids.count(self.tokenizer.unk_id) for ids in documents)
        if part == "train" and self.texts.notice:
            rank_zero_info(self.texts.notice)
        rank_zero_info(
            f"{part}: {len(texts):,} texts, {count:,} tokens to predict, {unknown / count:.2%} of "
            f"them unknown; {len(self.tokenizer):,} in the vocabulary"
        )
        self._unknown[part] = unknown
        if unknown and self._unknown.get("train") == 0:
            rank_zero_warn(
                f"{part}: {unknown:,} of the tokens are unknown, and none in the training part, so "
                "that the model never learns to expect one, and these may rule the perplexity: set "
                "data.min_frequency to 2, and what the training part holds once is unknown too"
            )

    def _batch_size(self, part: str) -> int:
        stream, processes = self.hparams["mode"] == "stream", self._processes["num_replicas"]
        name = "batch_size"
        if part != "train" and self.hparams["eval_batch_size"] is not None:
            name = "eval_batch_size"
        elif part != "train" and stream:
            return processes
        size: int = self.hparams[name]
        if stream and size < processes:
            raise ValueError(
                f"data.{name} is the rows of a stream over all processes, of which each needs one "
                f"at least: {size} row(s) do not divide among {processes} processes"
            )
        return size

    @property
    def _processes(self) -> dict[str, int]:
        trainer = self.trainer
        return {
            "num_replicas": trainer.world_size if trainer else 1,
            "rank": trainer.global_rank if trainer else 0,
        }

    def _windows(self, part: str) -> StreamWindows:
        return StreamWindows(
            self._streams[part],
            self._batch_size(part),
            self.hparams["window"],
            self.tokenizer.eos_id,
            **self._processes,
        )

    def _loader(self, part: str) -> Batches[object]:
        if self.hparams["mode"] == "stream":
            windows: Dataset[object] = self._windows(part)
            return Batches(windows, batch_size=None)
        documents: Dataset[object] = self._documents[part]
        sampler = BucketBatchSampler(
            [length - 1 for length in self._documents[part].lengths],
            batch_size=self._batch_size(part),
            shuffle=part == "train",
            seed=self.hparams["seed"],
            noise=self.hparams["noise"],
            num_replicas=self._processes["num_replicas"],
            rank=self._processes["rank"],
        )
        return Batches(documents, batch_sampler=sampler, collate_fn=collate_documents)

    def train_dataloader(self) -> Batches[object]:
        return self._loader("train")

    def val_dataloader(self) -> Batches[object]:
        return self._loader("validation")

    def test_dataloader(self) -> Batches[object]:
        return self._loader("test")
