"""Calls of many layers with another library of kernels, as a program of its own.

    python tests/support/sanitized_calls.py LIBRARY --calls 500 --seed 1

Every tensor that a kernel receives has memory of its own, exactly as large as the tensor, and
memory that was not written is NaN. The program prints the number of calls; any error that a
sanitizer finds ends the process.

Axes: T steps, B sequences, I = input size, H = hidden size.
"""

from __future__ import annotations

import argparse
import itertools
import random
import sys
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from beside_reference import F32, F64, NONLINEAR, Call, build, taken
from hidden_states import as_hx, parts_of
from torch import Tensor

import seqnorm
from seqnorm.nn.backends import cpu
from seqnorm.nn.backends.cpu import kernels, library, memory

# Sizes around the widths of vectors and panels, which are 2 to 32 reals.
SIZES = [1, 2, 3, 5, 7, 8, 9, 15, 16, 17, 31, 33, 47, 64, 65, 70, 97, 130]


def use(path: Path) -> None:
    """Make the backend call this library from now on."""
    library.__file__ = str(path.with_name("library.py"))
    loaded, why = library._load()
    assert loaded is not None, why
    for name, module in list(sys.modules.items()):
        if name.startswith("seqnorm.nn.backends.cpu"):
            for key, value in (("LIBRARY", loaded), ("WHY_NOT", "")):
                if hasattr(module, key):
                    setattr(module, key, value)
    library.VARIANTS = library._variants()


def alone() -> None:
    """Give every tensor memory of its own that ends with the tensor."""
    # torch.empty fills with NaN, or with the largest integer, whose bytes are also a NaN.
    torch.use_deterministic_algorithms(True)
    memory.take = lambda size: torch.empty(size, dtype=torch.uint8)
    memory.give = lambda tensor: None
    for name in ("Forward", "Backward"):
        setattr(kernels, name, _with_copies(getattr(kernels, name)))


def _with_copies(make: Callable[..., Any]) -> Callable[..., Any]:
    def made(*arguments: Any, **named: Any) -> Any:
        return make(*(_copy(argument) for argument in arguments), **named)

    return made


def _copy(value: Any) -> Any:
    """Return the same with a copy of every tensor that is a part of a larger memory."""
    if isinstance(value, Tensor):
        size = value.numel() * value.element_size()
        whole = value.untyped_storage().nbytes() == size
        return value if whole else value.detach().clone(memory_format=torch.contiguous_format)
    if isinstance(value, tuple):
        parts = [_copy(part) for part in value]
        return type(value)(*parts) if hasattr(value, "_fields") else tuple(parts)
    return value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("library", type=Path)
    parser.add_argument("--calls", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2, 3, 4])
    parser.add_argument("--variants", nargs="+", help="instruction sets; all by default")
    parser.add_argument("--dtypes", nargs="+", default=["float32", "float64"])
    parser.add_argument(
        "--pool", action="store_true", help="the library has threads of its own; torch has one"
    )
    options = parser.parse_args()
    use(options.library)
    alone()
    kernels.LEAST_WORK = 1
    torch.manual_seed(options.seed)
    draw = random.Random(options.seed)
    variants = options.variants or list(library.VARIANTS)
    dtypes = {"float32": F32, "float64": F64}
    # Alternate, so that a few calls cover all of them.
    kinds = list(itertools.product(variants, options.dtypes, options.threads))
    norms = list(taken().items())
    draw.shuffle(kinds)
    for number in range(options.calls):
        if number % len(norms) == 0:
            draw.shuffle(norms)
        variant, dtype, threads = kinds[number % len(kinds)]
        library.CHOSEN = variant
        if options.pool:
            torch.get_num_threads = lambda threads=threads: threads
        else:
            torch.set_num_threads(threads)
        name, (cell, norm) = norms[number % len(norms)]
        what = f"call {number}: {name}, {variant}, {dtype}, {threads} threads"
        # Print before the call, because it may end the process.
        print(what, file=sys.stderr, flush=True)
        one(draw, cell, norm, dtypes[dtype])
    print(f"{options.calls} calls of {len(norms)} norms by {len(kinds)} kinds of kernels")


def drawn_layer(draw: random.Random, cell: str, norm: Any) -> Any:
    """Draw a layer with sizes that its norms take, without LayerNorm sets of one unit."""
    while True:
        options = {
            "num_layers": draw.choice([1, 1, 2]),
            "bidirectional": draw.random() < 0.3,
            "bias": draw.random() < 0.8,
        }
        if cell in NONLINEAR:
            options["nonlinearity"] = draw.choice(["tanh", "relu"])
        try:
            hidden = draw.choice(SIZES)
            if cell == "LSTM" and hidden > 2 and draw.random() < 0.3:
                options["proj_size"] = draw.randint(2, hidden - 1)
            return build(cell, norm, draw.choice(SIZES), hidden, **options)
        except ValueError as refused:
            if "set of one unit" not in str(refused):
                raise


def one(draw: random.Random, cell: str, norm: Any, dtype: torch.dtype) -> None:
    """Call a layer of random sizes: in training or not, with gradients or not, or twice.

    The operands of products are rounded to bfloat16 in some calls.
    """
    B, T = draw.choice([1, 2, 3, 4, 7, 12, 19, 37]), draw.choice([1, 2, 3, 5])
    lengths = None if draw.random() < 0.3 else [draw.randint(0, T) for _ in range(B)]
    if lengths is not None:
        lengths[draw.randrange(B)] = T
    layer = drawn_layer(draw, cell, norm).to(dtype)
    mode = draw.choice(
        ["training", "training", "evaluation", "inference", "again", "prepared", "int8"]
    )
    layer.train(mode not in ("evaluation", "prepared", "int8"))
    if mode == "int8":
        seqnorm.quantize_(layer)
    if mode == "prepared":  # calls without lengths, as ``layers.inference`` takes them
        lengths = None
    call = Call.draw(layer, lengths, B, T).to(dtype)
    # Projections, heads and int8 have no kernels in bfloat16.
    half = draw.random() < 0.3 and not layer.step.heads and not layer.proj_size
    half = half and mode != "int8"
    rounding = mock.patch.object(cpu, "in_half", return_value=half)
    with warnings.catch_warnings(), rounding:
        warnings.filterwarnings("ignore", "BatchNorm in training")
        run(layer, call, draw.random() < 0.7, mode)


def run(layer: Any, call: Call, given: bool, mode: str) -> None:
    """Compute results and gradients, and check that all are finite."""
    recording = mode not in ("inference", "prepared", "int8")
    input = call.input.clone().requires_grad_(recording)
    state = tuple(part.clone().requires_grad_(recording) for part in call.state)
    with seqnorm.use_backend("cpu"), nullcontext() if recording else torch.no_grad():
        output, last = layer(input, as_hx(state) if given else None, lengths=call.lengths)
        results = (output, *parts_of(last))
        found = list(results)
        if recording:
            leaves = [input, *(state if given else ()), *layer.parameters()]
            loss = sum((value * by).sum() for value, by in zip(results, call.cotangents))
            for last_time in [False, True] if mode == "again" else [True]:
                found += torch.autograd.grad(loss, leaves, retain_graph=not last_time)
    assert all(bool(value.isfinite().all()) for value in found)


if __name__ == "__main__":
    main()
