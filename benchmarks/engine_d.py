"""``vggspec compile specs/D.vgg --trt --precision fp16`` against ``torch.onnx.export`` of an equal
module, parsed and built by the same builder with the same profiles.

PyTorch's older exporter is left out: it runs the module, and on a CPU half precision takes minutes.
"""

import sys
import tempfile
from pathlib import Path

from benchmarks.measure import Claim, conclude, milliseconds, process, ratio
from benchmarks.weights import weights_of_d
from vggspec.bundle.profile import derive_profiles
from vggspec.compiler.lower import load_network

WINDOW = (224, 224)


def main() -> list[Claim]:
    """At least 3 times as fast as the faster exporter; memory at most 2.5 times the weights."""
    path = weights_of_d()
    weights = str(path)
    test = load_network("specs/D.vgg").experiment.test
    derived = derive_profiles(test, least=WINDOW, window=WINDOW, is_dynamic=True)
    profiles = [str(profile) for profile in derived]
    ours: list[float] = []
    peaks: list[float] = []
    theirs: list[float] = []
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        plan = f"{folder}/plan"
        compile_d = [sys.executable, "-m", "vggspec", "compile", "specs/D.vgg", "--trt"]
        compile_d += ["--trt-flavor", "tensorrt_rtx", "--precision", "fp16"]
        compile_d += ["--weights", weights, "-o", f"{folder}/bundle"]
        process(compile_d)
        for _ in range(2):
            run = process(compile_d)
            ours.append(run.seconds)
            peaks.append(run.peak_mb)
            peer = [sys.executable, "-m", "benchmarks.peers.engine", weights, plan, "dynamo"]
            theirs.append(process([*peer, *profiles]).seconds)
    return [
        Claim(
            "export, parse and build / compile --trt D, fp16",
            ratio(theirs, ours),
            3,
            at_least=True,
            detail=f"compile {milliseconds(ours)}, export and build {milliseconds(theirs)}",
        ),
        Claim(
            "resident memory of compile --trt D / its weights",
            max(peaks) * 2**20 / Path(weights).stat().st_size,
            2.5,
            at_least=False,
            detail=f"{len(profiles)} profiles, {max(peaks):.0f} MiB",
        ),
    ]


if __name__ == "__main__":
    sys.exit(conclude(main()))
