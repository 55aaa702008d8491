"""Texts for language models: published benchmarks, corpora by name, and your own files.

Penn Treebank, WikiText-2 and text8 are not fetched: their files must exist. Your own folder has
train.txt and, if present, validation.txt (or valid.txt, val.txt or dev.txt) and test.txt. A single
.txt file is for training, except for its end, which is for validation. torchtext downloads
PennTreebank, WikiText2 and WikiText103. In all of these each line is a text, and in Hugging Face's
data sets each row is one. text8 is a single text: its first 90 million characters are for training,
5 million for validation and 5 million for the test (Mikolov et al. 2012).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from . import huggingface, torchtext_corpora
from .corpora import CORPORA, load_corpus
from .documents import DatasetError
from .guessing import text_column_of
from .layout import Layout, Quotes, read_text
from .own_files import places_of_parts
from .parts import PARTS, parts_by_name
from .record_files import has_columns
from .rows import place_of_column, read_rows, text_of
from .splitting import split_validation

# Folder, and the files of each part.
_BENCHMARKS = {
    "ptb": ("ptb", ("ptb.train.txt", "ptb.valid.txt", "ptb.test.txt")),
    "wikitext2": ("wikitext-2", ("wiki.train.tokens", "wiki.valid.tokens", "wiki.test.tokens")),
    "text8": ("text8", ("text8",)),
}
_SOURCES = {
    "ptb": "T. Mikolov's preparation of Penn Treebank: ptb.*.txt of his simple-examples",
    "wikitext2": "S. Merity's WikiText-2, the word level archive, wiki.*.tokens",
    "text8": "M. Mahoney's text8, unpacked",
}
_TEXT8_HELD_OUT = 5_000_000
# Length of the pieces of a text without lines: a tokenizer needs much memory for a long text.
_PIECE = 1_000
LANGUAGE_CORPORA = (*CORPORA, *_BENCHMARKS)


@dataclass(frozen=True)
class Texts:
    """The texts of each part, "train", "validation" and "test" (which may be missing).

    If ``ends`` is False, the texts are pieces of one long text. ``notice`` gives source and
    licence, and ``text_column`` the column that was read, if there are columns.
    """

    name: str
    parts: Mapping[str, tuple[str, ...]]
    ends: bool = True
    notice: str = ""
    text_column: str | None = None


def load_texts(
    corpus: str,
    *,
    root: str | Path = "data",
    text_column: str | None = None,
    delimiter: str | None = None,
    quotes: Quotes | None = None,
    drop_unlabelled: bool = False,
    validation_fraction: float = 0.1,
    split_seed: int = 0,
    alone: Literal["train", "validation", "test"] = "train",
) -> Texts:
    """Load texts by the name of a corpus (``LANGUAGE_CORPORA``) or from your own folder or file.

    "torchtext:NAME" and "hf:NAME" or "hf:PATH" are data sets of those libraries. ``text_column``
    is for the latter and for your own files (default "text", or a guess in your own files);
    ``delimiter``, ``quotes`` and ``drop_unlabelled`` are for these files, as in ``load_corpus``.
    Your own files without a column "label" are read row by row, as lines are. If a corpus has no
    validation part, one is split off the training part. Out of n lines, or rows of "hf:", these are
    the last round(validation_fraction n), at least one and never all; out of labelled texts they
    are those that `split_validation` chooses by ``split_seed``.

    Your own file or folder of classes is the part ``alone``. If that is not "train", nothing is
    split off, and a folder of parts needs no training part.

    Raises:
        FetchError: A corpus cannot be fetched.
        DatasetError: Files are missing, and named in the message, or cannot be used.
        ModuleNotFoundError: The library that a corpus comes from is not installed.
        ValueError: ``text_column`` or another argument for files is given for other texts.
    """
    options: dict[str, Any] = {
        "delimiter": delimiter,
        "quotes": quotes,
        "drop_unlabelled": drop_unlabelled,
    }
    given = [name for name, value in options.items() if value]
    if corpus.startswith(huggingface.PREFIX):
        if given:
            raise ValueError(f"{', '.join(given)} cannot be given for {corpus}")
        source = corpus[len(huggingface.PREFIX) :]
        rows = huggingface.read_huggingface_texts(source, root, text_column or "text")
        return _with_validation(corpus, rows, validation_fraction)
    lines = _lines_by_part(corpus, Path(root), alone)
    if lines is not None:
        given += [] if text_column is None else ["text_column"]
        if given:
            raise ValueError(
                f"{', '.join(given)} cannot be given for {corpus}, whose texts are lines"
            )
        if corpus == "text8":
            return Texts(corpus, lines, ends=False)
        return _with_validation(corpus, lines, validation_fraction)
    labelled = corpus in CORPORA or corpus.startswith(torchtext_corpora.PREFIX)
    if not labelled and not (corpus and Path(corpus).exists()):
        raise DatasetError(
            f"{corpus or repr(corpus)} is neither a corpus ({', '.join(LANGUAGE_CORPORA)}) nor an "
            "existing file or folder"
        )
    if not labelled:
        unlabelled = _own_rows(Path(corpus), Layout(text_column, None, delimiter, quotes), alone)
        if unlabelled is not None:
            column, own = unlabelled
            if drop_unlabelled:
                raise ValueError(f"drop_unlabelled is for labels, and {corpus} has no column label")
            return replace(_with_validation(corpus, own, validation_fraction), text_column=column)
        options["alone"] = alone
    found = load_corpus(corpus, root=root, text_column=text_column, **options)
    train, validation = found.train, found.validation
    if validation is None and not train.texts:
        validation = train
    elif validation is None:
        train, validation = split_validation(train, validation_fraction, split_seed)
    parts = {"train": train.texts, "validation": validation.texts, "test": found.test.texts}
    about = "\n".join(filter(None, [found.notice, str(found.report)]))
    parts = {part: texts for part, texts in parts.items() if texts}
    read = found.columns[0] if found.columns else None
    return Texts(found.name, parts, notice=about, text_column=read)


def _lines_by_part(corpus: str, root: Path, alone: str) -> dict[str, tuple[str, ...]] | None:
    """Return the lines of a corpus that consists of lines, or None for another corpus."""
    name = corpus[len(torchtext_corpora.PREFIX) :]
    if corpus.startswith(torchtext_corpora.PREFIX) and name in torchtext_corpora.LINES:
        read = torchtext_corpora.read_lines(name, root)
        return {part: tuple(line.strip() for line in lines) for part, lines in read.items()}
    if corpus in _BENCHMARKS:
        paths = _benchmark(corpus, root)
        if corpus == "text8":
            return _text8(paths["train"])
    elif corpus not in CORPORA and {"train", alone} & (found := _own_lines(Path(corpus))).keys():
        paths = found
    elif corpus not in CORPORA and Path(corpus).suffix.lower() == ".txt" and Path(corpus).is_file():
        paths = {alone: Path(corpus)}
    else:
        return None
    return {part: _lines(path) for part, path in paths.items()}


def _own_lines(folder: Path) -> dict[str, Path]:
    """Return the .txt file of each part in a folder, {} for a path that is not a folder."""
    files = sorted(folder.glob("*.txt")) if folder.is_dir() else []
    names = parts_by_name(folder, ((file.stem, file.name) for file in files if file.is_file()))
    return {part: folder / name for part, name in names.items()}


def _own_rows(
    path: Path, layout: Layout, alone: str
) -> tuple[str, dict[str, tuple[str, ...]]] | None:
    """Return the column and the texts of your own tables; None if they have a column "label"."""
    places = places_of_parts(path, alone)
    first = next(iter(places.values()))
    usual = layout.text_column or "text", "label"
    if any(place.is_dir() for place in places.values()) or has_columns(first, usual, layout):
        return None
    column = layout.text_column or text_column_of(first, layout.delimiter, layout.quotes)
    found = {}
    for part, place in places.items():
        rows = read_rows(place, layout.delimiter, layout.quotes, [column])
        number = place_of_column(place, column, rows.columns)
        found[part] = tuple(text_of(where, values[number]) for where, values in rows.records)
    return column, found


def _benchmark(name: str, root: Path) -> dict[str, Path]:
    folder, files = _BENCHMARKS[name]
    paths = [root / folder / file for file in files]
    if missing := [str(path) for path in paths if not path.is_file()]:
        raise DatasetError(
            f"{name} cannot be fetched: put {_SOURCES[name]}, here: {', '.join(missing)}"
        )
    return dict(zip(PARTS, paths))


def _with_validation(name: str, parts: Mapping[str, tuple[str, ...]], fraction: float) -> Texts:
    """Return texts with a validation part, which is made of the last lines if there was none.

    A choice of single lines would interrupt text that continues from line to line, and a choice by
    a hash of the line would take all empty lines or none of them.
    """
    parts = dict(parts)
    if "validation" not in parts and "train" in parts:
        whole = parts["train"]
        if len(whole) < 2 or not 0.0 < fraction < 1.0:
            raise DatasetError(
                f"{name}: a fraction of {fraction} of {len(whole)} text(s) cannot be held out for "
                "validation: give a validation part, more texts or another fraction"
            )
        kept = len(whole) - min(max(round(fraction * len(whole)), 1), len(whole) - 1)
        parts |= {"train": whole[:kept], "validation": whole[kept:]}
    return Texts(name, {part: parts[part] for part in PARTS if part in parts})


def _text8(path: Path) -> dict[str, tuple[str, ...]]:
    text = read_text(path, empty_allowed=True).rstrip("\n")
    held_out = _TEXT8_HELD_OUT
    if len(text) <= 2 * held_out:
        raise DatasetError(
            f"{path}: {len(text):,} characters; 100,000,000 were expected, and more than "
            f"{2 * held_out:,} are needed for a validation and a test part of {held_out:,} each"
        )
    cut = [0, len(text) - 2 * held_out, len(text) - held_out, len(text)]
    return {part: tuple(_pieces(text[start:end])) for part, start, end in zip(PARTS, cut, cut[1:])}


def _pieces(text: str) -> Iterator[str]:
    """Yield pieces of a text, cut after spaces so that words stay whole, even a very long one."""
    start = 0
    while start < len(text):
        end = len(text)
        if end - start > _PIECE:
            behind = text.rfind(" ", start, start + _PIECE) + 1
            end = behind or text.find(" ", start + _PIECE) + 1 or end
        yield text[start:end]
        start = end


def _lines(path: Path) -> tuple[str, ...]:
    """Return the lines of a file, with empty lines, because the model predicts these as well."""
    text = read_text(path, empty_allowed=True)
    # The end of the last line does not begin another line.
    lines = tuple(line.strip() for line in text[: len(text) - text.endswith("\n")].split("\n"))
    if not any(lines):
        raise DatasetError(f"{path}: the file is empty")
    return lines
