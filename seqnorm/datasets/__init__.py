"""Corpora, your own files, tokenising and length-bucketed batches; series, digits, photographs.

Texts are encoded once, at the beginning, and then batched with others of similar length::

    corpus = load_corpus("r8")
    train, validation = split_validation(corpus.train)
    tokenizer = Tokenizer.train(train.texts)
    dataset = TextDataset(tokenizer.encode(train.texts, max_length=200), train.labels)
    sampler = BucketBatchSampler(dataset.lengths, batch_size=64)
    loader = DataLoader(dataset, batch_sampler=sampler, collate_fn=collate)
"""

from .batching import BucketBatchSampler, Item, TextBatch, TextDataset, collate
from .corpora import CORPORA, load_corpus
from .digits import load_digits
from .documents import CleaningReport, Corpus, CorpusSource, DatasetError, Documents, PartReport
from .fetching import FetchError, Package
from .folding import Fold
from .language_texts import LANGUAGE_CORPORA, Texts, load_texts
from .language_tokens import LanguageTokenizer, Level
from .photographs import PHOTOGRAPHS, TEXTURES, load_photographs
from .series.batching import SeriesBatch, SeriesDataset, collate_series
from .series.containers import Series, SeriesCorpus, SeriesLayout
from .series.corpora import SERIES_CORPORA, load_series, split_last_series, split_series
from .series.scaling import Scaling
from .splitting import split_last, split_validation
from .streams import LanguageBatch, StreamWindows, collate_documents
from .tokenizing import Tokenizer, default_kind
from .torchtext_corpora import read_lines
from .torchtext_tokenizing import (
    AnyTokenizer,
    Pipeline,
    TorchtextTokenizer,
    tokenizer_from_json,
    torchtext_tokens,
)
from .vectors import read_vectors, read_vectors_by_torchtext

__all__ = [
    "CORPORA",
    "LANGUAGE_CORPORA",
    "PHOTOGRAPHS",
    "SERIES_CORPORA",
    "TEXTURES",
    "AnyTokenizer",
    "BucketBatchSampler",
    "CleaningReport",
    "Corpus",
    "CorpusSource",
    "DatasetError",
    "Documents",
    "FetchError",
    "Fold",
    "Item",
    "LanguageBatch",
    "LanguageTokenizer",
    "Level",
    "Package",
    "PartReport",
    "Pipeline",
    "Scaling",
    "Series",
    "SeriesBatch",
    "SeriesCorpus",
    "SeriesDataset",
    "SeriesLayout",
    "StreamWindows",
    "TextBatch",
    "TextDataset",
    "Texts",
    "Tokenizer",
    "TorchtextTokenizer",
    "collate",
    "collate_documents",
    "collate_series",
    "default_kind",
    "load_corpus",
    "load_digits",
    "load_photographs",
    "load_series",
    "load_texts",
    "read_lines",
    "read_vectors",
    "read_vectors_by_torchtext",
    "split_last",
    "split_last_series",
    "split_series",
    "split_validation",
    "tokenizer_from_json",
    "torchtext_tokens",
]
