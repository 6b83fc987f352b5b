"""``vggspec doctor``: what this machine can do, and what it lacks."""

import json
import platform
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib import metadata

import click

from vggspec import __version__


@dataclass(frozen=True, slots=True)
class Finding:
    """A library or a device: what it is for, which version is here, how to get it."""

    name: str
    purpose: str
    version: str | None
    remedy: str


#: Library, its distributions in the order of preference, what it is for, the extra that brings it.
LIBRARIES = (
    ("lark", ("lark",), "reads specs", ""),
    ("click", ("click",), "the command line", ""),
    ("numpy", ("numpy",), "arrays", ""),
    ("pillow", ("pillow",), "decodes images", ""),
    ("rich", ("rich",), "progress", ""),
    ("safetensors", ("safetensors",), "weights", ""),
    ("onnx", ("onnx",), "compile", ""),
    ("onnxruntime", ("onnxruntime-gpu", "onnxruntime"), "predict", ""),
    ("torch", ("torch",), "train, compile --torch modules, import", "train"),
    ("simplejpeg", ("simplejpeg",), "decodes JPEG faster than Pillow in training", "train"),
    ("webdataset", ("webdataset",), "train on WebDataset shards", "train"),
    ("matplotlib", ("matplotlib",), "the picture of a training run", "train"),
    ("tensorboard", ("tensorboard",), "a training run in TensorBoard", "train"),
    ("scikit-learn", ("scikit-learn",), "demo", "demo"),
)


@click.command(
    "doctor",
    epilog="""\b
Examples:
  vggspec doctor
  vggspec doctor --json""",
)
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
def command(*, as_json: bool) -> int:
    """Say which libraries and devices are here, what each is for, and how to get what is not.

    Exit code 3 when something is missing that every installation has.
    """
    findings = [*_libraries(), _cuda()]
    if as_json:
        click.echo(json.dumps([asdict(finding) for finding in findings], indent=2))
    else:
        click.echo(
            f"vggspec {__version__}, Python {platform.python_version()} on {platform.platform()}\n"
        )
        width = max(len(finding.name) for finding in findings)
        for finding in findings:
            version = finding.version or "missing"
            remedy = f"   {finding.remedy}" if finding.version is None else ""
            line = f"{finding.name:{width}}  {version:14}  {finding.purpose}{remedy}"
            click.echo(line.rstrip())
    needed = {name for name, _, _, extra in LIBRARIES if not extra}
    is_whole = all(f.version is not None for f in findings if f.name in needed)
    return 0 if is_whole else 3


def _libraries() -> Iterator[Finding]:
    for name, distributions, purpose, extra in LIBRARIES:
        what = f"vggspec[{extra}]" if extra else "vggspec"
        yield Finding(name, purpose, _version(distributions), f'pip install "{what}"')


def _version(distributions: tuple[str, ...]) -> str | None:
    for distribution in distributions:
        try:
            return metadata.version(distribution)
        except metadata.PackageNotFoundError:
            continue
    return None


def _cuda() -> Finding:
    devices = 0
    if _version(("onnxruntime-gpu", "onnxruntime")) is not None:
        from vggspec.runtime.ort_session import count_cuda_devices

        devices = count_cuda_devices()
    found = f"{devices} device{'s' if devices != 1 else ''}" if devices else None
    where = "the NVIDIA driver" if sys.platform != "darwin" else "a machine with an NVIDIA GPU"
    return Finding("CUDA", "predict on a GPU", found, f"wants {where}; CPUs do without")
