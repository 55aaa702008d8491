"""The error message for a missing package that an extra of seqnorm installs."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec

HINT = "pip install 'seqnorm[train]'"
SWEEP_HINT = "pip install 'seqnorm[train,sweep]'"
# The packages of the extra, and the module of each, as pyproject.toml lists them.
TRAIN = {
    "lightning": "lightning",
    "torchmetrics": "torchmetrics",
    "jsonargparse": "jsonargparse",
    "tokenizers": "tokenizers",
    "rich": "rich",
    "tensorboard": "tensorboard",
    "matplotlib": "matplotlib",
    "pyarrow": "pyarrow",
    "scikit-learn": "sklearn",
    "scipy": "scipy",
    "pillow": "PIL",
    "jinja2": "jinja2",
    "joblib": "joblib",
}
# The modules that the extra installs, those of packages that its own need among them.
MODULES = frozenset([*TRAIN.values(), "numpy", "yaml"])


@contextmanager
def explained(user: str, hint: str = HINT) -> Iterator[None]:
    """Explain failed imports within: ``user`` needs the module, and how to install it.

    Raises:
        ModuleNotFoundError: a module outside of seqnorm is missing.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        named = (error.name or "seqnorm").partition(".")[0]
        if named == "seqnorm" or "seqnorm[" in str(error):  # an own error, or already explained
            raise
        raise ModuleNotFoundError(
            f"{user} needs the module {named}, which is not installed: {hint}", name=error.name
        ) from error


def need(user: str, *modules: str, hint: str = HINT) -> None:
    """Import modules before a long computation that needs them at its end.

    Raises:
        ModuleNotFoundError: one is missing.
    """
    with explained(user, hint):
        for module in modules:
            import_module(module)


def absent(user: str, modules: Iterable[str], hint: str = HINT) -> str:
    """Return the error message for modules that are not installed, "" if all are.

    Nothing is imported.
    """
    missing = [module for module in modules if not _is_there(module)]
    if not missing:
        return ""
    named = f"module{'s' * (len(missing) > 1)} {', '.join(missing)}"
    verb = "are" if len(missing) > 1 else "is"
    return f"{user} needs the {named}, which {verb} not installed: {hint}"


def _is_there(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        return False


@contextmanager
def or_exit() -> Iterator[None]:
    """End the program with one line and status 2 if a module of an extra is missing within."""
    try:
        yield
    except ModuleNotFoundError as error:
        if "seqnorm[" not in str(error):
            raise
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
