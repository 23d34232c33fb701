"""Classes for layers of torch.nn that have a hook.

Rewriters that match exact types, as torch.fx's fusion of convolution and batch norm, would drop a
layer's hook with it. So the layer becomes a subclass of itself under the same name. One that is
parametrised keeps its class, which PyTorch made for it and takes away again.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from torch import nn
from torch.nn.utils.parametrize import is_parametrized

__all__ = ["become_kin", "leave_kin"]


class _Kin:
    """Mixed into the layer's own class."""

    def __reduce_ex__(self, protocol: Any) -> Any:
        return _revive, (type(self).__mro__[1],), self.__getstate__()


def become_kin(module: Any) -> None:
    """Change the class of a layer of torch.nn, and nothing else's."""
    kind: Any = type(module)
    if kind.__module__.startswith("torch.nn") and not is_parametrized(module):
        module.__class__ = _kin(kind)


def leave_kin(module: Any) -> None:
    """Undo `become_kin`."""
    kind: Any = type(module)
    if _Kin in kind.__bases__:
        module.__class__ = kind.__bases__[0]
    elif issubclass(kind, _Kin) and is_parametrized(module):
        # since then, by a class that PyTorch made for this layer alone
        kind.__bases__ = kind.__bases__[0].__bases__[:1]


@cache
def _kin(kind: Any) -> Any:  # a class of modules, and a subclass of it
    if issubclass(kind, _Kin):
        return kind
    facts = {"__module__": kind.__module__, "__doc__": kind.__doc__}
    return type(kind.__name__, (kind, _Kin), {**facts, "__reduce_ex__": _Kin.__reduce_ex__})


def _revive(kind: Any) -> nn.Module:
    module: nn.Module = object.__new__(_kin(kind))
    return module
