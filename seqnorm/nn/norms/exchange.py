"""Replacement of the norms of a network by others, such as BatchNorm by GroupNorm.

Axes: N examples, C channels, then positions: L of signals, H, W of images, D, H, W of volumes.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from functools import partial
from typing import Any, Union

import torch
from torch import Tensor, nn

from ..check import base_of, nearest, warn
from ..recurrence.step import Step
from .counterparts import SOURCES, Shape, Wanted, losses

Patterns = Union[str, Iterable[str], None]


def convert_norm(
    model: nn.Module,
    to: str,
    *,
    num_groups: int | None = None,
    group_size: int | None = None,
    affine: bool | None = None,
    include: Patterns = None,
    exclude: Patterns = None,
    example: Tensor | Sequence[Any] | None = None,
    inplace: bool = False,
) -> nn.Module:
    """Return a copy of the model with each of its norms replaced by another.

    >>> network = nn.Sequential(nn.Conv2d(3, 64, 3), nn.InstanceNorm2d(64), nn.ReLU())
    >>> convert_norm(network, to="group", group_size=16)[1].num_groups
    4

    BatchNorm1d/2d/3d, InstanceNorm1d/2d/3d and GroupNorm (of torch or of this library),
    SyncBatchNorm and LayerNorm2d are replaced by classes of this library. A new norm keeps the eps,
    the mode, and the gain and bias objects of the old one. Shared parameters and norms stay shared.
    BatchNorm replaced by BatchNorm keeps its running statistics, and the network computes the same
    (SyncBatchNorm does in one process only). Every other replacement changes the network, so train
    it on. Other layers are unchanged; for recurrent layers use ``convert_rnn``.

    Args:
        model: any module, or a single norm.
        to: "batch", "group", "instance", "layer" or "none". "layer" is ``LayerNorm2d``, over the
            channels of one position as in ConvNeXt; the LayerNorm of the Group Normalization paper
            (Wu & He 2018) is ``to="group", num_groups=1``. "none" is ``nn.Identity``.
        num_groups, group_size: for "group", the number of groups (default 32) or of channels each.
        affine: True adds a gain and a bias to norms without them, False removes them.
        include, exclude: paths, as in ``model.named_modules``, of the norms to replace or to keep,
            or of modules that contain them; patterns such as "layer1.*.bn2", or lists of them.
        example: an input of the model, or a tuple of inputs, on which a copy of the model is run
            once to find the shapes of the norms' inputs. It is needed for classes whose input may
            have any number of axes; "instance" and "group" also check the sizes of their sets.
        inplace: replace the norms of ``model`` itself, whose parameters an optimiser may hold, and
            return it. It is not the default, because dropped statistics are lost.

    Warns:
        UserWarning: running statistics, gains or biases are dropped, or new running statistics have
            seen no data yet.

    Raises:
        ValueError: there is no norm to replace; a norm cannot be replaced, for example because it
            has hooks (the message has its path and what to write instead); a pattern matches no
            norm; or an option does not belong to ``to``.
        TypeError: ``model`` is not a module, or an option has the wrong type.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"convert_norm takes a model, a torch.nn.Module, got {model!r}")
    wanted = Wanted(to, num_groups, group_size, affine)
    if inplace and base_of(model, SOURCES):
        raise ValueError(
            "the model is itself a norm, and no module contains it in which it could be replaced: "
            "leave inplace=False and use the returned norm"
        )
    paths = _chosen(model, include, exclude)
    work = model if inplace else copy.deepcopy(model)
    chosen = {path: work.get_submodule(path) for path in paths}
    shapes = {} if example is None else _shapes(work, paths, example)
    home = next((t for t in (*work.parameters(), *work.buffers()) if t.is_floating_point()), None)
    new = wanted.instead(chosen, shapes, torch.empty(0) if home is None else home)
    message = losses(chosen, new)
    work = put(work, {id(chosen[path]): norm for path, norm in new.items()})
    if message:
        warn(message)
    return work


def put(model: nn.Module, instead: dict[int, nn.Module]) -> nn.Module:
    """Return the model with the modules of these ids replaced."""
    for parent in list(model.modules()):
        for name, child in list(parent._modules.items()):  # named_children lists a shared one once
            if child is not None and id(child) in instead:
                parent.register_module(name, instead[id(child)])
    return instead.get(id(model), model)


def _chosen(model: nn.Module, include: Patterns, exclude: Patterns) -> list[str]:
    """Return the first path of every norm to replace."""
    paths: dict[nn.Module, list[str]] = {}
    for path, module in model.named_modules(remove_duplicate=False):
        lazily = getattr(module, "cls_to_become", None)  # a lazy norm has another class at first
        if any(cls in SOURCES for cls in (*type(module).__mro__, lazily)):
            paths.setdefault(module, []).append(path)
    if not paths:
        raise ValueError(_nothing(model))
    chosen = [known[0] for known in choose_paths(paths.values(), include, exclude, "norm")]
    for path in chosen:
        check_plain(path, model.get_submodule(path))
    return chosen


