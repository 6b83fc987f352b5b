"""Packs what a machine with a GPU and without network lacks, into parts of bounded size.

    python -m benchmarks.gpu.pack /tmp/gpu-pack --capability 9.0

PyTorch with CUDA, numpy, onnx, safetensors, pillow, click, ml_dtypes and pytest are expected there.
Compressing ONNX Runtime and TensorRT-RTX takes minutes. TensorRT-RTX does not run on GPUs of 9.0
and 10.x: ``--without rtx plan`` leaves it out. The folders ``1``, ``2`` ... can travel one by one,
beside a copy of the repository; an archive goes on in the next folder where a folder is full.
There, in the repository's root:

    eval "$(python3 -m benchmarks.gpu.install 1 2 3)"
    python3 -m benchmarks.gpu
"""

import argparse
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path

from benchmarks.gpu.fatbin import prune

MIB = 1 << 20

#: Of the wheels' names: versions of glibc that machines with a GPU have.
PLATFORMS = [f"manylinux_2_{minor}_x86_64" for minor in (28, 27, 24, 17, 5)]
PLATFORMS += ["manylinux2014_x86_64", "manylinux1_x86_64"]

#: The wheels in archives.
WHEELS: dict[str, tuple[str, ...]] = {
    "libraries": (
        *("lark", "rich", "markdown-it-py", "mdurl", "pygments", "simplejpeg"),
        *("hypothesis", "sortedcontainers"),  # pytest -m gpu
        *("pytools", "siphash24", "mako", "markupsafe", "platformdirs"),  # pycuda
    ),
    "onnxruntime": ("onnxruntime-gpu", "flatbuffers"),
    "rtx": ("tensorrt-rtx-cu13-libs", "tensorrt-rtx-cu13-bindings"),
}
RTX = "tensorrt-rtx-cu13"

#: Archives, the most needed first.
NAMES = ("libraries", "pycuda", "plan", "onnxruntime", "rtx")

#: Of ONNX Runtime, what no step uses.
UNUSED = ("**/libonnxruntime_providers_tensorrt.so", "onnxruntime/transformers")


def pip(*arguments: str, **environment: str) -> None:
    """Run pip; a failure is raised."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q", *arguments]
    subprocess.run(command, check=True, env={**os.environ, **environment})


def fetch_wheels(names: Sequence[str], python: str, site: Path) -> None:
    """Unpack wheels for the other machine's Python, in the releases that are installed here."""
    options = ["--no-deps", "--no-compile", "--only-binary=:all:", "--implementation", "cp"]
    options += ["--python-version", python, "--target", str(site)]
    for platform in PLATFORMS:
        options += ["--platform", platform]
    pip("install", *options, *map(as_here, names))


def as_here(name: str) -> str:
    """A requirement: the release that is installed here, so that both machines agree."""
    try:
        return f"{name}=={metadata.version(name)}"
    except metadata.PackageNotFoundError:
        return name


def fetch_pycuda(site: Path) -> None:
    """Fetch pycuda's source: there is no wheel. pip asks it for its metadata, and it asks for an
    nvcc, which need not work for that.
    """
    with tempfile.TemporaryDirectory() as folder:
        nvcc = Path(folder, "nvcc")
        nvcc.write_text("#!/bin/sh\n", "utf-8")
        nvcc.chmod(0o755)
        path = f"{folder}{os.pathsep}{os.environ['PATH']}"
        options = ["--no-deps", "--no-binary", "pycuda", "-d", str(site / "sources")]
        pip("download", *options, "pycuda", PATH=path, CUDA_ROOT=folder)


def prune_onnxruntime(site: Path, capability: int) -> None:
    """Leave what runs a graph on that GPU."""
    for pattern in UNUSED:
        for path in site.glob(pattern):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    for path in site.glob("**/libonnxruntime.so*"):
        path.unlink()  # for C programs; Python's module contains the same
    for path in site.glob("**/libonnxruntime_providers_cuda.so"):
        print(f"{path.name}: {prune(path, capability) / MIB:.0f} MiB of other GPUs' code blanked")


