"""``vggspec doctor``: what this machine can do, what it lacks, and whether a bundle runs on it."""

import json
import platform
import shutil
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from typing import TYPE_CHECKING

import click

from vggspec.base.render import shown
from vggspec.base.version import __version__
from vggspec.runtime.tensorrt.seam import FLAVOURS

if TYPE_CHECKING:
    from vggspec.bundle.manifest import Manifest
    from vggspec.runtime import compatibility


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

WIDEST = 100  # columns
LEVELS = {"ok": "green", "unknown": "yellow", "problem": "red"}


@click.command(
    "doctor",
    epilog="""\b
Examples:
  vggspec doctor
  vggspec doctor D
  vggspec doctor D --json""",
)
@click.argument("bundle", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
def command(bundle: str | None, *, as_json: bool) -> int:
    """Say which libraries and devices are here, what each is for, and how to get what is not.

    With BUNDLE, say whether it runs on this machine, and why not: its files are compared with
    their digests, and its engine with the machine, before anything of it is loaded.

    Exit code 3 when something is missing that every installation, or the bundle, needs.
    """
    if bundle is not None:
        return _examine(bundle, as_json=as_json)
    findings = [*_libraries(), *_devices()]
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


def _devices() -> Iterator[Finding]:
    from vggspec.cli.table import memory
    from vggspec.runtime.machine import ask_driver

    driver = ask_driver()
    where = "the NVIDIA driver" if sys.platform != "darwin" else "a machine with an NVIDIA GPU"
    remedy = f"wants {where}; CPUs do without"
    if driver is not None and not driver.gpus:
        remedy = f"the driver shows no GPU: {driver.trouble or 'there is none'}"
    found = f"up to {driver.cuda}" if driver is not None and driver.gpus else None
    yield Finding("CUDA", "predict on a GPU", found, remedy)
    for index, gpu in enumerate(driver.gpus if driver is not None else ()):
        purpose = f"compute capability {gpu.capability}, {memory(gpu.memory_bytes)}"
        yield Finding(f"GPU {index}", purpose, gpu.name, "")


# A bundle on this machine.


def _examine(path: str, *, as_json: bool) -> int:
    from vggspec.bundle.manifest import open_bundle
    from vggspec.runtime.compatibility import compare_bundle, compile_command, fits
    from vggspec.runtime.machine import this_machine

    manifest = open_bundle(path, deep=True).manifest
    machine = this_machine()
    findings = (_files(manifest), *compare_bundle(manifest, machine))
    does_fit = fits(findings)
    commands = compile_command(manifest, bundle=path, machine=machine)
    if as_json:
        found = {
            "bundle": path,
            "fits": does_fit,
            "findings": [asdict(finding) for finding in findings],
            "rebuild": list(commands),
        }
        click.echo(json.dumps(found, indent=2))
    else:
        click.echo(f"{shown(path)}: {_title(manifest)}\n")
        _print(findings)
        click.echo("\nIt should run here." if does_fit else "\nIt does not run here.")
        if manifest.engine is not None and any(f.level != "ok" for f in findings):
            click.echo("To build it anew:\n")
            for line in commands:
                click.echo(f"  {shown(line)}")
    return 0 if does_fit else 3


def _files(manifest: "Manifest") -> "compatibility.Finding":
    from vggspec.base.wording import count
    from vggspec.cli.table import memory
    from vggspec.runtime.compatibility import Finding as Requirement

    total = sum(entry.bytes for entry in manifest.files)
    text = f"{count(len(manifest.files), 'file')}, {memory(total)}, as they were written"
    return Requirement("ok", "files", text)


def _title(manifest: "Manifest") -> str:
    net = f"net {shown(manifest.net)} in {manifest.precision}"
    if manifest.engine is None:
        return f"{net}, a graph for ONNX Runtime"
    engine = manifest.engine
    return f"{net}, an engine of {FLAVOURS[engine.flavour].title} {shown(engine.version)}"


def _print(findings: "tuple[compatibility.Finding, ...]") -> None:
    from vggspec.cli.terminal import use_color

    color = use_color(sys.stdout)
    width = max(len(finding.subject) for finding in findings)
    columns = min(shutil.get_terminal_size((WIDEST, 0)).columns, WIDEST)
    for finding in findings:
        level = f"{finding.level:8}"
        begin = f"{level} {finding.subject:{width}}  "
        room = max(columns - len(begin), 20)
        lines = textwrap.wrap(
            shown(finding.text), room, break_on_hyphens=False, break_long_words=False
        )
        text = f"\n{' ' * len(begin)}".join(lines)
        styled = click.style(level, fg=LEVELS[finding.level]) if color else level
        click.echo(f"{styled}{begin[len(level) :]}{text}", color=color)
