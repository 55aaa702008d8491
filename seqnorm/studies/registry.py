"""The studies by name, in the order of the argument."""

from __future__ import annotations

from .study import Study

STUDIES: dict[str, type[Study]] = {}
