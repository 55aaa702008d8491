"""The configuration in a checkpoint, which whoever made the checkpoint wrote."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from .configs import MAX_VALUES
from .parsing import TEXTS, dump

ALLOW = "SEQNORM_ALLOW_CLASSES"
# None of these takes a function, or the name of one, as an argument.
ALLOWED = {
    "seqnorm.training.NormStatistics",
    "seqnorm.training.SyncBatchNorm",
    "seqnorm.training.distributed.SyncBatchNorm",
    "seqnorm.training.checkpoint.AtomicCheckpointIO",
    "seqnorm.training.statistics.NormStatistics",
    *(
        f"lightning.pytorch.{name}"
        for name in (
            "callbacks.DeviceStatsMonitor",
            "callbacks.EarlyStopping",
            "callbacks.LearningRateMonitor",
            "callbacks.ModelSummary",
            "callbacks.RichModelSummary",
            "callbacks.RichProgressBar",
            "callbacks.TQDMProgressBar",
            "callbacks.Timer",
            "loggers.CSVLogger",
            "loggers.TensorBoardLogger",
            "profilers.SimpleProfiler",
            "strategies.DDPStrategy",
        )
    ),
}
# Of the classes above that take objects and functions too, the arguments that are texts; all others
# may be but numbers.
_TEXTS = {
    "lightning.pytorch.strategies.DDPStrategy": {"process_group_backend", "start_method", "timeout"}
}
PARTS = ("model", "data", "trainer", "run")
_KEYS = {*PARTS, "seed_everything", "task"}
_NAME = re.compile(r"[A-Za-z_]\w*", re.ASCII)
# Values of these are texts or paths and nothing else; any other that names a file would be read as
# a part of the configuration.
_PATHS = (TEXTS - {"norm"}) | {"version"}
# Values of the trainer's that name classes, or of which it makes objects of its own by their name.
_CLASSES = {"callbacks", "logger", "plugins"}
_DEPTH = 20


def config_of(stored: Mapping[str, Any], path: str | Path) -> str:
    """The configuration in a checkpoint, as YAML.

    It names no class but those of ``ALLOWED``, and of the environment variable
    SEQNORM_ALLOW_CLASSES, separated by commas. Nothing in it is more than it seems: no key is a
    path of keys, no text is YAML or JSON for values of its own, or the name of a file of them.

    Raises:
        ValueError: it holds something else, or there is none.
    """
    if "config" not in stored:
        raise ValueError(f"{path} was not written by train.py fit")
    config = stored["config"]
    if (
        not isinstance(config, dict)
        or not all(isinstance(config.get(part), dict) for part in PARTS)
        or not all(key in _KEYS for key in config)
    ):
        raise ValueError(f"{path}: its configuration is not one of train.py fit")
    for number, (place, value) in enumerate(_values(config, ("config",), path)):
        if number > MAX_VALUES:
            raise ValueError(f"{path}: its configuration has more than {MAX_VALUES:,} values")
        if isinstance(value, str):
            _check_text(place, value, path)
    return dump(config)


def check_classes(parsed: Mapping[str, Any], path: str | Path) -> None:
    """The same of classes, once the parser has read the configuration by rules of its own.

    Raises:
        ValueError: a class is named that is not allowed.
    """
    found: list[tuple[tuple[str, ...], Any]] = [(("config",), parsed)]
    while found:
        place, value = found.pop()
        if isinstance(value, Mapping):
            if isinstance(name := value.get("class_path"), str):
                _check_class((*place, "class_path"), name, path)
            found += [((*place, str(key)), inner) for key, inner in value.items()]
        elif isinstance(value, (list, tuple)):
            found += [((*place, str(number)), inner) for number, inner in enumerate(value)]


def _check_arguments(place: tuple[str, ...], value: dict[str, Any], path: str | Path) -> None:
    """That a class of ``_TEXTS`` is given no other texts, and nothing that holds more."""
    texts, given = _TEXTS.get(str(value.get("class_path"))), value.get("init_args")
    if texts is None or not isinstance(given, dict):
        return
    for name, argument in given.items():
        if name not in texts and isinstance(argument, (str, dict, list, tuple)):
            where = _written((*place, "init_args", name))
            raise ValueError(f"{path}: {where} is set, which a checkpoint may not do")


def _is_outside(place: Path) -> bool:
    """Of the current folder."""
    return place.is_absolute() or ".." in place.parts


def _check_place(where: str, text: str, path: str | Path) -> None:
    if _is_outside(Path(text)):
        raise ValueError(
            f"{path}: {where} is {text!r:.100}, outside of the current folder, where a checkpoint "
            "may not write"
        )


def check_results(results: str | None, path: str | Path) -> None:
    """Whether a checkpoint may say where its run appends its row of results: to a CSV file, here.

    Raises:
        ValueError: it may not.
    """
    place = Path(results or "results.csv")
    if place.suffix != ".csv" or _is_outside(place):
        raise ValueError(
            f"{path}: its run appends to {results!r:.100}, which a checkpoint may not choose: give "
            "--run.results FILE, or --run.results null"
        )


def _values(value: Any, place: tuple[str, ...], path: str | Path) -> Iterator[tuple[Any, Any]]:
    """Every value that holds no others, and where; what has no place in a configuration raises."""
    if len(place) > _DEPTH:
        raise ValueError(f"{path}: its configuration is more than {_DEPTH} levels deep")
    if type(value) is dict:
        _check_arguments(place, value, path)
        for key, inner in value.items():
            if not isinstance(key, str) or not _NAME.fullmatch(key):
                raise ValueError(f"{path}: {_written(place)} has the key {key!r:.50}, not a name")
            yield from _values(inner, (*place, key), path)
    elif type(value) in (list, tuple):
        for number, inner in enumerate(value):
            yield from _values(inner, (*place, str(number)), path)
    elif value is None or type(value) in (str, int, float, bool):
        yield place, value
    else:
        raise ValueError(
            f"{path}: its configuration is more than plain values: {_written(place)} is a "
            f"{type(value).__name__}"
        )


def _check_text(place: tuple[str, ...], text: str, path: str | Path) -> None:
    key, where = place[-1], _written(place)
    if key == "class_path":
        _check_class(place, text, path)
        return
    # Deeper in, as among a norm's options, a key of that name says nothing of its value.
    if key in _PATHS and len(place) == 3:
        return
    if _holds_values(text):
        raise ValueError(f"{path}: {where} is a text that holds values: {text!r:.100}")
    if key in _PATHS and "init_args" in place:
        _check_place(where, text, path)
        return
    if place[1] == "trainer" and "init_args" not in place:
        if place[2] in _CLASSES:
            _check_class(place, text, path)
        elif "." in text or text != text.lower():  # a class by its path, or by its name alone
            raise ValueError(_refusal(place, text, path))
    try:
        is_file = Path(text).is_file()
    except (OSError, ValueError):  # too long, or with a NUL character
        is_file = False
    if is_file:
        raise ValueError(f"{path}: {where} names a file, {text!r:.100}, where it takes none")


def _written(place: tuple[str, ...]) -> str:
    return "".join(f"[{key}]" if key.isdigit() else f".{key}" for key in place)[1:]


def _holds_values(text: str) -> bool:
    """Whether a parser could take a text for a mapping or a list in YAML or JSON."""
    if text.lstrip(" \t\r\n\ufeff").startswith(("{", "[", "&", "*", "!", "?", "- ")):
        return True
    try:
        return isinstance(yaml.safe_load(text), (dict, list))
    except (yaml.YAMLError, RecursionError, ValueError):
        return ": " in text or "\n" in text  # what one reader refuses another may take


def _check_class(place: tuple[str, ...], name: str, path: str | Path) -> None:
    more = filter(None, os.environ.get(ALLOW, "").split(","))
    if name not in ALLOWED and name not in more:
        raise ValueError(_refusal(place, name, path))


def _refusal(place: tuple[str, ...], name: str, path: str | Path) -> str:
    return (
        f"{path}: {_written(place)} names the class {name!r:.100}, which a checkpoint may not "
        f"choose; if you trust it, set {ALLOW}={name:.100}"
    )
