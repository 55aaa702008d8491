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

from seqnorm.datasets import default_kind, load_corpus
from seqnorm.extra import explained
from seqnorm.files import commit

from .classification_table import COLUMNS
from .rows import append_row
from .scores import accuracy, macro_f1


def baseline(corpus: str, root: str = "data", C: float = 10.0, results: str | None = None) -> None:
    """Fit a logistic regression on TF-IDF features of words, or of characters and their pairs.

    It has no epoch to choose, so it is fitted to the whole training part, validation included.

    Args:
        corpus: The name of a corpus, or the path of your own file or folder.
        root: The folder that corpora are fetched into.
        C: The inverse strength of the L2 penalty.
        results: A CSV file to append the result to.
    """
    with explained("the linear baseline"):
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.linear_model import LogisticRegression
    data = load_corpus(corpus, root=root)
    parts = [data.train] if data.validation is None else [data.train, data.validation]
    texts = [text for part in parts for text in part.texts]
    labels = [label for part in parts for label in part.labels]
    start = time.perf_counter()
    units = (
        {"analyzer": "char", "ngram_range": (1, 2)}
        if default_kind(data.language) == "character"
        else {"analyzer": "word"}
    )
    features = TfidfVectorizer(sublinear_tf=True, **units)
    classifier = LogisticRegression(C=C, max_iter=1000).fit(features.fit_transform(texts), labels)
    seconds = time.perf_counter() - start
    predicted = torch.as_tensor(classifier.predict(features.transform(data.test.texts)))
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
