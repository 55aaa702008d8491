"""The stylisation network: its equation, the inputs of each result, bad arguments."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from zipped import zipped

from seqnorm.models import StylisationNet
from seqnorm.models.stylisation import NORMS

STYLE = {
    "conditional": torch.tensor([2, 0, 1]),
    "adaptive": torch.rand(3, 3, 24, 20, generator=torch.Generator().manual_seed(1)),
}


def make(norm: str) -> StylisationNet:
    net = StylisationNet(norm, width=4, blocks=1, styles=3 if norm == "conditional" else 1)
    with torch.no_grad():
        # Gains and biases other than 1 and 0, also those of a style, so that errors show.
        for parameter in net.parameters():
            if parameter.dim() < 4:
                parameter += 0.1 * torch.randn_like(parameter)
    return net.double()


def standardise(x: Tensor, dims: tuple[int, ...]) -> Tensor:
    var, mean = torch.var_mean(x, dims, correction=0, keepdim=True)
    return (x - mean) / (var + 1e-5).sqrt()


def layer(net: StylisationNet, name: str, x: Tensor, style: Tensor | None) -> Tensor:
    """Compute the convolution with mirrored borders and the norm, from the named parameters."""
    own = {k.removeprefix(f"{name}."): v for k, v in net.named_parameters() if k.startswith(name)}
    weight = own["convolution.weight"]
    border = weight.shape[-1] // 2
    stride = 2 if name in ("encoder.1", "encoder.2") else 1
    x = F.pad(x, (border,) * 4, "reflect")
    x = F.conv2d(x, weight, own["convolution.bias"], stride)
    if net.norm == "none":
        return x
    x = standardise(x, (0, 2, 3) if net.norm == "batch" else (2, 3))
    if net.norm == "adaptive":
        assert style is not None
        gain, bias = 1 + style @ own["norm.gain"].T, style @ own["norm.bias"].T
    else:
        gain, bias = own["norm.weight"], own["norm.bias"]
        if net.norm == "conditional":
            gain, bias = gain[style], bias[style]
    return x * gain.view(-1, x.shape[1], 1, 1) + bias.view(-1, x.shape[1], 1, 1)


def by_equation(net: StylisationNet, x: Tensor, style: Tensor | None) -> Tensor:
    if net.norm == "adaptive":
        named = dict(net.named_parameters())
        for part in ("first", "second"):
            weight, bias = named[f"reader.{part}.weight"], named[f"reader.{part}.bias"]
            style = F.conv2d(style, weight, bias, 2).clamp(min=0)
        style = style.mean((2, 3))
    for i in range(3):
        x = layer(net, f"encoder.{i}", x, style).clamp(min=0)
    inner = layer(net, "blocks.0.first", x, style).clamp(min=0)
    x = x + layer(net, "blocks.0.second", inner, style)
    for i in range(2):
        x = x.repeat_interleave(2, 2).repeat_interleave(2, 3)
        x = layer(net, f"decoder.{i}", x, style).clamp(min=0)
    x = F.conv2d(F.pad(x, (2,) * 4, "reflect"), net.last.weight, net.last.bias)
    return 1 / (1 + torch.exp(-x))


def style_of(norm: str) -> Tensor | None:
    style = STYLE.get(norm)
    return style.double() if norm == "adaptive" and style is not None else style


@pytest.mark.parametrize("norm", NORMS)
def test_equals_the_equation_with_all_gradients(norm: str) -> None:
    net, style = make(norm), style_of(norm)
    pictures = torch.rand(3, 3, 12, 16, dtype=torch.float64, requires_grad=True)
    redrawn, expected = net(pictures, style), by_equation(net, pictures, style)
    torch.testing.assert_close(redrawn, expected, rtol=1e-10, atol=1e-12)
    cotangent = torch.randn_like(redrawn)
    inputs = [pictures, *net.parameters()]
    for ours, theirs in zipped(
        torch.autograd.grad(redrawn, inputs, cotangent),
        torch.autograd.grad(expected, inputs, cotangent),
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("norm", NORMS)
def test_only_batchnorm_in_training_looks_at_other_pictures(norm: str) -> None:
    net, style = make(norm), style_of(norm)
    pictures = torch.rand(3, 3, 16, 16, dtype=torch.float64)
    other = torch.cat([pictures[:1], torch.rand(2, 3, 16, 16, dtype=torch.float64)])
    with torch.no_grad():
        moved = (net(pictures, style)[0] - net(other, style)[0]).abs().max()
        assert moved > 1e-4 if norm == "batch" else moved < 1e-12
        net.eval()
        assert (net(pictures, style)[0] - net(other, style)[0]).abs().max() < 1e-12


def test_a_seed_starts_all_norms_alike() -> None:
    starts = []
    for norm in NORMS:
        torch.manual_seed(5)
        net = StylisationNet(norm, width=4, styles=2 if norm == "conditional" else 1)
        starts.append(
            {n: p for n, p in net.named_parameters() if "convolution" in n or "last" in n}
        )
    for start in starts[1:]:
        assert start.keys() == starts[0].keys()
        assert all(torch.equal(start[name], starts[0][name]) for name in start)


@pytest.mark.parametrize("norm", ["conditional", "adaptive"])
def test_at_first_every_style_is_plain_instance_norm(norm: str) -> None:
    pictures = torch.rand(3, 3, 16, 16)
    nets = []
    for kind in ("instance", norm):
        torch.manual_seed(5)
        nets.append(StylisationNet(kind, width=4, styles=3 if kind == "conditional" else 1))
    with torch.no_grad():
        torch.testing.assert_close(nets[0](pictures), nets[1](pictures, STYLE.get(norm)))


def test_the_smallest_picture_of_a_style_will_do() -> None:
    net = StylisationNet("adaptive", width=2)
    assert net(torch.rand(2, 3, 8, 8), torch.rand(1, 3, 9, 9)).shape == (2, 3, 8, 8)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"norm": "layer"}, "'layer' is not one of none, batch"),
        ({"width": 0}, "width must be at least 1"),
        ({"blocks": 0}, "blocks must be at least 1"),
        ({"norm": "conditional", "styles": 0}, "styles must be at least 1"),
        ({"norm": "batch", "styles": 3}, "norm='conditional' for several"),
    ],
)
def test_bad_arguments(arguments: dict[str, str | int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        StylisationNet(**arguments)


@pytest.mark.parametrize(
    ("norm", "shape", "style", "message"),
    [
        ("none", (3, 8, 8), None, r"must be \(N, 3, H, W\), got \(3, 8, 8\)"),
        ("none", (1, 1, 8, 8), None, r"must be \(N, 3, H, W\)"),
        ("none", (1, 3, 8, 10), None, r"multiples of four, at least 8, got \(8, 10\)"),
        ("none", (1, 3, 4, 8), None, "at least 8"),
        ("batch", (1, 3, 8, 8), torch.tensor([0]), "'batch' takes no style"),
        ("conditional", (1, 3, 8, 8), None, "'conditional' needs a style"),
        ("adaptive", (1, 3, 8, 8), None, "'adaptive' needs a style"),
        ("adaptive", (2, 3, 8, 8), torch.tensor([0, 0]), r"or \(1, 3, H', W'\), got \(2,\)"),
        ("adaptive", (2, 3, 8, 8), torch.rand(3, 3, 9, 9), r"must be \(2, 3, H', W'\) or"),
        ("adaptive", (2, 3, 8, 8), torch.rand(1, 3, 8, 9), r"at least 9, got \(8, 9\)"),
    ],
)
def test_bad_pictures(
    norm: str, shape: tuple[int, ...], style: Tensor | None, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        StylisationNet(norm, width=2)(torch.rand(shape), style)
