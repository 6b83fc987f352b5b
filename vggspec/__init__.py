"""vggspec: write a network as a column of the VGG paper's table, and train, compile, apply it.

import vggspec

module = vggspec.torch_module("specs/D.vgg", weights="D.safetensors")
vggspec.compile("specs/D.vgg", weights="D.safetensors", out="D")
with vggspec.load("D") as predictor:
    print(predictor("photo.jpg").top(5))
"""

from __future__ import annotations

from vggspec.base.version import __version__

TYPE_CHECKING = False  # nothing is loaded here: a command comes to its first line at once
if TYPE_CHECKING:
    import os
    from typing import Any, Literal

    from vggspec.base.diagnostic import MissingLibraryError, VggspecError
    from vggspec.compiler.compiling import compile  # noqa: A004 (the command's name)
    from vggspec.compiler.exporting import export
    from vggspec.compiler.ir import Network
    from vggspec.compiler.refitting import refit
    from vggspec.compiler.torch_module import torch_module
    from vggspec.runtime.predictor import Predictor

    Path = str | os.PathLike[str]

__all__ = [
    "MissingLibraryError",
    "VggspecError",
    "__version__",
    "compile",
    "export",
    "load",
    "network",
    "refit",
    "torch_module",
]


_MODULES = {
    "MissingLibraryError": "vggspec.base.diagnostic",
    "VggspecError": "vggspec.base.diagnostic",
    "compile": "vggspec.compiler.compiling",
    "export": "vggspec.compiler.exporting",
    "refit": "vggspec.compiler.refitting",
    "torch_module": "vggspec.compiler.torch_module",
}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        import importlib

        return getattr(importlib.import_module(_MODULES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def network(spec: str) -> Network:
    """The network of a spec, ``D.vgg`` or ``table1.vgg:D``: layers, shapes, parameters.

    Raises:
        VggspecError: the spec cannot be read or has mistakes.
    """
    from vggspec.compiler.lower import load_network

    return load_network(spec).network


def load(
    bundle: Path,
    *,
    device: Literal["auto", "cpu", "cuda", "tensorrt"] = "auto",
    threads: int | None = None,
) -> Predictor:
    """Open a bundle to classify images: ``vggspec.load("D")("photo.jpg").top(5)``.

    A TensorRT engine is native code, and loaded only for the device ``tensorrt``.

    Raises:
        VggspecError: it is not a bundle, or was changed.
        MissingLibraryError: the device was asked for by name and cannot be had.
    """
    from vggspec.runtime.predictor import Predictor

    return Predictor(bundle, device=device, threads=threads)
