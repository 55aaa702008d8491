"""
The set S: which numbers share a mean
=====================================

All norms compute ``(x - mean) / sqrt(var + eps)``. They differ in the set S of numbers that share
the mean and the variance. ``seqnorm.statistics_set`` describes S in words, marks it in a tensor,
and draws it.
"""

import matplotlib.pyplot as plt
import torch

import seqnorm

# %%
# In words
# --------
# The function takes norms of seqnorm and of ``torch.nn``. The letters are the axes of the input: N
# or B for the batch, C or F for channels or units, T for time steps, H and W for positions in an
# image.

for norm in (
    torch.nn.BatchNorm2d(4),
    torch.nn.GroupNorm(2, 4),
    torch.nn.InstanceNorm2d(4),
    seqnorm.LayerNorm(4, layout="NTC"),
    seqnorm.BatchNorm(4, layout="NTC", max_steps=5),
):
    s = seqnorm.statistics_set(norm)
    print(f"{s.name} ({', '.join(s.axes)}): {s.words}")

# %%
# ``print`` also describes the consequences of S for training and inference.

print(*str(s).split(". "), sep=".\n")

# %%
# As a picture
# ------------
# A notebook shows a set as a drawing, and ``svg`` returns the drawing as text. For images,
# BatchNorm takes one channel of all examples.

seqnorm.statistics_set(torch.nn.BatchNorm2d(4))

# %%
# GroupNorm stays within one example, so its result does not depend on the rest of the batch.

seqnorm.statistics_set(torch.nn.GroupNorm(2, 4))

# %%
# Some norms mix the statistics of several sets, such as those of BatchNorm and of InstanceNorm.

seqnorm.statistics_set(seqnorm.BatchInstanceNorm2d(4))

# %%
# An LSTM with LayerNorm has three norms: of the product with the input, of the product with the
# state, and of the cell state.

seqnorm.statistics_set(seqnorm.LSTM(8, 16, norm="layer"))

# %%
# As a mask
# ---------
# ``mask`` marks the set of one element. The following figure shows four norms of a batch of three
# sequences with 6, 4 and 2 steps, without the padding. The dark cubes are S for the last unit of
# the first sequence (number 0) at the second step (number 1).

LENGTHS, UNITS = (6, 4, 2), 4
NORMS = {
    "LayerNorm": seqnorm.LayerNorm(UNITS, layout="NTC"),
    "InstanceNorm": seqnorm.InstanceNorm(UNITS, layout="NTC"),
    "BatchNorm of every step": seqnorm.BatchNorm(UNITS, layout="NTC", max_steps=6),
    "BatchNorm, pooled over time": seqnorm.BatchNorm(UNITS, layout="NTC"),
}
shape = (len(LENGTHS), max(LENGTHS), UNITS)

# sphinx_gallery_thumbnail_number = -1
fig = plt.figure(figsize=(9, 7))
for place, (name, norm) in enumerate(NORMS.items(), 1):
    of = seqnorm.statistics_set(norm)
    inside = of.mask(shape, (0, 1, UNITS - 1), LENGTHS)
    valid = of.valid(shape, LENGTHS)
    # Time runs to the right, sequences to the back, units upwards.
    inside, valid = inside.permute(1, 0, 2).numpy(), valid.permute(1, 0, 2).numpy()
    ax = fig.add_subplot(2, 2, place, projection="3d")
    ax.voxels(valid & ~inside, facecolors="#dbe7f355", edgecolors="#8aa4bf77", linewidth=0.5)
    ax.voxels(inside, facecolors="#1f5f9e", edgecolors="white", linewidth=0.5)
    ax.set_title(name, y=0.96)
    ax.set_xlabel("time step", labelpad=8)
    ax.set_ylabel("sequence", labelpad=4)
    ax.set_zlabel("unit", labelpad=0)
    # A number stands beside the middle of its row of cubes.
    for axis, size in ((ax.xaxis, 6), (ax.yaxis, 3), (ax.zaxis, UNITS)):
        axis.set_ticks([number + 0.5 for number in range(size)], [str(n) for n in range(size)])
    ax.view_init(elev=24, azim=-62)
    ax.set_box_aspect((6, 4, 3), zoom=1.05)
fig.subplots_adjust(left=0.0, right=0.95, bottom=0.06, top=0.97, wspace=0.05, hspace=0.08)
plt.show()

# %%
# LayerNorm stays within one step of one sequence, so it needs nothing else in training and nothing
# remembered in inference. Both kinds of BatchNorm reach into other sequences: they need a batch in
# training and running statistics in inference. InstanceNorm and pooled BatchNorm reach into later
# steps, which a recurrence does not know yet. They are for sequences that are known as a whole.
