"""Copies, pickles, checkpoints, casts and functional calls preserve a layer."""

from __future__ import annotations

import copy
import io
import pickle
from typing import Any

import pytest
import torch
from hidden_states import parts_of
from tolerances import VALUES, assert_close, assert_equal
from torch import Tensor, nn

import seqnorm
from seqnorm.nn.layers.cells import LAYERS
from seqnorm.nn.recurrence.step import STEPS

I, H, T, B = 3, 8, 4, 6  # noqa: E741  the axes' letters
F64 = torch.float64
LENGTHS = [4, 1, 4, 2, 3, 0]
NORMS = [None, "layer", "rms", "batch", "batch_pooled"]
# Every kind of norm in one layer; for each cell no norm, one with and one without tables.
PAIRS = [("LSTM", norm) for norm in NORMS]
PAIRS += [(kind, norm) for kind in LAYERS if kind != "LSTM" for norm in (None, "layer", "batch")]
# Options that a copy must keep and that are not parameters.
OPTIONS = {"RNN": {"nonlinearity": "relu"}, "LiGRU": {"nonlinearity": "tanh"}}
OPTIONS["SLSTM"] = {"num_heads": 2}


def build(kind: str, norm: Any, **options: Any) -> nn.Module:
    shape = {"num_layers": 2, "bidirectional": True, "zoneout": 0.1, "dtype": F64}
    return LAYERS[kind](I, H, norm=norm, **{**shape, **OPTIONS.get(kind, {}), **options})


def trained(kind: str, norm: Any, dtype: torch.dtype = F64) -> nn.Module:
    """Return a layer with random parameters, and running tables after two batches."""
    layer = build(kind, norm, dtype=dtype)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    for _ in range(2):
        layer(torch.randn(T, B, I, dtype=dtype), lengths=LENGTHS)
    return layer.eval()


def answer(layer: nn.Module) -> Tensor:
    generator = torch.Generator().manual_seed(4)
    dtype = layer.weight_ih_l0.dtype
    return layer(torch.randn(T, B, I, generator=generator).to(dtype), lengths=LENGTHS)[0]


def storages(layer: nn.Module) -> set[int]:
    return {value.untyped_storage().data_ptr() for value in layer.state_dict().values()}


def by_state_dict(layer: nn.Module) -> nn.Module:
    buffer = io.BytesIO()
    torch.save(layer.state_dict(), buffer)
    buffer.seek(0)
    new = build(type(layer).__name__, layer.norm, dtype=layer.weight_ih_l0.dtype)
    new.load_state_dict(torch.load(buffer, weights_only=True))
    return new.train(layer.training)


def by_torch_save(layer: nn.Module) -> nn.Module:
    buffer = io.BytesIO()
    torch.save(layer, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=False)


COPIES = {
    "deepcopy": copy.deepcopy,
    "pickle": lambda layer: pickle.loads(pickle.dumps(layer)),
    "state dict": by_state_dict,
    "torch.save": by_torch_save,
}


@pytest.mark.parametrize("how", COPIES)
@pytest.mark.parametrize(("kind", "norm"), PAIRS)
def test_a_copy_is_equal_and_apart(kind: str, norm: str | None, how: str) -> None:
    layer = trained(kind, norm)
    twin = COPIES[how](layer)
    assert type(twin) is type(layer)
    assert repr(twin) == repr(layer)
    assert twin.norm == layer.norm
    assert list(twin.state_dict()) == list(layer.state_dict())
    for name, value in layer.state_dict().items():
        assert_equal(twin.state_dict()[name], value, name)
    assert_equal(answer(twin), answer(layer))
    assert twin.report() == layer.report()
    assert not storages(twin) & storages(layer)
    before = answer(layer).clone()
    twin.train()
    answer(twin)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.zero_()
    assert_equal(answer(layer), before, "what happens to the copy stays with the copy")
    if norm in ("batch", "batch_pooled"):
        assert twin.report() != layer.report()


@pytest.mark.parametrize("norm", [None, "batch", seqnorm.NormScheme(frame=seqnorm.Norm("rms"))])
@pytest.mark.parametrize("kind", LAYERS)
def test_a_copied_cell_is_equal(kind: str, norm: Any) -> None:
    options = OPTIONS.get(kind, {})
    cell = getattr(seqnorm, f"{kind}Cell")(I, H, norm=norm, dtype=F64, **options).eval()
    x = torch.randn(B, I, dtype=F64)
    for twin in (copy.deepcopy(cell), pickle.loads(pickle.dumps(cell))):
        for a, b in zip(parts_of(twin(x, first_step=0)), parts_of(cell(x, first_step=0))):
            assert_equal(a, b)


