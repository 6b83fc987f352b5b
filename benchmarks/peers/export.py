"""The same ONNX model by ``torch.onnx.export``: ``python -m benchmarks.peers.export W OUT HOW``.

``HOW`` is ``dynamo``, PyTorch's default exporter, or ``script``, the older and faster one.
"""

import sys
import warnings

import torch

from benchmarks.peers.vgg16 import load


def export(module: torch.nn.Module, out: str, how: str) -> None:
    """Export with open batch, height and width."""
    example = torch.zeros(1, 3, 256, 256)
    axes = {0: "N", 2: "H", 3: "W"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if how == "dynamo":
            torch.onnx.export(
                module,
                (example,),
                out,
                input_names=["image"],
                output_names=["posteriors"],
                dynamic_shapes=(axes,),
                dynamo=True,
                external_data=True,
                verbose=False,
            )
        else:
            torch.onnx.export(
                module,
                (example,),
                out,
                input_names=["image"],
                output_names=["posteriors"],
                dynamic_axes={"image": axes, "posteriors": {0: "N"}},
                dynamo=False,
            )


def main(weights: str, out: str, how: str) -> None:
    """Export net D in fp32."""
    export(load(weights), out, how)


if __name__ == "__main__":
    main(*sys.argv[1:])
