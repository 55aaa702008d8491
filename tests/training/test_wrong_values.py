"""A value of the wrong type is explained in one line that says what to write."""

from __future__ import annotations

from typing import Literal, Optional, Union

import pytest
from jsonargparse import ArgumentError, ArgumentParser

from seqnorm.training.errors import line_of
from seqnorm.training.wrong_values import explain_value

Name = Literal["tensorboard", "wandb", "mlflow"]


def answer(kind: object, value: str) -> str:
    """Return the line for an option of the type ``kind``."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--run.x", type=kind)
    with pytest.raises(ArgumentError) as caught:
        parser.parse_args([f"--run.x={value}"])
    return line_of(caught.value)


NAMES = "tensorboard, wandb"


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        (Name, "wand", f"'wand'; write {NAMES} or mlflow (did you mean wandb?)"),
        (Optional[Name], "x y", f"'x y'; write {NAMES}, mlflow or null"),
        (Union[Name, list[Name]], "wb", f"'wb'; write {NAMES}, mlflow or a list of these (did"),
        (Union[Name, list[Name]], "", f"''; write {NAMES}, mlflow or a list of these"),
        (
            Union[Name, list[Name]],
            "[wandb,tensor]",
            f"['wandb', 'tensor']; write {NAMES}, mlflow or a list of these (did you mean "
            "tensorboard?)",
        ),
        (Union[Literal[64, 32], Literal["bf16"], None], "33", "'33'; write 64, 32, bf16 or null"),
        (
            Union[bool, Literal["warn"], None],
            "wran",
            "'wran'; write true, false, warn or null (did you",
        ),
        (Optional[int], "many", "'many'; write an integer or null"),
        (int, "null", "null; write an integer"),
        (float, "fast", "'fast'; write a number"),
    ],
)
def test_of_the_parser(kind: object, value: str, expected: str) -> None:
    assert answer(kind, value).startswith(f"--run.x cannot be {expected}")


@pytest.mark.parametrize(
    "message",
    [
        "no file x",
        'Parser key "run.x": something else',
        "Parser key \"run.x\": Expected a <class 'Strange'>. Got value: 3",
        "It says Parser key \"run.x\": Expected a <class 'int'>. Got value: 3",
    ],
)
def test_other_messages_stay(message: str) -> None:
    assert explain_value(message) == message


def test_a_type_without_words_keeps_the_message() -> None:
    assert answer(Optional[dict[str, int]], "3").startswith('Parser key "run.x": Does not validate')


def test_within_a_group_of_options() -> None:
    message = (
        'Parser key "run": Unable to load config \'{"x": 1}\' - '
        "Parser key \"run.x\": Expected a <class 'int'>. Got value: many"
    )
    assert explain_value(message) == "--run.x cannot be 'many'; write an integer"
