"""Memory and time of one long document: as a whole, in chunks, and in recomputed chunks.

    python benchmarks/long_documents.py                    100,000 tokens
    python benchmarks/long_documents.py --tokens 20000 --steps 1024

The model is the text classifier of configs/base.yaml. Each way runs in a process of its own. Memory
is the growth of the peak of that process since the model had read a short document.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch

import seqnorm
from seqnorm.models import TextClassifier

WAYS = {
    "inference, whole": "whole",
    "inference, in chunks": "in_chunks",
    "training, whole": "train",
    "training, chunks recomputed": "recompute",
}


def peak() -> float:
    """Return the peak memory of this process in MiB."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    found = re.search(r"VmHWM:\s*(\d+)", status)
    assert found is not None
    return int(found[1]) / 1024


def read(model: TextClassifier, way: str, tokens: int, steps: int) -> None:
    """Read one document, and in training compute its gradient."""
    document, lengths = torch.randint(2, 5000, (1, tokens)), torch.tensor([tokens])
    if way == "in_chunks":
        model.eval().in_chunks(document, lengths, steps)
    elif way == "whole":
        with torch.no_grad():
            model.eval()(document, lengths)
    else:
        seqnorm.compute_in_chunks(model, steps if way == "recompute" else None, recompute=True)
        model(document, lengths).sum().backward()


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--tokens", type=int, default=100_000)
    parser.add_argument("--steps", type=int, default=1024, help="of a chunk")
    parser.add_argument("--way", choices=WAYS.values(), help="one alone, in this process")
    options = parser.parse_args(arguments)
    if options.way is not None:
        torch.manual_seed(0)
        model = TextClassifier(5000, 8)
        read(model, options.way, 512, options.steps)
        before, begun = peak(), time.perf_counter()
        read(model, options.way, options.tokens, options.steps)
        print(f"{peak() - before:.1f} {time.perf_counter() - begun:.2f}")
        return
    print(f"{options.tokens:,} tokens, chunks of {options.steps}")
    print("| way | MiB | s |\n|---|---|---|")
    for words, way in WAYS.items():
        command = [sys.executable, __file__, f"--way={way}"]
        command += [f"--tokens={options.tokens}", f"--steps={options.steps}"]
        memory, seconds = subprocess.check_output(command, text=True).split()
        print(f"| {words} | {memory} | {seconds} |", flush=True)


if __name__ == "__main__":
    main()
