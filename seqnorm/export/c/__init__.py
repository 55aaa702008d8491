"""A recurrent layer as a small library in C99, which ``to_c`` writes.

``source.py`` says which modules can be written, ``direction.py`` and ``cells.py`` write one step,
``header.py`` the rest of the header, and ``runtime.h`` is the part that all models share.
"""

from __future__ import annotations

from .header import to_c

__all__ = ["to_c"]
