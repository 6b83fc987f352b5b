"""A training step of net D, batch 16 at 224, on this machine; and what the loop adds to its steps.

The step against the same one as torchvision's reference script does it: fp32, default layout, plain
SGD, the images ready as numbers. Ours begins with bytes. It multiplies in bf16 where the processor
has units for that, and keeps memory that is freed, which the C library would return to the system.
And against the same written by hand for speed: our number type and layout, PyTorch's fused SGD.
Each is a process of its own.
"""

import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from benchmarks.measure import Claim, Elsewhere, conclude, in_turn, milliseconds, ratio
from vggspec.compiler.backends.torch.module import emit
from vggspec.compiler.lower import load_network
from vggspec.training.batches import Batch, Normalise
from vggspec.training.dataset import open_data
from vggspec.training.device import computing, pick_layout, pick_precision
from vggspec.training.loop import Options, fit, training_network
from vggspec.training.ranks import Ranks
from vggspec.training.request import TrainPrecision
from vggspec.training.step import Stepper

BATCH = 16
CPU = torch.device("cpu")
NET = "specs/D.vgg"

#: Of a process that trains, to its end.
_SET_UP = ExitStack()

WIDTHS = [64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512, 0]
SPEC = """net A
input 224x224 RGB(std 58)
{layers}
train:
  batch 16
  rate 1e-4
  start glorot
  stop after {n} iterations
"""


class Vgg16(nn.Module):
    """torchvision's vgg16, written out."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for width in WIDTHS:
            if width:
                layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(inplace=True)]
                channels = width
            else:
                layers.append(nn.MaxPool2d(2, 2))
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d((7, 7))
        self.classifier = nn.Sequential(
            nn.Linear(512 * 7 * 7, 4096), nn.ReLU(inplace=True), nn.Dropout(),
            nn.Linear(4096, 4096), nn.ReLU(inplace=True), nn.Dropout(),
            nn.Linear(4096, 1000),
        )  # fmt: skip

    def forward(self, image: Tensor) -> Tensor:
        """Scores ``(N, 1000)`` of images ``(N, 3, 224, 224)``."""
        return self.classifier(self.avgpool(self.features(image)).flatten(1))


def random_batch() -> tuple[Tensor, Tensor]:
    """Pixels and labels."""
    pixels = torch.randint(0, 256, (BATCH, 224, 224, 3), dtype=torch.uint8)
    return pixels, torch.randint(0, 1000, (BATCH,))


def reference_step() -> Callable[[], None]:
    """A step as torchvision's reference script does it."""
    pixels, labels = random_batch()
    net = Vgg16().train()
    sgd = torch.optim.SGD(net.parameters(), lr=1e-4, momentum=0.9, weight_decay=5e-4)
    images = (pixels.float() - 118).permute(0, 3, 1, 2).contiguous()

    def step() -> None:
        loss = nn.functional.cross_entropy(net(images), labels)
        sgd.zero_grad()
        loss.backward()
        sgd.step()

    return step


def step_by_hand(precision: str, layout: torch.memory_format) -> Callable[[], None]:
    """A step from bytes, with what PyTorch has to make it fast."""
    pixels, labels = random_batch()
    net = Vgg16().train().to(memory_format=layout)  # type: ignore[call-overload]
    sgd = torch.optim.SGD(net.parameters(), lr=1e-4, momentum=0.9, weight_decay=5e-4, fused=True)

    def step() -> None:
        images = pixels.permute(0, 3, 1, 2).contiguous(memory_format=layout).float() - 118
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            scores = net(images)
        sgd.zero_grad()
        nn.functional.cross_entropy(scores.float(), labels).backward()
        sgd.step()

    return step


