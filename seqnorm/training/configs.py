"""Configuration files, looked at before they are parsed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import yaml

MAX_BYTES = 2**20
# Values that a file may have once its aliases are written out.
MAX_VALUES = 100_000


# A value of one of these is, or may be, a file of values.
_NAMES = ("--config", "-c", "--model", "--data", "--trainer", "--run")
_SUFFIXES = (".yaml", ".yml", ".json")


def check_configs(arguments: Sequence[str]) -> None:
    """Checks every file that is given by ``--config``, or as the value of a group of options.

    Raises:
        ValueError: it names the file, which is too large, not UTF-8, not YAML, has a tag that is
            not YAML's own, or a bomb of aliases.
    """
    for place, argument in enumerate(arguments):
        name, equals, value = argument.partition("=")
        if name.startswith("-c"):
            name, equals, value = "-c", argument[2:], argument[2:].removeprefix("=")
        if name.partition(".")[0] not in _NAMES:
            continue
        path = Path(value if equals else "".join(arguments[place + 1 : place + 2]))
        # What is no file is YAML itself, or an error of the parser's. Single options may be paths
        # to files of other kinds, which do not end as a configuration does.
        if "." in name and path.suffix not in _SUFFIXES:
            continue
        if len(str(path)) < 1024 and path.is_file():
            _check(path)


def _check(path: Path) -> None:
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
    """How many values a node has, whatever it refers to written out."""
    if id(node) in known:
        return known[id(node)]
    known[id(node)] = MAX_VALUES  # of one that holds itself, which has no end
    if not node.tag.startswith("tag:yaml.org,2002:") or ":python" in node.tag:
        raise ValueError(
            f"{path}, line {node.start_mark.line + 1}: the tag {node.tag!r} is none of plain YAML"
        )
    inner = node.value if isinstance(node, yaml.SequenceNode) else []
    if isinstance(node, yaml.MappingNode):
        inner = [part for pair in node.value for part in pair]
    known[id(node)] = 1 + sum(_values(part, known, path) for part in inner)
    return known[id(node)]
