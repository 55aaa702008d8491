from __future__ import annotations

import math
import random
from collections import Counter
from typing import Any

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader
from zipped import zipped

from seqnorm.datasets import BucketBatchSampler, TextBatch, TextDataset, collate
from seqnorm.models import cooccurrence_embedding


def document_lengths(count: int = 2000, seed: int = 0) -> list[int]:
    """Return lengths distributed like those of R8 cut at 200 tokens."""
    generator = random.Random(seed)
    return [min(200, int(generator.lognormvariate(4.2, 0.95)) + 5) for _ in range(count)]


def ranks(lengths: list[int], replicas: int, **options: Any) -> list[BucketBatchSampler]:
    return [
        BucketBatchSampler(lengths, num_replicas=replicas, rank=rank, **options)
        for rank in range(replicas)
    ]


class TestCollate:
    def test_pads_to_the_longest(self) -> None:
        batch = collate([([5, 6, 7], 1, 10), ([], -1, 11), ([8], 0, 12)], pad_id=9)
        assert batch.tokens.tolist() == [[5, 6, 7], [9, 9, 9], [8, 9, 9]]
        assert batch.lengths.tolist() == [3, 0, 1]
        assert batch.labels.tolist() == [1, -1, 0]
        assert batch.indices.tolist() == [10, 11, 12]
        assert {tensor.dtype for tensor in batch} == {torch.int64}

    def test_all_empty_documents_take_one_step(self) -> None:
        batch = collate([([], 0, 0), ([], 1, 1)], pad_id=3)
        assert batch.tokens.tolist() == [[3], [3]]
        assert batch.lengths.tolist() == [0, 0]

    def test_no_document(self) -> None:
        with pytest.raises(ValueError, match="at least one document"):
            collate([])


class TestTextDataset:
    def test_items_and_lengths(self) -> None:
        dataset = TextDataset([[4, 5], []], [1, 0])
        assert [dataset[index] for index in range(len(dataset))] == [([4, 5], 1, 0), ([], 0, 1)]
        assert dataset.lengths == [2, 0]
        assert TextDataset([[4]])[0] == ([4], -1, 0)

    def test_labels_must_be_as_many(self) -> None:
        with pytest.raises(ValueError, match="1 documents but 2 labels"):
            TextDataset([[4]], [0, 1])


def batches_needed(documents: int, batch_size: int, replicas: int) -> int:
    return math.ceil(documents / (batch_size * replicas)) * replicas


@settings(deadline=None)
@given(
    lengths=st.lists(st.integers(0, 60), min_size=1, max_size=80),
    batch_size=st.none() | st.integers(1, 12),
    spare_tokens=st.none() | st.integers(0, 200),
    replicas=st.integers(1, 4),
    shuffle=st.booleans(),
    noise=st.sampled_from([0.0, 0.05, 0.7, math.inf]),
    seed=st.integers(0, 3),
    epoch=st.integers(0, 3),
)
def test_every_document_once_under_the_caps(
    lengths: list[int],
    batch_size: int | None,
    spare_tokens: int | None,
    replicas: int,
    shuffle: bool,
    noise: float,
    seed: int,
    epoch: int,
) -> None:
    cells = [max(1, length) for length in lengths]
    max_tokens = None if spare_tokens is None else max(cells) + spare_tokens
    if batch_size is None and max_tokens is None:
        batch_size = 5
    options: dict[str, Any] = {
        "batch_size": batch_size,
        "max_tokens": max_tokens,
        "shuffle": shuffle,
        "noise": noise,
        "seed": seed,
    }
    if max_tokens is None and batches_needed(len(lengths), batch_size or 1, replicas) > len(
        lengths
    ):
        with pytest.raises(ValueError, match="same number of batches"):
            ranks(lengths, replicas, **options)
        return
    if max_tokens is not None and replicas > 1:
        # Batches cut by tokens can be split further only down to single documents.
        assume(len(lengths) % replicas == 0)
    samplers = ranks(lengths, replicas, **options)
    for sampler in samplers:
        sampler.set_epoch(epoch)
    per_rank = [list(sampler) for sampler in samplers]
    assert {len(batches) for batches in per_rank} == {len(samplers[0])}
    batches = [batch for batches in per_rank for batch in batches]
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    for batch in batches:
        assert batch
        assert batch_size is None or len(batch) <= batch_size
        longest = max(cells[index] for index in batch)
        assert max_tokens is None or len(batch) * longest <= max_tokens
    if max_tokens is None:
        sizes = [len(batch) for batch in batches]
        assert max(sizes) - min(sizes) <= 1
    padded = sum(len(batch) * max(cells[index] for index in batch) for batch in batches)
    assert {sampler.padding_waste() for sampler in samplers} == {1 - sum(lengths) / padded}


