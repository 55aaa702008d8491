"""Norms of tensors without readable values: in a graph, or on a meta device."""

from __future__ import annotations

import pytest
import torch
from tolerances import SINGLE, assert_close
from torch import nn
from torch_versions import needs_compiler

import seqnorm

N, T, C = 3, 5, 4
NORMS = {
    "BatchNorm": lambda: seqnorm.BatchNorm(C, layout="NTC"),
    "BatchNorm of steps": lambda: seqnorm.BatchNorm(C, layout="NTC", max_steps=9),
    "InstanceNorm": lambda: seqnorm.InstanceNorm(C, layout="NTC"),
    "GroupNorm": lambda: seqnorm.GroupNorm(2, C, layout="NTC"),
    "LayerNorm": lambda: seqnorm.LayerNorm(C, layout="NTC"),
    "RMSNorm": lambda: seqnorm.RMSNorm(C, layout="NTC"),
}
IMAGES = {
    "BatchNorm2d": lambda: seqnorm.BatchNorm2d(C),
    "InstanceNorm2d": lambda: seqnorm.InstanceNorm2d(C),
    "GroupNorm": lambda: seqnorm.GroupNorm(2, C),
    "LayerNorm2d": lambda: seqnorm.LayerNorm2d(C),
    "BatchInstanceNorm2d": lambda: seqnorm.BatchInstanceNorm2d(C),
    "SwitchableNorm2d": lambda: seqnorm.SwitchableNorm2d(C),
}


@pytest.mark.parametrize("name", NORMS)
def test_sequences_on_meta(name: str) -> None:
    norm = NORMS[name]().to("meta")
    x = torch.randn(N, T, C, device="meta")
    assert norm(x).is_meta
    assert norm(x, lengths=torch.tensor([5, 1, 3])).shape == x.shape


@pytest.mark.parametrize("name", IMAGES)
def test_images_on_meta(name: str) -> None:
    x = torch.randn(N, C, T, T, device="meta")
    mask = torch.ones(N, 1, T, T, dtype=torch.bool, device="meta")
    assert IMAGES[name]().to("meta")(x, mask=mask).shape == x.shape


def test_styles_on_meta() -> None:
    x = torch.randn(N, C, T, T, device="meta")
    for kind in (seqnorm.ConditionalInstanceNorm2d, seqnorm.ConditionalBatchNorm2d):
        norm = kind(C, 2, device="meta")
        assert norm(x, torch.zeros(N, dtype=torch.int64, device="meta")).is_meta
    assert seqnorm.AdaptiveInstanceNorm2d()(x, x).is_meta


@needs_compiler
@pytest.mark.parametrize("name", NORMS)
def test_training_is_one_graph(name: str) -> None:
    norms: list[nn.Module] = [NORMS[name](), NORMS[name]()]
    compiled = torch.compile(norms[0], backend="eager", fullgraph=True)
    x = torch.randn(N, T, C)
    assert_close(compiled(x), norms[1](x), SINGLE)
    for held, expected in zip(norms[0].buffers(), norms[1].buffers()):
        assert_close(held.double(), expected.double(), SINGLE)


@needs_compiler
def test_training_in_a_graph_with_lengths_updates_the_table() -> None:
    norms = [NORMS["BatchNorm of steps"](), NORMS["BatchNorm of steps"]()]
    compiled = torch.compile(norms[0], backend="eager", fullgraph=True)
    x, lengths = torch.randn(N, T, C), torch.tensor([5, 1, 3])
    assert_close(compiled(x, lengths=lengths), norms[1](x, lengths=lengths), SINGLE)
    assert norms[0].table.count.tolist() == [3, 2, 2, 0, 0, 0, 0, 0, 0]


@needs_compiler
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", IMAGES)
def test_an_export_keeps_its_batch_open(name: str, training: bool) -> None:
    norm = IMAGES[name]().train(training)
    open_batch = ({0: torch.export.Dim("N", min=2, max=64)},)
    program = torch.export.export(norm, (torch.randn(N, C, T, T),), dynamic_shapes=open_batch)
    x = torch.randn(2 * N, C, T, T)
    assert_close(program.module()(x), norm(x), SINGLE)
