"""ONNX files of layers and cells, run by onnxruntime at lengths and batches never traced."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx_here
import pytest
import torch
from torch import nn

import seqnorm
from seqnorm import Norm, NormScheme

onnx_here.need()

import onnx  # noqa: E402  after the skip
import onnxruntime  # noqa: E402  after the skip
from onnx_runs import largest_difference, nodes, random_layer  # noqa: E402  after the skip

from seqnorm.export import to_onnx, to_program  # noqa: E402  after the skip

CLOSE = 1e-5
_BATCH = Norm("batch", gain=0.1)
# Norms at every site, of every kind, beside the presets.
SCHEMES = {
    "sites": NormScheme(frame=Norm("layer"), output=_BATCH, input=_BATCH, cell=Norm("layer")),
    "batch_sites": NormScheme(frame=_BATCH, output=_BATCH, hidden=_BATCH),
    "dynamic": NormScheme(input=Norm("dynamic_tanh"), hidden=Norm("dynamic_erf")),
    "part": NormScheme(input=Norm("rms", part=0.3, bias=None), hidden=Norm("layer", eps_on="std")),
    "sets": NormScheme(input=Norm("layer", sets=4), hidden=Norm("rms", sets="separate")),
}


# Every cell, norm, direction, form and argument occurs; `python tests/support/onnx_runs.py` runs
# all presets of all cells in all forms.
@pytest.mark.parametrize(
    ("cell", "norm", "options", "arguments"),
    [
        ("LSTM", None, {}, {"lengths": True}),
        ("LSTM", None, {"num_layers": 2, "bidirectional": True}, {"lengths": True}),
        ("LSTM", None, {"proj_size": 3}, {"resets": True}),
        ("LSTM", "layer", {"num_layers": 2, "bidirectional": True}, {"lengths": True}),
        ("LSTM", "layer", {"batch_first": True, "proj_size": 3}, {"lengths": True, "resets": True}),
        ("LSTM", "layer", {"zoneout": (0.1, 0.2)}, {"opset_version": 18}),
        ("LSTM", "layer", {"learn_initial_state": True}, {"states": False, "resets": True}),
        ("LSTM", "rms", {}, {}),
        ("LSTM", "rms", {}, {"opset_version": 18}),
        ("LSTM", "batch", {"num_layers": 2, "bidirectional": True}, {"lengths": True}),
        ("LSTM", "batch", {}, {"lengths": True, "resets": True}),
        ("LSTM", "batch", {"bidirectional": True}, {"lengths": True, "resets": True}),
        ("LSTM", "cooijmans2016_sequencewise", {}, {}),
        ("LSTM", "tf_contrib", {}, {}),
        ("LSTM", "kiros_torch", {}, {"step": True}),
        ("LSTM", "sites", {}, {"lengths": True, "resets": True}),
        ("LSTM", "batch_sites", {"batch_first": True}, {"lengths": True}),
        ("GRU", None, {"bidirectional": True}, {"lengths": True}),
        ("GRU", "layer", {"num_layers": 2}, {"lengths": True}),
        ("GRU", "layer", {"heads": 2}, {}),
        ("GRU", "dreamer", {}, {"step": True, "resets": True}),
        ("GRU", "batch", {"batch_first": True}, {"step": True, "resets": True}),
        ("GRU", "dynamic", {}, {}),
        ("GRU", "part", {}, {}),
        ("GRU", "sets", {}, {"step": True}),
        ("RNN", None, {"nonlinearity": "relu", "bias": False}, {}),
        ("RNN", "layer", {}, {"lengths": True}),
        ("LiGRU", "batch", {}, {"lengths": True}),
        ("IndRNN", "layer", {"bidirectional": True}, {"lengths": True}),
        ("SLSTM", "layer", {"num_heads": 2}, {"lengths": True}),
    ],
)
def test_equals_the_layer(
    cell: str, norm: str | None, options: Any, arguments: Any, tmp_path: Path
) -> None:
    layer = random_layer(cell, SCHEMES.get(str(norm), norm), **options)
    assert largest_difference(layer, tmp_path / "layer.onnx", **arguments) < CLOSE


@pytest.mark.parametrize("resets", [False, True])
@pytest.mark.parametrize(("cell", "norm"), [("LSTM", "layer"), ("GRU", "batch"), ("SLSTM", None)])
def test_equals_the_cell(cell: str, norm: str | None, resets: bool, tmp_path: Path) -> None:
    layer = random_layer(cell + "Cell", norm)
    assert largest_difference(layer, tmp_path / "cell.onnx", resets=resets) < CLOSE


class Tagger(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(20, 6)
        self.lstm = seqnorm.LSTM(6, 8, 2, batch_first=True, bidirectional=True, norm="layer")
        self.output = nn.Linear(16, 3)

    def forward(self, ids: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        return self.output(self.lstm(self.embedding(ids), lengths=lengths)[0])


@pytest.mark.filterwarnings(
    "ignore::FutureWarning", "ignore::DeprecationWarning"
)  # of torch's code
@pytest.mark.filterwarnings("ignore:# The axis name:UserWarning")  # axes of one size share a name
def test_the_exporter_of_torch_takes_any_model(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, path = Tagger().eval(), tmp_path / "tagger.onnx"
    sizes = {name: torch.export.Dim(name) for name in ("B", "T")}
    torch.onnx.export(
        model,
        (torch.ones(3, 5, dtype=torch.int64), torch.tensor([5, 4, 1])),
        path,
        input_names=["ids", "lengths"],
        dynamic_shapes=({0: sizes["B"], 1: sizes["T"]}, {0: sizes["B"]}),
        dynamo=True,
        verbose=False,
    )
    onnx.checker.check_model(path, full_check=True)
    session = onnxruntime.InferenceSession(path)
    ids, lengths = torch.randint(0, 20, (4, 11)), torch.tensor([0, 11, 3, 7])
    (result,) = session.run(None, {"ids": ids.numpy(), "lengths": lengths.numpy()})
    with torch.no_grad():
        torch.testing.assert_close(torch.as_tensor(result), model(ids, lengths), atol=1e-5, rtol=0)


@pytest.mark.usefixtures("forgotten_steps")
def test_a_step_of_ones_own(tmp_path: Path) -> None:
    class LeakyStep(seqnorm.Step):
        gates = "al"

        def step(self, x: Any, h: Any, state: Any, norm: Any, scheme: Any) -> Any:
            a, leak = norm("sum", x + h).chunk(2, -1)
            return (state[0] + leak.sigmoid() * (a.tanh() - state[0]),)

    layer = random_layer("RecurrentLayer", "layer", LeakyStep())
    assert largest_difference(layer, tmp_path / "own.onnx", lengths=True) < CLOSE


# The presets of most operators, and one of each cell.
@pytest.mark.parametrize(
    ("cell", "norm", "most"),
    [
        ("LSTM", "layer", 20),
        ("LSTM", "batch", 25),
        ("LSTM", "cooijmans2016_sequencewise", 25),
        ("LSTM", "icefall", 24),
        ("LSTM", "kiros_torch", 25),
        ("GRU", "batch", 25),
        ("GRU", "rms", 25),
        ("RNN", "batch", 13),
        ("LiGRU", "batch", 19),
        ("IndRNN", "batch", 12),
        ("SLSTM", None, 39),
    ],
)
def test_few_operators_for_each_layer(
    cell: str, norm: str | None, most: int, tmp_path: Path
) -> None:
    path = to_onnx(random_layer(cell, norm), tmp_path / "layer.onnx")
    assert sum(nodes(onnx.load(path).graph).values()) == most


def test_no_more_operators_for_further_layers(tmp_path: Path) -> None:
    """Four operators, of the states, are shared by all layers."""
    layer = random_layer("LSTM", "batch", num_layers=3)
    path = to_onnx(layer, tmp_path / "layer.onnx")
    assert sum(nodes(onnx.load(path).graph).values()) == 3 * 25 + 4


def test_a_step_has_no_loop(tmp_path: Path) -> None:
    path = to_onnx(random_layer("LSTM", "batch", num_layers=2), tmp_path / "step.onnx", step=True)
    found = nodes(onnx.load(path).graph)
    assert found["LayerNormalization"] == 0
    assert not {"Scan", "Loop", "LSTM"} & set(found)


def test_onnx_own_layers_are_used(tmp_path: Path) -> None:
    path = to_onnx(random_layer("GRU", None, bidirectional=True), tmp_path / "gru.onnx")
    assert nodes(onnx.load(path).graph)["GRU"] == 2


def test_the_file_says_what_it_is(tmp_path: Path) -> None:
    model = onnx.load(to_onnx(random_layer("LSTM", "layer"), tmp_path / "lstm.onnx"))
    properties = {entry.key: entry.value for entry in model.metadata_props}
    assert (model.producer_name, properties["cell"]) == ("seqnorm", "LSTM")
    assert NormScheme.from_text(properties["norm"]) == seqnorm.preset("layer", "LSTM")
    names = [[one.name for one in side] for side in (model.graph.input, model.graph.output)]
    assert names == [["input", "h_0", "c_0"], ["output", "h_n", "c_n"]]


def test_a_state_of_a_wrong_shape_is_refused(tmp_path: Path) -> None:
    layer = random_layer("LSTM", "layer")
    session = onnxruntime.InferenceSession(to_onnx(layer, tmp_path / "lstm.onnx"))
    onnxruntime.set_default_logger_severity(4)  # it prints errors that it raises
    feeds = {
        "input": torch.zeros(4, 3, 5),
        "h_0": torch.zeros(1, 3, 7),
        "c_0": torch.zeros(1, 3, 8),
    }
    try:
        with pytest.raises(Exception, match=r"invalid dimensions|Got: 7 Expected: 8"):
            session.run(None, {name: value.numpy() for name, value in feeds.items()})
    finally:
        onnxruntime.set_default_logger_severity(2)


@pytest.mark.parametrize(
    ("build", "arguments", "message"),
    [
        (lambda: seqnorm.LSTM(5, 8, norm="batch"), {}, r"call \.eval\(\)"),
        (lambda: seqnorm.LSTM(5, 8, norm="layer", zoneout=0.1), {}, r"zoneout draws.*\.eval\(\)"),
        (lambda: seqnorm.GRU(5, 8, 2, dropout=0.1), {}, r"dropout draws.*\.eval\(\)"),
        (lambda: seqnorm.LSTM(5, 8, bidirectional=True), {"step": True}, "leave step=False"),
        (lambda: seqnorm.LSTM(5, 8), {"opset_version": 11}, "18 or newer, got 11"),
        (
            lambda: seqnorm.GRU(5, 8, norm=NormScheme(input=Norm("layer", window=3))),
            {},
            "window of several steps",
        ),
        (
            lambda: seqnorm.GRU(5, 8, norm=NormScheme(input=Norm("batch", beyond="error"))).eval(),
            {},
            'beyond="last"',
        ),
    ],
)
def test_refuses(build: Any, arguments: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        to_onnx(build(), tmp_path / "layer.onnx", **arguments)
    assert not list(tmp_path.iterdir())


def test_refuses_other_modules_and_folders(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"got Linear: torch\.onnx\.export"):
        to_onnx(nn.Linear(2, 3), tmp_path / "linear.onnx")
    with pytest.raises(FileNotFoundError, match="missing does not exist: create it"):
        to_onnx(seqnorm.RNN(5, 8), tmp_path / "missing" / "rnn.onnx")


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning")
def test_the_old_exporter_of_torch_is_refused(tmp_path: Path) -> None:
    arguments = torch.ones(3, 5, dtype=torch.int64), torch.tensor([5, 4, 1])
    with pytest.raises(RuntimeError, match=r"write torch\.onnx\.export.*dynamo=True"):
        torch.onnx.export(Tagger().eval(), arguments, tmp_path / "old.onnx", dynamo=False)


def test_a_length_beyond_the_input_counts_as_its_length(tmp_path: Path) -> None:
    layer = random_layer("GRU", None)
    path = to_onnx(layer, tmp_path / "gru.onnx", lengths=True, states=False)
    session = onnxruntime.InferenceSession(path)
    x = torch.randn(4, 2, 5).numpy()
    found = [
        session.run(None, {"input": x, "lengths": torch.tensor(lengths).numpy()})[0]
        for lengths in ([9, 2], [4, 2])
    ]
    assert (found[0] == found[1]).all()


def test_tables_of_different_sizes(tmp_path: Path) -> None:
    norms = NormScheme(hidden=Norm("batch", max_steps=4), cell=Norm("batch", max_steps=6))
    layer = random_layer("LSTM", norms)
    assert largest_difference(layer, tmp_path / "lstm.onnx", lengths=True) < CLOSE


def test_a_quantised_layer(tmp_path: Path) -> None:
    layer = seqnorm.quantize_(random_layer("LSTM", "layer"))
    to_onnx(layer, tmp_path / "lstm.onnx")
    with pytest.raises(RuntimeError, match=r"weights of int8.*call model\.eval\(\)"):
        to_onnx(layer.train(), tmp_path / "lstm.onnx")


@pytest.mark.parametrize(
    ("module", "hx", "options", "error", "message"),
    [
        ("LSTMCell", torch.ones(2, 8), {}, TypeError, r"tuple \(h, c\)"),
        ("GRUCell", torch.ones(1, 8), {}, RuntimeError, "batch size"),
        ("GRU", None, {"lengths": [3]}, ValueError, "lengths belong to a batch"),
        ("GRU", None, {"first_step": -3}, ValueError, "at least 0, got -3"),
        ("GRU", None, {"first_step": torch.tensor(0.5)}, TypeError, "must be an integer"),
    ],
)
def test_arguments_are_checked_in_graphs(
    module: str, hx: Any, options: dict[str, Any], error: Any, message: str
) -> None:
    with pytest.raises(error, match=message):
        to_program(random_layer(module, None), (torch.ones(3, 5), hx), options)


def test_a_cell_refuses_another_dtype_in_graphs() -> None:
    with pytest.raises(ValueError, match=r"dtype torch\.float64, the weights torch\.float32"):
        to_program(random_layer("GRUCell", None), (torch.ones(3, 5).double(),))
