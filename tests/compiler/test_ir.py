"""The IR: shapes are checked when a network is made, and a graph need not be a chain."""

from dataclasses import FrozenInstanceError, replace

import pytest
import torch

from tests.nets import SMALL, net
from tests.refusals import told
from vggspec.base.diagnostic import VggspecError
from vggspec.compiler.backends.torch import module as torch_module
from vggspec.compiler.ir import IMAGE, ImageInput, Network, Node, Output, build, smallest
from vggspec.compiler.ops.conv import Conv
from vggspec.compiler.ops.flatten import Flatten
from vggspec.compiler.ops.linear import Linear
from vggspec.compiler.ops.max_pool import MaxPool
from vggspec.compiler.ops.relu import Relu
from vggspec.compiler.passes import DropTrainingOps, FcToConv


def forked() -> Network:
    """Two heads on one trunk, and a tap in between."""
    conv = Conv(kernel_size=(3, 3), out_channels=4, padding=(1, 1))
    nodes = [
        Node(name="conv", op=conv, inputs=(IMAGE,)),
        Node(name="pool", op=MaxPool(), inputs=("conv",)),
        Node(name="flat", op=Flatten(), inputs=("pool",)),
        Node(name="a", op=Linear(out_channels=3), inputs=("flat",)),
        Node(name="b", op=Linear(out_channels=2), inputs=("flat",)),
    ]
    outputs = [Output("first", "a"), Output("second", "b"), Output("tap", "conv")]
    return build("forked", ImageInput(height=8, width=6, color="gray"), nodes, outputs)


def test_a_graph_with_branches() -> None:
    network = forked()
    assert network["pool"].type.shape == (4, 4, 3)
    assert [layer.name for layer in network.users("flat")] == ["a", "b"]
    dense = FcToConv()(network)
    assert dense["a"].inputs == dense["b"].inputs == ("pool",)
    crop, whole = torch_module.emit(network), torch_module.emit(dense)
    whole.load_state_dict(crop.state_dict())
    x = torch.randn(2, 1, 8, 6)
    with torch.inference_mode():
        expected, found = crop(x), whole(x)
    assert found.keys() == {"first", "second", "tap"}
    for name in ("first", "second"):
        torch.testing.assert_close(found[name].flatten(1), expected[name])
    torch.testing.assert_close(found["tap"], expected["tap"])


def test_shapes_are_checked_when_a_network_is_made() -> None:
    network = net(SMALL).network
    wide = replace(network["fc3"], inputs=("conv1_1",))
    nodes = [wide if layer.name == "fc3" else layer for layer in network.layers]
    with pytest.raises(AssertionError, match="lowering flattens"):
        network.rebuild(nodes)
    with pytest.raises(FrozenInstanceError):
        network.name = "other"  # type: ignore[misc]


def test_names_are_unique() -> None:
    nodes = [Node(name="x", op=Relu(), inputs=(IMAGE,))] * 2
    with pytest.raises(AssertionError, match="unique"):
        build("t", ImageInput(height=4, width=4), nodes, [Output("scores", "x")])


def test_another_size_keeps_the_weights() -> None:
    network = net(SMALL).network
    assert network.at(32, 32) is network
    with pytest.raises(VggspecError) as caught:
        network.at(40, 36)
    text = told(caught.value)
    assert "VGG209" in text
    assert "made for 8 × 8 × 16, here 10 × 9 × 16" in text
    dense = FcToConv()(DropTrainingOps()(network))
    assert dense.at(40, 36)["fc3"].type.shape == (24, 3, 2)
    assert dense.at(40, 36).at(32, 32) == dense


def test_a_net_without_fc_takes_any_size() -> None:
    network = net("net t\ninput 9x9 gray\nconv3-4\nmaxpool\nconv1-3\ngap\nsoft-max").network
    assert network.at(100, 21)["conv2_1"].type.shape == (3, 50, 10)


def test_weights_beyond_bounds_are_an_error_at_their_layer() -> None:
    with pytest.raises(VggspecError) as caught:
        net("net t\ninput 60000x60000 RGB\nconv3-64\nFC-4096\nsoft-max")
    (found,) = caught.value.reports
    assert found.what.code == "VGG206"
    assert found.source is not None
    assert found.span is not None
    assert found.source.slice(found.span) == "FC-4096"


@pytest.mark.parametrize("limit", [1, 2, 7, 1 << 16])
def test_smallest_finds_the_first_that_fits(limit: int) -> None:
    for wanted in {1, 2, limit // 2 + 1, limit}:
        if wanted <= limit:
            assert smallest(lambda n, w=wanted: n >= w, limit) == wanted  # type: ignore[misc]
    assert smallest(lambda n: n > limit, limit) is None
