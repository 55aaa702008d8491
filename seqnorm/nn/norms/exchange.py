"""Other norms for a network that has some: BatchNorm out, GroupNorm in, the weights kept.

Axes: N examples, C channels, then positions: L of signals, H, W of images, D, H, W of volumes.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from fnmatch import fnmatchcase
from typing import Any, Union

import torch
from torch import Tensor, nn

from ..check import base_of, nearest, warn
from ..recurrence.step import Step
from .counterparts import SOURCES, Shapes, Wanted, losses

_HOOKS = (
    "_forward_hooks",
    "_forward_pre_hooks",
    "_backward_hooks",
    "_backward_pre_hooks",
    "_state_dict_hooks",
    "_state_dict_pre_hooks",
    "_load_state_dict_pre_hooks",
    "_load_state_dict_post_hooks",
)
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
    """A copy of the model with another norm in the place of each of its norms.

    >>> network = nn.Sequential(nn.Conv2d(3, 64, 3), nn.InstanceNorm2d(64), nn.ReLU())
    >>> convert_norm(network, to="group", group_size=16)[1].num_groups
    4

    Exchanged are torch's and this library's BatchNorm1d/2d/3d, InstanceNorm1d/2d/3d and GroupNorm,
    SyncBatchNorm and LayerNorm2d, for classes of this library. Each new norm has the same eps,
    mode (training or not), and the very parameters of the old one, gain and bias of a channel,
    with their dtype, device and ``requires_grad``; a parameter or a norm that was shared still is.
    From BatchNorm to BatchNorm running statistics are kept, and the network computes what it did
    (in one process: SyncBatchNorm's are no longer those of all). Every other exchange changes what
    it computes, so train it on. A norm with hooks is refused.

    Other layers stay as they are; recurrent layers too, whose norm is a scheme: write
    ``convert_rnn(model, norm="layer")``.

    Args:
        model: any module, a single norm too.
        to: "batch"; "group"; "instance"; "layer", which is ``LayerNorm2d`` (the channels of one
            position, as in ConvNeXt), while the LayerNorm of the Group Normalization paper (Wu & He
            2018) is ``to="group", num_groups=1``; or "none", which leaves ``nn.Identity``.
        num_groups, group_size: of "group": how many groups, or how many channels a group; 32 groups
            if neither is given.
        affine: True gives a gain and a bias to those without, False takes them away; None leaves
            both as they are.
        include, exclude: paths of the norms to exchange, or not, as ``model.named_modules`` has
            them, or of modules around them; patterns as "layer1.*.bn2" or lists of them.
        example: an input of the model (or a tuple of them), with which a copy of it is run once to
            see what shapes reach the norms. Needed where the class does not say how many axes its
            input has; with it "instance" and "group" check that their sets have several elements.
        inplace: exchange the norms of ``model`` itself, so that an optimiser that holds its
            parameters still does, instead of leaving it as it was. It is not the default, for
            there is no way back to dropped statistics.

    Returns:
        The copy, or the model itself with ``inplace``.

    Warns:
        UserWarning: running statistics, gains or biases are dropped, or new running statistics know
            no data yet.

    Raises:
        ValueError: there is no norm to exchange, or one that cannot be (with its path, and what to
            write instead); a pattern that matches none; an option that does not belong to ``to``.
        TypeError: ``model`` is no module, or an option has the wrong type.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"convert_norm takes a model, a torch.nn.Module, got {model!r}")
    wanted = Wanted(to, num_groups, group_size, affine)
    if inplace and base_of(model, SOURCES):
        raise ValueError(
            "the model is itself a norm, which nothing holds in whose place another could be put: "
            "leave inplace=False and take the returned one"
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
    """The model with modules in the places of those that have these ids."""
    for parent in list(model.modules()):
        for name, child in list(parent._modules.items()):  # named_children tells a shared one once
            if child is not None and id(child) in instead:
                parent.register_module(name, instead[id(child)])
    return instead.get(id(model), model)


def _chosen(model: nn.Module, include: Patterns, exclude: Patterns) -> list[str]:
    """The first path of every norm to exchange."""
    paths: dict[int, list[str]] = {}
    norms: dict[int, nn.Module] = {}
    for path, module in model.named_modules(remove_duplicate=False):
        lazily = getattr(module, "cls_to_become", None)  # a lazy norm is of another class at first
        if any(cls in SOURCES for cls in (*type(module).__mro__, lazily)):
            norms[id(module)] = module
            paths.setdefault(id(module), []).append(path)
    everything = [path for known in paths.values() for path in known]
    if not everything:
        raise ValueError(_nothing(model))
    wanted = matching("include", include, everything, set(everything), "norm")
    unwanted = matching("exclude", exclude, everything, set(), "norm")
    chosen: list[str] = []
    for key, module in norms.items():
        known = paths[key]
        if wanted & set(known) and not unwanted & set(known):
            check_plain(known[0], module)
            chosen.append(known[0])
    if not chosen:
        raise ValueError("include and exclude together leave no norm to exchange")
    return chosen


def _nothing(model: nn.Module) -> str:
    names = ", ".join(sorted({cls.__name__ for cls in SOURCES}))
    message = f"{type(model).__name__} has no norm to exchange; convert_norm looks for {names}"
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


def matching(
    option: str, patterns: Patterns, paths: list[str], otherwise: set[str], kind: str
) -> set[str]:
    """Return the paths that a pattern matches, or within a module that it matches.

    Args:
        option: the name of the argument that holds the patterns.
        otherwise: the answer without patterns.
        kind: the word for what stands at the paths.
    """
    if patterns is None:
        return otherwise
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


def check_hooks(path: str, module: nn.Module, kind: str) -> None:
    """Raise ValueError for a module with hooks."""
    if any(getattr(module, hooks, None) for hooks in _HOOKS):
        where = (
            f'exchange it by hand, or leave it with exclude="{path}"' if path else "build it anew"
        )
        raise ValueError(
            f"{path or 'the model'} ({type(module).__name__}) has hooks, which would be lost: "
            f"remove them and register them on the new {kind}, or {where}"
        )


def check_plain(path: str, module: nn.Module) -> None:
    """Raise ValueError for a norm that is more than a norm."""
    name, at = type(module).__name__, path or "the model"
    where = f'exchange it by hand, or leave it with exclude="{path}"' if path else "build it anew"
    if isinstance(module, nn.modules.lazy.LazyModuleMixin):
        raise ValueError(
            f"{at} ({name}) does not know its channels yet: call the model with an input once "
            "before its norms are exchanged"
        )
    if base_of(module, SOURCES) is None:
        raise ValueError(
            f"{at} is a {name}, which has a forward of its own beyond the norm's, and that would "
            f"be lost: {where}"
        )
    check_hooks(path, module, "norm")
    own = {"weight", "bias", "running_mean", "running_var", "num_batches_tracked"}
    more = {*module._parameters, *module._buffers, *module._modules} - own
    if more:
        raise ValueError(
            f"{at} ({name}) holds more than a norm ({', '.join(sorted(more))}), which would be "
            f"lost: {where}"
        )


@torch.no_grad()
def _shapes(model: nn.Module, paths: list[str], example: Tensor | Sequence[Any]) -> Shapes:
    """What reaches the norms at these paths when a copy of the model sees the example."""
    probe = copy.deepcopy(model).eval()
    found: Shapes = {path: [] for path in paths}

    def watch(path: str) -> Callable[..., None]:
        def see(module: nn.Module, args: tuple[Any, ...], named: dict[str, Any]) -> None:
            x = args[0] if args else next(iter(named.values()))
            found[path].append(tuple(x.shape))

        return see

    for path in paths:
        probe.get_submodule(path).register_forward_pre_hook(watch(path), with_kwargs=True)
    probe(*((example,) if isinstance(example, Tensor) else example))
    return found
