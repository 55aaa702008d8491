"""The masked sequence norms: equal to torch's without lengths, and to unmasked ones with them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch_versions import rms_norm
from zipped import zipped

import seqnorm
from seqnorm.nn.norms.layout import SequenceNorm

N, T, C = 4, 6, 8
LENGTHS = [6, 1, 0, 4]
WITHIN = {
    "layer": lambda **kw: seqnorm.LayerNorm(C, **kw),
    "rms": lambda **kw: seqnorm.RMSNorm(C, **kw),
    "instance": lambda **kw: seqnorm.InstanceNorm(C, affine=True, **kw),
    "group": lambda **kw: seqnorm.GroupNorm(2, C, **kw),
}
ACROSS = {
    "pooled": lambda **kw: seqnorm.BatchNorm(C, **kw),
    "per_step": lambda **kw: seqnorm.BatchNorm(C, max_steps=T, **kw),
}
ALL = WITHIN | ACROSS


def build(name: str, layout: str = "NTC", seed: int = 0) -> SequenceNorm:
    module = ALL[name](layout=layout, dtype=torch.float64)
    generator = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():
        parameter.data = torch.randn(C, dtype=torch.float64, generator=generator)
    return module


def sample(seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(N, T, C, dtype=torch.float64, generator=generator) * 2 + 1


def torch_equivalent(name: str, module: SequenceNorm, x: Tensor) -> Tensor:
    """Return torch's norm of the same set, for x (N, T, C) without padding."""
    weight, bias = module.weight, module.bias
    nct = x.transpose(1, 2)
    if name == "layer":
        return nn.functional.layer_norm(x, (C,), weight, bias)
    if name == "rms":
        return rms_norm(x, (C,), weight, torch.finfo(x.dtype).eps)
    if name == "instance":
        return nn.functional.instance_norm(nct, weight=weight, bias=bias).transpose(1, 2)
    if name == "group":
        return nn.functional.group_norm(nct, 2, weight, bias).transpose(1, 2)
    if name == "pooled":
        flat = x.reshape(-1, C)
        return nn.functional.batch_norm(flat, None, None, weight, bias, True).reshape(x.shape)
    steps = [nn.functional.batch_norm(row, None, None, weight, bias, True) for row in x.unbind(1)]
    return torch.stack(steps, 1)


@pytest.mark.parametrize("layout", ["NTC", "NCT"])
@pytest.mark.parametrize("name", ALL)
def test_without_lengths_it_is_torchs_norm(name: str, layout: str) -> None:
    module = build(name, layout)
    x = sample().requires_grad_()
    expected = torch_equivalent(name, module, x)
    turned = x if layout == "NTC" else x.transpose(1, 2)
    got = module(turned)
    got = got if layout == "NTC" else got.transpose(1, 2)
    torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-10)
    cotangent = torch.randn_like(x)
    inputs = [x, *module.parameters()]
    for mine, theirs in zipped(
        torch.autograd.grad(got, inputs, cotangent),
        torch.autograd.grad(expected, inputs, cotangent),
    ):
        torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-9)


def ragged(name: str, module: SequenceNorm, x: Tensor) -> Tensor:
    """Compute the same norm on the valid frames alone, without a mask."""
    out = torch.zeros_like(x)
    if name in WITHIN:
        alone = build(name)
        alone.load_state_dict(module.state_dict())
        alone.eval()
        for row, length in enumerate(LENGTHS):
            if length:
                out[row, :length] = alone(x[row : row + 1, :length])[0]
        return out
    weight, bias = module.weight, module.bias
    frames = [(row, step) for row, length in enumerate(LENGTHS) for step in range(length)]
    groups = [frames]
    if name == "per_step":
        groups = [[frame for frame in frames if frame[1] == step] for step in range(T)]
    for group in groups:
        rows, steps = (list(index) for index in zipped(*group))
        values = x[rows, steps]
        if len(group) > 1:
            y = nn.functional.batch_norm(values, None, None, weight, bias, True)
            mean, var = values.detach().mean(0), values.detach().var(0, correction=1)
        else:  # too few: the table has the moments of the step before
            y = (values - mean) / (var + 1e-5).sqrt() * weight + bias
        out[rows, steps] = y
    return out


@pytest.mark.parametrize("poison", [0.0, float("nan"), float("inf"), 1e6])
@pytest.mark.parametrize("name", ALL)
def test_padding_is_the_ragged_computation(name: str, poison: float) -> None:
    module = build(name)
    clean = sample()
    padding = torch.arange(T)[None, :] >= torch.tensor(LENGTHS)[:, None]
    x = clean.masked_fill(padding[:, :, None], poison).requires_grad_()
    got = module(x, LENGTHS)
    reference = clean.clone().requires_grad_()
    expected = ragged(name, module, reference)
    torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-10)
    assert not got[padding].any()
    cotangent = torch.randn_like(clean)
    parameters = list(module.parameters())
    mine = torch.autograd.grad(got, [x, *parameters], cotangent)
    direct = torch.autograd.grad(expected, [reference], cotangent)[0]
    torch.testing.assert_close(mine[0], direct, rtol=1e-9, atol=1e-9)
    assert not mine[0][padding].any()
    assert all(torch.isfinite(gradient).all() for gradient in mine)
    if name in ACROSS:
        assert all(torch.isfinite(buffer).all() for buffer in module.buffers())
        assert module.table.count.tolist() == ([11] if name == "pooled" else [3, 2, 2, 2, 0, 0])


