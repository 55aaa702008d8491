"""Label texts with a trained classifier."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Literal

import torch

from seqnorm.datasets import collate

from ..checkpoints.checkpoint_file import Checkpoint
from ..checkpoints.stored_model import stored_model, stored_size
from ..tasks.classification import TextClassification
from .answers import check_batch_size, check_names, most_probable
from .outputs import Format, writing
from .sources import opened

# A document of more tokens is read alone and in chunks, so that it does not pad others.
LONG = 4096


def predict(
    checkpoint: Checkpoint,
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
        checkpoint: The checkpoint of the model.
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
    model: TextClassification, texts: Iterable[str], max_length: int | None, batch_size: int
) -> Iterator[list[float]]:
    """Yield the class probabilities of each text, in order; texts are read as they are needed."""
    texts = iter(texts)
    while some := list(islice(texts, batch_size)):
        tokens = model.tokenizer.encode(some, max_length)
        found: dict[int, list[float]] = {}
        short = [index for index, ids in enumerate(tokens) if len(ids) <= LONG]
        groups = [short] if short else []
        groups += [[index] for index, ids in enumerate(tokens) if len(ids) > LONG]
        for group in groups:
            found.update(zip(group, _probabilities(model, [tokens[index] for index in group])))
        yield from (found[index] for index in range(len(tokens)))


@torch.inference_mode()
def _probabilities(
    model: TextClassification, documents: Sequence[Sequence[int]]
) -> list[list[float]]:
    batch = collate([(ids, -1, index) for index, ids in enumerate(documents)])
    batch = model.transfer_batch_to_device(batch, model.device, 0)
    if batch.tokens.shape[1] <= LONG:
        return model.predict_step(batch).tolist()
    logits = model.network.in_chunks(batch.tokens, batch.lengths, LONG)
    return model.answers(logits).tolist()
