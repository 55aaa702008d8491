"""Whole layers: several layers and directions, lists, nested mappings, prefixes and buffers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from originals import Weights
from peers import PEERS, Peer
from publications import B, I, T
from tolerances import REORDERED, assert_close, assert_equal
from torch import Tensor

import seqnorm
from seqnorm.integrations import torch_rnn

H = 4


def the(source: str, cell: str, norm: Any) -> Peer:
    (found,) = (p for p in PEERS if (p.source, p.cell, p.norm) == (source, cell, norm))
    return found


def parts(peer: Peer, layers: int, directions: int) -> list[Weights]:
    """Draw the weights of each layer and direction."""
    sizes = [I] + [directions * H] * (layers - 1)
    return [peer.weights(size) for size in sizes for _ in range(directions)]


def as_one(of: list[Weights], *places: str) -> Weights:
    """Return one mapping, with the names that the places give to each layer and direction."""
    return {f"{place}{name}": v for place, w in zip(places, of) for name, v in w.items()}


# Libraries, with the beginnings of the names of layers and directions.
WHOLE = [
    (("fastrnns", "LSTM", "fastrnns"), 2, 1, ["layers.0.cell.", "layers.1.cell."]),
    (
        ("fastrnns", "LSTM", "fastrnns"),
        2,
        2,
        [f"layers.{k}.directions.{d}.cell." for k in (0, 1) for d in (0, 1)],
    ),
    (("nemo", "LSTM", "nemo"), 2, 1, ["layers.0.cell.", "layers.1.cell."]),
    (("nemo", "LSTM", "nemo_batch"), 2, 1, ["layers.0.", "layers.1."]),
    (("icefall", "LSTM", "icefall"), 3, 1, [f"layers.{k}.cell." for k in range(3)]),
    (("icefall", "GRU", "icefall"), 1, 1, ["layers.0.cell."]),
    (("jihunchoi", "LSTM", "jihunchoi"), 2, 1, ["cell_0.", "cell_1."]),
    (("haste", "GRU", "haste"), 2, 1, ["0.", "1."]),
    (("haste_tf", "LSTM", "haste"), 1, 2, ["fw/", "bw/"]),
    (("keras", "LSTM", None), 1, 2, ["forward/", "backward/"]),
    (("tfa", "LSTM", "tfa"), 2, 1, ["0/", "1/"]),
    (("flax", "GRU", None), 1, 1, ["cell/"]),
    (("flax", "LSTM", None), 1, 2, ["forward_rnn/cell/", "backward_rnn/cell/"]),
    (("flax_nnx", "GRU", None), 1, 2, ["forward_rnn/cell/", "backward_rnn/cell/"]),
    (("kiros", "LSTM", "kiros2016"), 1, 1, ["lnlstm_"]),
    (("kiros", "GRU", "kiros2016"), 1, 1, ["lngru_"]),
    (("speechbrain", "LiGRU", "ravanelli2018"), 2, 1, ["rnn.0.", "rnn.1."]),
]
IDS = [f"{key[0]}-{key[1]}-{layers}-{both}" for key, layers, both, _ in WHOLE]
whole = pytest.mark.parametrize(("key", "layers", "both", "places"), WHOLE, ids=IDS)


@whole
def test_a_whole_layer(
    key: tuple[str, str, Any], layers: int, both: int, places: list[str]
) -> None:
    """Names of the whole give what a list of the parts gives, and they come back."""
    peer = the(*key)
    of = parts(peer, layers, both)
    one, other = (
        peer.layer(I, H, num_layers=layers, bidirectional=both > 1, cls=peer.cell) for _ in range(2)
    )
    given = as_one(of, *places)
    seqnorm.load_weights(one, given, peer.source)
    seqnorm.load_weights(other, of, peer.source)
    for (name, wanted), found in zip(other.state_dict().items(), one.state_dict().values()):
        assert_equal(found, wanted, name)
    # The first layer of the last check has the weights of the first part alone.
    first = peer.layer(I, H)
    seqnorm.load_weights(first, of[0], peer.source)
    x = torch.randn(T, B, I, dtype=torch.float64)
    if layers == both == 1:
        assert_equal(one(x)[0], first(x)[0])
    back = seqnorm.to_weights(one, peer.source)
    usual = {"flax", "kiros"}  # one layer of these has usual names without a beginning
    expected = of[0] if peer.source in usual and both == 1 else given
    assert back.keys() == expected.keys()
    for name, value in expected.items():
        assert_equal(back[name], value, name)


@pytest.mark.parametrize("source", ["torch", "torchrl"])
@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_torchs_own_layers(kind: str, source: str) -> None:
    options = {"num_layers": 2, "bidirectional": True, "dtype": torch.float64}
    theirs = getattr(torch.nn, kind)(I, H, **options)
    layer = getattr(seqnorm, kind)(I, H, **options)
    prefix = f"{kind.lower()}." if source == "torchrl" else ""
    given = {prefix + name: value for name, value in theirs.state_dict().items()}
    seqnorm.load_weights(layer, given, source)
    x = torch.randn(T, B, I, dtype=torch.float64)
    assert_equal(layer(x)[0], theirs(x)[0])
    back = seqnorm.to_weights(layer, source)
    assert list(back) == list(theirs.state_dict())
    theirs.load_state_dict(back)


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
@pytest.mark.parametrize("bias", [True, False])
def test_torchs_projection_and_missing_biases(bias: bool) -> None:
    theirs = torch.nn.LSTM(I, H, bias=bias, proj_size=2)
    layer = seqnorm.LSTM(I, H, bias=bias, proj_size=2)
    seqnorm.load_weights(layer, theirs.state_dict(), "torch")
    x = torch.randn(T, B, I)
    assert_equal(layer(x)[0], theirs(x)[0])
    assert seqnorm.to_weights(layer, "torch").keys() == theirs.state_dict().keys()


def arrays(of: list[Weights]) -> list[Any]:
    return [value.numpy() for w in of for value in w.values()]


@pytest.mark.parametrize(
    ("source", "cell", "norm"),
    [
        ("keras", "LSTM", None),
        ("keras", "GRU", None),
        ("keras", "RNN", None),
        ("tfa", "LSTM", "tfa"),
        ("tfa", "RNN", "tfa"),
    ],
)
def test_lists_in_the_order_of_get_weights(source: str, cell: str, norm: Any) -> None:
    peer = the(source, cell, norm)
    of = parts(peer, 2, 2)
    one, other = (peer.layer(I, H, num_layers=2, bidirectional=True) for _ in range(2))
    seqnorm.load_weights(one, arrays(of), source)
    seqnorm.load_weights(other, [arrays(of[:2]), arrays(of[2:])], source)
    for wanted, number in zip(one.parameters(), other.parameters()):
        assert_equal(number, wanted)
    back = seqnorm.to_weights(one, source)
    expected = arrays(of)
    assert len(back) == len(expected)
    for value, wanted in zip(back.values(), expected):
        assert_equal(value, torch.from_numpy(wanted))


def test_names_of_tensorflow_end_with_a_number() -> None:
    peer = the("tfa", "LSTM", "tfa")
    w = peer.weights()
    layer, same = peer.layer(), peer.layer()
    seqnorm.load_weights(
        layer, {f"rnn/cell/{n}:0": v for n, v in w.items()}, "tfa", prefix="rnn/cell/"
    )
    seqnorm.load_weights(same, w, "tfa")
    for wanted, found in zip(same.parameters(), layer.parameters()):
        assert_equal(found, wanted)


def test_nested_mappings_and_arrays_of_others() -> None:
    class Array:
        """Has __array__ as jax's arrays, and gives memory that must not be written."""

        def __init__(self, value: Tensor) -> None:
            self.value = value.numpy().copy()
            self.value.flags.writeable = False

        def __array__(self) -> Any:
            return self.value

    peer = the("flax", "LSTM", None)
    w = peer.weights()
    nested: dict[str, Any] = {}
    for name, value in w.items():
        module, kind = name.split("/")
        nested.setdefault(module, {})[kind] = Array(value)
    layer, same = peer.layer(), peer.layer()
    seqnorm.load_weights(layer, {"params": {"cell": nested}}, "flax", prefix="params/")
    seqnorm.load_weights(same, {n.replace("/", "."): v for n, v in w.items()}, "flax")
    for wanted, found in zip(same.parameters(), layer.parameters()):
        assert_equal(found, wanted)


