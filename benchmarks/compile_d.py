"""``vggspec compile specs/D.vgg`` against ``torch.onnx.export`` of an equal module."""

import sys
import tempfile
from pathlib import Path

from benchmarks.measure import Claim, conclude, milliseconds, process, ratio
from benchmarks.weights import weights_of_d


def main() -> list[Claim]:
    """At least 15 times as fast as the faster exporter where the weights are not copied, in less
    than 200 MB. The exporter writes the weights; where they are copied, that is said beside it.
    """
    weights = str(weights_of_d())
    ours, linked, peak = [], [], 0.0
    theirs: dict[str, list[float]] = {"script": [], "dynamo": []}
    with tempfile.TemporaryDirectory(dir=Path(weights).parent) as folder:
        bundle, exported = f"{folder}/bundle", f"{folder}/exported.onnx"
        compile_d = [sys.executable, "-m", "vggspec", "compile", "specs/D.vgg"]
        compile_d += ["--weights", weights, "-o", bundle]
        process(compile_d)
        for _ in range(3):
            run = process(compile_d)
            ours.append(run.seconds)
            peak = max(peak, run.peak_mb)
            linked.append(process([*compile_d, "--link-weights"]).seconds)
            for how, seconds in theirs.items():
                peer = [sys.executable, "-m", "benchmarks.peers.export", weights, exported, how]
                seconds.append(process(peer).seconds)
    faster = min(theirs, key=lambda how: min(theirs[how]))
    copied = min(theirs[faster]) / min(ours)
    detail = f"compile {milliseconds(linked)}; {milliseconds(ours)}, {copied:.1f}x, with a copy"
    detail += "".join(f", export ({how}) {milliseconds(s)}" for how, s in theirs.items())
    return [
        Claim(
            "torch.onnx.export / compile D --link-weights",
            ratio(theirs[faster], linked),
            15,
            at_least=True,
            detail=detail,
        ),
        Claim("resident memory of compile D", peak, 200, at_least=False, unit=" MB"),
    ]


if __name__ == "__main__":
    sys.exit(conclude(main()))
