"""The same forward and backward pass over some of the examples of a batch: all of them in one
process, or a part in each of several, whose norms then share their statistics.

Axes: N examples, T steps, C channels, H units.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

import seqnorm
from seqnorm import Norm, NormScheme

N, T, C, H = 8, 9, 5, 4
LENGTHS = (9, 3, 1, 7, 4, 2, 0, 4)
# The longest of a part are 9, 4 and 7, 9 steps; a part without any example; one of no step at all.
SPLITS: dict[str, list[list[int]]] = {
    "halves": [[0, 1, 2, 3], [4, 5, 6, 7]],
    "shorter_first": [[4, 5, 6], [3, 0, 7, 2, 1]],
    "one_empty": [[], [0, 1, 2, 3, 4, 5, 6, 7]],
    "no_steps": [[0, 1, 2, 3, 4, 5, 7], [6]],
    "three": [[3, 4], [], [0, 1, 2, 5, 6, 7]],
}
BATCH = Norm("batch", gain=0.7, bias=0.1, max_steps=7)
SCHEMES: dict[str, Any] = {
    "batch": "batch",
    "batch_pooled": "batch_pooled",
    "short_table": NormScheme(input=BATCH, hidden=BATCH),
    "sum": NormScheme(sum=BATCH, bias_ih="inside"),
    "outside": NormScheme(frame=Norm("batch_pooled"), output=BATCH, input=Norm("layer")),
    "min_count": NormScheme(input=Norm("batch", min_count=4), hidden=Norm("layer")),
    "renormalised": NormScheme(
        input=replace(BATCH, r_max=1.5, d_max=0.5), hidden=replace(BATCH, r_max=2.0, d_max=1.0)
    ),
    "eps_on_std": NormScheme(hidden=Norm("batch", eps=1e-3, eps_on="std")),
}

Case = Callable[[Sequence[int], torch.dtype], tuple[nn.Module, dict[str, Tensor]]]


def drawn(*shape: int, seed: int, dtype: torch.dtype) -> Tensor:
    """Return numbers that every process draws alike."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype) + 0.3


