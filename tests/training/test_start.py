"""What training starts from: random weights as ``vggspec init``'s, or layers of other nets."""

import re
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import ROOT
from tests.nets import any_weights, random_weights
from tests.refusals import refused
from tests.training.folders import JOINED, RESIDUAL
from vggspec.base.catalogue import artefacts, recipes
from vggspec.base.diagnostic import VggspecError
from vggspec.compiler.initialise import write_initial
from vggspec.compiler.lower import Lowered, load_network
from vggspec.compiler.weights import open_weights
from vggspec.training.start import initial_weights, origins

SHALLOW = "net shallow input 16x16 RGB\nconv3-4 BN conv3-6\nmaxpool\nFC-8 FC-5 FC-3 soft-max\n"
DEEP = """\
net deep
input 16x16 RGB
conv3-4 BN  conv3-6  conv3-6
maxpool
FC-8 FC-5 FC-3 soft-max
train:
  start he
  start from "shallow.vgg": first 2 conv, last 2 FC
"""
FROM_SOURCE = 'start he\n  start from "source.vgg": '


def spec(folder: Path, name: str, text: str) -> Lowered:
    path = folder / f"{name}.vgg"
    path.write_text(text.replace(" input ", "\ninput ", 1) if name == "shallow" else text)
    return load_network(str(path))


def start(lowered: Lowered, folder: Path, seed: int = 0) -> dict[str, np.ndarray]:
    return dict(initial_weights(lowered, seed, folder / "runs"))


def test_random_weights_are_those_of_init(tmp_path: Path) -> None:
    lowered = spec(tmp_path, "shallow", SHALLOW)
    write_initial(str(tmp_path / "w"), lowered.network, lowered.experiment.train, 7)
    weights = open_weights(tmp_path / "w")
    found = start(lowered, tmp_path, seed=7)
    assert found.keys() == weights.tensors.keys()
    for name, array in found.items():
        np.testing.assert_array_equal(array, weights.read(name))
    other = start(lowered, tmp_path, seed=8)
    assert not np.array_equal(found["conv1_1.weight"], other["conv1_1.weight"])


