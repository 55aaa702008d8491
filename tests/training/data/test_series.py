"""SeriesData: its parts, its division among processes, and statistics of valid steps alone."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer
from small_series import arrays, make, write_long
from zipped import zipped

from seqnorm.datasets import BucketBatchSampler
from seqnorm.training import (
    NormStatistics,
    SeriesClassification,
    SeriesData,
    SeriesRegression,
    SeriesTargetData,
)

COLUMNS = ["x", "y"]


@pytest.fixture
def file(tmp_path: Path) -> str:
    write_long(tmp_path / "a.csv", make(60))
    return str(tmp_path / "a.csv")


def trainer(*callbacks: NormStatistics) -> Trainer:
    return Trainer(
        max_epochs=1,
        accelerator="cpu",
        logger=False,
        callbacks=list(callbacks),
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
    )


def test_batches_hold_scaled_series_and_their_labels(file: str) -> None:
    data = SeriesData(file, feature_columns=COLUMNS, batch_size=8)
    data.setup("fit")
    train = data._series["train"]
    assert data.classes == ("down", "up")
    seen = []
    for batch in data.train_dataloader():
        for row, place in enumerate(batch.indices.tolist()):
            length = int(batch.lengths[row])
            scaled = data.features.apply(train.values[place]).float()
            assert torch.equal(batch.values[row, :length], scaled)
            assert not batch.values[row, length:].any()
            assert data.classes[batch.labels[row]] == train.labels[place]
        seen += batch.indices.tolist()
    assert sorted(seen) == list(range(54))
    valid = torch.cat([data.features.apply(each) for each in train.values])
    assert valid.mean(0).abs().max() < 1e-10
    assert (valid.std(0, correction=0) - 1).abs().max() < 1e-10


def test_a_folder_with_the_name_of_a_corpus_is_not_that_corpus(
    file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("japanese_vowels").mkdir()
    assert not SeriesData("japanese_vowels").is_own
    assert SeriesData("./japanese_vowels").is_own
    assert SeriesData(file).is_own


def test_targets(file: str) -> None:
    columns = ["steps", "slope"]
    data = SeriesTargetData(file, feature_columns=COLUMNS, target_columns=columns)
    data.setup("fit")
    assert data.targets.names == ("steps", "slope")
    expected = torch.tensor(data._series["train"].targets, dtype=torch.float64)
    for batch in data.train_dataloader():
        found = data.targets.undo(batch.targets.double())
        assert (found - expected[batch.indices]).abs().max() < 1e-5


def test_processes_divide_the_series(file: str) -> None:
    seen: list[int] = []
    for rank in (0, 1):
        data = SeriesData(file, feature_columns=COLUMNS, batch_size=8)
        data.setup("fit")
        data.trainer = SimpleNamespace(world_size=2, global_rank=rank)  # type: ignore[assignment]
        seen += [index for batch in data.train_dataloader() for index in batch.indices.tolist()]
    assert sorted(seen) == list(range(54))


def test_parts_of_ones_own(tmp_path: Path) -> None:
    whole = {f"train_{name}": array for name, array in arrays(make(20), "padded").items()}
    whole |= {f"dev_{name}": array for name, array in arrays(make(5, 1), "offsets").items()}
    np.savez(tmp_path / "a.npz", **whole)
    data = SeriesData(str(tmp_path / "a.npz"))
    assert (len(data._series["train"].ids), len(data._series["validation"].ids)) == (20, 5)
    assert not data.has_test
    with pytest.raises(ValueError, match=r"has no test part: set test_fraction before training"):
        data.setup("test")
    with pytest.raises(ValueError, match="has series to fit, validate and test with, and none to"):
        data.setup("predict")


@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")
@pytest.mark.filterwarnings("ignore:.*does not have many workers")
def test_statistics_rest_on_the_series_that_still_run(file: str) -> None:
    """NormStatistics counts, at every step of a batch, the series that have the step."""
    data = SeriesData(file, feature_columns=COLUMNS, batch_size=20, seed=3)
    model = SeriesClassification(data.features_json, data.classes, hidden_size=4, norm="batch")
    watch = NormStatistics(
        every_n_steps=1, min_rows=0, max_drift=1e9, picture=False, tolerated=0.99
    )
    run = trainer(watch)
    run.fit(model, datamodule=data)
    lengths = data._series["train"].lengths
    sampler = BucketBatchSampler(lengths, batch_size=20, seed=3)
    rows = [
        sum(lengths[place] > step for place in batch)
        for batch in sampler
        for step in range(max(lengths[place] for place in batch))
    ]
    for direction in ("", "_reverse"):
        name = f"norm/network.recurrent.norm_hh_l0{direction}"
        assert run.callback_metrics[f"{name}/rows_min"] == min(rows)
        assert run.callback_metrics[f"{name}/rows_mean"] == pytest.approx(sum(rows) / len(rows))


@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")
@pytest.mark.filterwarnings("ignore:.*does not have many workers")
def test_a_checkpoint_of_a_trainer_of_ones_own(file: str, tmp_path: Path) -> None:
    columns = ["slope"]
    data = SeriesTargetData(file, feature_columns=COLUMNS, target_columns=columns)
    model = SeriesRegression(data.features_json, data.targets_json, hidden_size=4)
    run = trainer()
    run.fit(model, datamodule=data)
    run.save_checkpoint(tmp_path / "own.ckpt")
    stored = torch.load(tmp_path / "own.ckpt", weights_only=True)
    assert set(stored["SeriesTargetData"]["parts"]) == {"train", "validation"}
    assert stored["datamodule_hyper_parameters"]["feature_columns"] == COLUMNS
    again = SeriesRegression.load_from_checkpoint(tmp_path / "own.ckpt")
    assert (again.features, again.targets) == (data.features, data.targets)
    for one, two in zipped(again.parameters(), model.parameters()):
        assert torch.equal(one, two)
