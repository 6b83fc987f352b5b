"""ONNX models that no spec says: each is refused at its place, and nothing is written."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper
from torch import nn

import vggspec
from tests.cli.run import vggspec as command
from tests.compiler.drafting.modules import OPEN_BATCH, Layers, Sum, conv, exported, head
from tests.refusals import refused, told
from vggspec.base.diagnostic import ArgumentError, VggspecError
from vggspec.base.watcher import Watcher
from vggspec.compiler.drafting.draft import draft
from vggspec.compiler.drafting.proof import prove
from vggspec.compiler.importing.checkpoint import read_checkpoint
from vggspec.compiler.weights import open_weights, save

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

Change = Callable[[onnx.ModelProto], None]


class Scaled(nn.Module):
    """A gate, as in squeeze and excitation."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * x.mean((2, 3), keepdim=True).sigmoid()


class Shuffled(nn.Module):
    """Channels of two groups, one after the other in turn."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.reshape(1, 2, 2, 8, 8).transpose(1, 2).reshape(1, 4, 8, 8)


class Columns(nn.Module):
    """A product with the columns of a map."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(x)


def node(model: onnx.ModelProto, kind: str) -> onnx.NodeProto:
    return next(each for each in model.graph.node if each.op_type == kind)


def with_pads(model: onnx.ModelProto) -> None:
    found = node(model, "Conv")
    (pads,) = (each for each in found.attribute if each.name == "pads")
    pads.ints[:] = [0, 0, 1, 1]


def with_two_outputs(model: onnx.ModelProto) -> None:
    model.graph.output.append(onnx.ValueInfoProto(name=node(model, "Relu").output[0]))


def with_other_order(model: onnx.ModelProto) -> None:
    first = model.graph.node.pop(0)
    model.graph.node.append(first)


def in_a_circle(model: onnx.ModelProto) -> None:
    node(model, "Conv").input[0] = node(model, "Relu").output[0]


def of_another_domain(model: onnx.ModelProto) -> None:
    node(model, "Relu").domain = "com.example"


def with_huge_weights(model: onnx.ModelProto) -> None:
    for tensor in model.graph.initializer:
        numbers = numpy_helper.to_array(tensor)
        tensor.CopyFrom(numpy_helper.from_array(numbers * np.float32(1e30), tensor.name))


def with_many_layers(model: onnx.ModelProto) -> None:
    last = model.graph.node.pop()
    (x,) = last.input[:1]
    for i in range(20_000):
        model.graph.node.append(helper.make_node("Relu", [x], [f"r{i}"]))
        x = f"r{i}"
    last.input[0] = x
    model.graph.node.append(last)


def with_deep_brackets(model: onnx.ModelProto) -> None:
    """Sums within sums: paths of the n-th have n sums."""
    last = model.graph.node.pop()
    x = start = last.input[0]
    for i in range(20):
        model.graph.node.append(helper.make_node("Relu", [x], [f"r{i}"]))
        model.graph.node.append(helper.make_node("Add", [f"r{i}", start], [f"s{i}"]))
        x = f"s{i}"
    last.input[0] = x
    model.graph.node.append(last)


NET = (conv(3, 4), nn.ReLU(), *head(4, 3))
OPEN_SIZE = {"input_names": ["x"], "dynamic_axes": {"x": {2: "H", 3: "W"}}}
CASES: dict[str, tuple[Layers, dict[str, object], Change | None]] = {
    "hard-swish": ((conv(3, 4), nn.Hardswish(), *head(4, 3)), {}, None),
    "leaky-relu": ((conv(3, 4), nn.LeakyReLU(), *head(4, 3)), {}, None),
    "other-limits": ((conv(3, 4), nn.Hardtanh(), *head(4, 3)), {}, None),
    "gate": ((conv(3, 4), Scaled(), *head(4, 3)), {}, None),
    "shuffled-channels": ((conv(3, 4), Shuffled(), *head(4, 3)), {}, None),
    "transposed": ((conv(3, 4), nn.ConvTranspose2d(4, 4, 2, 2), *head(4, 3)), {}, None),
    "columns": ((conv(3, 4), Columns(), *head(4, 3)), {}, None),
    "upright-stride": ((nn.Conv2d(3, 4, 3, (1, 2)), *head(4, 3)), {}, None),
    "upright-pool": ((conv(3, 4), nn.MaxPool2d((1, 2)), *head(4, 3)), {}, None),
    "one-sided-padding": (NET, {}, with_pads),
    "map-as-output": ((conv(3, 4), nn.ReLU()), {}, None),
    "two-outputs": (NET, {}, with_two_outputs),
    "open-size": (NET, OPEN_SIZE, None),
    "other-order": (NET, {}, with_other_order),
    "circle": (NET, {}, in_a_circle),
    "other-domain": (NET, {}, of_another_domain),
    "not-finite": (NET, {}, with_huge_weights),
    "many-layers": (NET, {}, with_many_layers),
    "deep-brackets": (NET, {}, with_deep_brackets),
}


