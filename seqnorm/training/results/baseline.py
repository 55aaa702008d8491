"""A linear classifier on TF-IDF features, to compare networks with.

``python -m seqnorm.training.results.baseline r8`` fits it and prints its result on the test part.
"""

from __future__ import annotations

import shlex
import sys
import time

import torch
from jsonargparse import auto_cli
from torchmetrics.functional.classification import multiclass_confusion_matrix

from seqnorm.datasets import Corpus, default_kind, load_corpus
from seqnorm.extra import explained
from seqnorm.files import commit

from .classification_table import COLUMNS
from .rows import append_row
from .scores import accuracy, macro_f1

# Words and punctuation marks.
TOKENS = r"\w+|[^\w\s]+"


def linear_predictions(data: Corpus, C: float = 1.0) -> list[int]:
    """Return the class of each test text by a linear support vector machine.

    Its features are the words of a text, or its characters and their pairs, weighted by TF-IDF with
    1 + log of the counts (scikit-learn's ``TfidfVectorizer`` and ``LinearSVC``). It has no epoch to
    choose, so it is fitted to the whole training part, validation included.

    Args:
        data: The corpus.
        C: The inverse strength of the L2 penalty.
    """
    with explained("the linear baseline"):
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.svm import LinearSVC
    parts = [data.train] if data.validation is None else [data.train, data.validation]
    texts = [text for part in parts for text in part.texts]
    labels = [label for part in parts for label in part.labels]
    units = (
        {"analyzer": "char", "ngram_range": (1, 2)}
        if default_kind(data.language) == "character"
        else {"token_pattern": TOKENS}
    )
    features = TfidfVectorizer(sublinear_tf=True, **units)
    classifier = LinearSVC(C=C).fit(features.fit_transform(texts), labels)
    return [int(label) for label in classifier.predict(features.transform(data.test.texts))]


def baseline(corpus: str, root: str = "data", C: float = 1.0, results: str | None = None) -> None:
    """Fit the linear support vector machine of ``linear_predictions`` and test it.

    Args:
        corpus: The name of a corpus, or the path of your own file or folder.
        root: The folder that corpora are fetched into.
        C: The inverse strength of the L2 penalty.
        results: A CSV file to append the result to.
    """
    data = load_corpus(corpus, root=root)
    start = time.perf_counter()
    predicted = torch.tensor(linear_predictions(data, C))
    seconds = time.perf_counter() - start
    labelled = torch.tensor(data.test.labels)
    confusion = multiclass_confusion_matrix(predicted, labelled, len(data.classes))
    score, f1 = accuracy(confusion), macro_f1(confusion)
    print(f"{data.name}: accuracy {score:.4f}, macro F1 {f1:.4f}")
    if results is not None:
        row = {
            "corpus": data.name,
            "cell": "linear",
            "norm": "none",
            "seed": "",
            "test_accuracy": f"{score:.4f}",
            "test_macro_f1": f"{f1:.4f}",
            "epochs": "",
            "seconds": f"{seconds:.1f}",
            "config": shlex.join(sys.argv[1:]),
            "commit": commit(),
        }
        append_row(results, row, COLUMNS)


if __name__ == "__main__":
    auto_cli(baseline)
