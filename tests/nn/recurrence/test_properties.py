"""Properties of every layer for any cell, norm, options, dtype and lengths."""

from __future__ import annotations

import copy
import inspect
import math
import warnings
from dataclasses import dataclass
from typing import Any

import hidden_states
import pytest
import torch
from hidden_states import as_hx, parts_of
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle_cells import GATES
from oracles import pieces
from tolerances import VALUES, assert_close, assert_equal
from torch import Tensor, nn

import seqnorm
from seqnorm import Norm, NormScheme
from seqnorm.nn.layers.cells import LAYERS

F64 = torch.float64
OUTSIDE = NormScheme(frame=Norm("rms"), output=Norm("batch"))
NORMS: dict[str, list[str | NormScheme | None]] = {
    cell: [None, OUTSIDE, *(n for n, c in seqnorm.PRESETS.items() if cell in c)] for cell in LAYERS
}
# Examples depend only on the name of the test: they are the same everywhere and always.
FIXED = settings(max_examples=200, deadline=None, derandomize=True, database=None)


@dataclass
class Case:
    """The arguments of a layer's constructor and of its call."""

    kind: str
    hidden_size: int
    options: dict[str, Any]
    dtype: torch.dtype
    steps: int
    lengths: list[int] | None
    batch: int
    given: bool
    training: bool

    def build(self) -> nn.Module:
        torch.manual_seed(0)
        layer = LAYERS[self.kind](2, self.hidden_size, dtype=self.dtype, **self.options)
        return layer.train(self.training)

    def call(self, layer: nn.Module) -> tuple[Tensor, list[Tensor]]:
        """Return the time-major output and the final states."""
        input, hx = self.input(), self.hx()
        if self.options["batch_first"]:
            input = input.transpose(0, 1)
        torch.manual_seed(1)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "BatchNorm in training")
            warnings.filterwarnings("ignore", "LSTM with projections is not")  # a warning of torch
            output, final = layer(input, None if hx is None else as_hx(hx), self.lengths)
        output = output.transpose(0, 1) if self.options["batch_first"] else output
        return output, list(parts_of(final))

    def input(self) -> Tensor:
        generator = torch.Generator().manual_seed(2)
        return torch.randn(self.steps, self.batch, 2, generator=generator).to(self.dtype)

    @property
    def directions(self) -> int:
        return 2 if self.options["bidirectional"] else 1

    def state_shapes(self) -> list[tuple[int, ...]]:
        return [tuple(part.shape) for part in self.state(hidden_states.zeros)]

    def state(self, draw: Any) -> list[Tensor]:
        entries = self.options["num_layers"] * self.directions
        h, *others = draw(self.kind, entries, self.batch, self.hidden_size)
        return [h[..., : self.options.get("proj_size") or self.hidden_size], *others]

    def hx(self) -> list[Tensor] | None:
        if not self.given:
            return None
        torch.manual_seed(3)
        return [part.to(self.dtype) for part in self.state(hidden_states.draw)]

    @property
    def scheme(self) -> NormScheme | None:
        norm = self.options["norm"]
        return seqnorm.preset(norm, self.kind) if isinstance(norm, str) else norm

    def ends(self) -> list[int]:
        return [self.steps] * self.batch if self.lengths is None else self.lengths

    def refused(self) -> bool:
        """Return True if a LayerNorm set would have one element, the only refused case here."""
        gates, heads = GATES[self.kind], self.options.get("num_heads", 0)
        return any(
            min(pieces(norm, gates, self.span(site), self.hidden_size, heads)) == 1
            for site, norm in ({} if self.scheme is None else self.scheme.norms).items()
            if norm.kind == "layer"
        )

    def span(self, site: str) -> str:
        return "" if site in ("cell", "output") else GATES[self.kind]


