"""MatConvNet's nets, as SciPy writes MATLAB's files and NumPy computes the nets."""

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io
from numpy.typing import NDArray

import vggspec
from tests.compiler.importing.test_layouts import channels_last, drawn, image, posteriors
from tests.refusals import refused
from vggspec.compiler.importing.checkpoint import read_checkpoint
from vggspec.compiler.importing.matlab import Array, read_variables
from vggspec.compiler.weights import open_weights

FloatArray = NDArray[np.float32]
NAMES = ("conv1", "conv2", "conv3", "fc4", "fc5", "fc6")


def cells(values: list[Any]) -> NDArray[np.object_]:
    """A cell array of one row."""
    found = np.empty((1, len(values)), object)
    for i, value in enumerate(values):
        found[0, i] = value
    return found


def kernels() -> list[tuple[str, FloatArray, FloatArray]]:
    """The layers of the net in ``test_layouts``, all as rows, columns, in, out."""
    arrays = drawn()
    found = []
    for i, name in enumerate(NAMES):
        weight = arrays[f"w{i}"]
        if i == 3:
            weight = weight.reshape(3, 5, 6, 7)
        elif i > 3:
            weight = weight.reshape(1, 1, *weight.shape)
        found.append((name, weight, arrays[f"b{i}"]))
    return found


def simple(*, is_old: bool = False) -> dict[str, Any]:
    """The variables of a simple net, with layers that have no arrays between the others."""
    layers: list[Any] = []
    for name, weight, bias in kernels():
        # The biases of old files are columns, later ones' rows.
        arrays = (
            {"filters": weight, "biases": bias[:, None]}
            if is_old
            else {"weights": cells([weight, bias[None]])}
        )
        layers += [{"type": "conv", "name": name, "stride": 1.0, **arrays}, {"type": "relu"}]
    net: dict[str, Any] = {"layers": cells(layers)}
    labels = cells(["ant", "bee", "cat"])
    about = {
        "normalization": {"averageImage": np.array([120.0, 110, 100]), "imageSize": [12.0, 20, 3]},
        "classes": {"name": cells(["n1", "n2", "n3"]), "description": labels},
    }
    return net | (about if is_old else {"meta": about})


@pytest.mark.parametrize("kind", ["new", "old", "packed", "net"])
def test_a_simple_net(kind: str, tmp_path: Path) -> None:
    net = simple(is_old=kind == "old")
    path = tmp_path / "n.mat"
    variables = {"net": net} if kind == "net" else net
    scipy.io.savemat(path, variables, do_compression=kind == "packed")
    # The spec of test_layouts divides by a standard deviation, which a MatConvNet net has not.
    found = posteriors(tmp_path, "n.mat", "--from", "spec")
    np.testing.assert_allclose(found, channels_last(drawn(), image()), rtol=1e-4)
    read = read_checkpoint(path)
    assert (read.kind, read.known.source, read.known.layout) == ("matconvnet", "matconvnet", "hwio")
    assert read.known.mean == (120, 110, 100)
    assert open_weights(tmp_path / "n.safetensors").metadata.labels == ("ant", "bee", "cat")


def test_the_file_says_how_images_are_normalised(tmp_path: Path) -> None:
    """The mean image of an old net is averaged."""
    net = simple()
    rows = np.linspace(-5, 5, 12)[:, None, None]
    average = np.array([120.0, 110, 100]) + np.broadcast_to(rows, (12, 20, 3))
    net["meta"]["normalization"]["averageImage"] = average.astype(np.float32)
    scipy.io.savemat(tmp_path / "n.mat", net)
    text = "net n\ninput 12x20 RGB\nconv3-4\nmaxpool\nconv1x3-5 conv3-6\nmaxpool\nFC-7 FC-7 FC-3\n"
    (tmp_path / "n.vgg").write_text(text)
    notes: list[str] = []

    class Watch(vggspec.Watcher):
        def note(self, text: str) -> None:
            notes.append(text)

    out = tmp_path / "out"
    found = vggspec.import_weights(tmp_path / "n.vgg", tmp_path / "n.mat", out=out, watch=Watch())
    assert found.expected.input.mean == (120, 110, 100)
    assert (found.expected.source, found.expected.guessed_by) == ("matconvnet", None)
    assert "the mean image of 12 × 20 pixels was averaged to one mean a channel" in notes


