"""Keras's files, written by Keras, give our module Keras's class scores."""

import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import vggspec
from tests.keras_nets import keras, narrowed, randomised, saved
from tests.nets import disagreement
from tests.refusals import refused
from vggspec.compiler.importing.checkpoint import read_checkpoint
from vggspec.compiler.weights import open_weights

# Keras's own, of NumPy 2 and of layers that it cannot quantise.
pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation:DeprecationWarning", "ignore:.*`quantize` method:UserWarning"
)

FILES = ("legacy.h5", "whole.h5", "net.weights.h5", "net.keras")
CONVS = {"VGG16": (2, 2, 3, 3, 3), "VGG19": (2, 2, 4, 4, 4)}
WIDTHS = (64, 128, 256, 512, 512)


def spec_of(name: str, by: int, size: tuple[int, int]) -> str:
    lines = [f"net n\ninput {size[0]}x{size[1]} RGB"]
    for convs, width in zip(CONVS[name], WIDTHS, strict=True):
        lines += [f"conv3-{width // by} x{convs}", "maxpool"]
    return "\n".join([*lines, f"FC-{4096 // by} FC-{4096 // by} FC-10 soft-max", ""])


def imported(spec: str, path: Path, **options: Any) -> torch.nn.Module:
    written, out = path.with_suffix(".vgg"), path.with_suffix(".safetensors")
    written.write_text(spec)
    given = vggspec.ImportOptions(**options)
    vggspec.import_weights(written, path, out=out, options=given)
    return vggspec.torch_module(written, out).eval()


def pixels(size: tuple[int, int]) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (2, *size, 3)).astype(np.float32)


def posteriors(module: torch.nn.Module, images: np.ndarray) -> np.ndarray:
    """Of pixels in RGB, normalised as the weights file says."""
    image = module.network.input
    mean, std = (np.array(of, np.float32) for of in (image.mean, image.std or (1, 1, 1)))
    x = torch.from_numpy(((images - mean) / std * image.scale).astype(np.float32))
    with torch.inference_mode():
        return module(x.permute(0, 3, 1, 2)).numpy()


