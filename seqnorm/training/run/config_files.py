"""Checks of configuration files before they are parsed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import yaml

MAX_BYTES = 2**20
# The most values of a file with its aliases written out.
MAX_VALUES = 100_000
# The values of these options are, or may be, configuration files.
_NAMES = ("--config", "-c", "--model", "--data", "--trainer", "--run")
_SUFFIXES = (".yaml", ".yml", ".json")


def check_configs(arguments: Sequence[str]) -> None:
    """Check every file that is given by ``--config`` or as the value of a group of options.

    Raises:
        ValueError: See ``check_config``.
    """
    for place, argument in enumerate(arguments):
        name, equals, value = argument.partition("=")
        if name.startswith("-c"):
            name, equals, value = "-c", argument[2:], argument[2:].removeprefix("=")
        if name.partition(".")[0] not in _NAMES:
            continue
        path = Path(value if equals else "".join(arguments[place + 1 : place + 2]))
        # Other values are YAML itself, or errors that the parser reports. A single option may be
        # the path of a file of another kind, which ends in another suffix.
        if "." in name and path.suffix not in _SUFFIXES:
            continue
        if len(str(path)) < 1024 and path.is_file():
            check_config(path)


def check_config(path: Path) -> None:
    """Check a configuration file.

    Raises:
        ValueError: The file is too large, is not UTF-8 or not YAML, has a tag that is not YAML's
            own, or has too many values once its aliases are written out. The error names the file.
    """
    if path.stat().st_size > MAX_BYTES:
        raise ValueError(f"{path}: a configuration of more than {MAX_BYTES:,} bytes")
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8: {error}; convert the file") from error
    try:
        root = yaml.compose(text, yaml.SafeLoader)
        count = 0 if root is None else _values(root, {}, path)
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError(f"{path}: not YAML: {error}") from error
    if count > MAX_VALUES:
        raise ValueError(f"{path}: {count:,} values once its aliases are written out")


def _values(node: yaml.Node, known: dict[int, int], path: Path) -> int:
    """Return the number of values of a node with its aliases written out."""
    if id(node) in known:
        return known[id(node)]
    known[id(node)] = MAX_VALUES  # a node that contains itself has no end
    if not node.tag.startswith("tag:yaml.org,2002:") or ":python" in node.tag:
        raise ValueError(
            f"{path}, line {node.start_mark.line + 1}: the tag {node.tag!r} is not plain YAML"
        )
    inner = node.value if isinstance(node, yaml.SequenceNode) else []
    if isinstance(node, yaml.MappingNode):
        inner = [part for pair in node.value for part in pair]
    known[id(node)] = 1 + sum(_values(part, known, path) for part in inner)
    return known[id(node)]