@pytest.mark.parametrize("kind", LAYERS)
def test_tables_are_in_the_state_dict(kind: str) -> None:
    layer = trained(kind, "batch")
    state = layer.state_dict()
    names = {"input": "ih", "hidden": "hh", "sum": "sum", "cell": "cell"}
    sites = [names[site] for site in layer.norm.norms]
    assert "ih" in sites
    for suffix in ("_l0", "_l0_reverse", "_l1", "_l1_reverse"):
        for site in sites:
            prefix = f"norm_{site}{suffix}.table."
            features = H if site == "cell" else len(STEPS[kind].gates) * H
            assert state[prefix + "running_mean"].shape == (512, features)
            assert state[prefix + "running_var"].shape == state[prefix + "running_mean"].shape
            # Five, four, three and two sequences have the steps, in two batches.
            assert state[prefix + "count"][:5].tolist() == [10, 8, 6, 4, 0]
            assert state[prefix + "count"].dtype == torch.int64
    assert len([name for name in state if name.endswith("count")]) == 4 * len(sites)


@pytest.mark.parametrize("max_steps", [3, 4, 20, 600])
@pytest.mark.parametrize("kind", LAYERS)
def test_a_table_of_another_length_loads(kind: str, max_steps: int) -> None:
    layer = trained(kind, "batch")
    scheme = seqnorm.preset("batch", kind, max_steps=max_steps)
    other = build(kind, scheme).eval()
    if max_steps < T:
        with pytest.warns(UserWarning, match=rf"max_steps={max_steps}: the later ones are dropped"):
            other.load_state_dict(layer.state_dict())
        first = torch.randn(max_steps, B, I, dtype=F64)
        assert_equal(other(first)[0], layer(first)[0], "the steps that fit are kept")
    else:
        other.load_state_dict(layer.state_dict())
        assert_equal(answer(other), answer(layer))
    assert len(other.norm_ih_l0.table.count) == max_steps
    for name, value in layer.state_dict().items():
        assert value.shape[0] == layer.state_dict()[name].shape[0], (
            "loading leaves the source alone"
        )


def test_a_table_of_other_features_does_not_load() -> None:
    layer = seqnorm.LSTM(I, H, norm="batch")
    with pytest.raises(RuntimeError, match=r"size mismatch for norm_ih_l0\.table\.running_mean"):
        layer.load_state_dict(seqnorm.LSTM(I, H + 1, norm="batch").state_dict())


@pytest.mark.parametrize("kind", LAYERS)
def test_a_table_of_another_length_at_the_frame_and_the_output(kind: str) -> None:
    """Both have a row for every step, or one row for all steps."""
    for norm, rows in (("batch", T), ("batch_pooled", 1)):
        site = seqnorm.Norm(norm)
        layer = trained(kind, seqnorm.NormScheme(frame=site, output=site))
        for max_steps in (T, 600):
            other = build(kind, layer.norm.replace(max_steps=max_steps)).eval()
            other.load_state_dict(layer.state_dict())
            assert_equal(answer(other), answer(layer))
            held = 1 if norm == "batch_pooled" else max_steps
            for name in ("norm_frame_l0", "norm_output_l1_reverse"):
                count = getattr(other, name).table.count
                assert len(count) == held
                assert int((count > 0).sum()) == rows


def test_a_state_dict_of_another_norm_does_not_load() -> None:
    with pytest.raises(RuntimeError, match=r"Missing key.*norm_ih_l0\.weight"):
        seqnorm.LSTM(I, H, norm="layer").load_state_dict(nn.LSTM(I, H).state_dict())
    with pytest.raises(RuntimeError, match=r"Unexpected key.*norm_ih_l0\.weight"):
        nn.LSTM(I, H).load_state_dict(seqnorm.LSTM(I, H, norm="layer").state_dict())


@pytest.mark.parametrize(("kind", "norm"), PAIRS)
def test_casts_there_and_back(kind: str, norm: str | None) -> None:
    layer = trained(kind, norm, torch.float32)
    before = answer(layer)
    assert layer.to(F64) is layer
    assert answer(layer).dtype == F64
    assert_close(answer(layer).float(), before, 1e-5)
    assert_equal(layer.to(torch.float32)(torch.zeros(T, B, I))[0].new_zeros(()), torch.zeros(()))
    assert_equal(answer(layer), before, "float32 to float64 and back is exact")


