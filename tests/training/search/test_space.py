"""Search spaces: their forms, what they refuse, and the shipped ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from seqnorm.files import space_names
from seqnorm.training.run.fit import plain_config
from seqnorm.training.run.task import TASKS
from seqnorm.training.run.yaml_texts import keep_texts
from seqnorm.training.search.space import DEFAULTS, Space, read_space
from seqnorm.training.search.sweep import OWN, sweep_parser

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def space(text: str | None, task: str = "classification", *arguments: str) -> Space:
    parser = sweep_parser(TASKS[task])
    keep_texts(parser)
    corpus = ("--data.corpus=a.csv",)
    config = plain_config(parser, parser.parse_args([*corpus, *arguments]))
    config = {name: value for name, value in config.items() if name not in OWN}
    return Space(read_space(text, task), parser, config)


def test_the_forms() -> None:
    found = space(
        "{model: {lr: {low: 1e-4, high: 3e-2, log: true}, norm: [layer, none]}, "
        "model.hidden_size: {low: 8, high: 64, step: 8}, model.dropout: {low: 0, high: 1}, "
        "model.norm_options.gain: [0.1, 1], model.length_edges: [[4, 6], [5]]}"
    )
    assert found.distributions == {
        "model.lr": FloatDistribution(1e-4, 3e-2, log=True),
        "model.norm": CategoricalDistribution(["layer", None]),
        "model.hidden_size": IntDistribution(8, 64, step=8),
        "model.dropout": FloatDistribution(0.0, 1.0),  # not the integers 0 and 1
        "model.norm_options.gain": CategoricalDistribution([0.1, 1]),
        "model.length_edges": CategoricalDistribution(["[4, 6]", "[5]"]),
    }
    params = {"model.norm": None, "model.norm_options.gain": 1, "model.length_edges": "[5]"}
    config = found.configured(params)
    assert config["model"]["norm"] is None
    assert config["model"]["norm_options"] == {"gain": 1}
    assert config["model"]["length_edges"] == [5]
    assert found.config["model"]["norm"] == "layer", "the configuration itself is not changed"
    # A step of 0.1 has no rounding errors: 0.1 + 2 * 0.1 is 0.30000000000000004.
    steps = space("{model.dropout: {low: 0.1, high: 0.5, step: 0.1}}")
    assert steps.values({"model.dropout": 0.1 + 2 * 0.1}) == {"model.dropout": 0.3}


def test_the_given_configuration_as_parameters() -> None:
    text = (
        "{model.lr: {low: 1e-4, high: 3e-3}, model.norm: [layer, none], model.hidden_size: "
        "{low: 4, high: 64, step: 12}, model.bidirectional: [true, false], "
        "model.length_edges: [[25, 50, 100, 200], [5]], model.num_layers: [2, 3]}"
    )
    assert space(text, "classification", "--model.norm=none").given() == {
        "model.norm": None,
        "model.hidden_size": 64,
        "model.bidirectional": True,
        "model.length_edges": "[25, 50, 100, 200]",
    }, "0.005 and 1 layer lie outside"
    assert (
        "model.hidden_size" not in space(text, "classification", "--model.hidden_size=60").given()
    )
    assert "model.hidden_size" in space(text, "classification", "--model.hidden_size=16").given()


def test_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.yaml").write_text("model:\n  lr: [1e-3, 1e-2]\n  norm: [none, rms]\n")
    assert read_space("a.yaml", "language") == {
        "model.lr": [1e-3, 1e-2],
        "model.norm": [None, "rms"],
    }


@pytest.mark.parametrize("task", TASKS)
def test_the_shipped_space_of_a_task(task: str) -> None:
    found = space(None, task)
    assert set(DEFAULTS.values()) == set(space_names())
    assert {"model.lr", "model.norm", "model.hidden_size"} < set(found.distributions)
    assert "dropout" in " ".join(found.distributions)
    assert found.distributions == space(DEFAULTS[task], task).distributions
    # The first trial has the options as they are given.
    assert set(found.given()) == set(found.distributions)


WRONG = {
    "{model.lr: 0.1}": "one value for model.lr, 0.1: give a list of choices or {low: , high: }",
    "{model.lr: []}": "no choices for model.lr, or one of them twice",
    "{model.lr: [0.1, 0.1]}": "no choices for model.lr, or one of them twice: [0.1, 0.1]",
    "{model.lr: {low: 1}}": "the range of model.lr needs low and high: write {low: 1, high: 9}",
    "{model.lr: {low: 1, hihg: 2}}": "the range of model.lr has hihg (did you mean 'high'?)",
    "{model.lr: {low: 1, high: 2, bas: 2}}": "the range of model.lr has bas: write {low",
    "{model.lr: {low: a, high: 2}}": "model.lr needs numbers as low, high and step, not ['a', 2]",
    "{model.lr: {low: 1, high: .inf}}": "needs numbers as low, high and step, not [1, inf]",
    "{model.lr: {low: 2, high: 1}}": "model.lr needs low below high, not 2 and 1",
    "{model.lr: {low: 0, high: 1, log: true}}": "needs low above 0, not 0",
    "{model.lr: {low: 1, high: 2, log: maybe}}": "true or false, not 'maybe'",
    "{model.lr: {low: 1, high: 2, step: 0}}": "step of the range of model.lr must be above 0",
    "{model.lr: {low: 1, high: 2, step: 1, log: true}}": "both log and step",
    "{model.hidden_size: {low: 1.5, high: 9}}": "model.hidden_size takes integers, and its range",
    "{model.norm: {low: 1, high: 9}}": "model.norm takes no numbers, so it has no range",
    "{model.dropout: [0.1, {a: 1}]}": "model.dropout that the option does not take, {'a': 1}",
    "{model.hidden_size: [8, many]}": "model.hidden_size that the option does not take, 'many'",
    "{model.hiden_size: [8]}": "model.hiden_size, which is not an option (did you mean 'model.hid",
    "{modle.lr: [8]}": "which cannot be searched over: its options begin with model., ",
    "{trials: [8]}": "which cannot be searched over: its options begin with model., ",
    "{data.split_seed: [1, 2]}": "be searched over: the trials would be validated on different ex",
    "{run.monitor: [val_loss]}": "cannot be searched over: all trials have the same",
    "{}": "a space is a mapping of options to their values",
    "{model.lr: [}": "not YAML",
}


@pytest.mark.parametrize("text", WRONG)
def test_a_wrong_space(text: str) -> None:
    with pytest.raises(ValueError, match=r"space|range|step|integers") as error:
        space(text)
    assert WRONG[text] in str(error.value)


def test_losses_of_other_tokens_are_not_compared() -> None:
    text = "{data.level: [word, character]}"
    with pytest.raises(ValueError, match="the losses of different tokens cannot be compared"):
        space(text, "language")
    assert space("{data.vocab_size: [100, 200]}").distributions, "classes are the same"


def test_a_file_that_is_no_space(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    for content, words in (("- 1\n", "is a mapping"), ("!!python/name:os.system x", "plain YAML")):
        path.write_text(content)
        with pytest.raises(ValueError, match=words):
            read_space(str(path), "classification")
    nested: Any = "x"
    for _ in range(50):
        nested = {"a": nested}
    with pytest.raises(ValueError, match="cannot be searched over"):
        space(str(nested))
