"""AdamW beside SGD with momentum in one optimizer."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from seqnorm.training.tasks.optimizer import AdamWAndSGD


def parameters() -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    return [nn.Parameter(torch.randn(3, 2, generator=generator)) for _ in range(3)]


def descend(found: list[nn.Parameter], optimizers: list[Optimizer], steps: int) -> None:
    rates = [LambdaLR(optimizer, lambda step: 1 / (1 + step)) for optimizer in optimizers]
    for step in range(steps):
        for number, parameter in enumerate(found):
            parameter.grad = (parameter.detach() ** 2 + step + number).sin()
        for optimizer, rate in zip(optimizers, rates):
            optimizer.step()
            rate.step()


def both(found: list[nn.Parameter]) -> AdamWAndSGD:
    groups = [
        {"params": found[:1]},
        {"params": found[1:2], "weight_decay": 0.0},
        {"params": found[2:], "lr": 0.5, "momentum": 0.9, "weight_decay": 0.0},
    ]
    return AdamWAndSGD(groups, lr=0.01, weight_decay=0.1)


def torchs(found: list[nn.Parameter]) -> list[Optimizer]:
    decayed = AdamW(found[:1], lr=0.01, weight_decay=0.1)
    return [
        decayed,
        AdamW(found[1:2], lr=0.01, weight_decay=0.0),
        SGD(found[2:], lr=0.5, momentum=0.9),
    ]


def test_each_group_has_its_own_algorithm() -> None:
    ours, theirs = parameters(), parameters()
    descend(ours, [both(ours)], 5)
    descend(theirs, torchs(theirs), 5)
    for one, other in zip(ours, theirs):
        torch.testing.assert_close(one, other)


def test_weight_decay_is_decoupled_from_the_gradient() -> None:
    (one,) = parameters()[:1]
    before = one.detach().clone()
    optimizer = AdamWAndSGD([{"params": [one], "momentum": 0.9}], lr=0.5, weight_decay=0.1)
    one.grad = torch.zeros_like(one)
    optimizer.step()
    torch.testing.assert_close(one.detach(), before * (1 - 0.5 * 0.1))


def test_a_closure_clears_the_gradients_of_all_groups() -> None:
    found, others = parameters(), parameters()
    one, other = both(found), both(others)

    def closure() -> Tensor:
        one.zero_grad()
        loss = sum((each**2).sum() for each in found)
        loss.backward()
        return loss.detach()

    for _ in range(3):
        before = sum((each.detach() ** 2).sum() for each in found)
        assert one.step(closure) == before
        for each in others:
            each.grad = 2 * each.detach()
        assert other.step() is None
    for each, wanted in zip(found, others):
        torch.testing.assert_close(each, wanted)


def test_a_parameter_without_gradient_stays() -> None:
    found = parameters()
    before = [one.detach().clone() for one in found]
    optimizer = both(found)
    optimizer.step()
    for one, other in zip(found, before):
        assert torch.equal(one, other)


def test_its_state_is_restored() -> None:
    whole, parted = parameters(), parameters()
    first, second = both(whole), both(parted)
    gradients: list[Tensor] = [torch.randn(3, 2) for _ in whole]

    def step(found: list[nn.Parameter], optimizer: AdamWAndSGD) -> None:
        for parameter, gradient in zip(found, gradients):
            parameter.grad = gradient
        optimizer.step()

    for _ in range(2):
        step(whole, first)
        step(parted, second)
    restored = both(parted)
    restored.load_state_dict(copy.deepcopy(second.state_dict()))
    step(whole, first)
    step(parted, restored)
    for one, other in zip(whole, parted):
        assert torch.equal(one, other)
