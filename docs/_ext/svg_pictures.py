"""Show the SVG pictures of examples in the gallery, as a notebook shows them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sphinx_gallery.scrapers import figure_rst

LAST = "___"  # the gallery's name for the last value of a block


class _Shown:
    """A value that prints nothing, in the place of one that has been drawn."""

    def __repr__(self) -> str:
        return ""


def svg_pictures(block: Any, block_vars: dict[str, Any], gallery_conf: dict[str, Any]) -> str:
    """Save the last value of a block as a picture if it can draw itself as SVG.

    Returns:
        The directive that shows it; empty if the value has no picture.
    """
    names = vars(block_vars["fake_main"])
    last = names.get(LAST)
    if not hasattr(last, "_repr_svg_"):
        return ""
    path = Path(next(block_vars["image_path_iterator"])).with_suffix(".svg")
    path.write_text(last._repr_svg_(), encoding="utf-8")
    names[LAST] = _Shown()
    return str(figure_rst([str(path)], gallery_conf["src_dir"], str(last)))
