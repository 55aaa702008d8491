"""Golden files: state dicts and checkpoints of one version of seqnorm, with their answers.

    python tests/support/golden.py modules 1
    python tests/support/golden.py checkpoint 1

write tests/golden/format_1.pt, or checkpoint_1.ckpt and checkpoint_1.txt. A file is written once,
by the first version that saves in its format, and stays: all later versions have to load it.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import seqnorm

FOLDER = Path(__file__).parents[1] / "golden"
LENGTHS = [5, 2, 4]
STACK: dict[str, Any] = {"num_layers": 2, "bidirectional": True}
# Modules by their classes and arguments; a norm may be a preset with changes.
MODULES: list[tuple[str, list[Any], dict[str, Any]]] = [
    ("LSTM", [3, 4], {"norm": ["batch", {"max_steps": 6}], **STACK}),
    ("LSTM", [3, 4], {"norm": "layer", "proj_size": 2}),
    ("GRU", [3, 4], {"norm": "dreamer"}),
    ("GRU", [3, 4], {"norm": "icefall"}),
    ("RNN", [3, 4], {"norm": "batch_pooled", "nonlinearity": "relu"}),
    ("LiGRU", [3, 4], {"norm": "moumen2023"}),
    ("IndRNN", [3, 4], {"norm": "rms"}),
    ("SLSTM", [3, 4], {"norm": "xlstm", "num_heads": 2}),
    ("LSTM", [3, 4], {"norm": "nemo_batch"}),
    ("LSTMCell", [3, 4], {"norm": "haste"}),
    ("GRUCell", [3, 4], {"norm": "layer"}),
    ("BatchNorm", [3], {"max_steps": 6, "layout": "NTC"}),
    ("LayerNorm", [3], {"layout": "NTC"}),
]


def build(name: str, args: list[Any], options: dict[str, Any]) -> Any:
    norm = options.get("norm")
    if isinstance(norm, list):
        options = {**options, "norm": seqnorm.preset(norm[0], name, **norm[1])}
    return getattr(seqnorm, name)(*args, **options).double()


def answer(module: Any, x: Tensor) -> list[Tensor]:
    """Results in inference."""
    module = module.eval()
    if type(module).__name__.endswith("Cell"):
        found = module(x[0])
    elif hasattr(module, "layout"):
        found = module(x.transpose(0, 1), LENGTHS)
    else:
        output, state = module(x, lengths=LENGTHS)
        found = (output, *(state if isinstance(state, tuple) else (state,)))
    return [t.detach() for t in (found if isinstance(found, tuple) else (found,))]


def predicted(checkpoint: Path) -> str:
    """Return the output of ``predict`` for a few lines of text."""
    from bad_inputs import run  # loads the training

    with tempfile.TemporaryDirectory() as folder:
        lines = Path(folder) / "lines.txt"
        lines.write_text("good film\nbad film\n\nsomething else\n", encoding="utf-8")
        status, out, err = run(["predict", "--ckpt_path", str(checkpoint), "--input", str(lines)])
    if status != 0:
        raise RuntimeError(err)
    return out


def write_checkpoint(path: Path) -> None:
    from bad_inputs import train

    with tempfile.TemporaryDirectory() as folder:
        train(Path(folder))
        (best,) = Path(folder).glob("runs/good/version_0/checkpoints/best.ckpt")
        shutil.copy(best, path)
    path.with_suffix(".txt").write_text(predicted(path), encoding="utf-8")


def write_modules(path: Path) -> None:
    torch.manual_seed(0)
    entries = []
    for name, args, options in MODULES:
        module, x = build(name, args, options), torch.randn(5, 3, 3, dtype=torch.float64)
        if not name.endswith("Cell"):
            for _ in range(3):  # so that tables hold statistics
                answer_in_training(module)
        found = answer(module, x)
        state = module.state_dict()
        entries.append((name, args, options, state, x, found))
    torch.save(entries, path)


def answer_in_training(module: Any) -> None:
    x = torch.randn(5, 3, 3, dtype=torch.float64)
    module.train()
    if hasattr(module, "layout"):
        module(x.transpose(0, 1), LENGTHS)
    else:
        module(x, lengths=LENGTHS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("modules", "checkpoint"))
    parser.add_argument("format", type=int)
    options = parser.parse_args()
    names = {"modules": "format_{}.pt", "checkpoint": "checkpoint_{}.ckpt"}
    path = FOLDER / names[options.what].format(options.format)
    if path.exists():
        raise SystemExit(f"{path} exists, and a golden file is never written again")
    FOLDER.mkdir(exist_ok=True)
    (write_modules if options.what == "modules" else write_checkpoint)(path)
    print(path, path.stat().st_size, "bytes")


if __name__ == "__main__":
    main()