@st.composite
def cases(draw: st.DrawFn, smallest: int = 2) -> Case:
    kind = draw(st.sampled_from(list(LAYERS)))
    hidden_size = draw(st.integers(smallest, 4))
    num_layers = draw(st.integers(1, 3))
    steps = draw(st.integers(0, 5))
    batch = draw(st.integers(0, 4))
    probability = st.sampled_from([0.0, 0.0, 0.3, 1.0])
    options: dict[str, Any] = {
        "num_layers": num_layers,
        "bias": draw(st.booleans()),
        "batch_first": draw(st.booleans()),
        "bidirectional": draw(st.booleans()),
        "dropout": draw(probability) if num_layers > 1 else 0.0,
        "norm": draw(st.sampled_from(NORMS[kind])),
        "zoneout": draw(probability),
        "recurrent_dropout": draw(probability),
    }
    if kind == "LSTM":
        options["proj_size"] = draw(st.integers(0, hidden_size - 1))
        options["zoneout"] = draw(st.one_of(probability, st.tuples(probability, probability)))
    if kind in ("RNN", "IndRNN", "LiGRU"):
        options["nonlinearity"] = draw(st.sampled_from(["tanh", "relu"]))
    if kind == "SLSTM":
        heads = [k for k in (1, 2, 3, 4) if hidden_size % k == 0 and hidden_size // k >= smallest]
        options["num_heads"] = draw(st.sampled_from(heads))
    return Case(
        kind=kind,
        hidden_size=hidden_size,
        options=options,
        dtype=draw(st.sampled_from([F64, torch.float32, torch.bfloat16, torch.float16])),
        steps=steps,
        lengths=draw(st.none() | st.lists(st.integers(0, steps), min_size=batch, max_size=batch)),
        batch=batch,
        given=draw(st.booleans()),
        training=draw(st.booleans()),
    )


@FIXED
@given(cases(smallest=1))
def test_every_layer_works_or_is_refused_with_its_reason(case: Case) -> None:
    if case.refused():
        with pytest.raises(ValueError, match=r"set of one unit.* larger hidden_size"):
            case.build()
        return
    layer = case.build()
    output, final = case.call(layer)
    width = case.options.get("proj_size") or case.hidden_size
    assert output.shape == (case.steps, case.batch, case.directions * width)
    assert [tuple(part.shape) for part in final] == case.state_shapes()
    for part in (output, *final):
        assert part.dtype == case.dtype
        assert bool(part.isfinite().all())
    for name, buffer in layer.named_buffers():
        assert bool(buffer.isfinite().all()), name
        if name.endswith("running_var"):
            assert bool((buffer >= 0).all()), name
            assert buffer.dtype == (F64 if case.dtype == F64 else torch.float32)


@FIXED
@given(cases())
def test_gradients_are_finite(case: Case) -> None:
    if case.dtype == torch.float16:  # its largest number is 65504; a loss scale would help
        case.dtype = torch.float32
    layer = case.build()
    output, final = case.call(layer)
    total = output.sum() + sum(part.sum() for part in final)
    if not total.requires_grad:
        assert not output.numel() or not any(case.ends())
        return
    total.backward()
    for name, parameter in layer.named_parameters():
        assert parameter.grad is None or bool(parameter.grad.isfinite().all()), name
        assert parameter.grad is not None or not any(case.ends()) or case.batch == 0, name


@FIXED
@given(cases())
def test_output_is_zero_in_the_padding(case: Case) -> None:
    output, _ = case.call(case.build())
    for column, end in enumerate(case.ends()):
        assert not output[end:, column].any()


@FIXED
@given(cases())
def test_the_final_state_is_that_of_the_true_last_step(case: Case) -> None:
    if hidden_states.output_normed(case.scheme):  # the state does not have it: see test_site_norms
        case.options["norm"] = None
    output, (h, *c) = case.call(case.build())
    width = output.shape[-1] // case.directions
    hx = case.hx()
    for column, end in enumerate(case.ends()):
        if end > 0:
            forward = output[end - 1, column, :width]
            assert_equal(h[-case.directions, column], forward, "forward")
            if case.directions == 2:
                assert_equal(h[-1, column], output[0, column, width:], "backward ends at step 0")
        else:
            for number, part in enumerate((h, *c)):
                before = torch.zeros_like(part) if hx is None else hx[number]
                assert_equal(part[:, column], before[:, column], "no step, no change")


@FIXED
@given(cases())
def test_a_seed_repeats_everything(case: Case) -> None:
    layer = case.build()
    twin = copy.deepcopy(layer)
    first, second = case.call(layer), case.call(twin)
    for a, b in zip((first[0], *first[1]), (second[0], *second[1])):
        assert_equal(a, b)
    for (name, a), b in zip(layer.state_dict().items(), twin.state_dict().values()):
        assert_equal(a, b, name)
    layer.eval()
    before = copy.deepcopy(layer.state_dict())
    once, twice = case.call(layer), case.call(layer)
    for a, b in zip((once[0], *once[1]), (twice[0], *twice[1])):
        assert_equal(a, b, "inference has nothing to draw and nothing to learn")
    for name, value in layer.state_dict().items():
        assert_equal(value, before[name], name)


@FIXED
@given(cases())
def test_batch_first_and_order_are_only_layout(case: Case) -> None:
    case.options |= {"zoneout": 0.0, "recurrent_dropout": 0.0, "dropout": 0.0}
    case.dtype = F64
    output, final = case.call(case.build())
    case.options["batch_first"] = not case.options["batch_first"]
    other, other_final = case.call(case.build())
    for a, b in zip((output, *final), (other, *other_final)):
        assert_close(a, b, VALUES)


JUNK = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 3),
    st.floats(-1e6, 1e6),
    st.sampled_from([math.nan, math.inf, -math.inf, 1e-50]),
    st.text(max_size=8),
    st.lists(st.integers(0, 3), max_size=3),
    st.tuples(st.floats(0, 1), st.text(max_size=2)),
    st.sampled_from(["layer", "batch", "uniform", "outside", "normalised", "separate", "heads"]),
    st.just(Norm()),
    st.just(NormScheme()),
    st.just(Norm),
)
OPTIONS = {
    kind: [name for name in inspect.signature(cls).parameters if name not in ("device", "dtype")]
    for kind, cls in LAYERS.items()
}


