"""Training of a net at 224 on a GPU: images a second, share of the matrix peak, memory.

Synthetic images, so that decoding has no part in it. The peers are torchvision's nets in plain
PyTorch in the same run: fp32 with the default layout, and bf16 by autocast with channels last, both
with plain SGD.

    python -m benchmarks.gpu.train --net D
    python -m benchmarks.gpu.train --net resnet50
"""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import get_args

import torch
from torch import nn

from benchmarks.train_step import Vgg16
from vggspec.compiler.backends.torch.module import emit
from vggspec.compiler.cost import cost
from vggspec.compiler.lower import Lowered, load_network
from vggspec.training.batches import Batch, Normalise
from vggspec.training.device import TrainPrecision, computing, pick_layout
from vggspec.training.loop import training_network
from vggspec.training.ranks import Ranks
from vggspec.training.step import Stepper

STEPS = 10


def resnet50() -> nn.Module:
    """torchvision's, whose blocks take their stride in the 3 × 3 convolution, as ours does."""
    from torchvision.models import resnet50

    module: nn.Module = resnet50()
    return module


NETS: dict[str, tuple[str, Callable[[], nn.Module]]] = {
    "D": ("specs/D.vgg", Vgg16),
    "resnet50": ("specs/resnet.vgg:ResNet-50", resnet50),
}


def seconds_of(step: Callable[[], object]) -> float:
    """The time of a step, the mean of some after three for warming up."""
    for _ in range(3):
        step()
    torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(STEPS):
        step()
    torch.cuda.synchronize()
    return (time.perf_counter() - start) / STEPS


def peak_flops(dtype: torch.dtype, *, tf32: bool = False, side: int = 8192) -> float:
    """Floating-point operations a second of a large matrix product."""
    torch.backends.cuda.matmul.allow_tf32 = tf32
    a, b = (torch.randn(side, side, device="cuda", dtype=dtype) for _ in range(2))
    return 2 * side**3 / seconds_of(lambda: a @ b)


def plain(peer: Callable[[], nn.Module], batch: int, *, is_bf16: bool = False) -> float:
    """Seconds of a step of plain PyTorch."""
    torch.backends.cudnn.allow_tf32 = False
    layout = torch.channels_last if is_bf16 else torch.contiguous_format
    model = peer().cuda().to(memory_format=layout).train()
    sgd = torch.optim.SGD(model.parameters(), lr=1e-4, momentum=0.9, weight_decay=5e-4)
    images = torch.randn(batch, 3, 224, 224, device="cuda").contiguous(memory_format=layout)
    labels = torch.randint(0, 1000, (batch,), device="cuda")

    def step() -> None:
        with torch.autocast("cuda", torch.bfloat16, enabled=is_bf16):
            scores = model(images)
        loss = nn.functional.cross_entropy(scores.float(), labels)
        sgd.zero_grad()
        loss.backward()
        sgd.step()

    return seconds_of(step)


def make_stepper(
    lowered: Lowered,
    place: torch.device,
    batch: int,
    precision: TrainPrecision,
    ranks: Ranks,
    *,
    is_compiled: bool = False,
) -> Stepper:
    """Ours, which begins with bytes."""
    network = training_network(lowered)
    layout = pick_layout(place, precision)
    stepper = Stepper(
        emit(network).to(place).to(memory_format=layout).train(),
        Normalise(network.input, (124.0, 117.0, 104.0), layout).to(place),
        lowered.experiment.train,
        ranks,
        seed=0,
        precision=precision,
        at_a_time=batch,
        is_compiled=is_compiled,
    )
    stepper.rate = 1e-4
    return stepper


def random_batch(batch: int, height: int = 224, width: int = 224, classes: int = 1000) -> Batch:
    """Images on the host, the same each time."""
    generator = torch.Generator().manual_seed(0)
    shape = batch, height, width, 3
    pixels = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
    labels = torch.randint(0, classes, (batch,), generator=generator)
    return Batch(pixels, torch.zeros(batch, 3), labels, torch.arange(batch), [])


def ours(spec: str, batch: int, precision: TrainPrecision, *, is_compiled: bool) -> float:
    """Seconds of a step of ours."""
    place, lowered = torch.device("cuda"), load_network(spec)
    stepper = make_stepper(lowered, place, batch, precision, Ranks(), is_compiled=is_compiled)
    images = random_batch(batch)
    images = images._replace(pixels=images.pixels.pin_memory())
    with computing(place, precision, training_network(lowered)):
        return seconds_of(lambda: stepper(images, batch, 1))


def main(texts: Sequence[str]) -> int:
    """Print a table in Markdown; 3 without a CUDA device."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu.train", description=__doc__)
    parser.add_argument("--net", default="D", choices=NETS)
    parser.add_argument("--batches", nargs="+", type=int, default=[64, 128, 256])
    every = get_args(TrainPrecision)
    parser.add_argument("--precisions", nargs="+", default=every, choices=every)
    given = parser.parse_args(texts)
    if not torch.cuda.is_available():
        print("this torch has no CUDA device")
        return 3
    spec, peer = NETS[given.net]
    flops = 3 * cost(training_network(load_network(spec))).flops
    peaks = {
        "fp32": peak_flops(torch.float32),
        "tf32": peak_flops(torch.float32, tf32=True),
        "bf16": peak_flops(torch.bfloat16),
    }
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}")
    print(", ".join(f"{name} {peak / 1e12:.0f} TFLOPS" for name, peak in peaks.items()), "\n")
    print("| batch | way | images/s | share of the matrix peak | memory GiB | to the first |")
    print("|---|---|---|---|---|---|")
    for batch in given.batches:
        ways: list[tuple[str, TrainPrecision, Callable[[], float]]] = [
            ("plain fp32", "fp32", partial(plain, peer, batch)),
            ("plain bf16", "bf16", partial(plain, peer, batch, is_bf16=True)),
            ("vggspec fp32", "fp32", partial(ours, spec, batch, "fp32", is_compiled=False)),
            ("vggspec tf32", "tf32", partial(ours, spec, batch, "tf32", is_compiled=False)),
            ("vggspec bf16", "bf16", partial(ours, spec, batch, "bf16", is_compiled=False)),
            (
                "vggspec bf16, compiled",
                "bf16",
                partial(ours, spec, batch, "bf16", is_compiled=True),
            ),
        ]
        baseline = 0.0
        for name, precision, step in ways:
            if precision not in given.precisions:
                continue
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
            seconds = step()
            baseline = baseline or seconds
            share = flops * batch / seconds / peaks[precision]
            memory = torch.cuda.max_memory_allocated() / 2**30
            cells = f"{batch / seconds:.0f} | {share:.0%} | {memory:.1f} | {baseline / seconds:.2f}"
            print(f"| {batch} | {name} | {cells} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