def _nothing(model: nn.Module) -> str:
    names = ", ".join(sorted({cls.__name__ for cls in SOURCES}))
    message = f"{type(model).__name__} has no norm to replace; convert_norm looks for {names}"
    found = [
        path
        for path, module in model.named_modules()
        if isinstance(module, (nn.RNNBase, nn.RNNCellBase))
        or isinstance(getattr(module, "step", None), Step)
    ]
    if found:
        message += (
            f". {found[0] or 'It'} is a recurrent layer, whose norm is part of it: write "
            'convert_rnn(model, norm="layer") for those of torch, and build seqnorm\'s with '
            'norm="layer"'
        )
    return message


def choose_paths(
    modules: Iterable[list[str]], include: Patterns, exclude: Patterns, kind: str
) -> list[list[str]]:
    """Return the modules to replace, each given by all its paths, of which patterns match any.

    Args:
        kind: the word in messages for these modules.
    """
    modules = list(modules)
    paths = [path for known in modules for path in known]
    wanted = set(paths if include is None else _matching("include", include, paths, kind))
    unwanted = set() if exclude is None else _matching("exclude", exclude, paths, kind)
    chosen = [known for known in modules if wanted & set(known) and not unwanted & set(known)]
    if not chosen:
        raise ValueError(f"include and exclude together leave no {kind} to replace")
    return chosen


def _matching(option: str, patterns: str | Iterable[str], paths: list[str], kind: str) -> set[str]:
    """Return the paths that a pattern matches, itself or as the path of a containing module."""
    found: set[str] = set()
    for pattern in [patterns] if isinstance(patterns, str) else patterns:
        if not isinstance(pattern, str):
            raise TypeError(f"{option} holds patterns of paths, as 'layer1.*', got {pattern!r}")
        within = (pattern, f"{pattern}.*")
        own = {path for path in paths if any(fnmatchcase(path, known) for known in within)}
        if not own:
            raise ValueError(
                f"{option}={pattern!r} matches no {kind}{nearest(pattern, paths)}; {kind}s are at "
                f"{', '.join(paths)}"
            )
        found |= own
    return found


def _instead(path: str) -> str:
    return f'replace it by hand, or leave it with exclude="{path}"' if path else "build it anew"


def check_hooks(path: str, module: nn.Module, kind: str) -> None:
    """Raise ValueError for a module with hooks."""
    if any(held for name, held in vars(module).items() if name.endswith("_hooks")):
        raise ValueError(
            f"{path or 'the model'} ({type(module).__name__}) has hooks, which would be lost: "
            f"remove them and register them on the new {kind}, or {_instead(path)}"
        )


def check_plain(path: str, module: nn.Module) -> None:
    """Raise ValueError for a norm whose own forward, hooks or tensors would be lost."""
    name, at = type(module).__name__, path or "the model"
    if isinstance(module, nn.modules.lazy.LazyModuleMixin):
        raise ValueError(
            f"{at} ({name}) does not know its channels yet: call the model with an input once "
            "before its norms are replaced"
        )
    if base_of(module, SOURCES) is None:
        raise ValueError(
            f"{at} is a {name}, which has a forward of its own beyond the norm's, and that would "
            f"be lost: {_instead(path)}"
        )
    check_hooks(path, module, "norm")
    own = {"weight", "bias", "running_mean", "running_var", "num_batches_tracked"}
    more = {*module._parameters, *module._buffers, *module._modules} - own
    if more:
        raise ValueError(
            f"{at} ({name}) holds more than a norm ({', '.join(sorted(more))}), which would be "
            f"lost: {_instead(path)}"
        )


@torch.no_grad()
def _shapes(
    model: nn.Module, paths: list[str], example: Tensor | Sequence[Any]
) -> dict[str, list[Shape]]:
    """Run a copy of the model on the example and return the shapes that reach the paths."""
    probe = copy.deepcopy(model).eval()
    found: dict[str, list[Shape]] = {path: [] for path in paths}

    def see(path: str, module: nn.Module, args: tuple[Any, ...], named: dict[str, Any]) -> None:
        x = args[0] if args else next(iter(named.values()))
        found[path].append(tuple(x.shape))

    for path in paths:
        probe.get_submodule(path).register_forward_pre_hook(partial(see, path), with_kwargs=True)
    probe(*((example,) if isinstance(example, Tensor) else example))
    return found
