"""A file of documents to cross-validate on."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def docs(corpus: Path, tmp_path: Path) -> str:
    """Make a file of 90 documents of three classes."""
    (tmp_path / "docs.csv").write_text((corpus / "train.csv").read_text())
    return "docs.csv"
