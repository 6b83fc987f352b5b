"""Net D as a PyTorch module with the weights of a file, every one of them read once.

``vggspec.torch_module``, which maps the file, against a module whose initial numbers are
overwritten by ``load_state_dict``, as scripts and torchvision do it.
"""

import sys

import torch

import vggspec
from benchmarks.measure import Claim, conclude, in_turn, milliseconds, ratio
from benchmarks.peers import vgg16
from benchmarks.weights import weights_of_d


def main() -> list[Claim]:
    """At least 3 times as fast."""
    weights = weights_of_d()

    @torch.no_grad()
    def by_hand() -> float:
        module = vgg16.DenseVgg16()
        module.load_state_dict(vgg16.state_of(str(weights), module))
        return _sum(module)

    @torch.no_grad()
    def ours() -> float:
        return _sum(vggspec.torch_module("specs/D.vgg", weights))

    assert ours() == by_hand()
    seconds = in_turn({"vggspec": ours, "by hand": by_hand}, rounds=5)
    detail = ", ".join(f"{name} {milliseconds(times)}" for name, times in seconds.items())
    value = ratio(seconds["by hand"], seconds["vggspec"])
    return [
        Claim("load_state_dict / vggspec.torch_module, D", value, 3, at_least=True, detail=detail)
    ]


def _sum(module: torch.nn.Module) -> float:
    return sum(float(each.sum()) for each in module.parameters())


if __name__ == "__main__":
    sys.exit(conclude(main()))
