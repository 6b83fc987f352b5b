"""The words for a machine with a GPU in the results."""

import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from benchmarks.machine import installed
from vggspec.runtime.machine import this_machine
from vggspec.runtime.tensorrt.library import FLAVOURS


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """In Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def heading(day: str) -> str:
    """When, where, with what."""
    machine, release = this_machine(), driver_release()
    gpu = str(machine.gpus[0]) if machine.gpus else "no GPU"
    driver = f", driver {release}" if release else ""
    cuda = f", CUDA {machine.driver.cuda}" if machine.driver else ""
    versions = ", ".join(f"{name} {number}" for name, number in libraries().items())
    python = sys.version.split()[0]
    return (
        f"## {gpu.partition(' (')[0]}, {day}\n\n{gpu}{driver}{cuda}, Python {python}; {versions}.\n"
    )


def libraries() -> dict[str, str]:
    """Versions of what is measured."""
    names = ["vggspec", "pycuda", "onnxruntime-gpu", "torch", "numpy"]
    for facts in FLAVOURS.values():
        names += facts.distributions
    return installed(names)


def driver_release() -> str | None:
    """Of NVIDIA's kernel module on Linux, such as 580.65.06."""
    try:
        text = Path("/proc/driver/nvidia/version").read_text("utf-8")
    except OSError:
        return None
    match = re.search(r"\b\d{3,}\.\d+(\.\d+)?\b", text)
    return match[0] if match else None
