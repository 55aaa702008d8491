"""Trained models as ONNX files that ``seqnorm predict --onnx`` reads."""

from __future__ import annotations

import json
from pathlib import Path

from seqnorm.datasets import Scaling
from seqnorm.export.onnx import export, need_onnx, opset_of, save
from seqnorm.files import write_atomically

from ..checkpoints.checkpoint_file import FORMAT_KEY, Checkpoint, is_scalar
from ..prediction.onnx_file import DATA, FORMAT, checksum, tokenizer_path
from .graphs import ModelGraph, model_graph


def write_onnx(checkpoint: Checkpoint, path: Path, step: bool, int8: bool) -> list[Path]:
    """Write a model as an ONNX file and, for texts, its tokenizer beside it.

    The tokenizer of ``model.onnx`` is ``model.tokenizer.json``. The file states the task, the names
    of the classes, targets or features, and the sizes of the vocabulary, so that no other file of
    the training is needed.

    Args:
        checkpoint: The checkpoint.
        path: The ONNX file.
        step: True for one step of a language model.
        int8: True for matrices and embeddings in 8 bits.

    Returns:
        The files.

    Raises:
        ValueError: The model has no single step, its layers cannot be exported, or this version of
            torch cannot export.
        ModuleNotFoundError: A package is missing.
    """
    try:
        need_onnx("seqnorm export")
    except RuntimeError as error:
        raise ValueError(str(error)) from error
    graph = model_graph(checkpoint, step)
    program = export(
        graph,
        {name: argument.example() for name, argument in graph.arguments.items()},
        {name: argument.axes() for name, argument in graph.arguments.items()},
        graph.outputs,
        opset_of(graph),
        properties_of(checkpoint, graph, step),
        int8,
    )
    written = [save(program, path, int8=int8)]
    tokenizer = checkpoint.hyper_parameters.get("tokenizer")
    if tokenizer is not None:
        written.append(tokenizer_path(path))
        write_atomically(written[-1], tokenizer)
    return written


def properties_of(checkpoint: Checkpoint, graph: ModelGraph, step: bool) -> dict[str, str]:
    """Return what the ONNX file of a model says about itself."""
    parameters = checkpoint.hyper_parameters
    data = {name: value for name, value in checkpoint.data.items() if name in DATA}
    data = {name: value for name, value in data.items() if is_scalar(value)}
    if isinstance(data.get("corpus"), str):
        data["corpus"] = Path(data["corpus"]).name  # of a path only the ending is needed
    found = {FORMAT_KEY: str(FORMAT), "task": checkpoint.task, "data": _json(data)}
    if "classes" in parameters:
        found["classes"] = _json(list(parameters["classes"]))
    for name in ("features", "targets"):
        if name in parameters:
            found[name] = Scaling.from_json(parameters[name]).to_json()
    if "tokenizer" in parameters:
        found["tokenizer_sha256"] = checksum(parameters["tokenizer"].encode())
        found["vocabulary"] = _json(graph.vocabulary)
    if checkpoint.task == "language":
        found["step"] = _json(step)
        found["ends"] = _json(bool(parameters.get("ends", True)))
    return found


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
