"""
Padded batches and lengths
==========================

Sequences of different length are padded to a batch. With ``lengths``, the padding enters no output,
state, gradient or statistic, whatever it holds. This example fills it with larger and larger
numbers, and compares three ways to compute a bidirectional layer.
"""

import copy

import matplotlib.pyplot as plt
import torch
from torch import nn

import seqnorm

LENGTHS = [20, 12, 5, 9]
FILLS = [0.0, 0.01, 0.1, 1.0, 10.0, 100.0]


def batch(fill):
    """Return the same sequences (N, T, C), with one value in all of the padding."""
    x = torch.randn(len(LENGTHS), max(LENGTHS), 8, generator=torch.Generator().manual_seed(0))
    padding = torch.arange(max(LENGTHS)) >= torch.tensor(LENGTHS)[:, None]
    x[padding] = fill
    return x, ~padding


# %%
# Three ways
# ----------
# The first way gives no lengths and multiplies the outputs by a mask afterwards, as is often done.
# The backward direction then starts in the padding. The second way packs the sequences for the
# LSTM, but then applies torch's BatchNorm to padded outputs. The third way gives ``lengths`` to a
# layer and a norm of this library.

torch.manual_seed(0)
plain = nn.LSTM(8, 16, batch_first=True, bidirectional=True)
theirs = nn.BatchNorm1d(32)
lstm = seqnorm.LSTM(8, 16, batch_first=True, bidirectional=True, norm="batch")
ours = seqnorm.BatchNorm(32, layout="NTC")


def masked_afterwards(x, valid):
    return plain(x)[0] * valid[:, :, None]


def normalised_with_padding(x, valid):
    packed = nn.utils.rnn.pack_padded_sequence(x, torch.tensor(LENGTHS), True, False)
    padded, _ = nn.utils.rnn.pad_packed_sequence(plain(packed)[0], batch_first=True)
    # Layers between the recurrence and the norm, such as a bias, fill the padding again.
    padded = torch.where(valid[:, :, None], padded, x[:, :, :1])
    return theirs(padded.transpose(1, 2)).transpose(1, 2) * valid[:, :, None]


def with_lengths(x, valid):
    # The longest sequence ends alone, where a norm of the batch reads running statistics. Copies
    # start each call from the same ones.
    return copy.deepcopy(ours)(copy.deepcopy(lstm)(x, lengths=LENGTHS)[0], lengths=LENGTHS)


WAYS = {
    "nn.LSTM, outputs masked afterwards": masked_afterwards,
    "nn.LSTM packed, BatchNorm1d over the padding": normalised_with_padding,
    'seqnorm.LSTM, norm="batch", and seqnorm.BatchNorm': with_lengths,
}

# %%
# The change of the valid outputs
# -------------------------------
# Only the padding changes, so no output at a valid step should change.

changes = {}
for name, way in WAYS.items():
    with torch.no_grad():
        before = way(*batch(0.0))
        changes[name] = [(way(*batch(fill)) - before).abs().max().item() for fill in FILLS]
    print(f"{name:52}", " ".join(f"{change:.1e}" for change in changes[name]))

# %%
# Even NaN in the padding changes no output and no gradient.

x, valid = batch(float("nan"))
x.requires_grad_()
output = ours(lstm(x, lengths=LENGTHS)[0], lengths=LENGTHS)
output.square().sum().backward()
print("finite outputs:  ", bool(output.isfinite().all()))
print("finite gradients:", all(bool(p.grad.isfinite().all()) for p in lstm.parameters()))
print("gradient of the padding:", float(x.grad[~valid].abs().max()))

# %%
# Statistics
# ----------
# BatchNorm divides by a standard deviation. The second panel shows it at each step of a batch of 64
# sequences with 5 to 40 steps: over the sequences that have the step, and over all sequences, where
# the outputs of those that have ended are zeros. The zeros make it too small, and the later the
# step, the more zeros there are.

many = torch.randint(5, 41, (64,))
many[0] = 40
with torch.no_grad():
    states = seqnorm.LSTM(8, 16)(torch.randn(40, 64, 8), lengths=many)[0]
reached = [states[t, many > t] for t in range(40)]
enough = [t for t in range(40) if len(reached[t]) >= 4]
over_valid = [float(reached[t].std(0).mean()) for t in enough]
over_all = [float(states[t].std(0).mean()) for t in enough]

fig, (above, below) = plt.subplots(2, 1, figsize=(7, 8), layout="constrained")
for (name, change), style in zip(changes.items(), ("o-", "s-", "D-")):
    above.plot(range(len(FILLS)), change, style, label=name, linewidth=2)
above.set_xticks(range(len(FILLS)), [f"{fill:g}" for fill in FILLS])
above.set_yscale("symlog", linthresh=1e-4)
above.set_ylim(-2e-5, 20)
above.set(xlabel="value in the padding", ylabel="largest change of a valid output")
above.set_title("Effect of the padding on valid outputs")
above.grid(alpha=0.3)
above.legend(loc="center right", bbox_to_anchor=(1, 0.24), fontsize=9)

below.plot(enough, over_valid, color="tab:green", linewidth=2, label="sequences with this step")
below.plot(enough, over_all, color="tab:red", linewidth=2, label="all sequences, zeros as padding")
below.set(xlabel="time step", ylabel="standard deviation of the outputs", ylim=(0, None))
below.set_title("Effect of zeros in the padding on the standard deviation")
below.grid(alpha=0.3)
below.legend(loc="lower left")
plt.show()
