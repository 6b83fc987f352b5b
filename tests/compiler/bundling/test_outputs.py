"""Nets of several outputs, from the spec to each consumer, against torch written out here."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import load_file
from torch.nn import functional

import vggspec
from tests.cli.run import vggspec as run
from tests.conftest import ROOT
from tests.nets import disagreement, images, random_weights, session
from tests.refusals import refused
from tests.runtime.bundles import rewrite
from tests.runtime.tensorrt.fake import FakeCuda, FakeTrt, as_plan
from vggspec.bundle.manifest import MANIFEST, MODEL, REFERENCE
from vggspec.bundle.opening import open_bundle
from vggspec.bundle.profile import Profile
from vggspec.cli import run as run_here
from vggspec.compiler.bundling import deepstream, triton
from vggspec.compiler.lower import load_network
from vggspec.data.read import read_image
from vggspec.runtime.preprocess import normalise
from vggspec.runtime.tensorrt.session import TrtSession

SIZES = ((33, 47), (50, 21))
#: Layers of each block, and the outputs with their strides.
NETS: dict[str, tuple[tuple[int, ...], dict[str, int]]] = {
    "lpips": (
        (2, 2, 3, 3, 3),
        {"conv1_2": 1, "conv2_2": 2, "conv3_3": 4, "conv4_3": 8, "conv5_3": 16},
    ),
    "style": (
        (2, 2, 4, 4, 1),
        {"conv1_1": 1, "conv2_1": 2, "conv3_1": 4, "conv4_1": 8, "conv5_1": 16, "conv4_2": 8},
    ),
}
HEADS = """\
net heads
input 32x32 RGB(mean 120 115 100)
conv3-8 x2 maxpool conv3-12 x2 maxpool FC-24 FC-10 soft-max
outputs prob conv2_2 fc3
test:
  scale 32
"""


def narrow(folder: Path, name: str) -> Path:
    """Our spec of that name, on a net of 1/16 of the channels."""
    for wide in ("D", "E"):
        text = (ROOT / "specs" / f"{wide}.vgg").read_text("utf-8")
        text = re.sub(r"conv(\d)-(\d+)", lambda m: f"conv{m[1]}-{int(m[2]) // 16}", text)
        text = re.sub(r"(?m)^[\d.,]+M? parameters.*$", "", text)
        (folder / f"{wide}.vgg").write_text(text, "utf-8")
    path = folder / f"{name}.vgg"
    path.write_text((ROOT / "specs" / f"{name}.vgg").read_text("utf-8"), "utf-8")
    return path


def made(folder: Path, name: str) -> tuple[Path, Path]:
    spec = narrow(folder, name)
    weights = folder / "w.safetensors"
    random_weights(load_network(str(spec)), weights)
    return spec, weights


def prefix(name: str, state: dict[str, torch.Tensor], x: torch.Tensor) -> dict[str, torch.Tensor]:
    """The outputs of VGG's first layers, in the order of the spec."""
    blocks, outputs = NETS[name]
    found = {}
    for i, number in enumerate(blocks, 1):
        for j in range(1, number + 1):
            layer = f"conv{i}_{j}"
            x = functional.conv2d(x, state[f"{layer}.weight"], state[f"{layer}.bias"], padding=1)
            x = functional.relu(x)
            found[layer] = x
        x = functional.max_pool2d(x, 2) if i < len(blocks) else x
    return {layer: found[layer] for layer in outputs}


def small(folder: Path, text: str = HEADS) -> tuple[Path, Path]:
    spec = folder / "heads.vgg"
    spec.write_text(text, "utf-8")
    random_weights(load_network(str(spec)), folder / "w.safetensors")
    return spec, folder / "w.safetensors"


def picture(path: Path, size: tuple[int, int]) -> Path:
    pixels = np.random.default_rng(1).integers(0, 256, (*size, 3), np.uint8)
    Image.fromarray(pixels).save(path)
    return path


