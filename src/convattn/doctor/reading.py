"""Checks that read the model: its modules, the operators that ran, the values of its gates."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

from convattn.doctor.patient import Patient, items
from convattn.doctor.report import Finding

__all__ = ["READING_CHECKS"]

MOST = 0.95  # share of a gate's values at one end that makes it dead or saturated
CONSTANT = 1e-4  # spread below which a gate is a constant; untrained blocks are at 1e-2 and more

# Forward operators whose backward on CUDA torch.use_deterministic_algorithms refuses or warns of
# (its documentation, torch 2.15). A pooling to 1x1 runs as a mean and is not among them.
_NON_DETERMINISTIC = {
    "_adaptive_avg_pool2d": "a mean over one axis, or x.mean((2, 3), keepdim=True),",
    "_adaptive_avg_pool3d": "x.mean((2, 3, 4), keepdim=True)",
    "adaptive_max_pool2d": "x.amax((2, 3), keepdim=True), or a maximum over one axis",
    "adaptive_max_pool3d": "x.amax((2, 3, 4), keepdim=True)",
    "avg_pool3d": "a convolution with constant weights",
    "fractional_max_pool2d": "F.max_pool2d",
    "fractional_max_pool3d": "F.max_pool2d",
    "max_pool3d_with_indices": "a strided convolution",
    "upsample_linear1d": "mode='nearest'",
    "upsample_bicubic2d": "mode='nearest'",
    "upsample_trilinear3d": "mode='nearest'",
    "reflection_pad1d": "padding_mode='zeros'",
    "reflection_pad2d": "padding_mode='zeros'",
    "reflection_pad3d": "padding_mode='zeros'",
    "replication_pad1d": "padding_mode='zeros'",
    "replication_pad2d": "padding_mode='zeros'",
    "replication_pad3d": "padding_mode='zeros'",
    "grid_sampler_2d": "a fixed resampling as a matrix product",
    "grid_sampler_3d": "a fixed resampling as a matrix product",
    "kthvalue": "torch.topk",
    "histc": "torch.bucketize and a one-hot sum",
    "median": "torch.sort",
}


def gates(patient: Patient) -> Iterator[Finding]:
    """Gates that erase, that pass everything, or that are always the same."""
    images = "the given images" if patient.given else "noise"
    for gate in patient.trace.gates:
        if gate.low >= MOST:
            yield Finding(
                "dead-gate",
                "warning",
                gate.path,
                f"On {images} at least {MOST:.0%} of the gate's values are below 0.01: what it "
                "multiplies is erased, and it gets no gradient to come back.",
                "Lower the learning rate or the weight decay of this block, start it with "
                "init='identity', or remove it.",
            )
        elif gate.high >= MOST:
            yield Finding(
                "saturated-gate",
                "warning",
                gate.path,
                f"On {images} at least {MOST:.0%} of the gate's values are above 0.99: it passes "
                "everything and gets hardly any gradient.",
                "Remove the block, or keep its logits small: a norm in front of the sigmoid, a "
                "lower learning rate.",
            )
        elif gate.spread == 0 and gate.mean == 0.5:
            yield Finding(
                "gate-at-start",
                "note",
                gate.path,
                "The gate is exactly one half everywhere: its last layer is zero, as before the "
                "first training step.",
                "Nothing, if the block is new. After training it means that no gradient reached "
                "it: look at requires_grad and at the optimiser's parameters.",
            )
        elif gate.spread < CONSTANT:
            # on noise it says little: an untrained network's maps, and so its logits, may vanish
            yield Finding(
                "constant-gate",
                "warning" if patient.given else "note",
                gate.path,
                f"On {images} the gate is the same number for every image, channel and position.",
                "Look again with images=... of the data. If it is so there, remove the block and "
                "scale the next layer by that number, or train it with init='identity'.",
            )
        elif patient.given and gate.spread_over_images < CONSTANT:
            yield Finding(
                "image-independent-gate",
                "note",
                gate.path,
                "The gate does not depend on the image, only on channel or position.",
                "It can be folded into the next layer's weights.",
            )


def determinism(patient: Patient) -> Iterator[Finding]:
    """Operators whose gradient on CUDA is not deterministic."""
    for call in patient.trace.calls:
        replacement = _NON_DETERMINISTIC.get(call.name)
        if replacement:
            yield Finding(
                "non-deterministic",
                "warning",
                call.path,
                f"The gradient of {call.name} on CUDA depends on the order of its atomic additions "
                "and torch.use_deterministic_algorithms(True) refuses it.",
                f"Use {replacement} instead.",
            )


def export(patient: Patient) -> Iterator[Finding]:
    """What exporters and mobile runtimes refuse."""
    for path, module in patient.model.named_modules():
        sizes: Any = getattr(module, "output_size", None)
        adaptive = isinstance(
            module,
            nn.modules.pooling._AdaptiveAvgPoolNd | nn.modules.pooling._AdaptiveMaxPoolNd,
        )
        if adaptive and isinstance(sizes, tuple | list) and None in sizes:
            yield Finding(
                "export",
                "warning",
                path,
                f"{type(module).__name__}({tuple(sizes)}): torch.jit.script fails on the None, "
                "ONNX export needs a size known in advance, and its gradient on CUDA is not "
                "deterministic.",
                "Use x.mean(3, keepdim=True) or x.mean(2, keepdim=True); for mobile runtimes "
                "F.avg_pool2d with the window written out.",
            )
    for call in patient.trace.calls:
        if call.name in ("mean", "amax", "max") and _leaves_the_delegate(call.args, call.kwargs):
            yield Finding(
                "mobile-delegate",
                "note",
                call.path,
                "A mean or maximum over one axis, or over H and W without keepdim: ExecuTorch's "
                "XNNPACK takes a mean over (2, 3) with keepdim=True only, and runs it outside.",
                "For a phone, export a copy with F.avg_pool2d and the window written out.",
            )


def _leaves_the_delegate(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    shape = args[0] if args else ()
    if not isinstance(shape, tuple) or len(shape) != 4 or len(args) < 2:
        return False
    dims = args[1] if isinstance(args[1], list | tuple) else [args[1]]
    if not all(isinstance(d, int) for d in dims):
        return False
    keeps = bool(args[2]) if len(args) > 2 else bool(kwargs.get("keepdim", False))
    return sorted(d % 4 for d in dims) != [2, 3] or not keeps


def unregistered(patient: Patient) -> Iterator[Finding]:
    """Layers and parameters in plain Python containers, which torch does not see."""
    registered = {id(m) for m in patient.model.modules()}
    registered |= {id(p) for p in patient.model.parameters()}
    registered |= {id(b) for b in patient.model.buffers()}
    for path, module in patient.model.named_modules():
        for name, value in vars(module).items():
            if name in ("_parameters", "_buffers", "_modules"):
                continue
            for item in items(value):
                hidden = isinstance(item, nn.Module) and any(True for _ in item.parameters())
                trained = isinstance(item, Tensor) and item.requires_grad
                if (hidden or trained) and id(item) not in registered:
                    yield Finding(
                        "unregistered-parameters",
                        "error",
                        f"{path}.{name}".lstrip("."),
                        "Layers with parameters are kept in a plain list, tuple or dict: they are "
                        "not in parameters() or state_dict(), so they are neither trained, saved "
                        "nor moved to the GPU.",
                        "Use nn.ModuleList, nn.ModuleDict or nn.ParameterList.",
                    )
                    break


READING_CHECKS = {
    "gates": gates,
    "deterministic operators": determinism,
    "export": export,
    "registration of all layers": unregistered,
}
