"""The versions with which figures are measured."""

import platform
from collections.abc import Iterable
from importlib import metadata

LIBRARIES = ("torch", "onnx", "onnxruntime-gpu", "openvino", "tensorrt-rtx-cu13", "numpy", "Pillow")


def versions() -> dict[str, str]:
    """Of Python and of the libraries that are installed."""
    return {"Python": platform.python_version(), **installed(LIBRARIES)}


def installed(names: Iterable[str]) -> dict[str, str]:
    """The versions of those that are installed."""
    found = {}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
