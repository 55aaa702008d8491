"""Training of a network whose parameters are divided among processes, beside that of one process.

Axes: T steps, B sequences.
"""

from __future__ import annotations

import copy
import warnings
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

import seqnorm

NORMS = (None, "layer", "batch")
T, B = 5, 16
F64 = torch.float64


class Tagger(nn.Module):
    def __init__(self, norm: str | None) -> None:
        super().__init__()
        options: Any = {"num_layers": 2, "bidirectional": True, "learn_initial_state": True}
        self.lstm = seqnorm.LSTM(3, 4, norm=norm, dtype=F64, **options)
        self.head = nn.Linear(8, 2, dtype=F64)

    def forward(self, x: Tensor, resets: Tensor) -> Tensor:
        out: Tensor = self.head(self.lstm(x, resets=resets)[0])
        return out


def batch(seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(T, B, 3, generator=generator, dtype=F64)
    return x, torch.rand(T, B, generator=generator) < 0.3


def drawn(norm: str | None) -> Tagger:
    torch.manual_seed(0)
    network = Tagger(norm)
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.5)
    return network


def train(network: nn.Module, chosen: slice) -> None:
    optimiser = torch.optim.SGD(network.parameters(), lr=0.1)
    for seed in range(3):
        x, resets = batch(seed)
        optimiser.zero_grad()
        network(x[:, chosen], resets[:, chosen]).square().mean().backward()
        optimiser.step()


def whole(state: dict[str, Any]) -> dict[str, Tensor]:
    """Return tensors that are not divided."""
    return {
        name: (value.full_tensor() if hasattr(value, "full_tensor") else value).detach().clone()
        for name, value in state.items()
    }


def shard(network: Tagger) -> Tagger:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    for module in (network.lstm, network.head, network):
        fully_shard(module, mesh=mesh)
    return network


def work(rank: int) -> dict[str | None, dict[str, dict[str, Tensor]]]:
    """Return, for each norm, the states after training and after a checkpoint was read."""
    from torch.distributed import checkpoint
    from torch.distributed.checkpoint.state_dict import get_model_state_dict, set_model_state_dict

    # It warns of outputs that are views, those of nn.Linear too.
    warnings.filterwarnings("ignore", "FSDP2-wrapped module")
    found: dict[str | None, dict[str, dict[str, Tensor]]] = {}
    with TemporaryDirectory() as folder:
        folders: list[Any] = [folder]
        dist.broadcast_object_list(folders)
        for norm in NORMS:
            network = seqnorm.convert_sync_batchnorm(drawn(norm))
            train(shard(network), slice(rank * B // 2, (rank + 1) * B // 2))
            path = Path(folders[0]) / str(norm)
            checkpoint.save({"model": get_model_state_dict(network)}, checkpoint_id=path)
            other = shard(seqnorm.convert_sync_batchnorm(Tagger(norm)))
            state = get_model_state_dict(other)
            checkpoint.load({"model": state}, checkpoint_id=path)
            set_model_state_dict(other, state)
            found[norm] = {
                "trained": whole(network.state_dict()),
                "read": whole(other.state_dict()),
            }
        dist.barrier()
    return found


def alone(norm: str | None) -> dict[str, Tensor]:
    """Return the state after training in one process."""
    network = copy.deepcopy(drawn(norm))
    train(network, slice(0, B))
    return whole(network.state_dict())
