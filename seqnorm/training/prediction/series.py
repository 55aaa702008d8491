"""Classify series, or predict their targets, with a trained model."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TextIO

import torch
from torch import Tensor

from seqnorm.datasets import BucketBatchSampler, SeriesDataset, SeriesLayout, collate_series
from seqnorm.datasets.layout import DELIMITED
from seqnorm.datasets.record_files import record_line
from seqnorm.datasets.series.files import read_file

from ..checkpoints.checkpoint_file import Checkpoint
from ..checkpoints.stored_model import stored_model
from ..data.series import check_features, named_features
from ..tasks.series import SeriesClassification, SeriesRegression
from .answers import check_batch_size, check_names, most_probable
from .text_lines import printing

Format = Literal["csv", "jsonl"]
# A series of more steps is read alone and in chunks, so that it does not pad others.
LONG = 4096
# The formats of files; "" is that of a name without an ending, as - and /dev/stdout.
ENDINGS: Mapping[str, Format] = {".csv": "csv", ".jsonl": "jsonl", "": "csv"}


def predict(
    checkpoint: Checkpoint,
    input: str,
    output: str = "-",
    format: Format | None = None,
    batch_size: int = 64,
    device: str = "cpu",
    id_column: str | None = None,
    time_column: str | None = None,
    feature_columns: list[str] | None = None,
    delimiter: str | None = None,
) -> None:
    """Write the class and the probability of each class, or the targets, of each series.

    Labels and targets in the file are not read.

    Args:
        checkpoint: The checkpoint of the model.
        input: A file of series: .npz, .parquet, .csv, .tsv or .ts.
        output: A file for one line a series, replaced when all are done, or - for standard output.
        format: The format of the output: csv (a header, then the id, and the label and the
            probabilities or the targets) or jsonl (an object a line); null for the ending of the
            output's name, .csv or .jsonl. It is csv for a name without an ending and for standard
            output.
        batch_size: The number of series in a batch.
        device: The device of the model: cpu, cuda, ...
        id_column: The column of the ids; null for the one that was given for the training if the
            file has it, or a guess.
        time_column: The column of the times; null for the one that was given for the training if
            the file has it, or a guess.
        feature_columns: The columns of the features, in the order of the model's; null to find
            those of the training data.
        delimiter: The character that separates the fields of a .csv or .tsv file; null for the one
            that was given for a training file of the same ending, or that of the header.
    """
    check_batch_size(batch_size)
    format = format or _format_of(output)
    model: SeriesClassification | SeriesRegression
    if checkpoint.task == "series_classification":
        model = stored_model(SeriesClassification, checkpoint, device)
        kind, names = "class", model.classes
    else:
        model = stored_model(SeriesRegression, checkpoint, device)
        kind, names = "target", model.targets.names
    check_names(checkpoint, kind, names)
    layout = SeriesLayout(
        answer=None,
        id_column=id_column,
        time_column=time_column,
        feature_columns=None if feature_columns is None else tuple(feature_columns),
        delimiter=_delimiter(input, checkpoint.data) if delimiter is None else delimiter,
        wanted=named_features(model.features),
        trained_id=_text(checkpoint.data.get("id_column")),
        trained_time=_text(checkpoint.data.get("time_column")),
    )
    found = read_file(Path(input), layout)
    check_features(input, found.features, model.features, by_order=feature_columns is not None)
    rows = outputs_of(model, found.series.values, batch_size)
    with printing(output) as out:
        _write(out, format, model, names, found.series.ids, rows)


def _format_of(output: str) -> Format:
    """Return the format that the name of the output stands for."""
    ending = Path(output).suffix.lower()
    if ending not in ENDINGS:
        raise ValueError(
            f"{output}: series are written as .csv or .jsonl; name such a file, or set the format "
            "(--format)"
        )
    return ENDINGS[ending]


def _delimiter(input: str, trained: Mapping[str, Any]) -> str | None:
    """Return the delimiter that was given for a training file with the ending of the input."""
    ending, corpus = Path(input).suffix.lower(), _text(trained.get("corpus"))
    if corpus is None or ending not in DELIMITED or Path(corpus).suffix.lower() != ending:
        return None
    return _text(trained.get("delimiter"))


def _text(value: object) -> str | None:
    """Return the value if it is a string, as it is unless a checkpoint was changed."""
    return value if isinstance(value, str) else None


@torch.inference_mode()
def outputs_of(
    model: SeriesClassification | SeriesRegression, series: Sequence[Tensor], batch_size: int
) -> list[list[float]]:
    """Return the probabilities or the targets of each of the series (T, F), in their order."""
    data = SeriesDataset([model.features.apply(each) for each in series])
    lengths = data.lengths
    found: dict[int, list[float]] = {}
    short = [place for place, length in enumerate(lengths) if length <= LONG]
    groups = [[place] for place, length in enumerate(lengths) if length > LONG]
    if short:
        sampler = BucketBatchSampler(
            [lengths[place] for place in short], batch_size=batch_size, shuffle=False
        )
        groups += [[short[number] for number in numbers] for numbers in sampler]
    for places in groups:
        batch = collate_series([data[place] for place in places])
        batch = model.transfer_batch_to_device(batch, model.device, 0)
        if batch.values.shape[1] <= LONG:
            answers = model.predict_step(batch)
        else:
            answers = model.answers(model.network.in_chunks(batch.values, batch.lengths, LONG))
        found.update(zip(places, answers.tolist()))
    return [found[place] for place in range(len(data))]


def _write(
    out: TextIO,
    format: Format,
    model: SeriesClassification | SeriesRegression,
    names: tuple[str, ...],
    ids: tuple[str, ...],
    rows: list[list[float]],
) -> None:
    """Write a line for each series."""
    classified = isinstance(model, SeriesClassification)
    if format == "csv":
        out.write(record_line(["id", *(["label"] if classified else []), *names]))
    for key, row in zip(ids, rows):
        label = most_probable(names, row)
        if format == "csv":
            numbers = [f"{number:.6f}" if classified else f"{number:.8g}" for number in row]
            out.write(record_line([key, *([label] if classified else []), *numbers]))
            continue
        by_name = dict(zip(names, row))
        answers = {"label": label, "probabilities": by_name} if classified else {"targets": by_name}
        print(json.dumps({"id": key, **answers}, ensure_ascii=False), file=out)
