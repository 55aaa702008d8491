"""The names of the parts of a corpus, for files, folders and data sets of Hugging Face alike."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from .documents import DatasetError

PARTS = ("train", "validation", "test")
# The names that a part may have.
NAMES: Mapping[str, str] = {
    **{name: name for name in PARTS},
    **dict.fromkeys(("valid", "val", "dev"), "validation"),
}
_MISNAMED = {
    **dict.fromkeys(("training", "trainset"), "train"),
    **dict.fromkeys(("development", "eval", "heldout", "held_out"), "validation"),
    **dict.fromkeys(("testing", "testset"), "test"),
}


def parts_by_name(where: object, names: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return the name of each part, in the order of ``PARTS``; other names are left out.

    Args:
        where: The folder or data set, for errors.
        names: The name of each entry without and with its ending, as ("valid", "valid.csv").

    Raises:
        DatasetError: A part occurs twice, or a name is like that of a part.
    """
    found: dict[str, list[str]] = {}
    wrong = []
    for stem, name in names:
        if part := NAMES.get(stem.lower()):
            found.setdefault(part, []).append(name)
        elif part := _MISNAMED.get(stem.lower()):
            wrong.append((name, part))
    for part, entries in found.items():
        if len(entries) > 1:
            raise DatasetError(f"{where} has more than one {part} part: {', '.join(entries)}")
    if found and wrong:
        name, part = wrong[0]
        also = " (or valid, val or dev)" if part == "validation" else ""
        raise DatasetError(f"{where} has {name}: call this part {part!r}{also}")
    return {part: found[part][0] for part in PARTS if part in found}
