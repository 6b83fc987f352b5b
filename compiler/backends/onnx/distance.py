"""The perceptual distance of two pictures around a net, as a part of its ONNX graph.

Both pictures go through the net as one batch: they are joined along the channels and parted by a
Reshape, ``(N, 2 C, H, W)`` to ``(2 N, C, H, W)``, which every runtime does for any N. The weights
are there once.

Source: Zhang et al. 2018, "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric",
section 3; the PyTorch form is ``backends/torch/perceptual.py``.
"""

from collections.abc import Sequence

import numpy as np

from vggspec.compiler.backends.onnx.graph import OnnxGraph
from vggspec.compiler.factors import Factors

DISTANCE = "distance"

#: Added to the length of a position's features, which may be 0.
_LEAST = 1e-10


def as_one_batch(graph: OnnxGraph, pictures: Sequence[str], channels: int) -> str:
    """Two batches ``(N, C, H, W)`` as one, ``(2 N, C, H, W)``: each picture before its other."""
    x = graph.node("Concat", pictures, "pairs", axis=1)
    return graph.node("Reshape", (x, graph.integers("pairs_shape", (-1, channels, 0, 0))), "images")


def add_distance(graph: OnnxGraph, taps: Sequence[str], factors: Factors) -> str:
    """The distances ``(N,)``, of maps ``(2 N, C, h, w)`` in fp32 that ``as_one_batch`` led to.

    The average over the positions comes before the sum over the channels, so that the factors of
    all taps are one product.
    """
    means = [
        _mean_difference(graph, tap, array.size, f"tap_{i}/")
        for i, (tap, array) in enumerate(zip(taps, factors, strict=True))
    ]
    every = graph.node("Concat", means, "differences", axis=1)
    weights = graph.constant("factors", np.concatenate(factors).astype(np.float32))
    return graph.node("MatMul", (every, weights), DISTANCE)


def _mean_difference(graph: OnnxGraph, tap: str, channels: int, scope: str) -> str:
    """The squared difference of each channel, averaged over the positions: ``(N, C)``."""
    with graph.scope(scope):
        axis = graph.integers("axis", (1,))
        length = graph.node("ReduceL2", (tap, axis), "length", keepdims=1)
        length = graph.node("Add", (length, graph.number("least", _LEAST)), "length_above_0")
        x = graph.node("Div", (tap, length), "unit")
        x = graph.node("Reshape", (x, graph.integers("shape", (-1, 2 * channels, 0, 0))), "pairs")
        ends = [graph.integers(f"end_{n}", (n * channels,)) for n in range(3)]
        first, second = (
            graph.node("Slice", (x, ends[n], ends[n + 1], axis), name)
            for n, name in enumerate(("first", "second"))
        )
        x = graph.node("Sub", (first, second), "difference")
        x = graph.node("Mul", (x, x), "squared")
        return graph.node("ReduceMean", (x, graph.integers("space", (2, 3))), "mean", keepdims=0)
