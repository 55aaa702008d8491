"""Every shipped configuration for series is parsed and trains for a few steps."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from small_series import make, write_long

from seqnorm.datasets import SERIES_CORPORA

ROOT = Path(__file__).parents[3] / "configs" / "series"
NAMES = sorted(path.stem for path in ROOT.glob("*.yaml"))


def test_every_corpus_has_a_configuration() -> None:
    assert {*NAMES} == {*SERIES_CORPORA}


@pytest.mark.parametrize("name", NAMES)
def test_trains_a_few_steps(name: str, tmp_path: Path, run_seqnorm: Callable[..., None]) -> None:
    stated = yaml.safe_load((ROOT / f"{name}.yaml").read_text())
    assert stated["data"]["corpus"] == name
    write_long(tmp_path / "a.csv", make(30))
    run_seqnorm(
        "fit",
        f"--config=series/{name}",
        "--data.corpus=a.csv",
        "--data.feature_columns=[x,y]",
        "--trainer.fast_dev_run=2",
        "--trainer.enable_progress_bar=false",
        "--trainer.enable_model_summary=false",
    )
