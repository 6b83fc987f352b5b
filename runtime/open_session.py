"""The engine that runs a bundle, by the model in it and by the device."""

import logging
from pathlib import Path

from vggspec.base.arguments import Device, check_choice, check_threads
from vggspec.base.catalogue.artefacts import EngineFailed, ReplacedBundle
from vggspec.base.catalogue.running import EngineNotAskedFor, NoReference
from vggspec.base.diagnostic import Diagnostic, VggspecError, report
from vggspec.base.optional import require
from vggspec.bundle.manifest import Manifest
from vggspec.bundle.opening import Bundle
from vggspec.bundle.options import Precision
from vggspec.runtime.fastest_engine import fastest
from vggspec.runtime.session import Session

log = logging.getLogger(__name__)


def open_session(bundle: Bundle, device: Device = "auto", threads: int | None = None) -> Session:
    """Load the model of a bundle into the engine for its kind.

    ``tensorrt`` is a CUDA device too: it loads a plan, and passes a graph to ONNX Runtime's
    TensorRT. A plan is native code, so only that device loads it; the others load the reference of
    its bundle. ``openvino`` runs a graph on the CPU. ``auto`` is a CUDA device if there is one;
    without one it is OpenVINO where that was measured ahead (``fastest_engine``), else ONNX
    Runtime. ``threads`` bounds the CPU threads of one run; None leaves the number to the engine.

    Raises:
        ArgumentError: there is no such ``device``, or ``threads`` is out of range.
        TypeError: ``threads`` is no whole number.
        VggspecError: no engine runs such a file, or the engine refuses it.
        MissingLibraryError: ``device`` is not available.
    """
    check_choice("device", device, Device)
    check_threads(threads)

    def refused(what: Diagnostic) -> VggspecError:
        return VggspecError(report(what, path=str(bundle.path)))

    model = bundle.model
    if bundle.manifest.engine is not None:
        if device == "auto":
            raise refused(EngineNotAskedFor(has_reference=bundle.reference is not None))
        if device == "tensorrt":
            from vggspec.runtime.tensorrt.session import TrtSession

            return TrtSession(bundle)  # it compares the bytes with the manifest
        if bundle.reference is None:
            raise refused(NoReference(device=device))
        model = bundle.reference
    if model.suffix != ".onnx":
        raise refused(EngineFailed(reason=f"no engine here runs `{model.name}`"))
    if device == "tensorrt" and bundle.manifest.members:
        raise refused(EngineFailed(reason="TensorRT does not take the rescaling in its graph"))
    precision = bundle.manifest.precision if model == bundle.model else "fp32"
    try:
        session = _open_graph(model, bundle.manifest, precision, device, threads)
    except VggspecError:
        if bundle.is_current():
            raise
        raise refused(ReplacedBundle()) from None
    if not bundle.is_current():  # the weights were loaded by their name
        session.close()
        raise refused(ReplacedBundle())
    return session


def _open_graph(
    model: Path, manifest: Manifest, precision: Precision, device: Device, threads: int | None
) -> Session:
    if device == "openvino":
        require("openvino", "the device `openvino`")
        from vggspec.runtime.openvino_session import OpenvinoSession

        return OpenvinoSession(model, precision, threads)
    from vggspec.runtime.ort_session import OrtSession, for_tensorrt, lacking_cuda

    if device == "auto" and fastest(manifest, threads) == "openvino" and lacking_cuda() is not None:
        log.info("OpenVINO runs the net: it was measured ahead of ONNX Runtime on this machine")
        return _open_graph(model, manifest, precision, "openvino", threads)
    built = for_tensorrt(manifest) if device == "tensorrt" else None
    return OrtSession(model, device, threads, built, is_half=precision == "fp16")
