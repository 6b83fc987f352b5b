"""The whole test protocol of net D as one graph, beside ``predict`` on an ordinary bundle of it.

A photograph at three scales with mirror images, on this machine's CPU.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
import onnxruntime as ort

import vggspec
from benchmarks.measure import Claim, conclude, in_turn, milliseconds, ratio
from benchmarks.weights import weights_of_d
from vggspec.bundle.options import CompileOptions
from vggspec.compiler.bundling.protocol import write_protocol_bundle
from vggspec.compiler.lower import load_network
from vggspec.compiler.weights import open_weights

SCALES = (256, 384, 512)


def main() -> list[Claim]:
    """Run in at most 1.05 times the time; loaded in at most twice the time."""
    from sklearn.datasets import load_sample_images

    weights = weights_of_d()
    picture = load_sample_images().images[0]
    with tempfile.TemporaryDirectory(dir=weights.parent) as folder:
        bundle, graph = Path(folder) / "bundle", Path(folder) / "graph"
        vggspec.compile("specs/D.vgg", weights=weights, out=bundle)
        nets = [(load_network("specs/D.vgg"), open_weights(weights))]
        write_protocol_bundle(nets, graph, CompileOptions())
        model = str(graph / "1/model.onnx")

        def load() -> ort.InferenceSession:
            return ort.InferenceSession(model, providers=["CPUExecutionProvider"])

        def load_predictor() -> None:
            vggspec.load(bundle, device="cpu").close()

        loading = in_turn({"graph": load, "predict": load_predictor}, rounds=3)
        session = load()
        feeds = {"picture": picture, "scales": np.array(SCALES, np.int64)}
        with vggspec.load(bundle, device="cpu") as predictor:
            found = session.run(None, feeds)[0]
            expected = predictor(picture, SCALES, flip=True).posteriors
            np.testing.assert_allclose(found, expected, atol=1e-5)
            running = in_turn(
                {
                    "graph": lambda: session.run(None, feeds),
                    "predict": lambda: predictor(picture, SCALES, flip=True),
                },
                rounds=3,
                warmup=0,
            )
    claims = []
    for what, seconds, bound in (("load", loading, 2), ("run", running, 1.05)):
        detail = ", ".join(f"{name} {milliseconds(times)}" for name, times in seconds.items())
        claims.append(
            Claim(
                f"one graph / predict, {what} of D at three scales",
                ratio(seconds["graph"], seconds["predict"]),
                bound,
                at_least=False,
                detail=detail,
            )
        )
    return claims


if __name__ == "__main__":
    sys.exit(conclude(main()))