def test_a_file_of_numpy(tmp_path: Path) -> None:
    """Take Kiros's parameters as his programs save them, behind the name of the layer."""
    peer = the("kiros", "GRU", "kiros2016")
    w = peer.weights()
    given = {f"encoder_{name}": value.numpy() for name, value in w.items()}
    np.savez(tmp_path / "model.npz", decoder_W=np.zeros(3), **given)
    layer, same = peer.layer(), peer.layer()
    with np.load(tmp_path / "model.npz") as file:
        seqnorm.load_weights(layer, file, "kiros", prefix="encoder_")
    seqnorm.load_weights(same, w, "kiros")
    for wanted, found in zip(same.parameters(), layer.parameters()):
        assert_equal(found, wanted)


def test_a_prefix_chooses_the_names_of_one_layer() -> None:
    peer = the("haste", "LSTM", "haste")
    w = peer.weights()
    model = {f"encoder.rnn.{name}": v for name, v in w.items()} | {"head.weight": torch.zeros(3)}
    layer = peer.layer()
    seqnorm.load_weights(layer, model, "haste", prefix="encoder.rnn.")
    assert_equal(layer.norm_cell_l0.weight.detach(), w["gamma_h"])
    with pytest.raises(ValueError, match=r"names begin with 'encoder.rnn.': write prefix='encoder"):
        seqnorm.load_weights(layer, model, "haste")
    with pytest.raises(
        ValueError, match=r"no name begins with prefix='decoder'; there are encoder"
    ):
        seqnorm.load_weights(layer, model, "haste", prefix="decoder")


