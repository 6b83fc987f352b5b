"""Manifests for the tests of files that are written from them."""

from dataclasses import fields, replace
from typing import Any

from tests.engines import engine_options, with_options
from vggspec.base.recipe import TestProtocol
from vggspec.bundle.engine import Engine
from vggspec.bundle.manifest import MODEL, PLAN, InputContract, Manifest, OutputContract
from vggspec.bundle.options import CompileOptions
from vggspec.bundle.profile import Profile, derive_profiles

MEAN = (123.68, 116.779, 103.939)
SCALES = TestProtocol(scales=(256, 384, 512))


def onnx(**changes: Any) -> Manifest:
    """The manifest of D as a dense ONNX bundle without labels."""
    manifest = Manifest(
        net="D",
        spec_text="net D",
        spec_sha256="0" * 64,
        options=CompileOptions(form="dense", average="scores"),
        input=InputContract(
            contract="float",
            color="RGB",
            mean=MEAN,
            std=None,
            scale=1.0,
            size=(224, 224),
            is_dynamic=True,
        ),
        outputs=(OutputContract(name="posteriors", kind="posteriors", channels=1000),),
        window=(224, 224),
        stride=(32, 32),
        labels=None,
        test=SCALES,
        tools={},
        files=(),
        model=MODEL,
    )
    names = {one.name for one in fields(CompileOptions)} - {"engine"}
    options = {name: changes.pop(name) for name in names & changes.keys()}
    return replace(with_options(manifest, **options), **changes)


def engine(*profiles: Profile, **changes: Any) -> Manifest:
    """The same as a classic engine, unless told otherwise with the six profiles of SCALES."""
    derived = derive_profiles(SCALES, least=(224, 224), window=(224, 224), is_dynamic=True)
    plan = Engine(
        flavour="tensorrt",
        version="11.4.0.106",
        cuda="13",
        platform="linux-x86_64",
        gpu="NVIDIA L4",
        capabilities=("8.9",),
        is_open_ended=False,
        profiles=profiles or derived,
        tf32=False,
        hardware="none",
        is_version_compatible=False,
        refit="none",
        is_stripped=False,
        level=3,
        name="D",
    )
    plan = replace(plan, **changes)
    options = CompileOptions(form="dense", average="scores", engine=engine_options(plan))
    return onnx(model=PLAN, engine=plan, options=options)


def with_input(manifest: Manifest, **changes: Any) -> Manifest:
    """The manifest with another input contract."""
    return replace(manifest, input=replace(manifest.input, **changes))


def with_map(manifest: Manifest) -> Manifest:
    """The manifest with a score map as second output."""
    score_map = OutputContract(name="score_map", kind="score_map", channels=1000, is_map=True)
    return replace(manifest, outputs=(*manifest.outputs, score_map))
