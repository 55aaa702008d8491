"""ONNX models with matrices in 8 bits."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..extra import explained

_OPTIONS: Mapping[str, Any] = {
    "op_types_to_quantize": ["MatMul", "Gather"],
    "per_channel": True,
    # Weights from -64 to 64: on x86 processors without VNNI, sums of larger products overflow.
    "reduce_range": True,
    "extra_options": {"EnableSubgraph": True, "MatMulConstBOnly": True},
}


def quantised(model: Any, hint: str) -> Any:
    """Return a model whose matrices and embeddings are integers of 8 bits.

    A matrix W (I, O) is stored as integers from -64 to 64 with a scale for each of its O columns,
    and an embedding with one scale. At run time, x is quantised by its smallest and its largest
    number, and x W is a product of integers. Norms, biases, activations and states stay in float32.
    The operators are standard ones, ``DynamicQuantizeLinear`` and ``MatMulInteger``.

    Args:
        model: an ``onnx.ModelProto``, which is changed.
        hint: how to install onnxruntime.

    Raises:
        ModuleNotFoundError: the package ``onnxruntime`` is missing.
    """
    with explained("int8=True", hint):
        import onnx
        from onnxruntime.quantization import quantize_dynamic
    products_as_matmul(model)
    with tempfile.TemporaryDirectory() as folder, _quiet():
        path = Path(folder) / "int8.onnx"
        quantize_dynamic(model, path, **_OPTIONS)
        found = onnx.load(path)
    found.producer_name, found.producer_version = model.producer_name, model.producer_version
    return found


def products_as_matmul(model: Any) -> None:
    """Write each ``Gemm`` with a constant matrix as ``MatMul``, and ``Add`` of its bias.

    Within a loop onnxruntime quantises ``MatMul`` alone.
    """
    from onnx import helper, numpy_helper

    constants = {one.name: one for one in model.graph.initializer}
    turned: dict[str, str] = {}
    for graph in _graphs(model.graph):
        nodes: list[Any] = []
        for node in graph.node:
            attributes = {one.name: helper.get_attribute_value(one) for one in node.attribute}
            plain = attributes.get("alpha", 1.0) == attributes.get("beta", 1.0) == 1.0
            turns = bool(attributes.get("transB", 0))
            if node.op_type != "Gemm" or not plain or attributes.get("transA", 0):
                nodes.append(node)
                continue
            x, weight, *bias = node.input
            if weight not in constants:
                nodes.append(node)
                continue
            if turns and weight not in turned:
                turned[weight] = f"{weight}.T"
                values = numpy_helper.to_array(constants[weight]).T.copy()
                model.graph.initializer.append(numpy_helper.from_array(values, turned[weight]))
            (result,) = node.output
            product = f"{result}.product" if any(bias) else result
            matrix = turned[weight] if turns else weight
            nodes.append(helper.make_node("MatMul", [x, matrix], [product], f"{node.name}.product"))
            if any(bias):
                nodes.append(helper.make_node("Add", [product, *bias], [result], node.name))
        del graph.node[:]
        graph.node.extend(nodes)
    _drop_unused(model)


def _graphs(graph: Any) -> Iterator[Any]:
    """Yield a graph and the bodies of its loops."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _graphs(attribute.g)


def _drop_unused(model: Any) -> None:
    """Remove the constants that no node reads."""
    read = {one.name for one in model.graph.output}
    read |= {name for graph in _graphs(model.graph) for node in graph.node for name in node.input}
    read |= {one.name for graph in _graphs(model.graph) for one in graph.output}
    kept = [one for one in model.graph.initializer if one.name in read]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the advice to prepare the model, which the exporter has done."""
    log = logging.getLogger()
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(level)
