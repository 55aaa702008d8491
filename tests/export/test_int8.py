"""Layers in 8 bits: operators, sizes, and the distance from float32."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_here
import pytest
import torch

import seqnorm
from seqnorm.export import to_onnx

onnx_here.need()

import onnx  # noqa: E402  # after the skip
import onnxruntime  # noqa: E402
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from seqnorm.export.int8 import products_as_matmul  # noqa: E402
from seqnorm.export.onnx import export  # noqa: E402


@pytest.mark.parametrize(("cell", "norm"), [("LSTM", "layer"), ("GRU", None)])
def test_a_layer_in_8_bits(cell: str, norm: str | None, tmp_path: Path) -> None:
    torch.manual_seed(0)
    layer = getattr(seqnorm, cell)(32, 64, norm=norm).eval()
    paths = [tmp_path / "float.onnx", tmp_path / "int8.onnx"]
    for path, int8 in zip(paths, (False, True)):
        assert to_onnx(layer, path, int8=int8, states=False) == path
    sizes = [path.stat().st_size for path in paths]
    assert sizes[1] < 0.5 * sizes[0]
    model = onnx.load(paths[1])
    onnx.checker.check_model(model)
    assert {entry.domain for entry in model.opset_import} == {""}, "standard operators alone"
    loop = next(node for node in model.graph.node if node.op_type == "Scan")
    inside = {node.op_type for node in loop.attribute[0].g.node}
    assert "MatMulInteger" in inside
    assert not {"Gemm", "MatMul"} & inside
    assert model.producer_name == "seqnorm"
    x = torch.randn(12, 3, 32)
    with torch.no_grad():
        expected = layer(x)[0].numpy()
    found = onnxruntime.InferenceSession(paths[1]).run(None, {"input": x.numpy()})[0]
    assert 1e-6 < np.abs(found - expected).max() < 0.15
    assert np.abs(found - expected).mean() < 0.01


def test_a_size_that_the_module_fixes() -> None:
    class Fixing(torch.nn.Module):
        def forward(self, *tensors: torch.Tensor) -> torch.Tensor:
            return tensors[0] + torch.arange(len(tensors[0]))[:, None]

    with pytest.raises(RuntimeError, match="takes B=3 alone in its input x"):
        export(Fixing().eval(), {"x": torch.zeros(3, 2)}, {"x": {0: "B"}}, ["y"])


def _gemm(**attributes: float) -> onnx.ModelProto:
    weight = np.arange(6, dtype=np.float32).reshape(2, 3)
    node = helper.make_node("Gemm", ["x", "w", "b"], ["y"], "g", **attributes)
    graph = helper.make_graph(
        [node],
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["B", 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["B", 2])],
        [
            numpy_helper.from_array(weight, "w"),
            numpy_helper.from_array(np.ones(2, np.float32), "b"),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)


def test_products_are_the_same() -> None:
    x = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    results = []
    for rewritten in (False, True):
        model = _gemm(transB=1)
        if rewritten:
            products_as_matmul(model)
            assert [node.op_type for node in model.graph.node] == ["MatMul", "Add"]
            assert "w" not in {one.name for one in model.graph.initializer}
        session = onnxruntime.InferenceSession(model.SerializeToString())
        results.append(session.run(None, {"x": x})[0])
    np.testing.assert_allclose(results[1], results[0], rtol=1e-6)


def test_other_products_stay() -> None:
    model = _gemm(transB=1, alpha=2.0)
    products_as_matmul(model)
    assert [node.op_type for node in model.graph.node] == ["Gemm"]
