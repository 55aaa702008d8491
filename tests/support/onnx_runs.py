"""Exported graphs in onnxruntime beside the layers in float64, at sizes that were never traced.

``python tests/support/onnx_runs.py`` runs every preset of every cell in each form, and prints the
largest relative difference and the number of operators for each layer and direction.

Axes: T steps, B sequences.
"""

from __future__ import annotations

import collections
import copy
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from torch import Tensor

import seqnorm
from seqnorm.export import to_onnx
from seqnorm.nn.recurrence.site_norms import SiteNorm
from seqnorm.nn.recurrence.step import PRESETS
from seqnorm.nn.statistics.running_table import RunningTable

# T and B of the runs. No graph is traced at these.
SIZES = ((9, 4), (1, 1), (2, 7))


# Every preset is exported in each of these forms: options of the layer, arguments of to_onnx.
FORMS: tuple[tuple[dict[str, Any], dict[str, Any]], ...] = (
    ({}, {}),
    ({}, {"lengths": True, "resets": True}),
    ({"num_layers": 2, "bidirectional": True, "batch_first": True}, {"lengths": True}),
    ({"num_layers": 2}, {"step": True, "resets": True}),
)
_CELLS = {"LSTM": "LSTM", "GRU": "GRU", "RNN": "RNN", "LiGRU": "LiGRU", "IndRNN": "IndRNN"}
_CELLS["SLSTM"] = "sLSTM"  # the name of its step


def cases() -> list[tuple[str, str | None]]:
    """Return every cell with each of its presets, and without a norm."""
    return [
        (cell, preset)
        for cell, step in _CELLS.items()
        for preset in [None, *sorted(name for name, of in PRESETS.items() if step in of)]
    ]


def random_layer(name: str, norm: Any, *arguments: Any, **options: Any) -> Any:
    """Return a layer or cell of 5 inputs and 8 units in inference.

    The gains, biases and tables of its norms are random; some steps of its tables have no
    statistics.
    """
    torch.manual_seed(0)
    layer = getattr(seqnorm, name)(*arguments, 5, 8, norm=norm, **options)
    with torch.no_grad():
        for module in layer.modules():
            if isinstance(module, SiteNorm):
                for parameter in module.parameters(recurse=False):
                    parameter.add_(torch.randn_like(parameter) * 0.2)
            if isinstance(module, RunningTable):
                module.running_mean.normal_()
                module.running_var.uniform_(0.5, 2.0)
                module.count[:6] = 40
                module.count[2:3] = 0
                module.running_mean[module.count == 0] = 0.0
                module.running_var[module.count == 0] = 1.0
    return layer.eval()


def nodes(graph: Any) -> collections.Counter[str]:
    """Count the operators of a graph and the bodies within, constants left out."""
    found: collections.Counter[str] = collections.Counter()
    for node in graph.node:
        found[node.op_type] += node.op_type != "Constant"
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                found.update(nodes(attribute.g))
    return +found


def arguments(layer: Any, names: list[str], steps: int, batch: int) -> dict[str, Tensor]:
    """Return random inputs of a graph by name, with NaN in the padding, laid out as (T, B)."""
    draw = torch.Generator().manual_seed(100 * steps + batch)
    cell = isinstance(layer, seqnorm.RecurrentCell)
    sizes = (layer.hidden_size,) * 4 if cell else layer.state_sizes
    entries = () if cell else (sum(map(len, layer.suffixes)),)
    x = torch.randn(steps, batch, layer.input_size, generator=draw)
    found = {"input": x}
    if "lengths" in names:
        lengths = torch.randint(0, steps + 1, (batch,), generator=draw)
        found["lengths"] = lengths
        for number, length in enumerate(lengths.tolist()):
            x[length:, number] = float("nan")
    if "resets" in names:
        found["resets"] = torch.rand(steps, batch, generator=draw) < 0.3
    for letter, size in zip(layer.step.states, sizes):
        state = torch.randn(*entries, batch, size, generator=draw) * 0.5
        # The normaliser of an sLSTM is positive.
        found[f"{letter}_0"] = state.abs() + 0.5 if letter == "n" else state
    if "first_step" in names:
        number = torch.randint(0, 9, (batch,), generator=draw)
        found["first_step"] = number if "resets" in names else number[0]
    return {name: found[name] for name in names}


def _expected(layer: Any, given: dict[str, Tensor]) -> list[Tensor]:
    """Return the results of a layer or cell in float64 for arguments laid out as (T, B)."""
    wide = {k: v.double() if v.is_floating_point() else v for k, v in given.items()}
    states: Any = tuple(wide[f"{s}_0"] for s in layer.step.states if f"{s}_0" in wide)
    states = None if not states else states if len(states) > 1 else states[0]
    x, resets, first = wide["input"], wide.get("resets"), wide.get("first_step", 0)
    if isinstance(layer, seqnorm.RecurrentCell):
        resets = None if resets is None else resets[0]
        final = layer(x[0], states, first_step=first, resets=resets)
        return list(final) if isinstance(final, tuple) else [final]
    if resets is not None and states is not None and isinstance(first, int):
        first = torch.zeros(x.shape[1], dtype=torch.int64)
    if layer.batch_first:
        x, resets = x.transpose(0, 1), None if resets is None else resets.T
    y, final = layer(x, states, wide.get("lengths"), first_step=first, resets=resets)
    return [y, *(final if isinstance(final, tuple) else (final,))]


def largest_difference(layer: Any, path: Path, **options: Any) -> float:
    """Export a layer and return the largest relative difference of any output in any run.

    Args:
        options: of ``to_onnx``.
    """
    model = onnx.load(to_onnx(layer, path, **options))
    onnx.checker.check_model(model, full_check=True)
    assert {entry.domain for entry in model.opset_import} == {""}
    session = onnxruntime.InferenceSession(path)
    names = [one.name for one in session.get_inputs()]
    single = options.get("step", False) or isinstance(layer, seqnorm.RecurrentCell)
    wide = copy.deepcopy(layer).double()
    worst = 0.0
    for steps, batch in SIZES:
        given = arguments(layer, names, 1 if single else steps, batch)
        with torch.no_grad():
            expected = _expected(wide, given)
        turned = not single and layer.batch_first
        feeds = {}
        for name, value in given.items():
            if name in ("input", "resets"):
                value = value[0] if single else value.transpose(0, 1) if turned else value
            feeds[name] = value.numpy()
        results = session.run(None, feeds)
        if options.get("step", False):
            expected[0] = expected[0].squeeze(1 if layer.batch_first else 0)
        kept = expected[: len(results)]
        for result, wanted in zip(results, kept):
            reference = wanted.numpy()
            assert result.shape == reference.shape
            scale = max(float(np.abs(reference).max(initial=0.0)), 1e-6)
            worst = max(worst, float(np.abs(result - reference).max(initial=0.0)) / scale)
    return worst


def main() -> None:
    worst = 0.0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "layer.onnx"
        for cell, preset in cases():
            for options, arguments in FORMS:
                layer = random_layer(cell, preset, **options)
                difference = largest_difference(layer, path, **arguments)
                count = sum(nodes(onnx.load(path).graph).values())
                count /= len(layer.directions())
                form = " ".join([*options, *arguments])
                print(f"{cell:6} {preset!s:26} {form:50} {difference:.1e} {count:5.1f}", flush=True)
                worst = max(worst, difference)
    print(f"largest relative difference: {worst:.1e}")
    sys.exit(worst > 1e-4)


if __name__ == "__main__":
    main()