def theirs(model: Any, images: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        return model(images).numpy()


@pytest.mark.parametrize(
    ("name", "by", "size"),
    [
        ("VGG16", 16, (64, 96)),
        ("VGG19", 16, (64, 96)),
        pytest.param("VGG16", 1, (224, 224), marks=pytest.mark.slow),
        pytest.param("VGG19", 1, (224, 224), marks=pytest.mark.slow),
    ],
)
def test_class_scores_are_keras(name: str, by: int, size: tuple[int, int], tmp_path: Path) -> None:
    """On maps of 2 × 3, by which a wrong order of the first FC's columns would be seen."""
    model = narrowed(name, by, size)
    images = pixels(size)
    expected = theirs(model, keras().applications.vgg16.preprocess_input(images.copy()))
    assert expected.max() < 0.9
    for file in FILES:
        path = saved(model, tmp_path / file)
        module = imported(spec_of(name, by, size), path)
        assert module.network.input.mean == (123.68, 116.779, 103.939), file
        assert open_weights(path.with_suffix(".safetensors")).metadata.source == "keras"
        assert disagreement(posteriors(module, images), expected) < 1e-5, file
        path.unlink()


RESNET50 = """\
net resnet50
input 64x96 RGB
conv is conv BN(eps 1.001e-5) ReLU
block bottleneck(c, s = 1):
  conv1-{c}/{s}(once)
  conv3-{c}
  conv1-{4*c}
  + shortcut
conv7-8/2 as conv1
maxpool3/2(pad 1)
bottleneck(8) x3 as conv2
bottleneck(16, 2) x4 as conv3
bottleneck(32, 2) x6 as conv4
bottleneck(64, 2) x3 as conv5
gap FC-10 soft-max
"""


def test_resnets_are_matched_by_their_names(tmp_path: Path) -> None:
    """Keras lists the shortcut beside a block's last conv, which has the same shape."""
    model = narrowed("ResNet50", 8, (64, 96))
    images = pixels((64, 96))
    expected = theirs(model, keras().applications.resnet.preprocess_input(images.copy()))
    before = model.get_weights()
    for file in ("legacy.h5", "net.weights.h5"):
        path = saved(model, tmp_path / file)
        module = imported(RESNET50, path, source="keras")
        assert disagreement(posteriors(module, images), expected) < 1e-5, file
        spec, weights = path.with_suffix(".vgg"), path.with_suffix(".safetensors")
        vggspec.export_weights(spec, weights, to="keras", out=path)
        model.set_weights([np.zeros_like(array) for array in before])
        model.load_weights(path)
        for one, same, weight in zip(before, model.get_weights(), model.weights, strict=True):
            np.testing.assert_array_equal(one, same, weight.path)


OWN = """\
net own
input 24x24 RGB(mean 0)
conv3-8(no-bias) BN(eps 0.003)
dwconv3(pad 0)
conv3-16(groups 8)
conv1-8(linear) BN(eps 0.001)
conv3-8 x2
gap
FC-4
soft-max
"""


def own() -> Any:
    layers = keras().layers
    return randomised(
        keras().Sequential(
            [
                keras().Input((24, 24, 3)),
                layers.Conv2D(8, 3, padding="same", use_bias=False),
                layers.BatchNormalization(epsilon=0.003),
                layers.ReLU(),
                layers.DepthwiseConv2D(3),
                layers.ReLU(),
                layers.DepthwiseConv2D(3, padding="same", depth_multiplier=2),
                layers.ReLU(),
                layers.Conv2D(8, 1),
                layers.BatchNormalization(scale=False),
                layers.Dropout(0.5),
                layers.Conv2D(8, 3, padding="same", activation="relu"),
                layers.Conv2D(8, 3, padding="same", activation="relu"),
                layers.GlobalAveragePooling2D(),
                layers.Dense(4, activation="softmax", name="out"),
            ]
        )
    )


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("keras")
    model = own()
    for file in FILES:
        saved(model, folder / file)
    images = pixels((24, 24)) / 255
    np.savez(folder / "peer.npz", images=images, scores=theirs(model, images))
    return folder


@pytest.fixture
def file(files: Path, tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    return Path(shutil.copy(files / request.param, tmp_path))


EACH = pytest.mark.parametrize("file", FILES, indirect=True)


@EACH
def test_a_net_of_ones_own(file: Path, files: Path) -> None:
    with np.load(files / "peer.npz") as archive:
        peer = dict(archive)
    if file.name == "net.weights.h5":
        with refused("a batch normalisation with 3 variables"):
            imported(OWN, file)
        return
    module = imported(OWN, file)
    assert disagreement(posteriors(module, peer["images"]), peer["scores"]) < 1e-5


@EACH
def test_layers_and_their_order(file: Path) -> None:
    if file.name == "net.weights.h5":
        return
    read = read_checkpoint(file)
    layers = list(dict.fromkeys(name.rpartition("/")[0] for name in read.tensors))
    kinds = [layer.rstrip("_0123456789") for layer in layers]
    convs = ["conv2d", "batch_normalization", "depthwise_conv2d", "depthwise_conv2d", "conv2d"]
    expected = [*convs, "batch_normalization", "conv2d", "conv2d", "out"]
    assert [kind.removesuffix("2d") for kind in kinds] == [k.removesuffix("2d") for k in expected]
    assert read.known.layout == "hwio"
    assert read.has_order
    norms = [layer for layer in layers if "norm" in layer]
    found = [read.known.epsilons.get(norm) for norm in norms]
    assert found == ([None, None] if file.name == "legacy.h5" else [0.003, 0.001])
    assert not read.skipped


@EACH
def test_another_epsilon_is_refused_where_the_file_says_it(file: Path) -> None:
    wrong = OWN.replace("eps 0.003", "eps 1e-5")
    if file.name in ("whole.h5", "net.keras"):
        with refused(r"VGG549.*adds 0\.003 to its variance, `bn1_1` adds 1e-05"):
            imported(wrong, file)
    elif file.name == "legacy.h5":
        imported(wrong, file)


def test_more_than_ten_layers_of_one_class_without_a_model(tmp_path: Path) -> None:
    """``conv2d_10`` sorts before ``conv2d_2``, and HDF5 lists groups by their names."""
    layers = keras().layers
    convs = [layers.Conv2D(3, 1, name=f"c{'zyxwvutsrqpo'[i]}") for i in range(12)]
    model = randomised(keras().Sequential([keras().Input((8, 8, 3)), *convs]))
    path = saved(model, tmp_path / "net.weights.h5")
    read = read_checkpoint(path)
    for conv in convs:
        np.testing.assert_array_equal(read.tensors[f"{conv.name}/kernel"], conv.kernel.numpy())
    assert list(read.tensors)[::2] == [f"{conv.name}/kernel" for conv in convs]
    # Files before Keras 3.2 have no names.
    import h5py

    with h5py.File(path, "r+") as file:
        for name in file["layers"]:
            del file[f"layers/{name}/vars"].attrs["name"]
    kernels = [tensor for name, tensor in read_checkpoint(path).tensors.items() if "kernel" in name]
    for conv, kernel in zip(convs, kernels, strict=True):
        np.testing.assert_array_equal(kernel, conv.kernel.numpy())


@pytest.mark.parametrize("file", ["net.keras"], indirect=True)
def test_an_archive_without_names_takes_them_from_its_model(file: Path, tmp_path: Path) -> None:
    import h5py

    expected = read_checkpoint(file)
    with zipfile.ZipFile(file) as archive:
        archive.extractall(tmp_path / "x")
    weights = tmp_path / "x" / "model.weights.h5"
    with h5py.File(weights, "r+") as h5:
        for name in h5["layers"]:
            del h5[f"layers/{name}/vars"].attrs["name"]
        h5.move("layers", "_layer_checkpoint_dependencies")  # as Keras 2.12 called it
        h5.create_dataset("optimizer/vars/0", data=np.zeros((3, 3, 8, 8), np.float32))
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("config.json", "model.weights.h5"):
            archive.write(tmp_path / "x" / name, name)
    found = read_checkpoint(file)
    assert list(found.tensors) == list(expected.tensors)
    assert found.known.epsilons == expected.known.epsilons
    for name, tensor in expected.tensors.items():
        np.testing.assert_array_equal(found.tensors[name], tensor)
    config = json.loads((tmp_path / "x" / "config.json").read_text())
    config["config"]["layers"] = [
        layer for layer in config["config"]["layers"] if layer["class_name"] != "Dense"
    ]
    (tmp_path / "x" / "config.json").write_text(json.dumps(config))
    with zipfile.ZipFile(file, "w") as archive:
        for name in ("config.json", "model.weights.h5"):
            archive.write(tmp_path / "x" / name, name)
    with refused("VGG551.*1 layers? `dense`"):
        read_checkpoint(file)


@pytest.mark.parametrize("form", ["legacy.h5", "whole.h5", "net.weights.h5", "net.keras"])
def test_a_model_within_a_model(form: str, tmp_path: Path) -> None:
    """As one adapts a net to classes of one's own, its layers frozen and trained for a step."""
    layers = keras().layers
    inner = keras().Sequential(
        [keras().Input((8, 8, 3)), layers.Conv2D(4, 3, name="block1_conv1"),
         layers.BatchNormalization(name="norm"), layers.ReLU()], name="body",
    )  # fmt: skip
    model = keras().Sequential(
        [keras().Input((8, 8, 3)), inner, layers.GlobalAveragePooling2D(), layers.Dense(2)]
    )
    randomised(model)
    inner.trainable = False
    model.compile("adam", "mse")
    model.train_on_batch(np.zeros((1, 8, 8, 3)), np.zeros((1, 2)))
    read = read_checkpoint(saved(model, tmp_path / form))
    last = [f"{model.layers[-1].name}/{p}" for p in ("kernel", "bias")]
    expected = {f"body/block1_conv1/{p}" for p in ("kernel", "bias")}
    expected |= {f"body/norm/{p}" for p in ("gamma", "beta", "moving_mean", "moving_variance")}
    assert set(read.tensors) == expected | set(last)
    assert form == "net.weights.h5" or list(read.tensors)[-2:] == last
    norm = inner.layers[1]
    for part in ("gamma", "beta", "moving_mean", "moving_variance"):
        np.testing.assert_array_equal(
            read.tensors[f"body/norm/{part}"], getattr(norm, part).numpy()
        )


def test_what_else_a_model_computes_is_said(tmp_path: Path) -> None:
    layers = keras().layers
    model = keras().Sequential(
        [keras().Input((8, 8, 3)), layers.Rescaling(1 / 255, name="to_one"), layers.Conv2D(4, 3),
         layers.PReLU(shared_axes=[1, 2], name="learned"), layers.GlobalAveragePooling2D()]
    )  # fmt: skip
    path = saved(model, tmp_path / "net.keras")
    (note,) = read_checkpoint(path).known.notes
    assert "`to_one`" in note
    spec = "net n\ninput 8x8 RGB(mean 0)\nconv3-4(pad 0)\ngap\n"
    for form in ("net.keras", "net.weights.h5", "whole.h5"):
        with refused("VGG546.*`learned/"):
            imported(spec, saved(model, tmp_path / form))
    imported(spec, path, ignored=("learned",))


@pytest.mark.parametrize("policy", ["float16", "bfloat16", "float64"])
def test_other_number_types(policy: str, tmp_path: Path) -> None:
    layers = keras().layers
    conv = layers.Conv2D(4, 3, dtype=policy)
    model = keras().Sequential([keras().Input((8, 8, 3)), conv])
    path = saved(model, tmp_path / "net.weights.h5")
    (kernel, _) = read_checkpoint(path).tensors.values()
    expected = conv.kernel.value.detach().float().numpy()
    np.testing.assert_array_equal(kernel, expected)


def test_quantised_weights_are_refused(tmp_path: Path) -> None:
    dense = keras().layers.Dense(4)
    model = keras().Sequential([keras().Input((8,)), dense])
    model.quantize("int8")
    with refused("VGG555.*quantised"):
        read_checkpoint(saved(model, tmp_path / "net.weights.h5"))


@pytest.mark.parametrize("file", ["whole.h5"], indirect=True)
def test_another_layout_than_keras_is_refused(file: Path) -> None:
    with refused("VGG547.*`--layout oihw`.*hwio"):
        imported(OWN, file, layout="oihw")
