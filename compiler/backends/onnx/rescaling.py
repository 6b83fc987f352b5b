"""Rescaling inside an ONNX graph, to the byte as Pillow does it, on any runtime.

ONNX's Resize leaves open how an antialiased pixel is computed, and runtimes differ by up to 140 of
255 levels. Here a rescaled axis is a product with a matrix that the graph makes of two sizes, out
of operators that mean the same everywhere: sums, products, floors.

Pillow rescales bytes along rows, then along columns, and rounds to bytes after each pass. An
output pixel is ``floor((sum of k * pixel + 2^21) / 2^22)``, where k is the weight of an input pixel
as a whole number of 2^-22. Pillow computes k in double precision; here it is exact:

    N = max(0, 2 max(before, after) - |(2x + 1) after - (2j + 1) before|)
    k = round(2^22 N / sum N)

for input pixel x and output pixel j of an axis that goes from ``before`` to ``after`` pixels: the
triangle of bilinear interpolation, stretched where the picture shrinks so that every pixel counts.

Float products would have to be right to 30 bits. So k has three digits of 8, 7 and 7 bits, each of
which is multiplied on its own: factors of 8 bits and sums below 2^24 are exact in float32, and in
TF32 and bfloat16 with sums in float32 as well. Floors carry from digit to digit. Integers stay
below 2^31, also where a runtime computes int64 in 32 bits, for axes up to 2^11.5 * sqrt(after)
pixels: 43 000 to 224.

A whole matrix would be zero but for a band. Output pixels are computed in blocks, each of the input
that it can see, so a large photograph costs what its band costs.

Source: Pillow's src/libImaging/Resample.c.
"""

import numpy as np

from vggspec.compiler.backends.onnx.graph import FLOAT, OnnxGraph

BLOCK = 16
"""Output pixels computed by one product: of a larger block more weights are zero, of smaller ones
more input is copied."""

_DIGITS = (8, 7, 7)
"""Bits of a weight's digits, highest first: 22 in all, as in Pillow."""


class Rescaling:
    """A picture, ready to be rescaled to any number of sizes."""

    def __init__(self, graph: OnnxGraph, picture: str) -> None:
        """``picture`` is uint8 ``(H, W, C)``; ``graph`` gets what all sizes share."""
        sides = graph.node("Shape", (picture,), "picture_shape")
        self._rows, self._columns, self._channels = (
            graph.node("Gather", (sides, graph.integers(f"axis_of_{name}", (axis,))), name)
            for axis, name in enumerate(("rows", "columns", "channels"))
        )
        self._rest = graph.integers("rest", (-1,))
        # Matrices are transposed several times as fast as three axes are.
        x = _as_matrix(graph, picture, (self._rest, self._channels), "by_pixel")
        x = graph.node("Transpose", (x,), "by_channel", perm=[1, 0])
        x = _as_matrix(graph, x, (self._rest, self._columns), "by_row")
        x = graph.node("Transpose", (x,), "by_column", perm=[1, 0])
        self._by_column = graph.node("Cast", (x,), "pixels", to=int(FLOAT))

    def add(self, graph: OnnxGraph, size: str) -> str:
        """Pixels ``(1, C, h, w)``, float32 whole numbers, for a ``size`` of ``(2,)``."""
        rows, columns = (
            graph.node("Gather", (size, graph.integers(f"axis_of_rescaled_{name}", (axis,))), name)
            for axis, name in enumerate(("rescaled_rows", "rescaled_columns"))
        )
        with graph.scope("columns/"):
            x = _rescaled(graph, self._by_column, self._columns, columns)  # (w, C H)
            x = _as_matrix(graph, x, (self._rest, self._rows), "by_column")
            x = graph.node("Transpose", (x,), "by_row", perm=[1, 0])
        with graph.scope("rows/"):
            x = _rescaled(graph, x, self._rows, rows)  # (h, w C)
        shape = graph.node("Concat", (rows, columns, self._channels), "rescaled_shape", axis=0)
        x = graph.node("Reshape", (x, shape), "rescaled_by_row")
        x = graph.node("Transpose", (x,), "rescaled_planes", perm=[2, 0, 1])
        return graph.node("Unsqueeze", (x, graph.integers("axis_of_planes", (0,))), "rescaled")


def _as_matrix(graph: OnnxGraph, x: str, sides: tuple[str, str], name: str) -> str:
    shape = graph.node("Concat", sides, f"shape_{name}", axis=0)
    return graph.node("Reshape", (x, shape), f"matrix_{name}")


