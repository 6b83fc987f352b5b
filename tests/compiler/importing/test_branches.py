"""Which tensors are whose where layers of one shape are on different branches."""

from collections.abc import Iterable
from itertools import accumulate, pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import nn

from tests.nets import disagreement, images, net
from tests.peers import set_statistics
from vggspec.base.diagnostic import VggspecError
from vggspec.base.render import as_text
from vggspec.compiler.backends.torch import module as torch_module
from vggspec.compiler.importing.checkpoint import Checkpoint
from vggspec.compiler.importing.matching import Hints, match
from vggspec.compiler.ir import Layer
from vggspec.compiler.ops.batch_norm import BatchNorm
from vggspec.compiler.passes import TRAINING, run

INPUT = "input 17x15 RGB(mean 0)"

#: In the first block the conv of the shortcut has the shape of the third conv.
RESNET = f"""\
net r
{INPUT}
conv is conv(no-bias) BN ReLU
conv3-4 as stem
[conv1-4 conv3-4 conv1-8 + shortcut] x2 as conv2
gap FC-3
"""
REPVGG = f"""\
net rep
{INPUT}
block first(c):
  conv3-{{c}}/2(no-bias) BN
  + conv1-{{c}}/2(no-bias) BN
block rep(c):
  conv3-{{c}}(no-bias) BN
  + conv1-{{c}}(no-bias) BN
  + BN
first(8) rep(8) x2 gap FC-3
"""


class Bottleneck(nn.Module):
    """A block of ResNet, its layers called and listed as an author likes."""

    def __init__(self, channels: int, listed: dict[str, str]) -> None:
        super().__init__()
        self.part = {part: name for name, part in listed.items()}
        made = {
            "conv1": nn.Conv2d(channels, 4, 1, bias=False),
            "conv2": nn.Conv2d(4, 4, 3, padding=1, bias=False),
            "conv3": nn.Conv2d(4, 8, 1, bias=False),
            "shortcut": nn.Conv2d(channels, 8, 1, bias=False),
        }
        norms = {f"bn of {part}": nn.BatchNorm2d(conv.out_channels) for part, conv in made.items()}
        for name, part in listed.items():
            if channels != 8 or "shortcut" not in part:
                self.add_module(name, (made | norms)[part])

    def _of(self, part: str, x: torch.Tensor) -> torch.Tensor:
        convolved = self.get_submodule(self.part[part])(x)
        found: torch.Tensor = self.get_submodule(self.part[f"bn of {part}"])(convolved)
        return found

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.relu(self._of("conv1", x))
        y = self._of("conv3", torch.relu(self._of("conv2", y)))
        return torch.relu(y + (self._of("shortcut", x) if x.shape[1] != 8 else x))


class ResNet(nn.Module):
    def __init__(self, listed: dict[str, str]) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(4)
        self.layer1 = nn.Sequential(Bottleneck(4, listed), Bottleneck(8, listed))
        self.fc = nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.layer1(torch.relu(self.bn1(self.conv1(x))))
        found: torch.Tensor = self.fc(x.mean((2, 3)))
        return found


