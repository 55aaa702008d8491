"""The classifier: padding, empty documents, dropout of words, bad arguments."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

import seqnorm
from seqnorm.models import TextClassifier
from seqnorm.models.recurrent import CELLS

NORMS = [None, "layer", "rms", "batch", "batch_pooled"]
LENGTHS = torch.tensor([6, 0, 2, 4])


def classifier(**options: object) -> TextClassifier:
    sizes: dict[str, object] = {"embedding_size": 5, "hidden_size": 8}
    return TextClassifier(20, 3, **{**sizes, **options})  # type: ignore[arg-type]


def batch() -> torch.Tensor:
    return torch.randint(2, 20, (4, 6))


@pytest.mark.parametrize(
    ("cell", "norm"),
    [(cell, norm) for cell in CELLS for norm in (NORMS if cell == "lstm" else [None, "batch"])],
)
def test_padding_changes_nothing(cell: str, norm: str | None) -> None:
    model = classifier(cell=cell, norm=norm, num_layers=2, pooling="last+mean+max+attention")
    tokens = batch()
    padding = torch.arange(6) >= LENGTHS[:, None]
    model(tokens, LENGTHS)  # updates BatchNorm's statistics
    model.eval()
    logits = model(tokens.masked_fill(padding, 0), LENGTHS)
    for other in (1, 19, -1, 10**9):  # the last two are not tokens
        assert torch.equal(model(tokens.masked_fill(padding, other), LENGTHS), logits)
    with torch.no_grad():
        model.embedding.weight[0] = torch.nan
    assert torch.equal(model(tokens, LENGTHS), logits)
    for row, length in enumerate(LENGTHS.tolist()):
        alone = model(tokens[row : row + 1, :length], LENGTHS[row : row + 1])
        torch.testing.assert_close(alone[0], logits[row])


@pytest.mark.parametrize("norm", NORMS)
def test_empty_documents_are_classified_by_the_bias_alone(norm: str | None) -> None:
    model = classifier(norm=norm).train()
    logits = model(torch.zeros(3, 0, dtype=torch.int64), torch.zeros(3, dtype=torch.int64))
    assert torch.equal(logits, model.head.bias.expand(3, 3))
    logits.sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


def test_lengths_may_stand_on_another_device() -> None:
    logits = classifier().to("meta")(batch().to("meta"), LENGTHS)
    assert logits.shape == (4, 3)


@pytest.mark.parametrize("cell", CELLS)
def test_options_of_the_norm(cell: str) -> None:
    options = {"max_steps": 50, "eps": 1e-3, "gain": 0.2}
    norm = classifier(cell=cell, norm="batch", norm_options=options).recurrent.norm
    assert norm == seqnorm.preset("batch", CELLS[cell], **options)
    assert {(n.max_steps, n.eps, n.gain) for n in norm.norms.values()} == {(50, 1e-3, 0.2)}
    assert classifier(norm=None, norm_options={}).recurrent.norm is None


@pytest.mark.parametrize(
    ("cell", "norm"),
    [(cell, norm) for cell in CELLS for norm in (None, "layer", "batch", "batch_pooled")],
)
def test_every_cell_learns(cell: str, norm: str | None) -> None:
    """It memorises eight documents whose class depends on their first word."""
    model = classifier(cell=cell, norm=norm, word_dropout=0.0, embedding_dropout=0.0, dropout=0.0)
    tokens = torch.randint(2, 20, (8, 6))
    lengths = torch.tensor([6, 4, 5, 6, 3, 6, 2, 6])
    classes = torch.arange(8) % 3
    tokens[:, 0] = 2 + classes
    optimiser = torch.optim.Adam(model.parameters(), 0.03)
    losses = []
    for _ in range(25):
        loss = torch.nn.functional.cross_entropy(model(tokens, lengths), classes)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.3 * losses[0]
    gradient = model.recurrent.weight_hh_l0.grad
    assert bool(gradient.isfinite().all())
    assert bool(gradient.any())
    assert bool(model.eval()(tokens, lengths).isfinite().all())


@pytest.mark.parametrize("cell", CELLS)
def test_every_cell_is_built_by_its_name_in_lower_case(cell: str) -> None:
    assert type(classifier(cell=cell).recurrent) is getattr(seqnorm, CELLS[cell])
    assert cell in (TextClassifier.__doc__ or "")


def test_every_parameter_learns_and_padding_does_not() -> None:
    model = classifier(pooling="last+mean+max+attention", num_layers=2)
    model(batch(), LENGTHS).pow(2).sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name
    assert model.embedding.weight.grad is not None
    assert model.embedding.weight.grad[0].abs().sum() == 0


def test_word_dropout_replaces_whole_valid_tokens_in_training_only() -> None:
    model = classifier(word_dropout=1.0, embedding_dropout=0.0, dropout=0.0, norm="layer")
    tokens = batch()
    unknown = torch.ones_like(tokens)
    assert torch.equal(model(tokens, LENGTHS), model(unknown, LENGTHS))
    model.eval()
    assert not torch.allclose(model(tokens, LENGTHS), model(unknown, LENGTHS))
    half = classifier(word_dropout=0.5)
    seen: list[torch.Tensor] = []
    half.embedding.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    half(torch.full((50, 40), 7), torch.full((50,), 40))
    assert set(seen[0].unique().tolist()) == {1, 7}
    assert 0.4 < (seen[0] == 1).float().mean() < 0.6


def test_zoneout_of_both_parts_of_a_state() -> None:
    assert classifier(zoneout=(0.2, 0.1)).recurrent.zoneout == (0.2, 0.1)
    with pytest.raises(ValueError, match=r"a pair is for an LSTM's \(h, c\)"):
        classifier(cell="gru", zoneout=(0.2, 0.1))


@pytest.mark.parametrize(
    "option", ["embedding_dropout", "dropout", "layer_dropout", "recurrent_dropout", "zoneout"]
)
def test_every_dropout_acts_in_training_only(option: str) -> None:
    off = {"embedding_dropout": 0.0, "dropout": 0.0}
    model = classifier(**{"num_layers": 2, **off, option: 0.5})
    tokens = batch()
    lengths = torch.full((4,), 6)
    assert not torch.equal(model(tokens, lengths), model(tokens, lengths))
    model.eval()
    assert torch.equal(model(tokens, lengths), model(tokens, lengths))


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (
            {"cell": "elman"},
            "cell 'elman' is unknown: write one of lstm, gru, rnn, ligru, indrnn, slstm",
        ),
        ({"word_dropout": 1.5}, "word_dropout must be a probability from 0 to 1, got 1.5"),
        ({"norm": "lyer"}, "layer"),
        ({"pooling": "sum"}, "unknown part 'sum'"),
        ({"norm": None, "norm_options": {"eps": 1.0}}, "'eps': 1.0} without a norm: choose a norm"),
        ({"norm": "batch", "norm_options": {"beyond": "lst"}}, "last"),
    ],
)
def test_bad_arguments(option: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        classifier(**option)


def test_an_unknown_option_of_the_norm() -> None:
    with pytest.raises(TypeError, match=r"no field 'max_step'.*max_steps"):
        classifier(norm="batch", norm_options={"max_step": 5})


def test_needs_torch_alone() -> None:
    unwanted = "{'lightning', 'matplotlib', 'rich', 'tokenizers', 'torchmetrics'}"
    code = f"import sys, seqnorm.models; print(*({unwanted} & sys.modules.keys()))"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert loaded.stdout.strip() == ""
