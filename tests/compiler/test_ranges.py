"""What number types hold, by figures that were worked out by hand."""

import numpy as np

from tests.graphs import Graph
from tests.nets import net
from vggspec.bundle.options import Precision
from vggspec.compiler.ir import IMAGE
from vggspec.compiler.ops.add import Add
from vggspec.compiler.ops.lrn import Lrn
from vggspec.compiler.precision import LARGEST
from vggspec.compiler.ranges import LEAST_NORMAL, compare

NET = """\
net t
input 8x8 gray(mean 0)
conv3-4  conv3-4  conv3-4
FC-3
soft-max
"""


def layers(precision: Precision, keep: tuple[str, ...] = (), **activations: float) -> list[str]:
    network = net(NET).network
    return [each.layer for each in compare(network, precision, keep, activations, {}).beyond]


def test_the_limits_are_those_of_the_types() -> None:
    assert LARGEST["fp16"] == np.finfo(np.float16).max
    assert LEAST_NORMAL["fp16"] == np.finfo(np.float16).tiny
    assert LARGEST["fp32"] == np.finfo(np.float32).max


def test_a_layer_beyond_its_type_is_found() -> None:
    assert layers("fp16", conv1_2=65504.0) == []
    assert layers("fp16", conv1_2=65520.0) == ["conv1_2"]
    assert layers("fp16", conv1_2=float("nan")) == ["conv1_2"]
    assert layers("bf16", conv1_2=65520.0) == []
    assert layers("bf16", conv1_2=3.395e38) == ["conv1_2"]
    assert layers("fp32", conv1_2=float("inf")) == []


def test_what_a_layer_in_fp32_gives_the_next_counts() -> None:
    large = {"conv1_1": 1e5, "relu1_1": 1e5}
    assert layers("fp16", **large) == ["conv1_1", "relu1_1"]
    assert layers("fp16", ("conv1_1",), **large) == ["conv1_2"]
    assert layers("fp16", ("conv1_1", "conv1_2"), **large) == []
    assert layers("fp16", image=1e5) == ["conv1_1"]
    mended = compare(net(NET).network, "fp16", (), large, {}).keep_fp32
    assert mended == ("conv1_1", "conv1_2")


def test_numbers_that_lose_digits_are_told_and_no_mistake() -> None:
    network = net(NET).network
    found = compare(network, "fp16", (), {"conv1_2": 1e-6}, {"conv1_3.weight": 1e-7})
    assert found.beyond == ()
    assert [each.layer for each in found.small] == ["conv1_2", "conv1_3"]
    assert found.keep_fp32 == ()
    # A bias may be small: it is added to larger numbers.
    assert compare(network, "fp16", (), {}, {"conv1_3.bias": 1e-7}).small == ()
    assert compare(network, "fp16", (), {}, {"conv1_3.bias": 1e5}).beyond[0].what == "weights"


def test_sums_are_out_of_range_before_their_last_branch() -> None:
    """40000 + 40000 - 50000 fits, and 80000 does not."""
    graph = Graph(4, 4)
    branches = [graph.conv(IMAGE, 2, act=None) for _ in range(3)]
    total = graph.add(Add(), *branches, name="sum")
    network = graph.net(graph.conv(total, 2, act=None))
    sizes = dict(zip(branches, (4e4, 4e4, 5e4), strict=True)) | {"sum": 3e4}
    found = compare(network, "fp16", (), sizes, {})
    assert [(each.layer, each.largest) for each in found.beyond] == [("sum", 8e4)]
    assert found.keep_fp32 == ("sum",)
    assert compare(network, "bf16", (), sizes, {}).beyond == ()


def test_a_branch_in_fp32_makes_the_sum_fp32() -> None:
    graph = Graph(4, 4)
    low = graph.conv(IMAGE, 2, act=None, name="low")
    total = graph.add(Add(), low, graph.add(Lrn(), low), name="sum")
    network = graph.net(graph.conv(total, 2, act=None, name="last"))
    found = compare(network, "fp16", (), {"low": 6e4, "sum": 1e5}, {})
    assert [(each.layer, each.what) for each in found.beyond] == [("last", "input")]