class RepVGGBlock(nn.Module):
    """The order and the names of github.com/DingXiaoH/RepVGG: the identity is first."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.rbr_identity = nn.BatchNorm2d(inputs) if stride == 1 else None
        self.rbr_dense = nn.Sequential()
        self.rbr_dense.add_module("conv", nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False))
        self.rbr_dense.add_module("bn", nn.BatchNorm2d(outputs))
        self.rbr_1x1 = nn.Sequential()
        self.rbr_1x1.add_module("conv", nn.Conv2d(inputs, outputs, 1, stride, bias=False))
        self.rbr_1x1.add_module("bn", nn.BatchNorm2d(outputs))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        identity = 0 if self.rbr_identity is None else self.rbr_identity(x)
        return torch.relu(self.rbr_dense(x) + self.rbr_1x1(x) + identity)


class RepVGG(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stage0 = RepVGGBlock(3, 8, 2)
        self.stage1 = nn.Sequential(RepVGGBlock(8, 8, 1), RepVGGBlock(8, 8, 1))
        self.linear = nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.linear(self.stage1(self.stage0(x)).mean((2, 3)))
        return found


#: Names in the order in which they are listed, and what they are.
LISTED = {
    "torchvision": {
        "conv1": "conv1", "bn1": "bn of conv1", "conv2": "conv2", "bn2": "bn of conv2",
        "conv3": "conv3", "bn3": "bn of conv3",
        "downsample_0": "shortcut", "downsample_1": "bn of shortcut",
    },
    "shortcut first": {
        "shortcut": "shortcut", "shortcut_norm": "bn of shortcut",
        "conv1": "conv1", "conv1_norm": "bn of conv1", "conv2": "conv2",
        "conv2_norm": "bn of conv2", "conv3": "conv3", "conv3_norm": "bn of conv3",
    },
    "Caffe": {
        "branch1": "shortcut", "bn_branch1": "bn of shortcut",
        "branch2a": "conv1", "bn_branch2a": "bn of conv1", "branch2b": "conv2",
        "bn_branch2b": "bn of conv2", "branch2c": "conv3", "bn_branch2c": "bn of conv3",
    },
    "norms last": {
        "conv1": "conv1", "conv2": "conv2", "conv3": "conv3", "shortcut": "shortcut",
        "bn1": "bn of conv1", "bn2": "bn of conv2", "bn3": "bn of conv3", "bn4": "bn of shortcut",
    },
}  # fmt: skip


def state_of(theirs: nn.Module) -> dict[str, NDArray[np.float32]]:
    torch.manual_seed(0)
    set_statistics(theirs.eval())
    counts = "num_batches_tracked"
    state = theirs.state_dict().items()
    return {name: tensor.numpy() for name, tensor in state if not name.endswith(counts)}


def scores(
    spec: str, state: dict[str, NDArray[np.float32]], hints: Hints, x: NDArray[np.float32],
    *, is_sorted: bool = False,
) -> NDArray[np.float32]:  # fmt: skip
    """What our net makes of a checkpoint's weights."""
    names = sorted(state) if is_sorted else list(state)
    of = Checkpoint(
        path="w", kind="safetensors" if is_sorted else "pytorch",
        tensors={name: state[name] for name in names},
        has_order=not is_sorted, key=None, others=(), metadata={},
    )  # fmt: skip
    network = net(spec).network
    arrays = {n: torch.from_numpy(a) for n, a in match(network, of, hints).arrays.items()}
    module = torch_module.with_state(run(TRAINING, network), arrays).eval()
    with torch.inference_mode():
        found: NDArray[np.float32] = module(torch.from_numpy(x)).numpy()
    return found


def check(
    spec: str, theirs: nn.Module, hints: Hints | None = None, *, is_sorted: bool = False
) -> None:
    """Equal class scores."""
    state = state_of(theirs)
    x = images(2, 3, 17, 15)
    found = scores(spec, state, hints or Hints(), x, is_sorted=is_sorted)
    with torch.inference_mode():
        expected = theirs(torch.from_numpy(x)).numpy()
    assert disagreement(found, expected) < 1e-5


def refusal(
    spec: str, theirs: nn.Module, hints: Hints | None = None, *, is_sorted: bool = False
) -> str:
    with pytest.raises(VggspecError) as error:
        check(spec, theirs, hints, is_sorted=is_sorted)
    return as_text(error.value.reports)


def test_a_file_in_the_order_of_the_net_is_taken() -> None:
    check(RESNET, ResNet(LISTED["torchvision"]))


@pytest.mark.parametrize("way", ["shortcut first", "Caffe"])
def test_the_shortcut_is_not_taken_for_the_last_conv(way: str) -> None:
    """Its author defines it before the other branch."""
    theirs = ResNet(LISTED[way])
    said = refusal(RESNET, theirs)
    assert "VGG548" in said
    assert "`conv2_1_conv3`, `conv2_1_shortcut` have weights of one shape on different" in said
    assert "the file lists its layers in another order than the net" in said
    assert "`--map conv2_1_conv3=LAYER --map conv2_1_shortcut=LAYER`" in said
    called = {part: name for name, part in LISTED[way].items()}
    pairs = {f"conv2_1_{part}": f"layer1.0.{called[part]}" for part in ("conv3", "shortcut")}
    check(RESNET, theirs, Hints(pairs=pairs))