def test_the_last_axis_that_matlab_drops(tmp_path: Path) -> None:
    """A layer with one output is (rows, columns, in) in MATLAB."""
    rng = np.random.default_rng(0)
    kernel, last = rng.random((3, 3, 2, 5), np.float32), rng.random((1, 1, 5), np.float32)
    layers = [
        {"type": "conv", "name": "a", "weights": cells([kernel, np.zeros((1, 5))])},
        {"type": "conv", "name": "b", "weights": cells([last, np.zeros((0, 0))])},
    ]
    scipy.io.savemat(tmp_path / "n.mat", {"layers": cells(layers)})
    tensors = read_checkpoint(tmp_path / "n.mat").tensors
    assert list(tensors) == ["a.weight", "a.bias", "b.weight"]
    np.testing.assert_array_equal(tensors["a.weight"], kernel)
    np.testing.assert_array_equal(tensors["b.weight"][..., 0], last)


@pytest.mark.parametrize("form", ["simple", "graph"])
def test_batch_normalisation(form: str, tmp_path: Path) -> None:
    """Its moments are mean and standard deviation, with its epsilon in the latter."""
    rng = np.random.default_rng(0)
    kernel, fc = rng.random((3, 3, 3, 4), np.float32), rng.random((1, 1, 4, 2), np.float32)
    gamma, beta = rng.random((4, 1), np.float32), rng.random((4, 1), np.float32)
    mean, variance = rng.random(4, np.float32), rng.random(4, np.float32) + 0.1
    moments = np.stack([mean, np.sqrt(variance + 1e-4)], 1)
    if form == "simple":
        layers = [
            {"type": "conv", "name": "c", "weights": cells([kernel, np.zeros((0, 0))])},
            {"type": "bnorm", "name": "n", "weights": cells([gamma, beta, moments])},
            {"type": "conv", "name": "f", "weights": cells([fc, np.zeros((1, 2))])},
        ]
        variables: dict[str, Any] = {"layers": cells(layers)}
    else:
        named = {"cw": kernel, "g": gamma, "b": beta, "m": moments, "fw": fc,
                 "fb": np.zeros((2, 1))}  # fmt: skip
        params = np.array(list(named.items()), [("name", "O"), ("value", "O")])
        norm = cells(["g", "b", "m"])
        listed = [
            ("c", "dagnn.Conv", cells(["cw"])), ("n", "dagnn.BatchNorm", norm),
            ("r", "dagnn.ReLU", cells([])), ("f", "dagnn.Conv", cells(["fw", "fb"])),
        ]  # fmt: skip
        layers_of = np.array(listed, [("name", "O"), ("type", "O"), ("params", "O")])
        variables = {"params": params, "layers": layers_of}
    scipy.io.savemat(tmp_path / "n.mat", variables)
    (tmp_path / "n.vgg").write_text("input 4x4 RGB(mean 1)\nconv3-4(no-bias) BN\ngap FC-2\n")
    out = tmp_path / "out"
    vggspec.import_weights(tmp_path / "n.vgg", tmp_path / "n.mat", out=out)
    found = open_weights(out)
    names = [name for name in found.tensors if name.endswith("running_var")]
    np.testing.assert_allclose(found.read(names[0]) + 1e-5, variance + 1e-4, rtol=1e-5)
    norm = names[0].removesuffix("running_var")
    np.testing.assert_array_equal(found.read(f"{norm}running_mean"), mean)
    np.testing.assert_array_equal(found.read(f"{norm}weight"), gamma[:, 0])
    np.testing.assert_array_equal(found.read(f"{norm}bias"), beta[:, 0])


def element(kind: int, data: bytes) -> bytes:
    return struct.pack("<II", kind, len(data)) + data + bytes(-len(data) % 8)


