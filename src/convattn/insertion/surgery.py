"""Putting one block at one module and taking it out again; the module keeps its keys.

There are four ways, and a mark on the block says which was taken:

    append  a plain nn.Sequential runs its children in turn, so the block becomes its last child
    follow  a container inside one, which runs its children in code of its own, is followed by it
    hook    any other module gets the block as a child, and a forward hook that applies it
    swap    the block takes the module's place (slots, and `replace`); the module waits in the mark

None of them renames or wraps a module, so keys, attributes and references of the host stay.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import count
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.module import register_module_module_registration_hook

from convattn.blocks._base import Block
from convattn.core.errors import ArgumentError
from convattn.insertion.kin import become_kin, leave_kin

__all__ = [
    "INITS",
    "Mark",
    "attach",
    "checked_module",
    "detach",
    "is_live",
    "is_ours",
    "mark_of",
    "way_of",
]

INITS = ("authors", "identity", "folded")
_NAME = "attention"
_MARK = "_convattn_mark"


@dataclass
class Mark:
    """How a block came to where it is; lives on the block as a plain attribute.

    Attributes:
        way: "append", "follow", "hook" or "swap".
        block: its name in `list_blocks`.
        arguments: it was built with.
        init: "authors", "identity", or "folded": the identity's gates made plain by `fold`.
        position: what `at` was, in words.
        behind: name of the module that a block in the way "follow" follows.
        removed: the module that it replaced, in a tuple so that it is no child.
    """

    way: str
    block: str
    arguments: dict[str, Any]
    init: str
    position: str
    behind: str = ""
    removed: tuple[nn.Module, ...] = ()


class _Attend:
    """Forward hook: the module's output goes through its child called `name`."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, module: nn.Module, args: Any, output: Any) -> Any:
        return getattr(module, self.name)(output)

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        _watch_conversions()


def checked_module(model: object) -> nn.Module:
    """The model itself; raises `ArgumentError` for what is no module."""
    if isinstance(model, nn.Module):
        return model
    inner = getattr(model, "model", None)
    hint = "; pass its .model" if isinstance(inner, nn.Module) else ""
    raise ArgumentError(f"the host must be a torch.nn.Module, got {type(model).__name__}{hint}")


def is_ours(hook: object) -> bool:
    """Whether a forward hook applies one of our blocks."""
    return isinstance(hook, _Attend)


def mark_of(module: nn.Module) -> Mark | None:
    """The mark of a block that was inserted, else None."""
    return vars(module).get(_MARK)


def way_of(root: nn.Module, path: str) -> str | None:
    """ "append", "follow" or "hook"; None where none is safe."""
    module = root.get_submodule(path)
    if _is_plain_sequential(module):
        return "append"
    # other containers run their children in code of their own, which would meet the block there
    if not isinstance(module, (nn.Sequential, nn.ModuleList, nn.ModuleDict)):
        return "hook"
    parent = root.get_submodule(path.rpartition(".")[0]) if path else module
    return "follow" if _is_plain_sequential(parent) else None


def _is_plain_sequential(module: nn.Module) -> bool:
    return type(module).forward is nn.Sequential.forward


