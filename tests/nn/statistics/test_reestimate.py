"""Population statistics are the moments of the whole pass, which changes nothing else."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import seqnorm
from seqnorm.nn.layers.cells import LAYERS

LENGTHS = [[5, 3, 2, 5], [4, 1, 6, 2], [6, 6, 0, 1]]


def batches() -> list[tuple[Tensor, list[int]]]:
    generator = torch.Generator().manual_seed(3)
    return [(torch.randn(6, 4, 3, generator=generator).double(), lengths) for lengths in LENGTHS]


def model() -> nn.LSTM | seqnorm.LSTM:
    torch.manual_seed(0)
    scheme = seqnorm.NormScheme(input=seqnorm.Norm("batch", gain=0.1, max_steps=6))
    return seqnorm.LSTM(3, 5, norm=scheme, dtype=torch.float64, zoneout=0.3)


def projections(lstm: seqnorm.LSTM, step: int) -> list[Tensor]:
    """Return W_ih x of the rows at the step in each batch, which its table must describe."""
    found = []
    for x, lengths in batches():
        rows = [row for row, length in enumerate(lengths) if length > step]
        found.append(x[step, rows] @ lstm.weight_ih_l0.T)
    return found


@pytest.mark.parametrize("estimate", ["population", "average"])
def test_tables_hold_what_the_pass_saw(estimate: str) -> None:
    lstm = model()
    lstm(batches()[0][0])  # something to forget
    before = {name: value.clone() for name, value in lstm.named_parameters()}
    seen = seqnorm.reestimate_statistics(
        lstm, batches(), lambda m, batch: m(batch[0], lengths=batch[1]), estimate=estimate
    )
    assert seen == 3
    table = lstm.norm_ih_l0.table
    for step in range(6):
        counted = [rows for rows in projections(lstm, step) if len(rows) >= 2]
        assert int(table.count[step]) == sum(len(rows) for rows in counted)
        if not counted:
            continue
        if estimate == "population":
            pooled = torch.cat(counted)
            mean, var = pooled.mean(0), pooled.var(0, correction=1)
        else:
            weights = torch.tensor([len(rows) for rows in counted], dtype=torch.float64)
            weights = (weights / weights.sum())[:, None]
            mean = (weights * torch.stack([rows.mean(0) for rows in counted])).sum(0)
            variances = torch.stack([rows.var(0, correction=1) for rows in counted])
            var = (weights * variances).sum(0)
        torch.testing.assert_close(table.running_mean[step], mean)
        torch.testing.assert_close(table.running_var[step], var)
    for name, value in lstm.named_parameters():
        assert torch.equal(value, before[name])
    assert lstm.training
    assert lstm.norm_ih_l0.training


@pytest.mark.parametrize("norm", ["batch", "batch_pooled"])
@pytest.mark.parametrize("kind", ["RNN", "LSTM", "SLSTM"])
def test_tables_before_and_after_the_recurrence(kind: str, norm: str) -> None:
    """Tables of the frame describe x and tables of the output h, over the whole pass."""
    site = seqnorm.Norm(norm, max_steps=6)
    options = {"dtype": torch.float64}
    layer = LAYERS[kind](3, 8, norm=seqnorm.NormScheme(output=site), **options)
    framed = LAYERS[kind](3, 8, norm=seqnorm.NormScheme(frame=site), **options)
    plain = LAYERS[kind](3, 8, norm=seqnorm.NormScheme(), **options)
    plain.load_state_dict({k: v for k, v in layer.state_dict().items() if "norm" not in k})
    for module in (layer, framed):
        module(3 + batches()[0][0])  # something to forget
        seqnorm.reestimate_statistics(
            module, batches(), lambda m, batch: m(batch[0], lengths=batch[1])
        )
    passes = [(x, lengths, plain(x, lengths=lengths)[0].detach()) for x, lengths in batches()]
    for table, part in ((framed.norm_frame_l0.table, 0), (layer.norm_output_l0.table, 2)):
        for step in range(len(table.count)):
            counted = []
            for found in passes:
                alive = [[b for b, n in enumerate(found[1]) if n > t] for t in range(6)]
                if norm == "batch_pooled":
                    counted += [found[part][t, alive[t]] for t in range(6)]
                elif len(alive[step]) >= 2:
                    counted.append(found[part][step, alive[step]])
            pooled = torch.cat(counted) if counted else torch.zeros(0, 1)
            assert int(table.count[step]) == len(pooled)
            if len(pooled):
                torch.testing.assert_close(table.running_mean[step], pooled.mean(0))
                torch.testing.assert_close(table.running_var[step], pooled.var(0))
    assert len(framed.norm_frame_l0.table.count) == (1 if norm == "batch_pooled" else 6)


def test_modes_and_momentum_come_back() -> None:
    lstm = model().eval()
    seqnorm.reestimate_statistics(lstm, [b[0] for b in batches()])
    assert not any(module.training for module in lstm.modules())
    table = lstm.norm_ih_l0.table
    before = table.running_mean[0].clone()
    mean = torch.full((6, 20), 7.0, dtype=torch.float64)
    table.update(mean, mean, torch.full((6,), 4))
    torch.testing.assert_close(table.running_mean[0], before + 0.25 * (7.0 - before))


def test_refusals_leave_the_tables_as_they_were() -> None:
    lstm = model()
    lstm(batches()[0][0])
    before = {name: value.clone() for name, value in lstm.state_dict().items()}
    with pytest.raises(ValueError, match="no batches"):
        seqnorm.reestimate_statistics(lstm, [])
    with pytest.raises(ValueError, match="did you mean 'population'"):
        seqnorm.reestimate_statistics(lstm, [], estimate="populations")

    def broken() -> object:
        yield batches()[1][0]
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="disk"):
        seqnorm.reestimate_statistics(lstm, broken())
    for name, value in lstm.state_dict().items():
        assert torch.equal(value, before[name])
    assert lstm.norm_ih_l0.table.momentum == 0.1
    with pytest.raises(ValueError, match="no running statistics"):
        seqnorm.reestimate_statistics(seqnorm.LSTM(3, 5, norm="layer"), batches())


def test_the_order_of_batches_has_no_influence() -> None:
    """Steps with too few rows use the earlier values of the tables, in every batch."""
    torch.manual_seed(0)
    lstm = seqnorm.LSTM(3, 4, 2, bidirectional=True, norm="batch", dtype=torch.float64)
    for x, lengths in batches():
        lstm(x, lengths=lengths)
    trained = {name: value.clone() for name, value in lstm.state_dict().items()}
    found = []
    for order in (1, -1):
        lstm.load_state_dict(trained)
        seqnorm.reestimate_statistics(
            lstm, batches()[::order], lambda m, batch: m(batch[0], lengths=batch[1])
        )
        found.append({name: value.clone() for name, value in lstm.named_buffers()})
    for name, value in found[0].items():
        torch.testing.assert_close(value, found[1][name], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("norm", ["batch", "batch_pooled"])
def test_batch_statistics_are_those_of_training_and_change_nothing(norm: str) -> None:
    """The result equals that of norms set to training by hand; tables and modes are unchanged."""
    torch.manual_seed(0)
    lstm = seqnorm.LSTM(3, 5, norm=norm, dtype=torch.float64, zoneout=0.3)
    (x, lengths), (other, _), _ = batches()
    lstm(other)  # steps with too few sequences read these statistics
    lstm.norm_ih_l0.train(False)
    before = {name: value.clone() for name, value in lstm.state_dict().items()}
    modes = {name: module.training for name, module in lstm.named_modules()}
    with seqnorm.nn.statistics.batch_statistics(lstm):
        found = [lstm(x, lengths=lengths)[0] for _ in range(2)]
    assert {name: module.training for name, module in lstm.named_modules()} == modes
    for name, value in lstm.state_dict().items():
        assert torch.equal(value, before[name]), name
    # Zoneout in inference is an expectation, so only the norms are set to training.
    lstm.eval()
    for name, module in lstm.named_children():
        module.train(name.startswith("norm"))
    expected, _ = lstm(x, lengths=lengths)
    for output in found:
        torch.testing.assert_close(output, expected, rtol=1e-12, atol=1e-12)
    lstm.eval()
    assert not torch.allclose(found[0], lstm(x, lengths=lengths)[0], atol=1e-3)


def test_batch_statistics_of_a_model_without_tables_are_inference() -> None:
    lstm = seqnorm.LSTM(3, 5, norm="layer", dtype=torch.float64, zoneout=0.3)
    (x, lengths), *_ = batches()
    with seqnorm.nn.statistics.batch_statistics(lstm):
        assert not lstm.training
        found, _ = lstm(x, lengths=lengths)
    assert lstm.training
    assert torch.equal(found, lstm.eval()(x, lengths=lengths)[0])


def test_an_error_within_batch_statistics_leaves_everything_as_it_was() -> None:
    lstm = model()
    with pytest.raises(KeyError), seqnorm.nn.statistics.batch_statistics(lstm):
        raise KeyError
    assert lstm.training
    lstm(batches()[0][0])
    assert lstm.norm_ih_l0.table.count[0] == 4


@pytest.mark.parametrize(
    "norm",
    [
        nn.BatchNorm2d,
        seqnorm.BatchNorm2d,
        seqnorm.BatchInstanceNorm2d,
        seqnorm.SwitchableNorm2d,
    ],
)
def test_batch_statistics_of_norms_that_keep_no_table(norm: Any) -> None:
    torch.manual_seed(0)
    untracked = norm(3, track_running_stats=False)
    net = nn.Sequential(nn.Conv2d(2, 3, 3), norm(3), nn.Dropout(0.9), nn.Conv2d(3, 3, 1), untracked)
    net(torch.randn(5, 2, 6, 6))
    before = {name: value.clone() for name, value in net.state_dict().items()}
    x = 3 + torch.randn(5, 2, 6, 6)
    expected = copy.deepcopy(net).train()
    expected[2].eval()
    net.eval()
    with seqnorm.nn.statistics.batch_statistics(net):
        found = net(x)
    torch.testing.assert_close(found, expected(x))
    assert not torch.allclose(found, net(x), atol=1e-3)
    assert not any(module.training for module in net.modules())
    assert [net[1].track_running_stats, untracked.track_running_stats] == [True, False]
    for name, value in net.state_dict().items():
        assert torch.equal(value, before[name]), name


class Net(nn.Module):
    """A convolution, a norm called twice, dropout, and a norm of features."""

    def __init__(self, norm: type[nn.Module], features: type[nn.Module]) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.conv = nn.Conv2d(2, 3, 3, padding=1)
        self.norm = norm(3)
        self.dropout = nn.Dropout(0.5)
        self.features = features(3)

    def forward(self, x: Tensor) -> Tensor:
        twice = self.norm(self.norm(self.conv(x)).relu())
        return self.features(self.dropout(twice).mean((2, 3)))  # type: ignore[no-any-return]


NORMS: list[tuple[Any, Any]] = [
    (nn.BatchNorm2d, nn.BatchNorm1d),
    (seqnorm.BatchNorm2d, seqnorm.BatchNorm1d),
    (seqnorm.BatchInstanceNorm2d, seqnorm.BatchNorm1d),
    (seqnorm.SwitchableNorm2d, seqnorm.BatchNorm1d),
]


@pytest.mark.parametrize("estimate", ["population", "average"])
@pytest.mark.parametrize("kinds", NORMS)
def test_norms_of_images_hold_what_the_pass_saw(kinds: tuple[Any, Any], estimate: str) -> None:
    network = Net(*kinds).double()
    batches = [torch.randn(n, 2, 4, 5).double() + n for n in (3, 5, 2)]
    network(batches[0])  # something to forget
    seen: list[Tensor] = []
    kept = network.features.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    network.train()
    assert seqnorm.reestimate_statistics(network, batches, estimate=estimate) == 3
    kept.remove()
    assert all(module.training for module in network.modules())
    norm = network.features
    assert norm.track_running_stats
    assert int(norm.num_batches_tracked) == 3
    assert int(network.norm.num_batches_tracked) == 6, "it is called twice a batch"
    if estimate == "population":
        mean, var = torch.cat(seen).mean(0), torch.cat(seen).var(0)
    else:
        weights = torch.tensor([3.0, 5.0, 2.0]).double()[:, None] / 10
        mean = (weights * torch.stack([x.mean(0) for x in seen])).sum(0)
        var = (weights * torch.stack([x.var(0) for x in seen])).sum(0)
    torch.testing.assert_close(norm.running_mean, mean)
    torch.testing.assert_close(norm.running_var, var)


@pytest.mark.parametrize("name", ["BatchNorm2d", "BatchInstanceNorm2d", "SwitchableNorm2d"])
def test_padding_of_images_enters_no_statistic(name: str) -> None:
    norm = getattr(seqnorm, name)(2, dtype=torch.float64)
    x = torch.randn(3, 2, 4, 4, dtype=torch.float64)
    mask = seqnorm.size_mask([[2, 3], [4, 4], [1, 2]], (4, 4))
    poisoned = torch.where(mask, x, torch.nan)
    for forward in (lambda m, b: m(b, mask), lambda m, b: m(b, mask=mask)):
        norm.reset_running_stats()
        seqnorm.reestimate_statistics(norm, [poisoned], forward)
        valid = x.movedim(1, -1)[mask[:, 0]]
        torch.testing.assert_close(norm.running_mean, valid.mean(0))
        torch.testing.assert_close(norm.running_var, valid.var(0))


def test_a_failed_pass_leaves_norms_of_images_as_they_were() -> None:
    network = Net(*NORMS[1])
    network(torch.randn(3, 2, 4, 5))
    network.eval()
    before = copy.deepcopy(network.state_dict())
    with pytest.raises(RuntimeError):
        seqnorm.reestimate_statistics(network, [torch.randn(3, 2, 4, 5), torch.randn(3, 9, 4, 5)])
    with pytest.raises(ValueError, match="no batches"):
        seqnorm.reestimate_statistics(network, [])
    after = network.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert not any(module.training for module in network.modules())
    assert network.norm.track_running_stats
    assert not network.norm._forward_pre_hooks


def test_a_norm_without_running_statistics_stays_without() -> None:
    network = nn.Sequential(nn.BatchNorm1d(3, track_running_stats=False), nn.BatchNorm1d(3))
    assert seqnorm.reestimate_statistics(network, [torch.randn(4, 3)]) == 1
    assert network[0].running_mean is None
    assert int(network[1].num_batches_tracked) == 1
    with pytest.raises(ValueError, match="no running statistics"):
        seqnorm.reestimate_statistics(network[:1], [torch.randn(4, 3)])
