"""Measures of a network that is unrolled to another length for every batch.

Axes: T steps, F features of all norms of a layer, C classes.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seqnorm.datasets import BucketBatchSampler
from seqnorm.models import TextClassifier
from seqnorm.nn.statistics import RunningTable
from seqnorm.studies.texts import Part, logits, random_batches, with_statistics

# Enough documents that a late step of the whole training part has more than a few rows.
POPULATION_BATCH = 1024


def in_order(part: Part) -> BucketBatchSampler:
    """Return batches of all documents, those of one length together."""
    return BucketBatchSampler(part.lengths, batch_size=256, shuffle=False)


def right(model: TextClassifier, part: Part) -> Tensor:
    """Return (documents,) True for each one that is classified correctly in inference mode."""
    return logits(model, part, in_order(part)).argmax(-1) == torch.tensor(part.labels)


def share(flags: Tensor) -> float:
    """Return the share of flags that are true."""
    return float(flags.double().mean())


def accuracy(model: TextClassifier, part: Part) -> float:
    """Return the share of documents that are classified correctly in inference mode."""
    return share(right(model, part))


def accuracy_by_batch(model: TextClassifier, part: Part, size: int) -> float:
    """Compute the accuracy in random batches of ``size`` with the statistics of each batch."""
    answers = logits(model, part, random_batches(part, size), by_batch=True)
    return share(answers.argmax(-1) == torch.tensor(part.labels))


def tables_of(model: nn.Module) -> dict[str, RunningTable]:
    """Return the running tables of a model by site: ``norm_ih``, ``norm_hh``, ``norm_cell``."""
    return {
        name.split(".")[-2].removesuffix("_l0"): table
        for name, table in model.named_modules()
        if isinstance(table, RunningTable)
    }


def has_steps(model: nn.Module) -> bool:
    """Return True if the model has running statistics of more than one step."""
    return any(len(table.count) > 1 for table in tables_of(model).values())


def rows_alive(lengths: Sequence[int], size: int, seed: int) -> tuple[list[float], float]:
    """Count the rows that the statistics of a step rest on, in random batches of ``size``.

    Returns:
        (T,) rows at each step, the mean over all batches, and the share of all tokens that stand
        alone at their step, where no variance is defined.

    Raises:
        ValueError: there are fewer documents than ``size``.
    """
    if len(lengths) < size:
        raise ValueError(f"{len(lengths)} documents do not fill a batch of {size}: load more")
    order = list(lengths)
    random.Random(seed).shuffle(order)
    whole = [sorted(order[i : i + size]) for i in range(0, len(order) - size + 1, size)]
    alive = torch.zeros(max(order), dtype=torch.float64)
    alone = 0
    for batch in whole:
        for length in batch:
            alive[:length] += 1
        alone += batch[-1] - (batch[-2] if len(batch) > 1 else 0)
    return (alive / len(whole)).tolist(), alone / sum(map(sum, whole))


def population(model: TextClassifier, part: Part) -> TextClassifier:
    """Return a copy whose running tables hold the moments of all documents of ``part``."""
    return with_statistics(model, part, random_batches(part, POPULATION_BATCH))


@torch.no_grad()
def pooled(model: TextClassifier, part: Part) -> Tensor:
    """Compute the input (documents, features) of the model's head in inference mode."""
    model.eval()
    found = torch.zeros(len(part), model.head.in_features)
    for chosen in in_order(part):
        tokens, lengths, _, indices = part.batch(chosen)
        output, _ = model.recurrent(model.embedding(tokens), lengths=lengths)
        found[indices] = model.pooling(output, lengths)
    return found


