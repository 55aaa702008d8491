"""Search spaces: the options of a sweep, and the values that it tries for each of them."""

from __future__ import annotations

import copy
import json
import math
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

from lightning.pytorch.cli import LightningArgumentParser
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from seqnorm.files import RANGE, find_space, is_inline, options_of
from seqnorm.nn.check import nearest

from ..errors import OF_INPUTS, line_of
from ..run.config_files import check_config
from ..run.yaml_texts import dump, load

# The shipped space of each task.
DEFAULTS = {
    "classification": "classification",
    "language": "language",
    "series_classification": "series",
    "series_regression": "series",
}
_OTHER_EXAMPLES = "the trials would be validated on different examples"
_OTHER_TOKENS = "the losses of different tokens cannot be compared"
_OF_THE_SWEEP = "all trials have the same"
# Options that a space may not have, and the reason.
REFUSED = {
    **dict.fromkeys(("data.corpus", "data.root", "data.language"), _OTHER_EXAMPLES),
    **dict.fromkeys(("data.validation_fraction", "data.validation"), _OTHER_EXAMPLES),
    **dict.fromkeys(("data.test_fraction", "data.split_seed"), _OTHER_EXAMPLES),
    **dict.fromkeys(("data.folds", "data.fold"), _OTHER_EXAMPLES),
    **dict.fromkeys(("data.drop_unlabelled", "data.quotes", "data.delimiter"), _OTHER_EXAMPLES),
    **dict.fromkeys(("data.text_column", "data.label_column"), _OTHER_EXAMPLES),
    **dict.fromkeys(("data.id_column", "data.time_column"), _OTHER_EXAMPLES),
    **dict.fromkeys(("run.folder", "run.name", "run.monitor", "run.results"), _OF_THE_SWEEP),
    **dict.fromkeys(("run.loggers", "trainer.logger"), _OF_THE_SWEEP),
    **dict.fromkeys(("trainer.fast_dev_run", "trainer.max_time"), _OF_THE_SWEEP),
    **dict.fromkeys(("trainer.devices", "trainer.num_nodes"), _OF_THE_SWEEP),
    "data.target_columns": "the errors of different targets cannot be compared",
}
REFUSED_IN_LANGUAGE = dict.fromkeys(
    ("data.mode", "data.level", "data.lowercase", "data.vocab_size", "data.min_frequency"),
    _OTHER_TOKENS,
)


