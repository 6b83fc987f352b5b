"""How long each node of a graph takes, by the profiler of the engine that runs it."""

import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from numpy.typing import NDArray

from vggspec.base.catalogue.artefacts import RunFailed
from vggspec.base.diagnostic import VggspecError, report
from vggspec.bundle.options import Precision


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeTime:
    """A node as the engine runs it, with all that it fused into it."""

    names: tuple[str, ...]
    """The engine's name; of OpenVINO the names of all nodes of the graph that it consists of."""

    kind: str
    """Its operator, in the engine's words."""

    seconds: float


@dataclass(frozen=True, slots=True)
class NodeTimes:
    """The nodes of one run in the order in which they ran."""

    nodes: tuple[NodeTime, ...]
    run_s: float
    """The seconds of the whole run, profiler included."""


def node_times(
    model: Path,
    device: Literal["cpu", "openvino"],
    feeds: Mapping[str, NDArray[Any]],
    *,
    precision: Precision = "fp32",
    threads: int | None = None,
    runs: int = 5,
) -> NodeTimes:
    """The times of the nodes of a graph. The first run, which chooses kernels, does not count.

    Of ONNX Runtime they are those of the shortest run, since what disturbs a run makes it longer;
    of OpenVINO, whose profiler only gives averages, the mean of all runs.

    Raises:
        VggspecError: the engine refuses the model.
        MissingLibraryError: OpenVINO is not installed.
    """
    if device == "openvino":
        return _in_openvino(model, feeds, precision, threads, runs)
    return _in_onnxruntime(model, feeds, threads, runs)


def _in_onnxruntime(
    model: Path, feeds: Mapping[str, NDArray[Any]], threads: int | None, runs: int
) -> NodeTimes:
    from vggspec.runtime.ort_session import profiled

    every_run: list[NodeTimes] = []
    nodes: dict[str, NodeTime] = {}
    for event in profiled(model, "cpu", feeds, threads=threads, runs=1 + runs):
        name, seconds = str(event.get("name", "")), float(event.get("dur", 0)) * 1e-6
        if event.get("cat") == "Node" and name.endswith("_kernel_time"):
            name = name.removesuffix("_kernel_time")
            before = nodes[name].seconds if name in nodes else 0.0  # nodes may share a name
            kind = str(event.get("args", {}).get("op_name", ""))
            nodes[name] = NodeTime(names=(name,), kind=kind, seconds=before + seconds)
        elif name == "model_run":  # it comes after its nodes
            every_run.append(NodeTimes(tuple(nodes.values()), seconds))
            nodes = {}
    return min(every_run[1:], key=lambda run: run.run_s)


def _in_openvino(
    model: Path,
    feeds: Mapping[str, NDArray[Any]],
    precision: Precision,
    threads: int | None,
    runs: int,
) -> NodeTimes:
    from vggspec.base.optional import require

    require("openvino", "the device `openvino`")
    from vggspec.runtime.openvino_session import OV_ERRORS, cleaned, compile_graph

    # Its counters are averages of all runs of a request, in whole microseconds.
    averages: list[dict[str, float]] = []
    whole: list[float] = []
    compiled = compile_graph(model, precision, threads, is_profiled=True)
    try:
        request = compiled.create_infer_request()
        for _ in range(1 + runs):
            start = time.perf_counter()
            request.infer(dict(feeds))
            whole.append(time.perf_counter() - start)
            counters = request.get_profiling_info()
            averages.append({one.node_name: one.real_time.total_seconds() for one in counters})
        described = [
            (op.get_friendly_name(), dict(op.get_rt_info()))
            for op in compiled.get_runtime_model().get_ordered_ops()
        ]
    except OV_ERRORS as error:
        what = RunFailed(reason=cleaned(error, str(model)))
        raise VggspecError(report(what)) from error
    first, last, number = averages[0], averages[-1], len(averages)
    nodes = []
    for name, facts in described:
        if name not in last:
            continue
        original = _text(facts, "originalLayersNames")
        names = tuple(each for each in original.split(",") if each) or (name,)
        kind = _text(facts, "layerType")
        seconds = max(0.0, (last[name] * number - first.get(name, 0.0)) / (number - 1))
        nodes.append(NodeTime(names=names, kind=kind, seconds=seconds))
    return NodeTimes(tuple(nodes), statistics.fmean(whole[1:]))


def _text(facts: Mapping[str, Any], key: str) -> str:
    value = facts.get(key, "")
    return str(getattr(value, "value", value))
