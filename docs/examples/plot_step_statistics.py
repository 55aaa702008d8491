"""
BatchNorm over time: statistics of every step
=============================================

BatchNorm inside a recurrence has a mean and a variance for every time step, because the state at
step 2 has another distribution than the state at step 40. Each step's statistics rest on the
sequences that are still running there. This example looks into the table where they are kept.
"""

import matplotlib.pyplot as plt
import torch
from torch import nn

import seqnorm

BATCH, UNITS, LONGEST, UPDATES = 32, 24, 60, 150

# %%
# Sequences of different length
# -----------------------------
# Most sequences are short and few are long, as in texts. The network tells whether the numbers of a
# sequence drift upwards or downwards, so its state grows with time.


def sequences(generator):
    """Return noisy sequences (T, B, 1), their lengths and the direction of their drift."""
    lengths = 5 + torch.empty(BATCH).exponential_(1 / 14, generator=generator).long()
    lengths = lengths.clamp(max=LONGEST)
    upwards = torch.randint(0, 2, (BATCH,), generator=generator).float()
    x = torch.randn(int(lengths.max()), BATCH, 1, generator=generator)
    return x + 0.4 * (2 * upwards - 1)[:, None], lengths, upwards


# %%
# Training
# --------
# ``max_steps`` is the number of steps in the table. A layer has a table for each of its norms; this
# example looks at that of the norm of the cell state c.

torch.manual_seed(0)
generator = torch.Generator().manual_seed(0)
norm = seqnorm.preset("batch", "LSTM", max_steps=80)
lstm, head = seqnorm.LSTM(1, UNITS, norm=norm), nn.Linear(UNITS, 1)
table = lstm.norm_cell_l0.table

parameters = [*lstm.parameters(), *head.parameters()]
optimizer = torch.optim.Adam(parameters, lr=0.01)
for _ in range(UPDATES):
    x, lengths, upwards = sequences(generator)
    _, (h, _) = lstm(x, lengths=lengths)
    loss = nn.functional.binary_cross_entropy_with_logits(head(h[-1])[:, 0], upwards)
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(parameters, 1.0)
    optimizer.step()

# %%
# The report
# ----------
# A row is one sequence at one step. ``report`` shows how many rows the statistics of each step come
# from. A batch with fewer than ``min_count`` rows at a step, 2 by default, does not update that
# step. Steps that no batch has updated are normalised with the statistics of the last step that
# was.

print(lstm.report())

# %%
# Two ways to compute the same network
# ------------------------------------
# In training each batch is normalised with its own statistics, and in inference with the table.
# ``batch_statistics`` evaluates a network in the first way without changing it. How far apart are
# the two outputs of the same sequences? Statistics of 200 batches with the final weights first
# replace the running averages, so the difference that remains is the noise of a single batch.

seqnorm.reestimate_statistics(
    lstm,
    (sequences(generator) for _ in range(200)),
    lambda lstm, batch: lstm(batch[0], None, batch[1]),
)
lstm.eval()
distance, rows, BATCHES = torch.zeros(LONGEST), torch.zeros(LONGEST), 60
for _ in range(BATCHES):
    x, lengths, _ = sequences(generator)
    with torch.no_grad():
        by_table = lstm(x, lengths=lengths)[0]
        with seqnorm.nn.statistics.batch_statistics(lstm):
            by_batch = lstm(x, lengths=lengths)[0]
    distance[: len(x)] += (by_batch - by_table).abs().sum((1, 2)) / UNITS
    rows[: len(x)] += (torch.arange(len(x))[:, None] < lengths).sum(1)
distance = distance / rows

# %%
# The table, step by step
# -----------------------
# The upper panel shows the standard deviations in the table. The lower panel shows how many
# sequences a batch has at each step (bars), and how much an output changes if the batch's own
# statistics replace those of the table (red line).

std = table.running_var[:LONGEST].sqrt()
fig, (above, below) = plt.subplots(2, 1, figsize=(8, 6.6), sharex=True, layout="constrained")
thin = above.plot(range(LONGEST), std, color="tab:blue", linewidth=1, alpha=0.5)
thin[0].set_label("one unit")
above.plot(range(LONGEST), std.mean(-1), color="black", linewidth=2.5, label="mean over units")
above.set(ylabel="running standard deviation of c", title="Every step has its own statistics")
above.grid(alpha=0.3)
above.legend()

below.bar(range(LONGEST), (rows / BATCHES).tolist(), color="lightsteelblue")
below.set_xlabel("time step")
below.set_ylabel("sequences of 32 that have the step", color="tab:blue")
right = below.twinx()
right.plot(range(LONGEST), distance, color="tab:red", linewidth=2)
right.set_ylabel("mean change of an output h", color="tab:red")
right.set_ylim(bottom=0)
below.set_title("With fewer sequences, outputs depend more on the batch")
plt.show()

# %%
# The cell state spreads out over the first dozen steps, so one standard deviation for all steps
# would fit none of them. The fewer sequences reach a step, the more an output depends on the
# batch that its sequence happens to be in. At the very end the red line falls, because many
# batches have a single sequence there: it has no variance of its own and is normalised by the
# table in training, too.