@pytest.mark.parametrize("norm", NORMS)
def test_modes_switch_the_source_of_the_statistics(norm: str | None) -> None:
    layer = seqnorm.LSTM(I, H, norm=norm, dtype=F64)
    x = torch.randn(T, B, I, dtype=F64)
    layer(5 * x)
    in_training = layer(x)[0]
    count = {name: value.clone() for name, value in layer.named_buffers()}
    in_inference = layer.eval()(x)[0]
    for name, value in layer.named_buffers():
        assert_equal(value, count[name], "inference writes nothing")
    if norm in ("batch", "batch_pooled"):
        assert not torch.allclose(in_training, in_inference)
    else:
        assert_equal(in_training, in_inference)
    assert_equal(layer.train()(x)[0], in_training, "and back")


def test_freezing_one_norm_freezes_its_table() -> None:
    layer = seqnorm.LSTM(I, H, norm="batch", dtype=F64)
    layer.norm_ih_l0.eval()
    layer(torch.randn(T, B, I, dtype=F64))
    rows = {name: sum(counts) for name, counts in layer.report().rows.items()}
    assert rows == {
        "norm_ih_l0.table": 0,
        "norm_hh_l0.table": B * T,
        "norm_cell_l0.table": B * T,
    }


@pytest.mark.parametrize("kind", LAYERS)
def test_shared_memory(kind: str) -> None:
    layer = trained(kind, "batch")
    before = answer(layer)
    layer.share_memory()
    for name, value in layer.state_dict().items():
        assert value.is_shared(), name
    assert_equal(answer(layer), before)
    layer.train()
    answer(layer)
    for name, value in layer.state_dict().items():
        assert value.is_shared(), f"{name} is updated in place"


@pytest.mark.parametrize("kind", LAYERS)
def test_from_the_meta_device(kind: str) -> None:
    layer = LAYERS[kind](I, H, 2, norm="batch", device="meta")
    assert {value.device.type for value in layer.state_dict().values()} == {"meta"}
    layer.to_empty(device="cpu").reset_parameters()
    state = layer.state_dict()
    assert all(not value.any() for name, value in state.items() if name.endswith("count"))
    assert all(bool((v == 1).all()) for name, v in state.items() if name.endswith("running_var"))
    assert bool(layer(torch.randn(T, B, I))[0].isfinite().all())


@pytest.mark.parametrize(("kind", "norm"), PAIRS)
def test_functional_call(kind: str, norm: str | None) -> None:
    """A call uses other parameters and buffers; the layer's own stay unchanged."""
    layer, other = trained(kind, norm), trained(kind, norm)
    before = answer(layer)
    x = torch.randn(T, B, I, dtype=F64)
    expected = other(x)[0]
    values = {name: value.clone() for name, value in other.state_dict().items()}
    found = torch.func.functional_call(layer, values, (x,))[0]
    assert_equal(found, expected)
    assert_equal(answer(layer), before)
    if norm == "batch":
        layer.train()
        torch.func.functional_call(layer, values, (x,))
        assert_equal(answer(layer.eval()), before, "training updates the buffers that were given")
        assert values["norm_ih_l0.table.count"][0] == other.norm_ih_l0.table.count[0] + B


@pytest.mark.parametrize(("kind", "norm"), [pair for pair in PAIRS if pair[1] in (None, "layer")])
def test_functional_gradients(kind: str, norm: str | None) -> None:
    layer = trained(kind, norm)
    x = torch.randn(T, B, I, dtype=F64)
    parameters = {name: value.detach() for name, value in layer.named_parameters()}

    def loss(values: dict[str, Tensor]) -> Tensor:
        return torch.func.functional_call(layer, values, (x,))[0].square().sum()

    grads = torch.func.grad(loss)(parameters)
    loss(dict(layer.named_parameters())).backward()
    for name, parameter in layer.named_parameters():
        assert_close(grads[name], parameter.grad, VALUES, name)


@pytest.mark.parametrize("kind", LAYERS)
def test_reset_parameters_forgets_everything(kind: str) -> None:
    layer = trained(kind, "batch")
    torch.manual_seed(5)
    layer.reset_parameters()
    torch.manual_seed(5)
    new = build(kind, "batch")
    for name, value in new.state_dict().items():
        assert_equal(layer.state_dict()[name], value, name)


def test_inference_mode_and_no_grad() -> None:
    layer = trained("LSTM", "batch")
    expected = answer(layer).detach()
    with torch.inference_mode():
        assert_equal(answer(layer).clone(), expected)
    layer.train()
    with torch.no_grad():
        assert not answer(layer).requires_grad
    answer(layer).sum().backward()  # a layer can be trained after inference mode
