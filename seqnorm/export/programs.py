"""Programs of ``torch.export`` in torch's own operators, for runtimes that lack this library."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import fx, nn

from ..nn.backends.cpu.decomposed import SIZES, STATE, decomposition
from ..nn.graphs import need_scan, of_torch_alone

if TYPE_CHECKING:
    from torch.export import ExportedProgram


def decompose(program: ExportedProgram) -> ExportedProgram:
    """Return a program with torch's own operators in place of this library's.

    >>> layer = seqnorm.LSTM(4, 8, norm="layer").eval()
    >>> sizes = ({0: torch.export.Dim("T"), 1: torch.export.Dim("B")},)
    >>> program = torch.export.export(layer, (torch.ones(5, 3, 4),), dynamic_shapes=sizes)
    >>> program = seqnorm.export.decompose(program)
    >>> any("seqnorm" in str(node.target) for node in program.graph.nodes)
    False

    ``torch.export.export`` records a layer as one operator ``seqnorm::recurrence``, which computes
    by the kernels of this library and needs it to load the program. Each such operator becomes one
    ``scan`` over time: gathers that pad the packed rows, a step of the layer's definition, and a
    scatter that packs the rows again. T, B and lengths stay as free as they are in the program. The
    other operators stay as they are.

    A program without operators of this library is returned as it is. It may come from
    ``torch.export.load``, from ``to_program``, or from a model without recurrent layers.

    Args:
        program: a program of a model in ``eval`` mode.

    Raises:
        TypeError: the argument is no exported program.
        ValueError: the program computes a model in training.
        RuntimeError: torch is older than 2.9.
    """
    if not isinstance(program, torch.export.ExportedProgram):
        raise TypeError(
            f"decompose takes an ExportedProgram, got {type(program).__name__}: "
            "seqnorm.export.decompose(torch.export.export(model, args))"
        )
    operator = torch.ops.seqnorm.recurrence.default
    calls = [node for node in program.graph.nodes if node.target is operator]
    if not calls:
        return program
    need_scan("seqnorm.export.decompose")
    drawn = [node for node in program.graph.nodes if "dropout" in str(node.target)]
    if any(node.args[-1] is True for node in drawn):
        raise ValueError("the program draws units by dropout: call model.eval() before the export")
    equal_lengths = all(_has_equal_lengths(call) for call in calls)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of torch's own code
        found: ExportedProgram = program.run_decompositions(
            {operator: decomposition(equal_lengths)}
        )
    return found


def to_program(
    module: nn.Module,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any] | None = None,
    *,
    dynamic_shapes: Any = None,
) -> ExportedProgram:
    """Export a model of layers and cells as a program of torch's own operators alone.

    >>> layer = seqnorm.LSTM(4, 8, norm="batch").eval()
    >>> sizes = ({0: torch.export.Dim("T"), 1: torch.export.Dim("B")},)
    >>> program = seqnorm.export.to_program(layer, (torch.ones(5, 3, 4),), dynamic_shapes=sizes)

    The layers are traced as for ``to_onnx``: padded, with masks in place of packed rows. Layers
    with statistics of every step have a dynamic T here, which ``torch.export.export`` alone does
    not give them.

    Args:
        module: any module, in ``eval`` mode.
        args, kwargs: its example inputs.
        dynamic_shapes: the axes of any size, as in ``torch.export.export``.

    Raises:
        ValueError: a layer cannot be exported, see ``to_onnx``.
        RuntimeError: torch is older than 2.9.
    """
    need_scan("seqnorm.export.to_program")
    with torch.no_grad(), of_torch_alone():
        return torch.export.export(
            module,
            args,
            None if kwargs is None else dict(kwargs),
            dynamic_shapes=dynamic_shapes,
            strict=False,
        )


def _has_equal_lengths(call: Any) -> bool:
    """Return whether all B sequences of a call, a node of a graph, surely reach all steps."""
    from torch.fx.experimental.symbolic_shapes import statically_known_true

    sizes, state = (call.args[place] for place in (SIZES, STATE))
    if sizes.target not in _full():
        return False
    value = sizes.args[_full()[sizes.target]]
    value = value.meta["val"] if isinstance(value, fx.Node) else value
    return statically_known_true(value == state.meta["val"].shape[0])


def _full() -> dict[Any, int]:
    """Return the operators that fill a tensor, with the position of the value."""
    return {torch.ops.aten.full.default: 1, torch.ops.aten.new_full.default: 2}
