"""One line for an option whose value has the wrong type, in place of the parser's own message."""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence
from difflib import get_close_matches

# The message of jsonargparse for one type, and for several; white space is a single space.
_ONE = re.compile(r"Expected a (?P<types>.+)\. Got value: ?(?P<value>.*)")
_SEVERAL = re.compile(
    r"Does not validate against any of the Union subtypes Subtypes: \[(?P<types>.+)\] Errors: .*"
    r"Given value: ?(?P<value>.*)"
)
_IN_WORDS = {
    "<class 'int'>": ("an integer",),
    "<class 'float'>": ("a number",),
    "<class 'str'>": ("a text",),
    "<class 'bool'>": ("true", "false"),
    "<class 'NoneType'>": ("null",),
}


def explain_value(message: str) -> str:
    """Return the option, its value and what to write instead.

    A message of another kind, or about a type that has no short description, is returned as it is.

    Args:
        message: A message of the parser, with single spaces between the words.
    """
    before, key, rest = message.rpartition('Parser key "')
    option, end, about = rest.partition('": ')
    found = _SEVERAL.fullmatch(about) or _ONE.fullmatch(about)
    if not (key and end) or found is None or (before and "Unable to load config" not in before):
        return message
    words: list[str] = []
    choices: list[str] = []
    for kind in _apart(found["types"]):
        literal = _choices(kind)
        choices += literal
        if kind in _IN_WORDS:
            words += _IN_WORDS[kind]
        elif literal:
            words += literal
        elif kind.startswith("list[") and _choices(kind[5:-1]) == choices != []:
            words.append("a list of these")
        else:
            return message
    words = sorted(dict.fromkeys(words), key=lambda word: word == "null")
    allowed = " or ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
    value = found["value"]
    shown = "null" if value == "None" else value if value[:1] in ("[", "{") else f"'{value}'"
    return f"--{option} cannot be {shown}; write {allowed}{_hint(value, choices)}"


def _hint(value: str, choices: Sequence[str]) -> str:
    """Return the choice that is most like the value, or like the wrong value in a list."""
    given = [value]
    if value.startswith("["):
        given = [word for word in re.findall(r"'([^']*)'", value) if word not in choices]
    near = [name for word in given[:1] for name in get_close_matches(word, choices, 1, 0.5)]
    return f" (did you mean {near[0]}?)" if near else ""


def _choices(kind: str) -> list[str]:
    """Return the values of a type ``Literal[...]`` in words, otherwise no values."""
    inside = re.fullmatch(r"(?:typing\.)?Literal(\[.+\])", kind)
    return [] if inside is None else [str(value) for value in ast.literal_eval(inside[1])]


def _apart(types: str) -> list[str]:
    """Divide a list of types at the commas that stand in no brackets."""
    found, depth = [""], 0
    for character in types:
        depth += (character == "[") - (character == "]")
        if character == "," and depth == 0:
            found.append("")
        else:
            found[-1] += character
    return [each.strip() for each in found]
