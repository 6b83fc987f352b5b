"""Stand-ins for bundles with an engine, for tests that never load it: the plan is no plan."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.nets import SMALL, net, random_weights
from vggspec.base.optional import has_library
from vggspec.bundle.digests import file_entry
from vggspec.bundle.engine import RTX_DEFAULT, Engine, Flavour
from vggspec.bundle.manifest import LAYERS, MANIFEST, MODEL, PLAN, REFERENCE, WEIGHTS, Manifest
from vggspec.bundle.options import CompileOptions, EngineOptions
from vggspec.bundle.profile import Profile
from vggspec.bundle.protocol_profiles import profiles_of
from vggspec.compiler.backends.tensorrt.flavours import rtx_supports, unsupported
from vggspec.compiler.bundling.graph import write_bundle
from vggspec.runtime.machine import this_machine
from vggspec.runtime.tensorrt import library as seam

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


def engine_options(engine: Engine) -> EngineOptions:
    """The options that build an engine with these facts."""
    is_named = engine.flavour == "tensorrt_rtx" and not engine.is_open_ended
    return EngineOptions(
        flavour=engine.flavour,
        profiles=engine.profiles,
        tf32=engine.tf32,
        capabilities=engine.capabilities if is_named else (),
        level=None if engine.level == 3 else engine.level,
        version_compatible=engine.is_version_compatible,
        hardware=engine.hardware,
        refittable=engine.refit == "all",
        strip_weights=engine.is_stripped,
    )


def with_options(manifest: Manifest, **changes: Any) -> Manifest:
    """The manifest with other options."""
    return replace(manifest, options=replace(manifest.options, **changes))


def with_engine(manifest: Manifest, **changes: Any) -> Manifest:
    """The manifest of an engine with other facts, and with the options that lead to them."""
    assert manifest.engine is not None
    engine = replace(manifest.engine, **changes)
    options = engine_options(engine)
    if "profiles" not in changes:
        options = replace(options, profiles=())
    return with_options(replace(manifest, engine=engine), engine=options)


def skip_unless_built(flavour: Flavour) -> None:
    """Skip a test on a GPU where this flavour of TensorRT cannot build or run an engine."""
    gpus = this_machine().gpus
    if flavour not in seam.installed():
        pytest.skip(f"{flavour} is not installed")
    if not has_library("pycuda"):
        pytest.skip("pycuda is not installed")
    if flavour == "tensorrt_rtx" and gpus and not rtx_supports(gpus[0]):
        pytest.skip(unsupported(gpus[0]))


def stand_in(folder: Path, engine: Engine = RTX, *, layers: str | None = None) -> Manifest:
    """A bundle as an engine's is, with the test protocol's profiles and a plan that is none.

    The graph beside it is the real net in fp32, on the same weights.
    """
    lowered = net(SPEC)
    weights = random_weights(lowered, folder.parent / f"{folder.name}.safetensors")
    manifest = write_bundle(lowered, weights, folder, CompileOptions(keep_map=True)).manifest
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
    options = replace(
        manifest.options,
        precision="fp16",
        keep_fp32=("prob",),
        engine=replace(engine_options(engine), profiles=()),
    )
    manifest = replace(
        manifest,
        model=PLAN,
        files=tuple(files),
        options=options,
        engine=replace(engine, profiles=profiles_of(manifest)),
    )
    return rewritten(folder, manifest)


def rewritten(folder: Path, manifest: Manifest, **changes: Any) -> Manifest:
    """The bundle with another manifest; ``changes`` are fields of it."""
    changed = replace(manifest, **changes)
    (folder / MANIFEST).write_text(changed.to_json(), "utf-8")
    return changed
