"""A folder of JPEGs through the paper's test protocol, net D and a narrow one, on the CPU.

Three scales with mirror images, densely, in fp32 and in int8, against a plain PyTorch loop in fp32
(what int8 costs in accuracy is in docs/int8.md); dense against 150 crops; and a narrow net against
the decoder alone, where the images and not the net are the cost.
"""

import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from PIL.Image import Resampling

import vggspec
from benchmarks.input_pipeline import write_photos
from benchmarks.int8_d import write_pictures
from benchmarks.measure import Claim, conclude, in_turn, milliseconds, process, ratio
from benchmarks.peers import vgg16
from benchmarks.weights import weights_of_d
from vggspec.base.recipe import TestProtocol
from vggspec.data.decode import decode
from vggspec.data.folder import FolderSplit
from vggspec.runtime.machine import processor
from vggspec.runtime.net import BundleNet
from vggspec.runtime.preprocess import rescale
from vggspec.studies.pipeline import Applied, see, usual_threads

SCALES = (256, 384, 512)
DENSE = TestProtocol(scales=SCALES)
CROPS = TestProtocol(scales=SCALES, dense=False, crops=5)
MEAN = (123.68, 116.779, 103.939)
COUNTED = 2321 / 440  # GMAC of 150 crops, and of three scales with flips, for a 4:3 image

IMAGES = 2
LARGE, NUMBER_OF_LARGE = (1600, 1200), 60
Q = 38  # of digits.vgg

Floats = NDArray[np.float64]


def by_pipeline(net: BundleNet, split: FolderSplit, number: int, protocol: TestProtocol) -> Floats:
    """Posteriors ``(N, K)``, as ``vggspec eval`` has them."""
    found = see([Applied(net, protocol)], lambda i: split.read(i % len(split)), range(number))
    return np.stack(
        [
            np.mean([sight.outputs["posteriors"].mean(axis=0) for sight in seen.sights], axis=0)
            for seen in found
        ]
    )


def by_loop(module: vgg16.DenseVgg16, split: FolderSplit, number: int) -> Floats:
    """The same as one would write it: an image at a time, each scale and flip a pass of its own."""
    mean = torch.tensor(MEAN)[:, None, None]
    found = []
    with torch.inference_mode():
        for i in range(number):
            with Image.open(split.name(i % len(split))) as file:
                image = file.convert("RGB")
            posteriors = []
            for scale in SCALES:
                factor = scale / min(image.size)
                size = round(image.width * factor), round(image.height * factor)
                rescaled = image.resize(size, Resampling.BILINEAR)
                x = torch.from_numpy(np.array(rescaled)).permute(2, 0, 1).float() - mean
                posteriors += [module(x[None]), module(x.flip(2)[None])]
            found.append(torch.stack(posteriors).double().mean(0)[0].numpy())
    return np.stack(found)


def net_d(folder: Path) -> list[Claim]:
    """At least 1.6 times the images a second of the loop, in int8 5 times, with AMX 8."""
    weights = weights_of_d()
    split = write_photos(folder)
    bundle, bytes_bundle, pictures = folder / "D", folder / "D-int8", folder / "pictures"
    vggspec.compile("specs/D.vgg", weights=weights, out=bundle)
    write_pictures(pictures)
    vggspec.compile(
        "specs/D.vgg",
        weights=weights,
        out=bytes_bundle,
        precision="int8",
        calibrate=str(pictures),
        keep_fp32=[],
        max_drop=100.0,
    )
    module = vgg16.load(str(weights))
    with (
        BundleNet(bundle, device="cpu") as net,
        BundleNet(bytes_bundle, device="cpu") as in_bytes,
        BundleNet(bytes_bundle, device="openvino") as in_openvino,
    ):
        ours = by_pipeline(net, split, IMAGES, DENSE)
        theirs = by_loop(module, split, IMAGES)
        np.testing.assert_allclose(ours, theirs, atol=1e-5)
        seconds = in_turn(
            {
                "vggspec": lambda: by_pipeline(net, split, IMAGES, DENSE),
                "in int8": lambda: by_pipeline(in_bytes, split, IMAGES, DENSE),
                "in int8 in OpenVINO": lambda: by_pipeline(in_openvino, split, IMAGES, DENSE),
                "torch": lambda: by_loop(module, split, IMAGES),
            },
            rounds=2,
            warmup=0,
        )
        against_crops = in_turn(
            {
                "dense": lambda: by_pipeline(net, split, 1, DENSE),
                "150 crops": lambda: by_pipeline(net, split, 1, CROPS),
            },
            rounds=1,
            warmup=0,
        )
    return [
        Claim(
            "plain torch loop / vggspec, D, three scales with flips",
            ratio(seconds["torch"], seconds["vggspec"]),
            1.6,
            at_least=True,
            detail=f"{IMAGES} images: {_told(seconds)}",
        ),
        Claim(
            "plain torch loop / vggspec in int8, the faster engine, the same",
            max(
                ratio(seconds["torch"], seconds[name])
                for name in ("in int8", "in int8 in OpenVINO")
            ),
            8 if "amx_int8" in processor() else 5,
            at_least=True,
        ),
        Claim(
            "150 crops / dense, D, three scales with flips",
            ratio(against_crops["150 crops"], against_crops["dense"]),
            4,
            at_least=True,
            detail=f"counted: {COUNTED:.2f}; an image: {_told(against_crops)}",
        ),
    ]


def narrow_net(folder: Path) -> list[Claim]:
    """At least four fifths of the decoder's own speed."""
    weights = folder / "digits.safetensors"
    spec = "specs/digits.vgg"
    process([sys.executable, "-m", "vggspec", "init", spec, "-o", str(weights)])
    vggspec.compile(spec, weights=weights, out=folder / "digits")
    split = write_photos(folder, LARGE)
    threads = usual_threads()

    def decoded(i: int) -> None:
        decode(split.read(i % len(split)), "gray")

    def rescaled(i: int) -> None:
        rescale(decode(split.read(i % len(split)), "gray"), Q)

    def by_decoder(each: Callable[[int], None]) -> None:
        with ThreadPoolExecutor(threads) as pool:
            for _ in pool.map(each, range(NUMBER_OF_LARGE)):
                pass

    with BundleNet(folder / "digits", device="cpu") as net:
        seconds = in_turn(
            {
                "vggspec": lambda: by_pipeline(
                    net, split, NUMBER_OF_LARGE, TestProtocol(scales=(Q,), flip=False)
                ),
                "decoder": lambda: by_decoder(decoded),
                "decoder and Pillow's rescaling": lambda: by_decoder(rescaled),
            },
            rounds=9,
        )
    return [
        Claim(
            "decoder alone / vggspec, digits.vgg on 1600 × 1200 photos",
            ratio(seconds["decoder"], seconds["vggspec"]),
            0.8,
            at_least=True,
            detail=f"{NUMBER_OF_LARGE} images, {threads} threads: {_told(seconds)}",
        )
    ]


def _told(seconds: dict[str, list[float]]) -> str:
    return ", ".join(f"{name} {milliseconds(times)}" for name, times in seconds.items())


def main() -> list[Claim]:
    """The three figures."""
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
        return [*narrow_net(Path(one)), *net_d(Path(other))]


if __name__ == "__main__":
    sys.exit(conclude(main()))
