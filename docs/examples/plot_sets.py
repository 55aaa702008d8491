"""
The set S: which numbers share a mean
=====================================

All norms compute ``(x - mean) / sqrt(var + eps)``. They differ in one thing: the set S of numbers
that share the mean and the variance. ``seqnorm.statistics_set`` describes S in words, marks it in a
tensor, and draws it.
"""

import matplotlib.pyplot as plt
import torch

import seqnorm

# %%
# In words
# --------
# It takes the norms of this library and those of torch.

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
# ``print`` adds what follows from S for training and inference.

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
# A recurrent layer has a set for each place of a norm.

seqnorm.statistics_set(seqnorm.LSTM(8, 16, norm="layer"))

# %%
# As a mask
# ---------
# ``mask`` marks the set of one element. The following figure draws four norms of padded sequences.
# Three sequences of 6, 4 and 2 steps are batched; the cells of the padding are left out. The dark
# cells are S, for the element of the first sequence at the second step.

LENGTHS, UNITS = (6, 4, 2), 4
NORMS = {
    "LayerNorm": seqnorm.LayerNorm(UNITS, layout="NTC"),
    "InstanceNorm": seqnorm.InstanceNorm(UNITS, layout="NTC"),
    "BatchNorm of every step": seqnorm.BatchNorm(UNITS, layout="NTC", max_steps=6),
    "BatchNorm, pooled over time": seqnorm.BatchNorm(UNITS, layout="NTC"),
}
shape = (len(LENGTHS), max(LENGTHS), UNITS)

# sphinx_gallery_thumbnail_number = -1
fig = plt.figure(figsize=(9, 6.6), layout="constrained")
for place, (name, norm) in enumerate(NORMS.items(), 1):
    of = seqnorm.statistics_set(norm)
    inside = of.mask(shape, (0, 1, UNITS - 1), LENGTHS)
    valid = of.valid(shape, LENGTHS)
    # Time runs to the right, sequences to the back, units upwards.
    inside, valid = inside.permute(1, 0, 2).numpy(), valid.permute(1, 0, 2).numpy()
    ax = fig.add_subplot(2, 2, place, projection="3d")
    ax.voxels(valid & ~inside, facecolors="#dbe7f355", edgecolors="#8aa4bf77", linewidth=0.5)
    ax.voxels(inside, facecolors="#1f5f9e", edgecolors="white", linewidth=0.5)
    ax.set(xlabel="time step", ylabel="sequence", title=name)
    ax.set_zlabel("unit")
    ax.set(xticks=range(0, 7, 2), yticks=range(4), zticks=range(0, 5, 2))
    ax.view_init(elev=24, azim=-62)
    ax.set_box_aspect((6, 4, 3), zoom=0.9)
plt.show()

# %%
# LayerNorm stays within one step of one sequence, so it needs nothing else in training and nothing
# remembered in inference. Both kinds of BatchNorm reach into other sequences: they need a batch in
# training and running statistics in inference. InstanceNorm and pooled BatchNorm reach into later
# steps, which a recurrence does not know yet. They are for sequences that are known as a whole.
