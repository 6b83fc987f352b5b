"""An fp16 TensorRT-RTX engine by ``torch.onnx.export``: ``python -m benchmarks.peers.engine W OUT
HOW PROFILE…``.

What one writes by hand: the module in half precision, the exporter, the parser and the same builder
with the same profiles. ``HOW`` is as in ``benchmarks.peers.export``.
"""

import sys
import tempfile
from pathlib import Path

import tensorrt_rtx as trt
import torch
from torch import Tensor, nn

from benchmarks.peers.export import export
from benchmarks.peers.vgg16 import DenseVgg16, load


class Half(nn.Module):
    """fp32 in and out, convolutions in fp16."""

    def __init__(self, module: DenseVgg16) -> None:
        super().__init__()
        self.layers = module.layers.half()

    def forward(self, image: Tensor) -> Tensor:
        """Posteriors ``(N, 1000)`` of images ``(N, 3, H, W)``."""
        return self.layers(image.half()).float().mean((2, 3)).softmax(1)


def main(weights: str, out: str, how: str, *profiles: str) -> None:
    """Export, parse, build, write."""
    with tempfile.TemporaryDirectory(dir=Path(out).parent) as folder:
        graph = str(Path(folder, "model.onnx"))
        export(Half(load(weights)), graph, how)
        logger = trt.Logger(trt.Logger.ERROR)
        builder = trt.Builder(logger)
        strongly_typed = 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
        network = builder.create_network(strongly_typed)
        parser = trt.OnnxParser(network, logger)
        if not parser.parse_from_file(graph):
            raise RuntimeError(parser.get_error(0).desc())
        config = builder.create_builder_config()
        for text in profiles:
            shapes = [tuple(map(int, shape.split("x"))) for shape in text.split(",")]
            profile = builder.create_optimization_profile()
            profile.set_shape("image", *((n, 3, h, w) for n, h, w in shapes))
            config.add_optimization_profile(profile)
        plan = builder.build_serialized_network(network, config)
        if plan is None:
            raise RuntimeError("the build failed")
        with open(out, "wb") as file:
            file.write(plan)


if __name__ == "__main__":
    with torch.inference_mode():
        main(*sys.argv[1:])
