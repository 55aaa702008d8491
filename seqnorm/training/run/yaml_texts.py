"""Read and write the values of options as YAML in which every text stays a text.

YAML takes ``7795e10`` for a number, ``no`` for a truth value and ``#1`` for a comment, and its
readers do not agree about them.
"""

from __future__ import annotations

import re
from typing import Any, Optional

import yaml
from jsonargparse import set_dumper, set_loader
from lightning.pytorch.cli import LightningArgumentParser

_MODE = "seqnorm"
# Options, by the last part of their names, whose values are names and paths that the user chooses:
# a run may be called none.
_NAMES = {"corpus", "root", "text_column", "label_column", "folder", "name", "default_root_dir"}
_NAMES |= {"id_column", "time_column", "save_dir", "dirpath", "filename", "sub_dir"}
# Options that are texts. For the further ones the word "none" means null.
TEXTS = _NAMES | {
    "delimiter",
    "language",
    "torchtext_tokens",
    "vectors",
    "vocabulary",
    "results",
    "norm",
}
_NONE = ("none", "None")
_NULLS = ("null", "Null", "NULL", "~")
_NULL, _TEXT = "tag:yaml.org,2002:null", "tag:yaml.org,2002:str"
# A text that begins with a letter or like a path, so is not a number, and is not a word of YAML.
_PLAIN = re.compile(
    r"(?!(?:null|none|true|false|yes|no|on|off|y|n)\Z)[a-z_/][a-z0-9_./ -]*",
    re.ASCII | re.IGNORECASE,
)
_FLOAT = re.compile(
    r"[-+]?(?:[0-9][0-9_]*\.[0-9_]*(?:e[-+]?[0-9]+)?|[0-9][0-9_]*e[-+]?[0-9]+"
    r"|\.[0-9][0-9_]*(?:e[-+]?[0-9]+)?|\.inf)\Z|\.nan\Z",
    re.IGNORECASE,
)


class _Dumper(yaml.SafeDumper):  # type: ignore[misc]  # PyYAML has no types
    """Quote every text that a reader of YAML could take for another value."""

    def represent_text(self, text: str) -> yaml.Node:
        style = None if _PLAIN.fullmatch(text) else "'"
        return self.represent_scalar(_TEXT, text, style=style)

    yaml_representers = {**yaml.SafeDumper.yaml_representers, str: represent_text}  # noqa: RUF012


def dump(values: Any) -> str:
    """Return YAML that every reader understands as these plain values."""
    return str(yaml.dump(values, Dumper=_Dumper, sort_keys=False))


class _Loader(yaml.SafeLoader):  # type: ignore[misc]  # as above
    """YAML with numbers as 1e-3 and without dates; the options in ``TEXTS`` are texts."""

    yaml_implicit_resolvers = {  # noqa: RUF012  as in PyYAML
        first: [
            (tag, _FLOAT if tag.endswith(":float") else pattern)
            for tag, pattern in resolvers
            if not tag.endswith(":timestamp")
        ]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


def load(text: str) -> Any:
    """Return the values of a text of YAML.

    The value of an option in ``TEXTS`` needs no quotes, whatever it spells, except null. The word
    none is null too, except for names that the user chooses. A text that consists of a comment or
    an anchor stands for itself.
    """
    loader = _Loader(text)
    try:
        root = loader.get_single_node()
        if isinstance(root, yaml.ScalarNode) and _is_none(root):
            return None
        if root is None or (root.tag == _NULL and text.strip() not in _NULLS):
            return text
        _mend(root, set())
        return loader.construct_document(root)
    finally:
        loader.dispose()


def _is_none(node: yaml.Node) -> bool:
    return isinstance(node, yaml.ScalarNode) and node.style is None and node.value in _NONE


def _mend(node: yaml.Node, seen: set[int]) -> None:
    """Give nodes the tags that ``load`` documents."""
    if id(node) in seen:
        return
    seen.add(id(node))
    pairs: list[tuple[Any, yaml.Node]] = []
    if isinstance(node, yaml.MappingNode):
        pairs = [(key.value, value) for key, value in node.value]
    elif isinstance(node, yaml.SequenceNode):
        pairs = [(None, value) for value in node.value]
    for key, value in pairs:
        if _is_none(value):
            value.tag = _TEXT if key in _NAMES else _NULL
        elif isinstance(value, yaml.ScalarNode) and key in TEXTS and value.tag != _NULL:
            value.tag = _TEXT
        _mend(value, seen)


def mode() -> str:
    """Return the ``parser_mode`` of a parser that reads and writes by ``load`` and ``dump``."""
    set_loader(_MODE, load, (yaml.YAMLError,))
    set_dumper(_MODE, dump)
    return _MODE


class _Verbatim:
    """Mixin for the action of an option that is a text: its value is not parsed as YAML."""

    _typehint: Any
    dest: str

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if len(args) == 4 and args[2] == "null" and self._typehint is not str:
            args = (*args[:2], None, args[3])
        return super().__call__(*args, **kwargs)  # type: ignore[misc]  # of the action

    def _check_type(self, value: Any) -> Any:
        if not isinstance(value, str):
            return super()._check_type(value)  # type: ignore[misc]  # as above
        named = self.dest.rpartition(".")[2] in _NAMES
        return None if value in _NONE and self._typehint is not str and not named else value


def keep_texts(parser: LightningArgumentParser) -> None:
    """Make all options of a parser that are texts take their values verbatim."""
    for action in parser._actions:
        if getattr(action, "_typehint", None) in (str, Optional[str]):
            kind = type(action)
            if issubclass(kind, _Verbatim):  # of a parser that has parsed before
                continue
            action.__class__ = type(kind.__name__, (_Verbatim, kind), {})