def _rescaled(graph: OnnxGraph, lines: str, before: str, after: str) -> str:
    """Lines of pixels ``(before, M)`` as ``(after, M)``; both numbers are int64 ``(1,)``."""
    node, integers = graph.node, graph.integers
    zero, one, two = (integers(name, (n,)) for n, name in enumerate(("zero", "one", "two")))
    start, step = (graph.constant(f"range_{n}", np.array(n, np.int64)) for n in (0, 1))
    block, one_less = integers("block", (BLOCK,)), integers("block_less_one", (BLOCK - 1,))
    larger = node("Max", (before, after), "larger_side")
    reach = node("Mul", (larger, two), "reach")

    # Output pixels j, in blocks; the last one fills the last block.
    blocks = node("Div", (node("Add", (after, one_less), "blocks_sum"), block), "blocks")
    filled = node("Mul", (blocks, block), "filled")
    j = node("Range", (start, node("Squeeze", (filled,), "filled_number"), step), "outputs")
    j = node("Min", (j, node("Sub", (after, one), "last_output")), "outputs_clipped")
    place = node("Add", (node("Mul", (j, two), "outputs_doubled"), one), "outputs_odd")
    place = node("Mul", (place, before), "output_places")
    shape = node("Concat", (blocks, one, block), "block_shape", axis=0)
    place = node("Reshape", (place, shape), "output_places_by_block")  # (blocks, 1, BLOCK)

    # Input pixels x that a block can see: as many for each, from its first one on.
    span = node("Add", (node("Mul", (before, one_less), "span_product"), reach), "span_sum")
    seen = node("Add", (node("Div", (span, after), "span"), two), "span_with_ends")
    seen = node("Min", (seen, before), "seen")
    first = node("Slice", (place, zero, one, two), "first_places")  # (blocks, 1, 1)
    first = node("Sub", (node("Sub", (first, reach), "first_ends"), after), "first_sums")
    first = node("Max", (first, zero), "first_sums_inside")
    first = node("Div", (first, node("Mul", (after, two), "twice_after")), "first_inputs")
    first = node("Min", (first, node("Sub", (before, seen), "last_first")), "first_inputs_inside")
    offset = node("Range", (start, node("Squeeze", (seen,), "seen_number"), step), "offsets")
    x = node("Add", (first, node("Unsqueeze", (offset, one), "offsets_across")), "inputs")

    # N, (blocks, seen, BLOCK), and its sum over the input pixels.
    far = node("Add", (node("Mul", (x, two), "inputs_doubled"), one), "inputs_odd")
    far = node("Sub", (node("Mul", (far, after), "input_places"), place), "apart")
    left = node("Sub", (reach, node("Abs", (far,), "distance")), "reach_left")
    left = node("Max", (left, zero), "numerators")
    total = node("ReduceSum", (left, one), "denominators", keepdims=1)

    # The digits of 2^22 N / sum N by long division, the lowest rounded.
    digits = []
    for place_of, bits in enumerate(_DIGITS):
        left = node(
            "Mul", (left, integers(f"base_{place_of}", (1 << bits,))), f"carried_{place_of}"
        )
        digit = node("Div", (left, total), f"digit_{place_of}")
        whole = node("Mul", (digit, total), f"whole_{place_of}")
        left = node("Sub", (left, whole), f"remainder_{place_of}")
        digits.append(digit)
    rounding = node("Div", (node("Mul", (left, two), "remainder_doubled"), total), "rounding")
    digits[-1] = node("Add", (digits[-1], rounding), "digit_rounded")
    weights = node("Concat", digits, "digits", axis=2)
    weights = node("Cast", (weights,), "digits_float", to=int(FLOAT))
    weights = node("Transpose", (weights,), "weights", perm=[0, 2, 1])  # (blocks, 3 BLOCK, seen)

    # One product for all digits, and the carries from the lowest to the byte.
    taken = node("Gather", (lines, node("Squeeze", (x, two), "inputs_of_blocks")), "taken", axis=0)
    product = node("MatMul", (weights, taken), "products")
    ends = [integers(f"digit_end_{n}", (n * BLOCK,)) for n in range(len(_DIGITS) + 1)]
    high, *lower = (
        node("Slice", (product, ends[n], ends[n + 1], one), f"product_{n}")
        for n in range(len(_DIGITS))
    )
    carry = graph.number("no_carry", 0.0)
    for n, bits in reversed(list(enumerate(_DIGITS[1:], 1))):
        summed = node("Add", (lower[n - 1], carry), f"with_carry_{n}")
        scaled = node("Mul", (summed, graph.number(f"shift_{n}", 0.5**bits)), f"shifted_{n}")
        carry = node("Floor", (scaled,), f"carry_{n}")
    value = node("Add", (high, carry), "with_carry_0")
    half = graph.number("half", float(1 << (_DIGITS[0] - 1)))
    value = node("Add", (value, half), "and_a_half")
    value = node("Mul", (value, graph.number("shift_0", 0.5 ** _DIGITS[0])), "shifted_0")
    value = node("Floor", (value,), "bytes")
    shape = node("Concat", (filled, integers("rest", (-1,))), "filled_shape", axis=0)
    value = node("Reshape", (value, shape), "bytes_filled")
    return node("Slice", (value, zero, after, zero), "lines")
