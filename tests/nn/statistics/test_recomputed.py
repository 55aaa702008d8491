"""A pass that is recomputed for its gradients does not update statistics again.

Axes: T steps, B sequences, I = input size, H = hidden size; N examples, C channels, L positions.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from beside_reference import F64
from comparing import BATCHED, scheme_of
from comparing import build as built
from tolerances import GRADIENTS, assert_close, assert_equal
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint, checkpoint_sequential
from torch_versions import needs_compiler

import seqnorm
from seqnorm.models.image_classifier import GhostBatchNorm2d

I, H, T, B = 3, 4, 5, 6  # noqa: E741  the axes' letters
LENGTHS = [5, 5, 4, 3, 2, 1]  # the last step has too few rows
reentrant = pytest.mark.parametrize("reentrant", [True, False])


def compare(
    module: nn.Module,
    call: Callable[[Tensor], Tensor],
    x: Tensor,
    again: Callable[[Tensor], Tensor],
) -> None:
    """Check that results, gradients and statistics equal those without recomputation."""
    before = {key: value.clone() for key, value in module.state_dict().items()}
    found: list[list[Tensor]] = []
    left: list[dict[str, Tensor]] = []
    for function in (call, again):
        module.load_state_dict(before)
        module.zero_grad()
        leaf = x.clone().requires_grad_()
        output = function(leaf)
        output.square().sum().backward()
        found.append([output.detach(), *(t.grad for t in (leaf, *module.parameters()))])  # type: ignore[list-item]  # each has one
        left.append({name: value.clone() for name, value in module.named_buffers()})
    for a, e in zip(*found):
        assert_close(a, e, GRADIENTS)
    assert left[0], "there are statistics"
    for name, value in left[0].items():
        assert_equal(left[1][name], value, name)
        assert not torch.equal(value, before[name]), f"{name} has moved"


@reentrant
@pytest.mark.parametrize(("name", "cell"), [pair for pair in BATCHED if "renorm" not in pair[0]])
def test_layers(name: str, cell: str, reentrant: bool) -> None:
    """Batch Renormalization refuses it, see test_renormalization.py."""
    layer = built(cell, scheme_of(name, cell), num_layers=2, bidirectional=True)

    def call(x: Tensor) -> Tensor:
        output: Tensor = layer(x, lengths=LENGTHS)[0]
        return output

    x = torch.randn(T, B, I, dtype=F64)
    compare(layer, call, x, lambda x: checkpoint(call, x, use_reentrant=reentrant))


@reentrant
@pytest.mark.parametrize(
    "norm",
    [
        lambda: seqnorm.BatchNorm(I, layout="NTC", dtype=F64),
        lambda: seqnorm.BatchNorm(I, layout="NTC", max_steps=4, dtype=F64),
        lambda: seqnorm.BatchNorm(I, layout="NTC", momentum=None, dtype=F64),
    ],
)
def test_norms_of_sequences(norm: Callable[[], nn.Module], reentrant: bool) -> None:
    module = norm()

    def call(x: Tensor) -> Tensor:
        output: Tensor = module(x, lengths=LENGTHS)
        return output

    x = torch.randn(B, T, I, dtype=F64)
    compare(module, call, x, lambda x: checkpoint(call, x, use_reentrant=reentrant))


@reentrant
@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("momentum", [0.1, None])
@pytest.mark.parametrize("name", ["BatchNorm2d", "BatchInstanceNorm2d", "SwitchableNorm2d"])
def test_norms_of_images(name: str, masked: bool, momentum: float | None, reentrant: bool) -> None:
    """torch counts the batch twice."""
    module = getattr(seqnorm, name)(I, momentum=momentum, dtype=F64)
    mask = seqnorm.size_mask([(3, 2), (4, 5)], (4, 5)) if masked else None

    def call(x: Tensor) -> Tensor:
        output: Tensor = module(x, mask=mask)
        return output

    x = torch.randn(2, I, 4, 5, dtype=F64)
    compare(module, call, x, lambda x: checkpoint(call, x, use_reentrant=reentrant))


@pytest.mark.parametrize("name", ["running_mean", None])
def test_norms_of_images_that_track_nothing(name: str | None) -> None:
    """Buffers are saved for the gradients in both passes or in none."""
    module = seqnorm.BatchNorm2d(I, track_running_stats=name is not None, dtype=F64)
    if name is not None:
        torch.nn.init.constant_(module.get_buffer(name), 5.0)
        module.track_running_stats = False
    x = torch.randn(2, I, 4, 5, dtype=F64, requires_grad=True)
    cotangent = torch.randn(x.shape, dtype=F64)
    once, twice = module(x), checkpoint(module, x, use_reentrant=False)
    (expected,), (found,) = (torch.autograd.grad(y, x, cotangent) for y in (once, twice))
    assert_close(found, expected, GRADIENTS)


@reentrant
def test_ghost_batches(reentrant: bool) -> None:
    module = GhostBatchNorm2d(I, 2).to(F64)
    x = torch.randn(6, I, 4, 5, dtype=F64)
    compare(module, module, x, lambda x: checkpoint(module, x, use_reentrant=reentrant))


@reentrant
def test_a_stack_of_modules(reentrant: bool) -> None:
    network = nn.Sequential(*(seqnorm.BatchNorm1d(I, dtype=F64) for _ in range(4)))
    compare(
        network,
        network,
        torch.randn(8, I, dtype=F64),
        lambda x: checkpoint_sequential(network, 2, x, use_reentrant=reentrant),
    )


@reentrant
def test_whoever_watches_updates_is_told_once(reentrant: bool) -> None:
    layer, told = seqnorm.LSTM(I, H, norm="batch"), []
    for module in layer.modules():
        if isinstance(module, seqnorm.nn.statistics.RunningTable):
            module.register_update_hook(lambda *update: told.append(update))
    x = torch.randn(T, B, I, requires_grad=True)
    checkpoint(lambda x: layer(x)[0], x, use_reentrant=reentrant).sum().backward()
    assert len(told) == 3, "one for each norm"


def test_a_pass_after_a_backward_pass_counts() -> None:
    layer, x = seqnorm.LSTM(I, H, norm="batch"), torch.randn(T, B, I, requires_grad=True)
    table = layer.norm_ih_l0.table
    for passes in (1, 2, 3):
        layer(x)[0].sum().backward()
        assert int(table.count[0]) == passes * B


# Dynamo reads the gradient of rows, and torch warns of that.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")
@needs_compiler
def test_chunks_under_compiled_autograd() -> None:
    """Compiled autograd runs a backward pass outside of autograd's engine."""
    layer = seqnorm.LSTM(I, H, norm="batch", dtype=F64)
    seqnorm.compute_in_chunks(layer, 2, recompute=True)
    with torch._dynamo.compiled_autograd._enable(torch.compile(backend="eager")):
        layer(torch.randn(T, B, I, dtype=F64))[0].sum().backward()
    assert layer.norm_ih_l0.table.count[: T + 1].tolist() == [B] * T + [0]
    torch._dynamo.reset()


@needs_compiler
def test_a_checkpoint_inside_of_what_is_compiled() -> None:
    layer = seqnorm.LSTM(I, H, norm="batch", dtype=F64)

    def call(x: Tensor) -> Tensor:
        output: Tensor = layer(x)[0]
        return output

    torch._dynamo.reset()
    compiled = torch.compile(
        lambda x: checkpoint(call, x, use_reentrant=False), backend="aot_eager"
    )
    compare(layer, call, torch.randn(T, B, I, dtype=F64), compiled)
    torch._dynamo.reset()
