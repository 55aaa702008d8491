"""Classify series, or predict their targets, with a trained model."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TextIO, Union

import torch
from torch import Tensor

from seqnorm.datasets import SeriesLayout, collate_series
from seqnorm.datasets.layout import DELIMITED
from seqnorm.datasets.record_files import record_line
from seqnorm.datasets.series.files import read_file

from ..checkpoints.checkpoint_file import Checkpoint
from ..checkpoints.stored_model import stored_model
from ..data.series import check_features, named_features
from ..tasks.series import SeriesClassification, SeriesRegression
from .answers import check_batch_size, check_names, most_probable
from .batches import answers_to
from .onnx_file import OnnxFile
from .onnx_models import OnnxSeries
from .text_lines import printing

Model = Union[SeriesClassification, SeriesRegression, OnnxSeries]

Format = Literal["csv", "jsonl"]
# The formats of files; "" is that of a name without an ending, as - and /dev/stdout.
ENDINGS: Mapping[str, Format] = {".csv": "csv", ".jsonl": "jsonl", "": "csv"}


def predict(
    checkpoint: Checkpoint | OnnxFile,
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
        checkpoint: The checkpoint or the ONNX file of the model.
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
    model: Model
    classified = checkpoint.task == "series_classification"
    if isinstance(checkpoint, OnnxFile):
        model = OnnxSeries(checkpoint, device)
        names = model.names
    elif classified:
        model = stored_model(SeriesClassification, checkpoint, device)
        names = model.classes
    else:
        model = stored_model(SeriesRegression, checkpoint, device)
        names = model.targets.names
    check_names(checkpoint, "class" if classified else "target", names)
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
        _write(out, format, classified, names, found.series.ids, rows)


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


def outputs_of(model: Model, series: Sequence[Tensor], batch_size: int) -> list[list[float]]:
    """Return the probabilities or the targets of each of the series (T, F), in their order."""
    # The graph of an ONNX file scales the values itself.
    scales = not isinstance(model, OnnxSeries)
    values = [model.features.apply(each).float() if scales else each for each in series]
    unknown = torch.zeros(0)
    items = [(each, -1, unknown, place) for place, each in enumerate(values)]
    return answers_to(model, items, list(map(len, values)), collate_series, batch_size)


def _write(
    out: TextIO,
    format: Format,
    classified: bool,
    names: tuple[str, ...],
    ids: tuple[str, ...],
    rows: list[list[float]],
) -> None:
    """Write a line for each series."""
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
