"""The language model's loss, its carried states, and its counts."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tolerances import GRADIENTS, VALUES, assert_close, assert_equal
from torch import Tensor, nn

from seqnorm.datasets import LanguageBatch, LanguageTokenizer, StreamWindows, collate_documents
from seqnorm.training import LanguageModelling
from seqnorm.training.callbacks.finite import StopAtNonFinite
from seqnorm.training.tasks.metrics import Surprisal

TEXTS = ["corn and wheat", "", "a goal", "team and goal and corn", "c"]
TOKENIZER = LanguageTokenizer.learn(TEXTS)


def module(tokenizer: str = TOKENIZER.to_json(), **options: Any) -> LanguageModelling:
    sizes = {"embedding_size": 5, "hidden_size": 5}
    model = LanguageModelling(tokenizer, **{**sizes, **options}).double()
    logged: dict[str, Any] = {}
    model.log = lambda name, value, **_: logged.update({name: value})  # type: ignore[method-assign]
    model.log_dict = lambda values, **_: logged.update(values)  # type: ignore[method-assign]
    model._trainer = SimpleNamespace(
        strategy=SimpleNamespace(reduce=lambda value, reduce_op: value),
        optimizers=[SimpleNamespace(param_groups=[{"lr": 0.5}])],
    )
    model.logged = logged
    return model


def windows(rows: int = 2, window: int = 6, reset_at: int | None = None) -> list[LanguageBatch]:
    stream, end = TOKENIZER.stream(TEXTS), TOKENIZER.eos_id
    data = StreamWindows(stream, rows, window, end, reset_at=reset_at)
    return [data[place] for place in range(len(data))]


def documents(size: int) -> list[LanguageBatch]:
    encoded = TOKENIZER.documents(TEXTS)
    items = [(ids, -1, place) for place, ids in enumerate(encoded)]
    return [collate_documents(items[at : at + size]) for at in range(0, len(items), size)]


def passed(model: LanguageModelling, batches: list[LanguageBatch]) -> dict[str, Tensor]:
    """Return the metric of a pass over the test part."""
    model.eval()
    model.on_test_epoch_start()
    with torch.no_grad():
        for batch in batches:
            model.test_step(batch)
    model.on_test_epoch_end()
    return model.metric("test").compute()


def test_a_gradient_ends_where_its_window_begins() -> None:
    model = module(norm="layer").train()
    states = None
    for batch in windows():
        model.zero_grad()
        loss = model.training_step(batch)
        loss.backward()
        found = [p.grad.clone() for p in model.parameters() if p.grad is not None]
        nats, states = model.network.surprisal(batch.tokens, batch.targets, batch.lengths, states)
        states = [tuple(part.detach() for part in parts) for parts in states]
        expected = torch.autograd.grad(nats.mean(), list(model.parameters()))
        assert_close(loss.detach(), nats.mean().detach(), VALUES)
        for one, other in zip(found, expected):
            assert_close(one, other, GRADIENTS)
    assert not batch.starts
    assert model.logged["lr"] == 0.5


def test_states_go_on_within_a_stage_and_end_at_its_beginning() -> None:
    model = module(norm=None).eval()
    first, second, *_ = windows()
    alone = model.surprisal(first, "train"), model.surprisal(second, "train")
    again = model.surprisal(first, "train")
    model.surprisal(first, "val")
    model.surprisal(documents(5)[0], "val")  # another number of rows
    assert_equal(again, alone[0])
    assert_equal(model.surprisal(second, "train"), alone[1])
    begun = model.surprisal(second._replace(starts=True), "train")
    assert float((begun - alone[1]).abs().max().detach()) > 1e-6


def test_every_token_of_a_step_weighs_alike_in_all_processes() -> None:
    model = module(norm=None)
    batch = windows()[0]
    alone = model.training_step(batch)
    # Another process has twice as many tokens: on average there are 1.5 times as many.
    model._trainer.strategy.reduce = lambda value, reduce_op: 1.5 * value
    assert_close(model.training_step(batch) * 1.5, alone, VALUES)
    empty = batch._replace(lengths=torch.zeros(2, dtype=torch.int64))
    model._trainer.strategy.reduce = lambda value, reduce_op: value
    assert model.training_step(empty).item() == 0.0


def test_what_a_pass_sums_up_does_not_depend_on_batches() -> None:
    model = module(norm="layer")
    whole = passed(model, documents(5))
    for size in (1, 2, 3):
        for name, value in passed(model, documents(size)).items():
            assert_close(value, whole[name], VALUES, name)
    # Compute the sums document by document.
    nats: list[float] = []
    for ids in TOKENIZER.documents(TEXTS):
        logits, _ = model(torch.tensor([ids[:-1]]))
        chances = logits[0].log_softmax(-1)
        nats += [-chances[place, token].item() for place, token in enumerate(ids[1:])]
    characters = len("\n".join(TEXTS) + "\n")
    assert int(whole["tokens"]) == int(whole["characters"]) == len(nats) == characters
    assert float(whole["loss"]) == pytest.approx(math.fsum(nats) / len(nats), rel=1e-12)
    assert float(whole["perplexity"]) == pytest.approx(math.exp(math.fsum(nats) / len(nats)))
    bits = math.fsum(nats) / math.log(2) / characters
    assert float(whole["bits_per_character"]) == pytest.approx(bits, rel=1e-12)
    assert float(model.logged["test_bits_per_character"]) == pytest.approx(bits, rel=1e-6)


def test_characters_of_words_are_those_of_the_lines() -> None:
    tokenizer = LanguageTokenizer.learn(TEXTS, level="word")
    model = module(tokenizer.to_json())
    lines = [*TEXTS, "", "", "corn", "unseen corn", "a unseen"]
    stream = tokenizer.stream(lines)
    whole = len("\n".join(lines) + "\n") - len("unseen") - len(" unseen")
    for rows, window in ((1, 1), (1, 5), (3, 4)):
        data = StreamWindows(stream, rows, window, tokenizer.eos_id)
        found = passed(model, [data[place] for place in range(len(data))])
        assert int(found["characters"]) == whole
    items = [(ids, -1, place) for place, ids in enumerate(tokenizer.documents(lines))]
    assert int(passed(model, [collate_documents(items)])["characters"]) == whole


@pytest.mark.parametrize("norm", [None, "layer", "batch", "batch_pooled"])
@pytest.mark.parametrize("window", [1, 4, 7, 1000])
def test_a_stream_that_begins_anew_is_its_documents(norm: str | None, window: int) -> None:
    model = module(norm=norm)
    if norm is not None:
        model.train().training_step(documents(5)[0])  # statistics of every step
    whole = passed(model, documents(2))
    cut = passed(model, windows(1, window, TOKENIZER.eos_id))
    assert whole.keys() == cut.keys()
    for name, value in cut.items():
        assert_close(value, whole[name], VALUES, name)
    if norm is not None:
        joined = passed(model, windows(1, window))
        assert float((joined["loss"] - whole["loss"]).abs()) > 1e-6


def test_numbers_of_steps_survive_an_interruption() -> None:
    model, other = module(norm="batch").train(), module(norm="batch").train()
    other.load_state_dict(model.state_dict())
    first, second, *_ = windows(2, 6, TOKENIZER.eos_id)
    model.surprisal(first, "train")
    other.surprisal(first, "train")
    other.load_state_inside_epoch(model.state_inside_epoch())
    right = model.surprisal(second, "train")
    model.rewind()
    assert_equal(other.surprisal(second, "train"), right)
    for one, two in zip(model.state_dict().values(), other.state_dict().values()):
        assert_equal(one, two)


@pytest.mark.parametrize("norm", [None, "layer", "batch_pooled"])
def test_a_stream_in_one_row_is_one_text_however_it_is_cut(norm: str | None) -> None:
    model = module(norm=norm)
    whole = passed(model, windows(1, 1000))
    for window in (1, 7):
        for name, value in passed(model, windows(1, window)).items():
            assert_close(value, whole[name], VALUES, name)


@pytest.mark.parametrize("norm", ["layer", "batch"])
def test_padding_is_not_counted(norm: str) -> None:
    model = module(norm=norm)
    clean = passed(model, documents(5))
    for poison in (0, 3, -1, 10**9):
        poisoned = []
        for batch in documents(5):
            padding = torch.arange(batch.tokens.shape[1]) >= batch.lengths[:, None]
            tokens, targets = (part.masked_fill(padding, poison) for part in batch[:2])
            poisoned.append(batch._replace(tokens=tokens, targets=targets))
        for name, value in passed(model, poisoned).items():
            assert_equal(value, clean[name], name)


def test_sums_add_up() -> None:
    together, parts = Surprisal(), [Surprisal(), Surprisal()]
    nats, characters = torch.rand(7).float() * 1e4, torch.arange(7)
    together.update(nats, characters)
    parts[0].update(nats[:5], characters[:5])
    parts[1].update(nats[5:], characters[5:])
    parts[1].update(nats[:0], characters[:0])
    total = sum(float(part.nats) for part in parts)
    assert together.nats.dtype == torch.float64
    assert float(together.nats) == pytest.approx(total, rel=1e-14)
    assert float(together.nats) == pytest.approx(math.fsum(nats.tolist()), rel=1e-14)
    values = together.compute()
    assert int(values["tokens"]) == 7
    assert int(values["characters"]) == 21


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_sums_in_half_precision(dtype: torch.dtype) -> None:
    whole, cast = Surprisal(), Surprisal().to(dtype)
    for _ in range(2):
        for _ in range(1000):
            nats = torch.rand(50) * 10
            for metric in (whole, cast):
                metric.update(nats, torch.ones(50, dtype=torch.int64))
        for name, value in cast.compute().items():
            assert_equal(value, whole.compute()[name], name)
        whole.reset()
        cast.reset()


def test_what_decays() -> None:
    model = module(num_layers=2, weight_decay=0.1, tied=False)
    model._trainer = SimpleNamespace(estimated_stepping_batches=1)
    decayed, kept = model.configure_optimizers()["optimizer"].param_groups
    names = {id(p): name for name, p in model.network.named_parameters()}
    assert {names[id(p)] for p in decayed["params"]} == {
        f"layers.{layer}.weight_{place}_l0" for layer in (0, 1) for place in ("ih", "hh")
    }
    assert (decayed["weight_decay"], kept["weight_decay"]) == (0.1, 0.0)
    assert len(decayed["params"]) + len(kept["params"]) == len(names)


def test_bad_warmup() -> None:
    with pytest.raises(ValueError, match="warmup is a part of the training steps"):
        module(warmup=1.0)


@pytest.mark.parametrize("where", ["loss", "gradient"])
def test_where_a_window_is_not_finite(where: str) -> None:
    """A batch that continues is run again from the states at its beginning."""
    model = module(norm="layer").train()
    stop = StopAtNonFinite()
    trainer: Any = SimpleNamespace(
        world_size=1, global_step=1, current_epoch=0, precision_plugin=None
    )
    first, second = windows()[:2]
    assert not second.starts
    model.training_step(first)

    def poison(layer: nn.Module, inputs: Any, found: Any) -> Any:
        output, states = found
        if where == "loss":
            return output * math.nan, tuple(state * math.nan for state in states)
        output = output * 1.0
        output.register_hook(lambda grad: grad * math.inf)
        return output, states

    model.network.layers[0].register_forward_hook(poison)
    stop.on_train_batch_start(trainer, model, second, 1)
    loss = model.training_step(second)
    named = r"network\.layers\.0 \(LSTM\)"
    if where == "loss":
        with pytest.raises(FloatingPointError, match=f"first in {named}, from an input that was;"):
            stop.on_before_backward(trainer, model, loss)
    else:
        loss.backward()
        with pytest.raises(FloatingPointError, match=f"first .*{named}"):
            stop.on_before_optimizer_step(trainer, model, None)  # type: ignore[arg-type]