def redraw(module: nn.Module, seed: int = 7) -> None:
    """Move the parameters far from their initial values."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            value = torch.rand(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.copy_(1.4 * value - 0.7)


def chosen_lengths(chosen: Sequence[int]) -> tuple[list[int], int]:
    """Return the lengths of the examples, and the longest of them."""
    lengths = [LENGTHS[i] for i in chosen]
    return lengths, max(lengths, default=0)


def recurrent(
    cell: str, scheme: str, first_step: int = 0, resets: bool = False, **options: Any
) -> Case:
    """A layer over ragged sequences, padded to the longest of the chosen ones."""

    def case(chosen: Sequence[int], dtype: torch.dtype) -> tuple[nn.Module, dict[str, Tensor]]:
        layer: Any = getattr(seqnorm, cell)(
            C, H, batch_first=True, norm=SCHEMES[scheme], dtype=dtype, **options
        )
        redraw(layer)
        wide = layer.num_layers * (2 if layer.bidirectional else 1)
        lengths, steps = chosen_lengths(chosen)
        x = drawn(N, T, C, seed=1, dtype=dtype)[chosen][:, :steps].requires_grad_()
        of_output = drawn(N, T, H * wide // layer.num_layers, seed=2, dtype=dtype)
        of_state = drawn(wide, N, H, seed=3, dtype=dtype)
        more = {}
        if resets:
            anew = drawn(N, T, seed=4, dtype=torch.float64) > 0.8
            more["resets"] = anew[chosen][:, :steps]
        for _ in range(2):  # the second time the tables are not new
            output, state = layer(x, lengths=lengths, first_step=first_step, **more)
            h = state[0] if isinstance(state, tuple) else state
            loss = (output * of_output[chosen][:, :steps]).sum() + (h * of_state[:, chosen]).sum()
            loss.backward()
        assert x.grad is not None
        found = {"output": output, "state": h.transpose(0, 1), "x": x.grad}
        return layer, found

    return case


def stepwise(cell: str) -> Case:
    """A cell in a time loop, over sequences of equal length."""

    def case(chosen: Sequence[int], dtype: torch.dtype) -> tuple[nn.Module, dict[str, Tensor]]:
        layer: Any = getattr(seqnorm, cell)(C, H, norm="batch", dtype=dtype)
        redraw(layer)
        x = drawn(N, T, C, seed=1, dtype=dtype)[chosen].requires_grad_()
        state, outputs = None, []
        for t in range(T):
            state = layer(x[:, t], state, first_step=t)
            outputs.append(state[0] if isinstance(state, tuple) else state)
        output = torch.stack(outputs, 1)
        (output * drawn(N, T, H, seed=2, dtype=dtype)[chosen]).sum().backward()
        assert x.grad is not None
        return layer, {"output": output, "x": x.grad}

    return case


def sequences(ragged: bool = True, **options: Any) -> Case:
    """A norm of padded sequences."""

    def case(chosen: Sequence[int], dtype: torch.dtype) -> tuple[nn.Module, dict[str, Tensor]]:
        norm = seqnorm.BatchNorm(C, **{"layout": "NTC"} | options).to(dtype)
        redraw(norm)
        lengths, steps = chosen_lengths(chosen)
        steps = steps if ragged else T
        x = drawn(N, T, C, seed=1, dtype=dtype)[chosen][:, :steps]
        cotangent = drawn(N, T, C, seed=2, dtype=dtype)[chosen][:, :steps]
        if norm.layout == "NCT":
            x, cotangent = x.transpose(1, 2), cotangent.transpose(1, 2)
        x = x.clone().requires_grad_()
        for _ in range(2):
            output = norm(x, lengths if ragged else None)
            (output * cotangent).sum().backward()
        assert x.grad is not None
        found = {"output": output, "x": x.grad}
        if norm.layout == "NCT":
            found = {name: value.transpose(1, 2) for name, value in found.items()}
        return norm, found

    return case


def images(dims: int, masked: bool = False, **options: Any) -> Case:
    """A norm of signals, images or volumes, within a network of two."""

    def case(chosen: Sequence[int], dtype: torch.dtype) -> tuple[nn.Module, dict[str, Tensor]]:
        kind = getattr(seqnorm, f"BatchNorm{max(dims, 1)}d")
        network = nn.ModuleList([kind(C, **options), kind(C, **options)]).to(dtype)
        redraw(network)
        shape = (4, 3, 2)[:dims]
        x = drawn(N, C, *shape, seed=1, dtype=dtype)[chosen].requires_grad_()
        mask = None
        if masked:
            sizes = torch.tensor([[i % (n + 1) for n in shape] for i in range(N)])[chosen]
            mask = seqnorm.size_mask(sizes, shape)
        for _ in range(2):
            output = x
            for norm in network:
                output = norm(output, mask).tanh()
            (output * drawn(N, C, *shape, seed=2, dtype=dtype)[chosen]).sum().backward()
        assert x.grad is not None
        return network, {"output": output, "x": x.grad}

    return case


def mixing(name: str, masked: bool = False) -> Case:
    """A norm of images that mixes in other sets, or that is given labels, in a network of two."""

    def case(chosen: Sequence[int], dtype: torch.dtype) -> tuple[nn.Module, dict[str, Tensor]]:
        labelled = name == "ConditionalBatchNorm2d"
        kind: Any = getattr(seqnorm, name)
        sizes = (C, 3) if labelled else (C,)
        network = nn.ModuleList([kind(*sizes), kind(*sizes)]).to(dtype)
        redraw(network)
        for key, parameter in network.named_parameters():
            if key.endswith("rho"):  # outside of [0, 1] each process judges its own gradient
                parameter.data.abs_()
        x = drawn(N, C, 4, 3, seed=1, dtype=dtype)[chosen].requires_grad_()
        mask = None
        if masked:
            sizes_of = torch.tensor([[i % 5, i % 4] for i in range(N)])[chosen]
            mask = seqnorm.size_mask(sizes_of, (4, 3))
        label = (torch.tensor([i % 3 for i in range(N)])[chosen],) if labelled else ()
        for _ in range(2):
            output = x
            for norm in network:
                output = norm(output, *label, mask).tanh()
            (output * drawn(N, C, 4, 3, seed=2, dtype=dtype)[chosen]).sum().backward()
        assert x.grad is not None
        return network, {"output": output, "x": x.grad}

    return case


def torchs(dims: int) -> Case:
    """torch's own norm, which defines its SyncBatchNorm when it is given the whole batch."""

    def case(chosen: Sequence[int], dtype: torch.dtype) -> tuple[nn.Module, dict[str, Tensor]]:
        network = nn.Sequential(getattr(nn, f"BatchNorm{dims}d")(C, dtype=dtype))
        redraw(network)
        shape = (4, 3, 2)[:dims]
        x = drawn(N, C, *shape, seed=1, dtype=dtype)[chosen].requires_grad_()
        output = network(x)
        (output * drawn(N, C, *shape, seed=2, dtype=dtype)[chosen]).sum().backward()
        assert x.grad is not None
        return network, {"output": output, "x": x.grad}

    return case


