"""Net D in OpenVINO on this machine's CPU, one image at a time: a 224 crop and 384 × 512 densely.

Our session, which compiles one net for images of all sizes, against OpenVINO by hand, compiled for
the one size, against ONNX Runtime and against PyTorch in its default layout. Where the processor
multiplies in bf16, that too. Then what loading takes in either engine, in processes of their own,
against a plain session of ONNX Runtime.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
import openvino
import torch

import vggspec
from benchmarks.measure import Claim, conclude, in_turn, milliseconds, process, ratio
from benchmarks.peers import vgg16
from benchmarks.weights import weights_of_d
from vggspec.bundle.opening import Bundle, open_bundle
from vggspec.runtime.machine import processor
from vggspec.runtime.open_session import open_session
from vggspec.runtime.openvino_session import OpenvinoSession, has_bf16

SIZES = {"224": (224, 224), "dense": (384, 512)}
HINTS = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
ROUNDS = 7

#: A process that opens a bundle on a device and runs batches of these sizes.
ANSWERS = """
import sys
import numpy as np
from vggspec.bundle.opening import open_bundle
from vggspec.runtime.open_session import open_session
with open_session(open_bundle(sys.argv[1]), sys.argv[2]) as session:
    for shape in sys.argv[3:]:
        n, rows, columns = map(int, shape.split("x"))
        session.run({"image": np.zeros((n, 3, rows, columns), np.float32)})
"""
#: The same as one would write it.
BY_HAND = """
import sys
import numpy as np
import onnxruntime
session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
for shape in sys.argv[2:]:
    n, rows, columns = map(int, shape.split("x"))
    session.run(None, {"image": np.zeros((n, 3, rows, columns), np.float32)})
"""
FIRST = ("1x224x224",)
PROTOCOL = ("2x256x341", "2x384x512", "2x512x683", "2x341x256", "2x512x384")


def main() -> list[Claim]:
    """No slower than by hand; at least 1.4 times as fast as PyTorch, with bf16 4.5 times at 224 and
    3 times densely, with AMX 4.5 times at both.
    """
    print(processor(), flush=True)
    weights = weights_of_d()
    with tempfile.TemporaryDirectory(dir=weights.parent) as folder:
        bundle = Path(folder) / "D"
        vggspec.compile("specs/D.vgg", weights=weights, out=bundle)
        loading = _loading(bundle)  # first: a process that has grown lends its size to others
        opened, module = open_bundle(bundle), vgg16.load(str(weights))
        return [*(claim for name in SIZES for claim in _at(name, opened, module)), *loading]


def _at(name: str, opened: Bundle, module: torch.nn.Module) -> list[Claim]:
    """The figures of one size of images."""
    shape = [1, 3, *SIZES[name]]
    feeds = {"image": np.random.default_rng(0).standard_normal(shape).astype(np.float32)}
    tensor = torch.from_numpy(feeds["image"])
    core = openvino.Core()
    graph = core.read_model(opened.model)
    graph.reshape({"image": shape})
    by_hand = core.compile_model(graph, "CPU", HINTS).create_infer_request()
    with (
        OpenvinoSession(opened.model) as ours,
        OpenvinoSession(opened.model, "bf16") as half,
        open_session(opened, "cpu") as ort,
        torch.inference_mode(),
    ):
        expected = ort.run(feeds)["posteriors"]
        np.testing.assert_allclose(ours.run(feeds)["posteriors"], expected, atol=1e-5)
        calls = {
            "vggspec": lambda: ours.run(feeds),
            "by hand": lambda: by_hand.infer(feeds),
            "ONNX Runtime": lambda: ort.run(feeds),
            "torch": lambda: module(tensor),
        }
        if has_bf16():
            calls["vggspec bf16"] = lambda: half.run(feeds)
        seconds = in_turn(calls, rounds=ROUNDS)
    best, bound = "vggspec", 1.4
    if has_bf16():  # without AMX its products take half of the time of fp32, with it a tenth
        best, bound = "vggspec bf16", 4.5 if name == "224" or "amx" in processor() else 3
    return [
        Claim(
            f"OpenVINO by hand / its session, D {name}",
            ratio(seconds["by hand"], seconds["vggspec"]),
            0.97,
            at_least=True,
            detail=", ".join(f"{each} {milliseconds(times)}" for each, times in seconds.items()),
        ),
        Claim(
            f"torch eager / OpenVINO session, D {name}",
            ratio(seconds["torch"], seconds[best]),
            bound,
            at_least=True,
        ),
    ]


def _loading(bundle: Path) -> list[Claim]:
    model = str(open_bundle(bundle).model)
    ways = {
        "ONNX Runtime": [ANSWERS, str(bundle), "cpu"],
        "OpenVINO": [ANSWERS, str(bundle), "openvino"],
        "ONNX Runtime by hand": [BY_HAND, model],
    }
    first = {
        name: [process([sys.executable, "-c", *way, *FIRST]) for _ in range(3)]
        for name, way in ways.items()
    }
    grown = {name: process([sys.executable, "-c", *way, *PROTOCOL]) for name, way in ways.items()}
    seconds = {name: [run.seconds for run in runs] for name, runs in first.items()}
    peaks = {name: max(run.peak_mb for run in runs) for name, runs in first.items()}
    detail = "; ".join(
        f"{name}: {milliseconds(seconds[name])} and {peaks[name]:.0f} MB,"
        f" after five shapes of the protocol {grown[name].peak_mb:.0f} MB"
        for name in ways
    )
    ours, by_hand = "ONNX Runtime", "ONNX Runtime by hand"
    return [
        Claim(
            "to the first answer of D, whole process: plain session / vggspec",
            ratio(seconds[by_hand], seconds[ours]),
            1.5,
            at_least=True,
            detail=detail,
        ),
        Claim(
            "peak memory of that: vggspec / plain session",
            peaks[ours] / peaks[by_hand],
            0.7,
            at_least=False,
        ),
    ]


if __name__ == "__main__":
    sys.exit(conclude(main()))
