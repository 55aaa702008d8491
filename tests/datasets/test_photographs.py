from __future__ import annotations

import hashlib
import io
import logging
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from seqnorm.datasets import PHOTOGRAPHS, TEXTURES, Package, load_photographs, photographs

README = Path(__file__).parents[2] / "data" / "README.md"
# Rows of pixels from the top: red, green, blue; black, grey, white.
COLOURS = [[(255, 0, 0), (0, 255, 0), (0, 0, 255)], [(0, 0, 0), (51, 51, 51), (255, 255, 255)]]


def png(mode: str) -> bytes:
    image = Image.new("RGB", (3, 2))
    for y, row in enumerate(COLOURS):
        for x, colour in enumerate(row):
            image.putpixel((x, y), colour)
    stream = io.BytesIO()
    image.convert(mode).save(stream, "PNG")
    return stream.getvalue()


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Package:
    """Return a wheel in ``tmp_path`` with tiny pictures under the names of the real ones."""
    archive = tmp_path / photographs._PACKAGE.filename
    members = {}
    with zipfile.ZipFile(archive, "w") as writer:
        for name, (file, _) in photographs._PICTURES.items():
            content = png("L" if name in TEXTURES else "RGB")
            members[f"skimage/data/{file}"] = hashlib.sha256(content).hexdigest()
            writer.writestr(f"skimage/data/{file}", content)
    package = replace(
        photographs._PACKAGE,
        sha256=hashlib.sha256(archive.read_bytes()).hexdigest(),
        members=members,
    )
    monkeypatch.setattr(photographs, "_PACKAGE", package)
    return package


def test_reads_colours_and_grey(tmp_path: Path, wheel: Package) -> None:
    loaded = load_photographs(tmp_path)
    assert tuple(loaded) == (*PHOTOGRAPHS, *TEXTURES)
    expected = torch.tensor(COLOURS).permute(2, 0, 1) / 255
    assert torch.equal(loaded["astronaut"], expected)
    assert loaded["astronaut"].is_contiguous()
    grey = loaded["brick"]
    assert grey.shape == (3, 2, 3)
    assert torch.equal(grey[0], grey[1])
    assert torch.equal(grey[0], grey[2])
    assert torch.equal(grey[0, 1], torch.tensor([0, 51, 255]) / 255)


def test_fetches_once_and_shows_the_notice(
    tmp_path: Path, wheel: Package, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    first = load_photographs(tmp_path, ["rocket"])
    (tmp_path / wheel.filename).unlink()
    second = load_photographs(tmp_path, ["grass", "rocket"])
    assert list(second) == ["grass", "rocket"]
    assert torch.equal(first["rocket"], second["rocket"])
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
    for line in ("scikit-image 0.26.0", "rocket: SpaceX, public domain", "brick: CC0Textures"):
        assert line in caplog.records[0].getMessage()


def test_names_what_there_is(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no pictures \['lena'\]: there are astronaut, camera"):
        load_photographs(tmp_path, ["lena", "rocket"])


def test_says_how_to_get_pillow(
    tmp_path: Path, wheel: Package, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(ModuleNotFoundError, match=r"Pillow .*: pip install 'seqnorm\[train\]'"):
        load_photographs(tmp_path)


def test_the_readme_lists_every_picture() -> None:
    text = README.read_text(encoding="utf-8")
    package = photographs._PACKAGE
    assert f"{package.name}=={package.version}" in text
    assert package.filename in text
    assert package.sha256 in text
    assert " ".join(package.platform) in text
    lines = text.splitlines()
    for name, (file, licence) in photographs._PICTURES.items():
        (line,) = (line for line in lines if line.startswith(f"| `{name}` |"))
        assert f"| {file}" in line
        assert line.endswith(f"| {licence.rpartition(', ')[2]} |")


@pytest.mark.network
def test_the_real_pictures(tmp_path: Path) -> None:
    loaded = load_photographs(tmp_path)
    sizes = {name: tuple(picture.shape) for name, picture in loaded.items()}
    assert sizes["chelsea"] == (3, 300, 451)
    assert sizes["retina"] == (3, 1411, 1411)
    for name, picture in loaded.items():
        assert 0 <= picture.min() < 0.4 < 0.8 < picture.max() <= 1, name
        assert 0.05 < picture.std() < 0.35, name
    for name in TEXTURES:
        assert sizes[name] == (3, 512, 512)
