"""The torchtext pipeline beside the default one on the same corpus, in an environment with both.

    python benchmarks/torchtext_pipeline.py --corpus r8 --epochs 3

It prints a table: the vocabulary; if all batches of an epoch equal those of the default pipeline,
bit for bit; tokens per second in learning the vocabulary and encoding the training part; tokens per
second and test accuracy of one training with the same seed.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Sequence
from itertools import zip_longest
from typing import Any

import torch
from lightning.pytorch import Trainer, seed_everything

from seqnorm.training import TextClassification, TextData

PIPELINES: dict[str, dict[str, Any]] = {
    "tokenizers": {},
    "torchtext, same tokens": {"pipeline": "torchtext"},
    "torchtext, basic_english": {"pipeline": "torchtext", "torchtext_tokens": "basic_english"},
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--corpus", default="r8")
    parser.add_argument("--root", default="data")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--hidden_size", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    warnings.filterwarnings("ignore", ".*does not have many workers")
    print(f"{options.corpus}, {options.epochs} epoch(s), torch {torch.__version__}")
    print(
        "| pipeline | vocabulary | same batches | encoding, tokens/s | training, tokens/s "
        "| test accuracy |"
    )
    print("|---|---|---|---|---|---|")
    default: TextData | None = None
    for name, chosen in PIPELINES.items():
        data = TextData(options.corpus, root=options.root, seed=options.seed, **chosen)
        _ = data.corpus  # fetched and read before the timing
        start = time.perf_counter()
        data.setup("fit")
        encoding = _tokens(data) / (time.perf_counter() - start)
        default = default or data
        same = "yes" if equal_batches(default, data) else "no"
        accuracy, seconds = trained(data, options.epochs, options.hidden_size, options.seed)
        training = options.epochs * _tokens(data) / seconds
        print(
            f"| {name} | {len(data.tokenizer)} | {same} | {encoding:,.0f} | {training:,.0f} | "
            f"{accuracy:.4f} |",
            flush=True,
        )


def _tokens(data: TextData) -> int:
    return sum(map(len, data.training_tokens))


def equal_batches(one: TextData, other: TextData) -> bool:
    """Return True if every batch of the first epoch holds the same numbers in both."""
    pairs = zip_longest(one.train_dataloader(), other.train_dataloader())
    return all(
        a is not None and b is not None and all(torch.equal(x, y) for x, y in zip(a, b))
        for a, b in pairs
    )


def trained(data: TextData, epochs: int, hidden_size: int, seed: int) -> tuple[float, float]:
    """Train, and return the test accuracy and the seconds of training."""
    seed_everything(seed, verbose=False)
    model = TextClassification(
        data.tokenizer_json, data.classes, hidden_size=hidden_size, norm="layer"
    )
    trainer = Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        limit_val_batches=0,
    )
    start = time.perf_counter()
    trainer.fit(model, datamodule=data)
    seconds = time.perf_counter() - start
    (values,) = trainer.test(model, datamodule=data, verbose=False)
    return values["test_accuracy"], seconds


if __name__ == "__main__":
    main()
