"""Net D in int8 on this machine's CPU, one image at a time: a 224 crop and 384 × 512 densely.

The int8 graph against the fp32 graph, each in ONNX Runtime and in OpenVINO, and against PyTorch in
its default layout. The ranges are those of smooth random pictures: speed does not depend on them.
"""

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime as ort
import openvino
import torch
from PIL import Image

import vggspec
from benchmarks.measure import Claim, conclude, in_turn, milliseconds, ratio
from benchmarks.peers import vgg16
from benchmarks.weights import weights_of_d
from vggspec.runtime.machine import processor
from vggspec.studies.verification.images import natural_images

SIZES = {"224 crop": (224, 224), "dense 384 × 512": (384, 512)}
RUNTIMES = ("ONNX Runtime", "OpenVINO")
PICTURES = 16
ROUNDS = 5


def write_pictures(folder: Path) -> None:
    """Pictures that calibrate."""
    folder.mkdir()
    for i in range(PICTURES):
        (image,) = natural_images((1, 256, 256), 3, i)
        Image.fromarray(image).save(folder / f"{i}.png")


def sessions(graphs: dict[str, Path], image: np.ndarray) -> dict[str, Callable[[], object]]:
    """A call for each graph in each runtime."""
    calls: dict[str, Callable[[], object]] = {}
    hints = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
    for name, path in graphs.items():
        session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        compiled = openvino.compile_model(str(path), "CPU", hints)
        calls[f"ONNX Runtime {name}"] = lambda s=session: s.run(None, {"image": image})
        calls[f"OpenVINO {name}"] = lambda c=compiled: c({"image": image})
    return calls


def claims(size: str, calls: dict[str, Callable[[], object]]) -> list[Claim]:
    """The figures of one size of images."""
    seconds = in_turn(calls, rounds=ROUNDS)
    detail = ", ".join(f"{name} {milliseconds(times)}" for name, times in seconds.items())
    print(f"{size}: {detail}", flush=True)
    by_fp32 = {name: ratio(seconds[f"{name} fp32"], seconds[f"{name} int8"]) for name in RUNTIMES}
    for name, value in by_fp32.items():
        print(f"    {name} fp32 / int8: {value:.2f}x", flush=True)
    best = max(by_fp32, key=lambda name: by_fp32[name])
    fastest = max(ratio(seconds["torch"], seconds[f"{name} int8"]) for name in RUNTIMES)
    of_fp32, of_torch = bounds()
    return [
        Claim(f"fp32 / int8 of D in {best}, {size}", by_fp32[best], of_fp32, at_least=True),
        Claim(f"torch eager / the fastest int8 of D, {size}", fastest, of_torch, at_least=True),
    ]


def bounds() -> tuple[float, float]:
    """Times as fast as fp32 and as PyTorch: AVX2 alone multiplies 32 bytes in three instructions,
    and 32 floats in four.
    """
    if "amx_int8" in processor():
        return 2.5, 15
    return (2.5, 4) if "vnni" in processor() else (1.6, 2.5)


def main() -> list[Claim]:
    """With VNNI at least 2.5 times as fast as fp32, and 4 times as fast as PyTorch, with AMX 15."""
    print(processor(), flush=True)
    weights = weights_of_d()
    found: list[Claim] = []
    with tempfile.TemporaryDirectory(dir=weights.parent) as folder, torch.inference_mode():
        root = Path(folder)
        write_pictures(root / "pictures")
        graphs = {}
        for precision in ("fp32", "int8"):
            more = {}
            if precision == "int8":
                more = {"calibrate": str(root / "pictures"), "keep_fp32": []}
                more |= {"max_drop": 100.0}
            out = root / precision
            vggspec.compile("specs/D.vgg", weights=weights, out=out, precision=precision, **more)
            graphs[precision] = out / "1" / "model.onnx"
            print(f"{precision}: {sizes_of(out)}", flush=True)
        module = vgg16.load(str(weights))
        for size, (rows, columns) in SIZES.items():
            random = np.random.default_rng(0)
            image = random.standard_normal((1, 3, rows, columns)).astype(np.float32) * 50
            tensor = torch.from_numpy(image)
            calls = sessions(graphs, image)
            calls["torch"] = lambda tensor=tensor: module(tensor)
            found += claims(size, calls)
    return found


def sizes_of(bundle: Path) -> str:
    """The sizes of a bundle's files."""
    files = sorted((bundle / "1").iterdir())
    return ", ".join(f"{path.name} {path.stat().st_size / 1e6:.1f} MB" for path in files)


if __name__ == "__main__":
    sys.exit(conclude(main()))
