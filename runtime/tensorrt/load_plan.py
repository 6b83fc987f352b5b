"""The one place where a plan is loaded: by a session, by a refit, and by a build's own check."""

from dataclasses import dataclass

from vggspec.base.catalogue.running import PlanRefused
from vggspec.base.diagnostic import VggspecError, report
from vggspec.bundle.engine import Engine
from vggspec.runtime.tensorrt import library as seam
from vggspec.runtime.tensorrt.api import ICudaEngine, Library, Runtime
from vggspec.runtime.tensorrt.messages import clean, logger


class RefusedError(Exception):
    """TensorRT refuses by a return value; the message is what it logged."""


@dataclass(slots=True)
class LoadedPlan:
    """An engine, and the runtime that must outlive it."""

    runtime: Runtime
    engine: ICudaEngine

    def close(self) -> None:
        """Release both, the engine first."""
        self.engine = None
        self.runtime = None


def deserialize(trt: Library, data: bytes, *, allows_host_code: bool) -> LoadedPlan:
    """An engine from the bytes of its plan, which is native code.

    A version-compatible plan contains a small runtime of its own version: ``allows_host_code``.

    Raises:
        RefusedError: TensorRT refuses the plan.
    """
    heard, its_logger = logger(trt)
    heard.forget()
    try:
        runtime: Runtime = trt.Runtime(its_logger)
        if allows_host_code:
            runtime.engine_host_code_allowed = True
        engine: ICudaEngine = runtime.deserialize_cuda_engine(data)
    except (RuntimeError, TypeError) as error:  # what pybind makes of a null pointer
        raise RefusedError(heard.told(clean(str(error)))) from error
    if engine is None:
        raise RefusedError(heard.told("it does not say why"))
    heard.forget()  # messages that did not stop it are not the cause of later errors
    return LoadedPlan(runtime, engine)


def load_plan(trt: Library, data: bytes, facts: Engine, path: str) -> LoadedPlan:
    """The engine of a bundle, whose manifest has these ``facts``.

    Raises:
        VggspecError: TensorRT refuses the plan.
    """
    try:
        return deserialize(trt, data, allows_host_code=facts.is_version_compatible)
    except RefusedError as error:
        title = seam.FLAVOURS[facts.flavour].title
        here = seam.version(facts.flavour) or getattr(trt, "__version__", "another")
        what = PlanRefused(
            reason=str(error), built_by=f"{title} {facts.version}", here=f"{title} {here}"
        )
        raise VggspecError(report(what, path=path)) from error