def test_norms_that_follow_no_layer_are_not_guessed() -> None:
    theirs = ResNet(LISTED["norms last"])
    said = refusal(RESNET, theirs)
    assert "VGG548" in said
    assert "`conv2_1_conv3_bn`, `conv2_1_shortcut_bn` have weights of one shape" in said
    pairs = {"conv2_1_conv3_bn": "layer1.0.bn3", "conv2_1_shortcut_bn": "layer1.0.bn4"}
    check(RESNET, theirs, Hints(pairs=pairs))


@pytest.mark.parametrize(
    ("way", "code"), [("torchvision", "VGG540"), ("shortcut first", "VGG540"), ("Caffe", "VGG548")]
)
def test_names_alone(way: str, code: str) -> None:
    """A file of safetensors has no order. Names say which norm is a conv's, not which branch is
    first.
    """
    theirs = ResNet(LISTED[way])
    assert code in refusal(RESNET, theirs, is_sorted=True)
    called = {part: name for name, part in LISTED[way].items()}
    pairs = {f"conv2_1_{part}": f"layer1.0.{called[part]}" for part in ("conv3", "shortcut")}
    if way == "Caffe":  # whose norms are called otherwise
        assert "VGG540" in refusal(RESNET, theirs, Hints(pairs=pairs), is_sorted=True)
    else:
        check(RESNET, theirs, Hints(pairs=pairs), is_sorted=True)


@pytest.mark.parametrize("is_sorted", [False, True])
def test_repvgg_as_its_authors_save_it(*, is_sorted: bool) -> None:
    """Each block lists the norm of its identity first; each conv is followed by its own."""
    check(REPVGG, RepVGG(), is_sorted=is_sorted)


@pytest.mark.parametrize("is_sorted", [False, True])
def test_our_own_names_say_all(*, is_sorted: bool) -> None:
    """A state dict of our own module, in any order."""
    for spec in (RESNET, REPVGG):
        torch.manual_seed(0)
        theirs = torch_module.emit(run(TRAINING, net(spec).network)).eval()
        set_statistics(theirs)
        state = state_of(theirs)
        rng = np.random.default_rng(0)
        shuffled = {name: state[name] for name in rng.permutation(list(state))}
        x = images(2, 3, 17, 15)
        with torch.inference_mode():
            expected = theirs(torch.from_numpy(x)).numpy()
        for each in (state, shuffled):
            found = scores(spec, each, Hints(), x, is_sorted=is_sorted)
            np.testing.assert_array_equal(found, expected)


CONVS = st.lists(st.sampled_from(["conv1-4", "conv3-4", "conv1-6"]), min_size=1, max_size=3)


