"""Installs, on a machine without network, what ``benchmarks.gpu.pack`` packed.

    eval "$(python3 -m benchmarks.gpu.install PART...)"

in a copy of the repository. PARTs are the folders that have arrived: an archive that is not whole
is left out. Prints the environment as a shell reads it, and to standard error what was done. The
tests import ``vggspec`` from the copy, whose folders at the top become links inside of it.
"""

import argparse
import importlib.util
import io
import lzma
import os
import shlex
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.gpu.pack import pieces

ROOMS = ("compiler", "runtime", "specs")


class Joined(io.RawIOBase):
    """Files read one after the other as one."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = list(paths)
        self._file = io.BytesIO()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "memoryview[int]") -> int:  # type: ignore[override]
        count = self._file.readinto(buffer)
        while not count and self._paths:
            self._file = io.BytesIO(self._paths.pop(0).read_bytes())
            count = self._file.readinto(buffer)
        return count


def unpack(paths: Sequence[Path], site: Path) -> str | None:
    """Why the archive of these pieces was left out, else None."""
    with tempfile.TemporaryDirectory(dir=site) as scratch:
        try:
            with tarfile.open(fileobj=io.BufferedReader(Joined(paths)), mode="r|xz") as tar:
                tar.extractall(scratch, filter="data")
        except (EOFError, tarfile.TarError, lzma.LZMAError) as error:
            return f"it is not whole ({error or type(error).__name__})"
        shutil.copytree(scratch, site, dirs_exist_ok=True)
    return None


def build(site: Path, source: str, log: Path) -> subprocess.Popen[bytes]:
    """Begin to build a source package and to install it. Nothing is fetched."""
    options = ["-q", "--no-index", "--no-deps", "--no-build-isolation", "--no-compile"]
    command = [sys.executable, "-m", "pip", "install", *options, "--target", str(site), source]
    with log.open("wb") as file:
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True
        )


def cuda_root() -> Path | None:
    """Where the toolkit lies whose nvcc is on the path or at its usual place."""
    nvcc = shutil.which("nvcc", path=f"{os.environ.get('PATH', '')}:/usr/local/cuda/bin")
    return Path(nvcc).resolve().parent.parent if nvcc else None


def libraries() -> list[str]:
    """Folders of the shared libraries of CUDA that PyTorch brought."""
    spec = importlib.util.find_spec("nvidia")
    roots = spec.submodule_search_locations if spec else None
    return [str(path) for root in roots or [] for path in sorted(Path(root).glob("*/lib"))]


def main(texts: Sequence[str]) -> int:
    """Install what is there, and go on where something fails."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu.install", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("parts", nargs="*", type=Path, metavar="PART")
    parser.add_argument("--site", type=Path, default=Path("/tmp/site"), help="(/tmp/site)")
    given = parser.parse_args(texts)
    site: Path = given.site.resolve()
    site.mkdir(parents=True, exist_ok=True)

    def tell(name: str, trouble: str | None) -> None:
        print(f"{name}: {trouble or 'installed'}", file=sys.stderr, flush=True)

    for name, paths in pieces(given.parts):
        tell(name, unpack(paths, site))
    root = cuda_root()
    if root is not None:
        os.environ["CUDA_ROOT"] = str(root)
        os.environ["PATH"] += f":{root / 'bin'}"
    # For its metadata; the code is that of the copy.
    log = site / "vggspec.log"
    code = build(site, ".", log).wait()
    tell("vggspec", None if code == 0 else f"pip ended with {code}; {log}")
    for source in (site / "sources").glob("pycuda-*.tar.gz"):
        # It takes minutes. Steps that need it come later, and look whether it is there.
        log = site / "pycuda.log"
        build(site, str(source), log)
        tell(source.name, f"goes on in the background; {log}")
    for folder in (site / "vggspec", Path("build")):
        shutil.rmtree(folder, ignore_errors=True)
    for room in ROOMS:
        link = Path("vggspec", room)
        if not link.is_symlink():
            link.symlink_to(Path("..", room))
    places = {"PYTHONPATH": [os.getcwd(), str(site)], "LD_LIBRARY_PATH": libraries()}
    for name, folders in places.items():
        before = os.environ.get(name)
        if before:
            folders.append(before)
        if folders:
            value = os.pathsep.join(folders)
            print(f"export {name}={shlex.quote(value)}")
    if (site / "plan").is_dir():
        print(f"export VGGSPEC_PLAN={shlex.quote(str(site / 'plan'))}")
    print(f"export PATH={shlex.quote(os.environ['PATH'])}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
