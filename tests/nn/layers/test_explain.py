"""``explain`` tells which backend takes a call, and computes nothing."""

from __future__ import annotations

import pytest
import torch
from beside_reference import needs_kernels
from torch.nn.utils.rnn import pack_padded_sequence

import seqnorm
from seqnorm.nn.backends import BACKENDS

T, B, I, H = 5, 3, 4, 8  # noqa: E741  the axes' letters
X = torch.randn(T, B, I)


@needs_kernels
def test_a_layer_with_a_norm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_INTERPRET", "0")
    found = seqnorm.explain(seqnorm.LSTM(I, H, norm="layer"), X, lengths=[5, 2, 4])
    assert found.backends == {"_l0": "cpu"}
    assert str(found).splitlines() == [
        "backend 'cpu' computes the call",
        "  aten: torch's fused layer has no norm",
        "  cpu: takes it",
        "  reference: takes it",
        "  triton: its kernels are for NVIDIA GPUs, and the input is on cpu",
    ]


@needs_kernels
def test_each_direction_of_each_layer() -> None:
    layer = seqnorm.LSTM(I, H, 2, bidirectional=True, proj_size=3, norm="layer")
    found = seqnorm.explain(layer, X)
    assert list(found.backends) == ["_l0", "_l0_reverse", "_l1", "_l1_reverse"]
    assert set(found.backends.values()) == {"cpu"}
    assert "no norm" in str(found.reasons["_l1"]["aten"])
    assert str(found).count("computes") == 1


@pytest.mark.parametrize("norm", ["batch", "batch_pooled"])
def test_nothing_is_computed(norm: str) -> None:
    layer = seqnorm.GRU(I, H, norm=norm)
    before = {key: value.clone() for key, value in layer.state_dict().items()}
    state = torch.get_rng_state()
    seqnorm.explain(layer, X)
    assert torch.equal(torch.get_rng_state(), state)
    for key, value in layer.state_dict().items():
        assert torch.equal(value, before[key]), key


def test_a_packed_batch_and_one_sequence() -> None:
    layer = seqnorm.LSTM(I, H)
    packed = pack_padded_sequence(X, torch.tensor([5, 2, 4]), enforce_sorted=False)
    reason = seqnorm.explain(layer, packed).reasons["_l0"]["aten"]
    assert reason == "torch's packed path is slower than the time loop on a CPU"
    assert seqnorm.explain(layer, X[:, 0]).backends == {"_l0": "aten"}


def test_a_pin_and_a_preference(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = seqnorm.LSTM(I, H)
    with seqnorm.use_backend("reference"):
        assert seqnorm.explain(layer, X).backends == {"_l0": "reference"}
    with seqnorm.use_backend("aten"), pytest.raises(RuntimeError, match="does not take this call"):
        seqnorm.explain(seqnorm.LSTM(I, H, norm="layer"), X)
    monkeypatch.setenv("SEQNORM_BACKEND", "reference")
    assert seqnorm.explain(layer, X).backends == {"_l0": "reference"}


def test_a_cell() -> None:
    found = seqnorm.explain(seqnorm.GRUCell(I, H, norm="layer"), X[0])
    assert list(found.reasons[""]) == list(BACKENDS)
    assert str(found).startswith("backend 'reference' computes the call\n  aten: a single step is")


def test_mistakes() -> None:
    model = torch.nn.Sequential(seqnorm.LSTM(I, H))
    with pytest.raises(TypeError, match=r"got Sequential: write explain\(model\.rnn, input\)"):
        seqnorm.explain(model, X)  # type: ignore[arg-type]  # the mistake
    with pytest.raises(RuntimeError, match="Expected 4, got 5"):
        seqnorm.explain(seqnorm.LSTM(I, H), torch.randn(T, B, I + 1))


def test_resets_and_batches_without_padding() -> None:
    layer = seqnorm.LSTM(3, 4, norm="layer")
    rows, resets = torch.zeros(6, 3), torch.tensor([0, 0, 1, 0, 0, 0], dtype=torch.bool)
    for found in (
        seqnorm.explain(layer, rows, cu_seqlens=[0, 2, 6], resets=resets),
        seqnorm.explain(layer, rows, resets=resets),
    ):
        assert found.reasons["_l0"]["reference"] is None
        assert "no norm" in str(found.reasons["_l0"]["aten"])
