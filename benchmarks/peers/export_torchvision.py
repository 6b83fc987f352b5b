"""torchvision's nets: ``python -m benchmarks.peers.export_torchvision MODEL STATE [OUT HOW]``.

Without ``OUT``, writes random weights to ``STATE``; with it, exports the net that has them.
"""

import sys
from pathlib import Path

import torch

from benchmarks.peers.export import export
from tests.peers import made, torchvision_models


class _Classifier(torch.nn.Module):
    """The net with a soft-max behind it, as the spec has it."""

    def __init__(self, net: torch.nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Class posteriors."""
        scores: torch.Tensor = self.net(image)
        return scores.softmax(1)


def main(model: str, state: str, out: str | None = None, how: str = "script") -> None:
    """Write weights, or export."""
    if out is None:
        torch.save(made(model).state_dict(), state)
        return
    net = getattr(torchvision_models(), model)(weights=None)
    net.load_state_dict(torch.load(Path(state), weights_only=True))
    export(_Classifier(net.eval()), out, how)


if __name__ == "__main__":
    main(*sys.argv[1:])