def refitted(
    model: TextClassifier, part: Part, test: Part, *, bias_alone: bool, penalty: float = 1e-3
) -> float:
    """Compute the accuracy on ``test`` after fitting the head, or its bias alone, to ``part``.

    Everything below the head stays as it was, so the features still held whatever this recovers.
    The head is fitted by logistic regression on the mean cross-entropy plus ``penalty`` times its
    squared weights. Features are standardised by ``part`` first.
    """
    x, y = pooled(model, part), torch.tensor(part.labels)
    z = pooled(model, test)
    if bias_alone:
        with torch.no_grad():
            x, z = model.head(x), model.head(z)
        bias = torch.zeros(x.shape[1], requires_grad=True)
        _minimise([bias], lambda: F.cross_entropy(x + bias, y))
        scores = z + bias
    else:
        mean, std = x.mean(0), x.std(0) + 1e-6
        x, z = (x - mean) / std, (z - mean) / std
        head = nn.Linear(x.shape[1], model.head.out_features)
        nn.init.zeros_(head.weight)
        nn.init.zeros_(head.bias)
        _minimise(
            head.parameters(),
            lambda: F.cross_entropy(head(x), y) + penalty * head.weight.square().sum(),
        )
        scores = head(z)
    return share(scores.argmax(-1) == torch.tensor(test.labels))


def _minimise(parameters: Iterable[Tensor], loss: Callable[[], Tensor]) -> None:
    optimiser = torch.optim.LBFGS(parameters, max_iter=100, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimiser.zero_grad()
        value = loss()
        value.backward()
        return value

    optimiser.step(closure)


def variances(model: TextClassifier) -> tuple[Tensor, Tensor]:
    """Return (T, F) running variances of all norms side by side, and (T,) their numbers of rows."""
    tables = tables_of(model).values()
    rows = next(iter(tables)).count
    return torch.cat([table.running_var for table in tables], 1), rows


def relative_error(model: TextClassifier, true: TextClassifier) -> Tensor:
    """Compute (T,) the relative error of a step's variances, the median over units.

    It is NaN at steps for which one of the models has no statistics.
    """
    (found, rows), (right, known) = variances(model), variances(true)
    error = ((found - right).abs() / right.clamp(min=1e-12)).median(1).values
    return error.where((rows > 0) & (known > 0), torch.nan)


def error_of_batches(
    model: TextClassifier, true: TextClassifier, part: Part, size: int, count: int, seed: int
) -> Tensor:
    """Compute (T,) the relative error of the variances of a single batch of ``size``.

    It is the mean over those of ``count`` random batches that have two rows at the step, or NaN.
    """
    drawn = random.Random(seed)
    batches = [drawn.sample(range(len(part)), size) for _ in range(count)]
    errors = [relative_error(with_statistics(model, part, [batch]), true) for batch in batches]
    return torch.stack(errors).nanmean(0)


def slope(curve: Tensor) -> float:
    """Return the growth over 100 steps of the least-squares line through a curve (T,)."""
    steps = torch.arange(len(curve), dtype=torch.float64)
    kept = ~curve.isnan()
    x, y = steps[kept], curve[kept].double()
    x = x - x.mean()
    return (100 * (x @ y) / (x @ x)).item()


def shift(model: TextClassifier, trained: int) -> dict[str, tuple[float, float]]:
    """Compare the statistics of later steps with those of the last step in training.

    The model holds the statistics of the population. For each site, return two medians over the
    units and the steps from ``trained`` on: that of the distance of the means, in standard
    deviations of step ``trained - 1``, and that of the ratio of the standard deviations.
    """
    found = {}
    for site, table in tables_of(model).items():
        known = table.count[trained:] > 0
        std = table.running_var[trained - 1].sqrt()
        mean = table.running_mean
        distance = (mean[trained:] - mean[trained - 1])[known].abs() / std
        ratio = table.running_var[trained:][known].sqrt() / std
        found[site] = distance.median().item(), ratio.median().item()
    return found


def by_length(right: Tensor, lengths: Sequence[int], bounds: Sequence[int]) -> dict[str, float]:
    """Compute the share of right answers by length, as ``length_0``, ``length_1``, ...

    The classes are documents of at most ``bounds[0]`` tokens, of more but at most ``bounds[1]``,
    ..., and of more than the last. A class without documents is left out.
    """
    of = torch.tensor(lengths)
    edges = [0, *bounds, int(of.max()) + 1]
    found: dict[str, float] = {}
    for number, (low, high) in enumerate(zip(edges, edges[1:])):
        inside = right[(of > low) & (of <= high)]
        if len(inside):
            found[f"length_{number}"] = share(inside)
    return found
