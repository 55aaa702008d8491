"""Errors for mistaken arguments and words of other libraries say what to write.

Axes: T steps, B sequences, I = input size, H = hidden size.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import seqnorm
from seqnorm import GRU, LSTM, GRUCell, LSTMCell, Norm, preset
from seqnorm.nn.layers.cells import LAYERS

numpy: Any = pytest.importorskip("numpy")
T, B, I, H = 4, 3, 2, 8  # noqa: E741  the axes' letters
X, STATE = torch.zeros(T, B, I), torch.zeros(1, B, H)
LENGTHS = [4, 3, 1]
PACKED = pack_padded_sequence(X, LENGTHS)
THIRD = r"lengths are the third argument, write layer\(input, lengths=\.\.\.\)"
PAIR = r"LSTM: hx must be a tuple \(h, c\), got "
ONE = r"GRU: hx must be one Tensor h, got "
NO_CELL = "there is no cell state, give h alone"
INPUT = "LSTM: input must be a Tensor or a PackedSequence, got "

# Calls, and the message of the TypeError.
CALLS: dict[str, tuple[Callable[[], object], str]] = {
    "lengths second": (lambda: LSTM(I, H)(X, LENGTHS), f"{PAIR}a list of int: {THIRD}"),
    "lengths second, a tensor": (
        lambda: LSTM(I, H)(X, torch.tensor(LENGTHS)),
        rf"{PAIR}one Tensor \(3,\) of torch\.int64: {THIRD}",
    ),
    "lengths second, a tuple": (lambda: LSTM(I, H)(X, (4, 3, 1)), THIRD),
    "lengths second, an array": (lambda: LSTM(I, H)(X, numpy.array(LENGTHS)), THIRD),
    "lengths second, of numpy": (lambda: LSTM(I, H)(X, [*numpy.array(LENGTHS)]), THIRD),
    "lengths second, of a GRU": (lambda: GRU(I, H)(X, LENGTHS), f"{ONE}a list of int: {THIRD}"),
    "lengths second, a tensor, of a GRU": (lambda: GRU(I, H)(X, torch.tensor(LENGTHS)), THIRD),
    "lengths second, of a SLSTM": (lambda: seqnorm.SLSTM(I, H)(X, LENGTHS), THIRD),
    "turned round": (lambda: LSTM(I, H)(X, LENGTHS, (STATE, STATE)), THIRD),
    "states third": (
        lambda: LSTM(I, H)(X, None, (STATE, STATE)),
        r"lengths must be integers, got a tuple of tensors: is it hx\?",
    ),
    "a state third": (lambda: GRU(I, H)(X, None, STATE), r"integers, got torch\.float32"),
    "a pair for a GRU": (
        lambda: GRU(I, H)(X, (STATE, STATE)),
        f"{ONE}a tuple of Tensor: {NO_CELL}",
    ),
    "a list for an RNN": (lambda: seqnorm.RNN(I, H)(X, [STATE]), NO_CELL),
    "a pair for a packed GRU": (lambda: GRU(I, H)(PACKED, (STATE, STATE)), NO_CELL),
    "a pair for a GRUCell": (lambda: GRUCell(I, H)(X[0], (STATE[0], STATE[0])), NO_CELL),
    "h alone for an LSTM": (lambda: LSTM(I, H)(X, STATE), rf"{PAIR}one Tensor \(1, 3, 8\)"),
    "h and c in one": (lambda: LSTM(I, H)(X, torch.stack([STATE, STATE])), PAIR),
    "no c": (lambda: LSTM(I, H)(X, (STATE, None)), f"{PAIR}a tuple of NoneType, Tensor"),
    "a packed state": (lambda: GRU(I, H)(X, PACKED), f"{ONE}PackedSequence$"),
    "a state of numpy": (
        lambda: GRU(I, H)(X, STATE.numpy()),
        rf"{ONE}ndarray: write torch\.as_tensor\(numpy\.asarray\(hx\)\)",
    ),
    "states of numpy": (lambda: LSTM(I, H)(X, (STATE.numpy(),) * 2), f"{PAIR}a tuple of ndarray"),
    "the number of a step second": (
        lambda: GRUCell(I, H, norm="batch")(X[0], 3),
        r"GRUCell: hx must be .* got int: the number of a step is "
        r"cell\(input, hx, first_step=\.\.\.\)",
    ),
    "the number of a step second, of an LSTM": (
        lambda: LSTMCell(I, H, norm="batch")(X[0], 3),
        r"hx must be a tuple \(h, c\), got int: the number of a step",
    ),
    "a list of sequences": (
        lambda: LSTM(I, H)([X[:, 0], X[:2, 1]]),
        rf"{INPUT}a list of 2 tensors: torch\.nn\.utils\.rnn\.pad_sequence makes a batch .*len",
    ),
    "a tuple of sequences": (lambda: LSTM(I, H)((X[:, 0],) * 3), "a tuple of 3 tensors.*pad_seq"),
    "a padded batch with its lengths": (
        lambda: LSTM(I, H)(pad_packed_sequence(PACKED)),
        rf"{INPUT}a tuple of 2 tensors: write layer\(padded, lengths=lengths\)",
    ),
    "an array": (lambda: LSTM(I, H)(X.numpy()), rf"{INPUT}ndarray: write torch\.as_tensor\(numpy"),
    "numbers": (lambda: LSTM(I, H)([[0.0]]), f"{INPUT}list$"),
    "no input": (lambda: LSTM(I, H)(None), f"{INPUT}NoneType$"),
    "a list for a cell": (
        lambda: LSTMCell(I, H)([X[0, 0], X[0, 1]]),
        r"LSTMCell: input must be a Tensor, got a list of 2 tensors: torch\.stack",
    ),
    "an array for a cell": (lambda: GRUCell(I, H)(X[0].numpy()), r"a Tensor, got ndarray: write"),
    "a packed batch for a cell": (lambda: GRUCell(I, H)(PACKED), "a Tensor, got PackedSequence"),
    "a traced layer": (
        lambda: torch.fx.symbolic_trace(nn.Sequential(LSTM(I, H))),
        r"got Proxy: make torch\.fx take this layer as a leaf, see torch\.fx\.Tracer\.is_leaf",
    ),
}
# Constructors, and the message of the TypeError.
OPTION = "it is an option of the norm, write norm="
OPTIONS: dict[str, tuple[Callable[[], object], str]] = {
    "max_steps": (
        lambda: LSTM(8, 16, norm="batch", max_steps=50),
        rf'\'max_steps\': {OPTION}seqnorm\.preset\("batch", "LSTM", max_steps=50\)',
    ),
    "eps": (lambda: GRU(I, H, norm="layer", eps=1e-3), r'preset\("layer", "GRU", eps=0\.001\)'),
    "eps alone": (lambda: GRU(I, H, eps=1e-3), r'preset\("layer", "GRU", eps=0\.001\)'),
    "momentum alone": (lambda: GRU(I, H, momentum=0.2), r'preset\("batch", "GRU", momentum=0\.2\)'),
    "of a preset": (lambda: LSTM(I, H, norm="haste", eps=1e-3), r'preset\("haste", "LSTM", eps='),
    "of a scheme": (
        lambda: LSTM(I, H, norm=preset("haste"), eps=1e-3),
        rf"{OPTION}scheme\.replace\(eps=0\.001\)",
    ),
    "of a cell": (
        lambda: GRUCell(I, H, norm="batch", max_steps=9),
        r'preset\("batch", "GRU", max_',
    ),
    "a norm at its site": (
        lambda: LSTM(I, H, cell=Norm("layer")),
        r"a scheme says where norms stand, norm=seqnorm\.NormScheme\(cell=\.\.\.\)",
    ),
    "norms": (lambda: LSTM(I, H, norms="layer"), r"'norms' \(did you mean 'norm'\?\)"),
    "layer_norm": (lambda: LSTM(I, H, layer_norm=True), r'the argument is norm, as norm="layer"'),
    "normalization": (lambda: LSTM(I, H, normalization="layernorm"), "the argument is norm"),
    "batch_fist": (lambda: GRU(I, H, batch_fist=True), r"\(did you mean 'batch_first'\?\)"),
    "n_layers": (lambda: LSTM(I, H, n_layers=2), r"did you mean 'num_layers'"),
    "recurrent_dropouts": (lambda: LSTM(I, H, recurrent_dropouts=0.1), "mean 'recurrent_dropout'"),
    "hidden": (lambda: LSTM(I, hidden=H), r"'hidden' \(did you mean 'hidden_size'\?\)"),
    "far off": (lambda: seqnorm.SLSTM(I, H, peepholes=True), r"argument 'peepholes'$"),
    "of a layer": (lambda: GRUCell(I, H, batch_first=True), r"GRUCell\.__init__\(\) got an unexp"),
}
# Words for norms, and the message of the ValueError.
WORDS = {
    **dict.fromkeys(("ln", "LN", "layernorm", "layer_norm"), r"\(did you mean 'layer'\?\)"),
    **dict.fromkeys(("LayerNorm", "Layer", "layer norm"), r"\(did you mean 'layer'\?\)"),
    **dict.fromkeys(("LayerNormLSTM", "lnlstm", "layer_norm_lstm_cell"), "mean 'layer'"),
    **dict.fromkeys(("bn", "batchnorm", "batch_norm", "BatchNorm1d", "SyncBatchNorm"), "'batch'"),
    **dict.fromkeys(("rmsnorm", "RMSNorm", "rms_norm"), r"\(did you mean 'rms'\?\)"),
    **dict.fromkeys(
        ("none", "None", "NONE", "null", "no", "no_norm", ""), "for no norm write None"
    ),
    **dict.fromkeys(("group", "gn", "GroupNorm", "group_norm"), "GroupNorm over time would read"),
    **dict.fromkeys(("instance", "in", "InstanceNorm1d"), "a set of one element"),
    **dict.fromkeys(("deepspeech2", "DeepSpeech", "deep_speech_2"), r"mean 'laurent2016'\?"),
    **dict.fromkeys(("speechbrain", "SpeechBrain"), r"mean 'ravanelli2018', of LiGRU\?"),
    **dict.fromkeys(("haste_gru", "hastelstm"), "mean 'haste'"),
    "laurent": "mean 'laurent2016'",
    **dict.fromkeys(
        ("dynamic_tanh", "DynamicTanh", "dyt"), r'write .*\(input=Norm\("dynamic_tanh"'
    ),
    **dict.fromkeys(("dynamic_erf", "DynamicErf", "Derf"), r"no preset, as nothing was published"),
}
# Values that are not words, and the message of the TypeError.
THINGS = {
    "class": (nn.LayerNorm, r"got <class .*LayerNorm'> \(did you mean 'layer'\?\)"),
    "module": (nn.BatchNorm1d(3), r"got BatchNorm1d.* \(did you mean 'batch'\?\)"),
    "class of ours": (seqnorm.LayerNorm, "mean 'layer'"),
    "group": (nn.Identity, r"got <class .*Identity'>$"),
    "true": (True, "got True$"),
    "false": (False, r"got False \(for no norm write None\)"),
    "dict": ({"kind": "layer"}, r"got \{'kind': 'layer'\}$"),
    "list": (["layer"], r"got \['layer'\]$"),
}


def refused(call: Callable[[], object], error: type[Exception], says: str) -> None:
    with pytest.raises(error) as caught:
        call()
    assert re.search(says, str(caught.value)), f"{says!r} is not said by: {caught.value}"


@pytest.mark.parametrize("case", CALLS)
def test_a_call(case: str) -> None:
    refused(CALLS[case][0], TypeError, CALLS[case][1])


@pytest.mark.parametrize("case", OPTIONS)
def test_an_option(case: str) -> None:
    refused(OPTIONS[case][0], TypeError, OPTIONS[case][1])


@pytest.mark.parametrize("word", WORDS)
def test_a_word(word: str) -> None:
    for cls in (LSTM, GRU, LSTMCell):
        refused(lambda cls=cls: cls(I, H, norm=word), ValueError, WORDS[word])


@pytest.mark.parametrize("case", THINGS)
def test_a_thing(case: str) -> None:
    refused(lambda: GRU(I, H, norm=THINGS[case][0]), TypeError, THINGS[case][1])


def test_the_word_of_speechbrain_where_it_belongs() -> None:
    refused(
        lambda: seqnorm.LiGRU(I, H, norm="speechbrain"), ValueError, r"mean 'ravanelli2018'\?\)"
    )


@pytest.mark.parametrize("lengths", [LENGTHS, torch.tensor(LENGTHS)], ids=["list", "tensor"])
@pytest.mark.parametrize("kind", LAYERS)
def test_the_layout_forgotten_beside_lengths(kind: str, lengths: Any) -> None:
    says = r"shape \(4,\), .* got \(3,\), as many as the input has steps: if it is "
    x = X.transpose(0, 1)
    with pytest.raises(ValueError, match=rf"{says}\(B, T, I\), build .* batch_first=True"):
        LAYERS[kind](I, H)(x, lengths=lengths)
    with pytest.raises(ValueError, match=rf"{says}\(T, B, I\), build .* batch_first=False"):
        LAYERS[kind](I, H, batch_first=True)(X, lengths=lengths)
    with pytest.raises(ValueError, match=r"got \(2,\)$"):
        LAYERS[kind](I, H)(X, lengths=[4, 3])


@pytest.mark.parametrize("norm", [None, "layer"])
@pytest.mark.parametrize("kind", LAYERS)
def test_another_device(kind: str, norm: str | None) -> None:
    """The input or a state is on another device; torch raises the error."""
    layer = LAYERS[kind](I, H, norm=norm)
    far = torch.zeros(T, B, I, device="meta")
    with pytest.raises(RuntimeError, match=r"Input and parameter .* same device.* at meta and"):
        layer(far)
    parts = (torch.zeros(1, B, H, device="meta"),) * len(layer.step.states)
    with pytest.raises(RuntimeError, match="Input and hidden tensors are not at the same device"):
        layer(X, parts if parts[1:] else parts[0])


def test_a_list_is_a_state_too() -> None:
    x, state = torch.randn(T, B, I), torch.randn(1, B, H)
    for module, of in ((LSTM(I, H), (x, state)), (LSTMCell(I, H), (x[0], state[0]))):
        expected = module(of[0], (of[1], of[1]))[0]
        assert torch.equal(module(of[0], [of[1], of[1]])[0], expected)


def test_a_constructor_of_ones_own_keeps_its_arguments() -> None:
    class Mine(LSTM):
        def __init__(self, size: int, *, depth: int = 1, **options: Any) -> None:
            super().__init__(size, size, depth, **options)

    assert Mine(3, depth=2, norm="layer").num_layers == 2
    with pytest.raises(TypeError, match=r"unexpected keyword argument 'norms' \(did you mean"):
        Mine(3, norms="layer")
    with pytest.raises(
        TypeError, match=r'Mine.* write norm=seqnorm\.preset\("batch", "LSTM", max_'
    ):
        Mine(3, norm="batch", max_steps=9)


def test_a_constructor_of_ones_own_without_a_norm_says_what_python_says() -> None:
    class Plain(LSTM):
        def __init__(self, size: int) -> None:
            super().__init__(size, size, norm="batch")

    with pytest.raises(TypeError, match=r"unexpected keyword argument 'max_steps'$"):
        Plain(3, max_steps=9)  # type: ignore[call-arg]  # the mistake


def test_a_class_between_may_take_keywords_of_classes() -> None:
    class Named:
        def __init_subclass__(cls, word: str, **options: Any) -> None:
            super().__init_subclass__(**options)
            cls.word = word  # type: ignore[attr-defined]

    class Mine(LSTM, Named, word="mine"):
        pass

    assert Mine.word == "mine"  # type: ignore[attr-defined]
