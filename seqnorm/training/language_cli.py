"""The command line of language models."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import ClassVar

from lightning.pytorch.cli import LightningArgumentParser
from torch import Tensor

from .cli import TextCLI
from .files import write_atomically
from .language import LanguageModelling
from .language_data import LanguageData
from .language_prediction import predict
from .language_results import COLUMNS
from .language_run import LanguageRun


class LanguageCLI(TextCLI):
    """``train.py``, where the task is language."""

    model: LanguageModelling  # type: ignore[assignment]  # what kinds names, as in the base
    datamodule: LanguageData  # type: ignore[assignment]
    task = "language"
    kinds = (LanguageModelling, LanguageData, LanguageRun)
    description = """Language models with normalised recurrent layers: fit trains one and tests its
best epoch, validate and test evaluate a checkpoint, predict scores or continues lines of text."""
    help: ClassVar[dict[str, str]] = {
        "fit": "Train a language model, or go on with a run that was interrupted.",
        "validate": "Evaluate a checkpoint on the validation part.",
        "test": "Evaluate a checkpoint on the test part.",
    }
    columns = COLUMNS
    finished = "test.json"
    predict = staticmethod(predict)

    def link_classes(self, parser: LightningArgumentParser) -> None:
        parser.link_arguments("data.ends", "model.ends", apply_on="instantiate")

    @property
    def corpus(self) -> str:
        return self.datamodule.texts.name

    def result(self, found: Mapping[str, Tensor]) -> dict[str, object]:
        options = self.config["fit"]
        score = self.run.best.best_model_score  # None where nothing was validated
        return {
            "mode": options["data"]["mode"],
            "level": options["data"]["level"],
            "lr": options["model"]["lr"],
            "val_loss": f"{math.nan if score is None else float(score):.4f}",
            "test_perplexity": f"{found['perplexity'].item():.4f}",
            "test_bits_per_character": f"{found['bits_per_character'].item():.4f}",
        }

    def leave(self, found: Mapping[str, Tensor], tested: bool) -> None:
        if tested:
            values = {name: value.item() for name, value in found.items()}
            write_atomically(self.path / self.finished, json.dumps(values, indent=1) + "\n")

    def show(self, title: str, loss: float, found: Mapping[str, Tensor]) -> None:
        print(
            f"{title}: perplexity {found['perplexity']:.4f}, {found['bits_per_character']:.4f} "
            f"bits a character, loss {found['loss']:.4f} over {found['tokens']:,} tokens, "
            f"{found['characters']:,} characters"
        )
