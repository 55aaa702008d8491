"""The reason for missing kernels, and the remedy."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sysconfig
from importlib import metadata
from pathlib import Path
from urllib.parse import urlparse
from urllib.request import url2pathname

AGAIN = "install seqnorm once more, with pip install --force-reinstall --no-cache-dir"


def why_not(kernels: Path, fault: str = "") -> str:
    """Return the reason why there is no library at this path, and the remedy.

    Args:
        kernels: the path of the library, which need not exist.
        fault: the reason why it cannot be loaded, if it exists.
    """
    root = kernels.parents[4]
    # An installation may contain the sources too.
    checkout = (root / "setup.py").is_file() and (kernels.parent / "src" / "entry.c").is_file()
    remedy = f"pip install -e {shlex.quote(str(root))}" if checkout else AGAIN
    if fault:
        return f"its kernels {kernels} cannot be loaded ({fault}): {remedy}"
    compiler = os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc"
    if shutil.which(shlex.split(compiler)[0]) is None:
        remedy = f"install a C compiler (gcc or clang), then {remedy}"
    if not checkout:
        return f"its kernels were not compiled when seqnorm was installed in {root}: {remedy}"
    here = f"seqnorm was imported from the source folder {root}, where no kernels were compiled"
    other = _installed(kernels)
    if other is None:
        return f"{here}: {remedy}"
    return (
        f"{here}; the copy installed in {other} has them: run programs that stand outside of "
        f"{root}, or compile them here: {remedy}"
    )


def _installed(kernels: Path) -> Path | None:
    """Return the folder of an installed copy that has kernels."""
    below = kernels.relative_to(kernels.parents[4])
    for found in metadata.distributions(name="seqnorm"):
        for root in (Path(str(found.locate_file(""))), _editable(found)):
            if root is not None and (root / below).is_file():
                return root
    return None


def _editable(found: metadata.Distribution) -> Path | None:
    """Return the source folder of an installation with ``pip install -e``."""
    origin = json.loads(found.read_text("direct_url.json") or "{}")
    if not origin.get("dir_info", {}).get("editable"):
        return None
    return Path(url2pathname(urlparse(origin["url"]).path))