@pytest.mark.parametrize("name", CASES)
def test_models_that_no_spec_says(
    name: str, tmp_path: Path, golden: Callable[[str, str], None]
) -> None:
    layers, options, change = CASES[name]
    path = tmp_path / "net.onnx"
    exported(layers, path, 3, 8, 8, **options)
    if change is not None:
        model = onnx.load(path)
        change(model)
        path.write_bytes(model.SerializeToString())
    spec, out = tmp_path / "net.vgg", tmp_path / "net.safetensors"
    spec.write_text("# mine\n")
    with pytest.raises(VggspecError) as caught:
        vggspec.import_weights(None, path, out=out, write_spec=spec)
    text = told(caught.value).replace(f"{tmp_path}{os.sep}", "")
    golden(f"drafting/refused-{name}.txt", f"{text}\n")
    assert spec.read_text() == "# mine\n"
    assert sorted(each.name for each in tmp_path.iterdir()) == ["net.onnx", "net.vgg"]


def test_other_weights_are_noticed(tmp_path: Path) -> None:
    """Two layers of one shape have each other's weights, or the activation is another one."""
    path, spec, out = (tmp_path / f"net.{end}" for end in ("onnx", "vgg", "safetensors"))
    exported((conv(3, 3), nn.ReLU(), conv(3, 3), nn.ReLU(), *head(3, 2)), path, 3, 8, 8)
    found = vggspec.import_weights(None, path, out=out, write_spec=spec)
    drafted = draft(read_checkpoint(path), "net.vgg", None, None)
    file = open_weights(out)
    arrays = {name: np.array(file.read(name)) for name in file.tensors}
    for part in ("weight", "bias"):
        one, other = f"conv1_1.{part}", f"conv1_2.{part}"
        arrays[one], arrays[other] = arrays[other], arrays[one]
    save(tmp_path / "turned.safetensors", arrays, file.metadata)
    network = drafted.lowered.network
    with refused("VGG724.*differ by"):
        prove(str(path), drafted.graph, network, str(tmp_path / "turned.safetensors"))
    (tmp_path / "six.vgg").write_text(spec.read_text().replace("conv3-3 x2", "conv3-3 SiLU x2"))
    assert found.compared == prove(str(path), drafted.graph, network, str(out))


def test_what_is_no_onnx_model(tmp_path: Path) -> None:
    torch.save(nn.Sequential(*NET).state_dict(), tmp_path / "net.pth")
    with refused("(?s)VGG725.*a file of weights.*export the net to ONNX"):
        vggspec.import_weights(None, tmp_path / "net.pth", write_spec=tmp_path / "net.vgg")
    assert not (tmp_path / "net.vgg").exists()


def test_options_that_do_not_fit(tmp_path: Path) -> None:
    path, spec = tmp_path / "net.onnx", tmp_path / "net.vgg"
    exported(NET, path, 3, 8, 8)

    def wrong(pattern: str, first: str | None = None, name: Path = spec, **given: object) -> None:
        options = vggspec.ImportOptions(**given)  # type: ignore[arg-type]
        with pytest.raises(ArgumentError, match=pattern):
            vggspec.import_weights(
                first, path, out=tmp_path / "out", write_spec=name, options=options
            )

    wrong("name the ONNX model alone", first="D")
    wrong("must end in `.vgg`", name=tmp_path / "net.txt")
    wrong("--map is for a spec that exists", pairs={"a": "b"})
    wrong("--only is for a spec that exists", only="features")
    wrong("--bgr is for a spec that exists", bgr=True)
    wrong("leave out --check", check=True)
    wrong("--input says gray, and the model takes 3 channels", input="gray")
    wrong("both say how images are normalised", input="RGB(mean 3)", source="torchvision")
    wrong("write them in --input", source="spec")
    with pytest.raises(ArgumentError, match="--input is the input of a spec that --write-spec"):
        vggspec.import_weights("D", path, options=vggspec.ImportOptions(input="RGB"))
    options = vggspec.ImportOptions(input="9x8 RGB")
    with refused("VGG723.*its input is 8 × 8, `--input` says 9 × 8"):
        vggspec.import_weights(None, path, write_spec=spec, options=options)
    options = vggspec.ImportOptions(input="8x8 RGB(median 3)")
    with refused("(?s)median.*--input"):
        vggspec.import_weights(None, path, write_spec=spec, options=options)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["net.onnx"]


