"""Corpora by name, and `load_corpus`, which also reads your own files and data of libraries."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from . import huggingface, own_files, torchtext_corpora
from .cleaning import clean
from .documents import Corpus, CorpusSource, DatasetError, Documents, Row, too_few_classes
from .fetching import load_members
from .folding import Fold, about
from .layout import Layout, Quotes
from .package_corpora import IMDB, MR, R8, R52, TWENTY_NEWSGROUPS, ZH_REVIEWS
from .splitting import split_fold, split_validation

CORPORA: Mapping[str, CorpusSource] = {
    source.name: source for source in (R8, R52, TWENTY_NEWSGROUPS, IMDB, MR, ZH_REVIEWS)
}
# The test part of a corpus published without one is the same for everybody: no argument changes it.
TEST_FRACTION = 0.2
TEST_SEED = 0

_log = logging.getLogger(__name__)


def load_corpus(
    name_or_path: str | Path,
    *,
    root: str | Path = "data",
    text_column: str | None = None,
    label_column: str | None = None,
    delimiter: str | None = None,
    quotes: Quotes | None = None,
    drop_unlabelled: bool = False,
    language: str | None = None,
    test_fraction: float | None = None,
    fold: Fold | None = None,
    alone: Literal["train", "validation", "test"] = "train",
) -> Corpus:
    """Load a corpus by name (see `CORPORA`), fetched into `root` on first use, or your own files.

    "torchtext:NAME" is a data set of torchtext (see `seqnorm.datasets.torchtext_corpora`), and
    "hf:NAME" or "hf:PATH" one of Hugging Face's library (see `seqnorm.datasets.huggingface`).
    Downloads go to `root`.

    A name has priority over a path: write "./r8" for a folder called r8. Documents are dropped by
    the rule of `seqnorm.datasets.cleaning`, and `Corpus.report` counts them. A corpus published
    without a test part gets one of 20%, split off after cleaning by the rule of `split_validation`
    with seed 0.

    The other arguments are for "hf:" and for your own files, whose layouts are listed in
    `seqnorm.datasets.own_files`.

    Args:
        text_column: The column of texts. The default is "text", or in your own files without this
            column the one that `seqnorm.datasets.guessing` finds, which is logged.
        label_column: The column of labels, with the default "label" or a guess likewise.
        delimiter: The separator of fields in .csv and .tsv files: comma, semicolon, tab, pipe or
            another character. The default is the usual one for the file's suffix, unless the header
            has the columns with exactly one other separator.
        quotes: The meaning of quotation marks in these files. With "enclose" they enclose fields,
            whatever the fields hold, and with "literal" they are ordinary characters. By default
            they enclose fields, and a field that seems to hold further records is refused, because
            it may begin at a stray quotation mark.
        drop_unlabelled: Leave out rows without a label, which otherwise are an error.
        language: A tag such as "en"; "und" (unknown) by default.
        test_fraction: The fraction to split off as a test part if the files contain none. By
            default nothing is split off and `Corpus.test` is empty.
        fold: The part that becomes `Corpus.test`, for cross-validation. The documents of the
            training and the validation part, cleaned as one training part, are divided. A test part
            that was published, is in a file, or is split off by `test_fraction` is in no fold and
            is not returned. A corpus published without a test part is divided as a whole.
        alone: The part that your own file, or folder of classes, is. With "validation" or "test",
            nothing is dropped from it, and it may have a single class.

    Raises:
        FetchError: A corpus cannot be fetched.
        DatasetError: The data cannot be used.
        ModuleNotFoundError: The library that the corpus comes from is not installed.
        ValueError: An argument for your own files is given for a corpus that takes none.
    """
    name = str(name_or_path)
    of_files: dict[str, Any] = {
        "text_column": text_column,
        "label_column": label_column,
        "delimiter": delimiter,
        "quotes": quotes,
        "drop_unlabelled": drop_unlabelled or None,
    }
    layout = Layout(text_column, label_column, delimiter, quotes, drop_unlabelled)
    columns: tuple[str, str] | None = None
    given = {**of_files, "language": language, "test_fraction": test_fraction}
    if name in CORPORA:
        _refuse(name, given)
        source = CORPORA[name]
        parts = source.read(load_members(source.package, source.members, root, source.notice))
        fraction = None if "test" in parts or fold is not None else TEST_FRACTION
        return _assemble(name, parts, source.language, fraction, source.notice, fold)
    if name.startswith(torchtext_corpora.PREFIX):
        _refuse(name, given)
        parts = torchtext_corpora.read_labelled(name[len(torchtext_corpora.PREFIX) :], root)
        return _assemble(name, parts, "en", None, fold=fold)
    if name.startswith(huggingface.PREFIX):
        _refuse(name, {"delimiter": delimiter, "quotes": quotes})
        parts = huggingface.read_huggingface(name[len(huggingface.PREFIX) :], root, layout)
    elif name and Path(name).exists():  # Path("") is the current folder
        name = str(Path(name))
        layout = own_files.complete(Path(name), layout, alone)
        if layout.text_column is not None and layout.label_column is not None:
            columns = layout.text_column, layout.label_column
        parts = own_files.read(Path(name), layout, alone)
    else:
        raise DatasetError(
            f"{name or repr(name)} is neither a corpus ({', '.join(CORPORA)}) nor an existing file "
            "or folder"
        )
    if test_fraction is not None and alone != "train" and "train" not in parts:
        raise ValueError(f"{name} is evaluated as a whole; leave test_fraction out")
    if fold is not None and alone != "train":
        raise ValueError(f"{name} is evaluated as a whole; leave folds and fold out")
    if test_fraction is not None and "test" in parts:
        raise ValueError(f"{name} has a test part of its own; leave test_fraction out")
    corpus = _assemble(name, parts, language or "und", test_fraction, fold=fold)
    corpus = replace(corpus, columns=columns)
    if corpus.report.dropped:
        _log.warning("%s: documents were dropped\n%s", name, corpus.report)
    return corpus


def _refuse(name: str, given: Mapping[str, object]) -> None:
    if wrong := [argument for argument, value in given.items() if value is not None]:
        raise ValueError(
            f"{', '.join(wrong)} cannot be given for the corpus {name!r}; for a file or "
            f"folder of that name write './{name}'"
        )


def _assemble(
    name: str,
    parts: Mapping[str, list[Row]],
    language: str,
    test_fraction: float | None,
    notice: str = "",
    fold: Fold | None = None,
) -> Corpus:
    of_validation = len(parts.get("validation", ()))
    if fold is not None:  # before cleaning, so that a text is in one fold only
        every = [row for part in ("train", "validation") for row in parts.get(part, ())]
        parts = {"train": every, **{part: parts[part] for part in ("test",) if part in parts}}
    cleaned, report = clean(parts)
    if "train" not in cleaned:  # the parts are evaluated only
        classes = tuple(sorted({row.label for rows in cleaned.values() for row in rows}))
        found = {part: _documents(name, part, rows, classes) for part, rows in cleaned.items()}
        none = Documents((), ())
        held_out = found.get("test", none), found.get("validation")
        return Corpus(name, classes, none, *held_out, language, report, notice)
    classes = tuple(sorted({row.label for row in cleaned["train"]}))
    train = _documents(name, "train", cleaned["train"], classes)
    if len(classes) < 2:
        left = report.parts["train"].in_words
        raise DatasetError(f"{name}: {too_few_classes(classes)}; {left}")
    test = None
    if test_fraction is not None:
        train, test = split_validation(train, test_fraction, TEST_SEED)
        report = replace(report, split_off=len(test.texts))
    if test is None:
        test = _documents(name, "test", cleaned.get("test", []), classes)
    validation = None
    if "validation" in cleaned:
        validation = _documents(name, "validation", cleaned["validation"], classes)
    told = ""
    if fold is not None:
        untouched = len(test.texts)
        train, test = split_fold(train, fold, name, classes)
        sizes = len(test.texts), len(train.texts)
        told = about(fold, *sizes, "documents", untouched, of_validation)
    return Corpus(name, classes, train, test, validation, language, report, notice, told=told)


def _documents(name: str, part: str, rows: list[Row], classes: tuple[str, ...]) -> Documents:
    index = {label: place for place, label in enumerate(classes)}
    for text, label in rows:
        if label not in index:
            raise DatasetError(
                f"{name}: the {part} part has the label {label!r}, of the text {text[:60]!r}, "
                f"which the training part does not have; its labels are {', '.join(classes[:20])}"
            )
    return Documents(tuple(row.text for row in rows), tuple(index[row.label] for row in rows))