def build_plan(site: Path) -> None:
    """A TensorRT-RTX engine of a small net, built here without a GPU, and its fp32 graph."""
    plan = site / "plan"
    weights = site / "digits.safetensors"
    vggspec = [sys.executable, "-m", "vggspec"]
    subprocess.run([*vggspec, "init", "specs/digits.vgg", "-o", str(weights)], check=True)
    options = ["--trt", "--trt-flavor", "tensorrt_rtx", "--map", "-o", str(plan)]
    compile_it = ["compile", "specs/digits.vgg", "--weights", str(weights), *options]
    subprocess.run([*vggspec, *compile_it], check=True)
    weights.unlink()


def fill(site: Path, name: str, python: str, capability: int) -> None:
    """Everything of an archive."""
    if name == "pycuda":
        fetch_pycuda(site)
    elif name == "plan":
        build_plan(site)
    else:
        fetch_wheels(WHEELS[name], python, site)
    if name == "onnxruntime":
        prune_onnxruntime(site, capability)
    if name == "rtx":  # pure Python, of which there is no wheel
        pip("install", "--no-deps", "--no-compile", "--target", str(site), as_here(RTX))


def archive(site: Path, out: Path) -> None:
    """A folder as a compressed tar."""
    with tarfile.open(out, "w:xz", preset=6) as tar:
        tar.add(site, arcname=".")


def split(archives: Sequence[Path], out: Path, part_bytes: int) -> None:
    """Cut archives into the folders ``1``, ``2`` ..., each full but the last one.

    The pieces of NAME are NAME.00, NAME.01 ..., in order.
    """
    folder, left = 0, 0
    for path in archives:
        with path.open("rb") as file:
            for number in range(-(-path.stat().st_size // part_bytes) + 1):
                if left == 0:
                    folder, left = folder + 1, part_bytes
                    (out / str(folder)).mkdir()
                piece = file.read(left)
                if piece:
                    (out / str(folder) / f"{path.name}.{number:02}").write_bytes(piece)
                    left -= len(piece)


def pieces(folders: Sequence[Path]) -> Iterator[tuple[str, list[Path]]]:
    """The names of archives, and the pieces that are in the folders, in order."""
    found: dict[str, list[Path]] = {}
    for path in (path for folder in folders for path in folder.glob("*.tar.xz.[0-9]*")):
        found.setdefault(path.stem, []).append(path)
    for name, paths in found.items():
        yield name, sorted(paths, key=lambda path: path.name)


def main(texts: Sequence[str]) -> int:
    """Write the parts; 1 where an archive could not be made, which is then left out."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu.pack", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("out", type=Path, help="a folder that is not there yet")
    parser.add_argument("--part-mib", type=int, default=55, metavar="N", help="of a part (55)")
    parser.add_argument("--python", default="3.12", metavar="X.Y", help="there (3.12)")
    parser.add_argument("--capability", default="9.0", metavar="X.Y", help="of the GPU (9.0)")
    parser.add_argument("--without", nargs="+", default=[], choices=NAMES, help="left out")
    given = parser.parse_args(texts)
    if given.out.exists():
        parser.error(f"{given.out} exists")
    given.out.mkdir(parents=True)
    capability = int(given.capability.replace(".", ""))
    failures = 0
    with tempfile.TemporaryDirectory(dir=given.out) as scratch:
        archives = []
        for name in NAMES:
            if name in given.without:
                continue
            site = Path(scratch, name)
            site.mkdir()
            try:
                fill(site, name, given.python, capability)
            except subprocess.CalledProcessError as error:
                failures += 1
                print(f"{name}: left out, {error}", file=sys.stderr)
                continue
            path = Path(scratch, f"{name}.tar.xz")
            archive(site, path)
            print(f"{path.name}: {path.stat().st_size / MIB:.1f} MiB", flush=True)
            archives.append(path)
        split(archives, given.out, given.part_mib * MIB)
    for folder in sorted(given.out.iterdir(), key=lambda folder: int(folder.name)):
        size = sum(path.stat().st_size for path in folder.iterdir())
        print(f"{folder}: {size / MIB:.1f} MiB")
    return int(failures > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
