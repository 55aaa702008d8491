"""How far two processes with a part of the batch each are from one with all of it.

    python tests/support/ranks_apart.py

The table of docs/distributed.md: over all cases of a kind, the largest difference over the largest
value of its tensor (over 1, should that be smaller).
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import rank_cases
import ranks
import torch
from rank_cases import CASES, SPLITS, compute
from torch import Tensor

KINDS = ("outputs", "gradients of inputs", "gradients of parameters", "tables")


def apart(found: Tensor, expected: Tensor) -> float:
    if not expected.numel():
        return 0.0
    scale = max(1.0, float(expected.abs().max()))
    return float((found - expected).abs().max()) / scale


def row(name: str) -> str:
    recurrent = name.startswith(("lstm", "gru", "ligru"))
    return "recurrent" if recurrent else "sequences, images, volumes"


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        results = ranks.together(rank_cases.all_cases, 2, Path(folder))
    largest: dict[str, dict[str, float]] = {}
    for name, dtype in results[0]:
        case, split = CASES[name]
        whole = compute(case, range(rank_cases.N), dtype, shared=False)
        parts = [result[name, dtype] for result in results]
        found = {kind: [0.0] for kind in KINDS}
        for part, chosen in zip(parts, SPLITS[split]):
            for what, value in part["found"].items():
                expected = whole["found"][what][chosen]
                if value.shape != expected.shape:  # padded to its own longest
                    expected = expected[:, : value.shape[1]]
                found[KINDS[1] if what == "x" else KINDS[0]].append(apart(value, expected))
            for what, expected in whole["buffers"].items():
                found[KINDS[3]].append(apart(part["buffers"][what].double(), expected.double()))
        for what, expected in whole["grads"].items():
            total = torch.stack([part["grads"][what] for part in parts]).sum(0)
            found[KINDS[2]].append(apart(total, expected))
        before = largest.setdefault(f"{row(name)}, {str(dtype).split('.')[1]}", {})
        for kind in KINDS:
            before[kind] = max(before.get(kind, 0.0), *found[kind])
    print(f"| | {' | '.join(KINDS)} |")
    print("|---|---|---|---|---|")
    for name, values in largest.items():
        print(f"| {name} | {' | '.join(f'{values[kind]:.1e}' for kind in KINDS)} |")


if __name__ == "__main__":
    main()