def test_buffers_that_are_no_weights_are_passed_over() -> None:
    peer = the("speechbrain", "LiGRU", "moumen2023")
    w = peer.weights()
    extra = {
        "norm.num_batches_tracked": torch.tensor(7),
        "h_init": torch.zeros(1, H),
        "drop_mask_te": torch.ones(1),
    }
    seqnorm.load_weights(peer.layer(), w | extra, "speechbrain")
    with pytest.raises(ValueError, match=r"left over: h_unit \(1, 4\)"):
        seqnorm.load_weights(peer.layer(), w | {"h_unit": torch.zeros(1, H)}, "speechbrain")


def test_directions_of_speechbrain_share_their_weights() -> None:
    peer = the("speechbrain", "LiGRU", "ravanelli2018")
    w = peer.weights()
    layer = peer.layer(I, H, bidirectional=True)
    seqnorm.load_weights(layer, w, "speechbrain")
    assert_equal(layer.weight_hh_l0, layer.weight_hh_l0_reverse)
    assert_equal(layer.norm_ih_l0.table.running_var, layer.norm_ih_l0_reverse.table.running_var)
    assert_equal(seqnorm.to_weights(layer, "speechbrain")["rnn.0.u.weight"], w["u.weight"])
    with torch.no_grad():
        layer.weight_hh_l0_reverse[0, 0] += 1.0
    with pytest.raises(ValueError, match=r"rnn.0.u.weight would differ between the directions"):
        seqnorm.to_weights(layer, "speechbrain")


def test_two_tensors_of_the_same_name() -> None:
    w = the("tfa", "RNN", "tfa").weights()
    with pytest.raises(ValueError, match="two tensors have the name 'bias': 'bias:0' is one"):
        seqnorm.load_weights(the("tfa", "RNN", "tfa").layer(), w | {"bias:0": w["bias"]}, "tfa")


def test_a_layer_that_is_ready_for_calls_computes_with_the_new_weights() -> None:
    peer = the("haste", "LSTM", "haste")
    layer, other = peer.layer(), peer.layer()
    x = torch.randn(T, B, I, dtype=torch.float64)
    for w in (peer.weights(), peer.weights()):
        seqnorm.load_weights(layer, w, "haste")
        with torch.no_grad():
            for _ in range(3):
                found = layer(x)[0]
    seqnorm.load_weights(other, w, "haste")
    assert_close(found, other(x)[0], REORDERED)


def test_layers_that_are_torchs_too() -> None:
    peer = the("keras", "LSTM", None)
    w = peer.weights()
    layer, same = torch_rnn.LSTM(I, H, dtype=torch.float64), peer.layer()
    seqnorm.load_weights(layer, w, "keras")
    seqnorm.load_weights(same, w, "keras")
    x = torch.randn(T, B, I, dtype=torch.float64)
    assert_close(layer(x)[0], same(x)[0], REORDERED)


def test_a_copy_has_the_dtype_of_the_layer_and_shares_no_memory() -> None:
    peer = the("keras", "LSTM", None)
    w = peer.weights()
    layer = seqnorm.LSTM(I, H)
    seqnorm.load_weights(layer, w, "keras")
    assert layer.weight_ih_l0.dtype == torch.float32
    back = seqnorm.to_weights(layer, "keras")
    back["kernel"].zero_()
    assert bool(layer.weight_ih_l0.any())
    assert not back["kernel"].requires_grad