def read_space(value: str | None, task: str) -> dict[str, Any]:
    """Return the values of each option of a space, as its text states them.

    Args:
        value: The path or the name of a space, or its YAML; None for the shipped one of the task.
        task: The name of the task.

    Raises:
        ValueError: There is no such space, or the text is not a mapping of options.
    """
    value = DEFAULTS[task] if value is None else value
    where = "the space"
    if is_inline(value):
        text = value
    else:
        path = find_space(value)
        if path is None:
            raise ValueError(f"the space {value}: there is no such file or shipped space")
        check_config(path)
        text, where = Path(path).read_text(encoding="utf-8"), f"the space {value}"
    try:
        found = load(text)
    except Exception as error:
        raise ValueError(f"{where}: not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(found, dict) or not found:
        raise ValueError(
            f"{where}: a space is a mapping of options to their values, as "
            "{model.lr: {low: 1e-4, high: 1e-2, log: true}, model.norm: [layer, batch]}"
        )
    return dict(options_of(found))


class Space:
    """A search space, checked against the options of a command.

    Args:
        stated: The values of each option: a list of choices, or a mapping with ``low`` and
            ``high``, and perhaps ``log`` and ``step``.
        parser: The parser of the command.
        config: The configuration that the options of the space change.

    Raises:
        ValueError: An option does not exist or may not be searched over, or its values are not
            valid.
    """

    def __init__(
        self, stated: Mapping[str, Any], parser: LightningArgumentParser, config: dict[str, Any]
    ) -> None:
        self.config = config
        self.distributions: dict[str, BaseDistribution] = {}
        self._choices: dict[str, dict[Any, Any]] = {}  # the value of each choice
        types = {action.dest: getattr(action, "_typehint", None) for action in parser._actions}
        for name, values in stated.items():
            _check_name(name, types, config["task"])
            if isinstance(values, list):
                self._add_choices(name, values)
                tried: list[Any] = values
            elif isinstance(values, dict):
                self.distributions[name] = _range(name, values, types.get(name))
                tried = [values["low"], values["high"]]
            else:
                raise ValueError(
                    f"the space has one value for {name}, {values!r}: give a list of choices or "
                    f"{{low: , high: }}, or leave it out and give --{name} {values} to the command"
                )
            for value in tried:
                try:
                    parser.parse_args(["--config", dump(_with(config, {name: value}))])
                except OF_INPUTS as error:
                    raise ValueError(
                        f"the space has a value for {name} that the option does not take, "
                        f"{value!r}: {line_of(error)}"
                    ) from error

    def _add_choices(self, name: str, values: list[Any]) -> None:
        choices = {_label(value): value for value in values}
        if len(choices) < max(len(values), 1) or len({json.dumps(v) for v in values}) < len(values):
            raise ValueError(f"the space has no choices for {name}, or one of them twice: {values}")
        self._choices[name] = choices
        self.distributions[name] = CategoricalDistribution(list(choices))

    def values(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Return the values of the options of a trial from Optuna's parameters."""
        found = {}
        for name, value in params.items():
            if name in self._choices:
                value = self._choices[name][value]
            elif isinstance(value, float) and getattr(self.distributions[name], "step", None):
                value = float(f"{value:.10g}")  # 0.3, not 0.1 + 2 * 0.1
            found[name] = value
        return found

    def configured(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Return the configuration of a trial from Optuna's parameters."""
        return _with(self.config, self.values(params))

    def given(self) -> dict[str, Any]:
        """Return Optuna's parameters of the given configuration, as far as they lie in the space.

        A value that lies outside of the space is left out.
        """
        found = {}
        for name, distribution in self.distributions.items():
            value: Any = self.config
            for part in name.split("."):
                value = value.get(part) if isinstance(value, dict) else None
            label = _label(value)
            if isinstance(distribution, (IntDistribution, FloatDistribution)):
                inside = type(value) in (int, float) and _lies_in(distribution, value)
            else:
                # As JSON, because 1 and true are equal.
                texts = {json.dumps(each) for each in self._choices[name].values()}
                inside = json.dumps(value) in texts
            if inside:
                found[name] = label
        return found


def _check_name(name: str, types: Mapping[str, Any], task: str) -> None:
    """Refuse an option that does not exist, or that a space may not have."""
    group, *rest = name.split(".")
    reasons = {**REFUSED, **(REFUSED_IN_LANGUAGE if task == "language" else {})}
    if name in reasons:
        raise ValueError(f"the space has {name}, which cannot be searched over: {reasons[name]}")
    above = [".".join([group, *rest[:count]]) for count in range(1, len(rest) + 1)]
    if group not in ("model", "data", "trainer", "run"):
        raise ValueError(
            f"the space has {name}, which cannot be searched over: its options begin with model., "
            "data., trainer. or run."
        )
    if not any(place in types for place in above):
        known = [known for known in types if known.startswith(f"{group}.")]
        raise ValueError(f"the space has {name}, which is not an option{nearest(name, known)}")


def _range(name: str, stated: Mapping[str, Any], hint: Any) -> BaseDistribution:
    """Return the distribution of a range.

    The range of an option that takes integers has integers, and all others have numbers.
    """
    unknown = [str(key) for key in stated if key not in RANGE]
    if unknown or not {"low", "high"} <= set(stated):
        near = "".join(nearest(key, RANGE) for key in unknown[:1])
        wrong = f"has {', '.join(unknown)}{near}" if unknown else "needs low and high"
        raise ValueError(
            f"the range of {name} {wrong}: write {{low: 1, high: 9}}, perhaps with log: true or "
            "step: 2"
        )
    low, high, step, log = stated["low"], stated["high"], stated.get("step"), stated.get("log")
    kinds = [kind for kind in get_args(hint) or (hint,) if kind is not type(None)]
    if not {None, Any, int, float}.intersection(kinds):
        raise ValueError(f"{name} takes no numbers, so it has no range: give a list of choices")
    given = [each for each in (low, high, step) if each is not None]
    if not all(type(each) in (int, float) and math.isfinite(each) for each in given):
        raise ValueError(f"the range of {name} needs numbers as low, high and step, not {given}")
    whole = kinds == [int] or (kinds == [None] and all(type(each) is int for each in given))
    if whole and not all(float(each).is_integer() for each in given):
        raise ValueError(f"{name} takes integers, and its range has {given}")
    if log not in (None, True, False):
        raise ValueError(f"log of the range of {name} is true or false, not {log!r}")
    if log and step is not None:
        raise ValueError(f"the range of {name} has both log and step: leave one of them out")
    if not low < high:
        raise ValueError(f"the range of {name} needs low below high, not {low} and {high}")
    if log and low <= 0:
        raise ValueError(f"the range of {name} has log: true, which needs low above 0, not {low}")
    if step is not None and step <= 0:
        raise ValueError(f"step of the range of {name} must be above 0, not {step}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a step that does not divide the range ends it earlier
        if whole:
            return IntDistribution(int(low), int(high), log=bool(log), step=int(step or 1))
        return FloatDistribution(float(low), float(high), log=bool(log), step=step)


def _lies_in(distribution: IntDistribution | FloatDistribution, value: float) -> bool:
    if not distribution.low <= value <= distribution.high:
        return False
    steps = (value - distribution.low) / (distribution.step or 1)
    return distribution.step is None or math.isclose(steps, round(steps), abs_tol=1e-9)


def _label(value: Any) -> Any:
    """Return a choice as Optuna stores it: lists and mappings as JSON."""
    plain = value is None or isinstance(value, (bool, int, float, str))
    return value if plain else json.dumps(value)


def _with(config: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy of a configuration with other values of the options that are named."""
    changed = copy.deepcopy(dict(config))
    for name, value in values.items():
        *groups, last = name.split(".")
        place = changed
        for group in groups:
            if not isinstance(place.get(group), dict):
                place[group] = {}
            place = place[group]
        place[last] = value
    return changed
