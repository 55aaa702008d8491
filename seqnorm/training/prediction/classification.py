"""Label texts with a trained classifier."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Literal, Union

from seqnorm.datasets import collate

from ..checkpoints.checkpoint_file import Checkpoint
from ..checkpoints.stored_model import stored_model, stored_size
from ..tasks.classification import TextClassification
from .answers import check_batch_size, check_names, most_probable
from .batches import answers_to
from .onnx_file import OnnxFile
from .onnx_models import OnnxClassifier
from .outputs import Format, writing
from .sources import opened

Classifier = Union[TextClassification, OnnxClassifier]


def predict(
    checkpoint: Checkpoint | OnnxFile,
    input: str = "-",
    output: str = "-",
    format: Format | None = None,
    text_column: str | None = None,
    delimiter: str | None = None,
    quotes: Literal["enclose", "literal"] | None = None,
    batch_size: int = 64,
    device: str = "cpu",
) -> None:
    """Label texts with their class and the probability of each class.

    Args:
        checkpoint: The checkpoint or the ONNX file of the model.
        input: A table by its ending (.csv, .tsv, .jsonl, .json, .parquet), another file with one
            document a line, a folder of .txt files, or - for standard input, line by line.
            seqnorm predict FILE is short for seqnorm predict --input FILE.
        output: A file for the rows of the table with label and probabilities, replaced when all are
            done, or - for standard output. -o is short for it.
        format: The format of the output: tsv or csv (a header, then columns), jsonl (an object a
            line), json or parquet; null for that of the output's name, or tsv. Lines of text are
            repeated in a column text with csv, json or parquet, or, if format is null, in an output
            whose name has the ending of a table; otherwise output k belongs to line k.
        text_column: The column of the texts; null for that of the training, or a guess.
        delimiter: The character that separates the fields of .csv and .tsv files; null for a guess.
        quotes: The meaning of quotation marks in such files: enclose a field, or literal; null for
            that of the training.
        batch_size: The number of documents that are labelled at once.
        device: The device of the model: cpu, cuda, ...
    """
    check_batch_size(batch_size)
    model: Classifier
    if isinstance(checkpoint, OnnxFile):
        model = OnnxClassifier(checkpoint, device)
    else:
        model = stored_model(TextClassification, checkpoint, device)
    max_length = stored_size(checkpoint, "max_length")
    check_names(checkpoint, "class", model.classes)
    names, parts = ["label", *model.classes], ["label", "probabilities"]
    with (
        opened(input, checkpoint, text_column, delimiter, quotes) as source,
        writing(source, output, format, names, parts, ".6f") as out,
    ):
        for probabilities in label(model, source.texts(), max_length, batch_size):
            name = most_probable(model.classes, probabilities)
            by_class = dict(zip(model.classes, probabilities))
            out.write([name, *probabilities], [name, by_class])


def label(
    model: Classifier, texts: Iterable[str], max_length: int | None, batch_size: int
) -> Iterator[list[float]]:
    """Yield the class probabilities of each text, in order; texts are read as they are needed."""
    texts = iter(texts)
    while some := list(islice(texts, batch_size)):
        tokens = model.tokenizer.encode(some, max_length)
        items = [(ids, -1, index) for index, ids in enumerate(tokens)]
        yield from answers_to(model, items, list(map(len, tokens)), collate, batch_size)
