"""vggspec: write a network as a column of the VGG paper's table, and train, compile, apply it.

import vggspec

module = vggspec.torch_module("specs/D.vgg", weights="D.safetensors")
vggspec.compile("specs/D.vgg", weights="D.safetensors", out="D")
with vggspec.load("D") as predictor:
    print(predictor("photo.jpg").top(5))

Everything that a command does is a function here, documented in docs/api.md. A name is imported
from its room when it is first used, so that ``import vggspec`` loads nothing else.
"""

from __future__ import annotations

from vggspec.base.version import __version__

TYPE_CHECKING = False
if TYPE_CHECKING:
    from vggspec.base.catalogue import explain
    from vggspec.base.diagnostic import ArgumentError, MissingLibraryError, Report, VggspecError
    from vggspec.base.watcher import Progress, Watcher
    from vggspec.bundle.options import CompileOptions, EngineOptions
    from vggspec.compiler.checking import check
    from vggspec.compiler.compiling import compile  # noqa: A004 (the command's name)
    from vggspec.compiler.difference import diff
    from vggspec.compiler.exporting import export
    from vggspec.compiler.exporting_weights import export_weights
    from vggspec.compiler.formatting import format_spec, format_text
    from vggspec.compiler.importing.converting import ImportOptions, import_weights
    from vggspec.compiler.initialise import initialise
    from vggspec.compiler.lower import network
    from vggspec.compiler.merging.merge import merge
    from vggspec.compiler.pasting import from_table
    from vggspec.compiler.perceptual import perceptual
    from vggspec.compiler.refitting import refit
    from vggspec.compiler.summary import packaged_specs, summarise
    from vggspec.compiler.torch_module import torch_module
    from vggspec.runtime.comparing import distance
    from vggspec.runtime.predicting import predict
    from vggspec.runtime.predictor import load
    from vggspec.studies.bench.bench import bench
    from vggspec.studies.diagnosis import doctor
    from vggspec.studies.evaluation.evaluate import evaluate
    from vggspec.studies.features.extraction import features
    from vggspec.studies.features.file import open_features
    from vggspec.studies.features.fit_svm import fit_svm
    from vggspec.studies.inspection.card import card
    from vggspec.studies.inspection.inspection import inspect
    from vggspec.studies.localisation.localise import localise
    from vggspec.studies.reproduce import reproduce
    from vggspec.studies.segmentation.evaluate_maps import evaluate_maps
    from vggspec.studies.verification.verification import verify
    from vggspec.training.compare import compare
    from vggspec.training.data_report import data_report
    from vggspec.training.progress import TrainWatcher
    from vggspec.training.rehearse import dry_run, find_rate, overfit
    from vggspec.training.train import train

#: Name to the module that defines it.
_MODULES = {
    "ArgumentError": "base.diagnostic",
    "CompileOptions": "bundle.options",
    "EngineOptions": "bundle.options",
    "ImportOptions": "compiler.importing.converting",
    "MissingLibraryError": "base.diagnostic",
    "Progress": "base.watcher",
    "Report": "base.diagnostic",
    "TrainWatcher": "training.progress",
    "VggspecError": "base.diagnostic",
    "Watcher": "base.watcher",
    "bench": "studies.bench.bench",
    "card": "studies.inspection.card",
    "check": "compiler.checking",
    "compare": "training.compare",
    "compile": "compiler.compiling",
    "data_report": "training.data_report",
    "diff": "compiler.difference",
    "distance": "runtime.comparing",
    "doctor": "studies.diagnosis",
    "dry_run": "training.rehearse",
    "evaluate": "studies.evaluation.evaluate",
    "evaluate_maps": "studies.segmentation.evaluate_maps",
    "explain": "base.catalogue",
    "export": "compiler.exporting",
    "export_weights": "compiler.exporting_weights",
    "features": "studies.features.extraction",
    "find_rate": "training.rehearse",
    "fit_svm": "studies.features.fit_svm",
    "format_spec": "compiler.formatting",
    "format_text": "compiler.formatting",
    "from_table": "compiler.pasting",
    "import_weights": "compiler.importing.converting",
    "initialise": "compiler.initialise",
    "inspect": "studies.inspection.inspection",
    "load": "runtime.predictor",
    "localise": "studies.localisation.localise",
    "merge": "compiler.merging.merge",
    "network": "compiler.lower",
    "open_features": "studies.features.file",
    "overfit": "training.rehearse",
    "packaged_specs": "compiler.summary",
    "perceptual": "compiler.perceptual",
    "predict": "runtime.predicting",
    "refit": "compiler.refitting",
    "reproduce": "studies.reproduce",
    "summarise": "compiler.summary",
    "torch_module": "compiler.torch_module",
    "train": "training.train",
    "verify": "studies.verification.verification",
}

__all__ = [
    "ArgumentError",
    "CompileOptions",
    "EngineOptions",
    "ImportOptions",
    "MissingLibraryError",
    "Progress",
    "Report",
    "TrainWatcher",
    "VggspecError",
    "Watcher",
    "__version__",
    "bench",
    "card",
    "check",
    "compare",
    "compile",
    "data_report",
    "diff",
    "distance",
    "doctor",
    "dry_run",
    "evaluate",
    "evaluate_maps",
    "explain",
    "export",
    "export_weights",
    "features",
    "find_rate",
    "fit_svm",
    "format_spec",
    "format_text",
    "from_table",
    "import_weights",
    "initialise",
    "inspect",
    "load",
    "localise",
    "merge",
    "network",
    "open_features",
    "overfit",
    "packaged_specs",
    "perceptual",
    "predict",
    "refit",
    "reproduce",
    "summarise",
    "torch_module",
    "train",
    "verify",
]


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    found: object = getattr(importlib.import_module(f"vggspec.{_MODULES[name]}"), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
