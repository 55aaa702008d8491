"""What the data of all tasks do alike: they know whether they are those that a run began with."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from lightning.pytorch import LightningDataModule
from lightning.pytorch.trainer.states import TrainerFn


class PartsData(LightningDataModule, ABC):
    """Data in parts, whose digests are in every checkpoint; resuming with other data is refused.

    Validating and testing are not: other data are what they may be for.
    """

    @property
    @abstractmethod
    def columns(self) -> Mapping[str, tuple[Sequence[str], ...]]:
        """Of each part its texts and, if it has any, their labels, in their order."""

    @cached_property
    def digests(self) -> dict[str, str]:
        """Of each part."""
        return {part: _digest(columns) for part, columns in self.columns.items()}

    def check_same(self, checkpoint: Mapping[str, Any], path: object) -> None:
        """Whether a checkpoint was written by a run on these data, as far as it says.

        Raises:
            ValueError: a part is another one, which is named.
        """
        state = checkpoint.get(type(self).__qualname__)
        was = state.get("parts") if isinstance(state, Mapping) else None
        if not isinstance(was, Mapping):  # of a version that did not say
            return
        now = self.digests
        other = [part for part in now.keys() | was.keys() if was.get(part) != now.get(part)]
        if other:
            parts = f"{', '.join(sorted(map(str, other)))} part{'s' * (len(other) > 1)}"
            raise ValueError(
                f"{path}: the run cannot go on, for the data have changed: texts, labels or their "
                f"order in the {parts} are not those that it began with; bring these back, or "
                "begin a new run"
            )

    def state_dict(self) -> dict[str, Any]:
        return {"parts": self.digests}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        assert self.trainer is not None
        if self.trainer.state.fn == TrainerFn.FITTING:
            self.check_same({type(self).__qualname__: state_dict}, self.trainer.ckpt_path)


def _digest(columns: tuple[Sequence[str], ...]) -> str:
    digest = hashlib.sha256()
    for column in columns:
        digest.update(b"%d:" % len(column))
        for text in column:
            written = text.encode("utf-8", "surrogatepass")
            digest.update(b"%d:%b" % (len(written), written))
    return digest.hexdigest()
