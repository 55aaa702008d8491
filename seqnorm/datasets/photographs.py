"""Photographs and textures, from the package scikit-image.

Its wheels for different platforms hold the same pictures, so one of them is pinned and fetched on
every machine. Only pictures are used whose authors waived their rights or for which no restriction
is known. They are read with Pillow, which comes with ``seqnorm[train]``.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from seqnorm.extra import explained

from .fetching import Package, load_members

# For each picture, its file in the package and its licence.
_PHOTOGRAPHS = {
    "astronaut": ("astronaut.png", "Eileen Collins, NASA, public domain"),
    "camera": ("camera.png", "Lav Varshney, CC0"),
    "chelsea": ("chelsea.png", "Stefan van der Walt, CC0"),
    "clock": ("clock_motion.png", "Stefan van der Walt, public domain"),
    "coffee": ("coffee.png", "Rachel Michetti, CC0"),
    "coins": ("coins.png", "Brooklyn Museum, no known copyright restrictions"),
    "galaxies": ("hubble_deep_field.jpg", "Hubble Extreme Deep Field, NASA, public domain"),
    "retina": ("retina.jpg", "Mikael Häggström, CC0"),
    "rocket": ("rocket.jpg", "SpaceX, public domain"),
    "tissue": (
        "ihc.png",
        "Center for Microscopy and Molecular Imaging, no known copyright restrictions",
    ),
}
_TEXTURES = {
    "brick": ("brick.png", "CC0Textures, Bricks25, CC0"),
    "grass": ("grass.png", "linolafett, Grass 01, CC0"),
    "gravel": ("gravel.png", "CC0Textures, Gravel04, CC0"),
}
_CHECKSUMS = {
    "astronaut.png": "88431cd9653ccd539741b555fb0a46b61558b301d4110412b5bc28b5e3ea6cb5",
    "camera.png": "b0793d2adda0fa6ae899c03989482bff9a42d3d5690fc7e3648f2795d730c23a",
    "chelsea.png": "596aa1e7cb875eb79f437e310381d26b338a81c2da23439704a73c4651e8c4bb",
    "clock_motion.png": "f029226b28b642e80113d86622e9b215ee067a0966feaf5e60604a1e05733955",
    "coffee.png": "cc02f8ca188b167c775a7101b5d767d1e71792cf762c33d6fa15a4599b5a8de7",
    "coins.png": "f8d773fc9cfa6f4d8e5942dc34d0a0788fcaed2a4fefbbed0aef5398d7ef4cba",
    "hubble_deep_field.jpg": "3a19c5dd8a927a9334bb1229a6d63711b1c0c767fb27e2286e7c84a3e2c2f5f4",
    "retina.jpg": "38a07f36f27f095e818aea7b96d34202c05176d30253c66733f2e00379e9e0e6",
    "rocket.jpg": "c2dd0de7c538df8d111e479619b129464d0269d0ae5fd18ca91d33a7fdfea95c",
    "ihc.png": "f8dd1aa387ddd1f49d8ad13b50921b237df8e9b262606d258770687b0ef93cef",
    "brick.png": "7966caf324f6ba843118d98f7a07746d22f6a343430add0233eca5f6eaaa8fcf",
    "grass.png": "b6b6022426b38936c43a4ac09635cd78af074e90f42ffa8227ac8b7452d39f89",
    "gravel.png": "c48615b451bf1e606fbd72c0aa9f8cc0f068ab7111ef7d93bb9b0f2586440c12",
}
_PICTURES = _PHOTOGRAPHS | _TEXTURES
_FOLDER = "skimage/data/"
_PACKAGE = Package(
    name="scikit-image",
    version="0.26.0",
    filename=("scikit_image-0.26.0-cp311-cp311-manylinux_2_24_x86_64.manylinux_2_28_x86_64.whl"),
    sha256="74aa5518ccea28121f57a95374581d3b979839adc25bb03f289b1bc9b99c58af",
    members={_FOLDER + file: sha256 for file, sha256 in _CHECKSUMS.items()},
)

PHOTOGRAPHS = tuple(_PHOTOGRAPHS)
TEXTURES = tuple(_TEXTURES)


def load_photographs(
    root: str | Path = "data", names: Sequence[str] = (*PHOTOGRAPHS, *TEXTURES)
) -> dict[str, Tensor]:
    """Load pictures by name, fetched into ``root`` on first use.

    Args:
        root: The folder of fetched packages.
        names: The names of the pictures, from ``PHOTOGRAPHS`` (all kinds of contents) and
            ``TEXTURES`` (square, uniform surfaces); all of them by default.

    Returns:
        The pictures (3, H, W) in their own sizes, float, from 0 (black) to 1; grey pictures have
        three equal channels.

    Raises:
        ValueError: There is no picture of that name.
        FetchError: They could not be fetched, or a file was changed.
        ModuleNotFoundError: Pillow is missing; the message says how to install it.
    """
    if unknown := [name for name in names if name not in _PICTURES]:
        raise ValueError(f"no pictures {unknown}: there are {', '.join(_PICTURES)}")
    members = [_FOLDER + _PICTURES[name][0] for name in names]
    contents = load_members(_PACKAGE, members, root, notice())
    return {name: _decode(contents[path]) for name, path in zip(names, members)}


def notice() -> str:
    """Return source and licence of every picture, as shown to users who fetch them."""
    lines = [f"  {name}: {licence}" for name, (_, licence) in _PICTURES.items()]
    return "\n".join(
        [f"Pictures from the package {_PACKAGE.name} {_PACKAGE.version} (BSD-3-Clause):", *lines]
    )


def _decode(content: bytes) -> Tensor:
    with explained("reading pictures with Pillow"):
        from PIL import Image
    with Image.open(io.BytesIO(content)) as image:
        colours = image.convert("RGB")
    # torch warns of bytes, which are read-only.
    pixels = torch.frombuffer(bytearray(colours.tobytes()), dtype=torch.uint8)
    planes = pixels.view(colours.height, colours.width, 3).permute(2, 0, 1).contiguous()
    return planes.float() / 255