def matrix(kind: int, sides: tuple[int, ...], content: bytes, name: bytes = b"") -> bytes:
    shape = struct.pack(f"<{len(sides)}i", *sides)
    flags = struct.pack("<II", kind, 0)
    return element(14, element(6, flags) + element(5, shape) + element(1, name) + content)


HEAD = b"MATLAB 5.0 MAT-file".ljust(124) + b"\0\1IM"


def test_cells_within_cells_end_somewhere(tmp_path: Path) -> None:
    """SciPy's reader crashes the process on fifty thousand."""
    inner = matrix(6, (1, 1), element(9, bytes(8)))
    for _ in range(2_000):
        inner = matrix(1, (1, 1), inner, b"")
    (tmp_path / "n.mat").write_bytes(HEAD + inner)
    with refused("more than 16 cells within cells"):
        read_checkpoint(tmp_path / "n.mat")


def packed(data: bytes) -> bytes:
    compressed = zlib.compress(data, level=1)  # in about half the time
    return struct.pack("<II", 15, len(compressed)) + compressed


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (matrix(6, (1 << 30, 1 << 30), element(9, bytes(8)), b"x"), "another size than it says"),
        (matrix(6, (-1, 1), element(9, bytes(8)), b"x"), "no sound shape"),
        (matrix(1, (1, 1 << 30), b"", b"layers"), "another number of values"),
        (struct.pack("<II", 14, 1 << 31), "cut off within an element"),
        (struct.pack("<II", 15, 64) + bytes(64), "a compressed variable is damaged"),
        (packed(bytes(1 << 28)), "VGG556"),
        (packed(element(14, bytes(48)))[:-6], "cut off|damaged"),
        (matrix(6, (1, 1), element(9, bytes(8)), b"x"), "a net of MatConvNet has `layers`"),
        (b"", "VGG554"),
    ],
)  # fmt: skip
def test_what_contradicts_itself(content: bytes, words: str, tmp_path: Path) -> None:
    (tmp_path / "n.mat").write_bytes(HEAD + content)
    with refused(words):
        read_checkpoint(tmp_path / "n.mat")


def test_cut_files_are_noticed(tmp_path: Path) -> None:
    for is_packed in (False, True):
        scipy.io.savemat(tmp_path / "n.mat", simple(), do_compression=is_packed)
        data = (tmp_path / "n.mat").read_bytes()
        for length in range(1, len(data) - 8, len(data) // 40):
            (tmp_path / "cut.mat").write_bytes(data[:length])
            with refused("VGG55[0-4]"):
                read_checkpoint(tmp_path / "cut.mat")


def test_version_7_3_is_named(tmp_path: Path) -> None:
    (tmp_path / "n.mat").write_bytes(b"MATLAB 7.3 MAT-file, Platform".ljust(600))
    with refused("version 7.3"):
        read_checkpoint(tmp_path / "n.mat")


def test_numbers_of_every_type_and_order(tmp_path: Path) -> None:
    """SciPy reads what it wrote as ours does; the other order of bytes is of older machines."""
    rng = np.random.default_rng(0)
    arrays = {
        f"x{i}": (rng.random((2, 3, 4)) * 100).astype(kind)
        for i, kind in enumerate(("f4", "f8", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8"))
    }
    scipy.io.savemat(tmp_path / "n.mat", arrays)
    found = read_variables(str(tmp_path / "n.mat"))
    for name, array in arrays.items():
        value = found[name]
        assert isinstance(value, Array)
        np.testing.assert_array_equal(value.read(), array)
    big = struct.pack(">IIII", 14, 56, 6, 8) + struct.pack(">IIII", 6, 0, 5, 8)
    big += struct.pack(">iiII", 1, 2, 1 << 16 | 1, 0x78000000) + struct.pack(">IIff", 7, 8, 1.5, -2)
    (tmp_path / "big.mat").write_bytes(HEAD[:124] + b"\1\0MI" + big)
    value = read_variables(str(tmp_path / "big.mat"))["x"]
    assert isinstance(value, Array)
    np.testing.assert_array_equal(value.read(), [[1.5, -2]])
    theirs = scipy.io.loadmat(tmp_path / "big.mat")["x"]
    np.testing.assert_array_equal(theirs, [[1.5, -2]])
