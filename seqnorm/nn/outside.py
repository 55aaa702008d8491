"""What the habits and tools of others meet in a recurrent layer or cell."""

from __future__ import annotations

from typing import Any, NoReturn

from torch import nn

from .arguments import explaining
from .check import warn


class Outside(nn.Module):
    """The part of a layer or cell that says no to what it cannot be."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "__init__" in vars(cls):
            cls.__init__ = explaining(cls.__init__)  # type: ignore[method-assign]

    def __prepare_scriptable__(self) -> NoReturn:
        """Torch asks for this before it scripts a module, and every one inside it."""
        raise NotImplementedError(
            f"torch.jit.script cannot take seqnorm.{type(self).__name__}: PyTorch has deprecated "
            "TorchScript; use torch.compile or torch.export instead"
        )

    @property
    def qconfig(self) -> Any:
        """How ``torch.ao.quantization`` would quantise the module, if it could."""
        if "qconfig" not in self.__dict__:
            raise AttributeError("qconfig")
        return self.__dict__["qconfig"]

    @qconfig.setter
    def qconfig(self, value: Any) -> None:
        # It marks every module of a model, and then leaves alone those that it does not know.
        if "qconfig" not in self.__dict__:
            name = type(self).__name__
            also = "; with norm=None, to_torch() gives a layer that can be quantised"
            warn(
                f"seqnorm.{name} stays as it is, in floating point: torch.ao.quantization has no "
                f"quantised form of it{also if hasattr(self, 'to_torch') else ''}"
            )
        self.__dict__["qconfig"] = value

    @qconfig.deleter
    def qconfig(self) -> None:
        self.__dict__.pop("qconfig", None)
