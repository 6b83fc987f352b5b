"""Small nets of boxes, and classifiers of the same windows, compiled.

They do not pad, so that densely each window gives what it gives as an image of its own.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.nets import net, random_weights, run_torch
from vggspec.bundle.opening import Bundle, open_bundle
from vggspec.bundle.options import CompileOptions
from vggspec.compiler.bundling.graph import write_bundle
from vggspec.compiler.lower import Lowered
from vggspec.compiler.weights import WeightsFile, open_weights, save

WINDOW, STRIDE = 16, 2
MEAN, STD = (120, 115, 100), 58
LABELS = ("ant", "bee, honey bee", "cat")

TRUNK = """\
net {name}
input 16x16 RGB(mean 120 115 100, std 58)
conv3-6(pad 0)
maxpool
conv3-8(pad 0)
FC-16
"""
ENDS = {
    "shared": "FC-4(linear)\nboxes(shared)\n",
    "per-class": f"FC-{4 * len(LABELS)}(linear)\nboxes(per-class)\n",
    "classes": f"FC-{len(LABELS)}\nsoft-max\n",
    "scores": f"FC-{len(LABELS)}\n",
}


@dataclass(frozen=True, kw_only=True)
class Made:
    """A bundle, and what it was compiled from."""

    bundle: Bundle
    lowered: Lowered
    weights: WeightsFile

    def of_windows(self, windows: NDArray[np.uint8]) -> NDArray[np.float64]:
        """What the net as it is trained gives for images ``(N, 16, 16, 3)``, by PyTorch."""
        x = ((windows - np.array(MEAN)) / STD).transpose(0, 3, 1, 2).astype(np.float32)
        (found,) = run_torch(self.lowered, self.weights, CompileOptions(form="crop"), x).values()
        return found.astype(np.float64)


def make(
    folder: Path,
    end: str,
    *,
    seed: int = 0,
    labels: tuple[str, ...] | None = LABELS,
    spec: str = TRUNK,
    numbers: Sequence[float] = (0, 0, 0.5, 0.5),
    spread: float = 0.2,
    **options: Any,
) -> Made:
    """Compile a net with random weights to ``folder``; one with soft-max keeps its map.

    ``end`` names one of ``ENDS``, or is a text such as they are. Boxes are ``numbers``
    plus ``spread`` times what the weights make of the image.
    """
    text = ENDS.get(end, end)
    lowered = net(spec.format(name=folder.name) + text + "\ntest:\n  scale 24\n")
    folder.parent.mkdir(parents=True, exist_ok=True)
    path = folder.with_suffix(".safetensors")
    weights = random_weights(lowered, path, seed)
    if "boxes" in text:
        arrays = {name: np.array(weights.read(name)) for name in weights.tensors}
        (last,) = lowered.network[lowered.network.outputs[0].layer].inputs
        arrays[f"{last}.weight"] *= np.float32(spread)
        arrays[f"{last}.bias"].reshape(-1, 4)[:] = numbers
        save(path, arrays, replace(weights.metadata, data_sha256=None))
        weights = open_weights(path)
    weights = replace(weights, metadata=replace(weights.metadata, labels=labels))
    options.setdefault("keep_map", "soft-max" in text and options.get("form") != "crop")
    write_bundle(lowered, weights, folder, CompileOptions(**options))
    return Made(bundle=open_bundle(folder), lowered=lowered, weights=weights)
