"""Compile the operators, as hatchling's build hook, or by hand: `python csrc/build.py`.

The library is bound to no version of Python or PyTorch: it holds functions of PyTorch's stable ABI,
and PyTorch is there when it is loaded, not when it is built. Without a compiler, or with one that
refuses, nothing is built, and convattn computes with PyTorch's own operators.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

SOURCES = Path(__file__).resolve().parent
TARGET = Path("convattn/ops/libconvattn.so")
X86 = platform.machine().lower() in ("x86_64", "amd64")
PROCESSORS = {"baseline": ""}  # the files of kernels/ are compiled for each, those of ops/ once
if X86:
    PROCESSORS["avx2"] = "-mavx2 -mfma"
    PROCESSORS["avx512"] = (
        "-mavx512f -mavx512vl -mavx512bw -mavx512dq -mfma -mprefer-vector-width=512"
    )
COMMON = ["-std=c++17", "-fPIC", "-fvisibility=hidden", "-fno-math-errno"]


def find_compiler() -> str | None:
    """$CXX, or the first of the usual names."""
    wanted = os.environ.get("CXX")
    names = [wanted] if wanted else ["c++", "g++", "clang++"]
    return next((found for name in names if (found := shutil.which(name))), None)


def compile_library(target: Path) -> None:
    """Write the library to `target`, with $CXXFLAGS behind our own.

    Raises:
        RuntimeError: there is no compiler, or it failed; the text says which.
    """
    compiler = find_compiler()
    if compiler is None or sys.platform not in ("linux", "darwin"):
        raise RuntimeError("no C++ compiler found")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        given = os.environ.get("CXXFLAGS", "").split()
        flags = [*COMMON, *(["-DCONVATTN_X86"] if X86 else []), *given]
        units = [
            (
                source,
                folder / f"{processor}-{source.stem}.o",
                ["-O3", *flags, f"-DCONVATTN_ISA={processor}", *own.split()],
            )
            for processor, own in PROCESSORS.items()
            for source in sorted(SOURCES.glob("kernels/*.cpp"))
        ]
        for source in sorted(SOURCES.glob("ops/*.cpp")):
            units.append((source, folder / f"{source.stem}.o", ["-O2", *flags]))
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            list(
                pool.map(lambda u: _run([compiler, *u[2], "-c", str(u[0]), "-o", str(u[1])]), units)
            )
        library = folder / "library.so"
        objects = [str(out) for _, out, _ in units]
        _run([compiler, *given, "-shared", *objects, "-o", str(library), *_link(compiler, folder)])
        target.parent.mkdir(parents=True, exist_ok=True)
        fresh = target.with_suffix(f".{os.getpid()}")
        shutil.copyfile(library, fresh)
        fresh.replace(target)  # a process that has the old one loaded keeps it


def _link(compiler: str, folder: Path) -> list[str]:
    """Flags that leave PyTorch's functions to the loader."""
    if sys.platform == "darwin":
        return ["-undefined", "dynamic_lookup"]
    # an empty library of PyTorch's name: the loader takes the real one, which is loaded by then
    stub = folder / "libtorch_cpu.so"
    source = folder / "stub.cpp"
    source.write_text("")
    _run([compiler, "-shared", "-fPIC", f"-Wl,-soname,{stub.name}", str(source), "-o", str(stub)])
    return [f"-L{folder}", "-Wl,--no-as-needed", "-ltorch_cpu", "-Wl,-z,now"]


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}\n{done.stderr}")


class BuildHook(BuildHookInterface):  # type: ignore[type-arg]
    """Puts the library into a wheel; for an editable install into the source folder."""

    folder: tempfile.TemporaryDirectory[str] | None = None

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called by hatchling before a wheel is put together."""
        if self.target_name != "wheel":
            return
        if version == "editable":
            target = SOURCES.parent / "src" / TARGET
        else:
            self.folder = tempfile.TemporaryDirectory()
            target = Path(self.folder.name) / TARGET.name
        try:
            compile_library(target)
        except (RuntimeError, OSError) as problem:
            self.app.display_warning(f"convattn is built without its operators: {problem}")
            return
        tag = sysconfig.get_platform().replace("-", "_").replace(".", "_")
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{tag}"
        if version != "editable":
            build_data["force_include"][str(target)] = str(TARGET)

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Called by hatchling afterwards."""
        if self.folder is not None:
            self.folder.cleanup()


if __name__ == "__main__":
    compile_library(SOURCES.parent / "src" / TARGET)
