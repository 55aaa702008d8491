"""Exported graphs in onnxruntime beside the layers in float64, at sizes that were never traced.

Axes: T steps, B sequences.
"""

from __future__ import annotations

import collections
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from torch import Tensor

import seqnorm
from seqnorm.export import to_onnx
from seqnorm.nn.statistics.running_table import RunningTable

# T and B of the runs. No graph is traced at these.
SIZES = ((9, 4), (1, 1), (2, 7))


def trained(layer: Any) -> Any:
    """Return a layer with random tables and parameters of its norms, in inference."""
    torch.manual_seed(0)
    with torch.no_grad():
        for module in layer.modules():
            for name, parameter in module.named_parameters(recurse=False):
                if "norm" in type(module).__name__.lower() and parameter.dim() == 1:
                    parameter.add_(torch.randn_like(parameter) * 0.2)
            if isinstance(module, RunningTable):
                module.running_mean.normal_()
                module.running_var.uniform_(0.5, 2.0)
                seen = torch.arange(module.max_steps) < 6
                module.count.copy_(torch.where(seen, 40, 0))
                if module.max_steps > 3:
                    module.count[2] = 0
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
    layer = layer.double()
    if isinstance(layer, seqnorm.RecurrentCell):
        resets = None if resets is None else resets[0]
        final = layer(x[0], states, first_step=first, resets=resets)
        results = [] if isinstance(final, tuple) else [final]
        return results or list(final)
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
    worst = 0.0
    for steps, batch in SIZES:
        given = arguments(layer, names, 1 if single else steps, batch)
        with torch.no_grad():
            expected = _expected(layer, given)
        layer.float()
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