@given(data=st.data(), has_norms=st.booleans(), are_norms_last=st.booleans())
@settings(max_examples=200, deadline=None)
def test_a_file_in_the_order_of_no_net_is_taken_rightly_or_refused(
    data: st.DataObject, has_norms: bool, are_norms_last: bool
) -> None:
    """An author lists the branches of a block in any order, each from its first layer to its last,
    and the norms after their convs or at the end of the block.
    """
    text, blocks = f"net g\n{INPUT}\n", []
    if has_norms:
        text += "conv is conv(no-bias) BN ReLU\n"
    text += "conv3-4\n"
    for _ in range(data.draw(st.integers(1, 3))):
        block = data.draw(st.lists(CONVS, min_size=1, max_size=3))
        branches = " & ".join(map(" ".join, block)) if len(block) > 1 else " ".join(block[0])
        text += f"[{branches}]\n" if len(block) > 1 else f"[{branches} + shortcut]\n"
        blocks.append([len(convs) for convs in block])
    network = net(text + "gap FC-3\n").network
    slots = [layer for layer in network.layers if layer.params]
    each = 2 if has_norms else 1
    listed, at = slots[:each], each
    for number, lengths in enumerate(blocks, start=1):
        inside = [slot for slot in slots if slot.name.startswith(f"block{number}_")]
        at += len(inside)
        ends = sorted({0, *accumulate(each * length for length in lengths), len(inside)})
        parts = [inside[start:end] for start, end in pairwise(ends)]
        chosen = [slot for part in data.draw(st.permutations(parts)) for slot in part]
        if are_norms_last:
            chosen.sort(key=lambda slot: isinstance(slot.op, BatchNorm))
        listed += chosen
    listed += slots[at:]

    def shapes(layers: Iterable[Layer]) -> list[tuple[tuple[int, ...], ...]]:
        return [tuple(param.stored for param in layer.params) for layer in layers]

    # A file that looks as the net does is taken as it is.
    is_alike = shapes(slots) == shapes(listed)
    whose = {slot.name: i for i, slot in enumerate(listed if is_alike else slots)}
    state = {
        f"{_letters(place)}.{param.name.rpartition('.')[2]}": np.full(
            param.stored, whose[layer.name], np.float32
        )
        for place, layer in enumerate(listed)
        for param in layer.params
    }
    of = Checkpoint(
        path="w", kind="pytorch", tensors=state, has_order=True, key=None, others=(), metadata={}
    )
    try:
        arrays = match(network, of, Hints()).arrays
    except VggspecError:
        if is_alike:
            raise
        return
    for place, slot in enumerate(slots):
        assert all((arrays[param.name] == place).all() for param in slot.params), slot.name


def _letters(number: int) -> str:
    """A name that says no order."""
    digits = str(7919 * (number + 1) % 9973)
    return "".join(chr(ord("a") + int(digit)) for digit in digits) + "z"


TWINS = f"{INPUT}\nconv3-4 as stem\n[conv3-4 & conv3-4] as mix\ngap FC-3\n"


@pytest.mark.parametrize(
    ("names", "by_place"),
    [
        (("left", "right"), ("mix_conv1", "mix_conv2")),
        (("alpha", "zeta"), ("mix_conv1", "mix_conv2")),
        (("branch1", "branch2"), ()),
        (("mix.0.conv", "mix.1.conv"), ()),
        (("mix_conv2", "mix_conv1"), ()),  # our own names, in any order
    ],
)
def test_what_only_the_place_in_the_file_tells_apart_is_said(
    names: tuple[str, str], by_place: tuple[str, ...]
) -> None:
    network = net(TWINS).network
    called = dict(zip(("stem", *names, "fc2"), network.weight_layers, strict=True))
    state = {
        f"{name}.{param.name.rpartition('.')[2]}": np.zeros(param.stored, np.float32)
        for name, layer in called.items()
        for param in layer.params
    }
    of = Checkpoint(
        path="w", kind="pytorch", tensors=state, has_order=True, key=None, others=(), metadata={}
    )
    assert match(network, of, Hints()).by_place == by_place
    pairs = {f"mix_conv{i}": name for i, name in enumerate(names, 1)}
    assert match(network, of, Hints(pairs=pairs)).by_place == ()


def test_a_shortcut_that_the_place_tells_from_a_conv_is_said() -> None:
    state = state_of(ResNet(LISTED["torchvision"]))
    of = Checkpoint(
        path="w", kind="pytorch", tensors=state, has_order=True, key=None, others=(), metadata={}
    )
    found = match(net(RESNET).network, of, Hints()).by_place
    assert found == ("conv2_1_conv3", "conv2_1_shortcut")


def test_a_shuffled_file_with_other_names_is_refused() -> None:
    state = state_of(ResNet(LISTED["torchvision"]))
    x = images(1, 3, 17, 15)
    for seed in range(20):
        rng = np.random.default_rng(seed)
        shuffled = {name: state[name] for name in rng.permutation(list(state))}
        with pytest.raises(VggspecError):
            scores(RESNET, shuffled, Hints(), x)
