"""Questions that one of two processes answers, a function for each; the tests judge the answers."""

from __future__ import annotations

import copy
import datetime
import time
import warnings
from typing import Any

import rank_cases
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

import seqnorm
from seqnorm.nn.statistics.moments import moments
from seqnorm.nn.statistics.processes import Processes, union

LENGTHS = [[5, 2, 7], [1, 4, 3]]


class Tagger(nn.Module):
    """An LSTM and a norm of padded sequences, as one model."""

    def __init__(self) -> None:
        super().__init__()
        options: Any = {"batch_first": True, "norm": "batch", "dtype": torch.float64}
        self.lstm = seqnorm.LSTM(rank_cases.C, 4, bidirectional=True, **options)
        self.norm = seqnorm.BatchNorm(8, max_steps=9, dtype=torch.float64, layout="NTC")
        rank_cases.redraw(self)

    def forward(self, x: Tensor, lengths: list[int]) -> Tensor:
        output, _ = self.lstm(x, lengths=lengths)
        out: Tensor = self.norm(output, lengths)
        return out


def sequences(*ranks: int) -> tuple[Tensor, list[int]]:
    """Return the batch of these processes, padded to its own longest sequence."""
    lengths = [length for rank in ranks for length in LENGTHS[rank]]
    rows = [3 * rank + k for rank in ranks for k in range(3)]
    x = rank_cases.drawn(6, 9, rank_cases.C, seed=1, dtype=torch.float64)
    return x[rows, : max(lengths)], lengths


def train(model: nn.Module, *ranks: int, steps: int = 3) -> dict[str, Tensor]:
    """Return the state after some steps of gradient descent on a loss averaged over sequences."""
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
    x, lengths = sequences(*ranks)
    for _ in range(steps):
        optimiser.zero_grad()
        (
            model(x, lengths).square().sum((1, 2)).mean() + model(x, lengths).sum() / len(x)
        ).backward()
        optimiser.step()
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def data_parallel(rank: int) -> dict[str, Any]:
    model = seqnorm.convert_sync_batchnorm(Tagger())
    state = train(DistributedDataParallel(model), rank)
    return {name.removeprefix("module."): value for name, value in state.items()}


def local(rank: int) -> dict[str, Any]:
    """Statistics without a conversion, and after it was undone."""
    undone = seqnorm.revert_sync_batchnorm(seqnorm.convert_sync_batchnorm(Tagger()))
    return {"never": train(Tagger(), rank), "undone": train(undone, rank)}


def group_of_one(rank: int) -> dict[str, Any]:
    """Statistics shared within a process group that holds this process alone."""
    groups = [dist.new_group([member]) for member in range(2)]
    model = seqnorm.convert_sync_batchnorm(Tagger(), groups[rank])
    return train(copy.deepcopy(model), rank)


def merged(rank: int) -> dict[str, Any]:
    """Moments of 1 and 4 rows, their gradients and a gradient of these."""
    x = rank_cases.drawn(5, 3, seed=5, dtype=torch.float64)[
        slice(0, 1) if rank == 0 else slice(1, 5)
    ]
    x.requires_grad_()
    found = union(moments(x, (0,)), Processes())
    loss = (found.mean.sin() * found.var.cos()).sum()
    (first,) = torch.autograd.grad(loss, x, create_graph=True)
    (second,) = torch.autograd.grad(first.sin().sum(), x)
    values = {"mean": found.mean, "var": found.var, "n": found.n, "first": first, "second": second}
    return {name: value.detach() for name, value in values.items()}


def constant(rank: int) -> dict[str, Any]:
    """Rows of a large constant, a different number of them in each process, in float32."""
    found = union(moments(torch.full((3 + 4 * rank, 2), 1.1e6), (0,)), Processes())
    return {"mean": found.mean, "var": found.var}


def one_value(rank: int) -> dict[str, Any]:
    """One position in all, and one position in each of the two processes."""
    norm = seqnorm.convert_sync_batchnorm(seqnorm.BatchNorm2d(3))
    said = ""
    try:
        norm(torch.randn(1 - rank, 3, 1, 1))
    except ValueError as error:
        said = str(error)
    return {"error": said, "y": norm(torch.full((1, 3, 1, 1), float(rank))).detach()}


