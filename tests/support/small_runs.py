"""Options of small training runs, and checks of their files."""

from __future__ import annotations

from pathlib import Path

from matplotlib.image import imread

# Small sizes, and no output.
SMALL = (
    "--model.embedding_size=8",
    "--model.hidden_size=8",
    "--trainer.log_every_n_steps=1",
    "--trainer.enable_progress_bar=false",
    "--trainer.enable_model_summary=false",
)


class CrashError(Exception):
    """The error that ``crash_at`` makes training raise."""


def assert_picture(path: Path) -> None:
    pixels = imread(path)
    assert min(pixels.shape[:2]) > 400
    dark = (pixels[..., :3].mean(-1) < 0.5).mean()
    assert 0.002 < dark < 0.5  # lines and letters, on a light ground
