"""ResNet-50 and DenseNet-121 against ``torch.onnx.export`` of torchvision's modules.

Whole processes compile the nets, the peer with the older and faster of PyTorch's two exporters: the
other takes minutes for DenseNet-121. ONNX Runtime runs both graphs of ResNet-50, the exported one
simplified by onnxslim. And ``vggspec check`` of all packaged specs against ``import torch``.
"""

import sys
from pathlib import Path

import numpy as np
import onnxruntime as ort

from benchmarks.measure import Claim, conclude, in_turn, milliseconds, process, ratio
from benchmarks.weights import OUT

NETS = {"specs/resnet.vgg:ResNet-50": "resnet50", "specs/densenet.vgg:DenseNet-121": "densenet121"}


def main() -> list[Claim]:
    """At least 10 times as fast; no slower to run; half the time of ``import torch``."""
    OUT.mkdir(exist_ok=True)
    claims = [_compile(spec, model) for spec, model in NETS.items()]
    return [*claims, _inference(), _check()]


def _paths(model: str) -> tuple[Path, Path, Path, Path]:
    """The state dict, the weights, the bundle and the exported graph of a net."""
    names = (f"{model}.pth", f"{model}.safetensors", f"{model}-bundle", f"{model}.onnx")
    state, weights, bundle, exported = (OUT / name for name in names)
    return state, weights, bundle, exported


def _compile(spec: str, model: str) -> Claim:
    state, weights, bundle, exported = _paths(model)
    peer = [sys.executable, "-m", "benchmarks.peers.export_torchvision", model, str(state)]
    vggspec = [sys.executable, "-m", "vggspec"]
    if not weights.exists():
        process(peer)
        process([*vggspec, "import", spec, str(state), "--from", "torchvision", "-o", str(weights)])
    compile_it = [*vggspec, "compile", spec, "--weights", str(weights), "-o", str(bundle)]
    process(compile_it)
    ours: list[float] = []
    theirs: list[float] = []
    for _ in range(3):
        ours.append(process(compile_it).seconds)
        theirs.append(process([*peer, str(exported), "script"]).seconds)
    detail = f"compile {milliseconds(ours)}, export {milliseconds(theirs)}"
    name = f"torch.onnx.export / compile {spec.partition(':')[2]}"
    return Claim(name, ratio(theirs, ours), 10, at_least=True, detail=detail)


def _inference() -> Claim:
    *_, bundle, exported = _paths("resnet50")
    slim = exported.with_name("resnet50-slim.onnx")
    process([sys.executable, "-m", "onnxslim", str(exported), str(slim)])
    sessions = {
        "ours": ort.InferenceSession(str(bundle / "1/model.onnx")),
        "export, onnxslim": ort.InferenceSession(str(slim)),
    }
    x = np.random.default_rng(0).standard_normal((1, 3, 224, 224)).astype(np.float32)
    found = [session.run(None, {"image": x})[0] for session in sessions.values()]
    np.testing.assert_allclose(found[0], found[1], rtol=1e-3, atol=1e-5)
    calls = {
        name: lambda session=session: session.run(None, {"image": x})
        for name, session in sessions.items()
    }
    seconds = in_turn(calls, rounds=25, warmup=3)
    detail = ", ".join(f"{name} {milliseconds(times)}" for name, times in seconds.items())
    value = ratio(seconds["ours"], seconds["export, onnxslim"])
    return Claim("ResNet-50, ours / exported", value, 1.03, at_least=False, detail=detail)


def _check() -> Claim:
    specs = sorted(map(str, Path("specs").glob("*.vgg")))
    ours, theirs = [], []
    for i in range(6):
        check = process([sys.executable, "-m", "vggspec", "check", *specs])
        torch = process([sys.executable, "-c", "import torch"])
        if i > 0:  # the first round warms the disk cache
            ours.append(check.seconds)
            theirs.append(torch.seconds)
    detail = f"check {milliseconds(ours)}, import torch {milliseconds(theirs)}"
    value = ratio(ours, theirs)
    name = f"check of {len(specs)} specs / import torch"
    return Claim(name, value, 0.5, at_least=False, detail=detail)


if __name__ == "__main__":
    sys.exit(conclude(main()))
