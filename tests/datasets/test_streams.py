"""Streams and documents: every token is predicted once, from the token before it."""

from __future__ import annotations

import math

import pytest
import torch

from seqnorm.datasets import LanguageBatch, StreamWindows, collate_documents

BEFORE = 99


def windows(n: int, rows: int, window: int, **processes: int) -> StreamWindows:
    return StreamWindows(torch.arange(n, dtype=torch.int32), rows, window, BEFORE, **processes)


SIZES = [(23, 4, 3), (24, 4, 3), (25, 4, 3), (7, 7, 2), (8, 7, 1), (12, 3, 100)]


@pytest.mark.parametrize(
    ("n", "rows", "window", "processes"),
    [(*size, processes) for size in SIZES for processes in (1, 3)] + [(23, 1, 5, 1), (1, 1, 1, 1)],
)
def test_every_token_is_a_target_once_and_rows_go_on(
    n: int, rows: int, window: int, processes: int
) -> None:
    found: dict[int, list[int]] = {}
    for rank in range(processes):
        data = windows(n, rows, window, num_replicas=processes, rank=rank)
        assert len(data) == math.ceil(math.ceil(n / rows) / window)  # equal in all of them
        for place in range(len(data)):
            batch = data[place]
            assert isinstance(batch, LanguageBatch)
            assert batch.starts == (place == 0)
            assert batch.tokens.shape == batch.targets.shape
            assert batch.tokens.shape[1] == max(1, *batch.lengths.tolist()) <= window
            assert batch.indices.tolist() == list(range(rank, rows, processes))
            for row, length in enumerate(batch.lengths.tolist()):
                text = found.setdefault(int(batch.indices[row]), [])
                inputs = batch.tokens[row, :length].tolist()
                targets = batch.targets[row, :length].tolist()
                assert inputs == [token - 1 if token else BEFORE for token in targets]
                text += targets
    assert sorted(found) == list(range(rows))
    assert [token for row in sorted(found) for token in found[row]] == list(range(n))
    lengths = [len(row) for row in found.values()]
    assert max(lengths) - min(lengths) <= 1


def test_by_hand() -> None:
    first, last = windows(5, 2, 2)[0], windows(5, 2, 2)[1]
    assert first.tokens.tolist() == [[BEFORE, 0], [2, 3]]
    assert first.targets.tolist() == [[0, 1], [3, 4]]
    assert last.tokens.tolist() == [[1], [0]]
    assert last.targets[0].tolist() == [2]
    assert last.lengths.tolist() == [1, 0]
    with pytest.raises(IndexError, match="window 2 of 2"):
        windows(5, 2, 2)[2]


@pytest.mark.parametrize(
    ("arguments", "processes", "message"),
    [
        ((5, 2, 0), {}, "a window needs at least 1 token, got 0"),
        ((5, 1, 2), {"num_replicas": 2, "rank": 0}, "1 row.* cannot be divided among 2 processes"),
        ((5, 4, 2), {"num_replicas": 2, "rank": 2}, "rank must lie in"),
        ((3, 4, 2), {}, "3 tokens do not suffice for 4 rows"),
        ((0, 1, 2), {}, "0 tokens do not suffice for 1 rows"),
    ],
)
def test_what_is_refused(
    arguments: tuple[int, int, int], processes: dict[str, int], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        windows(*arguments, **processes)


def test_documents() -> None:
    batch = collate_documents([([2, 7, 8, 2], -1, 4), ([2, 2], -1, 0), ([2], -1, 5), ([], -1, 1)])
    assert batch.tokens.tolist() == [[2, 7, 8], [2, 0, 0], [0, 0, 0], [0, 0, 0]]
    assert batch.targets.tolist() == [[7, 8, 2], [2, 0, 0], [0, 0, 0], [0, 0, 0]]
    assert batch.lengths.tolist() == [3, 1, 0, 0]
    assert batch.indices.tolist() == [4, 0, 5, 1]
    assert batch.starts
    assert collate_documents([([2], -1, 0)], pad_id=6).tokens.tolist() == [[6]]
    with pytest.raises(ValueError, match="at least one document"):
        collate_documents([])


def test_documents_begin_after_the_token_that_ends_one() -> None:
    stream = torch.tensor([5, 6, 9, 7, 9, 9, 8], dtype=torch.int32)
    data = StreamWindows(stream, 2, 3, 9, reset_at=9)
    found = [
        (batch.tokens.tolist(), batch.resets.tolist()) for batch in data if batch.resets is not None
    ]
    assert found == [
        ([[9, 5, 6], [7, 9, 9]], [[True, False, False], [False, True, True]]),
        ([[9], [0]], [[True], [False]]),
    ]
    assert StreamWindows(stream, 2, 3, 9)[0].resets is None
