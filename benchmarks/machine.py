"""The versions with which figures are measured."""

import platform
from importlib import metadata

LIBRARIES = ("torch", "onnx", "onnxruntime-gpu", "openvino", "tensorrt-rtx-cu13", "numpy", "Pillow")


def versions() -> dict[str, str]:
    """Of Python and of the libraries that are installed."""
    found = {"Python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
