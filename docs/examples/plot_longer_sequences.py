"""
Sequences longer than any in training
=====================================

BatchNorm inside a recurrent network has a mean and a variance for every time step that training has
reached. At a later step it uses those of the last step that has any. This example trains on at most
30 steps and tests on up to 120. The result depends on the task: do the states at later steps have
the same distribution as at the last steps of training?
"""

import matplotlib.pyplot as plt
import torch
from torch import nn

import seqnorm

BATCH, UNITS, LONGEST, UPDATES, SEEDS = 32, 24, 30, 200, 3
TESTED = [10, 20, 30, 40, 60, 90, 120]

# %%
# Two tasks
# ---------
# *Recall:* some steps are marked; was the number at the last marked step positive? After a few
# steps the state has the same distribution at every step.
#
# *Sum:* is the sum of all numbers positive? The sum of a longer sequence is larger, so the state
# has to take values that it never had in training.


def recall(lengths, generator):
    steps = torch.arange(int(lengths.max()))[:, None]
    numbers = torch.randn(len(steps), len(lengths), generator=generator)
    marks = (torch.rand(numbers.shape, generator=generator) < 0.1) & (steps < lengths)
    marks[0] = True
    last = torch.where(marks, steps, 0).amax(0)
    x = torch.stack([numbers, marks.float()], -1)
    return x, (numbers[last, torch.arange(len(lengths))] > 0).float()


def total(lengths, generator):
    steps = torch.arange(int(lengths.max()))[:, None]
    drift = 0.5 * torch.randn(len(lengths), generator=generator)
    numbers = torch.randn(len(steps), len(lengths), generator=generator) + drift
    x = torch.stack([numbers, torch.zeros_like(numbers)], -1)
    return x, ((numbers * (steps < lengths)).sum(0) > 0).float()


TASKS = {"recall": recall, "sum": total}

# %%
# Training on short sequences, testing on long ones
# -------------------------------------------------


def errors(task, norm, seed):
    """Train on 5 to 30 steps, and return the error at each tested length."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    lstm, head = seqnorm.LSTM(2, UNITS, norm=norm), nn.Linear(UNITS, 1)
    parameters = [*lstm.parameters(), *head.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=0.01)
    for _ in range(UPDATES):
        lengths = torch.randint(5, LONGEST + 1, (BATCH,), generator=generator)
        x, answer = task(lengths, generator)
        _, (h, _) = lstm(x, lengths=lengths)
        loss = nn.functional.binary_cross_entropy_with_logits(head(h[-1])[:, 0], answer)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
    lstm.eval()
    found = []
    for length in TESTED:
        x, answer = task(torch.full((500,), length), torch.Generator().manual_seed(99))
        with torch.no_grad():
            said = head(lstm(x)[1][0][-1])[:, 0] > 0
        found.append((said != answer.bool()).float().mean().item())
    return found


NORMS = {None: "tab:grey", "layer": "tab:blue", "batch": "tab:orange"}
results = {
    (name, norm): 100 * torch.tensor([errors(task, norm, seed) for seed in range(SEEDS)])
    for name, task in TASKS.items()
    for norm in NORMS
}

# %%
# With ``beyond="error"``, BatchNorm raises an error at such a step instead.

strict = seqnorm.LSTM(2, 4, norm=seqnorm.preset("batch", "LSTM", beyond="error"))
strict(torch.randn(10, 3, 2))
try:
    strict.eval()(torch.randn(12, 3, 2))
except IndexError as error:
    print(error)

# %%
# Errors by length
# ----------------
# Each thin line is one seed, and the thick line is the mean over the seeds.

fig, axes = plt.subplots(2, 1, figsize=(7, 7.5), layout="constrained", sharex=True)
for ax, name in zip(axes, TASKS):
    ax.axvspan(5, LONGEST, color="tab:green", alpha=0.12, label="lengths in training")
    for norm, colour in NORMS.items():
        of_seeds = results[name, norm]
        ax.plot(TESTED, of_seeds.T, color=colour, linewidth=0.8, alpha=0.5)
        ax.plot(TESTED, of_seeds.mean(0), "o-", color=colour, linewidth=2, label=f"norm={norm!r}")
    ax.set(ylabel="error on 500 sequences, %", title=f"Task: {name}", ylim=(0, None))
    ax.grid(alpha=0.3)
axes[1].set_xlabel("number of steps of the tested sequences")
fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
plt.show()

# %%
# The same numbers at two lengths:

for name in TASKS:
    for norm in NORMS:
        at = results[name, norm].mean(0)
        print(
            f"{name:7} norm={norm!s:6} error at 30 steps {at[TESTED.index(30)]:5.1f} %, "
            f"at 120 steps {at[-1]:5.1f} %"
        )

# %%
# On recall no network gets clearly worse beyond 30 steps. On the sum the error of BatchNorm
# triples: its statistics of step 30 do not fit the states of later steps. The network without a
# norm is best here, because a norm takes away the size of the sum. LayerNorm is worst on short
# sequences for that reason, and improves with the length, where the sign of the sum is easier to
# tell.
