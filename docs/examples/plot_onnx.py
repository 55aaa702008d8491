"""
A normalised LSTM in onnxruntime
================================

``seqnorm.export.to_onnx`` writes a layer as an ONNX file of standard operators. The time loop is
one ``Scan``, so the same file takes sequences of any length in batches of any size. This example
writes a LayerNorm LSTM, runs it at lengths that were never traced, compares it with the layer, and
looks at the graph. It needs ``pip install 'seqnorm[onnx]'``.
"""

import tempfile
from collections import Counter
from pathlib import Path

import matplotlib.pyplot as plt
import onnx
import onnxruntime
import torch

import seqnorm
from seqnorm.export import to_onnx

torch.manual_seed(0)
layer = seqnorm.LSTM(16, 64, batch_first=True, norm="layer").eval()
folder = Path(tempfile.mkdtemp())

# %%
# One file for all lengths
# ------------------------
# ``lengths=True`` adds an input for the lengths of padded sequences. The outputs are zero in the
# padding, and the final states are those after the last step of every sequence.

path = to_onnx(layer, folder / "lstm.onnx", lengths=True)
session = onnxruntime.InferenceSession(path)
print("inputs ", [(one.name, one.shape) for one in session.get_inputs()])
print("outputs", [one.name for one in session.get_outputs()])


def run(x, lengths):
    """Return the outputs of the file for x (B, T, 16), which begins with a state of zeros."""
    zeros = torch.zeros(1, len(x), 64).numpy()
    feeds = {"input": x.numpy(), "lengths": lengths.numpy(), "h_0": zeros, "c_0": zeros}
    return torch.as_tensor(session.run(None, feeds)[0])


lengths_of_runs = (1, 4, 16, 64)
differences = []
for steps in lengths_of_runs:
    x = torch.randn(8, steps, 16)
    lengths = torch.randint(1, steps + 1, (8,))
    with torch.no_grad():
        expected, _ = layer(x, lengths=lengths)
    differences.append(float((run(x, lengths) - expected).abs().max()))
print(dict(zip(lengths_of_runs, differences)))

# %%
# The graph
# ---------
# Every operator is one of ONNX's own. ``Scan`` holds the body of the loop, one step.


def operators(graph):
    """Count the operators of a graph and of the bodies within."""
    found = Counter(node.op_type for node in graph.node if node.op_type != "Constant")
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                found.update(operators(attribute.g))
    return found


plain = to_onnx(layer, folder / "plain.onnx", states=False)
counts = operators(onnx.load(plain).graph)
names, numbers = zip(*counts.most_common())

figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
left.barh(names[::-1], numbers[::-1], color="#4878a8")
left.set(title=f"{sum(numbers)} operators, for any length", xlabel="number", xticks=range(4))
right.loglog(lengths_of_runs, [max(d, 1e-9) for d in differences], "o-", color="#4878a8")
right.set(title="File and layer, float32", xlabel="length T", ylabel="largest difference")
right.set_ylim(1e-8, 1e-3)
plt.show()

# %%
# One step at a time
# ------------------
# ``step=True`` writes a graph of one step without a loop, for a program that streams its input.

step = onnxruntime.InferenceSession(to_onnx(layer, folder / "step.onnx", step=True))
x = torch.randn(1, 10, 16)
state = {"h_0": torch.zeros(1, 1, 64).numpy(), "c_0": torch.zeros(1, 1, 64).numpy()}
outputs = []
for frame in x[0]:
    y, h, c = step.run(None, {"input": frame[None].numpy(), **state})
    state = {"h_0": h, "c_0": c}
    outputs.append(torch.as_tensor(y))
with torch.no_grad():
    whole = layer(x)[0][0]
print("largest difference:", float((torch.cat(outputs) - whole).abs().max()))
