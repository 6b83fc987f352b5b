"""``doctor``: what this machine can do, what it lacks, and whether a bundle runs on it."""

import os
import platform
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from typing import overload

from vggspec.base.quantities import memory
from vggspec.base.short_repr import short_repr
from vggspec.base.version import __version__
from vggspec.base.wording import count
from vggspec.bundle.manifest import Manifest
from vggspec.bundle.opening import open_bundle
from vggspec.runtime import machine
from vggspec.runtime.compatibility import (
    Finding,
    compare_bundle,
    compile_command,
    fits,
    rtx_supports,
)
from vggspec.runtime.tensorrt.library import FLAVOURS

#: Library, its distributions in the order of preference, its purpose, the extra that brings it.
LIBRARIES = (
    ("lark", ("lark",), "reads specs", ""),
    ("click", ("click",), "the command line", ""),
    ("numpy", ("numpy",), "arrays", ""),
    ("pillow", ("pillow",), "decodes images", ""),
    ("rich", ("rich",), "progress", ""),
    ("safetensors", ("safetensors",), "weights", ""),
    ("onnx", ("onnx",), "compile", ""),
    ("onnxruntime", ("onnxruntime-gpu", "onnxruntime"), "predict", ""),
    ("openvino", ("openvino",), "predict on a CPU, with `--device openvino`", "openvino"),
    ("torch", ("torch",), "train, PyTorch modules, --check of import", "train"),
    ("simplejpeg", ("simplejpeg",), "decodes JPEG faster than Pillow in training", "train"),
    ("cykooz-resizer", ("cykooz-resizer",), "rescales faster than Pillow in training", "train"),
    ("webdataset", ("webdataset",), "train on WebDataset shards", "train"),
    ("torchvision", ("torchvision",), "`randaugment` in recipes", "augment"),
    ("pyarrow", ("pyarrow",), "data sets in Parquet", "parquet"),
    ("fsspec", ("fsspec",), "shards behind URLs", "remote"),
    ("matplotlib", ("matplotlib",), "the picture of a training run", "train"),
    ("tensorboard", ("tensorboard",), "a training run in TensorBoard", "train"),
    ("h5py", ("h5py",), "import and export Keras's files", "keras"),
    ("scikit-learn", ("scikit-learn",), "svm, demo", "svm"),
    (
        "tensorrt",
        FLAVOURS["tensorrt"].distributions,
        "compile --trt on the GPU that will run it, and run it",
        "trt",
    ),
    (
        "tensorrt-rtx",
        FLAVOURS["tensorrt_rtx"].distributions,
        "compile --trt anywhere, and run it",
        "rtx",
    ),
    ("pycuda", ("pycuda",), "runs TensorRT engines", "cuda"),
)

REQUIRED = {name for name, _, _, extra in LIBRARIES if not extra}


@dataclass(frozen=True, slots=True)
class Component:
    """A library or a device."""

    name: str
    purpose: str
    version: str | None
    """None if it is missing."""

    remedy: str
    """How to get it."""


@short_repr
@dataclass(frozen=True, slots=True, kw_only=True)
class MachineDiagnosis:
    """The libraries and devices of this machine."""

    components: tuple[Component, ...]
    notes: tuple[str, ...] = ()
    """Limits that follow from the components together."""

    @property
    def passed(self) -> bool:
        """Whether all libraries are installed that every installation requires."""
        return all(c.version is not None for c in self.components if c.name in REQUIRED)

    @property
    def title(self) -> str:
        """The versions of vggspec and Python, and the platform."""
        return f"vggspec {__version__}, Python {platform.python_version()} on {platform.platform()}"

    def as_data(self) -> list[dict[str, str | None]]:
        """The components as ``vggspec doctor --json`` prints them."""
        return [asdict(component) for component in self.components]