def attach(root: nn.Module, path: str, block: Block, mark: Mark) -> str:
    """Put `block` at the module `root.path` in the way that `mark` says.

    Returns:
        The block's path.
    """
    vars(block)[_MARK] = mark
    # torch.fx takes modules of torch.nn as one node each, and a block must stay one: its checks
    # read shapes, which symbolic tracing does not have
    vars(block)["__module__"] = f"torch.nn: {type(block).__module__}"
    module = root.get_submodule(path)
    if mark.way == "swap":
        if not path:
            raise ArgumentError(f"{type(root).__name__} itself cannot be replaced in place")
        mark.removed = (module,)
        earlier = mark_of(module)
        if earlier is not None:  # one of ours: the new block is there in the way this one was
            mark.way, mark.behind, mark.removed = earlier.way, earlier.behind, earlier.removed
        for other in _aliases(root, module):
            _set(root, other, block)
        return path
    if mark.way == "follow":
        path, _, before = path.rpartition(".")
        mark.behind = before
        module = root.get_submodule(path)
        later = list(module._modules)[list(module._modules).index(before) + 1 :]
        name = _free_name(module, f"{before}_{_NAME}")
        module.add_module(name, block)
        for other in later:
            module._modules[other] = module._modules.pop(other)
        return f"{path}.{name}" if path else name
    name = _free_name(module, _NAME)
    module.add_module(name, block)
    if mark.way == "hook":
        _watch_conversions()
        become_kin(module)
        # a word as key: numbers given out by torch start anew in a process that unpickles the
        # model, and the next hook registered there would take this one's place
        module._forward_hooks[_key(name)] = _Attend(name)  # type: ignore[index]
    return f"{path}.{name}" if path else name


def detach(root: nn.Module, path: str) -> None:
    """Undo `attach` for the block at `path`."""
    block = root.get_submodule(path)
    mark = mark_of(block)
    assert mark is not None
    parent_path, _, name = path.rpartition(".")
    if mark.way == "swap":
        (restored,) = mark.removed
        _adapt(restored, block, root)
        for other in _aliases(root, block):
            _set(root, other, restored)
    else:
        parent = root.get_submodule(parent_path)
        del parent._modules[name]
        parent._forward_hooks.pop(_key(name), None)  # type: ignore[call-overload]
        if not any(is_ours(hook) for hook in parent._forward_hooks.values()):
            leave_kin(parent)
    del vars(block)[_MARK], vars(block)["__module__"]


def _adapt(restored: nn.Module, block: nn.Module, root: nn.Module) -> None:
    """Bring a module that waited outside the network to the mode, device and type of today."""
    if restored.training != block.training:
        restored.train(block.training)
    now, before = _tensor_of(block, root), _tensor_of(restored)
    if now is not None and before is not None:
        restored.to(now.device, now.dtype)


def _tensor_of(*modules: nn.Module) -> Tensor | None:
    """The first floating parameter."""
    parameters = (p for module in modules for p in module.parameters())
    return next((p for p in parameters if p.is_floating_point()), None)


def is_live(root: nn.Module, path: str) -> bool:
    """Whether the block at `path` is still applied.

    False after a conversion that rebuilt the module round it and kept its children only.
    """
    mark = mark_of(root.get_submodule(path))
    parent_path, _, name = path.rpartition(".")
    if mark is None or mark.way != "hook":
        return True
    hooks: dict[Any, Any] = root.get_submodule(parent_path)._forward_hooks
    return _key(name) in hooks


@cache
def _watch_conversions() -> None:
    """From now on in this process: see `_keep_hook`."""
    register_module_module_registration_hook(_keep_hook)


def _keep_hook(module: nn.Module, name: str, child: object) -> None:
    """Give a norm that is rebuilt as another (`convert_sync_batchnorm`) the hook of the first.

    Such conversions hand over the children, of which our block is one, and forget the hooks.
    """
    mark = mark_of(child) if isinstance(child, Block) else None
    if mark is not None and mark.way == "hook" and isinstance(module, _NormBase):
        module._forward_hooks[_key(name)] = _Attend(name)  # type: ignore[index]


def _key(name: str) -> str:
    return f"convattn.{name}"


def _free_name(module: nn.Module, wanted: str) -> str:
    names = (wanted if i == 1 else f"{wanted}_{i}" for i in count(1))
    return next(name for name in names if not hasattr(module, name))


def _aliases(root: nn.Module, module: nn.Module) -> list[str]:
    """All paths of a module; shared ones have several."""
    return [p for p, m in root.named_modules(remove_duplicate=False) if m is module]


def _set(root: nn.Module, path: str, module: nn.Module) -> None:
    parent, _, name = path.rpartition(".")
    root.get_submodule(parent)._modules[name] = module  # in place, so that order stays
