"""
Norms of images and the size of the batch
=========================================

BatchNorm takes its statistics over the images of a mini-batch. GroupNorm and InstanceNorm stay
within one image. This example trains a small convolutional network on digits, with batches of 2 to
64 images, and measures the test error.
"""

import matplotlib.pyplot as plt
import torch
from sklearn.datasets import load_digits
from torch import nn

import seqnorm

# %%
# The data and the network
# ------------------------
# Scikit-learn's digits are 1797 images of 8 x 8 pixels. Only 512 are for training, because with
# more of them there would be too few errors to compare.

digits = load_digits()
order = torch.randperm(len(digits.target), generator=torch.Generator().manual_seed(0))
images = torch.tensor(digits.images, dtype=torch.float32)[order, None] / 16
labels = torch.tensor(digits.target)[order]
train_x, train_y, test_x, test_y = images[:512], labels[:512], images[512:], labels[512:]

NORMS = {
    "BatchNorm": (seqnorm.BatchNorm2d, "tab:orange"),
    "GroupNorm": (lambda channels: seqnorm.GroupNorm(4, channels), "tab:blue"),
    "InstanceNorm": (seqnorm.InstanceNorm2d, "tab:green"),
}
BATCHES, SEEDS, EPOCHS = (2, 4, 8, 16, 64), 3, 6


def network(norm):
    layers = []
    for before, after, stride in ((1, 8, 1), (8, 16, 2)):
        layers += [nn.Conv2d(before, after, 3, stride, 1, bias=False), norm(after), nn.ReLU()]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(256, 10))


# %%
# One call converts the norms of an existing network. It keeps gains and biases, and warns of
# everything that it drops:

print(seqnorm.convert_norm(network(nn.BatchNorm2d), to="group", num_groups=4))

# %%
# Training
# --------
# The learning rate is proportional to the batch size, so that each image has about the same
# influence on the weights at every batch size.


def test_error(norm, batch, seed):
    """Train for a few epochs, and return the percentage of errors."""
    torch.manual_seed(seed)
    model = network(norm)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.2 * batch / 64, momentum=0.9)
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(train_x)).split(batch):
            loss = nn.functional.cross_entropy(model(train_x[rows]), train_y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    model.eval()
    with torch.no_grad():
        return 100 * (model(test_x).argmax(1) != test_y).float().mean().item()


results = {
    name: torch.tensor([[test_error(norm, b, seed) for b in BATCHES] for seed in range(SEEDS)])
    for name, (norm, _) in NORMS.items()
}

# %%
# Errors by batch size
# --------------------
# Lines are means over three seeds, and each small dot is one seed.

fig, ax = plt.subplots(figsize=(8, 4.5), layout="constrained")
for name, (_, colour) in NORMS.items():
    ax.plot(BATCHES, results[name].T, ".", color=colour, alpha=0.5)
    ax.plot(BATCHES, results[name].mean(0), "o-", color=colour, linewidth=2, label=name)
ax.set_xscale("log", base=2)
ax.set_xticks(BATCHES, [str(batch) for batch in BATCHES])
ax.invert_xaxis()
ax.set(xlabel="batch size in training, from large to small", ylabel="test error, %", ylim=(0, None))
ax.set_title(f"Three norms at different batch sizes (digits, {EPOCHS} epochs)")
ax.grid(alpha=0.3)
ax.legend()
plt.show()

# %%
# BatchNorm has the lowest mean error here at every size, even with two images in a batch: each
# channel then still has 2 x 64 or 2 x 16 positions to compute a mean from. In the studies of
# :doc:`../limitations`, a deeper network on harder images loses this advantage at a batch size of
# two.
