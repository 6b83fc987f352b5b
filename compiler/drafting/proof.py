"""The net of a spec beside the ONNX model that it was written from, on the same images."""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vggspec.base.catalogue.onnx_models import NotTheModel
from vggspec.base.diagnostic import VggspecError, report
from vggspec.base.render import shown
from vggspec.base.wording import foreign
from vggspec.bundle.manifest import MODEL, WEIGHTS
from vggspec.compiler.drafting.nodes import Graph
from vggspec.compiler.importing import onnx_files
from vggspec.compiler.importing.checkpoint import refusals
from vggspec.compiler.importing.comparing import Compared
from vggspec.compiler.ir import IMAGE, Network
from vggspec.compiler.passes import DropSoftmax, inference, run
from vggspec.compiler.weights import WeightsFile, open_weights

if TYPE_CHECKING:
    from onnx import ModelProto

MOST_APART = 1e-4
"""The largest difference of outputs, as a part of the largest, that rounding explains."""

_IMAGES = 2


def prove(model: str, graph: Graph, network: Network, weights: str) -> Compared | str:
    """Run the net of a spec with its weights file and the model on images of noise; what ONNX
    Runtime says where it does not take the model.

    The class scores are compared, and the posteriors where a soft-max follows.

    Raises:
        VggspecError: the outputs differ.
    """
    rng = np.random.default_rng(0)
    image = network.input
    shape = (graph.size.images or _IMAGES, image.channels, image.height, image.width)
    runs = -(-_IMAGES // shape[0])
    batches = [rng.standard_normal(shape).astype(np.float32) for _ in range(runs)]
    scores = () if graph.scores is None else (graph.scores,)
    names = (graph.output, *scores)
    with refusals(model):
        alone = _alone(onnx_files.load(model), model, names)
    theirs = _run(alone, os.path.dirname(os.path.abspath(model)), batches, graph.input, names)
    if isinstance(theirs, str):
        return theirs
    error = 0.0
    file = open_weights(weights)
    for name in names:
        of_scores = (DropSoftmax(),) if name in scores else ()
        prepared = run((*of_scores, *inference("crop")), network)
        ours = _ours(prepared, file, batches)
        found = _difference(ours, theirs[name])
        if not found <= MOST_APART:
            differ = f"they differ by {found:.2g} of the largest"
            if not np.isfinite(theirs[name]).all():
                differ = "the model's are not finite"
            elif ours.size != theirs[name].size:
                differ = f"it gives {ours.shape[-1]} numbers, the model {theirs[name].shape[-1]}"
            what = NotTheModel(differ=differ, model=shown(os.path.basename(model)))
            raise VggspecError(report(what, path=model))
        error = max(error, found)
    return Compared("ONNX Runtime", error, runs * shape[0], (image.height, image.width))


def _difference(ours: NDArray[Any], theirs: NDArray[Any]) -> float:
    """The largest difference, divided by the largest number of the model's."""
    if ours.size != theirs.size:
        return float("inf")
    with np.errstate(invalid="ignore"):
        apart = float(np.abs(ours.reshape(-1) - theirs.reshape(-1)).max())
    largest = float(np.abs(theirs).max())
    return apart / largest if largest > 0 else apart


def _alone(model: "ModelProto", path: str, names: tuple[str, ...]) -> bytes:
    """The model without what these of its tensors do not depend on, and with them as outputs."""
    from onnx import TensorProto, helper

    onnx_files.Reader(model, path).check_files()
    wanted = onnx_files.needed(model.graph.node, names)
    for i in range(len(model.graph.node) - 1, -1, -1):
        if i not in wanted:
            del model.graph.node[i]
    del model.graph.output[:]
    del model.graph.value_info[:]
    del model.functions[:]
    model.graph.output.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names
    )
    found: bytes = model.SerializeToString()
    return found


def _run(
    model: bytes, folder: str, batches: list[NDArray[Any]], given: str, names: tuple[str, ...]
) -> Mapping[str, NDArray[Any]] | str:
    """The model's tensors for all images, or why ONNX Runtime does not give them."""
    import onnxruntime as ort

    from vggspec.runtime.ort_session import FATAL, ORT_ERRORS, WEIGHTS_FOLDER

    options = ort.SessionOptions()
    options.log_severity_level = FATAL
    options.add_session_config_entry(WEIGHTS_FOLDER, folder)
    try:
        session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        found = [session.run(list(names), {given: batch}) for batch in batches]
    except ORT_ERRORS as error:
        return foreign(str(error))
    return {
        name: np.concatenate([np.asarray(each[i]).reshape(len(batches[0]), -1) for each in found])
        for i, name in enumerate(names)
    }


def _ours(prepared: Network, weights: WeightsFile, batches: list[NDArray[Any]]) -> NDArray[Any]:
    from vggspec.compiler.backends.onnx.model import emit
    from vggspec.runtime.ort_session import OrtSession

    mean = (0.0,) * prepared.input.channels
    with TemporaryDirectory() as folder:
        path = Path(folder) / os.path.basename(MODEL)
        path.write_bytes(emit(prepared, weights, mean=mean, is_dynamic=False).SerializeToString())
        beside = path.with_name(os.path.basename(WEIGHTS))
        try:
            beside.symlink_to(os.path.abspath(weights.path))
        except OSError:  # a system without links, or one that allows none
            shutil.copyfile(weights.path, beside)
        session = OrtSession(path, "cpu")
        (output,) = session.outputs
        try:
            found = [session.run({IMAGE: batch})[output.name] for batch in batches]
        finally:
            session.close()
    return np.concatenate([each.reshape(len(each), -1) for each in found])
