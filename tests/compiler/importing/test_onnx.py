"""ONNX models: what PyTorch, other tools and we export, beside ONNX Runtime's answers."""

import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import load_file
from torch import nn

import vggspec
from tests.nets import SMALL, net, random_weights
from tests.refusals import refused
from vggspec.bundle.options import CompileOptions
from vggspec.compiler.bundling.graph import write_bundle
from vggspec.compiler.importing.checkpoint import read_checkpoint
from vggspec.compiler.importing.converting import Imported
from vggspec.compiler.lower import load_network

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

HEAD = "net n\ninput 8x8 RGB(mean 0)\n"
PLAIN = HEAD + "conv3-4 conv3-4\nmaxpool\nFC-6 FC-3\n"
NORMED = HEAD + "conv3-4 BN conv3-4 BN\nmaxpool\nFC-6 FC-3\n"
RESIDUAL = HEAD + "conv3-4\n[conv3-4 conv3-4 + shortcut] x2\ngap FC-3\n"

Array = NDArray[Any]


class Vgg(nn.Module):
    """As torchvision has it."""

    def __init__(self, *, is_normed: bool) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for channels in (3, 4):
            layers.append(nn.Conv2d(channels, 4, 3, padding=1))
            layers += [nn.BatchNorm2d(4)] * is_normed
            layers.append(nn.ReLU())
        self.features = nn.Sequential(*layers, nn.MaxPool2d(2))
        self.classifier = nn.Sequential(nn.Linear(64, 6), nn.ReLU(), nn.Dropout(), nn.Linear(6, 3))
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                for tensor in (module.weight, module.bias, module.running_mean, module.running_var):
                    assert tensor is not None
                    nn.init.uniform_(tensor, 0.5, 1.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier(torch.flatten(self.features(x), 1))


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1))
            for _ in range(2)
        )
        self.fc = nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x).relu()
        for block in self.blocks:
            x = (x + block(x)).relu()
        return self.fc(x.mean((2, 3)))


def exported(module: nn.Module, path: Path, **options: Any) -> Path:
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        x = torch.zeros(1, 3, 8, 8)
        torch.onnx.export(module.eval(), (x,), path, verbose=False, **options)
    return path


UNFOLDED = {
    "dynamo": False,
    "do_constant_folding": False,
    "training": torch.onnx.TrainingMode.PRESERVE,
}


def agrees(spec: str, path: Path) -> Imported:
    """Import a model, and compare the net with ONNX Runtime's answer for the file."""
    file = path.with_name("n.vgg")
    file.write_text(spec)
    found = vggspec.import_weights(file, path, out=path.with_name("out.safetensors"))
    x = np.random.default_rng(0).standard_normal((1, 3, 8, 8)).astype(np.float32)
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    given = session.get_inputs()[0]
    cast = np.float16 if given.type == "tensor(float16)" else np.float32
    (theirs,) = session.run(None, {given.name: x.astype(cast)})
    with torch.inference_mode():
        ours = vggspec.torch_module(file, path.with_name("out.safetensors"))(torch.from_numpy(x))
    tolerance = 1e-5 if cast is np.float32 else 2e-2
    np.testing.assert_allclose(ours, theirs, rtol=tolerance, atol=tolerance)
    return found


@pytest.mark.parametrize(
    "dynamo", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["traced", "dynamo"]
)
def test_what_pytorch_exports(dynamo: bool, tmp_path: Path) -> None:
    module = Vgg(is_normed=False)
    path = exported(module, tmp_path / "net.onnx", dynamo=dynamo)
    read = read_checkpoint(path)
    assert (read.kind, read.has_order) == ("onnx", True)
    state = module.state_dict()
    assert list(read.tensors) == list(state)
    for name, tensor in state.items():
        np.testing.assert_array_equal(read.tensors[name], tensor)
    agrees(PLAIN, path)
    # A folded bias is called after its kernel, and is no weight.
    folded = exported(Vgg(is_normed=True), path, dynamo=dynamo)
    agrees(PLAIN, folded)
    assert [name.rpartition(".")[2] for name in read_checkpoint(folded).tensors] == [
        "weight",
        "bias",
    ] * 4
    with refused("(?s)VGG586.*has 2 batch normalisations, this ONNX model none.*leave out `BN`"):
        agrees(NORMED, folded)


def test_names_of_folded_layers_are_those_of_their_nodes(tmp_path: Path) -> None:
    path = exported(Vgg(is_normed=True), tmp_path / "net.onnx", dynamo=False)
    names = [tensor.name for tensor in onnx.load(path).graph.initializer]
    assert any(name.startswith("onnx::Conv") for name in names)
    assert list(read_checkpoint(path).tensors)[:4] == [
        "features.0.weight",
        "features.0.bias",
        "features.3.weight",
        "features.3.bias",
    ]