both = {"num_layers": 2, "bidirectional": True}
CASES: dict[str, tuple[Case, str]] = {
    "lstm": (recurrent("LSTM", "batch", **both), "halves"),
    "lstm, shorter first": (recurrent("LSTM", "batch", **both), "shorter_first"),
    "lstm, one empty": (recurrent("LSTM", "batch", **both), "one_empty"),
    "lstm, one of no steps": (recurrent("LSTM", "batch"), "no_steps"),
    "lstm, pooled": (recurrent("LSTM", "batch_pooled", **both), "halves"),
    "lstm, short table": (recurrent("LSTM", "short_table"), "halves"),
    "lstm, later steps": (recurrent("LSTM", "batch", first_step=3), "shorter_first"),
    "lstm, later steps, short table": (recurrent("LSTM", "short_table", first_step=2), "halves"),
    "lstm, of the sum": (recurrent("LSTM", "sum", bidirectional=True), "shorter_first"),
    "lstm, frame and output": (recurrent("LSTM", "outside"), "halves"),
    "lstm, min_count": (recurrent("LSTM", "min_count"), "halves"),
    "lstm, renormalised": (recurrent("LSTM", "renormalised", **both), "shorter_first"),
    "gru, renormalised, one empty": (recurrent("GRU", "renormalised"), "one_empty"),
    "lstm, resets": (recurrent("LSTM", "batch", resets=True, **both), "halves"),
    "gru, resets, one empty": (recurrent("GRU", "batch", resets=True), "one_empty"),
    "ligru, resets, pooled": (recurrent("LiGRU", "batch_pooled", resets=True), "shorter_first"),
    "gru": (recurrent("GRU", "batch", **both), "shorter_first"),
    "gru, one empty": (recurrent("GRU", "batch", **both), "one_empty"),
    "gru, pooled": (recurrent("GRU", "batch_pooled"), "halves"),
    "gru, of the sum": (recurrent("GRU", "sum", **both), "halves"),
    "gru, eps on std": (recurrent("GRU", "eps_on_std"), "halves"),
    "ligru": (recurrent("LiGRU", "batch"), "halves"),
    "lstm cell": (stepwise("LSTMCell"), "shorter_first"),
    "gru cell, one empty": (stepwise("GRUCell"), "one_empty"),
    "sequences, per step": (sequences(max_steps=12), "halves"),
    "sequences, short table": (sequences(max_steps=6), "shorter_first"),
    "sequences, one empty": (sequences(max_steps=12), "one_empty"),
    "sequences, NCT": (sequences(max_steps=12, layout="NCT", min_count=3), "halves"),
    "sequences, pooled": (sequences(), "shorter_first"),
    "sequences, pooled, one empty": (sequences(momentum=None), "one_empty"),
    "sequences, renormalised": (sequences(max_steps=6, r_max=1.5, d_max=0.5), "shorter_first"),
    "sequences, no lengths": (sequences(ragged=False, max_steps=12), "shorter_first"),
    "features": (images(0), "shorter_first"),
    "signals": (images(1, masked=True, momentum=None), "halves"),
    "images": (images(2), "shorter_first"),
    "images, one empty": (images(2), "one_empty"),
    "images, masked": (images(2, masked=True), "shorter_first"),
    "images, masked, one empty": (images(2, masked=True, affine=False), "one_empty"),
    "volumes": (images(3, track_running_stats=False), "halves"),
    "volumes, masked": (images(3, masked=True), "halves"),
    "batch and instance": (mixing("BatchInstanceNorm2d"), "shorter_first"),
    "batch and instance, masked": (mixing("BatchInstanceNorm2d", masked=True), "halves"),
    "switchable, masked": (mixing("SwitchableNorm2d", masked=True), "shorter_first"),
    "switchable, one empty": (mixing("SwitchableNorm2d"), "one_empty"),
    "of classes": (mixing("ConditionalBatchNorm2d"), "shorter_first"),
    "of classes, masked": (mixing("ConditionalBatchNorm2d", masked=True), "one_empty"),
    "torch's features and signals": (torchs(1), "shorter_first"),
    "torch's images": (torchs(2), "shorter_first"),
    "torch's volumes": (torchs(3), "halves"),
}
OF_THREE: dict[str, tuple[Case, str]] = {
    "lstm": (recurrent("LSTM", "batch", **both), "three"),
    "gru": (recurrent("GRU", "sum"), "three"),
    "sequences": (sequences(max_steps=12), "three"),
    "images": (images(2, masked=True), "three"),
}


def compute(case: Case, chosen: Sequence[int], dtype: torch.dtype, shared: bool) -> dict[str, Any]:
    """Return the results of a case by example, by parameter and by buffer."""

    # Cases build the module that they run, so what converts it waits for its first call.
    def convert(module: nn.Module, _: object) -> None:
        seqnorm.convert_sync_batchnorm(module)

    hook = torch.nn.modules.module.register_module_forward_pre_hook(convert) if shared else None
    try:
        module, found = case(chosen, dtype)
    finally:
        if hook is not None:
            hook.remove()
    return {
        "found": {name: value.detach() for name, value in found.items()},
        "grads": {name: value.grad for name, value in module.named_parameters()},
        "buffers": dict(module.named_buffers()),
    }


def all_cases(rank: int) -> dict[tuple[str, torch.dtype], dict[str, Any]]:
    """Compute the part of one of two processes in every case, in both precisions."""
    return {
        (name, dtype): compute(case, SPLITS[split][rank], dtype, shared=True)
        for dtype in (torch.float64, torch.float32)
        for name, (case, split) in CASES.items()
    }


def of_three(rank: int) -> dict[str, dict[str, Any]]:
    """Compute the part of one of three processes."""
    return {
        name: compute(case, SPLITS[split][rank], torch.float64, shared=True)
        for name, (case, split) in OF_THREE.items()
    }
