"""Net D applied densely on a GPU without TensorRT: latency, images a second, and the protocol.

vggspec's session over ONNX Runtime, beside a session written by hand, PyTorch and torch.compile,
in turn in one process, on images of 4:3 in the host's memory; a time ends with the posteriors
there. Nothing computes fp32 in TF32. Then the whole test protocol on one photograph (three scales
with mirror images), beside a plain loop in PyTorch. ``benchmarks.engine_gpu`` measures TensorRT
engines.

    python -m benchmarks.dense_gpu --out FILE
"""

import argparse
import io
import sys
import tempfile
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

import vggspec
from benchmarks.engine_gpu import (
    COMPILED,
    ORT,
    TOLERANCE,
    TORCH,
    Run,
    attempt,
    clocked,
    driver_release,
    libraries,
    ort_run,
    percentile,
    random_images,
    size_of,
    table,
    take_turns,
    torch_run,
)
from benchmarks.peers import vgg16
from benchmarks.weights import weights_of_d
from vggspec.bundle.opening import open_bundle
from vggspec.bundle.options import Precision
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
    folder: Path, precision: Precision, batch: int, scale: int, seconds: float, ways: Sequence[str]
) -> tuple[dict[str, list[float]], dict[str, str]]:
    """Seconds by way, and why a way is missing."""
    # ONNX Runtime cannot convolve in bf16, so there is no such bundle.
    bundle = open_bundle(folder / ("fp32" if precision == "bf16" else precision))
    images = random_images((batch, *size_of(scale)))
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


def protocol(folder: Path, seconds: float) -> str:
    """The paper's protocol on one photograph, ours and a plain loop, in a table."""
    rng = np.random.default_rng(0)
    small = rng.integers(0, 256, (15, 20, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(small).resize((500, 375), Image.Resampling.BICUBIC).save(file, "jpeg")
    photo = folder / "photo.jpg"
    photo.write_bytes(file.getvalue())
    module = vgg16.load(str(weights_of_d())).to("cuda")
    mean = torch.tensor([123.68, 116.779, 103.939])[:, None, None]

    @torch.inference_mode()
    def plain() -> NDArray[np.float32]:
        total = torch.zeros(1000, device="cuda")
        for scale in SCALES:
            with Image.open(photo) as image:
                factor = scale / min(image.size)
                size = round(image.width * factor), round(image.height * factor)
                pixels = np.asarray(image.convert("RGB").resize(size, Image.Resampling.BILINEAR))
            x = (torch.from_numpy(pixels.copy()).permute(2, 0, 1).float() - mean)[None].to("cuda")
            total += module(x)[0] + module(x.flip(3))[0]
        answer: NDArray[np.float32] = (total / (2 * len(SCALES))).cpu().numpy()
        return answer

    rows = []
    for precision in ("fp32",):  # in fp16 cuDNN refuses the shapes of this photograph
        with vggspec.load(folder / precision, device="cuda") as predictor:
            found = predictor(photo, scales=SCALES, flip=True).posteriors
            far = float(np.abs(found - plain()).max())
            taken = take_turns(
                {
                    "ours": clocked(lambda: predictor(photo, scales=SCALES, flip=True)),
                    "plain": clocked(plain),
                },
                seconds,
            )
        ours, other = (sorted(taken[name])[len(taken[name]) // 2] for name in ("ours", "plain"))
        rows.append([precision, f"{ours * 1e3:.2f}", f"{other * 1e3:.2f}", f"{other / ours:.2f}"])
        rows[-1].append(f"{far:.1e}")
    return table(["protocol", "vggspec, ms", "plain torch fp32, ms", "plain / ours", "apart"], rows)


def main(texts: Sequence[str]) -> int:
    """Print the tables in Markdown; 3 without a CUDA device."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.dense_gpu", description=__doc__)
    parser.add_argument("--precisions", nargs="+", default=list(TOLERANCE), choices=TOLERANCE)
    parser.add_argument("--scales", nargs="+", type=int, default=list(SCALES))
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 8])
    parser.add_argument("--without", nargs="+", default=[], choices=WAYS)
    parser.add_argument("--seconds", type=float, default=3, help="for a shape, about (3)")
    parser.add_argument("--out", type=Path, metavar="FILE", help="appended to")
    given = parser.parse_args(texts)
    if not torch.cuda.is_available():
        print("this benchmark needs a CUDA device")
        return 3

    def tell(text: str) -> None:
        print(text, flush=True)
        if given.out is not None:
            with given.out.open("a", encoding="utf-8") as out:
                out.write(text + "\n")

    versions = ", ".join(f"{name} {number}" for name, number in libraries().items())
    tell(
        f"## Dense inference of D without TensorRT, {datetime.now(UTC):%Y-%m-%d}\n\n"
        f"{torch.cuda.get_device_name()}, driver {driver_release()}; {versions}.\n"
    )
    ways = [way for way in WAYS if way not in given.without]
    with tempfile.TemporaryDirectory(dir=weights_of_d().parent) as name:
        folder = Path(name)
        for precision in ORT_PRECISIONS:
            vggspec.compile(
                SPEC, weights=weights_of_d(), out=folder / precision, precision=precision
            )
        notes: dict[str, None] = {}
        for precision in given.precisions:
            rows = []
            for scale in given.scales:
                for batch in given.batches:
                    seconds, missing = measure(folder, precision, batch, scale, given.seconds, ways)
                    shape = " × ".join(map(str, (batch, *size_of(scale))))
                    cells = [
                        f"{percentile(seconds[way], 0.5) * 1e3:.2f} / "
                        f"{percentile(seconds[way], 0.99) * 1e3:.2f}"
                        if way in seconds
                        else "–"
                        for way in ways
                    ]
                    rows.append([shape, *cells])
                    notes |= dict.fromkeys(f"- {way}: {why}" for way, why in missing.items())
            tell(f"### {precision}\n")
            tell(table(["median / p99, ms", *ways], rows))
        tell(protocol(folder, given.seconds))
        tell("\n".join(notes))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
