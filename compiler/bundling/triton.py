"""A bundle as a model folder of Triton Inference Server: its ``config.pbtxt`` and ``labels.txt``.

The text is made from the manifest alone. It names no model: Triton takes the folder's name, and a
name in the file would have to follow whenever the folder is renamed.

What it must say so that Triton does not fail at the first request or use a part of an engine alone
was read from Triton's TensorRT backend; docs/embedding.md explains it for editing the file.
"""

import json

from vggspec.base.diagnostic import VggspecError
from vggspec.bundle.manifest import SCALES, InputContract, Manifest, OutputContract
from vggspec.bundle.profile import Profile
from vggspec.bundle.protocol_profiles import profiles_of

CONFIG = "config.pbtxt"
LABELS = "labels.txt"

_NAMELESS = "# The model's name is that of its folder, so it is not given here.\n"

_BATCHER = """\
# Requests are run together where their images have one size: Triton pads none.
dynamic_batching { }
"""

_MEMORY = """\
# Each profile has a context of its own. By default each would take what the largest one needs.
parameters {
  key: "execution_context_allocation_strategy"
  value { string_value: "ON_PROFILE_CHANGE" }
}
"""


def why_not(manifest: Manifest) -> str | None:
    """Why Triton cannot serve a bundle; None where it can."""
    engine = manifest.engine
    if engine is None:
        return None
    if engine.flavour == "tensorrt_rtx":
        return "Triton loads plans of the classic TensorRT, and this one is TensorRT-RTX's"
    if engine.is_stripped:
        return "the plan has no weights, and Triton adds none"
    return None


def config(manifest: Manifest) -> str | None:
    """The text of ``config.pbtxt``; None where Triton cannot serve the bundle."""
    if why_not(manifest) is not None:
        return None
    if manifest.members:
        return _config_for_pictures(manifest)
    profiles = _profiles(manifest)
    most = _max_batch(manifest, profiles)
    blocks = [
        _NAMELESS,
        _model(manifest, most),
        *(_input(manifest.input, name, most) for name in manifest.inputs),
        *(_output(manifest, output, most) for output in manifest.outputs),
    ]
    if most > 1:
        blocks.append(_BATCHER)
    if manifest.engine is not None:
        blocks.append(_instances(len(profiles)))
        if len(profiles) > 1:
            blocks.append(_MEMORY)
    blocks += [_warm_up(manifest, profile, most) for profile in profiles]
    return "\n".join(blocks)


def _config_for_pictures(manifest: Manifest) -> str:
    """A request is a picture and its scales, so there is no axis for a batch."""
    contract, result = manifest.input, manifest.result
    picture = [f"name: {_quoted(contract.name)}", "data_type: TYPE_UINT8"]
    picture.append(f"dims: [ -1, -1, {len(contract.mean)} ]")
    scales = [f"name: {_quoted(SCALES)}", "data_type: TYPE_INT64", "dims: [ -1 ]"]
    posteriors = [f"name: {_quoted(result.name)}", "data_type: TYPE_FP32"]
    posteriors.append(f"dims: [ {result.channels} ]")
    if labels(manifest) is not None:
        posteriors.append(f"label_filename: {_quoted(LABELS)}")
    return "\n".join(
        [
            _NAMELESS,
            _model(manifest, 0),
            _message("input", picture),
            _message("input", scales),
            _message("output", posteriors),
        ]
    )


def labels(manifest: Manifest) -> str | None:
    """The text of ``labels.txt``, a line a class; None where classes have no labels.

    A line break in a label would move all that follow by one, so it is a space.
    """
    if manifest.labels is None or not _is_labelled(manifest.result):
        return None
    return "".join(" ".join(label.split()) + "\n" for label in manifest.labels)


def _profiles(manifest: Manifest) -> tuple[Profile, ...]:
    """Those of the engine, else those that the test protocol would have one built for."""
    if manifest.engine is not None:
        return manifest.engine.profiles
    try:
        return profiles_of(manifest)
    except VggspecError:
        # The protocol asks for less than the net's window, so it says nothing of sizes to come.
        one = (1, *manifest.input.size)
        return (Profile(one, one, one),)


