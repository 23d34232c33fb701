"""The GPU kernels without a GPU: computed by Triton's interpreter, and compiled for GPUs."""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from own_process import run_tests

pytest.importorskip("triton", reason="Triton, which PyTorch brings for Linux, is not installed")

HERE = Path(__file__).parent
FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}


@pytest.mark.long
def test_in_tritons_interpreter() -> None:
    # Triton looks at the variable when it is imported
    run_tests(str(HERE / "triton_interpreted.py"), TRITON_INTERPRET="1")


def test_triton_is_imported_for_maps_on_a_gpu_alone() -> None:
    code = (
        "import sys, torch, convattn\n"
        "convattn.create_block('ca', 8)(torch.ones(2, 8, 3, 3)).sum().backward()\n"
        "assert 'triton' not in sys.modules"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)


class _Recorder:
    """Stands for a kernel and keeps what it is launched with."""

    def __init__(self, kernel: Any) -> None:
        self.kernel, self.launches = kernel, []

    def __getitem__(self, grid: tuple[int, ...]) -> Callable[..., None]:
        return lambda *given, **named: self.launches.append(
            dict(zip(self.kernel.arg_names, given, strict=False)) | named
        )


def _compile(kernel: Any, launch: dict[str, Any], capability: int) -> str:
    """PTX of one launch; machine code is made too, so that its assembler has accepted it."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    types = {torch.float32: "fp32", torch.float16: "fp16", torch.bfloat16: "bf16"}
    signature, constants, attributes = {}, {}, {}
    for place, parameter in enumerate(kernel.params):
        name, value = parameter.name, launch[parameter.name]
        if isinstance(value, Tensor):
            signature[name] = f"*{types[value.dtype]}"
            attributes[(place,)] = [["tt.divisibility", 16]]
        elif parameter.is_constexpr or value is None:
            signature[name], constants[name] = "constexpr", value
        else:
            signature[name] = "fp32" if isinstance(value, float) else "i32"
    options = {name: launch[name] for name in ("num_warps", "enable_fp_fusion")}
    source = ASTSource(fn=kernel, signature=signature, constexprs=constants, attrs=attributes)
    made = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)
    assert made.asm["cubin"]
    return made.asm["ptx"]


@pytest.mark.parametrize("capability", [75, 80, 90, 100])
def test_the_kernels_compile_for_gpus_and_read_16_bytes_at_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capability: int
) -> None:
    from convattn.ops import _kernels
    from convattn.ops.apply_gates.triton import gate_gradients, map_gradient
    from convattn.ops.strip_means.triton import strip_means

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    recorders = [_Recorder(_kernels.gate), _Recorder(_kernels.sums)]
    monkeypatch.setattr(_kernels, "gate", recorders[0])
    monkeypatch.setattr(_kernels, "sums", recorders[1])
    dtypes = [torch.float16, torch.float32] if capability < 80 else [torch.bfloat16]
    for dtype, layout in itertools.product(dtypes, FORMATS):
        x = torch.empty(2, 16, 56, 56, dtype=dtype).contiguous(memory_format=FORMATS[layout])
        row, column = x.new_empty(2, 16, 56, 1), x.new_empty(2, 16, 1, 56)
        strip_means(x)
        gate_gradients(x, x, column, row)
        map_gradient(x, column, row, row=row, column=column)
    for recorder in recorders:
        assert len(recorder.launches) == 2 * len(dtypes) * (1 + (recorder is recorders[1]))
        for launch in recorder.launches:
            text = _compile(recorder.kernel, launch, capability)
            # straight into registers, or ahead of time into shared memory
            assert "ld.global.v4.b32" in text or "cp.async.cg" in text
