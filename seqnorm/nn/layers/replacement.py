"""Replacement of torch's recurrent layers in a network by normalised ones with their weights."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from torch import nn

from ..check import check_flag
from ..norms.exchange import Patterns, check_hooks, choose_paths, put
from ..recurrence.scheme import NormScheme
from .cell import RecurrentCell
from .layer import RecurrentLayer
from .torch_weights import COUNTERPARTS


def convert_rnn(
    model: nn.Module,
    norm: str | NormScheme | None = "layer",
    *,
    include: Patterns = None,
    exclude: Patterns = None,
    learn_initial_state: bool = False,
    inplace: bool = False,
    say: Callable[[str], object] | None = print,
) -> nn.Module:
    """Return a copy of the model with every recurrent layer of torch replaced by a normalised one.

    >>> tagger = nn.Sequential(nn.Embedding(100, 16), nn.LSTM(16, 32, batch_first=True))
    >>> tagger = convert_rnn(tagger, norm="layer")
    1: LSTM(16, 32, batch_first=True) -> seqnorm.LSTM(16, 32, batch_first=True, norm='layer')

    The function replaces ``nn.LSTM``, ``GRU``, ``RNN`` and their cells. The new layers keep
    matrices, biases, options, mode and ``requires_grad``, see ``LSTM.from_torch``; their norms
    start as in a new layer. With ``norm=None`` the model computes the same as before. Any other
    norm changes the model, so continue its training. A layer that stands at several places is
    replaced by one layer.

    Args:
        model: any module, or a single layer.
        norm: the name of a preset of every replaced layer, a ``NormScheme``, or ``None``.
        include, exclude: paths of the layers to replace or to leave, or of modules around them, as
            in ``model.named_modules``; patterns such as "encoder.*", or lists of them.
        learn_initial_state: if true, every replaced layer learns the state with which it begins
            where the model gives it none, see ``seqnorm.LSTM``. Zeros are its first value.
        inplace: replace the layers of ``model`` itself. Their parameters are new, so make the
            optimiser afterwards.
        say: called with a line for each replaced layer; ``None`` for no lines.

    Raises:
        ValueError: there is no layer to replace; a layer has hooks, parametrisations or a class of
            its own, or shares a parameter with another module, which would be lost; a pattern
            matches nothing; the norm is not published for a cell.
        TypeError: ``model`` is not a module, or ``learn_initial_state`` is not a boolean.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"convert_rnn takes a model, a torch.nn.Module, got {model!r}")
    if inplace and type(model) in COUNTERPARTS:
        raise ValueError(
            "the model is itself a recurrent layer, and no module holds it where another could "
            "be put: leave inplace=False and take the returned layer"
        )
    learn_initial_state = check_flag("learn_initial_state", learn_initial_state)
    new: dict[int, nn.Module] = {}
    lines = []
    for path in _chosen(model, include, exclude):
        old = model.get_submodule(path)
        new[id(old)] = _replacement(path, old, norm, learn_initial_state)
        shown = [f"{type(m).__name__}({m.extra_repr()})" for m in (old, new[id(old)])]
        lines.append(f"{path}: " * bool(path) + " -> seqnorm.".join(shown))
    # The copy takes the new layer in the place of the old one.
    work = put(model, new) if inplace else copy.deepcopy(model, dict(new))
    if say is not None:
        for line in lines:
            say(line)
    return work


def _chosen(model: nn.Module, include: Patterns, exclude: Patterns) -> list[str]:
    """Return the first path of every layer to replace."""
    paths: dict[nn.Module, list[str]] = {}
    for path, module in model.named_modules(remove_duplicate=False):
        ours = isinstance(module, (RecurrentLayer, RecurrentCell))  # may derive from torch's too
        if isinstance(module, (nn.RNNBase, nn.RNNCellBase)) and not ours:
            paths.setdefault(module, []).append(path)
    if not paths:
        names = ", ".join(cls.__name__ for cls in COUNTERPARTS)
        raise ValueError(
            f"{type(model).__name__} has no recurrent layer to replace; convert_rnn looks for "
            f"torch's {names}"
        )
    chosen = choose_paths(paths.values(), include, exclude, "layer")
    inside: dict[int, str] = {}
    for path, *_ in chosen:
        for name, parameter in model.get_submodule(path).named_parameters(remove_duplicate=False):
            if id(parameter) in inside:
                raise ValueError(
                    f"{path}.{name} is a parameter of {inside[id(parameter)]} too, and would no "
                    f'longer be: untie it, or leave the layer with exclude="{path}"'
                )
            inside[id(parameter)] = path
    everywhere = [path for known in chosen for path in known]
    for name, parameter in model.named_parameters(remove_duplicate=False):
        own = inside.get(id(parameter))
        if own is not None and not any(name.startswith(one and f"{one}.") for one in everywhere):
            raise ValueError(
                f"{name} is a parameter of {own} too, and would no longer be: untie it, or leave "
                f'the layer with exclude="{own}"'
            )
    return [path for path, *_ in chosen]


def _replacement(
    path: str, old: Any, norm: str | NormScheme | None, learn_initial_state: bool
) -> nn.Module:
    at = path or "the model"
    cls = COUNTERPARTS.get(type(old))
    if cls is None:
        reason = "whose own methods would be lost: replace it by hand"
        if hasattr(old, "parametrizations"):
            reason = "which is parametrised: remove the parametrisation first"
        raise ValueError(
            f'{at} is a {type(old).__name__}, {reason}, or leave it with exclude="{path}"'
        )
    check_hooks(path, old, "layer")
    try:
        new: nn.Module = cls.from_torch(old, norm=norm, learn_initial_state=learn_initial_state)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{at} ({type(old).__name__}): {error}") from error
    for name, parameter in new.named_parameters():
        theirs = getattr(old, name, None)
        if theirs is not None:
            parameter.requires_grad_(theirs.requires_grad)
    return new