def our_step(precision: TrainPrecision, layout: torch.memory_format) -> Callable[[], None]:
    """A step as ``vggspec train`` does it, in a process that is set up as it does."""
    pixels, labels = random_batch()
    lowered = load_network(NET)
    network = training_network(lowered)
    _SET_UP.enter_context(computing(CPU, precision, network))
    stepper = Stepper(
        emit(network).to(memory_format=layout).train(),
        Normalise(network.input, (124.0, 117.0, 104.0), layout),
        lowered.experiment.train,
        Ranks(),
        seed=0,
        precision=precision,
        at_a_time=BATCH,
    )
    stepper.rate = 1e-4
    batch = Batch(pixels, torch.zeros(BATCH, 3), labels, torch.arange(BATCH), [])
    return lambda: stepper(batch, BATCH, 1)


def steps() -> list[Claim]:
    """At least 2.3 times the images a second; within 3 % of a step that is written by hand."""
    precision = pick_precision(None, CPU, training_network(load_network(NET)))
    layout = pick_layout(CPU, precision)
    calls = {  # each net takes 1.7 GB, beside its activations
        "vggspec": Elsewhere(partial(our_step, precision, layout)),
        "reference": Elsewhere(reference_step),
        "by hand": Elsewhere(partial(step_by_hand, precision, layout)),
    }
    try:
        seconds = in_turn(dict(calls), rounds=3)
    finally:
        for call in calls.values():
            call.close()
    layouts = {torch.channels_last: "channels last", torch.contiguous_format: "rows last"}
    detail = ", ".join(f"{name} {milliseconds(times)}" for name, times in seconds.items())
    return [
        Claim(
            "reference step / vggspec's, D, batch 16",
            ratio(seconds["reference"], seconds["vggspec"]),
            2.3,
            at_least=True,
            detail=f"{detail}; ours in {precision}, {layouts[layout]}",
        ),
        Claim(
            "vggspec's step / the same written by hand",
            ratio(seconds["vggspec"], seconds["by hand"]),
            1.03,
            at_least=False,
        ),
    ]


def loop(steps: int = 6) -> Claim:
    """At most 2 % of the time goes elsewhere than into steps, images included."""
    table = Path("specs/A.vgg").read_text().splitlines()
    layers = "\n".join(line for line in table if line.lower().startswith(("conv", "maxpool")))
    text = SPEC.format(layers=f"{layers}\nFC-4096 FC-4096 FC-2\nsoft-max", n=steps)
    spans: list[tuple[float, float]] = []
    call = Stepper.__call__

    def timed(*args: object) -> Tensor:
        start = time.perf_counter()
        loss = call(*args)  # type: ignore[arg-type]
        spans.append((start, time.perf_counter()))
        return loss

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "A.vgg").write_text(text)
        random = np.random.default_rng(0)
        for split, images in (("train", steps * BATCH), ("val", 2)):
            for i in range(images):
                path = folder / "images" / split / "ab"[i % 2] / f"{i}.jpg"
                path.parent.mkdir(parents=True, exist_ok=True)
                small = random.integers(0, 256, (25, 33, 3), np.uint8)
                Image.fromarray(small).resize((500, 375)).save(path, quality=90)
        lowered = load_network(str(folder / "A.vgg"))
        data = open_data(folder / "images", lowered.network)
        Stepper.__call__ = timed  # type: ignore[method-assign]
        try:
            (folder / "run").mkdir()
            fit(lowered, data, folder / "run", Options(gpus=0, workers=0))
        finally:
            Stepper.__call__ = call  # type: ignore[method-assign]
    # From the end of the first step to the end of the last; looks, log and images lie between.
    whole = spans[-1][1] - spans[0][1]
    inside = sum(end - start for start, end in spans[1:])
    return Claim(
        "time of the loop beyond its steps, A, batch 16",
        100 * (whole - inside) / whole,
        2.0,
        at_least=False,
        unit=" %",
        detail=f"{steps - 1} steps of {1e3 * inside / (steps - 1):.0f} ms",
    )


def main() -> list[Claim]:
    """All of them."""
    return [*steps(), loop()]


if __name__ == "__main__":
    sys.exit(conclude(main()))
