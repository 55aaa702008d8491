"""Nothing is read or written past the end of a tensor, where a page without access begins.

Axes: T steps, B sequences, I = input size, H = hidden size.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from beside_reference import needs_kernels

pytestmark = needs_kernels
TESTS = Path(__file__).resolve().parents[2] / "support"

# Every tensor of every call moves into memory of its own, which ends at the end of a page. Access
# to the next page is forbidden, so that a read of one further element ends this process.
SCRIPT = """
import ctypes, faulthandler, mmap
import torch
import seqnorm
from beside_reference import F32, Call, build, each_variant, outcome, single, taken
from seqnorm.nn.backends import cpu
from seqnorm.nn.backends.cpu import kernels, library, memory

faulthandler.enable()
PAGE = mmap.PAGESIZE
libc = ctypes.CDLL(None, use_errno=True)
libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]

def guarded(tensor):
    size = tensor.numel() * tensor.element_size()
    pages = -(-size // PAGE)
    area = mmap.mmap(-1, (pages + 1) * PAGE)
    whole = torch.frombuffer(area, dtype=torch.uint8)
    assert libc.mprotect(whole.data_ptr() + pages * PAGE, PAGE, 0) == 0, ctypes.get_errno()
    inside = whole[pages * PAGE - size : pages * PAGE].view(tensor.dtype).view(tensor.shape)
    return inside.copy_(tensor)

give, run = kernels.Pass.give, kernels.run

def guarded_give(one, tensors):
    pairs = one.__dict__.setdefault("pairs", [])
    for name, tensor in tensors:
        if tensor is not None:
            pairs.append((tensor, guarded(tensor)))
            give(one, [(name, pairs[-1][1])])

def run_and_back(every, backward):
    run(every, backward)
    for one in every:
        for tensor, inside in one.pairs:
            if not tensor.equal(inside):
                tensor.data.copy_(inside)

kernels.Pass.give, kernels.run = guarded_give, run_and_back
memory.take = lambda size: guarded(torch.empty(size, dtype=torch.uint8))
memory.give = lambda *tensors: None
kernels.LEAST_WORK = 1
torch.manual_seed(0)
threads, names = int(THREADS), NAMES
torch.set_num_threads(threads)
for name in names:
    cell, norm = taken()[name]
    for I, H, lengths in ((1, 3, [1]), (7, 9, [2, 0, 3, 1]), (21, 41, [3] * 9 + [1] * 4)):
        for options in [{}, {"proj_size": H // 2 + 1}][: 1 + (cell == "LSTM")]:
            layer = build(cell, norm, I, H, **options).train(len(lengths) > 1)
            drawn = Call.draw(layer, lengths)
            frozen = build(cell, norm, I, H, **options).eval().requires_grad_(False)
            for parameter in frozen.parameters():
                parameter.data = guarded(parameter.detach())
            small = seqnorm.quantize_(build(cell, norm, I, H, **options)).eval()
            for tensor in [*small.parameters(), *small.buffers()]:
                tensor.data = guarded(tensor.detach())
            for library.CHOSEN in library.VARIANTS:
                outcome(layer, drawn)
                outcome(single(layer), drawn.to(F32))
                frozen(drawn.input, lengths=lengths)
                with torch.no_grad():  # a prepared call, by the addresses of the parameters
                    frozen(drawn.input)
                    small(drawn.input, lengths=lengths)
                    small(drawn.input)
                if options:
                    continue
                exact, cpu.in_half = cpu.in_half, lambda rows: True
                outcome(layer, drawn)
                outcome(single(layer), drawn.to(F32))
                frozen(drawn.input, lengths=lengths)
                cpu.in_half = exact
"""


@pytest.mark.skipif(sys.platform == "win32", reason="mprotect is of POSIX")
@pytest.mark.parametrize("threads", [1, 3])
def test_nothing_behind_the_end(threads: int) -> None:
    names = ["LSTM None", "LSTM kiros2016", "LSTM icefall", "LSTM laurent2016"]
    names += ["LSTM cooijmans2016", "LSTM batch sum", "GRU None", "GRU kinds", "GRU dreamer"]
    names += ["GRU icefall"]
    names += ["LiGRU kinds", "LiGRU batch", "RNN layer", "IndRNN None", "IndRNN kinds"]
    names += ["IndRNN batch", "GRU batch before", "GRU batch", "LSTM batch_pooled"]
    names += ["LiGRU ravanelli2018", "IndRNN batch_pooled", "SLSTM kinds", "LSTM deviation"]
    script = SCRIPT.replace("THREADS", str(threads)).replace("NAMES", repr(names))
    paths = os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])
    process = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr
