"""Passes on nets with branches: what they compute, what they refuse, and that twice is once."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from torch import Tensor

from tests.compiler.interpretation import interpreted
from tests.graphs import NETS, Graph, inception, random_arrays, residual
from tests.nets import images, random_weights, run_onnx, run_torch, session
from tests.nets import net as lowered_net
from tests.refusals import refused
from tests.strategies import networks
from vggspec.base.diagnostic import VggspecError
from vggspec.bundle.options import CompileOptions
from vggspec.compiler.backends.onnx.model import prepare
from vggspec.compiler.backends.torch import module as torch_module
from vggspec.compiler.bundling.graph import write_bundle
from vggspec.compiler.ir import IMAGE, Network, Output
from vggspec.compiler.ops.add import Add
from vggspec.compiler.ops.avg_pool import AvgPool
from vggspec.compiler.ops.batch_norm import BatchNorm
from vggspec.compiler.ops.concat import Concat
from vggspec.compiler.ops.dwconv import DepthwiseConv
from vggspec.compiler.ops.flatten import Flatten
from vggspec.compiler.ops.global_avg_pool import GlobalAvgPool
from vggspec.compiler.ops.linear import Linear
from vggspec.compiler.ops.max_pool import MaxPool
from vggspec.compiler.ops.relu import Relu
from vggspec.compiler.ops.softmax import Softmax
from vggspec.compiler.passes import (
    TRAINING,
    AverageBeforeLinear,
    AverageOverSpace,
    CheckJoins,
    DropSoftmax,
    DropTrainingOps,
    FcToConv,
    FinerStride,
    KeepUpTo,
    LinearBeforeAverage,
    Pass,
    RoundPools,
    before_last,
    inference,
    run,
)

PIPELINES: list[tuple[Pass, ...]] = [
    (DropTrainingOps(),),
    (FcToConv(),),
    (DropSoftmax(),),
    TRAINING,
    (FcToConv(), LinearBeforeAverage()),
    (FcToConv(), AverageOverSpace()),
    (FcToConv(), AverageOverSpace(), AverageBeforeLinear()),
    (RoundPools("ceil"),),
    (RoundPools("floor"),),
    inference("dense"),
    inference("dense", "posteriors", keep_map=True),
    inference("dense", pool="ceil"),
    inference("dense", stride=1),
    inference("crop"),
]


def tensors(network: Network, x: np.ndarray, seed: int = 0) -> dict[str, Tensor]:
    """The outputs of a net, computed in double precision."""
    module = torch_module.emit(network).double().eval()
    arrays = random_arrays(network, seed)
    state = {name: torch.from_numpy(array).double() for name, array in arrays.items()}
    module.load_state_dict(state, strict=False)
    with torch.inference_mode():
        found = module(torch.from_numpy(x).double())
    if isinstance(found, Tensor):
        return {network.outputs[0].name: found}
    assert isinstance(found, dict)
    return found


def close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-10)


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(networks())
def test_twice_is_once_and_weights_stay(network: Network) -> None:
    names = [param.name for param in network.params()]
    for pipeline in PIPELINES:
        try:
            once = run(pipeline, network)
        except VggspecError as error:
            refusals = "VGG231 VGG243 VGG270 VGG271 VGG272 VGG273 VGG660 VGG661 VGG662"
            assert error.reports[0].what.code in refusals.split()  # noqa: PT017 (what is refused)
            continue
        assert run(pipeline, once) is once
        assert [param.name for param in once.params()] == names
        assert {p.name: p.stored for p in once.params()} == {
            p.name: p.stored for p in network.params()
        }


@pytest.mark.parametrize("name", NETS)
def test_the_numbers_stay(name: str) -> None:
    network = NETS[name]
    x = images(2, *network.input.type.shape)
    expected = tensors(network, x)
    for pipeline in (*PIPELINES[1:2], *PIPELINES[4:7], PIPELINES[-1]):
        found = tensors(run(pipeline, network), x)
        assert found.keys() == expected.keys()
        for output, value in expected.items():
            close(found[output].flatten(1), value.flatten(1))


def test_an_fc_reads_a_map_whatever_made_it() -> None:
    net = Graph(9, 8)
    a, b = net.conv(IMAGE, 3), net.conv(IMAGE, 3)
    total, joined = net.add(Add(), a, b), net.add(Concat(), a, b)
    one = net.add(Linear(out_channels=2), net.add(Flatten(), total), name="one")
    vectors = net.add(Concat(), net.add(Flatten(), a), net.add(Relu(), net.add(Flatten(), joined)))
    two = net.add(Linear(out_channels=2), vectors, name="two")
    network = net.net(first=one, second=two)
    dense = FcToConv()(network)
    assert dense["one"].params[0].shape == (2, 3, 9, 8)
    assert dense["two"].params[0].shape == (2, 9, 9, 8)
    x = images(2, 1, 9, 8)
    expected, found = tensors(network, x), tensors(dense, x)
    for name, value in expected.items():
        close(found[name].flatten(1), value)


def test_what_mixes_the_positions_of_a_flattened_map() -> None:
    for op in (Softmax(), BatchNorm()):
        net = Graph(4, 5)
        x = net.add(Flatten(), net.conv(IMAGE, 3))
        x = net.add(Linear(out_channels=2), net.add(op, x, name="mixes"))
        with refused(r"(?s)VGG270.*`mixes`"):
            prepare(net.net(x), CompileOptions(form="dense"))
        prepare(net.net(x), CompileOptions(form="crop"))


def joined_heads(first: str, second: str, net: Graph) -> Network:
    x = net.add(Concat(), first, second, name="join")
    return net.net(net.add(Linear(out_channels=3), x))


def test_branches_that_meet_at_one_size_only() -> None:
    net = Graph(8, 8)
    x = net.conv(IMAGE, 3)
    halves = net.add(MaxPool(), x)
    with refused(r"(?s)VGG271.*`join`.*maps of 8 × 8 and 4 × 4 were flattened"):
        run(
            inference("dense"), joined_heads(net.add(Flatten(), x), net.add(Flatten(), halves), net)
        )

    net = Graph(8, 8)
    x = net.conv(IMAGE, 3)
    one = net.add(Linear(out_channels=2), net.add(Flatten(), x))
    halves = net.add(Flatten(), net.add(MaxPool(), x))
    two = net.add(Linear(out_channels=2), halves)
    with refused(r"(?s)VGG271.*`join`.*every 1 and every 2 pixels"):
        run(inference("dense"), joined_heads(one, two, net))

    net = Graph(8, 8)
    x = net.conv(IMAGE, 3)
    one = net.add(Linear(out_channels=2), net.add(Flatten(), x))
    two = net.add(Flatten(), net.add(GlobalAvgPool(), x))
    with refused(r"(?s)VGG271.*`join`.*one branch is averaged over the whole map"):
        run(inference("dense"), joined_heads(one, two, net))


def test_branches_that_are_all_averaged_meet() -> None:
    net = Graph(9, 7)
    x = net.conv(IMAGE, 3)
    one = net.add(Flatten(), net.add(GlobalAvgPool(), x))
    two = net.add(Flatten(), net.add(GlobalAvgPool(), net.conv(x, 4, stride=2)))
    network = joined_heads(one, two, net)
    dense = run(inference("dense"), network)
    x = images(1, 1, 14, 11)
    close(tensors(dense, x)["scores"], tensors(network, x)["scores"])


def test_the_average_climbs_into_branches_nobody_else_reads() -> None:
    net = Graph(7, 6)
    x = net.conv(IMAGE, 3)
    a = net.conv(x, 4, 1, norm=True, act=None, name="a")
    b = net.conv(x, 4, 1, act=None, name="b")
    total = net.add(Add(), a, b, b, name="sum")
    c = net.conv(x, 2, 3, act=None, name="c")
    d = net.conv(x, 2, 1, name="d")
    joined = net.add(Concat(), total, c, d, name="join")
    network = net.net(net.add(Softmax(), net.conv(joined, 3, 1, act=None, name="last")))
    plain = (*inference("dense")[:-1],)
    before, after = run(plain, network), run(inference("dense"), network)
    assert AverageBeforeLinear()(after) is after
    one_position = {layer.name for layer in after.layers if layer.type.shape[1:] == (1, 1)}
    assert {"a", "b", "sum", "join", "last"} <= one_position
    assert not {"c", "d"} & one_position
    x = images(2, 1, 9, 13)
    close(tensors(after, x)["posteriors"], tensors(before, x)["posteriors"])

    tapped = network.rebuild(network.layers, [*network.outputs, Output("sums", "sum")])
    after = run(inference("dense"), tapped)
    assert after["sum"].type.size == (7, 6)
    found = tensors(after, x)
    close(found["posteriors"], tensors(before, x)["posteriors"])
    assert found["sums"].shape == (2, 4, 9, 13)


@pytest.mark.parametrize("make", [residual, inception], ids=lambda make: make.__name__)
@pytest.mark.parametrize("stride", [8, 4, 2, 1])
def test_finer_maps_are_shifted_runs_interleaved(make: type, stride: int) -> None:
    """Nets that pad nothing, so that a run on a shifted image is a shifted run; bit for bit."""
    network = make(40, 44, pad=0)
    last = {"residual": "last_map", "inception": "module2"}[network.name]
    own = {"residual": 16, "inception": 8}[network.name]
    if stride >= own:
        return
    coarse = KeepUpTo(layer=last)(DropTrainingOps()(network))
    finer = FinerStride(stride)(coarse)
    assert FinerStride(stride)(finer) is finer
    x = images(1, 1, 57, 60)
    whole = tensors(finer, x)["features"]
    step = own // stride
    for i in range(step):
        for j in range(step):
            part = tensors(coarse, x[:, :, i * stride :, j * stride :])["features"]
            found = whole[:, :, i::step, j::step]
            rows, columns = part.shape[2:]
            assert found.shape[2] in (rows, rows + 1)
            close(found[:, :, :rows, :columns], part)


def test_depthwise_convs_are_dilated_too() -> None:
    net = Graph(20, 20)
    x = net.add(MaxPool(), net.conv(IMAGE, 4, pad=0))
    x = net.add(DepthwiseConv(kernel_size=(3, 3), stride=2), x, name="dw")
    coarse = net.net(net.conv(x, 3, 1, act=None))
    finer = FinerStride(1)(coarse)
    x = images(1, 1, 27, 24)
    whole = tensors(finer, x)["scores"]
    for i in range(4):
        part = tensors(coarse, x[:, :, i:, i:])["scores"]
        close(whole[:, :, i::4, i::4][:, :, : part.shape[2], : part.shape[3]], part)


def test_strides_that_a_graph_cannot_have() -> None:
    network = residual()
    with refused("VGG660"):
        run(inference("dense", stride=3), network)
    net = Graph(16, 16)
    x = net.add(MaxPool(), net.conv(IMAGE, 4))
    averaged = net.add(AvgPool(), x, name="mean")
    picked = net.add(MaxPool(), x)
    x = net.add(Concat(), averaged, picked)
    network = net.net(net.conv(x, 3, 1, act=None))
    with refused(r"(?s)VGG660.*`mean`"):
        run(inference("dense", stride=1), network)
    run(inference("dense", stride=2), network)
    taps = network.rebuild(network.layers, [*network.outputs, Output("inner", "conv1")])
    with refused("(?s)VGG272.*`scores` every 4, `inner` every 1.*--layer"):
        run(inference("dense", stride=2), taps)
    run(inference("dense", stride=2, layer="conv7"), taps)


def test_a_sum_means_what_comes_after_its_activation() -> None:
    network = residual()
    w = {name: torch.from_numpy(array).double() for name, array in random_arrays(network).items()}
    x = images(1, 1, 23, 30)
    every = interpreted(network, w, torch.from_numpy(x).double())
    for layer in ("block1_add", "block2_add", "block3_add"):
        (relu,) = (user.name for user in network.users(layer))
        cut = KeepUpTo(layer=layer)(network)
        assert cut.outputs == (Output("features", relu),)
        needed = {relu}
        for each in reversed(network.layers):
            needed |= set(each.inputs) if each.name in needed else set()
        assert {each.name for each in cut.layers} == needed - {IMAGE}
        close(tensors(cut, x)["features"], every[relu])
        assert KeepUpTo(layer=layer)(cut) is cut
    # A conv whose numbers something else reads before its ReLU is itself.
    net = Graph(6, 6)
    raw = net.conv(IMAGE, 3, act=None, name="raw")
    out = net.add(Add(), net.add(Relu(), raw), raw)
    assert KeepUpTo(layer="raw")(net.net(out)).outputs[0].layer == "raw"


def test_batch_norm_of_the_next_conv_is_not_of_this_one() -> None:
    net = Graph(6, 6)
    x = net.conv(IMAGE, 3, act=None, name="conv1")
    x = net.add(Relu(), net.add(BatchNorm(), x, name="conv2_bn"), name="conv2_relu")
    x = net.conv(x, 3, act=None, name="conv2")
    network = net.net(x)
    assert KeepUpTo(layer="conv1")(network).outputs[0].layer == "conv1"
    assert KeepUpTo(layer="conv2_bn")(network).outputs[0].layer == "conv2_relu"


def test_what_the_first_head_works_on() -> None:
    assert before_last(NETS["two heads"]) == NETS["two heads"]["fc2"].inputs[0]
    assert before_last(residual()) == "gap"
    net = Graph(6, 6)
    total = net.add(Add(), net.conv(IMAGE, 3, act=None), net.conv(IMAGE, 3, act=None), name="sum")
    with refused(r"(?s)VGG274.*`sum`"):
        before_last(net.net(net.add(Softmax(), net.add(GlobalAvgPool(), total))))


def test_branches_that_round_apart() -> None:
    net = Graph(9, 9)
    a = net.add(MaxPool(kernel_size=2, stride=2), net.conv(IMAGE, 3))
    b = net.conv(IMAGE, 3, 2, 2, pad=0)
    network = net.net(net.add(Add(), a, b, name="sum"))
    with refused(r"(?s)VGG273.*rounded up `sum` would get 5 × 5 × 3 and 4 × 4 × 3"):
        RoundPools("ceil")(network)


def test_heads_lose_their_soft_max_and_keep_their_names() -> None:
    network = NETS["two heads"]
    scores = DropSoftmax()(network)
    assert [output.name for output in scores.outputs] == ["prob", "other", "stem", "inner"]
    assert not any(isinstance(layer.op, Softmax) for layer in scores.layers)
    trained = run(TRAINING, network)
    kinds = {out.name: trained.type_of(out.layer) for out in trained.outputs}
    assert {name: kind.is_map for name, kind in kinds.items()} == {
        "prob": False, "other": False, "stem": True, "inner": True,
    }  # fmt: skip
    net = Graph(4, 4)
    fc = net.add(Linear(out_channels=3), net.add(Flatten(), net.conv(IMAGE, 2)))
    prob = net.add(Softmax(), fc)
    both = net.net(prob, scores=fc)
    assert DropSoftmax()(both).outputs == (Output("scores", fc),)
    # A soft-max that another layer reads stays for that one.
    again = net.add(Linear(out_channels=2), prob)
    read = net.net(prob, other=again)
    dropped = DropSoftmax()(read)
    assert dropped.outputs == (Output("scores", fc), Output("other", again))
    assert dropped[again].inputs == (prob,)
    assert DropSoftmax()(dropped) is dropped


def gap_net(kind: str) -> Network:
    net = Graph(16, 20)
    x = net.add(MaxPool(), net.conv(IMAGE, 6))
    if kind == "NIN":
        x = net.add(GlobalAvgPool(), net.conv(x, 4, 1, name="scores_of_positions"))
        return net.net(net.add(Softmax(), x, name="prob"))
    x = net.add(Flatten(), net.add(GlobalAvgPool(), x, name="gap"))
    if kind == "linear FCs":
        x = net.add(BatchNorm(), net.add(Linear(out_channels=5), x))
    x = net.add(Linear(out_channels=4), x, name="fc")
    return net.net(x if kind == "no soft-max" else net.add(Softmax(), x, name="prob"))


@pytest.mark.parametrize("kind", ["NIN", "FC", "linear FCs", "no soft-max"])
def test_class_maps_of_nets_that_end_in_gap(kind: str) -> None:
    """The FC at each position of the last map, whose average is what the net says."""
    network = gap_net(kind)
    w = {name: torch.from_numpy(array).double() for name, array in random_arrays(network).items()}
    prepared = prepare(network, CompileOptions(keep_map=True))
    for size in ((16, 20), (23, 31)):
        x = images(2, 1, *size)
        found = tensors(prepared, x)
        result = network.outputs[0]
        every = interpreted(network, w, torch.from_numpy(x).double())
        close(found[result.name], every[result.layer].flatten(1))
        assert found["score_map"].shape == (2, 4, size[0] // 2, size[1] // 2)
        close(found["score_map"].mean((2, 3)), every[_scores(network)].flatten(1))
        if kind == "NIN":
            assert prepared["scores_of_positions"].type.size == (8, 10)
        elif kind != "linear FCs":
            weight, bias = w["fc.weight"], w["fc.bias"]
            last = every[network["gap"].inputs[0]]
            wanted = torch.einsum("oc,nchw->nohw", weight, last) + bias[:, None, None]
            close(found["score_map"], wanted)


@pytest.mark.parametrize(
    ("head", "layer"),
    [
        ("gap FC-6 FC-4 soft-max", "relu2"),
        ("gap FC-6(linear) SiLU dropout FC-4", "silu2"),
        ("[gap & maxpool gap] FC-4 soft-max", "block1_concat"),
        ("gap FC-6(linear) as a FC-4 as b\noutputs b a", "a"),
    ],
)
def test_what_is_between_gap_and_the_scores_leaves_no_class_map(head: str, layer: str) -> None:
    network = lowered_net(f"input 16x20 gray\nconv3-6 maxpool\n{head}\n").network
    with refused(rf"(?s)VGG243.*`{layer}` is between `gap`\s+and\s+the\s+scores"):
        prepare(network, CompileOptions(keep_map=True))
    assert prepare(network, CompileOptions()).outputs


def test_the_bundle_of_a_class_map(tmp_path: Path) -> None:
    """A position of the map stands for the pixels from it to the next."""
    lowered = lowered_net("net t\ninput 16x20 gray\nconv3-6 maxpool gap dropout(0.2) FC-4 soft-max")
    weights = random_weights(lowered, tmp_path / "w")
    options = CompileOptions(keep_map=True)
    manifest = write_bundle(lowered, weights, tmp_path / "b", options).manifest
    assert (manifest.window, manifest.stride) == ((2, 2), (2, 2))
    x = images(2, 1, 21, 26)
    found = run_onnx(session(tmp_path / "b/1/model.onnx"), x)
    by_torch = run_torch(lowered, weights, options, x)
    assert found["score_map"].shape == (2, 4, 10, 13)
    for name, value in by_torch.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-4, atol=1e-5)
    scores = torch.from_numpy(found["score_map"].mean((2, 3)))
    np.testing.assert_allclose(found["posteriors"], scores.softmax(1), rtol=1e-4, atol=1e-6)
    plain = write_bundle(lowered, weights, tmp_path / "c", CompileOptions()).manifest
    assert plain.window == (16, 20)


def _scores(network: Network) -> str:
    last = network[network.outputs[0].layer]
    return last.inputs[0] if isinstance(last.op, Softmax) else last.name


def test_taps_have_no_class_map() -> None:
    net = Graph(8, 8)
    first = net.conv(IMAGE, 3)
    network = net.net(conv1=first, conv2=net.conv(first, 3))
    with refused("VGG303.*`conv1`"):
        prepare(network, CompileOptions(keep_map=True))
    assert prepare(network, CompileOptions()) == network


def test_a_dense_net_needs_no_check_twice() -> None:
    for network in NETS.values():
        dense = FcToConv()(network)
        assert CheckJoins()(dense) is dense
