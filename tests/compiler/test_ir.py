"""The IR: shapes are checked when a network is made, and a graph need not be a chain."""

from dataclasses import FrozenInstanceError, replace
from typing import Any

import pytest
import torch
from torch.nn import functional

from tests.nets import SMALL, net
from tests.refusals import told
from vggspec.base.catalogue.shapes import PoolEmpties
from vggspec.base.diagnostic import VggspecError
from vggspec.compiler.backends.torch import module as torch_module
from vggspec.compiler.backends.torch import source as torch_source
from vggspec.compiler.ir import IMAGE, ImageInput, Network, Node, Output, build, smallest
from vggspec.compiler.memory import overwritten
from vggspec.compiler.ops.add import Add
from vggspec.compiler.ops.concat import Concat
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
    with pytest.raises(ValueError, match="two layers are called x"):
        build("t", ImageInput(height=4, width=4), nodes, [Output("scores", "x")])


@pytest.mark.parametrize(
    ("node", "why"),
    [
        (Node(name="x", op=Relu(), inputs=(IMAGE, IMAGE)), "relu takes one input, not 2"),
        (Node(name="x", op=Relu(), inputs=()), "relu takes one input, not 0"),
        (Node(name="x", op=Add(), inputs=(IMAGE,)), "add takes two inputs or more, not 1"),
        (Node(name="x", op=Relu(), inputs=("y",)), "x reads y, which is not above it"),
    ],
)
def test_edges_are_checked(node: Node, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        build("t", ImageInput(height=4, width=4), [node], [Output("scores", "x")])


def residual() -> Network:
    """A second reader of a conv's numbers, beside the ReLU after it, and a join of three."""
    conv = Conv(kernel_size=(3, 3), out_channels=3, padding=(1, 1))
    nodes = [
        Node(name="first", op=conv, inputs=(IMAGE,)),
        Node(name="relu", op=Relu(), inputs=("first",)),
        Node(name="second", op=conv, inputs=("relu",)),
        Node(name="sum", op=Add(), inputs=("second", "first", IMAGE)),
        Node(name="sum_relu", op=Relu(), inputs=("sum",)),
        Node(name="pool", op=MaxPool(), inputs=("sum_relu",)),
        Node(name="halved", op=MaxPool(), inputs=("first",)),
        Node(name="joined", op=Concat(), inputs=("pool", "halved")),
    ]
    outputs = [Output("maps", "joined"), Output("sums", "sum_relu")]
    return build("residual", ImageInput(height=9, width=6), nodes, outputs)


def test_a_tensor_with_two_readers_is_not_overwritten() -> None:
    network = residual()
    assert overwritten(network) == {"sum_relu"}
    module = torch_module.emit(network)
    x = torch.randn(2, 3, 9, 6, requires_grad=True)
    before = x.detach().clone()
    found = module(x)
    f = functional
    first = f.conv2d(x, module.first.weight, module.first.bias, padding=1)
    second = f.conv2d(first.relu(), module.second.weight, module.second.bias, padding=1)
    sums = (second + first + x).relu()
    maps = torch.cat([f.max_pool2d(sums, 2), f.max_pool2d(first, 2)], 1)
    torch.testing.assert_close(found["maps"], maps)
    torch.testing.assert_close(found["sums"], sums)
    assert torch.equal(x, before)
    (gradient,) = torch.autograd.grad(found["maps"].square().sum(), x)
    (expected,) = torch.autograd.grad(maps.square().sum(), x)
    torch.testing.assert_close(gradient, expected)


def test_the_source_file_of_a_graph_computes_it() -> None:
    network = residual()
    module = torch_module.emit(network).eval()
    scope: dict[str, Any] = {"__name__": "source"}
    exec(torch_source.emit(network, None, "a test"), scope)
    written = scope["residual"]().eval()
    written.load_state_dict(module.state_dict())
    x = torch.randn(2, 3, 9, 6)
    with torch.inference_mode():
        expected, found = module(x.clone()), written(x.clone())
    assert found.keys() == expected.keys()
    for name in expected:
        assert torch.equal(found[name], expected[name])


def test_an_activation_of_a_view_sees_past_it() -> None:
    """A flattened map lies in the memory of the map, whose other readers want it as it is."""
    nodes = [
        Node(name="conv", op=Conv(kernel_size=(3, 3), out_channels=2), inputs=(IMAGE,)),
        Node(name="flat", op=Flatten(), inputs=("conv",)),
        Node(name="relu", op=Relu(), inputs=("flat",)),
    ]
    image = ImageInput(height=5, width=5)
    tapped = build("t", image, nodes, [Output("scores", "relu"), Output("tap", "conv")])
    assert overwritten(tapped) == frozenset()
    assert overwritten(build("t", image, nodes, [Output("scores", "relu")])) == {"relu"}
    found = torch_module.emit(tapped)(torch.randn(1, 3, 5, 5))
    assert (found["tap"] < 0).any()
    again = [*nodes, Node(name="twice", op=Relu(), inputs=("relu",))]
    twice = build("t", image, again, [Output("scores", "twice")])
    assert overwritten(twice) == {"relu"}, "the backward pass of a ReLU reads its output"
    torch_module.emit(twice)(torch.randn(1, 3, 5, 5)).sum().backward()


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


#: Branches that meet where the sides of their input divide by 3, and poolings behind them.
THIRDS = """
input {0}x{1} RGB
conv3-8
maxpool
[conv3-8/3 & maxpool3/3]
maxpool maxpool
FC-5
"""


def _is_taken(height: int, width: int) -> bool:
    try:
        net(THIRDS.format(height, width))
    except VggspecError:
        return False
    return True


@pytest.mark.parametrize(("height", "width"), [(12, 12), (12, 31), (13, 24)])
def test_an_emptied_map_names_an_input_at_which_branches_meet(height: int, width: int) -> None:
    with pytest.raises(VggspecError) as caught:
        net(THIRDS.format(height, width))
    what = caught.value.reports[0].what
    assert isinstance(what, PoolEmpties)
    taken = [side for side in range(1, 50) if _is_taken(side, side)]
    needed = tuple(next(n for n in taken if n >= side) for side in (height, width))
    assert what.needed == needed
    assert _is_taken(*needed)


def test_layers_are_inferred_again_where_what_they_read_is_another() -> None:
    before = forked()
    conv = replace(before["conv"], op=Conv(kernel_size=(3, 3), out_channels=6))
    wider = [conv, *before.layers[1:]]
    after = before.rebuild(wider)
    assert after == build(before.name, before.input, wider, before.outputs)
    assert after["a"].params[0].shape == (3, 6 * 3 * 2)


def test_layers_that_read_the_same_are_taken_over() -> None:
    before = residual()
    after = before.rebuild([*before.layers, Node(name="more", op=Relu(), inputs=("sum",))])
    assert all(after[layer.name] is layer for layer in before.layers)
    moved = before.rebuild([replace(layer, origin=None) for layer in before.layers])
    assert moved == build(before.name, before.input, moved.layers, before.outputs)


def test_what_is_pure_is_computed_once() -> None:
    calls: list[Network] = []

    def parameters(network: Network) -> int:
        calls.append(network)
        return network.parameters

    network = net(SMALL).network
    assert [network.once(parameters) for _ in range(3)] == [network.parameters] * 3
    assert calls == [network]
    assert network.once(DropTrainingOps()) is network.once(DropTrainingOps())
    assert network.once(FcToConv()) == FcToConv()(network)
