"""The command ``seqnorm info``: versions, backends, kernels, and what is missing."""

from __future__ import annotations

import argparse
import platform
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from seqnorm.extra import HINT, TRAIN
from seqnorm.nn import available_backends
from seqnorm.version import __version__

OPTIONAL = {
    "optuna": "sweeps over options: pip install 'seqnorm[sweep]'",
    "onnx": "ONNX files: pip install 'seqnorm[onnx]'",
    "datasets": "data sets of Hugging Face: pip install 'seqnorm[datasets]'",
    "torchtext": "torchtext's data sets and tokenizers; it needs torch 2.3 and Python 3.9 to 3.12: "
    "pip install 'seqnorm[torchtext]'",
}


def main(arguments: Sequence[str]) -> None:
    """Print what the library finds on this machine."""
    argparse.ArgumentParser(
        prog="seqnorm info", description="Show versions, backends, kernels, and what is missing."
    ).parse_args(arguments)
    print("\n".join(lines()))


def lines() -> list[str]:
    """Return the lines of the answer."""
    found = [f"seqnorm {__version__}  {Path(__file__).resolve().parents[1]}"]
    found.append(f"Python {platform.python_version()}  {platform.platform()}")
    kind = torch.backends.cpu.get_cpu_capability()
    found.append(f"torch {torch.__version__}  {kind}, {torch.get_num_threads()} threads")
    gpus = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    found.append(f"GPU: {', '.join(gpus) or 'none found'}")
    found += ["", "Backends of the layers, in the order of preference:"]
    found += [f"  {name:10} {state}" for name, state in available_backends().items()]
    found += ["", "For training, prediction and the studies:"]
    versions = {name: _version(name) for name in TRAIN}
    there = [f"{name} {number}" for name, number in versions.items() if number]
    missing = [name for name, number in versions.items() if not number]
    found += [f"  {', '.join(there[k : k + 4])}" for k in range(0, len(there), 4)]
    if missing:
        found.append(f"  missing: {', '.join(missing)}. Install them: {HINT}")
    found += ["", "Optional:"]
    for name, use in OPTIONAL.items():
        found.append(f"  {name:10} {_version(name) or f'missing. For {use}'}")
    return found


def _version(name: str) -> str | None:
    """Return the version of an installed distribution."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None
