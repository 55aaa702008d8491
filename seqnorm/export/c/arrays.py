"""The numbers of a model: constant arrays in C, or one flat file of float32.

Axes: R rows and K columns of a matrix.
"""

from __future__ import annotations

import struct
import zlib

import torch
import torch.nn.functional as F
from torch import Tensor

# Widths of the panels that ``seqnorm_product`` of runtime.h reads.
WIDE, NARROW = 32, 8
_MAGIC = 0x534E5743
# The numbers before the weights in a file: a mark, how many weights follow, their CRC-32, and 0.
PREFIX = 4


def panels(matrix: Tensor) -> Tensor:
    """Return the numbers of a matrix (R, K) in the order of ``seqnorm_product``."""
    wide = len(matrix) // WIDE * WIDE
    rest = F.pad(matrix[wide:], (0, 0, 0, -(len(matrix) - wide) % NARROW))
    parts = [*matrix[:wide].split(WIDE), *rest.split(NARROW)]
    return torch.cat([part.t().reshape(-1) for part in parts])


def head_panels(matrix: Tensor) -> Tensor:
    """Return the numbers of a block-diagonal matrix (R, K) in the order of ``seqnorm_heads``.

    Args:
        matrix: as ``block_linear`` takes it, one gate after another and the heads within.
    """
    return torch.cat([panels(block) for block in matrix.split(matrix.shape[1])])


class Arrays:
    """The constant arrays of one model.

    Args:
        model: the name of the model.
        apart: if true, the numbers go to a file and C reads them at ``self->weights``.
    """

    def __init__(self, model: str, apart: bool) -> None:
        self._model, self.apart = model, apart
        self._found: dict[str, Tensor] = {}
        self.count = 0

    def add(self, name: str, values: Tensor) -> str:
        """Keep values under a name and return the expression of their address in C.

        Raises:
            ValueError: a value is infinite or NaN in float32.
        """
        values = values.detach().to("cpu", torch.float32).reshape(-1)
        if not bool(values.isfinite().all()):
            raise ValueError(
                f"{name} holds NaN or infinite numbers, which C source cannot write: export a "
                "layer whose training did not diverge"
            )
        place = PREFIX + self.count
        self._found[name] = values
        self.count += len(values)
        return f"(self->weights + {place} /* {name} */)" if self.apart else f"{self._model}_{name}"

    def source(self) -> str:
        """Return the definitions of the arrays in C; "" if they stand in a file."""
        if self.apart:
            return ""
        return "".join(
            f"static const float {self._model}_{name}[{len(values)}] = {{\n{_rows(values)}}};\n"
            for name, values in self._found.items()
        )

    @property
    def prefix(self) -> tuple[int, int, int, int]:
        """The numbers before the weights in a file."""
        return _MAGIC, self.count, zlib.crc32(self._bytes()), 0

    def file(self) -> bytes:
        """Return the content of the file: the prefix and the weights, little-endian."""
        return struct.pack("<4I", *self.prefix) + self._bytes()

    def _bytes(self) -> bytes:
        numbers = torch.cat(list(self._found.values())).tolist()
        return struct.pack(f"<{len(numbers)}f", *numbers)


def literal(value: float) -> str:
    """Return a float literal of C with all digits of a float32."""
    text = f"{value:.9g}"
    return f"{text}f" if "." in text or "e" in text else f"{text}.0f"


def _rows(values: Tensor) -> str:
    words = [literal(value) for value in values.tolist()]
    return "".join(f"{', '.join(words[k : k + 8])},\n" for k in range(0, len(words), 8))
