"""Every error says what was wrong and what to write instead; allowed arguments are accepted."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
import torch
from torch.nn.utils.rnn import pack_padded_sequence

import seqnorm
import seqnorm.nn.layers.cells
from seqnorm import GRU, LSTM, Norm, NormScheme, preset

T, B, I = 4, 3, 2  # noqa: E741  the axes' letters
X = torch.zeros(T, B, I)
LAYER, BATCH, POOLED = Norm("layer"), Norm("batch"), Norm("batch_pooled")
Build = Callable[[], object]

# The call, the type of its error, and parts of the message: the problem, then the remedy.
REFUSALS: dict[str, tuple[Build, type[Exception], str]] = {
    # Norm
    "kind": (
        lambda: Norm("lyer"),
        ValueError,
        r"kind must be one of 'layer'.*'lyer'.*mean 'layer'",
    ),
    "kind pooled": (lambda: Norm("batchpooled"), ValueError, r"did you mean 'batch_pooled'"),
    "kind far off": (lambda: Norm("xyz"), ValueError, r"'batch_pooled', .* got 'xyz'$"),
    "kind number": (lambda: Norm(3), ValueError, r"kind must be one of .* got 3"),
    "instance": (lambda: Norm("instance"), ValueError, r"InstanceNorm.* one value.* always 0"),
    "group": (lambda: Norm("group"), ValueError, r'future.*Norm\("layer", sets=4\)'),
    "eps zero": (lambda: Norm(eps=0.0), ValueError, r"eps must be > 0, got 0\.0.* NaN"),
    "eps negative": (lambda: Norm(eps=-1e-5), ValueError, r"eps must be > 0, got -1e-05"),
    "eps nan": (lambda: Norm(eps=float("nan")), ValueError, r"eps must be > 0, got nan"),
    "eps lost in float32": (lambda: Norm(eps=1e-50), ValueError, r"eps.*1e-50"),
    "eps infinite": (lambda: Norm(eps=float("inf")), ValueError, r"eps .*inf"),
    "eps text": (lambda: Norm(eps="1e-5"), TypeError, r"eps .*str|eps .*'1e-5'"),
    "eps_on": (
        lambda: Norm(eps_on="sd"),
        ValueError,
        r"eps_on must be .*'var', 'std'.*'sd'.*'std'",
    ),
    "gain": (lambda: Norm(gain="unifrm"), ValueError, r"gain must be .*'unifrm'.*mean 'uniform'"),
    "gain list": (lambda: Norm(gain=[1.0]), TypeError, r"gain .*number.*list"),
    "gain nan": (lambda: Norm(gain=float("nan")), ValueError, r"gain .*nan"),
    "bias": (
        lambda: Norm(bias="normal"),
        ValueError,
        r"bias must be one of 'uniform', got 'normal'",
    ),
    "sets": (lambda: Norm(sets="jont"), ValueError, r"sets must be .*'jont'.*mean 'joint'"),
    "sets number": (lambda: Norm(sets=2.0), TypeError, r"sets .*number.*got float"),
    "sets batch": (
        lambda: Norm("batch", sets="separate"),
        ValueError,
        r'sets=\'separate\' means nothing for \'batch\'.*leave sets="joint"',
    ),
    "single norm": (
        lambda: LSTM(2, 3, norm=Norm("batch", max_steps=9)),
        TypeError,
        r"does not say where it stands.*preset\('batch', \"LSTM\", eps=...\)",
    ),
    "steps of a layer norm": (
        lambda: Norm("layer", max_steps=9),
        ValueError,
        r"max_steps belongs to running statistics, and 'layer' has none",
    ),
    "steps of a layer preset": (
        lambda: preset("layer", "LSTM", max_steps=9, momentum=0.5),
        ValueError,
        r"max_steps, momentum|momentum, max_steps: no norm of this scheme",
    ),
    "camel case": (lambda: LSTM(2, 3, norm="LayerNrm"), ValueError, r"did you mean 'layer'"),
    "instance norm": (lambda: LSTM(2, 3, norm="InstanceNorm"), ValueError, r"a set of one element"),
    "word none": (lambda: LSTM(2, 3, norm="none"), ValueError, r"for no norm write None"),
    "sets other gates": (
        lambda: LSTM(2, 3, norm=preset("layer", "LSTM", sets=("rz", "n"))),
        ValueError,
        r"sets=\('rz', 'n'\) must divide the gates 'ifgo' in their order, as \('ifg', 'o'\)",
    ),
    "sets order": (
        lambda: GRU(2, 3, norm=preset("layer", "GRU", sets=("n", "rz"))),
        ValueError,
        r"must divide the gates 'rzn' in their order, as \('rz', 'n'\)",
    ),
    "sets over r and n": (
        lambda: GRU(2, 3, norm=NormScheme(sum=Norm(sets=("r", "zn")), bias_ih=None)),
        ValueError,
        r"sets=\('r', 'zn'\)",
    ),
    "momentum": (lambda: Norm("batch", momentum=1.5), ValueError, r"\(0, 1\] or be None, got 1\.5"),
    "momentum zero": (lambda: Norm("batch", momentum=0.0), ValueError, r"momentum .*got 0\.0"),
    "momentum text": (lambda: Norm("batch", momentum="1"), TypeError, r"momentum .*str"),
    "max_steps": (lambda: Norm("batch", max_steps=0), ValueError, r"max_steps must be .*got 0"),
    "max_steps float": (lambda: Norm("batch", max_steps=1.5), TypeError, r"max_steps .*int.*float"),
    "min_count": (lambda: Norm("batch", min_count=1), ValueError, r"at least 2, got 1: one row"),
    "min_count float": (lambda: Norm("batch", min_count=2.5), TypeError, r"min_count .*int.*float"),
    "beyond": (
        lambda: Norm("batch", beyond="lst"),
        ValueError,
        r"beyond must .*'lst'.*mean 'last'",
    ),
    # NormScheme
    "sum and input": (
        lambda: NormScheme(sum=LAYER, input=LAYER, bias_ih=None),
        ValueError,
        r"sum excludes input and hidden",
    ),
    "sum and hidden": (
        lambda: NormScheme(sum=LAYER, hidden=LAYER, bias_ih=None),
        ValueError,
        r"sum excludes input and hidden",
    ),
    "sum and bias_ih": (
        lambda: NormScheme(sum=LAYER),
        ValueError,
        r"bias_ih='outside' with a norm of the sum: write bias_ih=\"inside\" or None",
    ),
    "sum and bias_hh": (
        lambda: NormScheme(sum=LAYER, bias_ih=None, bias_hh="both"),
        ValueError,
        r"bias_hh='both' .*write bias_hh=\"inside\" or None",
    ),
    "pooled hidden": (
        lambda: NormScheme(hidden=POOLED),
        ValueError,
        r"hidden=.*future.*input, frame and output",
    ),
    "pooled cell": (lambda: NormScheme(cell=POOLED), ValueError, r'cell=.*future.*use "batch"'),
    "pooled sum": (
        lambda: NormScheme(sum=POOLED, bias_ih=None),
        ValueError,
        r'sum=.*the future.*"batch_pooled" can stand at input, frame and output.*"batch"',
    ),
    "normalised cell": (
        lambda: NormScheme(cell_state="normalised"),
        ValueError,
        r"needs a norm of the cell: set cell=Norm\(",
    ),
    "cell_state": (lambda: NormScheme(cell_state="row"), ValueError, r"'row'.*mean 'raw'"),
    "update": (lambda: NormScheme(update="writes"), ValueError, r"update .*mean 'write'"),
    "hidden_init": (lambda: NormScheme(hidden_init="eye"), ValueError, r"'identity', got 'eye'"),
    "bias_ih": (lambda: NormScheme(bias_ih="outsde"), ValueError, r"bias_ih .*mean 'outside'"),
    "bias_hh": (lambda: NormScheme(bias_hh="in"), ValueError, r"bias_hh must be one of .*'in'"),
    "bias_init": (lambda: NormScheme(bias_init="zero"), ValueError, r"bias_init .*got 'zero'"),
    "bias_init None": (lambda: NormScheme(bias_init=None), TypeError, r"bias_init .*None"),
    "input text": (lambda: NormScheme(input="layer"), TypeError, r"input .*Norm.*str"),
    "hidden text": (lambda: NormScheme(hidden="layer"), TypeError, r"hidden .*Norm.*str"),
    "cell class": (lambda: NormScheme(cell=Norm), TypeError, r"cell .*Norm.*type"),
    "gate_bias gate": (
        lambda: LSTM(2, 3, norm=NormScheme(gate_bias=(("z", 1.0),))),
        ValueError,
        r"gate_bias names gate 'z'; an? LSTM has 'ifgo'",
    ),
    "gate_bias shape": (lambda: NormScheme(gate_bias=(("f",),)), ValueError, r"gate_bias"),
    "gate_bias text": (lambda: NormScheme(gate_bias=(("f", "1"),)), TypeError, r"gate_bias"),
    "gate_bias nowhere": (
        lambda: LSTM(2, 3, norm=NormScheme(bias_ih=None, gate_bias=(("f", 1.0),))),
        ValueError,
        r"gate_bias.*'f'.*no bias",
    ),
    "update of an LSTM": (
        lambda: LSTM(2, 3, norm=NormScheme(input=LAYER, update="write")),
        ValueError,
        r"a LSTM has no update gate z: leave update='keep'",
    ),
    # replace, presets
    "replace": (lambda: preset("haste", epz=1e-3), TypeError, r"no field 'epz'.*mean 'eps'"),
    "replace scheme": (lambda: preset("haste", cell_stat="raw"), TypeError, r"mean 'cell_state'"),
    "replace value": (lambda: preset("haste", eps=0.0), ValueError, r"eps must be > 0, got 0\.0"),
    "preset": (lambda: preset("hast"), ValueError, r"'hast'.*mean 'haste'.*known are layer, rms"),
    "preset instance": (lambda: preset("instance"), ValueError, r"always 0"),
    "preset group": (lambda: GRU(2, 3, norm="group"), ValueError, r"would read the future"),
    "preset of LSTM": (
        lambda: preset("nemo", "GRU"),
        ValueError,
        r"'nemo' is published for LSTM, not for GRU; for GRU there are layer, rms,.* dreamer",
    ),
    "preset of GRU": (lambda: LSTM(2, 3, norm="dreamer"), ValueError, r"for GRU, not for LSTM"),
    "preset cell": (lambda: preset("layer", "SLTM"), ValueError, r"'GRU'.*'SLTM'.*mean 'SLSTM'"),
    "preset None": (lambda: preset(None), (TypeError, ValueError), r"norm.*None"),
    # norm= of a layer
    "norm name": (
        lambda: LSTM(2, 3, norm="layr"),
        ValueError,
        r"unknown norm 'layr'.*mean 'layer'",
    ),
    "norm number": (lambda: LSTM(2, 3, norm=1), TypeError, r"None, a name .* got 1"),
    "norm class": (lambda: GRU(2, 3, norm=Norm), TypeError, r"None, a name .* got <class"),
    "norm cell of GRU": (
        lambda: GRU(2, 3, norm=NormScheme(cell=LAYER)),
        ValueError,
        r"a GRU has no cell state to normalise: leave cell=None",
    ),
    "one unit cell": (
        lambda: LSTM(2, 1, norm="layer"),
        ValueError,
        r"one unit.*larger hidden_size",
    ),
    "one unit gate": (lambda: GRU(2, 1, norm="layer"), ValueError, r"one unit.*larger hidden_size"),
    "one unit LSTMCell": (
        lambda: seqnorm.LSTMCell(2, 1, norm="layer"),
        ValueError,
        r"one unit.*larger hidden_size",
    ),
    # sizes and probabilities
    "input_size": (lambda: LSTM(0, 3), ValueError, r"input_size must be greater than zero, got 0"),
    "hidden_size": (lambda: GRU(2, -1), ValueError, r"hidden_size must be .* zero, got -1"),
    "hidden_size bool": (lambda: GRU(2, True), TypeError, r"hidden_size .*int, got: bool"),
    "num_layers": (lambda: LSTM(2, 3, 1.0), TypeError, r"num_layers .*int, got: float"),
    "proj_size": (lambda: LSTM(2, 3, proj_size=1.0), TypeError, r"proj_size .*int, got: float"),
    "proj_size large": (lambda: LSTM(2, 3, proj_size=3), ValueError, r"smaller than hidden_size"),
    "bias of a layer": (lambda: LSTM(2, 3, bias=0), TypeError, r"bias .*bool, got: int"),
    "batch_first": (lambda: GRU(2, 3, batch_first=1), TypeError, r"batch_first .*bool, got: int"),
    "bidirectional": (
        lambda: GRU(2, 3, bidirectional="no"),
        TypeError,
        r"bidirectional .*bool, got: str",
    ),
    "dropout": (lambda: LSTM(2, 3, 2, dropout=2), ValueError, r"dropout .*\[0, 1\].* got 2"),
    "zoneout": (lambda: LSTM(2, 3, zoneout=-0.1), ValueError, r"zoneout .*\[0, 1\].* got -0\.1"),
    "zoneout second": (lambda: LSTM(2, 3, zoneout=(0.1, 2)), ValueError, r"zoneout .* got 2"),
    "zoneout triple": (
        lambda: LSTM(2, 3, zoneout=(0.1, 0.1, 0.1)),
        ValueError,
        r"one probability or a tuple for \(h, c\), got \(0\.1, 0\.1, 0\.1\)",
    ),
    "zoneout pair of a GRU": (
        lambda: GRU(2, 3, zoneout=(0.1, 0.1)),
        ValueError,
        r"zoneout is one probability, .* not \(0\.1, 0\.1\): a pair is for an LSTM's",
    ),
    "zoneout nan": (lambda: GRU(2, 3, zoneout=float("nan")), ValueError, r"zoneout .* got nan"),
    "recurrent_dropout": (
        lambda: GRU(2, 3, recurrent_dropout="0.1"),
        ValueError,
        r"recurrent_dropout .*\[0, 1\].* got '0\.1'",
    ),
    # lengths
    "lengths float": (
        lambda: LSTM(I, 3)(X, lengths=[4.0, 3.0, 1.0]),
        TypeError,
        r"lengths must be integers, got torch\.float32",
    ),
    "lengths bool": (
        lambda: LSTM(I, 3)(X, lengths=torch.ones(3, dtype=torch.bool)),
        TypeError,
        r"lengths must be integers, got torch\.bool",
    ),
    "lengths text": (
        lambda: LSTM(I, 3)(X, lengths=["4", "3", "1"]),
        TypeError,
        r"lengths .*integers",
    ),
    "lengths None": (lambda: LSTM(I, 3)(X, lengths=[4, None, 1]), TypeError, r"lengths .*integers"),
    "lengths few": (
        lambda: GRU(I, 3)(X, lengths=[4, 3]),
        ValueError,
        r"shape \(3,\), one for each sequence of the batch, got \(2,\)",
    ),
    "lengths scalar": (lambda: GRU(I, 3)(X, lengths=4), ValueError, r"shape \(3,\).* got \(\)"),
    "lengths 2-D": (lambda: GRU(I, 3)(X, lengths=[[4, 3, 1]]), ValueError, r"got \(1, 3\)"),
    "lengths long": (
        lambda: LSTM(I, 3)(X, lengths=[4, 5, 1]),
        ValueError,
        r"lengths\[1\] is 5, but the padded input has 4 steps: every length must lie in 0\.\.4",
    ),
    "lengths negative": (lambda: LSTM(I, 3)(X, lengths=[4, 1, -1]), ValueError, r"\[2\] is -1"),
    "lengths unbatched": (
        lambda: LSTM(I, 3)(X[:, 0], lengths=[4]),
        ValueError,
        r"lengths belong to a batch: leave lengths=None",
    ),
    "lengths packed": (
        lambda: LSTM(I, 3)(pack_padded_sequence(X, [4, 3, 1]), lengths=[4, 3, 1]),
        ValueError,
        r"PackedSequence knows its lengths: leave lengths=None",
    ),
    # states
    "hx one of two": (lambda: LSTM(I, 3)(X, (X,)), ValueError, r"hx must hold 2 states, got 1"),
    "hx dims": (
        lambda: GRU(I, 3)(X, torch.zeros(1, 3)),
        RuntimeError,
        r"batched 3-D input, hx should also be 3-D but got",
    ),
    "hx shape": (
        lambda: LSTM(I, 3)(X, (torch.zeros(1, 3, 3), torch.zeros(1, 3, 4))),
        RuntimeError,
        r"Expected hidden\[1\] size \(1, 3, 3\), got \[1, 3, 4\]",
    ),
    "hx dtype": (
        lambda: LSTM(I, 3, norm="layer")(X, (torch.zeros(1, 3, 3), torch.zeros(1, 3, 3).double())),
        (RuntimeError, ValueError),
        r"hx|hidden|dtype|datatype",
    ),
    # a running table
    "beyond the table": (
        lambda: LSTM(I, 3, norm=preset("batch", "LSTM", max_steps=3, beyond="error"))(X),
        IndexError,
        r"step 3 .*table of 3 steps.* larger max_steps.* beyond=\"last\"",
    ),
    "untrained table": (
        lambda: LSTM(I, 3, norm=preset("batch", "LSTM", beyond="error")).eval()(X),
        IndexError,
        r"step 0 has no statistics of its own .*0 of them seen",
    ),
    "backend": (lambda: seqnorm.use_backend("atn").__enter__(), ValueError, r"'atn'.*mean 'aten'"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_refusal(case: str) -> None:
    build, error, says = REFUSALS[case]
    with pytest.raises(error) as caught:
        build()
    assert re.search(says, str(caught.value)), f"{says!r} is not said by: {caught.value}"


# The norms of a DreamerGRUCell are fixed.
@pytest.mark.parametrize("cls", sorted({*seqnorm.nn.layers.cells.__all__} - {"DreamerGRUCell"}))
@pytest.mark.parametrize("name", ["instance", "group", "layr", "none", ""])
def test_every_module_refuses_a_wrong_name(cls: str, name: str) -> None:
    with pytest.raises(ValueError, match="norm"):
        getattr(seqnorm, cls)(2, 4, norm=name)


def test_what_yaml_gives_is_taken() -> None:
    norm = Norm("layer", sets=["rz", "n"])
    assert norm == Norm("layer", sets=("rz", "n"))
    scheme = NormScheme(input=norm, bias_ih="outside", gate_bias={"z": -1.0})
    assert scheme == NormScheme(input=norm, gate_bias=(("z", -1.0),))
    assert isinstance(hash(scheme), int)
    layer = GRU(2, 3, norm=scheme)
    assert layer.bias_ih_l0.tolist() == [0.0] * 3 + [-1.0] * 3 + [0.0] * 3


def test_gate_bias_as_lists() -> None:
    scheme = NormScheme(gate_bias=[["f", 1.0]])
    assert scheme == NormScheme(gate_bias=(("f", 1.0),))
    assert isinstance(hash(scheme), int)


def test_sets_of_one_unit_are_fine_where_they_mean_something() -> None:
    for norm in ("rms", "batch", preset("layer", "GRU", sets="joint"), "haste"):
        output, _ = GRU(2, 1, norm=norm)(torch.randn(T, B, 2))
        assert bool(output.isfinite().all())
    joint = NormScheme(input=LAYER, hidden=LAYER)
    output, _ = LSTM(2, 1, norm=joint)(torch.randn(T, B, 2))
    assert float(output.detach().std()) > 0


def test_sets_of_a_preset_leave_the_cell_state_whole() -> None:
    layer = LSTM(2, 3, norm=preset("layer", "LSTM", sets="separate", eps=1e-3))
    assert {norm.eps for norm in layer.norm.norms.values()} == {1e-3}
    assert layer.norm_ih_l0.sizes == (3, 3, 3, 3)
    assert layer.norm_cell_l0.sizes == (3,)


def test_fields_of_tables_go_to_the_norms_that_have_them() -> None:
    mixed = NormScheme(input=Norm("batch", max_steps=9), cell=LAYER)
    changed = mixed.replace(max_steps=5, eps=1e-3)
    assert (changed.input.max_steps, changed.input.eps, changed.cell.eps) == (5, 1e-3, 1e-3)
    assert mixed.replace(input=Norm("rms"), eps=1e-3).input == Norm("rms", eps=1e-3)
