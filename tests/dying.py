"""A callback that ends one process of a run in the middle of training, or leaves it hanging."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

from lightning.pytorch import Callback, Trainer


class DieError(Exception):
    """What a process raises that dies of an error."""


class Die(Callback):
    """At the fourth step.

    Args:
        rank: of the process.
        how: "kill" (as kill -9), "exit" (os._exit(1)), "leave" (os._exit(0)), "raise" or "hang".
    """

    def __init__(self, rank: int, how: str) -> None:
        self.rank = rank
        self.how = how

    def on_train_batch_end(self, trainer: Trainer, *args: Any) -> None:
        if trainer.global_rank != self.rank or trainer.global_step != 4:
            return
        if self.how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.how in ("exit", "leave"):
            os._exit(1 if self.how == "exit" else 0)
        if self.how == "raise":
            raise DieError
        time.sleep(600)
