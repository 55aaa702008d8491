"""Layers, cells and models as ONNX files.

Axes: T steps, B sequences, I = input_size, H = hidden_size, P = size of h (H, or proj_size),
L = num_layers, D = directions.
"""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, Union

import torch
from torch import Tensor, nn

from ..extra import explained
from ..files import write_atomically
from ..nn.backends import onnx_layers
from ..nn.check import as_integer
from ..nn.graphs import need_scan
from ..nn.layers.cell import RecurrentCell
from ..nn.layers.layer import RecurrentLayer
from ..version import __version__
from . import rewrites
from .graphs import NamedGraph

HINT = "pip install 'seqnorm[onnx]'"
PathLike = Union[str, "os.PathLike[str]"]
# ONNX has RMSNormalization since this version.
_WITH_RMS, _USUAL, _OLDEST = 23, 20, 18
# Constants up to this number of elements are computed beforehand; the exporter has a lower limit.
_LARGEST = 1 << 30
_LOGS = (
    "torch.onnx._internal.exporter._registration",  # torchvision is missing
    "onnxscript.optimizer._constant_folding",  # which nodes it leaves
)


def to_onnx(
    module: nn.Module,
    path: PathLike,
    *,
    lengths: bool = False,
    states: bool = True,
    resets: bool = False,
    step: bool = False,
    opset_version: int | None = None,
    int8: bool = False,
) -> Path:
    """Write a layer or cell as an ONNX file, for any number of sequences, of any length from 1 on.

    >>> layer = seqnorm.LSTM(8, 16, norm="layer").eval()
    >>> seqnorm.export.to_onnx(layer, "lstm.onnx", lengths=True)
    PosixPath('lstm.onnx')

    The time loop is one ``Scan`` for each layer and direction, so the file does not grow with T. A
    layer that ONNX has is its own ``LSTM``, ``GRU`` or ``RNN``. All operators are standard ones.
    The tables of BatchNorm in inference become constants, and a step beyond a table reads its last
    row, as in the layer.

    The inputs of a layer are ``input`` (T, B, I), or (B, T, I) with batch_first; ``lengths`` (B,)
    int64; ``resets`` (T, B) or (B, T) bool; ``h_0`` (L * D, B, P), ``c_0`` (L * D, B, H) and other
    parts of the state; and, for norms with statistics of every step, ``first_step``, () int64, or
    (B,) with resets. The outputs are ``output`` (T, B, D * P), zero in the padding, ``h_n``,
    ``c_n`` and so on. In a graph of one step, the input is (B, I), the output (B, P), and resets
    are (B,). A cell has the inputs ``input``, ``h_0``, ... and the outputs ``h_n``, ..., all of
    them (B, ·).

    A length beyond T counts as T. ``torch.onnx.export(model, ..., dynamo=True)`` exports any other
    module that holds layers of this library.

    Args:
        module: a layer or cell in ``eval`` mode.
        path: the file to write.
        lengths: if true, the graph takes the lengths of padded sequences.
        states: if true, the graph takes the initial state and returns the final one. Otherwise a
            layer begins with its own initial state.
        resets: if true, the graph takes resets.
        step: if true, the graph computes one step of a layer, without a loop.
        opset_version: version of ONNX's operators, from 18 on. The default is 23 for a layer with
            RMSNorm, which has an operator from then on, and 20 otherwise.
        int8: if true, matrices are stored in 8 bits, and their products are computed in integers;
            norms and states stay in float32. Every layer is then a ``Scan``. It needs the package
            ``onnxruntime``.

    Returns:
        The path.

    Raises:
        ValueError: the module is in training mode and has norms of the batch, zoneout or dropout; a
            norm has a window of several steps; a table has ``beyond="error"``; a bidirectional
            layer has no single step; or the version is too old.
        TypeError: the module is no layer or cell of this library.
        ModuleNotFoundError: the packages ``onnx`` and ``onnxscript`` are missing.
        RuntimeError: torch is older than 2.9.
    """
    if not isinstance(module, (RecurrentCell, RecurrentLayer)):
        raise TypeError(
            f"to_onnx takes a recurrent layer or cell of seqnorm, got {type(module).__name__}: "
            "torch.onnx.export(model, inputs, path, dynamo=True) exports a model that holds some"
        )
    if opset_version is None:
        opset_version = opset_of(module)
    graph = NamedGraph(module, lengths, states, resets, step)
    arguments = graph.arguments
    device = next(graph.parameters()).device
    examples = {name: argument.example(device) for name, argument in arguments.items()}
    axes = {name: argument.axes() for name, argument in arguments.items()}
    properties = {"cell": module.step.name, "norm": "" if module.norm is None else module.norm.text}
    program = export(graph, examples, axes, graph.outputs, opset_version, properties, int8)
    return save(program, path, int8)


