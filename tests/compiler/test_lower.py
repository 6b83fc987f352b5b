"""Syntax tree to network: what is implied, names, claims, and other nets."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.nets import net
from tests.strategies import net_texts
from vggspec.base.source import Source
from vggspec.compiler.checking import check_source, check_target
from vggspec.compiler.ir import Network
from vggspec.compiler.lower import MAX_LAYERS, load_network
from vggspec.compiler.naming import RESERVED
from vggspec.compiler.ops.batch_norm import BatchNorm
from vggspec.compiler.ops.boxes import Boxes
from vggspec.compiler.ops.conv import Conv
from vggspec.compiler.ops.dropout import Dropout
from vggspec.compiler.ops.linear import Linear
from vggspec.compiler.ops.lrn import Lrn
from vggspec.compiler.ops.max_pool import MaxPool


def _names(text: str) -> list[str]:
    return [layer.name for layer in net(text).network.layers]


def _op(text: str) -> object:
    return net(f"{text}\n").network.layers[0].op


def _codes(text: str) -> list[str]:
    return [report.what.code for report in check_source(Source("t.vgg", text)).reports]


@pytest.mark.parametrize(
    ("text", "op"),
    [
        ("conv3-64", Conv(kernel_size=(3, 3), out_channels=64, padding=(1, 1))),
        ("CONV1x7-64", Conv(kernel_size=(1, 7), out_channels=64, padding=(0, 3))),
        ("conv1×7-64", Conv(kernel_size=(1, 7), out_channels=64, padding=(0, 3))),
        ("conv11-96/4", Conv(kernel_size=(11, 11), out_channels=96, stride=4, padding=(5, 5))),
        (
            "conv5-6(pad 2, groups 3, dilation 1, linear, no-bias)",
            Conv(
                kernel_size=(5, 5),
                out_channels=6,
                padding=(2, 2),
                groups=3,
                linear=True,
                bias=False,
            ),
        ),
        (
            "conv3-8(dilation 2)",
            Conv(kernel_size=(3, 3), out_channels=8, padding=(2, 2), dilation=2),
        ),
        ("conv2-8(pad 0x1)", Conv(kernel_size=(2, 2), out_channels=8, padding=(0, 1))),
        ("maxpool", MaxPool(kernel_size=2, stride=2)),
        ("maxpool3", MaxPool(kernel_size=3, stride=2)),
        ("maxpool3/1(pad 1, ceil)", MaxPool(kernel_size=3, stride=1, padding=1, ceil=True)),
        ("LRN", Lrn(n=5, k=2.0, alpha=1e-4, beta=0.75)),
        ("LRN(n 3, k 1, alpha 1/2, beta .5)", Lrn(n=3, k=1.0, alpha=0.5, beta=0.5)),
    ],
)
def test_op(text: str, op: object) -> None:
    assert _op(text) == op


def test_ops_that_follow_others() -> None:
    network = net(
        "conv3-8 BN(eps 1e-3, momentum 0.2) dropout(0.3) FC-8(linear, no-bias) boxes(per-class)"
    ).network
    assert network["bn1_1"].op == BatchNorm(eps=1e-3, momentum=0.2)
    assert network["drop1_1"].op == Dropout(rate=0.3)
    assert network["fc2"].op == Linear(out_channels=8, linear=True, bias=False)
    assert network["boxes"].op == Boxes(shared=False)


def test_net_d_has_the_names_of_the_released_models(specs: Path) -> None:
    names = [layer.name for layer in load_network(str(specs / "D.vgg")).network.layers]
    assert [name for name in names if name.startswith("conv")] == [
        f"conv{block}_{place}"
        for block, places in enumerate((2, 2, 3, 3, 3), start=1)
        for place in range(1, places + 1)
    ]
    assert [name for name in names if name.startswith("pool")] == [f"pool{i}" for i in range(1, 6)]
    assert names[-9:] == [
        "flatten",
        "fc6",
        "relu6",
        "drop6",
        "fc7",
        "relu7",
        "drop7",
        "fc8",
        "prob",
    ]
    assert names[:3] == ["conv1_1", "relu1_1", "conv1_2"]


@pytest.mark.parametrize(
    ("text", "names"),
    [
        # ReLU after every weight layer but the last, after BN where one follows (section 2.1).
        ("conv3-8 BN conv3-8", ["conv1_1", "bn1_1", "relu1_1", "conv1_2"]),
        ("conv3-8(linear) conv3-8", ["conv1_1", "conv1_2"]),
        ("conv3-8 BN", ["conv1_1", "bn1_1"]),
        ("conv3-8(linear) BN FC-2", ["conv1_1", "bn1_1", "flatten", "fc2"]),
        ("FC-2 soft-max", ["flatten", "fc1", "prob"]),
        ("FC-4 FC-2", ["flatten", "fc1", "relu1", "drop1", "fc2"]),
        ("conv3-8 gap FC-2", ["conv1_1", "relu1_1", "gap", "flatten", "fc2"]),
        ("conv3-8 maxpool FC-2", ["conv1_1", "relu1_1", "pool1", "flatten", "fc2"]),
        # A written dropout replaces the implied one, wherever it stands before the next FC.
        ("FC-4 dropout(0.3) FC-2", ["flatten", "fc1", "relu1", "drop1", "fc2"]),
        ("FC-4 BN FC-2", ["flatten", "fc1", "bn1", "relu1", "drop1", "fc2"]),
        # It follows an activation that is written.
        ("FC-4 SiLU FC-2", ["flatten", "fc1", "silu1", "drop1", "fc2"]),
        ("FC-4 BN ReLU6 FC-2", ["flatten", "fc1", "bn1", "relu1", "drop1", "fc2"]),
        ("FC-4 ReLU dropout FC-2", ["flatten", "fc1", "relu1", "drop1", "fc2"]),
        ("conv3-8 dropout FC-2", ["conv1_1", "relu1_1", "drop1_1", "flatten", "fc2"]),
        ("conv3-8 dropout x2", ["conv1_1", "drop1_1", "drop1_1_2"]),
        ("FC-4 FC-2 dropout", ["flatten", "fc1", "relu1", "drop1", "fc2", "drop2"]),
        # Names after a layer that `as` named.
        (
            "conv3-8 as conv1 LRN maxpool conv3-8 FC-2 as out",
            ["conv1", "relu1", "norm1", "pool1", "conv2_1", "relu2_1", "flatten", "out"],
        ),
        ("conv3-8 as stem BN FC-2", ["stem", "bn_stem", "relu_stem", "flatten", "fc2"]),
        ("FC-4 as a FC-2", ["flatten", "a", "relu_a", "drop_a", "fc2"]),
        ("conv3-8 as flatten FC-2", ["flatten", "relu_flatten", "flatten_2", "fc2"]),
        ("conv3-8 as relu1_2 conv3-8 conv3-8",
         ["relu1_2", "relu_relu1_2", "conv1_2", "relu1_2_", "conv1_3"]),
        # Nothing but pooling, nothing but soft-max.
        ("maxpool maxpool", ["pool1", "pool2"]),
        ("avgpool2 maxpool1 gap", ["pool1", "pool2", "gap"]),
        ("soft-max", ["prob"]),
        ("LRN LRN maxpool", ["norm", "norm_2", "pool1"]),
    ],
)  # fmt: skip
def test_what_is_implied_and_its_names(text: str, names: list[str]) -> None:
    assert _names(text) == names


def test_dropout_rates() -> None:
    """The recipe's, on every FC but the last (section 3.1); a written one is its own."""
    text = "FC-8 FC-8 dropout(0.2) FC-2\ntrain:\n  dropout 0.4\n"
    network = net(text).network
    assert [layer.op for layer in network.layers if isinstance(layer.op, Dropout)] == [
        Dropout(rate=0.4),
        Dropout(rate=0.2),
    ]
    assert "drop1" not in net("FC-8 FC-2\ntrain:\n  dropout 0\n").network


@pytest.mark.parametrize(
    ("text", "kind"),
    [("FC-2", "scores"), ("FC-2 soft-max", "posteriors"), ("FC-4(linear) boxes(shared)", "boxes")],
)
def test_output(text: str, kind: str) -> None:
    (output,) = net(text).network.outputs
    assert output.name == kind


@pytest.mark.parametrize(
    ("text", "mean", "std", "scale"),
    [
        ("input 8x8 RGB", None, None, 1.0),
        ("input 8x8 RGB(mean 1 2 3)", (1.0, 2.0, 3.0), None, 1.0),
        ("input 8x8 RGB(mean 1 2 3 std 4 5 6)", (1.0, 2.0, 3.0), (4.0, 5.0, 6.0), 1.0),
        ("input 8x8 BGR(mean 7, scale 1/255)", (7.0, 7.0, 7.0), None, 1 / 255),
        ("input 8x8 gray(mean 33.3, std 78.6)", (33.3,), (78.6,), 1.0),
        ("input 8x8 grey(scale 0.5)", None, None, 0.5),
    ],
)
def test_input(
    text: str, mean: tuple[float, ...] | None, std: tuple[float, ...] | None, scale: float
) -> None:
    image = net(f"{text}\nFC-2").network.input
    assert (image.mean, image.std, image.scale) == (mean, std, scale)


def test_input_is_that_of_the_paper_where_none_is_written() -> None:
    assert net("FC-2").network.input == net("input 224x224 RGB\nFC-2").network.input


@pytest.mark.parametrize(
    ("claim", "is_true"),
    [
        ("150529", True),
        ("150528", False),
        ("151K", True),
        ("150K", False),
        ("150.5K", True),
        ("150.53k", True),
        ("150.52K", False),
        ("0M", True),  # rounded to the millions
        ("0.2M", True),
        ("0.15M", True),
        ("0.1505M", True),
        ("0.00015G", True),
        ("0.0002B", True),
    ],
)
def test_claims_hold_to_the_digits_written(claim: str, is_true: bool) -> None:
    """``FC-1`` on 224 × 224 × 3 has 150 528 weights and a bias."""
    assert (_codes(f"FC-1\n{claim} parameters\n") == []) == is_true


def test_claims_of_weight_layers() -> None:
    assert _codes("conv3-8 BN maxpool FC-8 FC-2\n3 weight layers\n") == []
    assert _codes("conv3-8 BN maxpool FC-8 FC-2\n4 weight layers\n") == ["VGG117"]


def test_claims_count_what_training_sets() -> None:
    assert _codes("input 1x1 gray\nconv1-2 BN\n8 parameters\n") == []


def _like(folder: Path, first: str, second: str) -> Network:
    (folder / "first.vgg").write_text(first)
    (folder / "second.vgg").write_text(second)
    return load_network(str(folder / "second.vgg")).network


FIRST = """\
input 32x32 gray(mean 33)
conv3-8 BN conv3-8(linear)
maxpool
FC-8 as hidden
FC-4
soft-max
3 weight layers
train:
  batch 7
"""


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("up to conv1_1\nFC-2", ["conv1_1", "bn1_1", "relu1_1", "flatten", "fc2"]),
        ("up to POOL1", ["conv1_1", "bn1_1", "relu1_1", "conv1_2", "pool1"]),
        (
            "up to hidden\nFC-2",
            ["conv1_1", "bn1_1", "relu1_1", "conv1_2", "pool1", "flatten", "hidden",
             "relu_hidden", "drop_hidden", "fc3"],
        ),
        # The last weight layer of the other net has no ReLU, and none is added.
        (
            "up to fc3\nFC-2",
            ["conv1_1", "bn1_1", "relu1_1", "conv1_2", "pool1", "flatten", "hidden",
             "relu_hidden", "drop_hidden", "fc3", "drop3", "fc4"],
        ),
        (
            "",
            ["conv1_1", "bn1_1", "relu1_1", "conv1_2", "pool1", "flatten", "hidden",
             "relu_hidden", "drop_hidden", "fc3", "prob"],
        ),
    ],
)  # fmt: skip
def test_like(text: str, names: list[str], tmp_path: Path) -> None:
    first = FIRST.replace("3 weight layers", "4 weight layers")
    network = _like(tmp_path, first, f'like "first.vgg" {text}\n')
    assert [layer.name for layer in network.layers] == names
    # Written out, the same net needs no other file.
    lowered = load_network(str(tmp_path / "second.vgg"))
    (tmp_path / "first.vgg").unlink()
    (tmp_path / "second.vgg").write_text(lowered.text)
    whole = load_network(str(tmp_path / "second.vgg"))
    assert "like" not in lowered.text
    assert whole.network.input == network.input
    assert whole.experiment == lowered.experiment
    for mine, theirs in zip(whole.network.layers, network.layers, strict=True):
        assert (mine.name, mine.inputs, mine.type) == (theirs.name, theirs.inputs, theirs.type)
        assert mine.params == theirs.params
        assert type(mine.op) is type(theirs.op)


def test_like_keeps_settings_and_claims_when_it_is_written_out(tmp_path: Path) -> None:
    train = 'train:\n  batch 9\n  start from "x.vgg": first 1 conv\n'
    rest = f"3 weight layers\n{train}test:\n  scale 40\n"
    _like(tmp_path, FIRST, f'net n\nlike "first.vgg" up to pool1\nFC-2\n{rest}')
    lowered = load_network(str(tmp_path / "second.vgg"))
    layers = "conv3-8\nBN\nconv3-8(linear)\nmaxpool\nFC-2\n"
    assert lowered.text == f"net n\ninput 32x32 gray(mean 33)\n{layers}{rest}"


def test_like_inherits_the_input_and_nothing_of_the_experiment(tmp_path: Path) -> None:
    first = FIRST.replace("3 weight layers", "99 weight layers")  # nobody asks
    network = _like(tmp_path, first, 'like "first.vgg" up to pool1\nFC-2\n')
    assert (network.input.height, network.input.mean) == (32, (33.0,))
    assert load_network(str(tmp_path / "second.vgg")).experiment.train.batch == 256


def test_like_with_another_input(tmp_path: Path) -> None:
    network = _like(tmp_path, FIRST, 'like "first.vgg" up to pool1\ninput 8x8 RGB\nFC-2\n')
    assert network.input.channels == 3
    assert network.input.mean is None
    assert network["pool1"].type.shape == (8, 4, 4)


def test_like_of_like_and_of_a_table(tmp_path: Path) -> None:
    (tmp_path / "t.vgg").write_text("| A | B |\n| conv3-8 | conv3-16 |\n| FC-2 |\n")
    (tmp_path / "b.vgg").write_text('like "t.vgg:B" up to conv1_1\nmaxpool\n')
    network = _like(tmp_path, "FC-2", 'like "b.vgg"\nFC-3\n')
    assert network["conv1_1"].type.channels == 16
    assert [layer.name for layer in network.layers][-3:] == ["pool1", "flatten", "fc2"]


def test_like_points_to_where_a_layer_is_written(tmp_path: Path) -> None:
    network = _like(tmp_path, FIRST, 'like "first.vgg" up to pool1\nFC-2\n')
    origins = [layer.origin for layer in network.layers]
    assert all(origins)
    assert [Path(one.source.name).name for one in origins if one][:1] == ["first.vgg"]
    assert [Path(one.source.name).name for one in origins if one][-1:] == ["second.vgg"]


def test_norm_may_follow_what_is_inherited(tmp_path: Path) -> None:
    (tmp_path / "a.vgg").write_text("conv3-8\nmaxpool\nFC-2\n")
    good = tmp_path / "good.vgg"
    good.write_text('like "a.vgg" up to conv1_1\nBN\nFC-2\n')
    assert check_target(str(good)).reports == ()
    bad = tmp_path / "bad.vgg"
    bad.write_text('like "good.vgg" up to bn1_1\nBN\nFC-2\n')
    assert [report.what.code for report in check_target(str(bad)).reports] == ["VGG112"]


@pytest.mark.parametrize(
    ("text", "codes"),
    [
        ("conv3-8 as a conv3-8 as a", ["VGG108"]),
        ("conv3-8 as conv1_2 conv3-8", ["VGG108"]),
        ("conv3-8 conv3-8 as conv1_1", ["VGG108"]),
        ("conv3-8 as conv1_1 conv3-8 as conv1_2", []),
        ("conv3-8 as A conv3-8 as a", []),
        ("conv3-8 as relu1_1 conv3-8 conv3-8", []),
        ("conv3-8 as " + "a" * 64, []),
        ("conv3-8 as " + "a" * 65, ["VGG109"]),
        ("FC-2 soft-max boxes(shared)", ["VGG113"]),
        ("soft-max FC-2 FC-2", ["VGG113"]),
        ("BN", []),
        ("conv3-8 BN BN", ["VGG112"]),
        ("conv3-8 BN x2", ["VGG112"]),
        ("conv3-8 dropout BN", []),
        ("FC-2 BN soft-max", []),
        (f"conv1-1 x{MAX_LAYERS}", []),
        (f"conv1-1 x{MAX_LAYERS} maxpool1", ["VGG111"]),
        ("conv3-8 x5000 squiggle", ["VGG111", "VGG101"]),
        ("squiggle conv3-8(foo) maxpol", ["VGG101", "VGG104", "VGG101"]),
        # Of shapes only the first is reported: the rest would be echoes.
        ("input 4x4\nmaxpool x3 maxpool conv9-1(pad 0) FC-2", ["VGG231"]),
        ("max pool\nFC-10", ["VGG101"]),
        ("max\npool", ["VGG101", "VGG101"]),
    ],
)
def test_mistakes(text: str, codes: list[str]) -> None:
    assert _codes(text) == codes


@pytest.mark.parametrize("name", sorted(RESERVED))
def test_reserved_names(name: str) -> None:
    assert _codes(f"FC-2 as {name}") == ["VGG109"]


def test_reserved_names_are_those_of_a_module() -> None:
    """``state_dict`` would be unreachable behind a layer of that name."""
    import torch

    public = {name for name in dir(torch.nn.Module()) if not name.startswith("_")}
    assert public <= RESERVED


def test_a_spanning_cell_is_reported_once() -> None:
    assert _codes("| A | B | C |\n| maxpol |\n| FC-2 |") == ["VGG101"]


@settings(deadline=None, max_examples=60)
@given(net_texts(), st.data())
def test_generated_nets_lower(text: str, data: st.DataObject) -> None:
    network = net(text).network
    weights = len(network.weight_layers)
    claim = data.draw(st.integers(0, 40))
    codes = _codes(f"{text}\n{claim} weight layers\n{network.parameters} parameters\n")
    assert codes == ([] if claim == weights else ["VGG117"])


CASES = "conv3-4 as x\nconv3-5 as X\nconv3-5 as y\n[conv3-5 + from X] as s\ngap FC-2\n"


def test_a_name_is_that_of_the_layer_in_the_same_case(tmp_path: Path) -> None:
    (tmp_path / "x.vgg").write_text(f"net n\n{CASES}")
    network = load_network(tmp_path / "x.vgg").network
    assert network["s_add"].inputs[1] == "relu_X"
    (tmp_path / "y.vgg").write_text(f"net n\noutputs X y s\n{CASES}".replace("gap FC-2", ""))
    outputs = load_network(tmp_path / "y.vgg").network.outputs
    assert [output.layer for output in outputs][:2] == ["relu_X", "relu_y"]
    (tmp_path / "z.vgg").write_text('like "x.vgg" up to X\ngap FC-2\n')
    assert "X" in load_network(tmp_path / "z.vgg").network
    (tmp_path / "f.vgg").write_text(CASES.replace("from X", "from Y").replace("as X", "as z"))
    assert load_network(tmp_path / "f.vgg").network["s_add"].inputs[1] == "relu_y"


def test_a_letter_that_only_looks_like_a_unit_is_none() -> None:
    (found,) = check_source(Source("k.vgg", "FC-10\n400\u212a parameters\n")).reports
    assert found.what.code == "VGG106"