@pytest.mark.parametrize("name", ["digits", "digits:digits"])
def test_layers_start_from_a_net_that_comes_with_vggspec(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """From any folder, like ``like "digits"``; a spec beside the net's own has precedence."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nets").mkdir()
    text = f'input 16x16 RGB\nconv3-4\nFC-8 FC-5\ntrain:\n  start from "{name}": first 1 conv\n'
    lowered = spec(tmp_path / "nets", "mine", text)
    write_initial("digits.safetensors", load_network("digits").network, lowered.experiment.train, 0)
    (origin,) = origins(lowered)
    assert origin.net.parameters == load_network("digits").network.parameters
    own = spec(tmp_path / "nets", "digits", "input 16x16 RGB\nconv3-4\nFC-8\n")
    (origin,) = origins(lowered)
    assert origin.net.parameters == own.network.parameters


def test_layers_start_from_another_net(tmp_path: Path) -> None:
    shallow = spec(tmp_path, "shallow", SHALLOW)
    deep = spec(tmp_path, "deep", DEEP)
    weights = random_weights(shallow, tmp_path / "shallow.safetensors", seed=3)
    found = start(deep, tmp_path)
    alone = start(spec(tmp_path, "alone", DEEP.rsplit("\n", 2)[0] + "\n"), tmp_path)
    same = {"conv1_1", "bn1_1", "conv1_2", "fc3", "fc4"}
    for name, array in found.items():
        layer = name.split(".")[0]
        if layer in same:
            np.testing.assert_array_equal(array, weights.read(name), err_msg=name)
        else:
            np.testing.assert_array_equal(array, alone[name], err_msg=name)
        if layer in same and name.endswith("weight") and not layer.startswith("bn"):
            assert not np.array_equal(array, alone[name]), name


@pytest.mark.parametrize("net", ["B", "C", "D", "E"])
def test_deeper_nets_start_from_a_as_in_the_paper(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, net: str
) -> None:
    """The paper's own wording on the paper's own nets, with fewer channels."""

    def narrow(name: str) -> str:
        text = (ROOT / "specs" / f"{name}.vgg").read_text()
        layers = [line for line in text.splitlines() if line.startswith(("conv", "max", "FC"))]
        text = "\n".join([f"net {name}", "input 32x32 RGB", *layers])
        return re.sub(r"-(\d+)", lambda match: f"-{int(match[1]) // 32 + 1}", text) + "\n"

    a = spec(tmp_path, "A", narrow("A"))
    weights = random_weights(a, tmp_path / "A.safetensors", seed=3)
    text = f'{narrow(net)}train:\n  start he\n  start from "A.vgg": first 4 conv, last 3 FC\n'
    lowered = spec(tmp_path, net, text)
    same = {"conv1_1", "conv2_1", "conv3_1", "conv3_2", "fc6", "fc7", "fc8"}
    found = start(lowered, tmp_path)
    assert same < {name.split(".")[0] for name in found}
    for name, array in found.items():
        is_of_a = name in weights.tensors and np.array_equal(array, weights.read(name))
        is_zero = not array.any()
        assert is_of_a == (name.split(".")[0] in same) or is_zero, name


def test_all_but_the_last_layer_for_other_classes(tmp_path: Path) -> None:
    shallow = spec(tmp_path, "shallow", SHALLOW)
    weights = random_weights(shallow, tmp_path / "shallow.safetensors", seed=3)
    text = SHALLOW.replace("net shallow input", "net other\ninput").replace("FC-3", "FC-7")
    for number, new in (("", {"fc4"}), ("2 ", {"fc3", "fc4"})):
        line = f'train:\n  start from "shallow.vgg": all but last {number}FC\n'
        lowered = spec(tmp_path, "other", text + line)
        assert lowered.experiment.train.start_from[0].write() == (
            f'"shallow.vgg": all but last {number}FC'
        )
        for name, array in start(lowered, tmp_path).items():
            is_theirs = array.shape == weights.tensors[name].shape and np.array_equal(
                array, weights.read(name)
            )
            assert is_theirs != (name.split(".")[0] in new) or not array.any(), name


@pytest.mark.parametrize("text", [RESIDUAL, JOINED])
def test_all_but_the_last_layer_of_a_graph(tmp_path: Path, text: str) -> None:
    """Depthwise convs, convs of shortcuts, and batch normalisation before convs, too."""
    net = spec(tmp_path, "source", text).network
    weights = any_weights(spec(tmp_path, "source", text), tmp_path / f"{net.name}.safetensors")
    new = text.replace("FC-3", "FC-7").replace("start he", FROM_SOURCE + "all but last FC")
    found = start(spec(tmp_path, "new", new), tmp_path)
    last = net.weight_layers[-1].name
    for name, array in found.items():
        if name.split(".")[0] != last:
            np.testing.assert_array_equal(array, weights.read(name), err_msg=name)
    assert found[f"{last}.weight"].shape[0] == 7
    with refused("VGG407"):
        start(spec(tmp_path, "new", new.replace("last FC", "last 3 FC")), tmp_path)


def test_the_first_convs_of_a_graph(tmp_path: Path) -> None:
    """Counted as papers do, without those of shortcuts, which come with the convs before them."""
    source = spec(tmp_path, "source", RESIDUAL)
    weights = any_weights(source, tmp_path / "residual.safetensors")
    new = RESIDUAL.replace("conv3-6 + shortcut] x2", "conv3-6 + shortcut] x3")
    new = new.replace("start he", FROM_SOURCE + "first 5 conv")
    taken = set()
    for name, array in start(spec(tmp_path, "new", new), tmp_path).items():
        if name in weights.tensors and np.array_equal(array, weights.read(name)):
            taken.add(name.split(".")[0].removesuffix("_bn"))
    block = {f"block{i}_conv{j}" for i in (1, 2) for j in (1, 2)}
    assert taken == {"conv1_1", "bn1_1", *block, "block1_shortcut"}


def test_a_whole_net_starts_from_its_newest_run(tmp_path: Path) -> None:
    shallow = spec(tmp_path, "shallow", SHALLOW)
    again = spec(
        tmp_path,
        "again",
        SHALLOW.replace("net shallow", "net again\n") + 'train:\n  start from "shallow.vgg"\n',
    )
    run = tmp_path / "runs" / "shallow" / "2026-11-20-1"
    run.mkdir(parents=True)
    weights = random_weights(shallow, run / "best.safetensors", seed=4)
    random_weights(shallow, tmp_path / "shallow.safetensors", seed=5)
    for name, array in start(again, tmp_path).items():
        np.testing.assert_array_equal(array, weights.read(name))


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        ("first 2 conv", "first 3 conv", recipes.TooFewLayers.code),
        ("last 2 FC", "last 4 FC", recipes.TooFewLayers.code),
        ("conv3-6  conv3-6", "conv5-6  conv3-6", artefacts.OtherWeights.code),
        ("FC-3 soft-max", "FC-4 soft-max", artefacts.OtherWeights.code),
        ("conv3-6  conv3-6", "conv3-6 BN conv3-6", artefacts.OtherWeights.code),
    ],
)
def test_what_does_not_fit_is_reported(tmp_path: Path, old: str, new: str, code: str) -> None:
    random_weights(spec(tmp_path, "shallow", SHALLOW), tmp_path / "shallow.safetensors")
    assert old in DEEP
    deep = spec(tmp_path, "deep", DEEP.replace(old, new))
    with pytest.raises(VggspecError) as caught:
        start(deep, tmp_path)
    assert [one.what.code for one in caught.value.reports] == [code]


def test_missing_weights_are_reported(tmp_path: Path) -> None:
    spec(tmp_path, "shallow", SHALLOW)
    with refused("no weights for net `shallow`"):
        start(spec(tmp_path, "deep", DEEP), tmp_path)


def test_convs_start_from_the_fc_layers_of_a_net_of_images(tmp_path: Path) -> None:
    """FCN on D: fc6 and fc7 are convolutions there, of the same bytes."""
    column = "input 12x12 gray\nconv3-4 maxpool conv3-6 maxpool FC-8 FC-5 FC-3 soft-max\n"
    labels = """\
input 24x24 gray
like "column.vgg" up to pool2
conv3-8 as fc3  conv1-5 as fc4
conv1-2(linear) as score
upconv8-2/4(no-bias) crop(image)
soft-max(map)
train:
  start he
  start from "column.vgg": all but last FC
"""
    weights = random_weights(spec(tmp_path, "column", column), tmp_path / "column.safetensors")
    lowered = spec(tmp_path, "labels", labels)
    found = start(lowered, tmp_path)
    for name in weights.tensors:
        if not name.startswith("fc5"):
            theirs = weights.read(name)
            assert found[name].tobytes() == theirs.tobytes()
    assert found["fc3.weight"].shape == (8, 6, 3, 3)
    assert found["upconv1.weight"][0, 0].sum() == pytest.approx(16)  # it interpolates
    with refused("VGG503"):
        start(spec(tmp_path, "wider", labels.replace("conv3-8", "conv5-8")), tmp_path)
