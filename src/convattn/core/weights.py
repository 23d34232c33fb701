"""Weight files of any origin: tensors under names, without running what a pickle might contain."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from os import PathLike
from pathlib import Path
from typing import Any

from torch import Tensor

from convattn.core.errors import CheckpointError, CheckpointNotFoundError
from convattn.core.files import load_weights_only, verified_payload
from convattn.core.names import require

__all__ = ["plain_state_dict", "read_weights"]

# names under which training scripts store the network's state dict, the first that is there counts
_WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "network", "weights", "params")
# put before every key by DataParallel and DistributedDataParallel, and by torch.compile
_PREFIXES = ("module.", "_orig_mod.")


def read_weights(path: str | PathLike[str]) -> dict[str, Tensor]:
    """Read a network's state dict from a file, to the CPU.

    Args:
        path: a file of `torch.save`, of safetensors (told apart by their content), or of a run.
            Wrappers and prefixes are removed as by `plain_state_dict`.

    Raises:
        CheckpointNotFoundError: there is no such file.
        CheckpointError: it is damaged, holds no state dict, or is a pickle of more than tensors
            and plain values; the text names what it wanted and nothing of it was run.
        MissingExtraError: a safetensors file without that library.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise CheckpointNotFoundError(f"no weights at {path}: {error.strerror}") from error
    except OSError as error:
        raise CheckpointError(f"cannot read weights {path}: {error.strerror}") from error
    if data[8:9] == b"{":  # behind the 8 bytes that hold the length of a safetensors header
        try:
            return plain_state_dict(require("safetensors.torch", "hub").load(data), str(path))
        except Exception as error:
            if isinstance(error, (ImportError, CheckpointError)):
                raise
            raise CheckpointError(f"{path} is a damaged safetensors file: {error}") from error
    payload = verified_payload(path, data) or data
    return plain_state_dict(load_weights_only(path, payload), str(path))


def plain_state_dict(state: Mapping[str, Any], origin: str = "the mapping") -> dict[str, Tensor]:
    """The state dict in what a training script saved.

    Args:
        state: the state dict itself, or a mapping that has it under "state_dict",
            "model_state_dict", "model", "net", "network", "weights" or "params", at any depth and
            beside other entries such as the optimiser's. The prefixes "module." and "_orig_mod."
            are removed where all keys have them.
        origin: named in the error.

    Raises:
        CheckpointError: there is no state dict in it.
    """
    inner: Any = state
    while isinstance(inner, Mapping) and not _is_state_dict(inner):
        name = next((name for name in _WRAPPERS if isinstance(inner.get(name), Mapping)), None)
        if name is None:
            found = ", ".join(f"{key!r}: {type(inner[key]).__name__}" for key in [*inner][:8])
            raise CheckpointError(
                f"{origin} holds no state dict: neither tensors under names nor one of "
                f"{', '.join(map(repr, _WRAPPERS))} with them. It has {found}."
            )
        inner = inner[name]
    tensors = dict(inner)
    while tensors and (prefix := next((p for p in _PREFIXES if _all_begin(tensors, p)), None)):
        tensors = {key.removeprefix(prefix): tensor for key, tensor in tensors.items()}
    return tensors


def _all_begin(keys: Iterable[str], prefix: str) -> bool:
    return all(key.startswith(prefix) for key in keys)


def _is_state_dict(state: Mapping[Any, Any]) -> bool:
    """Also of nothing: some blocks have no parameter."""
    return all(isinstance(k, str) and isinstance(v, Tensor) for k, v in state.items())
