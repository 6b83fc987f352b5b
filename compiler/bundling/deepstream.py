"""A bundle for DeepStream: the configuration of its ``nvinfer`` element, and its file of labels.

``nvinfer`` computes ``net-scale-factor * (x - offset)``: an offset a channel, but one factor for
all. Where the input contract is of that form the arithmetic is the same to the last bit; where it
is not, ``why_not`` says so and nothing is written. The geometry is ``nvinfer``'s own: it scales
every frame to one size. docs/embedding.md says when that is the paper's rescale and when not.
"""

from vggspec.bundle.manifest import Manifest
from vggspec.bundle.sizes import above

CONFIG = "nvinfer.txt"
LABELS = "nvinfer_labels.txt"

VIDEO_ASPECT = (16, 9)
"""Longer to shorter side of most video."""

_GRAPH_SIZE = (
    "# Frames are scaled to the size in infer-dims, whatever their proportions. The paper keeps",
    "# proportions: let that size have those of the video.",
)
_ENGINE_SIZE = (
    "# Frames are scaled to the size in infer-dims, whatever their proportions. It is the middle",
    "# shape of the engine's first profile: nvinfer uses no other. The paper keeps proportions:",
    "# build the engine with a first profile that has those of the video.",
)
_COLOR = {"RGB": 0, "BGR": 1, "gray": 2}
_MODE = {"int8": 1, "fp16": 2}


def why_not(manifest: Manifest) -> str | None:
    """Why DeepStream cannot use a bundle; None where it can."""
    engine, std = manifest.engine, manifest.input.std
    if engine is not None and engine.flavour == "tensorrt_rtx":
        return "nvinfer loads plans of the classic TensorRT, and this one is TensorRT-RTX's"
    if engine is not None and engine.is_stripped:
        return "the plan has no weights, and nvinfer adds none"
    if manifest.compares:
        return "nvinfer gives a net one picture, and this one compares two"
    if manifest.input.contract != "float":
        return "nvinfer gives a net planes of floats, and this one takes pixels as decoded"
    if std is not None and len(set(std)) > 1:
        return "nvinfer multiplies all channels by one number, and their deviations differ"
    if manifest.segments:
        return "its configuration is written for classifiers, and this net labels pixels"
    if manifest.result.kind != "posteriors" or len(manifest.outputs) > 1:
        return "nvinfer reads every output of a classifier as posteriors, and one here has others"
    return None


def config(manifest: Manifest) -> str | None:
    """The text of ``nvinfer``'s configuration; None where ``why_not`` has a reason.

    Paths are seen from the file's own folder, the bundle.
    """
    if why_not(manifest) is not None:
        return None
    contract = manifest.input
    gain = contract.scale / contract.std[0] if contract.std else contract.scale
    rows, columns = _size(manifest)
    lines = [
        *(_GRAPH_SIZE if manifest.engine is None else _ENGINE_SIZE),
        "[property]",
        "gpu-id=0",
        "gie-unique-id=1",
        *_model(manifest),
        "network-type=1",
        f"infer-dims={len(contract.mean)};{rows};{columns}",
        "maintain-aspect-ratio=0",
        "scaling-filter=1",
        f"model-color-format={_COLOR[contract.color]}",
        f"net-scale-factor={gain!r}",
        f"offsets={';'.join(repr(mean) for mean in contract.mean)}",
        "classifier-threshold=0",
        "output-tensor-meta=1",
    ]
    if labels(manifest) is not None:
        lines.append(f"labelfile-path={LABELS}")
    return "\n".join(lines) + "\n"


def labels(manifest: Manifest) -> str | None:
    """The labels as ``nvinfer`` reads them, all on one line; None where there are none to read.

    A semicolon parts labels, so within one it is a comma.
    """
    if manifest.labels is None or why_not(manifest) is not None:
        return None
    words = (" ".join(label.split()).replace(";", ",") for label in manifest.labels)
    return ";".join(words) + "\n"


def _size(manifest: Manifest) -> tuple[int, int]:
    """Rows and columns that frames are scaled to.

    ``nvinfer`` uses the first profile of an engine alone, and feeds it at ``opt`` alone. From a
    graph it builds an engine for this size.
    """
    if manifest.engine is not None:
        return manifest.engine.profiles[0].opt[1:]
    if not manifest.input.is_dynamic:
        return manifest.input.size
    scale = max(manifest.test.scales[0], *manifest.input.size)
    long, short = VIDEO_ASPECT
    return above(manifest.input.sizes, (scale, (2 * scale * long + short) // (2 * short)))


def _model(manifest: Manifest) -> list[str]:
    if manifest.engine is not None:
        first = manifest.engine.profiles[0]
        return [
            f"model-engine-file={manifest.model}",
            f"# As many as there are streams, up to {first.max[0]}.",
            f"batch-size={first.min[0]}",
        ]
    return [
        f"onnx-file={manifest.model}",
        f"network-mode={_MODE.get(manifest.precision, 0)}",
        "# As many as there are streams.",
        "batch-size=1",
    ]