@short_repr
@dataclass(frozen=True, slots=True, kw_only=True)
class BundleDiagnosis:
    """Whether a bundle runs on a machine."""

    bundle: str
    manifest: Manifest
    findings: tuple[Finding, ...]
    rebuild: tuple[str, ...]
    """The command lines that build the bundle again, for this machine."""

    @property
    def passed(self) -> bool:
        """Whether no finding is a problem."""
        return fits(self.findings)

    def as_data(self) -> dict[str, object]:
        """The diagnosis as ``vggspec doctor BUNDLE --json`` prints it."""
        return {
            "bundle": self.bundle,
            "fits": self.passed,
            "findings": [asdict(finding) for finding in self.findings],
            "rebuild": list(self.rebuild),
        }


@overload
def doctor(bundle: None = None) -> MachineDiagnosis: ...


@overload
def doctor(bundle: str | os.PathLike[str]) -> BundleDiagnosis: ...


def doctor(bundle: str | os.PathLike[str] | None = None) -> MachineDiagnosis | BundleDiagnosis:
    """List the libraries and devices of this machine, or compare it with what a bundle requires.

    All files of the bundle are compared with their digests first; nothing of it is loaded.

    Raises:
        VggspecError: it is no bundle, or a file of it was changed.
    """
    if bundle is None:
        return _examine_machine()
    manifest = open_bundle(bundle, deep=True).manifest
    here = machine.this_machine()
    path = os.fspath(bundle)
    return BundleDiagnosis(
        bundle=path,
        manifest=manifest,
        findings=(_files(manifest), *compare_bundle(manifest, here)),
        rebuild=compile_command(manifest, bundle=path, machine=here),
    )


def _files(manifest: Manifest) -> Finding:
    total = sum(entry.bytes for entry in manifest.files)
    text = f"{count(len(manifest.files), 'file')}, {memory(total)}, unchanged"
    return Finding("ok", "files", text)


def _examine_machine() -> MachineDiagnosis:
    driver = machine.ask_driver()
    return MachineDiagnosis(
        components=(*_libraries(), _processor(), *_devices(driver)), notes=tuple(_limits(driver))
    )


def _libraries() -> Iterator[Component]:
    for name, distributions, purpose, extra in LIBRARIES:
        what = f"vggspec[{extra}]" if extra else "vggspec"
        yield Component(name, purpose, _version(distributions), f'pip install "{what}"')


def _version(distributions: tuple[str, ...]) -> str | None:
    for distribution in distributions:
        try:
            return metadata.version(distribution)
        except metadata.PackageNotFoundError:
            continue
    return None


def _processor() -> Component:
    name, _, instructions = machine.processor().partition(", ")
    has_int8 = any(each in instructions for each in ("vnni", "amx_int8"))
    types = ["fp32", *(["bf16"] if "bf16" in instructions else []), "int8"]
    speed = "" if has_int8 else " without VNNI or AMX"
    return Component("processor", f"multiplies in {', '.join(types)}{speed}", name, "")


def _devices(driver: machine.Driver | None) -> Iterator[Component]:
    where = "the NVIDIA driver" if sys.platform != "darwin" else "a machine with an NVIDIA GPU"
    remedy = f"requires {where}; not needed on a CPU"
    if driver is not None and not driver.gpus:
        remedy = f"the driver reports no GPU{f': {driver.trouble}' if driver.trouble else ''}"
    version = f"up to {driver.cuda}" if driver is not None and driver.gpus else None
    yield Component("CUDA", "predict on a GPU", version, remedy)
    for index, gpu in enumerate(driver.gpus if driver is not None else ()):
        purpose = f"compute capability {gpu.capability}, {memory(gpu.memory_bytes)}"
        yield Component(f"GPU {index}", purpose, gpu.name, "")


def _limits(driver: machine.Driver | None) -> Iterator[str]:
    for index, gpu in enumerate(driver.gpus if driver is not None else ()):
        if not rtx_supports(gpu):
            yield (
                f"TensorRT-RTX does not run on GPU {index}, of compute capability"
                f" {gpu.capability}: build engines for it with `--trt-flavor tensorrt`"
            )
