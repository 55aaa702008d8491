"""The data sets of `torchtext.datasets`: labelled texts for `load_corpus`, and lines of text.

torchtext downloads them into `<root>/torchtext/datasets/<NAME>` from several servers, some of which
no longer exist. Files in that folder with the checksums that torchtext knows are used without a
network.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from .documents import DatasetError, Row
from .torchtext_tokenizing import import_torchtext

PREFIX = "torchtext:"


class _Labelled(NamedTuple):
    """The names of a data set's parts and classes, and the places of text and label in a row.

    Classes are numbered from `first`. Without names, they are named by their numbers.
    """

    parts: dict[str, str]
    classes: Sequence[str] = ()
    first: int = 1
    label: int = 0
    text: int = 1


_TRAIN_TEST = {"train": "train", "test": "test"}
_STARS = ("1 star", "2 stars", "3 stars", "4 stars", "5 stars")
_POLARITY = ("negative", "positive")
LABELLED: dict[str, _Labelled] = {
    "AG_NEWS": _Labelled(_TRAIN_TEST, ("World", "Sports", "Business", "Sci/Tech")),
    "AmazonReviewFull": _Labelled(_TRAIN_TEST, _STARS),
    "AmazonReviewPolarity": _Labelled(_TRAIN_TEST, _POLARITY),
    "DBpedia": _Labelled(_TRAIN_TEST),
    "IMDB": _Labelled(_TRAIN_TEST, _POLARITY),
    "SogouNews": _Labelled(_TRAIN_TEST),
    # The labels of the test part were never published.
    "SST2": _Labelled({"train": "train", "dev": "test"}, _POLARITY, first=0, label=1, text=0),
    "YahooAnswers": _Labelled(_TRAIN_TEST),
    "YelpReviewFull": _Labelled(_TRAIN_TEST, _STARS),
    "YelpReviewPolarity": _Labelled(_TRAIN_TEST, _POLARITY),
}
LINES = ("PennTreebank", "WikiText2", "WikiText103")


def read_labelled(name: str, root: str | Path) -> dict[str, list[Row]]:
    """Read the parts "train" and "test" of a data set in `LABELLED`.

    Raises ModuleNotFoundError if torchtext cannot be loaded, and DatasetError for another name and
    for data that are missing and cannot be downloaded.
    """
    if name not in LABELLED:
        raise DatasetError(
            f"{PREFIX}{name} is not a labelled data set of torchtext: {', '.join(LABELLED)}"
        )
    how = LABELLED[name]

    def row(values: Any) -> Row:
        number = int(values[how.label])
        named = 0 <= number - how.first < len(how.classes)
        return Row(values[how.text], how.classes[number - how.first] if named else str(number))

    return {
        part: [row(values) for values in _read(name, root, theirs)]
        for theirs, part in how.parts.items()
    }


def read_lines(name: str, root: str | Path) -> dict[str, list[str]]:
    """Read the lines, without their ends, of each part of a data set in `LINES`.

    The parts are "train", "validation" and "test". Raises the same errors as `read_labelled`.
    """
    if name not in LINES:
        raise DatasetError(f"{PREFIX}{name} is not a data set of lines: {', '.join(LINES)}")
    parts = {"train": "train", "valid": "validation", "test": "test"}
    return {
        part: [line.rstrip("\n") for line in _read(name, root, theirs)]
        for theirs, part in parts.items()
    }


def _read(name: str, root: str | Path, part: str) -> Iterator[Any]:
    """Yield the rows of one part as torchtext returns them."""
    torchtext = import_torchtext(f"the corpus {PREFIX}{name}", "datasets")
    folder = Path(root) / "torchtext"
    try:
        yield from getattr(torchtext.datasets, name)(root=str(folder), split=part)
    except Exception as error:  # many libraries' errors: network, cache, archives
        reason = str(error).splitlines()[0] if str(error) else ""
        raise DatasetError(
            f"torchtext cannot read the {part} part of {name} "
            f"({type(error).__name__}: {reason[:200]}). It is downloaded unless its files, with "
            f"the checksums that torchtext knows, lie in {folder / 'datasets' / name}"
        ) from error
