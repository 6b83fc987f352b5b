"""Whole and sound inputs, made once a process, of which fuzzers make damaged ones."""

import shutil
import tempfile
from functools import lru_cache
from pathlib import Path

from tests.nets import net, random_weights
from vggspec.bundle.options import CompileOptions
from vggspec.compiler.bundling.graph import write_bundle

TINY = """\
net tiny
input 16x16 RGB(mean 120 115 100)
conv3-4
maxpool
FC-3
soft-max
"""


def bundle(folder: Path) -> Path:
    """A copy in ``folder`` of a small bundle."""
    return Path(shutil.copytree(_bundle(), folder / "bundle"))


@lru_cache
def _bundle() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="vggspec-seeds-"))
    lowered = net(TINY)
    weights = random_weights(lowered, folder / "tiny.safetensors")
    write_bundle(lowered, weights, folder / "bundle", CompileOptions())
    return folder / "bundle"
