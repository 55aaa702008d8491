"""
Streams of sound and of sensors
===============================

A recogniser hears sound in packets, and a monitor gets readings from many sensors, each at its own
time. ``seqnorm.Stream`` gives every packet to the model as it arrives. The outputs are those of the
whole recording. This example trains a small detector of voices, streams a recording in packets of
uneven length, and then many recordings at once.
"""

import matplotlib.pyplot as plt
import torch
from torch import nn

import seqnorm

FRAMES, BANDS, UPDATES = 300, 12, 60

# %%
# Recordings
# ----------
# A frame holds the energies of 12 bands of frequencies in 10 ms. Voices come and go, and their
# energy stands in a few bands that move. The noise is so loud that a single frame does not tell
# much: the detector has to remember.


def recordings(count, generator):
    """Return frames (T, B, bands), and the times (T, B) of voices."""
    flips = torch.rand(FRAMES, count, generator=generator) < 0.02
    voiced = flips.cumsum(0) % 2 == 1
    start = torch.rand(1, count, generator=generator)
    pitch = 4 + 3 * torch.sin(torch.arange(FRAMES) / 25)[:, None] + start
    distance = torch.arange(BANDS) - pitch[..., None]
    voice = torch.exp(-(distance**2)) * voiced[..., None]
    return voice + 0.8 * torch.randn(FRAMES, count, BANDS, generator=generator), voiced.float()


# %%
# A detector
# ----------
# Linear, a recurrent layer that reads forwards, Linear: no part looks into the future.


class Detector(nn.Module):
    def __init__(self):
        super().__init__()
        self.before = nn.Linear(BANDS, 24)
        self.rnn = seqnorm.GRU(24, 24, norm="layer")
        self.after = nn.Linear(24, 1)

    def forward(self, frames):
        output, _ = self.rnn(self.before(frames))
        return self.after(output).squeeze(-1)


torch.manual_seed(0)
generator = torch.Generator().manual_seed(0)
model = Detector()
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
for update in range(UPDATES):
    frames, voiced = recordings(16, generator)
    loss = nn.functional.binary_cross_entropy_with_logits(model(frames), voiced)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if (update + 1) % 20 == 0:
        print(f"update {update + 1}: loss {loss:.3f}")
model.eval()

# %%
# One recording, packet by packet
# -------------------------------
# The packets have 1 to 30 frames. For comparison, each packet is also given to the model by
# itself, which then forgets all that came before.

frames, voiced = recordings(1, generator)
packets = frames.split([30, 3, 1, 17, 25, 9, 30, 12, 28, 5, 22, 18, 30, 7, 23, 30, 10])

stream = seqnorm.Stream(model, batch=1)
arriving = [stream(packet) for packet in packets]
streamed = torch.cat(arriving)

with torch.no_grad():
    whole = model(frames)
    forgetful = torch.cat([model(packet) for packet in packets])
print("largest difference of the stream from the whole recording:", end=" ")
print(f"{(streamed - whole).abs().max():.0e}")
for name, logits in (("streamed", streamed), ("each packet by itself", forgetful)):
    wrong = ((logits > 0) != voiced.bool()).float().mean()
    print(f"frames with a wrong answer, {name}: {wrong:.1%}")

# %%
# Many sensors in one batch
# -------------------------
# Sensors do not send at the same time. ``lengths`` says how many new frames each of them has, 0 for
# none. ``reset`` begins a stream anew after its sensor was replaced, ``join`` adds sensors, and
# ``select`` keeps some of them.

frames, _ = recordings(3, generator)
sensors = seqnorm.Stream(model, batch=2)
sensors(frames[:8, :2], lengths=[8, 3])
sensors(frames[8:12, :2], lengths=[0, 4])
print("frames so far:", sensors.steps.tolist())

sensors.reset([1])
sensors = sensors.join(seqnorm.Stream(model, batch=1))
sensors(frames[:5], lengths=[5, 5, 2])
print("after a new sensor and one more:", sensors.steps.tolist())

saved = sensors.state_dict()
print("what a saved state holds:", {name: tuple(value.shape) for name, value in saved.items()})
sensors = sensors.select([0, 2])
print("without the second:", sensors)

# %%
# The probability of a voice
# --------------------------
# Lines are drawn where packets begin. A model that forgets is unsure after each of them.

fig, (above, below) = plt.subplots(2, 1, figsize=(7, 6), sharex=True, layout="constrained")
for axes, logits, title in (
    (above, streamed, "with a stream: the state goes on"),
    (below, forgetful, "each packet by itself: the state begins anew"),
):
    axes.fill_between(range(FRAMES), voiced[:, 0], color="0.88", step="mid", label="voice")
    axes.plot(logits.sigmoid()[:, 0], color="C0", linewidth=1.5, label="detector")
    begins = torch.tensor([len(packet) for packet in packets]).cumsum(0)[:-1]
    for begin in begins.tolist():
        axes.axvline(begin, color="0.6", linewidth=0.5)
    axes.set_title(title)
    axes.set_ylabel("probability")
above.legend(loc="lower center")
below.set_xlabel("frame of 10 ms")
plt.show()
