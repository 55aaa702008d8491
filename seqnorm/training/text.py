"""A corpus as Lightning wants it: fetched, tokenised, split and batched by length."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any, Literal

from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

from seqnorm.datasets import (
    AnyTokenizer,
    BucketBatchSampler,
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

from .checkpoint import load_checkpoint
from .inside_epoch import Batches
from .parts import PartsData


class TextData(PartsData):
    """Labelled texts.

    Args:
        corpus: a corpus by name (r8, r52, 20news, imdb, mr, zh_reviews), the path of a file or
            folder of one's own, torchtext:NAME for a data set of torchtext, or hf:NAME or hf:PATH
            for one of Hugging Face's library datasets.
        root: where corpora are fetched to.
        text_column: column of the text in files of one's own; null for "text".
        label_column: column of the label in files of one's own; null for "label".
        delimiter: what separates the fields of .csv and .tsv files of one's own: comma, semicolon,
            tab, pipe or another character; null for that of the ending, or of the header if it has
            the columns by one other alone.
        quotes: what quotation marks do in such files: enclose (fields, whatever these hold),
            literal (nothing), or null: they enclose fields, but one that holds what looks like
            further records is refused.
        drop_unlabelled: whether rows without a label are left out; otherwise they are an error.
        language: of files of one's own, as en or zh; null for unknown.
        test_fraction: part of one's own files to split off as a test part if they bring none.
        pipeline: the library that makes tokens and vocabulary: tokenizers, or torchtext, which
            needs torch 2.3 and gives the same tokens of the kinds word and character.
        torchtext_tokens: what torchtext's get_tokenizer is to split texts by, as basic_english;
            null for those of kind.
        kind: of tokens; null chooses by the corpus's language.
        vocab_size: most tokens in the vocabulary; null for no limit.
        min_frequency: tokens that the training part holds less often are unknown.
        lowercase: whether case is ignored.
        max_length: tokens after which a document is cut; null for never.
        batch_size: documents in a batch; null to cut batches by max_tokens alone.
        max_tokens: most tokens in a batch, padding included; null for no limit.
        noise: how far the lengths of batch-mates may differ; see BucketBatchSampler.
        validation_fraction: part of the training documents to choose the epoch with, if the corpus
            brings no validation part.
        validation: which part of every class that is: random, or last (in the corpus's order).
        split_seed: of the random choice; not ``seed``, so that all seeds train on the same
            documents.
        seed: of the order of the batches.
        vocabulary: a checkpoint, to use its tokenizer and classes in place of the corpus's own.
        vectors: a file of pretrained word vectors, as of GloVe or fastText, that the embeddings of
            its words start with; null for none.
    """

    def __init__(
        self,
        corpus: str = "r8",
        *,
        root: str = "data",
        text_column: str | None = None,
        label_column: str | None = None,
        delimiter: str | None = None,
        quotes: Literal["enclose", "literal"] | None = None,
        drop_unlabelled: bool = False,
        language: str | None = None,
        test_fraction: float | None = None,
        pipeline: Pipeline = "tokenizers",
        torchtext_tokens: str | None = None,
        kind: Literal["word", "character", "bpe"] | None = None,
        vocab_size: int | None = None,
        min_frequency: int = 1,
        lowercase: bool = True,
        max_length: int | None = 200,
        batch_size: int | None = 32,
        max_tokens: int | None = None,
        noise: float = 0.05,
        validation_fraction: float = 0.1,
        validation: Literal["random", "last"] = "random",
        split_seed: int = 0,
        seed: int = 0,
        vocabulary: str | None = None,
        vectors: str | None = None,
    ) -> None:
        super().__init__()
        if torchtext_tokens is not None and pipeline != "torchtext":
            raise ValueError(
                "data.torchtext_tokens is for the torchtext pipeline: set data.pipeline torchtext"
            )
        self.save_hyperparameters(logger=False)
        self._parts: dict[str, TextDataset] = {}

    @cached_property
    def corpus(self) -> Corpus:
        """The corpus, fetched if it was not yet."""
        own = ("text_column", "label_column", "delimiter", "quotes", "drop_unlabelled")
        return load_corpus(
            self.hparams["corpus"],
            root=self.hparams["root"],
            **{name: self.hparams[name] for name in (*own, "language", "test_fraction")},
        )

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

    @cached_property
    def _given(self) -> dict[str, Any]:
        path = self.hparams["vocabulary"]
        given: dict[str, Any] = load_checkpoint(path)["hyper_parameters"]
        if "classes" not in given:
            raise ValueError(f"{path} is not of a classifier: it has no classes")
        return given

    @cached_property
    def tokenizer(self) -> AnyTokenizer:
        """Trained on the training part alone, unless ``vocabulary`` gives one."""
        if self.hparams["vocabulary"] is not None:
            return tokenizer_from_json(self._given["tokenizer"])
        kind = self.hparams["kind"] or default_kind(self.corpus.language)
        options = {
            name: self.hparams[name] for name in ("vocab_size", "min_frequency", "lowercase")
        }
        texts = self._documents["train"].texts
        if self.hparams["pipeline"] == "torchtext":
            tokens = torchtext_tokens(self.hparams["torchtext_tokens"], kind)
            return TorchtextTokenizer.train(texts, tokens=tokens, **options)
        return Tokenizer.train(texts, kind=kind, **options)

    @property
    def tokenizer_json(self) -> str:
        """The tokenizer as text, for a model's constructor."""
        return self.tokenizer.to_json()

    @cached_property
    def vectors(self) -> tuple[Tensor, Tensor] | None:
        """Of the tokens (V, E), and for which of them (V,) there is one; None without a file."""
        path = self.hparams["vectors"]
        if path is None:
            return None
        by_torchtext = self.hparams["pipeline"] == "torchtext"
        read = read_vectors_by_torchtext if by_torchtext else read_vectors
        return read(path, self.tokenizer.vocabulary)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, in the order of their numbers in a batch."""
        if self.hparams["vocabulary"] is not None:
            return tuple(self._given["classes"])
        return self.corpus.classes

    @property
    def has_test(self) -> bool:
        """Whether the corpus has a test part."""
        return bool(self.corpus.test.texts)

    @property
    def training_tokens(self) -> Sequence[Sequence[int]]:
        """The tokens of every training document, once ``setup("fit")`` has run."""
        return self._parts["train"].tokens

    def setup(self, stage: str) -> None:
        """Tokenises the parts that ``stage`` needs, unless that was done before.

        Raises:
            ValueError: there is no such part, or its classes are not those of ``vocabulary``.
        """
        stages = {"fit": ("train", "validation"), "validate": ("validation",), "test": ("test",)}
        if stage not in stages:
            raise ValueError(
                f"TextData holds labelled texts to fit, validate and test with, none to {stage}: "
                "label texts with python train.py predict"
            )
        if stage == "test" and not self.has_test:
            raise ValueError(
                f"{self.corpus.name} has no test part: set test_fraction before training, to "
                "split one off, or give a folder with train.csv and test.csv"
            )
        missing = [part for part in stages[stage] if part not in self._parts]
        for part in missing:
            self._parts[part] = self._encode(self._documents[part])
        if stage == "fit" and missing:
            sizes = ", ".join(f"{len(self._parts[part])} for {part}" for part in stages["fit"])
            about = f"{sizes}; {len(self.tokenizer)} tokens; {len(self.classes)} classes"
            lines = [self.corpus.notice, str(self.corpus.report), f"Documents: {about}"]
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

    def _loader(self, part: str, shuffle: bool) -> Batches[Item]:
        trainer = self.trainer
        sampler = BucketBatchSampler(
            self._parts[part].lengths,
            batch_size=self.hparams["batch_size"],
            max_tokens=self.hparams["max_tokens"],
            shuffle=shuffle,
            seed=self.hparams["seed"],
            noise=self.hparams["noise"],
            num_replicas=trainer.world_size if trainer else 1,
            rank=trainer.global_rank if trainer else 0,
        )
        rank_zero_info(
            f"{part}: {len(sampler)} batches, {sampler.padding_waste():.1%} of their cells padding"
        )
        return Batches(
            self._parts[part],
            batch_sampler=sampler,
            collate_fn=collate,
        )

    def train_dataloader(self) -> Batches[Item]:
        return self._loader("train", shuffle=True)

    def val_dataloader(self) -> Batches[Item]:
        return self._loader("validation", shuffle=False)

    def test_dataloader(self) -> Batches[Item]:
        return self._loader("test", shuffle=False)
