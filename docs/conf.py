"""Sphinx builds the documentation into ``build/site``: ``.ci/part docs``."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

# Examples run in two processes at once, so that each of them computes in one thread.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Processes that run examples import this file's folder, not the checkout, unless they are told to.
ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "docs" / "_ext")]

import matplotlib  # noqa: E402  after the number of threads
from sphinx_gallery.sorting import ExplicitOrder  # noqa: E402

import seqnorm  # noqa: E402

if TYPE_CHECKING:
    from sphinx.application import Sphinx

matplotlib.use("Agg")

project = "seqnorm"
author = "The seqnorm authors"
release = version = seqnorm.__version__
project_copyright = f"{author}, MIT licence"

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["examples/README.rst", "_templates", "gallery/**/*.py.md5"]
nitpicky = True
# Names of other packages, whose documentation needs a network. Names of ours are checked.
nitpick_ignore_regex = [
    ("py:.*", r"(?!seqnorm\b).*"),
    # Annotations name classes of wings, which have no page of their own.
    ("py:class", r"seqnorm\.\w+\..*"),
]
suppress_warnings = ["config.cache"]  # classes in the configuration of the gallery

# -- Pages -----------------------------------------------------------------------------------------
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

# -- Reference -------------------------------------------------------------------------------------
autodoc_member_order = "bysource"
autodoc_inherit_docstrings = False  # those of torch
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
autodoc_mock_imports = ["sb3_contrib", "tensordict", "torchrl"]  # of the extra rl
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88
python_trailing_comma_in_multi_line_signatures = False
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_use_param = False  # several arguments may share a line
napoleon_use_ivar = True

# -- Examples --------------------------------------------------------------------------------------
ORDER = [
    "plot_layernorm_lstm.py",
    "plot_step_statistics.py",
    "plot_sets.py",
    "plot_own_cell.py",
    "plot_padding.py",
    "plot_streaming.py",
    "plot_onnx.py",
    "plot_longer_sequences.py",
    "plot_convert.py",
    "plot_image_norms.py",
]
sphinx_gallery_conf = {
    "examples_dirs": "examples",
    "gallery_dirs": "gallery",
    "filename_pattern": "/plot_",
    "within_subsection_order": ExplicitOrder(ORDER),
    "image_scrapers": ("matplotlib", "svg_pictures.svg_pictures"),
    "image_srcset": ["2x"],
    "thumbnail_size": (600, 400),
    "parallel": 2,
    "abort_on_example_error": True,
    "download_all_examples": False,
    "remove_config_comments": True,
    "show_memory": False,
    "show_signature": False,
    "capture_repr": ("_repr_html_", "__repr__"),
    "write_computation_times": False,
}

# -- Appearance ------------------------------------------------------------------------------------
default_role = "code"  # single quotation marks of docstrings
html_theme = "furo"
html_title = f"seqnorm {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
templates_path = ["_templates"]
html_copy_source = False
html_show_sourcelink = False
html_theme_options = {"navigation_with_keys": True}
highlight_language = "none"  # blocks of docstrings are equations
pygments_style = "friendly"
pygments_dark_style = "github-dark"
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True


def prepare(app: Sphinx, what: str, name: str, found: Any, options: Any, lines: list[str]) -> None:
    """Rewrite two habits of our docstrings that reStructuredText reads otherwise.

    Names of several arguments may stand in two lines, ``a, b, c,`` and, further to the right,
    ``d: as in torch``. They are joined. In ``num_channels: C.`` the letter is not the number of an
    item in a list.
    """
    for number in range(len(lines) - 1, 0, -1):
        above, below = lines[number - 1], lines[number]
        names = re.fullmatch(r"\s+(\w+, )*\w+,", above)
        further = len(below) - len(below.lstrip()) > len(above) - len(above.lstrip())
        if names and further and re.match(r"\s+(\w+, )*\w+: ", below):
            lines[number - 1 : number + 1] = [f"{above} {below.strip()}"]
    lines[:] = [re.sub(r"^(\s+\w+: [A-Z])\.", r"\1\\.", line) for line in lines]


def setup(app: Sphinx) -> None:
    app.connect("autodoc-process-docstring", prepare, priority=1)