def test_batch_statistics_enter_the_table_unbiased_and_serve_inference() -> None:
    module = build("pooled")
    x = sample()
    module(x, LENGTHS)
    frames = torch.cat([x[row, :length] for row, length in enumerate(LENGTHS)])
    torch.testing.assert_close(module.table.running_mean[0], frames.mean(0))
    torch.testing.assert_close(module.table.running_var[0], frames.var(0, correction=1))
    module.eval()
    y = module(x, LENGTHS)
    deviation = (frames - frames.mean(0)) / (frames.var(0, correction=1) + 1e-5).sqrt()
    assert module.weight is not None
    assert module.bias is not None
    torch.testing.assert_close(
        torch.cat([y[row, :length] for row, length in enumerate(LENGTHS)]),
        deviation * module.weight + module.bias,
    )


def test_a_step_past_the_table_uses_the_last_trusted_one_and_leaves_it_alone() -> None:
    module = seqnorm.BatchNorm(C, max_steps=2, affine=False, dtype=torch.float64, layout="NTC")
    x = sample()
    module(x)
    table = module.table.running_mean.clone()
    fresh = seqnorm.BatchNorm(C, max_steps=2, affine=False, dtype=torch.float64, layout="NTC")
    fresh(x[:, :2])
    torch.testing.assert_close(table, fresh.table.running_mean, rtol=0, atol=0)
    module.eval()
    y = module(x)
    var = module.table.running_var[1]
    torch.testing.assert_close(y[:, 5], (x[:, 5] - table[1]) / (var + 1e-5).sqrt())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: seqnorm.GroupNorm(3, C), "divisible"),
        (lambda: seqnorm.GroupNorm(0, C), "num_groups"),
        (lambda: seqnorm.LayerNorm(1, layout="NTC"), "one element"),
        (lambda: seqnorm.LayerNorm(C, eps=0.0, layout="NTC"), "eps"),
        (lambda: seqnorm.LayerNorm(C, layout="NTX"), "'NTC'"),
        (lambda: seqnorm.BatchNorm(C, max_steps=0, layout="NTC"), "max_steps"),
        (lambda: seqnorm.BatchNorm(C, min_count=1, layout="NTC"), "min_count"),
        (lambda: seqnorm.BatchNorm(C, momentum=2.0, layout="NTC"), "momentum"),
        (lambda: seqnorm.BatchNorm(C, beyond="first", layout="NTC"), "'last'"),
        (lambda: seqnorm.LayerNorm(C, layout="NTC")(torch.zeros(2, 3, C + 1)), "C = 8"),
        (lambda: seqnorm.LayerNorm(C, layout="NTC")(torch.zeros(3, C)), "got"),
        (lambda: seqnorm.LayerNorm(C, layout="NTC")(torch.zeros(2, 3, C), [3, 4]), "lengths"),
        (
            lambda: seqnorm.InstanceNorm(C, layout="NTC")(torch.zeros(2, 3, C), [1, 1]),
            "one element",
        ),
    ],
)
def test_refusals_say_why(make: object, message: str) -> None:
    assert callable(make)
    with pytest.raises(ValueError, match=message):
        make()


def test_a_batch_of_one_warns_once_where_the_user_called() -> None:
    module = seqnorm.BatchNorm(C, max_steps=T, layout="NTC")
    with pytest.warns(UserWarning, match=r"1 row\(s\), min_count=2") as caught:
        module(torch.randn(1, T, C))
    module(torch.randn(1, T, C))  # a second warning would be an error
    assert [warning.filename for warning in caught] == [__file__]
    assert not module.table.count.any()
    seqnorm.BatchNorm(C, layout="NTC")(torch.randn(1, T, C))  # pooled: six frames are enough


def test_integers_are_refused() -> None:
    with pytest.raises(TypeError, match=r"floating-point numbers, got torch\.int64"):
        seqnorm.LayerNorm(C, layout="NTC")(torch.ones(2, 3, C, dtype=torch.int64))


@pytest.mark.parametrize("training", [True, False])
def test_sequences_without_a_step(training: bool) -> None:
    norm = seqnorm.BatchNorm(C, max_steps=4, layout="NTC").train(training)
    assert norm(torch.randn(2, 0, C)).shape == (2, 0, C)
    assert not bool(norm.table.count.any())
