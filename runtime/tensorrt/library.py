"""The two flavours of TensorRT behind one seam: which is installed, and how its library is loaded.

``tensorrt`` (classic, 10 and 11) builds an engine on the GPU that will run it; ``tensorrt_rtx``
builds anywhere, also without a GPU, for named compute capabilities. Their Python bindings have the
same names, so code for one runs on the other. Where one lacks a name of the other, ``BRANCHES`` in
the API test says so.

Nothing here imports TensorRT until ``load`` is called.
"""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from typing import Any

from vggspec.base.diagnostic import MissingLibraryError
from vggspec.base.interrupt import held
from vggspec.base.optional import has_library
from vggspec.bundle.engine import Flavour


@dataclass(frozen=True, slots=True, kw_only=True)
class FlavourFacts:
    """What distinguishes a flavour."""

    title: str
    extra: str
    """The extra of vggspec that installs it."""

    distributions: tuple[str, ...]
    """Its names on PyPI, with the CUDA version that each was built with, where the name says."""


FLAVOURS: dict[Flavour, FlavourFacts] = {
    "tensorrt": FlavourFacts(
        title="TensorRT",
        extra="trt",
        distributions=("tensorrt", "tensorrt_cu13", "tensorrt_cu12"),
    ),
    "tensorrt_rtx": FlavourFacts(
        title="TensorRT-RTX",
        extra="rtx",
        distributions=("tensorrt_rtx_cu13", "tensorrt_rtx_cu12", "tensorrt_rtx"),
    ),
}


def installed() -> tuple[Flavour, ...]:
    """The flavours that are installed, the classic one first; none is imported."""
    return tuple(flavour for flavour in FLAVOURS if has_library(flavour))


def version(flavour: Flavour) -> str | None:
    """The installed version, without importing it; None where it is not installed."""
    for distribution in FLAVOURS[flavour].distributions:
        try:
            return metadata.version(distribution)
        except metadata.PackageNotFoundError:
            continue
    return None


def load(flavour: Flavour, purpose: str) -> Any:
    """The library's module.

    Raises:
        MissingLibraryError: it is not installed, or its own libraries do not load; one line says
            what to install.
    """
    facts = FLAVOURS[flavour]
    try:
        return importlib.import_module(flavour)
    except ImportError as error:
        install = f'pip install "vggspec[{facts.extra}]"'
        why = "" if isinstance(error, ModuleNotFoundError) else f" ({error})"
        raise MissingLibraryError(f"{purpose} needs {facts.title}{why}: {install}") from error


def make_logger(trt: Any, hear: Callable[[int, str], None]) -> Any:
    """A TensorRT logger that passes every message to ``hear`` as (severity, text).

    Severity is 0 for an internal error, 1 error, 2 warning, 3 information, 4 verbose. TensorRT
    logs from several threads, and no exception may go through it, not even a signal's.
    """

    class Logger(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        @held
        def log(self, severity: Any, text: str) -> None:
            hear(int(severity), text)

    return Logger()
