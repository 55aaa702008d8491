"""
A LayerNorm LSTM learns the adding problem
==========================================

In the adding problem of Hochreiter & Schmidhuber (1997) every step of a sequence has a random
number, and two of the steps are marked. The network reads the sequence once and returns the sum of
the two marked numbers. The first one is in the first half of the sequence, so the network has to
remember it over dozens of steps.

This example trains ``torch.nn.LSTM`` and ``seqnorm.LSTM`` with two norms on the same sequences, and
draws their learning curves.
"""

import matplotlib.pyplot as plt
import torch
from torch import nn

import seqnorm

STEPS, BATCH, UNITS, UPDATES, SEEDS = 60, 32, 32, 400, 3

# %%
# The task
# --------
# The numbers are uniform between 0 and 1. A network that always answers 1, the mean of the sum, has
# a mean squared error of 1/6. Every batch is new, so the curves show how fast a network learns, and
# no network can learn the examples by heart.


def adding_problem(generator, batch=BATCH):
    """Return sequences (T, B, 2) of numbers and marks, and the sums (B,)."""
    numbers = torch.rand(STEPS, batch, generator=generator)
    marks = torch.zeros(STEPS, batch)
    rows, half = torch.arange(batch), STEPS // 2
    marks[torch.randint(0, half, (batch,), generator=generator), rows] = 1
    marks[torch.randint(half, STEPS, (batch,), generator=generator), rows] = 1
    return torch.stack([numbers, marks], -1), (numbers * marks).sum(0)


def train(make_layer, seed):
    """Train a layer and a head, and return the errors in training and in inference."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    layer, head = make_layer(), nn.Linear(UNITS, 1)
    parameters = [*layer.parameters(), *head.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=0.01)
    errors = []
    for _ in range(UPDATES):
        x, total = adding_problem(generator)
        output, _ = layer(x)
        loss = (head(output[-1])[:, 0] - total).square().mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        errors.append(loss.item())

    def test():
        x, total = adding_problem(torch.Generator().manual_seed(99), batch=1000)
        with torch.no_grad():
            return (head(layer.eval()(x)[0][-1])[:, 0] - total).square().mean().item()

    tests = [test()]
    if seqnorm.report(layer).rows:
        batches = [adding_problem(generator)[0] for _ in range(50)]
        seqnorm.reestimate_statistics(layer, batches)
        tests.append(test())
    return errors, tests


# %%
# Three layers
# ------------
# ``seqnorm.LSTM`` takes the arguments of ``torch.nn.LSTM`` and ``norm``. ``"layer"`` is the
# LayerNorm LSTM of Ba et al. (2016), and ``"batch"`` the BatchNorm LSTM of Cooijmans et al. (2017),
# with a mean and a variance for each time step. All three have the same learning rate, 0.01; with
# 0.003 and 0.03 the curves look similar.

LAYERS = {
    "torch.nn.LSTM": lambda: nn.LSTM(2, UNITS),
    'seqnorm.LSTM, norm="layer"': lambda: seqnorm.LSTM(2, UNITS, norm="layer"),
    'seqnorm.LSTM, norm="batch"': lambda: seqnorm.LSTM(2, UNITS, norm="batch"),
}
runs = {name: [train(make, seed) for seed in range(SEEDS)] for name, make in LAYERS.items()}
curves = {name: torch.tensor([errors for errors, _ in found]) for name, found in runs.items()}

# %%
# The learning curves
# -------------------
# Each thin line is one seed, as a moving average over 20 updates, and the thick line is the mean
# over the seeds. The dotted line is the error of a network that always answers 1.

WINDOW = 20
fig, ax = plt.subplots(figsize=(8, 4.5), layout="constrained")
for (name, errors), colour in zip(curves.items(), ("tab:grey", "tab:blue", "tab:orange")):
    smooth = errors.unfold(1, WINDOW, 1).mean(-1)
    updates = torch.arange(WINDOW, UPDATES + 1)
    ax.plot(updates, smooth.T, color=colour, linewidth=0.8, alpha=0.5)
    ax.plot(updates, smooth.mean(0), color=colour, linewidth=2.5, label=name)
ax.axhline(1 / 6, color="black", linestyle=":", linewidth=1)
ax.text(UPDATES, 1 / 6 * 1.15, "always answer 1", ha="right")
ax.set(yscale="log", xlabel="update of the weights", ylabel="mean squared error in training")
ax.set_title(f"Adding problem, {STEPS} steps, {SEEDS} seeds")
ax.grid(alpha=0.3)
ax.legend(loc="lower left")
plt.show()

# %%
# In these 400 updates torch's LSTM does not get below the error of the constant answer, and both
# normalised layers do. BatchNorm is the first to leave the plateau, but its error in training then
# stays higher than that of LayerNorm, because the mean and variance of 32 sequences are noisy.
#
# Inference
# ---------
# In inference BatchNorm uses running averages of the mean and variance. They come from the last
# updates, in which the weights still changed a lot, so they do not fit the final weights.
# ``reestimate_statistics`` replaces them by statistics of 50 batches with the final weights.

for name, found in runs.items():
    errors = [f"in training {curves[name][:, -50:].mean().item():.4f}"]
    tests = torch.tensor([tests for _, tests in found]).mean(0).tolist()
    for kind, error in zip(("in inference", "re-estimated"), tests):
        errors.append(f"{kind} {error:.4f}")
    print(f"{name:28}", ", ".join(errors))
