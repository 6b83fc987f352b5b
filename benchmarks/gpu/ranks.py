"""Gradients of net D on two ranks that share one GPU, beside those of one rank.

NCCL refuses two ranks on one GPU, so gradients travel through gloo: what is compared is our
sharing of a batch, not the transport. It is computed in float64: in fp32 the gradients of net D
differ by half a percent between a batch at once and its halves, and as much from those in float64.

    python -m torch.distributed.run --standalone --nproc-per-node 2 -m benchmarks.gpu.ranks
"""

import argparse
import os
import sys
from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor

from benchmarks.gpu.machine import table
from benchmarks.gpu.train import random_batch
from vggspec.compiler.backends.torch.module import emit
from vggspec.compiler.lower import load_network
from vggspec.training.batches import Batch, Normalise
from vggspec.training.device import computing
from vggspec.training.loop import training_network
from vggspec.training.ranks import Ranks
from vggspec.training.step import Stepper

BATCH = 16
BOUND = 1e-9  # of the largest gradient of a tensor


class InFloat64(Normalise):
    """The net's input in more digits than it is computed in."""

    def forward(self, batch: Batch) -> Tensor:
        """The normalised images."""
        return super().forward(batch).double()


def gradients(spec: str, place: torch.device, ranks: Ranks) -> dict[str, Tensor]:
    """Of the mean loss of a batch, of which this rank computes its share."""
    lowered = load_network(spec)
    network = training_network(lowered)
    torch.manual_seed(0)
    stepper = Stepper(
        emit(network).to(place, torch.float64).train(),
        InFloat64(network.input, (124.0, 117.0, 104.0)).to(place),
        lowered.experiment.train,
        ranks,
        seed=0,
        precision="fp32",  # of products: none is rounded further
        at_a_time=BATCH,
    )
    image, classes = network.input, network.num_classes
    mine = random_batch(BATCH, image.height, image.width, classes)
    mine = mine.part(
        slice(ranks.rank * BATCH // ranks.size, (ranks.rank + 1) * BATCH // ranks.size)
    )
    with computing(place, "fp32", network):
        stepper.add_gradients(mine, BATCH, 1)
    named = stepper.model.named_parameters()
    return {name: one.grad.detach().cpu() for name, one in named if one.grad is not None}


def main(texts: Sequence[str]) -> int:
    """1 where a gradient differs, 3 without a CUDA device."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu.ranks", description=__doc__)
    parser.add_argument("--spec", default="specs/D.vgg")
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    given = parser.parse_args(texts)
    if given.device == "cuda" and not torch.cuda.is_available():
        print("this torch has no CUDA device")
        return 3
    place = torch.device(given.device)
    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    alone = gradients(given.spec, place, Ranks())
    dist.init_process_group("gloo")
    shared = gradients(given.spec, place, Ranks(rank, size))
    dist.destroy_process_group()
    if rank > 0:
        return 0
    assert set(alone) == set(shared)
    apart = {
        name: float((shared[name] - one).abs().max() / one.abs().max())
        for name, one in alone.items()
    }
    worst = max(apart, key=lambda name: apart[name])
    row = [str(size), str(len(apart)), f"{apart[worst]:.1e}", worst, f"{BOUND:g}"]
    print(table(["ranks", "tensors", "largest difference", "of", "bound"], [row]))
    return int(not apart[worst] <= BOUND)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
