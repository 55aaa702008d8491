"""
Convert a model, and choose a backend
=====================================

``seqnorm.convert_rnn`` replaces the recurrent layers of an existing model and keeps their weights.
A backend is a way to compute a layer, such as compiled kernels. ``seqnorm.explain`` shows which
backend computes a layer, and why the others do not.
"""

import time
from statistics import median

import matplotlib.pyplot as plt
import torch
from torch import nn

import seqnorm

# %%
# A model with torch.nn.LSTM
# --------------------------


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
# With ``norm=None`` the converted model computes the same. With a norm its outputs change, so it
# has to be trained further.

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
# The first backend in the list that supports a call computes it.

for name, state in seqnorm.available_backends().items():
    print(f"{name:10} {state}")

# %%
# Without a norm, "aten", which is torch's own layer, comes first. With a norm it is "cpu", the
# compiled kernels of seqnorm.

x = torch.randn(16, 50, 64)
print(seqnorm.explain(same.rnn, x), end="\n\n")
print(seqnorm.explain(normalised.rnn, x))

# %%
# Times
# -----
# The same call is timed with every backend that supports it, forward and backward. "reference" is a
# loop over time in Python. The bars are medians on the machine that built this page, which was
# doing other work as well; shorter is faster.


def milliseconds(layer, backend):
    """Return the median time of a forward and a backward pass, None if it is not supported."""
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

BACKENDS = {
    "reference": ("reference: loop in Python", "tab:grey"),
    "aten": ("aten: torch.nn.LSTM", "tab:green"),
    "cpu": ("cpu: kernels of seqnorm", "tab:blue"),
}
fig, ax = plt.subplots(figsize=(8, 3.8), layout="constrained")
bars = {key: value for key, value in times.items() if value is not None}
for row, ((_, backend), value) in enumerate(bars.items()):
    ax.barh(row, value, color=BACKENDS[backend][1])
    ax.text(value, row, f" {value:.1f} ms", va="center")
labels = [f"{name}\n{BACKENDS[backend][0]}" for name, backend in bars]
ax.set_yticks(range(len(bars)), labels)
ax.invert_yaxis()
ax.margins(x=0.18)
ax.set_xlabel("time of a forward and a backward pass, ms")
ax.set_title("Bidirectional LSTM(64, 96), 16 sequences of 50 steps")
plt.show()
