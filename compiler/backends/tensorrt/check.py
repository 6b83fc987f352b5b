"""Loads the engine that was built and compares it with the request."""

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from vggspec.base.catalogue.engines import BuildFailed, NotAsAsked
from vggspec.base.diagnostic import VggspecError, report
from vggspec.bundle.options import EngineOptions, Precision
from vggspec.bundle.profile import Profile
from vggspec.compiler.backends.tensorrt.config import as_tensor, is_raw, shapes_of
from vggspec.compiler.backends.tensorrt.network import LayerRecord, Ports
from vggspec.runtime.tensorrt.api import EngineInspector, ICudaEngine, Library
from vggspec.runtime.tensorrt.load_plan import RefusedError, deserialize

#: Names of number types in inspectors of all releases.
INSPECTED: dict[Precision, tuple[str, ...]] = {
    "fp16": ("half", "fp16"),
    "bf16": ("bf16", "bfloat16"),
}


@dataclass(frozen=True, slots=True)
class Checked:
    """An engine that matches the request."""

    layers: tuple[LayerRecord, ...]
    """The engine's layers, if it has the details."""

    notes: tuple[str, ...]


def check_engine(
    trt: Library,
    plan: bytes,
    ports: Ports,
    options: EngineOptions,
    profiles: Sequence[Profile],
    precisions: Collection[Precision],
) -> Checked:
    """Load the engine, which needs its GPU, and compare it with the request.

    Raises:
        VggspecError: it does not load, or differs.
    """
    try:
        # Host code was built here, just now.
        loaded = deserialize(trt, plan, allows_host_code=options.version_compatible)
    except RefusedError as error:
        what = BuildFailed(reason=f"the engine does not load where it was built: {error}")
        raise VggspecError(report(what)) from error
    engine: ICudaEngine = loaded.engine
    if engine.num_optimization_profiles != len(profiles):
        found = engine.num_optimization_profiles
        raise _differs("the number of profiles", len(profiles), found)
    for name in ports.inputs:
        declared = tuple(engine.get_tensor_shape(name))
        raw = is_raw(trt, engine.get_tensor_dtype(name))
        for i, profile in enumerate(profiles):
            wanted = [as_tensor(shape, declared, is_raw=raw) for shape in shapes_of(profile)]
            made = [tuple(shape) for shape in engine.get_tensor_profile_shape(name, i)]
            if made != wanted:
                raise _differs(f"profile {i}", wanted, made)
    for name in (*ports.inputs, *ports.outputs):
        if engine.get_tensor_format(name) != trt.TensorFormat.LINEAR:
            raise _differs(f"the format of `{name}`", "linear", "another")
    if bool(engine.refittable) != (options.refit != "none"):
        raise _differs("whether weights can be replaced", options.refit, "otherwise")
    inspector: EngineInspector = engine.create_engine_inspector()
    text = inspector.get_engine_information(trt.LayerInformationFormat.JSON)
    return Checked(inspected_layers(text), tuple(_compare_types(text, precisions)))


def _compare_types(text: str, precisions: Collection[Precision]) -> list[str]:
    notes = []
    types = inspected_types(text)
    for precision, words in INSPECTED.items():
        is_named = any(word in types for word in words)
        if is_named and precision not in precisions:
            raise _differs(f"layers in {precision}", "none", "some")
        if types and not is_named and precision in precisions:
            # The network that was built is typed and was checked: fused kernels hide it.
            notes.append(f"the engine's inspector names no kernel in {precision}")
    return notes


def inspected_layers(text: str) -> tuple[LayerRecord, ...]:
    """The layers of an inspector's JSON, where it has their details. Releases word them
    differently, so what is missing is left empty.
    """
    records = []
    for layer in _inspected(text):
        outputs = [each for each in layer.get("Outputs", []) if isinstance(each, dict)]
        inputs = [each for each in layer.get("Inputs", []) if isinstance(each, dict)]
        first = outputs[0] if outputs else {}
        records.append(
            LayerRecord(
                name=str(layer.get("Name", "")),
                op=str(layer.get("LayerType", "")),
                precision=str(first.get("Format/Datatype", "")),
                output=tuple(int(n) for n in first.get("Dimensions", [])),
                reads=tuple(str(each.get("Name", "")) for each in inputs),
            )
        )
    return tuple(records)


def inspected_types(text: str) -> str:
    """All formats and number types that an inspector's JSON names, in lower case."""
    tensors = [
        each
        for layer in _inspected(text)
        for each in (*layer.get("Inputs", []), *layer.get("Outputs", []))
        if isinstance(each, dict)
    ]
    return " ".join(str(each.get("Format/Datatype", "")) for each in tensors).lower()


def _inspected(text: str) -> list[dict[str, Any]]:
    try:
        layers = json.loads(text).get("Layers", [])
    except (ValueError, AttributeError):
        return []
    return [layer for layer in layers if isinstance(layer, dict)]


def _differs(what: str, asked: object, found: object) -> VggspecError:
    return VggspecError(report(NotAsAsked(what=what, asked=str(asked), found=str(found))))
