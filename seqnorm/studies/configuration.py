"""Studies from their configuration, ``configs/studies/<name>.yaml``.

The file states every field of the study's dataclass, and under ``quick`` the changes for a version
of two minutes. A copy of the configuration is kept beside the table, ``<name>.yaml``, so that runs
of two configurations never end up in one table.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from seqnorm.extra import explained
from seqnorm.files import CONFIGS

with explained("seqnorm study"):
    import yaml
    from jsonargparse import ArgumentParser

from .runner import StudyError, path_of
from .study import Study
from .table import replace


def load(kind: type[Study], quick: bool = False, config: Path | None = None) -> Study:
    """Make a study from its configuration.

    Raises:
        StudyError: the file is missing or does not fit the study's fields.
    """
    path = config or CONFIGS / "studies" / f"{kind.name}.yaml"
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise StudyError(f"{path}: there is no such configuration") from error
    except yaml.YAMLError as error:
        raise StudyError(f"{path} is not YAML: {error}") from error
    if not isinstance(content, dict):
        raise StudyError(f"{path} must map the fields of {kind.name} to values")
    changed = content.pop("quick", {})
    if quick:
        content |= changed
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(kind, "study")
    try:
        made = parser.instantiate(parser.parse_object({"study": content})).study
    except Exception as error:  # anything that the parser or the dataclass finds wrong
        raise StudyError(f"{path}: {error}") from error
    assert isinstance(made, Study)
    return made


def keep_beside(study: Study, folder: Path) -> None:
    """Write the configuration beside the study's table, after ``check_beside``."""
    check_beside(study, folder)
    path = path_of(study, folder).with_suffix(".yaml")
    replace(path, yaml.safe_dump(_plain(study), sort_keys=False).encode())


def check_beside(study: Study, folder: Path) -> None:
    """Compare the configuration with the one beside the study's table, if both files exist.

    Raises:
        StudyError: the table was made with another configuration.
    """
    path = path_of(study, folder).with_suffix(".yaml")
    if not (path.exists() and path_of(study, folder).exists()):
        return
    now, then = _plain(study), yaml.safe_load(path.read_text(encoding="utf-8"))
    differing = [
        f"{name} was {then.get(name)!r} and is {now.get(name)!r}"
        for name in sorted(now.keys() | then.keys())
        if name not in study.extent and then.get(name) != now.get(name)
    ]
    if differing:
        raise StudyError(
            f"{path_of(study, folder)} was made with another configuration "
            f"({'; '.join(differing)}): give another --results, or move the old one away"
        )


def _plain(study: Study) -> dict[str, Any]:
    """Return the fields as YAML reads them back, with lists for tuples."""
    fields: dict[str, Any] = json.loads(json.dumps(vars(study)))
    return fields