def export(
    module: nn.Module,
    examples: Mapping[str, Tensor],
    axes: Mapping[str, Mapping[int, str]],
    outputs: Sequence[str],
    opset_version: int = _USUAL,
    properties: Mapping[str, str] | None = None,
    int8: bool = False,
) -> Any:
    """Return a module as a ``torch.onnx.ONNXProgram``.

    Args:
        module: takes one tensor for each input.
        examples: the inputs by name, in the order of the module's arguments.
        axes: for each input, the names of its axes of any size.
        outputs: names of the outputs.
        opset_version: version of ONNX's operators.
        properties: what else the file says about itself.
        int8: if true, every layer is a loop, so that ``save`` can store its matrices in 8 bits.
            onnxruntime would turn ONNX's own LSTM into an operator that no other program has, and
            leave GRU and RNN as they are.
    """
    need_onnx()
    from onnxscript import optimizer

    if as_integer("opset_version", opset_version) < _OLDEST:
        raise ValueError(f"opset_version must be {_OLDEST} or newer, got {opset_version}")
    sizes = {name: torch.export.Dim(name, min=1) for one in axes.values() for name in one.values()}
    shapes = [{axis: sizes[name] for axis, name in axes[key].items()} for key in examples]
    loops = onnx_layers.left_out() if int8 else nullcontext()
    with torch.no_grad(), _quiet(), loops:
        program = torch.onnx.export(
            module,
            tuple(examples.values()),
            input_names=list(examples),
            output_names=list(outputs),
            dynamic_shapes=(tuple(shapes),),
            opset_version=opset_version,
            dynamo=True,
            verbose=False,
        )
        assert program is not None  # as always with dynamo=True
        _check_sizes(program.model, axes)
        rewrites.join_parts(program.model)
        optimizer.optimize_ir(program.model, input_size_limit=_LARGEST, output_size_limit=_LARGEST)
        rewrites.join_sums(program.model)
        rewrites.join_sigmoids(program.model)
    program.model.producer_name, program.model.producer_version = "seqnorm", __version__
    program.model.metadata_props.update(properties or {})
    return program


def opset_of(module: nn.Module) -> int:
    """Return the version of ONNX's operators that the layers and cells of a module use."""
    layers = [m for m in module.modules() if isinstance(m, (RecurrentCell, RecurrentLayer))]
    norms = [norm for m in layers if m.norm is not None for norm in m.norm.norms.values()]
    return _WITH_RMS if any(norm.kind == "rms" for norm in norms) else _USUAL


def save(program: Any, path: PathLike, int8: bool = False) -> Path:
    """Write a program as an ONNX file, with its weights beside it if they are beyond 2 GB.

    Args:
        program: what ``export`` returns.
        path: the file.
        int8: if true, matrices and embeddings are stored in 8 bits.
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"the folder {path.parent} does not exist: create it first")
    if not int8:
        program.save(path)
        return path
    from .int8 import quantised

    model = quantised(program.model_proto, HINT)
    write_atomically(path, model.SerializeToString())
    return path


def need_onnx(user: str = "seqnorm.export.to_onnx") -> None:
    """Raise an error unless torch and the packages of ONNX can export for the ``user``."""
    with explained(user, HINT):
        import onnx
        import onnxscript

        _ = onnx, onnxscript
    need_scan(user)


def _check_sizes(model: Any, axes: Mapping[str, Mapping[int, str]]) -> None:
    """Raise RuntimeError if a graph takes one size alone where it has to take any.

    The exporter's last resort is a graph for the sizes of the example.
    """
    for value in model.graph.inputs:
        for axis, name in axes.get(value.name, {}).items():
            if isinstance(value.shape[axis], int):
                raise RuntimeError(
                    f"the graph takes {name}={value.shape[axis]} alone in its input {value.name}: "
                    "something in the module reads this size as a number, as len(x) does"
                )


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporter's notes on its own code."""
    logs = [logging.getLogger(name) for name in _LOGS]
    levels = [log.level for log in logs]
    for log in logs:
        log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            warnings.simplefilter("ignore", DeprecationWarning)
            # It says so of each name that two inputs share, as B.
            warnings.filterwarnings("ignore", "# The axis name: ", UserWarning)
            yield
    finally:
        for log, level in zip(logs, levels):
            log.setLevel(level)
