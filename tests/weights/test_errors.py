"""One error names everything that does not fit, and nothing is written."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from originals import Weights
from peers import PEERS, Peer
from publications import I
from tolerances import assert_equal
from torch.nn.utils import parametrizations

import seqnorm

H = 4


def the(source: str, cell: str, norm: Any) -> Peer:
    (found,) = (p for p in PEERS if (p.source, p.cell, p.norm) == (source, cell, norm))
    return found


HASTE = the("haste", "LSTM", "haste")


def test_one_error_lists_all_and_nothing_is_written() -> None:
    layer = seqnorm.LSTM(I, H, norm="haste", dtype=torch.float64)
    before = {name: value.clone() for name, value in layer.state_dict().items()}
    w = HASTE.weights()
    w["kernel"] = w["kernel"].mT
    w["recurrent_kernel"] = torch.zeros(3)
    w["gamma_h"] = torch.zeros(H, dtype=torch.int64)
    del w["bias"]
    w["beta"] = torch.zeros(2, 5)
    with pytest.raises(ValueError, match="do not fit LSTM as weights of 'haste'") as error:
        seqnorm.load_weights(layer, w, "haste")
    assert str(error.value).splitlines()[1:] == [
        "  wrong shape: kernel is (16, 3), and (3, 16) is needed, its transpose",
        "  wrong shape: recurrent_kernel is (3,), and (4, 16) is needed",
        "  missing: bias (16,)",
        "  not an array of floating-point numbers: gamma_h",
        "  left over: beta (2, 5)",
    ]
    for name, value in before.items():
        assert_equal(layer.state_dict()[name], value, name)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("words", "not an array of floating-point"),
        (None, "not an array"),
        ([[1, 2], [3]], "not an"),
    ],
)
def test_no_numbers(value: Any, said: str) -> None:
    with pytest.raises(ValueError, match=f"{said}.*: bias"):
        seqnorm.load_weights(HASTE.layer(), {**HASTE.weights(), "bias": value}, "haste")


REFUSED: list[tuple[Callable[[], Any], str, str]] = [
    (
        lambda: seqnorm.LSTM(I, H, norm="layer"),
        "tfa",
        r"'tfa' do not belong into LSTM with norm='layer': build it with norm='tfa'",
    ),
    (
        lambda: seqnorm.LSTM(I, H),
        "nemo",
        r"missing: lstm.weight_ih_l0",
    ),
    (
        lambda: seqnorm.LSTM(I, H, norm="tfa"),
        "haste",
        r"with norm='tfa': build it with norm='haste' or norm=None",
    ),
    (
        lambda: seqnorm.LSTM(I, H, norm=seqnorm.preset("haste", "LSTM", eps=1e-3)),
        "haste",
        r"norm=preset\('haste', 'LSTM', eps=0.001\): build it with norm='haste'",
    ),
    (
        lambda: seqnorm.LSTM(I, H, norm="haste"),
        "keras",
        r"build it with norm=None",
    ),
    (
        lambda: seqnorm.LSTM(I, H, norm="layer"),
        "torch",
        r"build it with norm=None",
    ),
    (lambda: seqnorm.SLSTM(I, H), "haste", r"weights for LSTM, GRU, IndRNN, and this is a SLSTM"),
    (
        lambda: seqnorm.IndRNN(I, H, nonlinearity="relu", norm="haste"),
        "haste",
        r"IndRNN of 'haste' has another nonlinearity: .*nonlinearity='tanh'",
    ),
    (
        lambda: seqnorm.LSTM(I, H),
        "tensorflow",
        r"source must be one of 'cooijmans', .*'tensorflow'",
    ),
    (lambda: seqnorm.LSTM(I, H), "hast", r"did you mean 'haste'"),
    (
        lambda: seqnorm.LSTM(I, H, bidirectional=True, norm="haste"),
        "haste",
        r"haste has no names for 1 layer\(s\) in 2 direction\(s\): .*a list of mappings",
    ),
]


@pytest.mark.parametrize(("build", "source", "said"), REFUSED)
def test_a_layer_that_does_not_fit_is_refused(
    build: Callable[[], Any], source: str, said: str
) -> None:
    with pytest.raises(ValueError, match=f"(?s){said}"):
        seqnorm.load_weights(build(), {"a": torch.zeros(1)}, source)


@pytest.mark.parametrize(
    ("norm", "source"),
    [
        (seqnorm.preset("tfa", "LSTM", eps=1e-5), "tfa"),  # an option there
        (seqnorm.preset("fastrnns", "LSTM"), "nemo"),  # the same but for initial values
        (seqnorm.preset("haste", "LSTM", gate_bias=(), hidden_init="uniform"), "haste"),
        (seqnorm.preset("jihunchoi", "LSTM", momentum=0.2, max_steps=7), "jihunchoi"),
    ],
)
def test_initial_values_and_options_of_tables_do_not_matter(norm: Any, source: str) -> None:
    name = "nemo" if source == "nemo" else source
    peer = the(source, "LSTM", name)
    seqnorm.load_weights(seqnorm.LSTM(I, H, norm=norm), peer.weights(), source)


@pytest.mark.parametrize("call", [seqnorm.load_weights, seqnorm.to_weights])
def test_only_a_layer_or_cell_takes_weights(call: Any) -> None:
    rest = ({}, "torch") if call is seqnorm.load_weights else ("torch",)
    with pytest.raises(TypeError, match="takes a recurrent layer or cell of seqnorm, got LSTM"):
        call(torch.nn.LSTM(I, H), *rest)
    layer = seqnorm.LSTM(I, H)
    parametrizations.weight_norm(layer, "weight_hh_l0")
    with pytest.raises(ValueError, match="move the weights first, and parametrise afterwards"):
        call(layer, *rest)


@pytest.mark.parametrize(
    ("tensors", "error", "said"),
    [
        (torch.zeros(3), TypeError, "a mapping of names to arrays.*got Tensor"),
        ("kernel", TypeError, "got str"),
        (
            [{"a": torch.zeros(1)}, torch.zeros(1)],
            TypeError,
            "list of mappings or a list of arrays",
        ),
        ([torch.zeros(1)], TypeError, "weights of 'haste' have names: give a mapping"),
    ],
)
def test_other_things_than_tensors(tensors: Any, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        seqnorm.load_weights(HASTE.layer(), tensors, "haste")


def test_prefixes_that_cannot_be() -> None:
    layer = seqnorm.LSTM(I, H)
    with pytest.raises(TypeError, match="prefix must be the beginning of the names, got 3"):
        seqnorm.load_weights(layer, {}, "keras", prefix=3)  # type: ignore[arg-type]  # the mistake
    with pytest.raises(ValueError, match=r"prefix='a\.' belongs to names"):
        seqnorm.load_weights(layer, [torch.zeros(1)], "keras", prefix="a.")


def test_a_list_of_another_length() -> None:
    peer = the("keras", "LSTM", None)
    arrays = list(peer.weights().values())
    with pytest.raises(ValueError, match=r"missing: \[0\] bias \(16,\)"):
        seqnorm.load_weights(peer.layer(), arrays[:2], "keras")
    with pytest.raises(ValueError, match=r"left over: 3 \(16,\)"):
        seqnorm.load_weights(peer.layer(), [*arrays, arrays[2]], "keras")


def test_a_gru_of_keras_without_reset_after() -> None:
    peer = the("keras", "GRU", None)
    w = {**peer.weights(), "bias": torch.zeros(12)}
    with pytest.raises(ValueError, match=r"(?s)bias is \(12,\), and \(2, 12\).*reset_after=True"):
        seqnorm.load_weights(peer.layer(), w, "keras")


def test_weights_that_the_original_does_not_have() -> None:
    layer = seqnorm.LSTM(I, H, proj_size=2)
    given = {
        "kernel": torch.zeros(I, 4 * H),
        "recurrent_kernel": torch.zeros(2, 4 * H),
        "bias": torch.zeros(4 * H),
    }
    with pytest.raises(ValueError, match="'keras' has no weight_hr, and this layer has"):
        seqnorm.load_weights(layer, given, "keras")
    with pytest.raises(ValueError, match="'keras' has no weight_hr, and this layer has"):
        seqnorm.to_weights(layer, "keras")


def test_biases_that_belong_to_no_parameter() -> None:
    layer = seqnorm.LSTM(I, H, norm="haste", bias=False)
    with pytest.raises(ValueError, match=r"left over: bias \(16,\)"):
        seqnorm.load_weights(layer, HASTE.weights(), "haste")


def test_numbers_without_a_place_do_not_go_back() -> None:
    """A bias within the product with the reset gate has none in Flax's nnx, the others have."""
    gru = seqnorm.GRU(I, H, dtype=torch.float64)
    with pytest.raises(ValueError, match="'flax_nnx' has no place for some numbers of bias_hh"):
        seqnorm.to_weights(gru, "flax_nnx")
    with torch.no_grad():
        gru.bias_hh_l0[2 * H :] = 0.0
    back = seqnorm.to_weights(gru, "flax_nnx")
    same = seqnorm.GRU(I, H, dtype=torch.float64)
    seqnorm.load_weights(same, back, "flax_nnx")
    x = torch.randn(5, 2, I, dtype=torch.float64)
    assert (gru(x)[0] - same(x)[0]).abs().max().item() < 1e-14
    slstm = seqnorm.SLSTM(8, 8, num_heads=2, norm="xlstm")
    with pytest.raises(ValueError, match="'xlstm' has no place for some numbers of weight_ih"):
        seqnorm.to_weights(slstm, "xlstm")
    with pytest.raises(ValueError, match=r"haste has no names for 1 layer\(s\) in 2 direction"):
        seqnorm.to_weights(seqnorm.LSTM(I, H, bidirectional=True), "haste")


