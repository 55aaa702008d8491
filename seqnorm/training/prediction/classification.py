"""Label lines of text with a trained classifier."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Literal

import torch

from seqnorm.datasets import collate
from seqnorm.datasets.own_files import name_of_class

from ..checkpoints.checkpoint_file import Checkpoint
from ..checkpoints.stored_model import stored_model, stored_size
from ..tasks.classification import TextClassification
from .text_lines import opened

# A document of more tokens is read alone and in chunks, so that it does not pad others.
LONG = 4096


def predict(
    checkpoint: Checkpoint,
    input: str = "-",
    output: str = "-",
    format: Literal["tsv", "jsonl"] = "tsv",
    batch_size: int = 64,
    device: str = "cpu",
) -> None:
    """Label lines of text with their class and the probability of each class.

    Args:
        checkpoint: The checkpoint of the model.
        input: A file with one document a line, or - for standard input.
        output: A file for one line a document, replaced when all are done, or - for standard
            output.
        format: tsv (a header, then the label and the probabilities) or jsonl (an object a line).
        batch_size: The number of documents that are labelled at once.
        device: The device of the model: cpu, cuda, ...
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    model = stored_model(TextClassification, checkpoint, device)
    max_length = stored_size(checkpoint, "max_length")
    for number, name in enumerate(model.classes):
        name_of_class(f"{checkpoint.path}, class {number}", str(name))
    with opened(input, output) as (texts, out):
        table = csv.writer(out, delimiter="\t", lineterminator="\n")  # quotes names if needed
        if format == "tsv":
            table.writerow(["label", *model.classes])
        for probabilities in label(model, texts, max_length, batch_size):
            name = model.classes[max(range(len(probabilities)), key=probabilities.__getitem__)]
            if format == "tsv":
                table.writerow([name, *(f"{p:.6f}" for p in probabilities)])
            else:
                by_class = dict(zip(model.classes, probabilities))
                line = {"label": name, "probabilities": by_class}
                print(json.dumps(line, ensure_ascii=False), file=out)


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
    return logits.softmax(-1).tolist()