@settings(FIXED, max_examples=500)
@given(st.data(), st.sampled_from(list(LAYERS)))
def test_a_bad_option_raises_at_construction(data: st.DataObject, kind: str) -> None:
    drawn = st.dictionaries(st.sampled_from(OPTIONS[kind]), JUNK, min_size=1, max_size=2)
    options = {"input_size": 2, "hidden_size": 4} | data.draw(drawn)
    works_or_explains(lambda: LAYERS[kind](**options))


@settings(FIXED, max_examples=400)
@given(
    st.dictionaries(st.sampled_from(list(vars(Norm()))), JUNK, min_size=1, max_size=2),
    st.sampled_from(["layer", "rms", "batch"]),
    st.sampled_from(["input", "frame", "output", "cell"]),
)
def test_a_bad_norm_raises_at_construction(fields: dict[str, Any], kind: str, site: str) -> None:
    works_or_explains(
        lambda: seqnorm.LSTM(2, 3, norm=NormScheme(**{site: Norm(**({"kind": kind} | fields))}))
    )


@settings(FIXED, max_examples=400)
@given(
    st.sampled_from(list(LAYERS)),
    st.dictionaries(st.sampled_from(list(vars(NormScheme()))), JUNK, min_size=1, max_size=2),
)
def test_a_bad_scheme_raises_at_construction(kind: str, fields: dict[str, Any]) -> None:
    works_or_explains(lambda: LAYERS[kind](2, 4, norm=NormScheme(**fields)))


def works_or_explains(build: Any) -> None:
    """Check that the layer has finite results, or that its error names the wrong argument."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "dropout stands between")
        warnings.filterwarnings("ignore", "BatchNorm in training")
        try:
            layer = build()
        except (ValueError, TypeError, RuntimeError) as error:
            assert len(str(error)) > 10  # noqa: PT017  any of the three is right
            return
        output, _ = layer(torch.randn(4, 3, layer.input_size))
        assert bool(output.isfinite().all())
