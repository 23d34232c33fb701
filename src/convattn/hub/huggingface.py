"""Networks saved to a folder or the Hugging Face Hub, and made again from there."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from convattn import __version__
from convattn.core.errors import ArgumentError, CheckpointError, StateDictError
from convattn.core.names import require
from convattn.core.weights import read_weights
from convattn.insertion.record import insertions, rebuild
from convattn.models import create_model

__all__ = ["HubModel"]

if TYPE_CHECKING:
    from huggingface_hub import ModelHubMixin
else:
    ModelHubMixin = require("huggingface_hub", "hub").ModelHubMixin

_WEIGHTS = "model.safetensors"
_CONFIG = "config.json"
_CARD = """---
{{ card_data }}
---

A network of convattn. To load it:

```python
from convattn.hub import HubModel

network = HubModel.from_pretrained("{{ repo_id | default("this folder", true) }}").network
```
"""


class HubModel(  # type: ignore[call-arg]
    nn.Module, ModelHubMixin, library_name="convattn", model_card_template=_CARD
):
    """A network with the methods of the Hugging Face Hub's mixin.

    `save_pretrained(folder)` writes `model.safetensors`, the network's own state dict, and
    `config.json`, what makes the network again: the call of `create_model` and the record of what
    was inserted. `from_pretrained(folder or repository)` makes and loads it, and
    `push_to_hub(repository)` uploads it; all of the mixin's options are accepted.

    Args:
        network: from `create_model`, or any network; one that was not made by `create_model` is
            handed to `from_pretrained` again as `host=`, as it was before blocks were inserted.

    Shape:
        Those of the network.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Any:
        """What the network returns."""
        return self.network(x)

    def _save_pretrained(self, save_directory: Path) -> None:
        config = {
            "convattn": __version__,
            "create_model": getattr(self.network, "origin", None),
            "inserted": insertions(self.network),
        }
        try:
            text = json.dumps(config, indent=2)
        except TypeError as error:
            raise ArgumentError(
                f"{type(self.network).__name__} was made with an argument that JSON cannot hold: "
                f"{error}. Use numbers, texts, lists and mappings."
            ) from error
        weights = require("safetensors.torch", "hub")
        weights.save_model(self.network, str(save_directory / _WEIGHTS))
        (save_directory / _CONFIG).write_text(text + "\n", encoding="utf-8")

    @classmethod
    def _from_pretrained(
        cls,
        *,
        model_id: str,
        revision: str | None,
        cache_dir: str | Path | None,
        force_download: bool,
        local_files_only: bool,
        token: str | bool | None,
        config: Mapping[str, Any] | None = None,
        host: nn.Module | None = None,
    ) -> HubModel:
        """Raises CheckpointError, ArgumentError and StateDictError, each with what does not fit."""
        path = Path(model_id, _WEIGHTS)
        if not Path(model_id).is_dir():
            path = require("huggingface_hub", "hub").hf_hub_download(
                model_id,
                _WEIGHTS,
                revision=revision,
                cache_dir=cache_dir,
                force_download=force_download,
                local_files_only=local_files_only,
                token=token,
            )
        network = _make(model_id, config, host)
        weights = read_weights(path)
        for name, tensor in network.state_dict(keep_vars=True).items():
            if name in weights:  # else a network saved in double precision would lose bits
                tensor.data = tensor.data.to(weights[name].dtype)
        try:
            network.load_state_dict(weights)
        except RuntimeError as error:
            raise StateDictError(
                f"{path} does not fit what {_CONFIG} describes: {error}"
            ) from error
        return cls(network.eval())


def _make(model_id: str, config: Mapping[str, Any] | None, host: nn.Module | None) -> nn.Module:
    if config is None or "convattn" not in config:
        raise CheckpointError(f"{model_id} was not saved by convattn: no {_CONFIG} that says so")
    origin = config.get("create_model")
    if host is None and origin is None:
        raise ArgumentError(
            f"{model_id} holds a network that create_model did not make; hand it over, as it was "
            "before blocks were inserted: HubModel.from_pretrained(..., host=network)"
        )
    network = create_model(**_tuples(origin)) if host is None else host
    return rebuild(network, config.get("inserted", ()))


def _tuples(value: Any) -> Any:
    """The lists that JSON made of tuples, as tuples."""
    if isinstance(value, Mapping):
        return {key: _tuples(inner) for key, inner in value.items()}
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
