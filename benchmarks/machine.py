"""The machine and the versions with which figures are measured."""

import os
import platform
from importlib import metadata
from pathlib import Path

#: Instructions that decide how fast a processor multiplies, the fastest first.
UNITS = ("amx_int8", "amx_bf16", "avx512_bf16", "avx512_vnni", "avx_vnni", "avx512f", "avx2")
LIBRARIES = ("torch", "onnx", "onnxruntime-gpu", "openvino", "tensorrt-rtx-cu13", "numpy", "Pillow")


def units() -> tuple[str, ...]:
    """Which of ``UNITS`` this processor has; empty where the system does not say."""
    flags = _facts().get("flags", "").split()
    return tuple(unit for unit in UNITS if unit in flags)


def processor() -> str:
    """The processor's name and its ``units``."""
    name = _facts().get("model name") or platform.processor() or platform.machine()
    return f"{name}, {' '.join(units())}" if units() else name


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def versions() -> dict[str, str]:
    """Of Python and of the libraries that are installed."""
    found = {"Python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _facts() -> dict[str, str]:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return {}
    pairs = (line.split(":", 1) for line in lines if ":" in line)
    return {key.strip(): value.strip() for key, value in pairs}