@pytest.mark.parametrize("cell", ["LSTM", "GRU"])
def test_a_matrix_in_blocks_has_no_counterpart(cell: str) -> None:
    layer = getattr(seqnorm, cell)(I, H, norm="haste", heads=2)
    weights = seqnorm.to_weights(getattr(seqnorm, cell)(I, H, norm="haste"), "haste")
    says = f"W_hh of 'haste' has no blocks, and this {cell} has heads=2: build it with heads=1"
    with pytest.raises(ValueError, match=says):
        seqnorm.to_weights(layer, "haste")
    with pytest.raises(ValueError, match=says):
        seqnorm.load_weights(layer, weights, "haste")


def statistics(change: Callable[[Weights], Any]) -> Weights:
    w = the("jihunchoi", "LSTM", "jihunchoi").weights()
    change(w)
    return w


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda w: w.pop("bn_hh.running_var_2"), r"missing: .*bn_hh.running_var_2 \(16,\)"),
        (lambda w: w["bn_c.running_var_1"].fill_(-1.0), "statistics of norm_cell must be finite"),
        (lambda w: w["bn_c.running_mean_1"].fill_(torch.nan), "of norm_cell must be finite"),
        (lambda w: w["bn_ih.running_var_0"].fill_(torch.inf), "of norm_ih must be finite"),
    ],
)
def test_statistics_that_cannot_be(change: Callable[[Weights], Any], said: str) -> None:
    layer = the("jihunchoi", "LSTM", "jihunchoi").layer()
    with pytest.raises(ValueError, match=said):
        seqnorm.load_weights(layer, statistics(change), "jihunchoi")
    assert bool(layer.weight_ih_l0.isnan().all())
    assert not layer.norm_ih_l0.table.count.any()


