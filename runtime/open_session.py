"""The engine that runs a bundle, by the model in it and by the device."""

from vggspec.base.catalogue.artefacts import EngineFailed, ReplacedBundle
from vggspec.base.catalogue.running import EngineNotAskedFor, NoReference
from vggspec.base.diagnostic import Diagnostic, VggspecError, report
from vggspec.base.optional import require
from vggspec.bundle.opening import Bundle
from vggspec.runtime.fastest_engine import fastest
from vggspec.runtime.session import Device, Session


def open_session(bundle: Bundle, device: Device = "auto", threads: int | None = None) -> Session:
    """Load the model of a bundle into the engine for its kind.

    ``tensorrt`` is a CUDA device too: it loads a plan, and passes a graph to ONNX Runtime's
    TensorRT. A plan is native code, so only that device loads it; the others load the reference of
    its bundle. ``threads`` bounds the CPU threads of one run; None leaves the number to the engine.

    Raises:
        VggspecError: no engine runs such a file, or the engine refuses it.
        MissingLibraryError: ``device`` is not available.
    """

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
    from vggspec.runtime.ort_session import OrtSession, for_tensorrt, lacking_cuda

    if device == "tensorrt" and bundle.manifest.members:
        raise refused(EngineFailed(reason="TensorRT does not take the rescaling in its graph"))
    manifest = bundle.manifest
    session: Session
    try:
        if device == "openvino" or (
            device == "auto"
            and lacking_cuda() is not None
            and fastest(manifest, threads) == "openvino"
        ):
            require("openvino", "the device `openvino`")
            from vggspec.runtime.openvino_session import OpenvinoSession

            session = OpenvinoSession(model, manifest.precision, threads)
        else:
            built = for_tensorrt(manifest) if device == "tensorrt" else None
            is_half = manifest.precision == "fp16"
            session = OrtSession(model, device, threads, built, is_half=is_half)
    except VggspecError:
        if bundle.is_current():
            raise
        raise refused(ReplacedBundle()) from None
    if not bundle.is_current():  # the weights were loaded by their name
        session.close()
        raise refused(ReplacedBundle())
    return session
