"""Running statistics that come with weights: counts, steps without any, and the way back."""

from __future__ import annotations

import pytest
import torch
from originals import Weights
from peers import PEERS
from publications import B, I
from tolerances import REORDERED, SINGLE, assert_close, assert_equal

import seqnorm

H = 4
(JIHUNCHOI,) = (peer for peer in PEERS if peer.norm == "jihunchoi")
(LIGRU,) = (peer for peer in PEERS if peer.norm == "ravanelli2018")


def with_untrained(steps: int, trained: int) -> Weights:
    """Return weights whose last steps hold the initial mean 0 and variance 1."""
    w = JIHUNCHOI.weights(steps=steps)
    for name, value in w.items():
        kind, _, step = name.rpartition("_")
        if step.isdigit() and int(step) >= trained:
            value.fill_(1.0 if kind.endswith("var") else 0.0)
    return w


def test_the_count_of_a_step() -> None:
    """It is a million, and 0 where the original holds initial values."""
    layer = JIHUNCHOI.layer()
    seqnorm.load_weights(layer, with_untrained(6, 4), "jihunchoi")
    for norm in (layer.norm_ih_l0, layer.norm_hh_l0, layer.norm_cell_l0):
        assert norm.table.count[:7].tolist() == [1_000_000] * 4 + [0] * 3
        assert not norm.table.uncounted().any()


def test_steps_without_training_are_read_from_the_last_before() -> None:
    layer, short = JIHUNCHOI.layer(), JIHUNCHOI.layer()
    w = with_untrained(6, 4)
    seqnorm.load_weights(layer, w, "jihunchoi")
    of_four = {n: v for n, v in w.items() if n.rpartition("_")[2] not in ("4", "5")}
    seqnorm.load_weights(short, of_four, "jihunchoi")
    x = torch.randn(9, B, I, dtype=torch.float64)
    assert_equal(layer(x)[0], short(x)[0])
    back = seqnorm.to_weights(layer, "jihunchoi")
    assert {name.removeprefix("cell_0.") for name in back} == set(of_four)


def test_a_table_of_its_own_training_goes_out_as_buffers() -> None:
    """Steps up to the last with statistics are written, and come back as they were."""
    norm = seqnorm.preset("jihunchoi", "LSTM", max_steps=20)
    layer = seqnorm.LSTM(I, H, norm=norm, dtype=torch.float64)
    for _ in range(3):
        layer(torch.randn(7, B, I, dtype=torch.float64))
    back = seqnorm.to_weights(layer.eval(), "jihunchoi")
    assert sum("bn_c.running_mean_" in name for name in back) == 7
    same = seqnorm.LSTM(I, H, norm=norm, dtype=torch.float64).eval()
    seqnorm.load_weights(same, back, "jihunchoi")
    x = torch.randn(9, B, I, dtype=torch.float64)
    assert_equal(same(x)[0], layer(x)[0])


def test_a_layer_without_statistics_goes_out_with_initial_ones() -> None:
    layer = seqnorm.LSTM(I, H, norm=seqnorm.preset("jihunchoi", "LSTM", beyond="error"))
    back = seqnorm.to_weights(layer, "jihunchoi")
    assert_equal(back["cell_0.bn_ih.running_var_0"], torch.ones(4 * H))
    assert "cell_0.bn_ih.running_var_1" not in back


@pytest.mark.parametrize("trained", [True, False])
def test_statistics_over_frames(trained: bool) -> None:
    w = LIGRU.weights()
    if not trained:
        w |= {"norm.running_mean": torch.zeros(2 * H), "norm.running_var": torch.ones(2 * H)}
    layer = LIGRU.layer()
    seqnorm.load_weights(layer, w, "speechbrain")
    table = layer.norm_ih_l0.table
    assert table.count.tolist() == [1_000_000 if trained else 0]
    assert_close(table.running_mean[0], w["norm.running_mean"].double(), REORDERED)


def test_statistics_that_the_original_keeps_elsewhere_are_forgotten() -> None:
    """Cooijmans's code keeps them apart from its weights; a table must not keep older ones."""
    (peer,) = (peer for peer in PEERS if peer.source == "cooijmans")
    layer = peer.layer().train()
    seqnorm.load_weights(layer, peer.weights(), "cooijmans")
    layer(torch.randn(5, B, I, dtype=torch.float64))
    assert bool(layer.norm_ih_l0.table.count.any())
    seqnorm.load_weights(layer, peer.weights(), "cooijmans")
    assert not layer.norm_ih_l0.table.count.any()


def test_training_goes_on_with_the_momentum() -> None:
    """A count of a million leaves the weight of the next batch to the momentum."""
    norm = seqnorm.preset("jihunchoi", "LSTM", momentum=0.1)
    layer = seqnorm.LSTM(I, H, norm=norm)
    w = JIHUNCHOI.weights()
    seqnorm.load_weights(layer, w, "jihunchoi")
    table = layer.norm_ih_l0.table
    before = table.running_mean[0].clone()
    x = torch.randn(3, B, I)
    layer(x)
    batch = (x[0] @ layer.weight_ih_l0.detach().mT).mean(0)
    assert_close(table.running_mean[0], 0.9 * before + 0.1 * batch, SINGLE)
