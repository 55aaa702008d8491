"""The command line of language models."""

from __future__ import annotations

import json
import shlex
from typing import ClassVar

from lightning.pytorch.cli import LightningArgumentParser
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

from .checkpoint import load_checkpoint, trust
from .cli import TextCLI
from .files import write_atomically
from .language import LanguageModelling
from .language_data import LanguageData
from .language_prediction import predict
from .language_results import COLUMNS
from .language_run import LanguageRun
from .restoring import load_weights
from .results import append_once, commit


class LanguageCLI(TextCLI):
    """``train.py``, where the task is language. What stands in a run's test.json was tested."""

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
    predict = staticmethod(predict)

    def link_classes(self, parser: LightningArgumentParser) -> None:
        parser.link_arguments("data.ends", "model.ends", apply_on="instantiate")

    def after_fit(self) -> None:
        """Tests the best epoch, and writes down what came out."""
        if self.config_init["fit"]["trainer"]["fast_dev_run"]:
            return
        stage = "test" if self.datamodule.has_test else "val"
        if stage == "val":
            rank_zero_info("There is no test part: this is how the best epoch is in validation.")
            # What averages weights and logs would take this for one more validation of training.
            self.trainer.callbacks = []  # type: ignore[attr-defined]
            self.trainer.loggers = []
        trust(self.run.best.best_model_path)
        self._evaluate(stage, self.run.best.best_model_path)
        if not self.trainer.is_global_zero:
            return
        values = {name: value.item() for name, value in self.model.metric(stage).compute().items()}
        written = self.path / "test.json"
        if stage == "test" and self.run.results is not None:
            if written.exists():
                rank_zero_info("The run had finished before: run.results gets no second row.")
            else:
                row, marker = self._language_result(values), self.path / "result.csv"
                append_once(self.run.results, row, marker, COLUMNS)
        if stage == "test":
            write_atomically(written, json.dumps(values, indent=1) + "\n")
        rank_zero_info(f"The run is in {self.path}")

    def _language_result(self, values: dict[str, float]) -> dict[str, object]:
        options = self.config["fit"]
        model, data = options["model"], options["data"]
        assert self.run.best.best_model_score is not None
        return {
            "corpus": self.datamodule.texts.name,
            "mode": data["mode"],
            "level": data["level"],
            "cell": model["cell"],
            "norm": model["norm"] or "none",
            "lr": model["lr"],
            "seed": options["seed_everything"],
            "val_loss": f"{float(self.run.best.best_model_score):.4f}",
            "test_perplexity": f"{values['perplexity']:.4f}",
            "test_bits_per_character": f"{values['bits_per_character']:.4f}",
            "epochs": self.trainer.current_epoch,
            "seconds": f"{self.run.timer.time_elapsed():.1f}",
            "config": shlex.join(self.arguments[1:]),
            "commit": commit(),
        }

    def _evaluate(self, stage: str, checkpoint: str) -> Tensor:
        """Prints and returns the loss of the weights in ``checkpoint``, in nats a token."""
        # Not by the trainer: its callback for averaged weights would replace the average that the
        # checkpoint holds by the weights of the last step.
        load_weights(self.model, load_checkpoint(checkpoint)["state_dict"], checkpoint)
        evaluate = self.trainer.test if stage == "test" else self.trainer.validate
        evaluate(self.model, datamodule=self.datamodule, verbose=False)
        values = self.model.metric(stage).compute()
        if self.trainer.is_global_zero:
            part = "test" if stage == "test" else "validation"
            print(
                f"{self.datamodule.texts.name} {part}: perplexity {values['perplexity']:.4f}, "
                f"{values['bits_per_character']:.4f} bits a character, loss {values['loss']:.4f} "
                f"over {values['tokens']:,} tokens, {values['characters']:,} characters"
            )
        return values["loss"]
