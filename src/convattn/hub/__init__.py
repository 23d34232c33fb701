"""Our networks where others look for them: on the Hugging Face Hub, and in timm's registry.

`HubModel` needs the extra `hub`. `import convattn.hub.timm` needs timm and registers the networks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from convattn.hub.huggingface import HubModel as HubModel

__all__ = ["HubModel"]


def __getattr__(name: str) -> Any:
    if name != "HubModel":
        raise AttributeError(f"module 'convattn.hub' has no attribute {name!r}")
    from convattn.hub.huggingface import HubModel

    return HubModel
