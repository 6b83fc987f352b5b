"""Stand-ins for bundles with an engine, for tests that never load it: the plan is no plan."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.nets import SMALL, net, random_weights
from vggspec.bundle.engine import RTX_DEFAULT, Engine
from vggspec.bundle.manifest import (
    LAYERS,
    MANIFEST,
    MODEL,
    PLAN,
    REFERENCE,
    WEIGHTS,
    Manifest,
    file_entry,
)
from vggspec.bundle.profile import Profile
from vggspec.compiler.backends.onnx.model import OnnxOptions
from vggspec.compiler.bundles.writer import write_bundle
from vggspec.runtime.compatibility import profiles_of

STAND_IN = b"stands in for a TensorRT plan in tests that never load it\n"
SPEC = f"{SMALL}\ntest:\n  scale 40, 56\n"

#: A portable engine of TensorRT-RTX, and one of the classic TensorRT for one GPU.
RTX = Engine(
    flavour="tensorrt_rtx",
    version="1.7.1.116",
    cuda="13",
    platform="linux-x86_64",
    gpu=None,
    capabilities=RTX_DEFAULT,
    is_open_ended=True,
    profiles=(Profile((1, 40, 40), (2, 40, 53), (8, 40, 80)),),
    tf32=False,
    hardware="none",
    is_version_compatible=False,
    refit="none",
    is_stripped=False,
    level=3,
    name="small",
)
CLASSIC = replace(
    RTX,
    flavour="tensorrt",
    version="11.4.0.106",
    gpu="NVIDIA L4",
    capabilities=("8.9",),
    is_open_ended=False,
)


def stand_in(folder: Path, engine: Engine = RTX, *, layers: str | None = None) -> Manifest:
    """A bundle as an engine's is, with the test protocol's profiles and a plan that is none.

    The graph beside it is the real net in fp32, on the same weights.
    """
    lowered = net(SPEC)
    weights = random_weights(lowered, folder.parent / f"{folder.name}.safetensors")
    manifest = write_bundle(
        lowered, weights, folder, OnnxOptions(keep_map=True, copy_weights=True)
    ).manifest
    (folder / MODEL).rename(folder / REFERENCE)
    (folder / PLAN).write_bytes(STAND_IN)
    files = [
        file_entry(folder, PLAN),
        file_entry(folder, REFERENCE, is_needed=False),
        *(replace(entry, is_needed=False) for entry in manifest.files if entry.path == WEIGHTS),
    ]
    if layers is not None:
        (folder / LAYERS).write_text(layers, "utf-8")
        files.append(file_entry(folder, LAYERS, is_needed=False))
    manifest = replace(
        manifest,
        model=PLAN,
        files=tuple(files),
        precision="fp16",
        fp32_layers=("prob",),
        engine=replace(engine, profiles=profiles_of(manifest)),
    )
    return rewritten(folder, manifest)


def rewritten(folder: Path, manifest: Manifest, **changes: Any) -> Manifest:
    """The bundle with another manifest; ``changes`` are fields of it."""
    changed = replace(manifest, **changes)
    (folder / MANIFEST).write_text(changed.to_json(), "utf-8")
    return changed
