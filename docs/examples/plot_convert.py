"""
Convert a model, and see who computes it
========================================

``seqnorm.convert_rnn`` replaces the recurrent layers of an existing model, and keeps their weights.
``seqnorm.explain`` says which backend computes a layer, and why the others do not.
"""

import time
from statistics import median

import matplotlib.pyplot as plt
import torch
from torch import nn

import seqnorm

# %%
# A model of torch
# ----------------


class Tagger(nn.Module):
    """Tag every token of a text."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(1000, 64)
        self.rnn = nn.LSTM(64, 96, batch_first=True, bidirectional=True)
        self.head = nn.Linear(192, 12)

    def forward(self, tokens):
        return self.head(self.rnn(self.embedding(tokens))[0])


torch.manual_seed(0)
tagger = Tagger().eval()
tokens = torch.randint(0, 1000, (16, 50))

# %%
# The same model, and a normalised one
# ------------------------------------
# With ``norm=None`` the converted model computes the same. A norm changes it, so training has to go
# on from there; the matrices are kept as a start.

same = seqnorm.convert_rnn(tagger, norm=None)
normalised = seqnorm.convert_rnn(tagger, norm="layer")
with torch.no_grad():
    print("largest difference without a norm:", float((same(tokens) - tagger(tokens)).abs().max()))
    print(
        "largest difference with LayerNorm:",
        float((normalised(tokens) - tagger(tokens)).abs().max()),
    )

# %%
# Backends
# --------
# Each backend takes a call or says why it does not. The first one in the list that takes it
# computes it.

for name, state in seqnorm.available_backends().items():
    print(f"{name:10} {state}")

# %%
# torch's own kernels are the first choice where there is no norm.

x = torch.randn(16, 50, 64)
print(seqnorm.explain(same.rnn, x), end="\n\n")
print(seqnorm.explain(normalised.rnn, x))

# %%
# Times
# -----
# The same call by every backend that takes it, forward and backward. "reference" is the definition,
# a loop over time in Python that every other backend is compared with. The bars are medians on the
# machine that built this page, which was doing other work, too.


def milliseconds(layer, backend):
    """Return the median time of a forward and a backward pass, None if it is refused."""
    times = []
    try:
        for _ in range(9):
            start = time.perf_counter()
            with seqnorm.use_backend(backend):
                layer(x)[0].sum().backward()
            times.append(1000 * (time.perf_counter() - start))
    except (RuntimeError, ValueError) as error:
        print(f"{backend}: {str(error).splitlines()[0]}")
        return None
    return median(times[2:])


LAYERS = {"without a norm": same.rnn.train(), 'norm="layer"': normalised.rnn.train()}
times = {
    (name, backend): milliseconds(layer, backend)
    for name, layer in LAYERS.items()
    for backend in ("reference", "aten", "cpu")
}

fig, ax = plt.subplots(figsize=(8, 3.6), layout="constrained")
colours = {"reference": "tab:grey", "aten": "tab:green", "cpu": "tab:blue"}
bars = {key: value for key, value in times.items() if value is not None}
for row, ((_, backend), value) in enumerate(bars.items()):
    ax.barh(row, value, color=colours[backend])
    ax.text(value, row, f" {value:.0f} ms", va="center")
ax.set_yticks(range(len(bars)), [f"{name}, {backend}" for name, backend in bars])
ax.invert_yaxis()
ax.margins(x=0.12)
ax.set_xlabel("forward and backward, milliseconds")
ax.set_title("LSTM(64, 96), two directions, 16 sequences of 50 steps")
plt.show()