def test_statistics_too_large_for_the_dtype_of_the_layer() -> None:
    """The table of a layer in float32 would hold an infinite variance; nothing is written."""
    w = statistics(lambda w: w["bn_c.running_var_0"].fill_(1e200))
    layer = seqnorm.LSTM(I, H, norm="jihunchoi")
    before = layer.weight_ih_l0.detach().clone()
    with pytest.raises(ValueError, match="of norm_cell must be finite"):
        seqnorm.load_weights(layer, w, "jihunchoi")
    assert_equal(layer.weight_ih_l0.detach(), before)


def test_more_steps_than_the_table_has() -> None:
    peer = the("jihunchoi", "LSTM", "jihunchoi")
    layer = seqnorm.LSTM(I, H, norm=seqnorm.preset("jihunchoi", "LSTM", max_steps=2))
    with pytest.raises(ValueError, match=r"4 steps for norm_ih, whose table has 2: .*max_steps=4"):
        seqnorm.load_weights(layer, peer.weights(), "jihunchoi")


def test_learned_states_have_no_place() -> None:
    layer = seqnorm.GRU(3, 4, learn_initial_state=True)
    for call in (
        lambda: seqnorm.to_weights(layer, "torch"),
        lambda: seqnorm.load_weights(layer, {}, "torch"),
    ):
        with pytest.raises(ValueError, match="learn_initial_state=False"):
            call()
