"""Show the SVG pictures of examples in the gallery, as a notebook shows them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sphinx_gallery.scrapers import figure_rst


def svg_pictures(block: Any, block_vars: dict[str, Any], gallery_conf: dict[str, Any]) -> str:
    """Save the last value of a block as a picture if it can draw itself as SVG.

    Returns:
        The directive that shows it; empty if the value has no picture.
    """
    last = block_vars["example_globals"].get("___")
    if block[0] != "code" or not hasattr(last, "_repr_svg_"):
        return ""
    path = Path(next(block_vars["image_path_iterator"])).with_suffix(".svg")
    path.write_text(last._repr_svg_(), encoding="utf-8")
    # A number is used up, and the value of this block is not that of the next one.
    del block_vars["example_globals"]["___"]
    return str(figure_rst([str(path)], gallery_conf["src_dir"], str(last)))
