"""Every shipped configuration of a language model is parsed and trains for a few steps."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[3] / "configs" / "language"
# The files that each benchmark needs.
FILES = {
    "ptb": ("ptb/ptb.train.txt", "ptb/ptb.valid.txt", "ptb/ptb.test.txt"),
    "wikitext2": tuple(f"wikitext-2/wiki.{part}.tokens" for part in ("train", "valid", "test")),
    "text8": ("text8/text8",),
}
NAMES = sorted(path.stem for path in ROOT.glob("*.yaml"))


def test_the_configurations() -> None:
    assert {*NAMES} == {*FILES, "mr_stream", "mr_stream_resets", "mr_documents", "r8_words"}


@pytest.mark.parametrize("name", NAMES)
def test_trains_a_few_steps(
    name: str, lines: Path, run_seqnorm: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    stated = yaml.safe_load((ROOT / f"{name}.yaml").read_text())
    assert stated["task"] == "language"
    assert name.startswith(stated["data"]["corpus"])
    # AdamW multiplies the decay by its rate: below a thousandth it has no effect.
    decay = stated["model"].get("weight_decay", 0.0)
    assert decay == 0.0 or decay >= 1e-3
    text = "".join((lines / f"{part}.txt").read_text() for part in ("train", "valid", "test"))
    for file in FILES.get(name, ()):
        path = Path("data") / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.replace("\n", " ") if name == "text8" else text)
    monkeypatch.setattr("seqnorm.datasets.language_texts._TEXT8_HELD_OUT", 200)
    run_seqnorm(
        "fit",
        f"--config={ROOT / name}.yaml",
        *(() if name in FILES else ("--data.corpus", lines)),
        "--data.batch_size=4",
        "--model.hidden_size=16",
        "--model.embedding_size=8",
        *(("--data.eval_batch_size=2",) if name == "text8" else ()),
        "--trainer.fast_dev_run=2",
        "--trainer.enable_progress_bar=false",
        "--trainer.enable_model_summary=false",
    )
