"""The number type in which a bundle was really computed."""

from dataclasses import dataclass

import numpy as np

from vggspec.base.arguments import Device
from vggspec.bundle.opening import Bundle
from vggspec.bundle.options import Precision
from vggspec.compiler.bundling.net import network_of
from vggspec.compiler.precision import number_types
from vggspec.runtime.preprocess import normalise
from vggspec.runtime.session import KnowsItsArithmetic, Session

#: The number types of a bundle's layers, in the words of ONNX Runtime and of OpenVINO.
NAMES: dict[Precision, tuple[str, ...]] = {
    "fp16": ("float16", "f16"),
    "bf16": ("bfloat16", "bf16"),
    "int8": ("int8", "uint8", "i8", "u8"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ArithmeticCheck:
    """The number type that a bundle states for its convolutions and FC layers, and how many of
    them were computed in it.
    """

    stated: Precision
    layers: int
    """Layers of that type."""

    run: int | None
    """How many of them were computed in it; None if unknown: an engine runs as it was built."""

    engine: str = "ONNX Runtime"
    """What computed them."""

    @property
    def is_run(self) -> bool:
        """Whether the comparison ran in the arithmetic that the bundle states."""
        return self.run is None or self.run >= self.layers

    def in_words(self) -> str:
        """The part of the arithmetic that was not run."""
        layers = f"{self.layers - self.run} of the {self.layers}" if self.run else "all"
        if self.stated == "int8":
            return (
                f"Not certified: int8 arithmetic was not run. {self.engine} computes {layers} int8"
                " layers in fp32 here. The comparison covers the rounding of weights and"
                " activations to int8, not the sums inside a layer."
            )
        if self.stated == "bf16":
            return (
                f"Not certified: bf16 arithmetic was not run. {self.engine} computes {layers} bf16"
                " layers in fp32 here, so only the graph was compared. OpenVINO runs them on a"
                " processor that has bf16: `--device openvino`."
            )
        return (
            f"Not certified: {self.stated} arithmetic was not run. {self.engine} computes {layers}"
            f" {self.stated} layers in fp32 here. The comparison covers the rounding of the weights"
            f" to {self.stated} and the range of each layer's numbers, not the sums inside a layer."
            " Verify the bundle on a GPU to run them."
        )


def measure(bundle: Bundle, session: Session, device: Device) -> ArithmeticCheck:
    """The arithmetic of a bundle: as OpenVINO tells after a run, or from ONNX Runtime's profile of
    one run of its graph.
    """
    manifest = bundle.manifest
    if manifest.precision == "fp32" or manifest.engine is not None or device == "tensorrt":
        return ArithmeticCheck(stated=manifest.precision, layers=0, run=None)
    from vggspec.runtime.ort_session import computed_in

    network = network_of(bundle)
    types = number_types(network, manifest.precision, manifest.fp32_layers)
    layers = [
        layer.name
        for layer in network.layers
        if layer.op.arithmetic == "chosen" and types[layer.name] != "fp32"
    ]
    image = np.zeros((1, *manifest.input.size, len(manifest.input.mean)), np.uint8)
    feeds = {name: normalise(image, manifest.input) for name in manifest.inputs}
    if isinstance(session, KnowsItsArithmetic):
        engine = "OpenVINO"
        session.run(feeds)
        run = session.computed_in()
    else:
        engine = "ONNX Runtime"
        is_half = manifest.precision == "fp16"
        run = computed_in(bundle.model, session.device, feeds, is_half=is_half)
    total = len(layers)
    if manifest.precision == "int8" and run:
        # Layers in fp32 stay so, and batch normalisation may have merged others.
        total = sum(run.values()) - len(manifest.fp32_layers)
    in_it = sum(run[name] for name in NAMES[manifest.precision])
    return ArithmeticCheck(stated=manifest.precision, layers=total, run=in_it, engine=engine)