def _max_batch(manifest: Manifest, profiles: tuple[Profile, ...]) -> int:
    """Images a request at most; 0 where the batch is an axis like the others.

    Triton forms a batch before it looks for a profile, so it may form none that a profile of that
    image size does not take: neither one too large nor one too small.
    """
    if manifest.engine is None:
        return max(profile.max[0] for profile in profiles)
    if any(profile.min[0] > 1 for profile in profiles):
        return 0
    return min(profile.max[0] for profile in profiles)


def _model(manifest: Manifest, most: int) -> str:
    platform = "onnxruntime_onnx" if manifest.engine is None else "tensorrt_plan"
    file = manifest.model.rpartition("/")[2]
    about = ""
    if manifest.engine is not None and manifest.engine.is_version_compatible:
        about = "# Start the server with --backend-config=tensorrt,version-compatible=true.\n"
    return (
        f"{about}platform: {_quoted(platform)}\n"
        f"default_model_filename: {_quoted(file)}\n"
        f"max_batch_size: {most}\n"
    )


def _input(contract: InputContract, name: str, most: int) -> str:
    rows, columns = (-1, -1) if contract.is_dynamic else contract.size
    lines = [
        f"name: {_quoted(name)}",
        f"data_type: {_data_type(contract)}",
        f"dims: {_dims(_ordered(contract, rows, columns), most)}",
    ]
    if most:  # Triton takes it for three axes only
        layout = "FORMAT_NHWC" if contract.contract == "raw" else "FORMAT_NCHW"
        lines.insert(2, f"format: {layout}")
    return _message("input", lines)


def _output(manifest: Manifest, output: OutputContract, most: int) -> str:
    if output.kind == "distance":
        return _distance(output, most)
    size = output.size or (-1, -1)
    shape = (output.channels, *size) if output.is_map else (output.channels,)
    lines = [
        f"name: {_quoted(output.name)}",
        "data_type: TYPE_FP32",
        f"dims: {_dims(shape, most)}",
    ]
    if output is manifest.result and labels(manifest) is not None:
        lines.append(f"label_filename: {_quoted(LABELS)}")
    return _message("output", lines)


def _distance(output: OutputContract, most: int) -> str:
    """Triton takes no output without axes, so that of a pair has one for Triton alone."""
    lines = [f"name: {_quoted(output.name)}", "data_type: TYPE_FP32"]
    lines += ["dims: [ 1 ]", "reshape { shape: [ ] }"] if most else ["dims: [ -1 ]"]
    return _message("output", lines)


def _is_labelled(output: OutputContract) -> bool:
    return output.kind in ("posteriors", "scores") and not output.is_map


def _instances(profiles: int) -> str:
    names = ", ".join(_quoted(str(i)) for i in range(profiles))
    body = ["count: 1", "kind: KIND_GPU", f"profile: [ {names} ]"]
    about = "# Triton uses the engine's first profile alone unless all are named.\n"
    return about + _message("instance_group", body)


def _warm_up(manifest: Manifest, profile: Profile, most: int) -> str:
    contract = manifest.input
    batch, rows, columns = profile.opt
    dims = _ordered(contract, rows, columns)
    written = _dims(dims, most) if most else _dims((batch, *dims), 1)
    value = [f"data_type: {_data_type(contract)}", f"dims: {written}", "zero_data: true"]
    tensors = [
        [f"key: {_quoted(name)}", *_message("value", value).splitlines()]
        for name in manifest.inputs
    ]
    body = [
        f"name: {_quoted(f'{batch}x{rows}x{columns}')}",
        f"batch_size: {min(batch, most) or 1}",
        *(line for each in tensors for line in _message("inputs", each).splitlines()),
    ]
    return _message("model_warmup", body)


def _ordered(contract: InputContract, rows: int, columns: int) -> tuple[int, ...]:
    channels = len(contract.mean)
    return (rows, columns, channels) if contract.contract == "raw" else (channels, rows, columns)


def _data_type(contract: InputContract) -> str:
    return "TYPE_UINT8" if contract.contract == "raw" else "TYPE_FP32"


def _dims(shape: tuple[int, ...], most: int) -> str:
    """The axes of a tensor: without the batch, unless ``max_batch_size`` is 0."""
    return f"[ {', '.join(str(n) for n in (shape if most else (-1, *shape)))} ]"


def _message(name: str, lines: list[str]) -> str:
    return f"{name} {{\n" + "".join(f"  {line}\n" for line in lines) + "}\n"


def _quoted(text: str) -> str:
    return json.dumps(text)