def scarce(rank: int) -> dict[str, Any]:
    """Warnings of too few rows, which all processes together may have enough of."""
    found = []
    for rows in ((1, 1), (1, 0)):
        lstm = seqnorm.convert_sync_batchnorm(seqnorm.LSTM(2, 3, norm="batch"))
        norm = seqnorm.convert_sync_batchnorm(seqnorm.BatchNorm(2, max_steps=4, layout="NTC"))
        cell = seqnorm.convert_sync_batchnorm(seqnorm.GRUCell(2, 3, norm="batch"))
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            lstm(torch.randn(4, rows[rank], 2))
            norm(torch.randn(rows[rank], 4, 2))
            cell(torch.randn(rows[rank], 2), first_step=0)
        found.append([str(warning.message) for warning in caught])
    return {"warnings": found}


def backends(rank: int) -> dict[str, Any]:
    """The backend of a layer in training and in inference, and the reason of "cpu"."""
    lstm = seqnorm.convert_sync_batchnorm(seqnorm.LSTM(2, 3, norm="batch"))
    x = torch.randn(4, 3, 2)
    said = ""
    with seqnorm.use_backend("cpu"):
        try:
            lstm(x)
        except RuntimeError as error:
            said = str(error)
    lstm.eval()
    # In inference nothing is exchanged: one process may run what the others do not.
    return {"error": said, "inference": lstm(x)[0].detach() if rank == 0 else None}


def mixed(rank: int) -> dict[str, Any]:
    """Norms of one layer that share with different groups."""
    lstm = seqnorm.LSTM(2, 3, norm="batch")
    seqnorm.convert_sync_batchnorm(lstm)
    seqnorm.convert_sync_batchnorm(lstm.norm_hh_l0, dist.new_group([0, 1]))
    try:
        lstm(torch.randn(4, 3, 2))
    except ValueError as error:
        return {"error": str(error)}
    return {"error": ""}


def reestimated(rank: int) -> dict[str, Any]:
    """Population statistics and the average of batches, of all processes."""
    found = {}
    for estimate in ("population", "average"):
        model = nn.ModuleDict(
            {"tagger": Tagger(), "norm": seqnorm.BatchNorm1d(rank_cases.C).double()}
        )
        seqnorm.convert_sync_batchnorm(model)
        seqnorm.reestimate_statistics(
            model, [0, 1], lambda m, k: look(m, k, rank), estimate=estimate
        )
        found[estimate] = dict(model.named_buffers())
    return found


def look(model: nn.Module, batch: int, *ranks: int) -> None:
    """Both norms see a batch."""
    x, lengths = sequences(*ranks)
    x = x * (1 + batch)
    model["tagger"](x, lengths)  # type: ignore[index]
    model["norm"](
        x.transpose(1, 2),
        seqnorm.nn.statistics.masks.valid_mask(torch.tensor(lengths), x.shape[1]),
    )  # type: ignore[index]


def watched(rank: int) -> dict[str, Any]:
    """Arguments of a hook on a table."""
    norm = seqnorm.convert_sync_batchnorm(seqnorm.BatchNorm(3, max_steps=5, layout="NTC"))
    told = []
    norm.table.register_update_hook(
        lambda table, mean, var, rows, first: told.append(rows.tolist())
    )
    norm(torch.randn(3, 2 + rank, 3), [2 + rank, 1, 1])
    return {"rows": told}


def no_steps(rank: int) -> dict[str, Any]:
    """Sequences without a step in all processes, with nothing to normalise or remember."""
    norm = seqnorm.convert_sync_batchnorm(seqnorm.BatchNorm(3, max_steps=5, layout="NTC"))
    return {"shape": list(norm(torch.randn(2 + rank, 0, 3)).shape), "count": norm.table.count}


def stays_away(rank: int) -> dict[str, Any]:
    """The error of a process whose partner does not join an exchange, after the timeout."""
    group = dist.new_group([0, 1], timeout=datetime.timedelta(seconds=1))
    norm = seqnorm.convert_sync_batchnorm(seqnorm.BatchNorm(3, layout="NTC"), group)
    if rank == 1:
        time.sleep(3)
        return {"error": ""}
    try:
        norm(torch.randn(3, 2, 3))
    except RuntimeError as error:
        return {"error": str(error)}
    return {"error": ""}


QUESTIONS = [data_parallel, local, group_of_one, merged, constant, one_value, scarce, backends]
QUESTIONS += [mixed, reestimated, watched, no_steps]
QUESTIONS.append(stays_away)  # it comes last, for its group is lost


def everything(rank: int) -> dict[Any, Any]:
    """Return the cases, and the answers by the names of the questions."""
    answers: dict[Any, Any] = {**rank_cases.all_cases(rank)}
    for question in QUESTIONS:
        torch.manual_seed(0)
        answers[question.__name__] = question(rank)
    return answers