class Notes(Watcher):
    def __init__(self) -> None:
        self.texts: list[str] = []

    def note(self, text: str) -> None:
        self.texts.append(text)


@pytest.mark.parametrize(
    ("given", "first", "says"),
    [
        ({}, "RGB(mean 123.675 116.28 103.53, std 58.395 57.12 57.375)", "which is a guess"),
        ({"source": "torchvision"}, "RGB(mean 123.675 116.28 103.53, std 58.395 57.12 57.375)", ""),
        ({"source": "caffe"}, "BGR(mean 103.939 116.779 123.68)", ""),
        ({"input": "BGR(mean 1 2 3)"}, "BGR(mean 1 2 3)", ""),
        ({"input": "8 x 8 (mean 127.5, std 127.5)"}, "RGB(mean 127.5, std 127.5)", ""),
    ],
)
def test_how_the_input_is_normalised(
    given: dict[str, str], first: str, says: str, tmp_path: Path
) -> None:
    path, spec, out = (tmp_path / f"net.{end}" for end in ("onnx", "vgg", "safetensors"))
    exported(NET, path, 3, 8, 8)
    notes = Notes()
    options = vggspec.ImportOptions(**given)  # type: ignore[arg-type]
    found = vggspec.import_weights(
        None, path, out=out, write_spec=spec, options=options, watch=notes
    )
    assert f"input 8x8 {first}\n" in spec.read_text()
    assert not found.expected.is_turned
    assert any("input: " in text for text in notes.texts) is bool(says)
    assert all(says in text for text in notes.texts)
    assert ("a guess" in spec.read_text()) is bool(says)


def test_the_command(tmp_path: Path) -> None:
    exported((conv(1, 4), nn.ReLU(), Sum([conv(4, 4)]), *head(4, 3)), tmp_path / "n.onnx", 1, 8, 8)
    given = ("import", "n.onnx", "--write-spec", "net.vgg", "--input", "gray(mean 33.3, std 78.6)")
    done = command(*given, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "check: ONNX Runtime gives the same scores, within " in done.stderr
    assert done.stdout.split() == ["net.vgg", "net.safetensors"]
    assert "input 8x8 gray(mean 33.3, std 78.6)\n" in (tmp_path / "net.vgg").read_text()
    assert command("check", "net.vgg", cwd=tmp_path).returncode == 0
    exported(NET, tmp_path / "open.onnx", 3, 8, 8, **OPEN_SIZE)
    given = ("import", "open.onnx", "--write-spec", "open.vgg", "--input", "12x10 RGB(mean 0)")
    done = command(*given, cwd=tmp_path)
    assert "of noise, 12 × 10" in done.stderr, done.stderr


def test_a_tensor_called_image(tmp_path: Path) -> None:
    """As the language calls what enters a net."""
    path, spec, out = (tmp_path / f"net.{end}" for end in ("onnx", "vgg", "safetensors"))
    exported((conv(3, 3), nn.ReLU(), Sum([conv(3, 3)]), *head(3, 3)), path, 3, 8, 8)
    model = onnx.load(path)
    old = node(model, "Relu").output[0]
    for each in model.graph.node:
        for names in (each.input, each.output):
            names[:] = ["image" if name == old else name for name in names]
    path.write_bytes(model.SerializeToString())
    assert vggspec.import_weights(None, path, out=out, write_spec=spec).compared is not None
    assert "conv3-3\n[conv3-3(linear) + shortcut]\n" in spec.read_text()


def test_shapes_that_are_computed(tmp_path: Path) -> None:
    """As PyTorch exports ``x.view(x.size(0), -1)`` for any number of images."""

    class View(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.view(x.size(0), -1)

    path, spec, out = (tmp_path / f"net.{end}" for end in ("onnx", "vgg", "safetensors"))
    exported((conv(3, 4), nn.ReLU(), View(), nn.Linear(256, 3)), path, 3, 8, 8, **OPEN_BATCH)
    assert any(each.op_type == "Shape" for each in onnx.load(path).graph.node)
    found = vggspec.import_weights(None, path, out=out, write_spec=spec)
    assert found.compared is not None
    assert "conv3-4\nFC-3\n" in spec.read_text()
