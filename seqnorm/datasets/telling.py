"""Messages of the readers of corpora, each shown once for several runs on the same corpus."""

from __future__ import annotations

import logging
import pkgutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def told_once() -> Iterator[None]:
    """Leave out lines of this package that the block has logged before.

    The folds of a cross-validation and the trials of a sweep read the same corpus, and would tell
    the same guesses again.
    """
    told: set[str] = set()

    def is_new(record: logging.LogRecord) -> bool:
        before = len(told)
        told.add(record.getMessage())
        return len(told) > before

    modules = pkgutil.iter_modules([str(Path(__file__).parent)])
    # The filter of a logger does not see what the loggers below it log.
    loggers = [logging.getLogger(f"{__package__}.{module.name}") for module in modules]
    for logger in loggers:
        logger.addFilter(is_new)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeFilter(is_new)
