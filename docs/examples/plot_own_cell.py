"""
A cell of your own
==================

A cell is a subclass of ``seqnorm.Step`` with the equation of one time step. The library makes
layers of it, with several directions, lengths, packed sequences and norms. This example writes a
cell with two gates, checks it, and trains it without a norm and with two norms.
"""

import matplotlib.pyplot as plt
import torch
from torch import nn

import seqnorm
from seqnorm.testing import check_step

# %%
# The equation
# ------------
# JANET (van der Westhuizen & Lasenby 2018, "The unreasonable effectiveness of the forget gate") is
# an LSTM with a forget gate alone::
#
#     f   = sigmoid(f)
#     h_t = f h_(t-1) + (1 - f) tanh(g)
#
# ``x`` and ``h`` are the products of the matrices with the input and with the previous state,
# already normalised and with bias. They hold the gates in the order of ``gates``. ``state`` has the
# parts of the previous state, here only h. ``norm("sum", ...)`` normalises the sum of the terms if
# the layer is asked to do so; ``scheme`` describes the norms of the layer and is not needed here.


class ForgetGateStep(seqnorm.Step):
    """f = sigmoid(f); h = f h + (1 - f) tanh(g)."""

    gates = "fg"

    def step(self, x, h, state, norm, scheme):
        f, g = norm("sum", x + h).chunk(2, -1)
        f = f.sigmoid()
        return (f * state[0] + (1 - f) * g.tanh(),)


# %%
# The check
# ---------
# ``check_step`` tests the cell with every norm: derivatives against finite differences, a padded
# batch against each sequence by itself, padding that contains NaN, both directions, single steps,
# saving and more.

checks = check_step(ForgetGateStep())
print(*checks[:7], sep="\n")
print(f"... {len(checks)} checks passed")

# %%
# A layer
# -------
# ``RecurrentLayer`` takes the step, and the options of ``seqnorm.LSTM``.

layer = seqnorm.RecurrentLayer(
    ForgetGateStep(), 2, 32, num_layers=2, bidirectional=True, norm="layer"
)
output, h = layer(torch.randn(10, 3, 2), lengths=[10, 4, 7])
print(output.shape, h.shape)

# %%
# Training
# --------
# The task: some steps are marked, and the answer is the number at the last marked step. Sequences
# have 5 to 30 steps.

BATCH, UNITS, UPDATES, SEEDS = 32, 24, 200, 3


def last_marked(generator):
    """Return sequences (T, B, 2) of numbers and marks, lengths, and the last marked numbers."""
    lengths = torch.randint(5, 31, (BATCH,), generator=generator)
    steps = torch.arange(int(lengths.max()))[:, None]
    numbers = torch.rand(len(steps), BATCH, generator=generator)
    marks = (torch.rand(len(steps), BATCH, generator=generator) < 0.1) & (steps < lengths)
    marks[0] = True
    last = torch.where(marks, steps, 0).amax(0)
    return torch.stack([numbers, marks.float()], -1), lengths, numbers[last, torch.arange(BATCH)]


def train(norm, seed):
    """Train the cell with a linear head, and return the error of each batch."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    layer = seqnorm.RecurrentLayer(ForgetGateStep(), 2, UNITS, norm=norm)
    head = nn.Linear(UNITS, 1)
    parameters = [*layer.parameters(), *head.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=0.01)
    errors = []
    for _ in range(UPDATES):
        x, lengths, number = last_marked(generator)
        _, h = layer(x, lengths=lengths)
        loss = (head(h[-1])[:, 0] - number).square().mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        errors.append(loss.item())
    return errors


NORMS = {None: "tab:grey", "layer": "tab:blue", "batch": "tab:orange"}
curves = {norm: torch.tensor([train(norm, seed) for seed in range(SEEDS)]) for norm in NORMS}

# %%
# The learning curves
# -------------------
# Each thin line is one seed, as a moving average over 15 updates, and the thick line is the mean
# over the seeds. The dotted line is the error of a network that always answers 1/2.

WINDOW = 15
fig, ax = plt.subplots(figsize=(8, 4.5), layout="constrained")
for norm, colour in NORMS.items():
    smooth = curves[norm].unfold(1, WINDOW, 1).mean(-1)
    updates = torch.arange(WINDOW, UPDATES + 1)
    ax.plot(updates, smooth.T, color=colour, linewidth=0.8, alpha=0.5)
    ax.plot(updates, smooth.mean(0), color=colour, linewidth=2.5, label=f"norm={norm!r}")
ax.axhline(1 / 12, color="black", linestyle=":", linewidth=1)
ax.text(UPDATES, 1 / 12 * 1.08, "always answer 1/2", ha="right")
ax.set(yscale="log", xlabel="update of the weights", ylabel="mean squared error in training")
ax.set_title(f"A cell with a forget gate alone, {SEEDS} seeds")
ax.grid(alpha=0.3)
ax.legend()
plt.show()

# %%
# On this task the cell learns fastest with LayerNorm. BatchNorm helps at the beginning, and by the
# last update the cell without a norm has caught up with it.