@pytest.mark.parametrize("caps", [{"batch_size": 16}, {"max_tokens": 2000}])
def test_order_depends_on_seed_and_epoch_alone(caps: dict[str, Any]) -> None:
    lengths = document_lengths()

    def order(seed: int, epoch: int) -> list[list[int]]:
        sampler = BucketBatchSampler(lengths, seed=seed, **caps)
        sampler.set_epoch(epoch)
        return list(sampler)

    state = torch.get_rng_state()
    orders = {(seed, epoch): order(seed, epoch) for seed in (0, 1) for epoch in (0, 1)}
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(5)
    assert all(order(*key) == value for key, value in orders.items())
    together = {key: {frozenset(batch) for batch in value} for key, value in orders.items()}
    assert len({frozenset(batches) for batches in together.values()}) == 4
    # The members of the batches differ, not only their order.
    assert len(together[0, 0] & together[0, 1]) < 0.1 * len(together[0, 0])


@pytest.mark.parametrize("caps", [{"batch_size": 16}, {"max_tokens": 2000}])
def test_number_and_sizes_of_batches_are_those_of_every_epoch(caps: dict[str, Any]) -> None:
    sampler = BucketBatchSampler(document_lengths(), num_replicas=3, **caps)
    sizes = []
    for epoch in range(4):
        sampler.set_epoch(epoch)
        sizes.append(Counter(len(batch) for batch in sampler._epoch_batches()))
        assert len(list(sampler)) == len(sampler)
    assert all(later == sizes[0] for later in sizes)


def test_default_wastes_little_and_still_mixes() -> None:
    lengths = document_lengths(5500)
    default = BucketBatchSampler(lengths, batch_size=64)
    assert default.padding_waste() < 0.05
    assert BucketBatchSampler(lengths, batch_size=64, noise=math.inf).padding_waste() > 0.4
    in_order = BucketBatchSampler(lengths, batch_size=64, shuffle=False)
    assert in_order.padding_waste() < default.padding_waste()
    longest = [max(lengths[index] for index in batch) for batch in default]
    assert longest != sorted(longest)


def test_without_shuffle_batches_are_sorted_and_stay() -> None:
    sampler = BucketBatchSampler([3, 1, 2, 4, 5], batch_size=2, shuffle=False)
    before = list(sampler)
    assert before == [[1], [2, 0], [3, 4]]
    sampler.set_epoch(1)
    assert list(sampler) == before


def test_drop_last_fills_every_batch_and_drops_others_each_epoch() -> None:
    lengths = document_lengths(107)
    samplers = ranks(lengths, 2, batch_size=8, drop_last=True)
    left_out = []
    for epoch in range(5):
        batches = []
        for sampler in samplers:
            sampler.set_epoch(epoch)
            batches += list(sampler)
        assert [len(batch) for batch in batches] == [8] * 12
        left_out.append(set(range(107)) - {index for batch in batches for index in batch})
        assert len(left_out[-1]) == 107 - 96
    assert len({frozenset(indices) for indices in left_out}) == 5


