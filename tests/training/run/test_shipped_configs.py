"""Every shipped configuration is parsed and trains for a few steps."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from torchtext_here import needs_torchtext

from seqnorm.datasets import CORPORA
from seqnorm.training.run.fit import fit_parser
from seqnorm.training.run.options import parse
from seqnorm.training.run.task import TASKS

ROOT = Path(__file__).parents[3] / "configs"
# Other tests run the configurations of studies, of language models and for series, and the spaces.
ELSEWHERE = ("studies", "language", "series", "spaces")
OVERLAYS = sorted(
    str(path.relative_to(ROOT))
    for path in ROOT.rglob("*.yaml")
    if path.parent.name not in ELSEWHERE and path.name != "base.yaml"
)


def test_every_choice_has_an_overlay() -> None:
    named = {((ROOT / path).parent.name, Path(path).stem) for path in OVERLAYS}
    assert named == {
        ("configs", "ddp"),
        ("configs", "diagnostics"),
        ("configs", "wide"),
        ("configs", "wide_20news"),
        ("cell", "gru"),
        ("data", "torchtext"),
        *(("norm", norm) for norm in ("layer", "rms", "batch", "batch_pooled", "none")),
        *(("corpus", corpus) for corpus in CORPORA),
    }


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_base_states_what_holds_without_it() -> None:
    alone, base = (
        parse(fit_parser(TASKS["classification"]), arguments, None).as_dict()
        for arguments in ((), (f"--config={ROOT / 'base.yaml'}",))
    )
    for part in ("model", "data", "trainer", "run"):
        assert base[part] == alone[part]


def needs(overlay: str) -> Any:
    return pytest.param(overlay, marks=needs_torchtext) if "torchtext" in overlay else overlay


# test_distributed.py runs the one of several processes.
ALONE = [needs(overlay) for overlay in OVERLAYS if overlay != "ddp.yaml"]


@pytest.mark.parametrize("overlay", [None, *ALONE])
def test_trains_a_few_steps(
    overlay: str | None, corpus: Path, run_seqnorm: Callable[..., None]
) -> None:
    configs = [f"--config={ROOT / name}" for name in ("base.yaml", overlay) if name]
    if overlay and overlay.startswith("corpus"):
        stated = yaml.safe_load((ROOT / overlay).read_text())
        assert stated["data"]["corpus"] == Path(overlay).stem
    run_seqnorm(
        "fit",
        *configs,
        "--data.corpus",
        corpus,
        "--trainer.fast_dev_run=2",
        "--trainer.enable_progress_bar=false",
        "--trainer.enable_model_summary=false",
    )
