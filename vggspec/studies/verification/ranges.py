"""The largest number of each layer of the reference, and the layers whose numbers overflow.

ONNX Runtime computes most fp16 layers in fp32 on a CPU, so an overflow does not show in the outputs
there. The reference, which computes in fp32, is observed instead.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from vggspec.base.render import shown
from vggspec.base.wording import count
from vggspec.bundle.manifest import WEIGHTS, Manifest
from vggspec.bundle.opening import Bundle
from vggspec.compiler.bundling.net import network_of
from vggspec.compiler.ir import IMAGE
from vggspec.compiler.ranges import Ranges, compare, largest_weights
from vggspec.compiler.weights import for_net, open_weights
from vggspec.data.read import Pixels
from vggspec.runtime.preprocess import normalise
from vggspec.runtime.session import Arrays

if TYPE_CHECKING:
    from vggspec.compiler.backends.torch.module import SpecModule

Forward = Callable[[Pixels], Arrays]
"""A net: from uint8 images ``(N, H, W, C)`` to all outputs by name."""

#: Layers that are named one by one.
MOST_LAYERS = 6


class LargestNumbers:
    """The largest absolute number of each layer of a bundle's reference, over all images.

    Layers are reduced where they are computed: the memory for them is one number a layer.
    """

    def __init__(self, bundle: Bundle) -> None:
        self._manifest = bundle.manifest
        self._network = network_of(bundle)
        self._weights: dict[str, float] = {}
        if (bundle.path / WEIGHTS).is_file():
            weights = for_net(open_weights(bundle.path / WEIGHTS), self._network)
            self._weights = largest_weights(self._network, weights)
        self._layers: dict[str, float] = {}

    def graph(self, path: Path) -> bytes:
        """The reference graph at ``path`` with the extremes of each layer as further outputs."""
        from vggspec.compiler.backends.onnx.tapped import tapped

        return tapped(path, [layer.name for layer in self._network.layers])

    def observing_outputs(self, net: Forward) -> Forward:
        """A net of that graph, without the further outputs, which are noted here."""
        from vggspec.compiler.backends.onnx.tapped import HIGHEST, LOWEST

        def apply(images: Pixels) -> Arrays:
            self._note_image(images)
            outputs = dict(net(images))
            for name in list(outputs):
                for prefix in (HIGHEST, LOWEST):
                    if name.startswith(prefix):
                        self._note(name.removeprefix(prefix), float(outputs.pop(name)))
            return outputs

        return apply

    def observing_module(self, module: "SpecModule", net: Forward) -> Forward:
        """A net that runs ``module``; the outputs of its layers are noted here."""
        import torch

        def hook_of(name: str) -> Callable[..., None]:
            def hook(_module: object, _inputs: object, output: torch.Tensor) -> None:
                self._note(name, *map(float, torch.aminmax(output)))

            return hook

        for name, child in module.named_children():
            child.register_forward_hook(hook_of(name))

        def apply(images: Pixels) -> Arrays:
            self._note_image(images)
            return net(images)

        return apply

    def compared(self) -> Ranges:
        """The layers whose numbers their types cannot represent."""
        manifest = self._manifest
        return compare(
            self._network, manifest.precision, manifest.fp32_layers, self._layers, self._weights
        )

    def _note_image(self, images: Pixels) -> None:
        given = normalise(images, replace(self._manifest.input, contract="float"))
        self._note(IMAGE, float(given.min()), float(given.max()))

    def _note(self, layer: str, *numbers: float) -> None:
        known = self._layers.get(layer, 0.0)
        for size in map(abs, numbers):
            known = known if known >= size or math.isnan(known) else size
        self._layers[layer] = known


def in_words(ranges: Ranges, manifest: Manifest) -> Iterator[str]:
    """The layers whose numbers do not fit their type, one a line, and the remedy."""
    for prefix, layers in (("", ranges.beyond), ("Note: ", ranges.small)):
        for one in layers[:MOST_LAYERS]:
            yield f"{prefix}In fp32 {one.in_words()}."
        if len(layers) > MOST_LAYERS:
            yield f"{prefix}So do {count(len(layers) - MOST_LAYERS, 'more layer')}."
    if not ranges.beyond:
        return
    kept = [name for name in ranges.keep_fp32 if name not in manifest.fp32_layers]
    options = " ".join(f"--keep-fp32 {shown(name)}" for name in kept)
    if len(kept) > MOST_LAYERS:
        options = "--precision fp32"
    can_be_bf16 = manifest.engine is not None and manifest.precision != "bf16"
    bf16 = ", or build the engine with `--precision bf16`" if can_be_bf16 else ""
    yield f"Compile it with `{options}`{bf16}."
