"""Labelling texts with a trained classifier."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from itertools import islice
from typing import Literal

import torch

from seqnorm.datasets import collate

from .checkpoint import load_checkpoint
from .classification import TextClassification


def predict(
    ckpt_path: str,
    input: str = "-",
    output: str = "-",
    format: Literal["tsv", "jsonl"] = "tsv",
    batch_size: int = 64,
    device: str = "cpu",
) -> None:
    """Labels lines of text with their class and the probability of each class.

    Args:
        ckpt_path: a checkpoint; nothing else of the training is needed.
        input: a file with one document a line, or - for standard input.
        output: a file to write one line a document to, or - for standard output.
        format: tsv (a header, then the label and the probabilities) or jsonl (an object a line).
        batch_size: documents that are labelled at once.
        device: cpu, cuda, ...
    """
    data = load_checkpoint(ckpt_path).get("datamodule_hyper_parameters", {})
    model = TextClassification.load_from_checkpoint(ckpt_path, map_location=device).eval()
    with (
        nullcontext(sys.stdin) if input == "-" else open(input, encoding="utf-8") as lines,
        nullcontext(sys.stdout) if output == "-" else open(output, "w", encoding="utf-8") as out,
    ):
        if format == "tsv":
            print("label", *model.classes, sep="\t", file=out)
        for probabilities in label(model, lines, data.get("max_length"), batch_size):
            name = model.classes[max(range(len(probabilities)), key=probabilities.__getitem__)]
            if format == "tsv":
                print(name, *(f"{p:.6f}" for p in probabilities), sep="\t", file=out)
            else:
                by_class = dict(zip(model.classes, probabilities))
                line = {"label": name, "probabilities": by_class}
                print(json.dumps(line, ensure_ascii=False), file=out)


def label(
    model: TextClassification, texts: Iterable[str], max_length: int | None, batch_size: int
) -> Iterator[list[float]]:
    """The class probabilities of each text, in the order of the texts, read as they are needed."""
    texts = iter(texts)
    while some := list(islice(texts, batch_size)):
        tokens = model.tokenizer.encode(some, max_length)
        batch = collate([(ids, -1, index) for index, ids in enumerate(tokens)])
        with torch.inference_mode():
            probabilities = model.predict_step(
                model.transfer_batch_to_device(batch, model.device, 0)
            )
        yield from probabilities.tolist()
