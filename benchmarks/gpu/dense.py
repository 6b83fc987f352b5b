"""Net D applied densely on a GPU without TensorRT: latency, images a second, and the protocol.

vggspec's session over ONNX Runtime, beside a session written by hand, PyTorch and torch.compile,
in turn in one process, on images of 4:3 in the host's memory; a time ends with the posteriors
there. Nothing computes fp32 in TF32. ``benchmarks.gpu.engine`` measures TensorRT engines.

    python -m benchmarks.gpu.dense
"""

import argparse
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

import vggspec
from benchmarks.gpu.engine import (
    COMPILED,
    ORT,
    TOLERANCE,
    TORCH,
    Run,
    attempt,
    clocked,
    ort_run,
    percentile,
    random_images,
    size_of,
    take_turns,
    torch_run,
    written,
)
from benchmarks.gpu.machine import table
from benchmarks.weights import weights_of_d
from vggspec.bundle.opening import open_bundle
from vggspec.bundle.options import Precision
from vggspec.bundle.profile import BatchShape
from vggspec.runtime.open_session import open_session

SPEC = "specs/D.vgg"
OURS, OURS_TORCH = "vggspec", "vggspec.torch_module"
WAYS = (OURS, ORT, OURS_TORCH, TORCH, COMPILED)
ORT_PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16")
SCALES = (256, 384, 512)


def module_run(precision: Precision, images: NDArray[np.float32]) -> Run:
    """The dense module of the spec, driven as PyTorch's own modules are."""
    dtype = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}[precision]
    layout = torch.contiguous_format if precision == "fp32" else torch.channels_last
    module = vggspec.torch_module(SPEC, weights=weights_of_d(), dense=True).eval()
    module = module.to("cuda", dtype).to(memory_format=layout)
    pinned = torch.empty(images.shape).pin_memory()

    @torch.inference_mode()
    def run() -> NDArray[np.float32]:
        pinned.copy_(torch.from_numpy(images))
        fed = pinned.to("cuda", non_blocking=True).to(dtype, memory_format=layout)
        answer: NDArray[np.float32] = module(fed).float().cpu().numpy()
        return answer

    return run


def measure(
    folder: Path, precision: Precision, shape: BatchShape, seconds: float, ways: Sequence[str]
) -> tuple[dict[str, list[float]], dict[str, str]]:
    """Seconds by way, and why a way is missing."""
    # ONNX Runtime cannot convolve in bf16, so there is no such bundle.
    bundle = open_bundle(folder / ("fp32" if precision == "bf16" else precision))
    images = random_images(shape)
    reference = torch_run(weights_of_d(), "fp32", images, is_compiled=False)()
    with open_session(bundle, "cuda") as ours:
        peers: dict[str, Callable[[], Run]] = {
            OURS: lambda: lambda: ours.run({"image": images})["posteriors"],
            ORT: lambda: ort_run(bundle.model, images),
            OURS_TORCH: lambda: module_run(precision, images),
            TORCH: lambda: torch_run(weights_of_d(), precision, images, is_compiled=False),
            COMPILED: lambda: torch_run(weights_of_d(), precision, images, is_compiled=True),
        }
        runs, missing = {}, {}
        for name in ways:
            if precision == "bf16" and name in (OURS, ORT):
                missing[name] = "ONNX Runtime cannot convolve in bf16"
                continue
            run = attempt(peers[name], reference, TOLERANCE[precision])
            if isinstance(run, str):
                missing[name] = run
            else:
                runs[name] = clocked(run)
        return take_turns(runs, seconds), missing


def main(texts: Sequence[str]) -> int:
    """Print the tables in Markdown; 3 without a CUDA device."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu.dense", description=__doc__)
    parser.add_argument("--precisions", nargs="+", default=list(TOLERANCE), choices=TOLERANCE)
    parser.add_argument("--scales", nargs="+", type=int, default=list(SCALES))
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 8])
    parser.add_argument("--without", nargs="+", default=[], choices=WAYS)
    parser.add_argument("--seconds", type=float, default=3, help="for a shape, about (3)")
    parser.add_argument("--square", action="store_true", help="Q × Q instead of 4:3")
    given = parser.parse_args(texts)
    if not torch.cuda.is_available():
        print("this torch has no CUDA device")
        return 3

    ways = [way for way in WAYS if way not in given.without]
    with tempfile.TemporaryDirectory(dir=weights_of_d().parent) as name:
        folder = Path(name)
        for precision in ORT_PRECISIONS:
            vggspec.compile(
                SPEC, weights=weights_of_d(), out=folder / precision, precision=precision
            )
        notes: dict[str, None] = {}
        for precision in given.precisions:
            rows, rates = [], []
            for scale in given.scales:
                for batch in given.batches:
                    shape = (batch, *size_of(scale, is_square=given.square))
                    seconds, missing = measure(folder, precision, shape, given.seconds, ways)
                    cells = [
                        f"{percentile(seconds[way], 0.5) * 1e3:.2f} / "
                        f"{percentile(seconds[way], 0.99) * 1e3:.2f}"
                        if way in seconds
                        else "–"
                        for way in ways
                    ]
                    rows.append([written(shape), *cells])
                    per_second = (
                        f"{batch / percentile(seconds[way], 0.5):.0f}" if way in seconds else "–"
                        for way in ways
                    )
                    rates.append([written(shape), *per_second])
                    notes |= dict.fromkeys(f"- {way}: {why}" for way, why in missing.items())
            print(f"#### {precision}\n\n{table(['median / p99, ms', *ways], rows)}")
            print(table(["images/s", *ways], rates), flush=True)
        print("\n".join(notes))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
