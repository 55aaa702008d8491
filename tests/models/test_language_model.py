"""The language model against plain loops; states carried; padding; drawing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import oracles
import pytest
import torch
from hidden_states import zeros
from language_models import E, H, V, model_of
from tolerances import GRADIENTS, VALUES, assert_close, assert_equal
from torch import Tensor
from torch.nn import functional as F

from seqnorm.models import LanguageModel
from seqnorm.models.recurrent import CELLS

NORMS = [None, "layer", "rms", "batch", "batch_pooled"]
LENGTHS = [6, 2, 0, 4]
DROPOUT = {
    "word_dropout": 0.3,
    "embedding_dropout": 0.4,
    "layer_dropout": 0.3,
    "output_dropout": 0.4,
    "weight_drop": 0.3,
}


def texts(lengths: Sequence[int] = LENGTHS) -> tuple[Tensor, Tensor, Tensor]:
    """Return tokens and targets (B, T), without padding among the valid ones, and lengths."""
    text = torch.randint(1, V, (len(lengths), max(lengths) + 1))
    return text[:, :-1], text[:, 1:], torch.tensor(lengths)


def oracle(
    model: LanguageModel,
    parameters: dict[str, Tensor],
    tokens: Tensor,
    targets: Tensor,
    lengths: Sequence[int],
    masks: dict[str, Tensor],
) -> tuple[list[Tensor], dict[str, Tensor]]:
    """Return -log p of every target, one token at a time, and the tables afterwards."""
    embedding = parameters["embedding.weight"]
    sequences = [
        [
            embedding[tokens[b, t]] * masks["word"][tokens[b, t]] * masks["embedding"][b, 0]
            for t in range(length)
        ]
        for b, length in enumerate(lengths)
    ]
    after: dict[str, Tensor] = {}
    for number, layer in enumerate(model.layers):
        if number > 0:
            sequences = [[x * masks["layer"][b, 0] for x in s] for b, s in enumerate(sequences)]
        prefix = f"layers.{number}."
        own = {k[len(prefix) :]: v for k, v in parameters.items() if k.startswith(prefix)}
        own["weight_hh_l0"] = own["weight_hh_l0"] * masks[f"weight{number}"]
        kind = type(layer).__name__
        found = oracles.layers(
            kind,
            layer.norm,
            own,
            sequences,
            zeros(kind, 1, len(lengths), layer.hidden_size),
            hidden=layer.hidden_size,
            training=model.training,
            zoneout=layer.zoneout,
            nonlinearity=getattr(layer, "nonlinearity", ""),
            heads=getattr(layer, "num_heads", 1),
        )
        sequences = found.outputs
        for name, table in found.tables.items():
            after[f"{prefix}{name}running_mean"] = torch.stack(table.mean)
            after[f"{prefix}{name}running_var"] = torch.stack(table.var)
    nats = []
    for b, rows in enumerate(sequences):
        for t, row in enumerate(rows):
            row = row * masks["output"][b, 0]
            scores = [
                sum(row * parameters["decoder.weight"][v]) + parameters["decoder.bias"][v]
                for v in range(1, V)  # padding, token 0, is never a target
            ]
            total = torch.stack([score.exp() for score in scores]).sum()
            nats.append(total.log() - scores[targets[b, t] - 1])
    return nats, after


def draw_masks(model: LanguageModel, B: int) -> dict[str, Tensor]:
    """Return the dropout masks of a call with this seed; all ones in inference."""
    p = DROPOUT if model.training else dict.fromkeys(DROPOUT, 0.0)

    def drawn(name: str, *shape: int) -> Tensor:
        return F.dropout(torch.ones(*shape).double(), p[name]) if p[name] else torch.ones(*shape)

    sizes = [layer.hidden_size for layer in model.layers]
    shapes = [tuple(layer.weight_hh_l0.shape) for layer in model.layers]
    features = model.embedding.embedding_dim
    masks = {"word": drawn("word_dropout", V, 1)}
    masks["embedding"] = drawn("embedding_dropout", B, 1, features)
    masks["weight0"] = drawn("weight_drop", *shapes[0])
    masks["layer"] = drawn("layer_dropout", B, 1, sizes[0])
    masks["weight1"] = drawn("weight_drop", *shapes[1])
    masks["output"] = drawn("output_dropout", B, 1, sizes[1])
    return masks


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize(
    ("cell", "norm"),
    [(cell, norm) for cell in CELLS for norm in (NORMS if cell == "lstm" else ["layer", "batch"])],
)
def test_against_plain_loops(cell: str, norm: str | None, tied: bool, training: bool) -> None:
    options = DROPOUT if training else {**DROPOUT, "zoneout": 0.2}
    model = model_of(cell=cell, norm=norm, tied=tied, **options).train(training)
    tokens, targets, lengths = texts()
    torch.manual_seed(5)
    masks = draw_masks(model, len(LENGTHS))
    parameters = {k: v.detach().clone() for k, v in model.state_dict().items()}
    names = [name for name, _ in model.named_parameters()]
    for name in names:
        parameters[name].requires_grad_()
    if tied:
        assert "decoder.weight" not in names
        parameters["decoder.weight"] = parameters["embedding.weight"]
    right, tables = oracle(model, parameters, tokens, targets, LENGTHS, masks)
    torch.manual_seed(5)
    nats, _ = model.surprisal(tokens, targets, lengths)
    assert_close(nats.detach(), torch.stack(right).detach(), VALUES, "nats")
    weights = torch.randn(len(nats)).double()
    leaves = [parameters[name] for name in names]
    expected = torch.autograd.grad(
        sum(w * n for w, n in zip(weights, right)), leaves, materialize_grads=True
    )
    (weights * nats).sum().backward()
    for name, gradient in zip(names, expected):
        found = model.get_parameter(name).grad
        # The embedding of padding has no gradient as an input, nor as an output, whose probability
        # is 0.
        assert_close(
            torch.zeros_like(gradient) if found is None else found, gradient, GRADIENTS, name
        )
    for name, table in tables.items():
        assert_close(model.state_dict()[name], table, VALUES, name)


@pytest.mark.parametrize("norm", NORMS)
def test_what_stands_in_the_padding_changes_nothing(norm: str | None) -> None:
    model = model_of(norm=norm).train()
    tokens, targets, lengths = texts()
    padding = torch.arange(tokens.shape[1]) >= lengths[:, None]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    results = []
    for poison in (0, 3, -1, 10**9):  # the last two are not tokens
        model.load_state_dict(before)
        model.zero_grad()
        poisoned = [part.masked_fill(padding, poison) for part in (tokens, targets)]
        nats, _ = model.surprisal(*poisoned, lengths)
        assert len(nats) == sum(LENGTHS)
        nats.mean().backward()
        results.append([nats.detach(), *(p.grad for p in model.parameters())])
        results[-1] += list(model.state_dict().values())
    for other in results[1:]:
        for one, same in zip(other, results[0]):
            assert_equal(one, same)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("training", [True, False])
def test_windows_with_carried_states_are_one_long_sequence(cell: str, training: bool) -> None:
    """Values are equal, and all gradients, because the model cuts no gradient."""
    model = model_of(cell=cell, norm="layer").train(training)
    tokens, targets, _ = texts([10, 10, 10])
    whole, last = model.surprisal(tokens, targets, torch.tensor([10] * 3))
    states, pieces = None, []
    for start in (0, 4, 8):
        part = slice(start, min(start + 4, 10))
        n = part.stop - part.start
        nats, states = model.surprisal(
            tokens[:, part], targets[:, part], torch.tensor([n] * 3), states
        )
        pieces.append(nats.view(3, n))
    assert_close(torch.cat(pieces, 1).flatten(), whole, VALUES)
    assert states is not None
    for one, other in zip(states, last):
        for part_one, part_other in zip(one, other):
            assert_close(part_one, part_other, VALUES)
    parameters = list(model.parameters())
    expected = torch.autograd.grad(whole.sum(), parameters)
    found = torch.autograd.grad(torch.cat(pieces, 1).sum(), parameters)
    for one, other in zip(found, expected):
        assert_close(one, other, GRADIENTS)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("training", [True, False])
def test_pieces_of_documents_that_say_where_they_start(norm: str | None, training: bool) -> None:
    model = model_of(norm=norm).train(training and norm != "batch_pooled")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    tokens, targets, _ = texts([10, 10, 10])
    whole, _ = model.surprisal(tokens, targets, torch.tensor([10] * 3))
    after = {name: value.clone() for name, value in model.state_dict().items()}
    model.load_state_dict(before)
    states, pieces = None, []
    for start in (0, 4, 8):
        n = min(4, 10 - start)
        part = slice(start, start + n)
        nats, states = model.surprisal(
            tokens[:, part], targets[:, part], torch.tensor([n] * 3), states, start
        )
        pieces.append(nats.view(3, n))
    assert_close(torch.cat(pieces, 1).flatten(), whole, VALUES)
    for name, value in model.state_dict().items():
        assert_close(value.double(), after[name].double(), VALUES, name)


@pytest.mark.parametrize("norm", [None, "layer", "batch"])
@pytest.mark.parametrize("recompute", [False, True])
def test_chunks_change_nothing(
    norm: str | None, recompute: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("seqnorm.models.language_model._ROWS", 3)
    model = model_of(norm=norm, embedding_dropout=0.3, output_dropout=0.3, weight_drop=0.3)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    chunked = model_of(
        norm=norm,
        embedding_dropout=0.3,
        output_dropout=0.3,
        weight_drop=0.3,
        chunk=2,
        recompute=recompute,
    )
    tokens, targets, lengths = texts()
    found = []
    for one in (model, chunked):
        one.load_state_dict(before)
        torch.manual_seed(3)
        nats, _ = one.train().surprisal(tokens, targets, lengths)
        (nats * torch.arange(len(nats))).sum().backward()
        found.append([nats.detach(), *(p.grad for p in one.parameters()), *one.buffers()])
    for one, other in zip(*found):
        assert_close(one, other, GRADIENTS)


@pytest.mark.parametrize("norm", [None, "layer", "rms"])
def test_a_text_is_predicted_alike_in_any_company(norm: str | None) -> None:
    model = model_of(norm=norm).eval()
    tokens, targets, lengths = texts()
    together, _ = model.surprisal(tokens, targets, lengths)
    alone = [
        model.surprisal(tokens[b : b + 1, :n], targets[b : b + 1, :n], lengths[b : b + 1])[0]
        for b, n in enumerate(LENGTHS)
        if n
    ]
    assert_close(torch.cat(alone), together, VALUES)


def test_the_logits_are_those_of_the_loss() -> None:
    model = model_of().eval()
    tokens, targets, lengths = texts()
    logits, _ = model(tokens, lengths)
    assert logits.shape == (4, 6, V)
    assert bool((logits[..., 0] == -math.inf).all())
    chances = logits.log_softmax(-1).gather(-1, targets[..., None])[..., 0]
    valid = torch.arange(6) < lengths[:, None]
    nats, _ = model.surprisal(tokens, targets, lengths)
    assert_close(-chances[valid], nats, VALUES)


def test_nothing_to_predict() -> None:
    model = model_of()
    tokens = torch.zeros(2, 1, dtype=torch.int64)
    nats, _ = model.surprisal(tokens, tokens, torch.tensor([0, 0]))
    assert nats.shape == (0,)
    nats.sum().backward()
    assert not any(p.grad.any() for p in model.parameters() if p.grad is not None)


def test_one_mask_for_all_steps_and_words() -> None:
    model = LanguageModel(V, embedding_size=64, hidden_size=8, norm=None, embedding_dropout=0.5)
    with torch.no_grad():
        model.embedding.weight.fill_(1.0)
    seen: list[Tensor] = []
    model.layers[0].register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    model(torch.randint(1, V, (3, 7)))
    assert set(seen[0].unique().tolist()) == {0.0, 2.0}
    assert torch.equal(seen[0], seen[0][:, :1].expand(3, 7, 64))
    assert not torch.equal(seen[0][0], seen[0][1])
    model = LanguageModel(V, embedding_size=4, hidden_size=8, norm=None, word_dropout=0.5)
    with torch.no_grad():
        model.embedding.weight.fill_(1.0)
    model.layers[0].register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    tokens = torch.randint(1, V, (3, 40))
    model(tokens)
    for token in tokens.unique():
        (kept,) = seen[1][tokens == token].unique().tolist()
        assert kept in (0.0, 2.0)


def test_sizes() -> None:
    tied = LanguageModel(V, embedding_size=E, hidden_size=H, num_layers=3)
    assert [layer.hidden_size for layer in tied.layers] == [H, H, E]
    assert tied.decoder.weight is tied.embedding.weight
    apart = LanguageModel(V, embedding_size=E, hidden_size=H, num_layers=3, tied=False)
    assert [layer.hidden_size for layer in apart.layers] == [H, H, H]
    assert apart.decoder.weight.shape == (V, H)
    assert not apart.embedding.weight[0].any()
    assert bool((apart.decoder.weight.abs() <= 0.1).all())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cell": "lstn"}, "did you mean 'lstm'"),
        ({"norm": "layr"}, "did you mean 'layer'"),
        ({"norm": None, "norm_options": {"eps": 1e-3}}, "without a norm"),
        ({"output_dropout": 1.5}, "output_dropout should be a number in range"),
        ({"weight_drop": -0.1}, "should be a number in range"),
        ({"layer_dropout": 0.1}, "num_layers=1: use output_dropout"),
        ({"chunk": 0}, "steps must be greater than zero"),
        ({"recompute": True}, "recompute needs chunks: give their number"),
    ],
)
def test_what_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LanguageModel(V, **options)
