"""What a network costs, against the paper's counts and against PyTorch's own bookkeeping."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings

from tests.graphs import NETS
from tests.strategies import net_texts, networks
from vggspec.base.source import Source
from vggspec.compiler.backends.torch.module import emit
from vggspec.compiler.cost import cost, run_cost
from vggspec.compiler.geometry import fields
from vggspec.compiler.ir import IMAGE, ImageInput, Network, Node, Output, build
from vggspec.compiler.lower import load_network, lower
from vggspec.compiler.ops.add import Add
from vggspec.compiler.ops.concat import Concat
from vggspec.compiler.ops.conv import Conv
from vggspec.compiler.ops.max_pool import MaxPool
from vggspec.compiler.ops.softmax import Softmax
from vggspec.compiler.passes.fc_to_conv import FcToConv
from vggspec.lang.parser import parse

SPECS = Path(__file__).resolve().parents[2] / "specs"


def _net(text: str) -> Network:
    return lower(parse(Source("net.vgg", text)).specs[0]).network


@pytest.mark.parametrize(
    ("net", "parameters", "macs"),
    [
        ("A", 132_863_336, 7_609_090_048),
        ("A-LRN", 132_863_336, 7_609_090_048),
        ("B", 133_047_848, 11_308_466_176),
        ("C", 133_638_952, 11_770_888_192),
        ("D", 138_357_544, 15_470_264_320),
        ("E", 143_667_240, 19_632_062_464),
    ],
)
def test_the_papers_nets(net: str, parameters: int, macs: int) -> None:
    found = cost(load_network(str(SPECS / f"{net}.vgg")).network)
    assert (found.parameters, found.macs, found.flops) == (parameters, macs, 2 * macs)
    assert found.weight_bytes == 4 * parameters


def test_receptive_fields_of_net_d() -> None:
    layers = {
        layer.name: layer for layer in cost(load_network(str(SPECS / "D.vgg")).network).layers
    }
    fields = {
        name: (layers[name].receptive_field, layers[name].stride)
        for name in ("conv1_1", "conv1_2", "pool1", "conv5_3", "pool5", "fc6", "fc8")
    }
    assert fields == {
        "conv1_1": ((3, 3), (1, 1)),
        "conv1_2": ((5, 5), (1, 1)),
        "pool1": ((6, 6), (2, 2)),
        "conv5_3": ((196, 196), (16, 16)),
        "pool5": ((212, 212), (32, 32)),
        "fc6": ((404, 404), (32, 32)),
        "fc8": ((404, 404), (32, 32)),
    }


def test_three_convs_see_what_one_conv7_sees() -> None:
    """Section 2.3 of the paper, with 27 C² weights against 49 C²."""
    stack = cost(_net("input 32x32 RGB\nconv1-64\nconv3-64(no-bias) x3"))
    single = cost(_net("input 32x32 RGB\nconv1-64\nconv7-64(no-bias)"))
    assert stack.layers[-1].receptive_field == single.layers[-1].receptive_field == (7, 7)
    in_first = 64 * 3 + 64
    assert stack.parameters - in_first == 27 * 64**2
    assert single.parameters - in_first == 49 * 64**2


def test_rows_and_columns_are_counted_apart() -> None:
    found = cost(_net("input 24x32 gray\nconv1x7-4/2\nconv3x1-4(dilation 2)\nmaxpool")).layers
    shown = [layer for layer in found if layer.op != "relu"]
    assert [layer.receptive_field for layer in shown] == [(1, 7), (9, 7), (11, 9)]
    assert [layer.stride for layer in shown] == [(2, 2), (2, 2), (4, 4)]


def test_where_branches_meet_the_larger_field_counts() -> None:
    def conv(name: str, side: int, source: str) -> Node:
        op = Conv(kernel_size=(side, side), out_channels=4, padding=(side // 2, side // 2))
        return Node(name=name, op=op, inputs=(source,))

    nodes = [
        conv("stem", 3, IMAGE),
        conv("narrow", 1, "stem"),
        conv("wide", 5, "stem"),
        Node(name="join", op=Add(), inputs=("narrow", "wide")),
        Node(name="pool", op=MaxPool(), inputs=("join",)),
    ]
    net = build("branches", ImageInput(height=16, width=16), nodes, [Output("scores", "pool")])
    assert cost(net).layers[-1].receptive_field == (8, 8)


def test_a_hull_has_two_ends() -> None:
    """Windows of 3 pixels that begin at different places cover 4."""
    nodes = [
        Node(name="around", op=MaxPool(kernel_size=3, stride=1, padding=1), inputs=(IMAGE,)),
        Node(name="after", op=MaxPool(kernel_size=3, stride=1, end_padding=2), inputs=(IMAGE,)),
        Node(name="join", op=Concat(), inputs=("after", "around")),
    ]
    net = build("hull", ImageInput(height=9, width=9), nodes, [Output("maps", "join")])
    seen = fields(net)
    assert (seen["around"].start, seen["around"].end) == ((-1, -1), (1, 1))
    assert (seen["after"].start, seen["after"].end) == ((0, 0), (2, 2))
    assert seen["around"].place == (0, 0)
    assert seen["after"].place == seen["join"].place == (1, 1)
    assert (seen["join"].start, seen["join"].end, seen["join"].size) == ((-1, -1), (2, 2), (4, 4))


def test_dense_nets_cost_the_same_weights() -> None:
    net = load_network(str(SPECS / "D.vgg")).network
    dense = FcToConv()(net)
    assert cost(dense).parameters == cost(net).parameters
    assert cost(dense).macs == cost(net).macs
    # One 4:3 image with its smallest side at Q = 256, 384 and 512.
    wanted = {(256, 341): 27.5, (384, 512): 67.6, (512, 683): 125.0}
    for size, gmacs in wanted.items():
        assert cost(dense.at(*size)).macs == pytest.approx(gmacs * 1e9, rel=0.02)


def test_running_statistics_are_weights_but_no_parameters() -> None:
    found = cost(_net("input 8x8 gray\nconv3-4 BN\ngap\nFC-2"))
    assert found.parameters == (9 * 4 + 4) + (4 + 4) + (4 * 2 + 2)
    assert found.weight_bytes == 4 * (found.parameters + 4 + 4)
    assert found.training_bytes(10) == 4 * (3 * found.parameters + 8) + 10 * found.kept_bytes


def test_an_activation_is_the_output_of_one_image() -> None:
    found = cost(load_network(str(SPECS / "D.vgg")).network)
    assert found.largest.name == "conv1_1"
    assert found.largest.activation_bytes == 4 * 64 * 224 * 224


def _saved_bytes(network: Network, batch: int) -> int:
    """Bytes that autograd keeps, each storage once, without the weights and the statistics.

    On the meta device, where nothing is computed but everything is kept as elsewhere.
    """
    with torch.device("meta"):
        module = emit(network).train()
        image = torch.empty(batch, *network.input.type.shape)
    own = {tensor.untyped_storage()._cdata for tensor in module.state_dict().values()}
    found: dict[int, torch.UntypedStorage] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            found[storage._cdata] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        scores = module(image)
    if isinstance(scores, torch.Tensor):
        assert scores.requires_grad == any(True for _ in network.params())
    return sum(storage.nbytes() for storage in found.values())


def _without_softmax(network: Network) -> Network:
    """The class scores, which training works on."""
    last = network.layers[-1]
    if not isinstance(last.op, Softmax):
        return network
    return network.rebuild(network.layers[:-1], [Output("scores", last.inputs[0])])


@pytest.mark.parametrize("spec", ["A-LRN", "D", "E", "alexnet", "vgg16-bn", "overfeat-fast"])
def test_what_autograd_keeps(spec: str) -> None:
    """Within 1 %: the mask of dropout is a byte on a GPU, and what is counted, a float on a CPU."""
    network = _without_softmax(load_network(str(SPECS / f"{spec}.vgg")).network)
    kept = cost(network).kept_bytes
    assert 3 * kept == pytest.approx(_saved_bytes(network, batch=3), rel=0.01)


@settings(max_examples=40, deadline=None)
@given(net_texts())
def test_what_autograd_keeps_of_any_net(text: str) -> None:
    """To the byte, but for what does not grow with the batch and for the masks of dropout."""
    _assert_kept(_net(text))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(networks())
def test_what_autograd_keeps_of_any_graph(network: Network) -> None:
    _assert_kept(network)


@pytest.mark.parametrize("name", NETS)
def test_what_autograd_keeps_of_nets_with_branches(name: str) -> None:
    _assert_kept(NETS[name])


def _assert_kept(network: Network) -> None:
    # Two batches, since the statistics of a batch that BN keeps are there once.
    kept = _saved_bytes(network, 4) - _saved_bytes(network, 3)
    learning: set[str] = set()
    masks = 0
    for layer in network.layers:
        if layer.params or not learning.isdisjoint(layer.inputs):
            learning.add(layer.name)
            masks += layer.type.num_elements * (layer.op.keyword == "dropout")
    assert cost(network).kept_bytes == kept - 3 * masks


@pytest.mark.parametrize("spec", sorted(path.stem for path in SPECS.glob("*.vgg")))
def test_golden(spec: str, golden: Callable[[str, str], None]) -> None:
    """Table 2 of the paper and, beyond it, where the parameters and the arithmetic are."""
    target = SPECS / f"{spec}.vgg"
    names = [one.name for one in parse(Source(spec, target.read_text("utf-8"))).specs]
    lines = []
    for name in names:
        assert name is not None
        network = load_network(f"{target}:{name.text}").network
        found = cost(network)
        lines.append(
            f"{network.name}: {len(network.weight_layers)} weight layers, "
            f"{found.parameters} parameters, {found.macs} MACs, "
            f"{found.kept_bytes} bytes kept"
        )
        if len(names) == 1:
            lines += (
                f"{layer.name} {layer.op} {'x'.join(map(str, layer.output))} "
                f"{layer.parameters} {layer.macs} {layer.receptive_field} {layer.stride}"
                for layer in found.layers
            )
    golden(f"cost/{spec}.txt", "\n".join(lines) + "\n")


def test_a_run_holds_what_it_reads_and_what_it_writes() -> None:
    """Counted by hand: numbers of one image, ReLU in place of its input."""
    text = "net t\ninput 8x8 gray\nconv3-4\nmaxpool\nconv3-16\nmaxpool\nFC-10\nsoft-max"
    network = FcToConv()(_net(text))
    sizes = {layer.name: 4 for layer in network.layers}
    # image 64 + conv1_1 256, conv1_1 256 + pool1 64, pool1 64 + conv2_1 256, then conv2_1 256 +
    # pool2 64: 320 numbers at most; at twice the height twice as many.
    assert run_cost(network, (1, 8, 8), sizes).bytes == 4 * 320
    assert run_cost(network, (3, 16, 8), sizes).bytes == 3 * 4 * 640
    halved = dict.fromkeys(sizes, 2)  # but the image stays in fp32
    assert run_cost(network, (1, 8, 8), halved).bytes == 4 * 64 + 2 * 256
    macs = cost(network.at(16, 8)).macs
    assert run_cost(network, (3, 16, 8), sizes).macs == 3 * macs


def test_an_output_lives_to_the_end_of_a_run() -> None:
    network = FcToConv()(_net("net t\ninput 8x8 gray\nconv3-4\nmaxpool\nFC-10\nsoft-max"))
    kept = network.rebuild(network.layers, [*network.outputs, Output("tap", "pool1")])
    sizes = {layer.name: 4 for layer in network.layers}
    least = run_cost(network, (1, 8, 8), sizes).bytes
    wider = network.rebuild(network.layers, [*network.outputs, Output("tap", "conv1_1")])
    assert run_cost(kept, (1, 8, 8), sizes).bytes == least
    assert run_cost(wider, (1, 8, 8), sizes).bytes > least
