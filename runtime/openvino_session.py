"""Nets in OpenVINO, on the CPU."""

import re
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import numpy as np
import openvino as ov
from numpy.typing import NDArray

from vggspec.base.catalogue.artefacts import EngineFailed, RunFailed
from vggspec.base.diagnostic import VggspecError, report
from vggspec.base.wording import foreign
from vggspec.bundle.options import Precision
from vggspec.runtime.session import Arrays, Port, check_feeds


class OpenvinoSession:
    """A net loaded by OpenVINO.

    Products are computed in bf16 where ``precision`` is bf16 and the processor has it, in int8
    where the graph has it, else in fp32: never in what OpenVINO would choose by itself.

    Raises:
        VggspecError: OpenVINO refuses the model.
    """

    device: Literal["cpu"] = "cpu"

    def __init__(
        self, model: Path, precision: Precision = "fp32", threads: int | None = None
    ) -> None:
        self._path = str(model)
        try:
            core = ov.Core()
            is_bf16 = precision == "bf16" and has_bf16(core)
            options = {
                "INFERENCE_PRECISION_HINT": "bf16" if is_bf16 else "f32",
                "INFERENCE_NUM_THREADS": threads or 0,
                "PERFORMANCE_HINT": "LATENCY",
            }
            compiled = core.compile_model(self._path, "CPU", options)
        except RuntimeError as error:
            what = EngineFailed(reason=_reason(error))
            raise VggspecError(report(what, path=self._path)) from error
        self._net: ov.CompiledModel | None = compiled
        self.inputs = tuple(map(_port, compiled.inputs))
        self.outputs = tuple(map(_port, compiled.outputs))

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> Arrays:
        """All outputs by name, as new arrays.

        Raises:
            ValueError: the feeds do not match the inputs, or the session is closed.
            VggspecError: the engine fails, for lack of memory for instance.
        """
        net = self._net
        if net is None:
            raise ValueError("the session is closed")
        check_feeds(self.inputs, feeds)
        try:
            found = net.create_infer_request().infer(dict(feeds))
        except RuntimeError as error:
            raise VggspecError(report(RunFailed(reason=_reason(error)))) from error
        return {port.name: found[port.name].copy() for port in self.outputs}

    def close(self) -> None:
        """Free the net and its memory; a second call does nothing."""
        self._net = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def has_bf16(core: ov.Core) -> bool:
    """Whether the processor multiplies in bf16."""
    return "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def _port(port: ov.ConstOutput) -> Port:
    shape = tuple(axis.get_length() if axis.is_static else None for axis in port.partial_shape)
    return Port(port.any_name, np.dtype(port.element_type.to_dtype()), shape)


def _reason(error: Exception) -> str:
    return foreign(re.sub(r"Exception from \S+:\s", "", str(error)))
