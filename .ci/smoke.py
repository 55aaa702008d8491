"""Use an installed seqnorm in an empty folder: the layers, and the command if it can train.

Run by .ci/packages and by cibuildwheel. With the argument --kernels the kernels must be there.
"""

import platform
import random
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import torch

import seqnorm


def layers() -> None:
    """Compare both preferred backends with the definition, forwards and backwards."""
    for kind in (seqnorm.LSTM, seqnorm.GRU):
        for norm in (None, "layer", "batch"):
            torch.manual_seed(0)
            layer = kind(3, 5, num_layers=2, bidirectional=True, norm=norm, dtype=torch.float64)
            x = torch.randn(7, 4, 3, dtype=torch.float64)
            found = []
            for backend in (None, "reference"):
                copy = kind(3, 5, num_layers=2, bidirectional=True, norm=norm, dtype=torch.float64)
                copy.load_state_dict(layer.state_dict())
                if backend is None:
                    output = copy(x, lengths=[7, 2, 5, 3])[0]
                else:
                    with seqnorm.use_backend(backend):
                        output = copy(x, lengths=[7, 2, 5, 3])[0]
                output.sum().backward()
                found.append((output.detach(), copy.weight_hh_l0.grad))
            for one, other in zip(*found):
                torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)
    backends = seqnorm.available_backends()
    print(f"layers: right, backends {backends}")
    if "--kernels" in sys.argv and not backends["cpu"].startswith("active"):
        raise SystemExit(f"the kernels of this wheel are missing: {backends['cpu']}")


def command(*words: str) -> str:
    """Run the command and return its output."""
    process = subprocess.run(["seqnorm", *words], stdout=subprocess.PIPE, text=True, check=True)
    return process.stdout


def training() -> None:
    """Train, test and predict with a file of one's own and a shipped configuration."""
    draw = random.Random(0)
    rows = ["text,label"]
    for number in range(120):
        words = ("good", "fine", "great") if number % 2 else ("bad", "dull", "poor")
        rows.append(f"{' '.join(draw.choices(words, k=5))} w{number},{['no', 'yes'][number % 2]}")
    Path("reviews.csv").write_text("\n".join(rows) + "\n")
    size = (
        "--model.hidden_size=8",
        "--model.embedding_size=8",
        "--trainer.max_epochs=8",
        "--data.batch_size=8",
    )
    fraction = "--data.test_fraction=0.2"
    command("fit", "--config", "norm/batch", "--data.corpus=reviews.csv", fraction, *size)
    best = "--ckpt_path=runs/reviews/version_0/checkpoints/best.ckpt"
    assert "accuracy 1.0000" in command("test", best)
    Path("new.txt").write_text("a great fine thing\n")
    assert command("predict", best, "--input=new.txt").splitlines()[1].startswith("yes")
    assert "--quick" in command("study", "--help")
    print("command: right")


if __name__ == "__main__":
    layers()
    assert "info" in command("--help")
    if find_spec("lightning") is None:
        assert subprocess.run(["seqnorm", "fit"], stderr=subprocess.DEVNULL).returncode == 2
        print("command: names the missing packages")
    else:
        training()
    print(f"Python {sys.version.split()[0]}, torch {torch.__version__}, {platform.machine()}")