def test_batch_normalisation_that_is_not_folded(tmp_path: Path) -> None:
    path = exported(Vgg(is_normed=True), tmp_path / "net.onnx", **UNFOLDED)
    assert agrees(NORMED, path).is_epsilon_known
    with refused("VGG549.*adds 1e-05"):
        agrees(NORMED.replace("BN", "BN(eps 1e-3)"), path)


def test_sums(tmp_path: Path) -> None:
    found = agrees(RESIDUAL, exported(Residual(), tmp_path / "net.onnx", dynamo=False))
    assert [pair.module.name for pair in found.matched.pairs] == [
        "stem", "blocks.0.0", "blocks.0.2", "blocks.1.0", "blocks.1.2", "fc",
    ]  # fmt: skip


def model(
    nodes: Sequence[onnx.NodeProto], arrays: dict[str, Array], path: Path, kind: int = 1
) -> Path:
    """A file of these nodes, from ``x`` to ``y``."""
    made = helper.make_model(
        helper.make_graph(
            nodes,
            "g",
            [helper.make_tensor_value_info("x", kind, [1, 3, 8, 8])],
            [helper.make_tensor_value_info("y", kind, None)],
            [numpy_helper.from_array(array, name) for name, array in arrays.items()],
        ),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=8,
    )
    onnx.save(made, path)
    return path


def random(*shape: int) -> Array:
    rng = np.random.default_rng(len(shape) + sum(shape))
    return (rng.standard_normal(shape) / max(1, np.prod(shape[1:])) ** 0.5).astype(np.float32)


