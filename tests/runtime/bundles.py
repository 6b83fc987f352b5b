"""Small bundles made by hand, so that the runtime is tested without the compiler.

The net: conv3-4, maxpool, conv3-8, maxpool, a 4 × 4 conv to the classes, soft-max. Its window is 16
pixels, the stride of its score map 4.
"""

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch.nn import functional

from vggspec.base import recipe
from vggspec.bundle.digests import file_entry
from vggspec.bundle.manifest import (
    MANIFEST,
    MODEL,
    OWN_SHA256,
    InputContract,
    Manifest,
    OutputContract,
)
from vggspec.bundle.options import CompileOptions

WINDOW, STRIDE, CLASSES = 16, 4, 5
LABELS = ("ant", "bee, honey bee", "cat", "dog", "eel")
MEAN = (123.68, 116.779, 103.939)
Weights = dict[str, NDArray[np.float32]]


@dataclass(frozen=True, kw_only=True)
class Made:
    """A bundle on disk and the weights in it."""

    path: Path
    weights: Weights
    manifest: Manifest


def weights(seed: int = 0, channels: int = 3) -> Weights:
    """Weights that spread the scores of images of 0 to 255 over a few units."""
    rng = np.random.default_rng(seed)

    def normal(*shape: int, std: float) -> NDArray[np.float32]:
        return rng.normal(0, std, shape).astype(np.float32)

    return {
        "conv1.weight": normal(4, channels, 3, 3, std=0.02),
        "conv1.bias": normal(4, std=0.1),
        "conv2.weight": normal(8, 4, 3, 3, std=0.3),
        "conv2.bias": normal(8, std=0.1),
        "fc3.weight": normal(CLASSES, 8, 4, 4, std=0.3),
        "fc3.bias": normal(CLASSES, std=0.1),
    }


def torch_scores(feed: NDArray[np.float32], of: Weights) -> torch.Tensor:
    """The score map ``(N, classes, h, w)`` of the same net as PyTorch computes it."""
    w = {name: torch.from_numpy(array) for name, array in of.items()}
    x = torch.from_numpy(feed)
    for conv in ("conv1", "conv2"):
        x = functional.relu(functional.conv2d(x, w[f"{conv}.weight"], w[f"{conv}.bias"], padding=1))
        x = functional.max_pool2d(x, 2)
    return functional.conv2d(x, w["fc3.weight"], w["fc3.bias"])


def make(
    folder: Path,
    *,
    contract: str = "float",
    color: str = "RGB",
    is_dynamic: bool = True,
    kind: str = "posteriors",
    with_map: bool = True,
    labels: tuple[str, ...] | None = LABELS,
    test: recipe.TestProtocol | None = None,
    of: Weights | None = None,
    **changes: Any,
) -> Made:
    """Write a bundle; ``changes`` are fields of the manifest."""
    mean = MEAN if color != "gray" else MEAN[:1]
    of = of or weights(channels=len(mean))
    model = _model(of, mean, contract, is_dynamic, kind, with_map)
    (folder / MODEL).parent.mkdir(parents=True)
    (folder / MODEL).write_bytes(model.SerializeToString())
    outputs = [OutputContract(name=kind, kind=kind, channels=CLASSES)]
    if with_map:
        outputs.append(
            OutputContract(name="score_map", kind="score_map", channels=CLASSES, is_map=True)
        )
    manifest = Manifest(
        net="small",
        spec_text="net small",
        spec_sha256=hashlib.sha256(b"net small").hexdigest(),
        options=CompileOptions(
            form="dense" if is_dynamic else "crop",
            average="scores",
            contract="raw" if contract == "raw" else "float",
            keep_map=with_map,
            precision=changes.pop("precision", "fp32"),
        ),
        input=InputContract(
            contract=contract,
            color=color,
            mean=mean,
            std=None,
            scale=1.0,
            size=(WINDOW, WINDOW),
            is_dynamic=is_dynamic,
        ),
        outputs=tuple(outputs),
        window=(WINDOW, WINDOW),
        stride=(STRIDE, STRIDE),
        labels=labels,
        test=test or recipe.TestProtocol(scales=(24,)),
        tools={"onnx": onnx.__version__},
        files=(file_entry(folder, MODEL),),
    )
    manifest = replace(manifest, **changes)
    (folder / MANIFEST).write_text(manifest.to_json(), "utf-8")
    return Made(path=folder, weights=of, manifest=manifest)