# The graph.


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_maps_of_any_size_are_those_of_torch(name: str, precision: str, tmp_path: Path) -> None:
    spec, weights = made(tmp_path, name)
    compiled = vggspec.compile(spec, weights=weights, out=tmp_path / "b", precision=precision)
    net = session(tmp_path / "b" / MODEL)
    assert [output.name for output in net.get_outputs()] == list(NETS[name][1])
    assert [output.name for output in compiled.manifest.outputs] == list(NETS[name][1])
    state = load_file(weights)
    for size in SIZES:
        x = images(2, 3, *size)
        expected = prefix(name, state, torch.from_numpy(x))
        found = net.run(None, {"image": x})
        for output, array in zip(NETS[name][1].items(), found, strict=True):
            layer, stride = output
            assert array.dtype == np.float32
            assert array.shape[2:] == (size[0] // stride, size[1] // stride)
            limit = 1e-5 if precision == "fp32" else 1e-2
            assert disagreement(array, expected[layer].numpy()) < limit


def test_no_runtime_complains_of_sizes(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    spec, weights = made(tmp_path, "lpips")
    vggspec.compile(spec, weights=weights, out=tmp_path / "b")
    options = ort.SessionOptions()
    options.log_severity_level = 2
    net = ort.InferenceSession(tmp_path / "b" / MODEL, options, providers=["CPUExecutionProvider"])
    net.run(None, {"image": images(1, 3, 33, 47)})
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("form", ["dense", "crop"])
def test_the_manifest_describes_each_output(form: Any, tmp_path: Path) -> None:
    spec, weights = made(tmp_path, "style")
    vggspec.compile(spec, weights=weights, out=tmp_path / "b", form=form)
    data = json.loads((tmp_path / "b" / MANIFEST).read_text("utf-8"))
    assert data["format"] == 3
    assert {output["kind"] for output in data["outputs"]} == {"activations"}
    manifest = open_bundle(tmp_path / "b").manifest
    assert manifest.labels is None
    assert manifest.stride == (16, 16)
    assert manifest.window == (224, 224)
    sizes = [output.size for output in manifest.outputs]
    side = {stride: (224 // stride, 224 // stride) for stride in (1, 2, 4, 8, 16)}
    expected = [side[stride] if form == "crop" else None for stride in NETS["style"][1].values()]
    assert sizes == expected
    again = vggspec.verify(tmp_path / "b", against="torch", images=_folder(tmp_path))
    assert again.passed
    assert again.comparisons[0].figures.errors.keys() == NETS["style"][1].keys()


def _folder(folder: Path) -> Path:
    (folder / "pictures").mkdir()
    picture(folder / "pictures" / "a.png", (224, 231))
    return folder / "pictures"


def test_a_layer_may_be_an_output_by_two_names(tmp_path: Path) -> None:
    text = "net two\ninput 16x16 RGB(mean 1 2 3)\n[conv3-8 conv3-8 + shortcut] x2 as block\n"
    spec, weights = small(tmp_path, text + "outputs block block_2 block_1\n")
    vggspec.compile(spec, weights=weights, out=tmp_path / "b")
    net = session(tmp_path / "b" / MODEL)
    assert [output.name for output in net.get_outputs()] == ["block", "block_2", "block_1"]
    one, two, _ = net.run(None, {"image": images(1, 3, 17, 19)})
    np.testing.assert_array_equal(one, two)


def test_a_first_output_of_classes_classifies(tmp_path: Path) -> None:
    spec, weights = small(tmp_path)
    vggspec.compile(spec, weights=weights, out=tmp_path / "b")
    vggspec.compile(_without_outputs(spec), weights=weights, out=tmp_path / "plain")
    image = picture(tmp_path / "a.png", (40, 50))
    with vggspec.load(tmp_path / "b") as several, vggspec.load(tmp_path / "plain") as one:
        np.testing.assert_allclose(several(image).posteriors, one(image).posteriors, rtol=1e-6)
        outputs = several.outputs(image, 32)
        assert [array.ndim for array in outputs.values()] == [1, 3, 3]
        assert list(outputs) == ["prob", "conv2_2", "fc3"]
        with refused("the first output, `conv2_2`, is a map") as error:
            vggspec.compile(
                _with_outputs(spec, "conv2_2 fc3 prob"), weights=weights, out=tmp_path / "c",
                keep_map=True,
            )  # fmt: skip
        assert error.value.reports[0].what.code == "VGG303"


def _without_outputs(spec: Path) -> Path:
    plain = spec.with_name("plain.vgg")
    plain.write_text(re.sub(r"outputs .*\n", "", spec.read_text("utf-8")), "utf-8")
    return plain


def _with_outputs(spec: Path, names: str) -> Path:
    other = spec.with_name("other.vgg")
    text = re.sub(r"outputs .*\n", f"outputs {names}\n", spec.read_text("utf-8"))
    other.write_text(text, "utf-8")
    return other


# PyTorch.


@pytest.mark.parametrize("name", NETS)
def test_gradients_reach_the_image_through_every_output(name: str, tmp_path: Path) -> None:
    spec, weights = made(tmp_path, name)
    module = vggspec.torch_module(spec, weights)
    state = load_file(weights)
    for layer in NETS[name][1]:
        x = torch.from_numpy(images(1, 3, 33, 47)).requires_grad_()
        y = x.detach().clone().requires_grad_()
        found, expected = module(x), prefix(name, state, y)
        assert isinstance(found, dict)
        assert list(found) == list(expected)
        found[layer].square().sum().backward()
        expected[layer].square().sum().backward()
        assert x.grad is not None
        assert y.grad is not None
        assert disagreement(x.grad.numpy(), y.grad.numpy()) < 1e-5


def test_the_source_of_torch_gives_the_same_dict(tmp_path: Path) -> None:
    spec, weights = made(tmp_path, "lpips")
    vggspec.export(spec, tmp_path / "source.py")
    space: dict[str, Any] = {}
    exec(compile((tmp_path / "source.py").read_text("utf-8"), "source.py", "exec"), space)
    module = space["load"](str(weights))
    x = torch.from_numpy(images(1, 3, 33, 47))
    with torch.inference_mode():
        found, expected = module(x), prefix("lpips", load_file(weights), x)
    assert list(found) == list(expected)
    for layer, array in expected.items():
        assert disagreement(found[layer].numpy(), array.numpy()) < 1e-5


# Images.


def _expected(bundle: Path, weights: Path, pixels: NDArray[np.uint8]) -> dict[str, torch.Tensor]:
    contract = open_bundle(bundle).manifest.input
    x = torch.from_numpy(normalise(pixels[np.newaxis], contract))
    return prefix("lpips", load_file(weights), x)


def test_load_gives_a_dict_of_arrays(tmp_path: Path) -> None:
    spec, weights = made(tmp_path, "lpips")
    image = picture(tmp_path / "a.png", (50, 71))
    pixels = read_image(str(image))
    with vggspec.load(vggspec.compile(spec, weights=weights, out=tmp_path / "b")) as net:
        found = net.outputs(image)
        for layer, array in _expected(tmp_path / "b", weights, pixels).items():
            assert found[layer].dtype == np.float32
            assert disagreement(found[layer], array[0].numpy()) < 1e-5
        assert net.outputs(image, 25)["conv1_2"].shape[1:] == (25, 36)
        assert net.outputs(image, 25)["conv5_3"].shape[1:] == (1, 2)
        with refused(r"10 × 14 .*smaller") as error:
            net.outputs(image, 10)
        assert error.value.reports[0].path == str(image)
        with pytest.raises(TypeError):
            net.outputs(image, [25, 30])  # type: ignore[arg-type]
        with refused("(?s)VGG526.*gives activations of conv1_2, .*vggspec features"):
            net(image)
    with vggspec.load(
        vggspec.compile(spec, weights=weights, out=tmp_path / "c", form="crop")
    ) as net:
        assert net.outputs(image)["conv5_3"].shape[1:] == (14, 14)


def test_predict_refuses_before_it_reads_images(tmp_path: Path) -> None:
    spec, weights = made(tmp_path, "lpips")
    vggspec.compile(spec, weights=weights, out=tmp_path / "b")
    (tmp_path / "no.png").write_bytes(b"no image")
    done = run("predict", tmp_path / "b", tmp_path / "no.png")
    assert done.returncode == 1
    assert "VGG526" in done.stderr
    assert "vggspec features" in done.stderr
    assert "no.png" not in done.stderr


@pytest.mark.parametrize("form", ["dense", "crop"])
def test_features_are_those_of_every_output(form: Any, tmp_path: Path) -> None:
    spec, weights = made(tmp_path, "lpips")
    vggspec.compile(spec, weights=weights, out=tmp_path / "b", form=form)
    image = picture(tmp_path / "a.png", (50, 71))
    arguments: dict[str, Any] = {
        "images": [image],
        "out": tmp_path / "f.safetensors",
        "scales": 50,
        "flip": False,
        "normalise": False,
    }
    file = vggspec.features(tmp_path / "b", **arguments).open()
    means = [
        array.mean(dim=(0, 2, 3)).numpy()
        for array in _expected(tmp_path / "b", weights, read_image(str(image))).values()
    ]
    np.testing.assert_allclose(
        file.splits["images"].features[0], np.concatenate(means), rtol=1e-4, atol=1e-5
    )
    assert file.settings["nets"][0]["outputs"] == list(NETS["lpips"][1])
    one = vggspec.features(tmp_path / "b", layer="conv2_2", **arguments).open()
    np.testing.assert_allclose(one.splits["images"].features[0], means[1], rtol=1e-4, atol=1e-5)


POSITIONS = """\
input 40x33 RGB
conv3-2(linear) as a
conv5x3-2/2(pad 1, linear) as b
avgpool3/2(ceil) as c
[conv3-2(dilation 2, linear) & conv1-2(linear)] as d
conv2-2(pad 0, linear) as e
gap as f
FC-2 as g
outputs a b c d e f g
"""


@pytest.mark.parametrize("form", ["dense", "crop"])
def test_the_manifest_says_what_positions_see(form: Any, tmp_path: Path) -> None:
    """Exactly these pixels have an influence, by the gradients of torch."""
    spec, weights = small(tmp_path, POSITIONS)
    manifest = vggspec.compile(spec, weights=weights, out=tmp_path / "b", form=form).manifest
    assert open_bundle(tmp_path / "b").manifest == manifest
    module = vggspec.torch_module(spec, weights).eval()
    with torch.no_grad():
        for array in module.parameters():
            array.fill_(1)  # so that nothing cancels
    seen = {output.name: output.position for output in manifest.outputs}
    assert [name for name, position in seen.items() if position is None] == ["f", "g"]
    for name, position in seen.items():
        if position is None:
            continue
        x = torch.ones(1, 3, 40, 33, requires_grad=True)
        found = module(x)[name]
        for at in ((0, 0), (2, 3), (found.shape[2] // 2, found.shape[3] // 2)):
            (gradient,) = torch.autograd.grad(found[0, :, *at].sum(), x, retain_graph=True)
            for axis, n in enumerate((40, 33)):
                pixels = gradient.abs().sum((0, 1, 3 - axis)).nonzero().flatten().tolist()
                first = position.start[axis] + at[axis] * position.stride[axis]
                end = first + position.window[axis]
                assert (pixels[0], pixels[-1]) == (max(first, 0), min(end, n) - 1), (name, at)
    rows = vggspec.inspect(tmp_path / "b").sections()[0].rows
    assert any("; window 7 × 5 pixels from (-2, -2), stride 2 pixels" in row[1] for row in rows)


def test_manifests_without_positions_are_read(tmp_path: Path) -> None:
    """As earlier versions wrote them."""
    spec, weights = made(tmp_path, "lpips")
    vggspec.compile(spec, weights=weights, out=tmp_path / "b")
    path = tmp_path / "b" / MANIFEST
    data = json.loads(path.read_text("utf-8"))
    data.pop("manifest_sha256")
    for output in data["outputs"]:
        assert output.pop("position")["stride"]
    path.write_text(json.dumps(data), "utf-8")
    manifest = open_bundle(tmp_path / "b").manifest
    assert all(output.position is None for output in manifest.outputs)
    assert "window" not in str(vggspec.inspect(tmp_path / "b").sections()[0].rows)


# What needs one output of classes or boxes.


def test_who_needs_classes_refuses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec, weights = made(tmp_path, "lpips")
    vggspec.compile(spec, weights=weights, out=tmp_path / "b")
    picture(tmp_path / "a.png", (50, 71))
    data = tmp_path / "data" / "val" / "cat"
    data.mkdir(parents=True)
    picture(data / "a.png", (50, 71))
    for arguments, code in (
        (("eval", tmp_path / "b", "--data", tmp_path / "data"), "VGG526"),
        (("localise", tmp_path / "b", tmp_path / "a.png"), "VGG700"),
        (("compile", spec, "--weights", weights, "--map", "-o", tmp_path / "c"), "VGG303"),
        (("compile", spec, "--weights", weights, "--protocol", "-o", tmp_path / "c"), "VGG672"),
        (("compile", spec, "--torch", "--dense", "--map", "-o", tmp_path / "c.py"), "VGG303"),
        (("train", spec, "--data", tmp_path / "data"), "VGG427"),
    ):
        assert run_here([str(argument) for argument in arguments]) == 1, arguments
        assert code in capsys.readouterr().err
        assert not (tmp_path / "c").exists()
    with refused("VGG303"):
        vggspec.torch_module(spec, dense=True, keep_map=True)


def test_heads_do_not_train_yet_and_are_not_fused(tmp_path: Path) -> None:
    spec, weights = small(tmp_path)
    with refused("(?s)VGG427.*train it without `outputs prob conv2_2 fc3`"):
        vggspec.train(spec, data=tmp_path / "data")
    ends = "input 32x32 RGB\nconv3-8 FC-10 as fine\nfrom conv1_1\nFC-2 as coarse\n"
    (tmp_path / "ends.vgg").write_text(f"{ends}outputs conv1_1 fine coarse\n")
    with refused("(?s)VGG427.*ends in fine and coarse: keep one of these branches"):
        vggspec.train(tmp_path / "ends.vgg", data=tmp_path / "data")
    with refused("(?s)VGG672.*activations of prob, conv2_2, fc3"):
        vggspec.compile([spec], weights=[weights], out=tmp_path / "b", protocol=True)


# Servers and engines.


def _dims(text: str) -> dict[str, list[int]]:
    found = re.findall(r'output \{\s+name: "(\w+)"\s+data_type: TYPE_FP32\s+dims: (\[.*\])', text)
    return {name: json.loads(dims) for name, dims in found}


@pytest.mark.parametrize("form", ["dense", "crop"])
def test_the_configuration_of_triton_has_the_dims_of_the_graph(form: Any, tmp_path: Path) -> None:
    spec, weights = made(tmp_path, "lpips")
    manifest = vggspec.compile(spec, weights=weights, out=tmp_path / "b", form=form).manifest
    text = triton.config(manifest)
    assert text is not None
    graph = {
        output.name: [axis if isinstance(axis, int) else -1 for axis in output.shape[1:]]
        for output in session(tmp_path / "b" / MODEL).get_outputs()
    }
    assert _dims(text) == graph
    assert "label_filename" not in text
    assert not (tmp_path / "b" / triton.LABELS).exists()
    assert deepstream.why_not(manifest) is not None


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_an_engine_has_every_output(precision: Any, tmp_path: Path) -> None:
    spec, weights = made(tmp_path, "lpips")
    compiled = vggspec.compile(
        spec, weights=weights, out=tmp_path / "b", trt=True, precision=precision,
        profiles=["1x32x32,2x48x64,4x96x96"], flavour="tensorrt_rtx",
    )  # fmt: skip
    assert compiled.manifest.engine is not None
    assert compiled.manifest.engine.profiles == (Profile((1, 32, 32), (2, 48, 64), (4, 96, 96)),)
    assert [output.name for output in compiled.manifest.outputs] == list(NETS["lpips"][1])
    sections = vggspec.inspect(tmp_path / "b").sections()
    assert any("conv5_3: float32 N × 32 × h × w" in row[1] for row in sections[0].rows)


@pytest.mark.parametrize("version", ["10.0.1", "11.4", "rtx-1.7"])
def test_a_session_of_an_engine_gives_every_output(version: str, tmp_path: Path) -> None:
    """With a recorded library and device, whose numbers are those of ONNX Runtime."""
    spec, weights = made(tmp_path, "style")
    out = tmp_path / "b"
    graph = vggspec.compile(spec, weights=weights, out=out, single_file=True)
    as_plan(out, graph.manifest, version=version)
    cuda = FakeCuda("late")
    truth = session(out / REFERENCE)
    with TrtSession(open_bundle(out), trt=FakeTrt(version, cuda), cuda=cuda) as engine:
        assert [port.name for port in engine.outputs] == list(NETS["style"][1])
        for shape in ((1, 3, 24, 31), (3, 3, 25, 24), (1, 3, 24, 31)):
            x = images(*shape)
            found = engine.run({"image": x})
            for name, array in zip(NETS["style"][1], truth.run(None, {"image": x}), strict=True):
                np.testing.assert_allclose(found[name], array, rtol=1e-5, atol=1e-5)


def test_profiles_follow_from_the_spec(tmp_path: Path) -> None:
    """The least size is that of the layers, and crops are of the net's input."""
    text = HEADS.replace("prob conv2_2 fc3", "conv2_2 prob").replace("scale 32", "scale 40")
    spec, weights = small(tmp_path, f"{text}  crops 2x2\n")
    manifest = vggspec.compile(spec, weights=weights, out=tmp_path / "b").manifest
    (profile,) = vggspec.inspect(tmp_path / "b").test_profiles
    assert profile.max == (10, 32, 32)
    assert manifest.window == (32, 32)


# Manifests of strangers.


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"labels": ("a",) * 10}, "labels"),
        ({"format": 2}, "format"),
        ({"outputs.1.name": "conv1_2"}, "outputs"),
        ({"outputs.0.size": [0, 3]}, "size"),
        ({"outputs.0.position": {"start": [0, 0], "window": [0, 1], "stride": [1, 1]}}, "window"),
        ({"outputs.0.is_map": False}, "position"),
    ],
)
def test_a_manifest_that_contradicts_itself(
    change: dict[str, Any], words: str, tmp_path: Path
) -> None:
    spec, weights = made(tmp_path, "lpips")
    vggspec.compile(spec, weights=weights, out=tmp_path / "b")
    rewrite(tmp_path / "b", change)
    with refused(f"VGG522.*{words}"):
        open_bundle(tmp_path / "b")


# The guide.


def test_the_example_of_the_guide_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a net of the same layers with fewer channels."""
    text = (ROOT / "docs" / "compiling.md").read_text("utf-8")
    section = text.split("## Several outputs\n")[1].split("\n## ")[0]
    (spec,) = re.findall(r"```vgg\n(.*?)```", section, re.DOTALL)
    (code,) = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    narrow(tmp_path, "lpips")
    (tmp_path / "taps.vgg").write_text(spec, "utf-8")
    random_weights(load_network(str(tmp_path / "D.vgg")), tmp_path / "D.safetensors")
    picture(tmp_path / "photo.jpg", (150, 131))
    monkeypatch.chdir(tmp_path)
    space: dict[str, Any] = {}
    exec(compile(code, "compiling.md", "exec"), space)
    assert space["maps"]["conv3_3"].shape == (16, 37, 32)
    assert space["half"]["conv1_2"].shape == (4, 147, 128)
    x = torch.from_numpy(images(1, 3, 40, 44)).requires_grad_()
    space["module"](x)["conv3_3"].sum().backward()
    assert x.grad is not None
