"""A corpus: documents, their classes, and the parts into which they are divided."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from seqnorm.datasets.cleaning import CleaningReport


class DatasetError(ValueError):
    """Raised for data that cannot be used; the message says where they are and what to do."""


class Row(NamedTuple):
    """One labelled text, as read from a file."""

    text: str
    label: str


class Documents(NamedTuple):
    """Parallel tuples: `labels[i]` is the class of `texts[i]`, an index into `Corpus.classes`."""

    texts: tuple[str, ...]
    labels: tuple[int, ...]


@dataclass(frozen=True)
class Corpus:
    """Labelled texts, cleaned by the rule of `seqnorm.datasets.cleaning`.

    `test` is empty for your own files without a test part; `validation` is None unless the files
    contain one (split it off `train` with `split_validation`). `language` is a tag such as "en" or
    "zh", or "und" if it is not known. `notice` gives source, licence and citation.
    """

    name: str
    classes: tuple[str, ...]
    train: Documents
    test: Documents
    validation: Documents | None
    language: str
    report: CleaningReport
    notice: str = ""