def rewrite(bundle: Path, change: dict[str, Any]) -> None:
    """Change values of the manifest, named by dotted keys."""
    data = json.loads((bundle / MANIFEST).read_text("utf-8"))
    data.pop(OWN_SHA256, None)  # as in the manifests of earlier versions
    for path, value in change.items():
        *parents, last = path.split(".")
        at = data
        for key in parents:
            at = at[int(key)] if key.isdigit() else at[key]
        at[int(last) if last.isdigit() else last] = value
    (bundle / MANIFEST).write_text(json.dumps(data), "utf-8")


def as_data(manifest: Manifest) -> dict[str, Any]:
    """A manifest as JSON gives it back."""
    data: dict[str, Any] = json.loads(json.dumps(asdict(manifest)))
    return data


def _model(
    of: Weights,
    mean: tuple[float, ...],
    contract: str,
    is_dynamic: bool,
    kind: str,
    with_map: bool,
) -> onnx.ModelProto:
    channels = len(mean)
    nodes = []
    image = "image"
    initialisers = dict(of)
    if contract == "raw":
        nodes += [
            helper.make_node("Transpose", ["image"], ["planes"], perm=[0, 3, 1, 2]),
            helper.make_node("Cast", ["planes"], ["floats"], to=TensorProto.FLOAT),
            helper.make_node("Sub", ["floats", "mean"], ["centred"]),
        ]
        initialisers["mean"] = np.array(mean, np.float32).reshape(1, -1, 1, 1)
        image = "centred"
    for conv in ("conv1", "conv2"):
        parameters = [f"{conv}.weight", f"{conv}.bias"]
        nodes += [
            helper.make_node("Conv", [image, *parameters], [conv], pads=[1, 1, 1, 1]),
            helper.make_node("Relu", [conv], [f"{conv}.relu"]),
            helper.make_node(
                "MaxPool", [f"{conv}.relu"], [f"{conv}.pool"], kernel_shape=[2, 2], strides=[2, 2]
            ),
        ]
        image = f"{conv}.pool"
    nodes += [
        helper.make_node("Conv", [image, "fc3.weight", "fc3.bias"], ["score_map"]),
        helper.make_node("GlobalAveragePool", ["score_map"], ["mean_score"]),
        helper.make_node("Flatten", ["mean_score"], ["scores"]),
    ]
    if kind == "posteriors":
        nodes.append(helper.make_node("Softmax", ["scores"], ["posteriors"], axis=1))
    side: int | str = WINDOW
    height, width = ("H", "W") if is_dynamic else (side, side)
    if contract == "raw":
        shape, dtype = ["N", height, width, channels], TensorProto.UINT8
    else:
        shape, dtype = ["N", channels, height, width], TensorProto.FLOAT
    outputs = [helper.make_tensor_value_info(kind, TensorProto.FLOAT, ["N", CLASSES])]
    if with_map:
        axes = ["N", CLASSES, "h", "w"]
        outputs.append(helper.make_tensor_value_info("score_map", TensorProto.FLOAT, axes))
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("image", dtype, shape)],
        outputs,
        [numpy_helper.from_array(array, name) for name, array in initialisers.items()],
    )
    opset = helper.make_opsetid("", 17)
    model = helper.make_model(graph, opset_imports=[opset], ir_version=8)
    onnx.checker.check_model(model)
    return model
