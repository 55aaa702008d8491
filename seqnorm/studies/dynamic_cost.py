"""What a norm costs in parameters, running tables, time and memory, one long document included."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

from torch.nn import functional as F

from seqnorm.datasets import TextBatch
from seqnorm.models import TextClassifier

from .dynamic_texts import Part, tables_of
from .study import Outcome

PROCESS = Path("/proc/self")


def cost_of(
    make: Callable[[int], TextClassifier],
    part: Part,
    *,
    steps: int,
    batch: int,
    repeats: int,
    seed: int,
) -> Outcome:
    """A training step on a random batch, with the longest document of all in it, and with that
    document cut like the others.

    Times, and the memory that the long one adds at its peak, are curves over the batch's longest
    document, for they are the machine's; what is the same everywhere are values.

    Args:
        make: a network whose tables have this number of steps.
        steps: at which the others, and at first the longest, are cut.
    """
    longest = max(range(len(part)), key=part.lengths.__getitem__)
    others = random.Random(seed).sample([i for i in range(len(part)) if i != longest], batch - 1)
    short = part.head(steps).batch([longest, *others])
    tokens = [part.tokens[longest], *(part.tokens[i][:steps] for i in others)]
    long = Part(tokens, [part.labels[i] for i in (longest, *others)]).batch(range(batch))
    length = len(tokens[0])
    values: dict[str, float] = {
        "padded_bytes": 4.0 * batch * length * make(1).embedding.embedding_dim,
        "alone_long": (length - max(map(len, tokens[1:]))) / sum(map(len, tokens)),
    }
    model = make(length).train()
    taken = [timed(model, short) for _ in range(repeats + 1)]
    seconds = [(float(steps), median(taken[1:]))]  # the first one warms up
    model = make(length).train()

    def once() -> None:
        seconds.append((float(length), timed(model, long)))

    peak = peak_memory(once)
    memory = [] if peak is None else [(float(length), peak)]
    tables = tables_of(model).values()
    values["parameters"] = float(sum(p.numel() for p in model.recurrent.parameters()))
    values["table_bytes"] = float(
        sum(4 * (t.running_mean.numel() + t.running_var.numel()) for t in tables)
    )
    if tables:
        values["updated_steps"] = float(max(int((t.count > 0).sum()) for t in tables))
    return Outcome(values, {"seconds": seconds, "memory": memory})


def timed(model: TextClassifier, batch: TextBatch) -> float:
    """Seconds of a forward and a backward pass."""
    model.zero_grad()
    start = time.perf_counter()
    F.cross_entropy(model(batch.tokens, batch.lengths), batch.labels).backward()
    return time.perf_counter() - start


def peak_memory(work: Callable[[], object]) -> float | None:
    """Bytes that ``work`` adds to this process at its peak; ``None`` where the system does not
    say."""
    try:
        (PROCESS / "clear_refs").write_text("5")  # the peak starts anew
        before = _status("VmRSS")
    except (OSError, KeyError):
        work()
        return None
    work()
    return max(0.0, _status("VmHWM") - before)


def _status(name: str) -> float:
    lines = (PROCESS / "status").read_text().splitlines()
    found = dict(line.split(":", 1) for line in lines)
    return 1024.0 * float(found[name].split()[0])