def test_processes_work_on_neighbouring_lengths() -> None:
    lengths = document_lengths()
    steps = zipped(*ranks(lengths, 4, batch_size=8))
    spreads = []
    for step in steps:
        longest = [max(lengths[index] for index in batch) for batch in step]
        spreads.append(max(longest) / min(longest))
    assert sum(spreads) / len(spreads) < 1.2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "give batch_size, max_tokens or both"),
        ({"batch_size": 0}, "batch_size must be at least 1, not 0"),
        ({"max_tokens": -1}, "max_tokens must be at least 1, not -1"),
        ({"batch_size": 1, "num_replicas": 2, "rank": 2}, "rank must lie in"),
        ({"batch_size": 1, "rank": -1}, "rank must lie in"),
        ({"batch_size": 1, "noise": -0.1}, "noise must be at least 0"),
        ({"batch_size": 1, "noise": math.nan}, "noise must be at least 0"),
        ({"max_tokens": 9, "drop_last": True}, "drop_last needs batch_size alone"),
        ({"max_tokens": 8}, "document 2 has 9 tokens, more than max_tokens=8"),
        (
            {"batch_size": 1, "num_replicas": 4},
            "3 documents cannot be divided into the same number",
        ),
        (
            {"batch_size": 4, "drop_last": True},
            "3 documents cannot be divided into the same number",
        ),
        (
            {"max_tokens": 9, "noise": 0.0, "num_replicas": 2},
            "3 documents cannot be divided into the same",
        ),
    ],
)
def test_bad_arguments(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BucketBatchSampler([8, 7, 9], **options)


@pytest.mark.parametrize("lengths", [[], [3, -1]])
def test_bad_lengths(lengths: list[int]) -> None:
    with pytest.raises(ValueError, match="at least one number, and no number below 0"):
        BucketBatchSampler(lengths, batch_size=1)


@pytest.mark.parametrize("workers", [0, 2])
def test_through_a_data_loader(workers: int) -> None:
    dataset = TextDataset([list(range(2, 2 + length)) for length in range(30)], [0, 1] * 15)
    loader: DataLoader[Any] = DataLoader(
        dataset,
        batch_sampler=BucketBatchSampler(dataset.lengths, batch_size=4),
        collate_fn=collate,
        num_workers=workers,
    )
    seen = []
    for batch in loader:
        assert isinstance(batch, TextBatch)
        assert batch.tokens.shape == (len(batch.labels), max(1, int(batch.lengths.max())))
        assert torch.equal((batch.tokens != 0).sum(1), batch.lengths)
        assert torch.equal(batch.labels, batch.indices % 2)
        seen += batch.indices.tolist()
    assert sorted(seen) == list(range(30))


def test_lightning_finds_set_epoch() -> None:
    utilities = pytest.importorskip("lightning.fabric.utilities.data")
    sampler = BucketBatchSampler(document_lengths(200), batch_size=8)
    first = list(sampler)
    loader: DataLoader[Any] = DataLoader(TextDataset([[2]] * 200), batch_sampler=sampler)
    utilities._set_sampler_epoch(loader, 1)
    assert list(sampler) != first


def test_the_default_device_is_not_that_of_batches() -> None:
    """A program sets the default device for its own tensors; generators draw on the CPU."""
    documents = [[1, 2], [3], [4, 5, 6], [1, 1], [2, 2, 2, 2]]
    sampler = BucketBatchSampler([len(tokens) for tokens in documents], batch_size=2, seed=3)
    found = []
    for device in ("cpu", "meta"):
        with torch.device(device):
            batches = [list(batch) for batch in sampler]
            collated = collate([(documents[i], 0, i) for i in batches[0]])
            vectors = cooccurrence_embedding(documents, 7, 2)
        assert all(part.device.type == "cpu" for part in collated)
        found.append((batches, collated.tokens.tolist(), vectors.tolist()))
    assert found[0] == found[1]