def node(op: str, inputs: str, output: str, name: str = "", **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(op, inputs.split(), [output], name, **attributes)


PADS = {"pads": [1, 1, 1, 1], "kernel_shape": [3, 3]}
POOL = {"kernel_shape": [2, 2], "strides": [2, 2]}


def test_names_of_the_model_zoo(tmp_path: Path) -> None:
    """As MXNet exported them: the order of the initializers is another than that of the net."""
    arrays = {
        "vgg0_dense1_weight": random(3, 6), "vgg0_dense1_bias": random(3),
        "vgg0_conv1_weight": random(4, 4, 3, 3), "vgg0_conv1_bias": random(4),
        "vgg0_batchnorm0_running_var": np.full(4, 2, np.float32),
        "vgg0_batchnorm0_running_mean": random(4), "vgg0_batchnorm0_beta": random(4) + 1,
        "vgg0_batchnorm0_gamma": random(4), "vgg0_conv0_weight": random(4, 3, 3, 3),
        "vgg0_conv0_bias": random(4), "vgg0_dense0_weight": random(6, 64),
        "vgg0_dense0_bias": random(6),
    }  # fmt: skip
    norm = ["gamma", "beta", "running_mean", "running_var"]
    slots = " ".join(f"vgg0_batchnorm0_{part}" for part in norm)
    nodes = [
        node("Conv", "x vgg0_conv0_weight vgg0_conv0_bias", "a", **PADS),
        node("BatchNormalization", f"a {slots}", "b", epsilon=1e-5),
        node("Relu", "b", "c"),
        node("Conv", "c vgg0_conv1_weight vgg0_conv1_bias", "d", **PADS),
        node("Relu", "d", "e"),
        node("MaxPool", "e", "f", **POOL),
        node("Flatten", "f", "g"),
        node("Gemm", "g vgg0_dense0_weight vgg0_dense0_bias", "h", transB=1),
        node("Relu", "h", "i"),
        node("Gemm", "i vgg0_dense1_weight vgg0_dense1_bias", "y", transB=1),
    ]
    path = model(nodes, arrays, tmp_path / "net.onnx")
    found = agrees(HEAD + "conv3-4 BN conv3-4\nmaxpool\nFC-6 FC-3\n", path)
    assert found.matched.pairs[0].module.name == "vgg0_conv0"
    assert not found.matched.unused


def numbered(dtype: Any = np.float32) -> tuple[list[onnx.NodeProto], dict[str, Array]]:
    """Numbers for names; matrices and biases in the forms that exporters choose."""
    arrays = {
        "11": random(4, 3, 3, 3), "12": random(1, 4, 1, 1), "13": random(4, 4, 3, 3),
        "14": random(4), "15": random(64, 6), "16": random(6), "17": random(3, 6), "18": random(3),
    }  # fmt: skip
    arrays = {name: array.astype(dtype) for name, array in arrays.items()}
    nodes = [
        node("Conv", "x 11", "a", **PADS),
        node("Add", "a 12", "b"),
        node("Relu", "b", "c"),
        node("Identity", "13", "kernel"),
        node("Conv", "c kernel 14", "d", **PADS),
        node("Relu", "d", "e"),
        node("MaxPool", "e", "f", **POOL),
        node("Reshape", "f shape", "g"),
        node("Gemm", "g 15 16", "h", alpha=0.5, beta=2.0),
        node("Relu", "h", "i"),
        node("Transpose", "17", "matrix", perm=[1, 0]),
        node("MatMul", "i matrix", "j"),
        node("Add", "18 j", "y"),
    ]
    return nodes, arrays | {"shape": np.array([1, -1])}


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_forms_of_matrices_and_biases(dtype: Any, tmp_path: Path) -> None:
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    path = model(*numbered(dtype), tmp_path / "net.onnx", kind)
    agrees(PLAIN, path)
    assert list(read_checkpoint(path).tensors) == [
        f"{op}.{part}"
        for op in ("Conv_0", "Conv_4", "Gemm_8", "MatMul_11")
        for part in ("weight", "bias")
    ]


@pytest.mark.parametrize("kind", [TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16])
def test_numbers_that_are_not_raw(kind: int, tmp_path: Path) -> None:
    values = [1.5, -2.0, 0.25, 3.0] * 27
    kernel = helper.make_tensor("k.weight", kind, [4, 3, 3, 3], values)
    assert not kernel.raw_data
    path = model([node("Conv", "x k.weight", "y", **PADS)], {}, tmp_path / "net.onnx")
    made = onnx.load(path)
    made.graph.initializer.append(kernel)
    onnx.save(made, path)
    np.testing.assert_array_equal(read_checkpoint(path).tensors["k.weight"].ravel(), values)
    made.graph.initializer[0].dims[0] = 5
    onnx.save(made, path)
    with refused("VGG551.*another size than its shape"):
        read_checkpoint(path)


def test_bundles_come_back_to_the_bit(tmp_path: Path) -> None:
    lowered = net(SMALL)
    (tmp_path / "small.vgg").write_text(SMALL)
    weights = random_weights(lowered, tmp_path / "w.safetensors")
    expected = load_file(tmp_path / "w.safetensors")
    for i, options in enumerate((
        CompileOptions(),
        CompileOptions(single_file=True),
        CompileOptions(form="crop"),
        CompileOptions(precision="fp16", contract="raw"),
    )):  # fmt: skip
        bundle = tmp_path / str(i)
        write_bundle(lowered, weights, bundle, options)
        out = tmp_path / f"{i}.safetensors"
        vggspec.import_weights(tmp_path / "small.vgg", bundle / "1" / "model.onnx", out=out)
        found = load_file(out)
        assert found.keys() == expected.keys()
        for name, array in expected.items():
            np.testing.assert_array_equal(found[name], array)


@pytest.mark.parametrize("options", ["", "(no-bias)", "(groups 2)"])
def test_transposed_convolutions_come_back_to_the_bit(options: str, tmp_path: Path) -> None:
    """From a bundle and from a module: a bias has as many numbers as channels leave."""
    text = f"input 16x16 RGB(mean 0)\nconv3-6\nmaxpool\nupconv2-4/2{options}\nconv1-5\n"
    (tmp_path / "u.vgg").write_text(f"{text}soft-max(map)\n")
    lowered = load_network(tmp_path / "u.vgg")
    weights = random_weights(lowered, tmp_path / "w.safetensors")
    write_bundle(lowered, weights, tmp_path / "b", CompileOptions())
    state = vggspec.torch_module(tmp_path / "u.vgg", tmp_path / "w.safetensors").state_dict()
    torch.save(state, tmp_path / "u.pth")
    expected = load_file(tmp_path / "w.safetensors")
    notes: list[str] = []

    class Watch(vggspec.Watcher):
        def note(self, text: str) -> None:
            notes.append(text)

    for path in (tmp_path / "b/1/model.onnx", tmp_path / "u.pth"):
        vggspec.import_weights(
            tmp_path / "u.vgg", path, out=tmp_path / "out.safetensors", watch=Watch()
        )
        found = load_file(tmp_path / "out.safetensors")
        assert found.keys() == expected.keys()
        for name, array in expected.items():
            np.testing.assert_array_equal(found[name], array)
    assert not any("also computes" in note for note in notes)


@pytest.fixture
def beside(tmp_path: Path) -> Path:
    """A model with its numbers in a file beside it."""
    path = model(*numbered(), tmp_path / "net.onnx")
    onnx.save(onnx.load(path), path, save_as_external_data=True, location="data", size_threshold=64)
    return path


def moved(path: Path, **entries: str) -> None:
    made = onnx.load(path, load_external_data=False)
    for entry in made.graph.initializer[0].external_data:
        entry.value = entries.get(entry.key, entry.value)
    path.write_bytes(made.SerializeToString())


def test_numbers_beside_the_file(beside: Path) -> None:
    agrees(PLAIN, beside)
    (beside.parent / "data").write_bytes((beside.parent / "data").read_bytes()[:-1])
    with refused("VGG551.*beyond the end of `data`"):
        read_checkpoint(beside)
    (beside.parent / "data").unlink()
    with refused("(?s)VGG587.*`data`.*copy it too"):
        read_checkpoint(beside)


@pytest.mark.parametrize("location", ["../data", "/data", "a/../../data", "..\\data", "", "C:\\d"])
def test_no_path_leads_out(location: str, beside: Path) -> None:
    moved(beside, location=location)
    with refused("VGG587.*no path in the model's folder"):
        read_checkpoint(beside)


def test_links_are_not_followed(beside: Path) -> None:
    outside = beside.parent.parent / "outside"
    os.replace(beside.parent / "data", outside)
    (beside.parent / "data").symlink_to(outside)
    with refused("VGG587.*link"):
        read_checkpoint(beside)


@pytest.mark.parametrize("entry", [{"offset": "-4"}, {"offset": "x"}, {"length": "8"}])
def test_ranges_that_are_none(entry: dict[str, str], beside: Path) -> None:
    moved(beside, **entry)
    with refused("VGG551.*another size"):
        read_checkpoint(beside)


def test_cut_files_are_noticed(tmp_path: Path) -> None:
    path = model(*numbered(), tmp_path / "net.onnx")
    data = path.read_bytes()
    for end in [*range(8, len(data), 97), len(data) - 1]:
        path.write_bytes(data[:end])
        with refused("VGG55[01]|VGG554|VGG585"):
            read_checkpoint(path)


def test_names_that_are_no_text(tmp_path: Path) -> None:
    path = model(*numbered(), tmp_path / "net.onnx")
    path.write_bytes(path.read_bytes().replace(b"Gemm", b"Ge\xffm"))
    with refused("VGG551.*a name in it is no text"):
        read_checkpoint(path)


def test_a_huge_structure_is_not_parsed(tmp_path: Path) -> None:
    nodes = b"\x0a\x00" * 250_000
    length = len(nodes)
    size = bytes([length & 127 | 128, length >> 7 & 127 | 128, length >> 14])
    (tmp_path / "net.onnx").write_bytes(b"\x08\x08\x3a" + size + nodes)
    with refused("VGG551.*more than 200,000 fields"):
        read_checkpoint(tmp_path / "net.onnx")


def refusal(
    nodes: list[onnx.NodeProto], arrays: dict[str, Array], tmp_path: Path, why: str
) -> None:
    path = model(nodes, arrays, tmp_path / "net.onnx")
    with refused(f"VGG585.*{why}"):
        read_checkpoint(path)


def test_channels_last_are_refused(tmp_path: Path) -> None:
    """As tf2onnx writes a net of Keras: the first matrix takes the map position by position."""
    nodes, arrays = numbered()
    nodes[7:8] = [node("Transpose", "f", "t", perm=[0, 2, 3, 1]), node("Reshape", "t shape", "g")]
    refusal(nodes, arrays, tmp_path, "takes a map whose axes the Transpose `t` moved")


def test_kernels_that_are_computed_are_refused(tmp_path: Path) -> None:
    nodes, arrays = numbered()
    nodes[3] = node("Mul", "13 13", "kernel")
    refusal(nodes, arrays, tmp_path, "weights of the Conv `d` are no constants")


def test_layers_within_a_loop_are_refused(tmp_path: Path) -> None:
    nodes, arrays = numbered()
    body = helper.make_graph(nodes, "b", [], [helper.make_tensor_value_info("y", 1, None)])
    chosen = [node("If", "yes", "y", then_branch=body, else_branch=body)]
    refusal(chosen, arrays | {"yes": np.array(True)}, tmp_path, "within the If `y`")


def test_quantised_models_are_refused(tmp_path: Path) -> None:
    quantization = pytest.importorskip("onnxruntime.quantization")
    path = exported(Vgg(is_normed=False), tmp_path / "net.onnx", dynamo=False)
    quantization.quantize_dynamic(path, tmp_path / "int8.onnx")
    with refused("VGG585.*it is quantised"):
        read_checkpoint(tmp_path / "int8.onnx")


def test_what_is_not_imported_is_said(tmp_path: Path) -> None:
    nodes, arrays = numbered()
    nodes[0] = node("Conv", "z 11", "a", **PADS)
    nodes.insert(0, node("Div", "x all", "z"))
    arrays |= {"all": np.array(255, np.float32), "rest": random(7)}
    read = read_checkpoint(model(nodes, arrays, tmp_path / "net.onnx"))
    first, second = read.known.notes
    assert "computes with `all`" in first
    assert second == "left out 1 tensor that nothing in the model reads"
