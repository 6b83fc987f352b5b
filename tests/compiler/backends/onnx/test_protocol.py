"""The graph that holds the test protocol gives what the protocol gives, written out with PyTorch.

The reference here decodes nothing of ours but the weights: Pillow rescales, PyTorch's modules are
applied, FC layers as convolutions, and numpy averages.
"""

from collections.abc import Callable, Sequence
from fractions import Fraction
from math import floor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import shape_inference
from onnx.reference import ReferenceEvaluator
from PIL import Image
from torch import nn

from tests.nets import SMALL, net, openvino, random_weights, run_onnx, session
from tests.refusals import refused
from vggspec.bundle.manifest import MODEL
from vggspec.bundle.opening import open_bundle
from vggspec.bundle.options import CompileOptions
from vggspec.compiler.backends.onnx.graph import FLOAT, INT64, UINT8, OnnxGraph, tensor_info
from vggspec.compiler.backends.onnx.protocol import GUARD, Sizes
from vggspec.compiler.backends.onnx.rescaling import Rescaling
from vggspec.compiler.backends.torch import module as torch_module
from vggspec.compiler.bundling.graph import write_bundle
from vggspec.compiler.bundling.protocol import write_protocol_bundle
from vggspec.compiler.lower import Lowered
from vggspec.compiler.weights import WeightsFile
from vggspec.runtime.preprocess import normalise

Pixels = NDArray[np.uint8]
Net = tuple[Lowered, WeightsFile]

#: Pixels are Pillow's to the byte, so what is left is float32's.
ROUNDING = 1e-6

COLOURS = {
    "RGB": "RGB(mean 120 115 100, std 58 57 56)",
    "BGR": "BGR(mean 100 110 120, std 56 57 58)",
    "scale": "RGB(mean 127.5, scale 1/127.5)",
    "gray": "gray(mean 99, std 61)",
}
NETS = {
    "plain": "conv3-6\nmaxpool\nconv3-8\nmaxpool\nFC-12\nFC-5\nsoft-max",
    "BN and LRN": "conv3-8 BN  conv3-8\nmaxpool\nconv3-16(groups 2) LRN\nmaxpool\nFC-5\nsoft-max",
    "gap": "conv3-8\nmaxpool\nconv3-8\nmaxpool\nconv1-5(linear)\ngap\nsoft-max",
    "map": "conv3-8\nmaxpool\nconv3-8\nmaxpool\nconv1-5(linear)\nsoft-max",
    "large FC": "conv3-64\nmaxpool\nconv3-16\nmaxpool\nmaxpool\nFC-7300\nFC-5\nsoft-max",
    "ceil": "conv3-8\nmaxpool(ceil)\nconv3-8\nmaxpool(ceil)\nFC-5\nsoft-max",
}


def made(
    folder: Path, body: str, colour: str = COLOURS["RGB"], seed: int = 0, test: str = ""
) -> Net:
    lowered = net(f"net t{seed}\ninput 24x24 {colour}\n{body}\n{test}")
    return lowered, random_weights(lowered, folder / f"{seed}.safetensors", seed)


def picture(*shape: int, seed: int = 0) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def load(model: str | bytes) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1  # on nets this small more would wait for each other
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def run(folder: Path, image: Pixels, scales: Sequence[int]) -> NDArray[np.float32]:
    feeds = {"picture": image, "scales": np.array(scales, np.int64)}
    (posteriors,) = load(str(folder / "1/model.onnx")).run(None, feeds)
    assert isinstance(posteriors, np.ndarray)
    return posteriors


def size_at(size: tuple[int, int], scale: int) -> tuple[int, int]:
    """Rows and columns; halves are rounded up."""
    rows, columns = (floor(Fraction(n * scale, min(size)) + Fraction(1, 2)) for n in size)
    return rows, columns


def resized(image: Pixels, size: tuple[int, int]) -> Pixels:
    """By Pillow, along rows, then columns; of itself Pillow 13 takes some images in another way."""
    source = Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image)
    small = source.resize((size[1], image.shape[0]), Image.Resampling.BILINEAR)
    small = small.resize(size[::-1], Image.Resampling.BILINEAR)
    return np.asarray(small).reshape(*size, image.shape[2])


def score_map(lowered: Lowered, weights: WeightsFile, x: torch.Tensor) -> torch.Tensor:
    """``(N, K, h, w)``: the layers of the net as the spec has them, FC layers slid over the map."""
    module = torch_module.loaded(lowered.network, weights).eval()
    at = torch.zeros(1, *lowered.network.input.type.shape)  # at the net's own size
    for child in module.children():
        if isinstance(child, nn.Linear):
            rows, columns = at.shape[2:] if at.ndim == 4 else (1, 1)
            kernel = child.weight.reshape(child.out_features, -1, rows, columns)
            x = nn.functional.conv2d(x, kernel, child.bias)
            at = torch.zeros(1, child.out_features, 1, 1)
        elif not isinstance(child, nn.Flatten | nn.Softmax | nn.Dropout):
            x, at = child(x), child(at)
    return x


def by_hand(
    nets: Sequence[Net], image: Pixels, scales: Sequence[int], *, flip: bool, average: str
) -> NDArray[np.float64]:
    found = []
    for lowered, weights in nets:
        wants = lowered.network.input
        for scale in scales:
            small = resized(image, size_at(image.shape[:2], scale))
            for side in [small, small[:, ::-1]] if flip else [small]:
                pixels = side[..., ::-1] if wants.color == "BGR" else side
                assert wants.mean is not None
                x = (pixels - np.array(wants.mean)) * wants.scale / np.array(wants.std or 1.0)
                planes = torch.from_numpy(x.transpose(2, 0, 1)[np.newaxis].astype(np.float32))
                with torch.inference_mode():
                    scores = score_map(lowered, weights, planes).double()
                if average == "scores":
                    found.append(scores.mean((2, 3)).softmax(1))
                else:
                    found.append(scores.softmax(1).mean((2, 3)))
    return torch.cat(found).mean(0).numpy()


def photographs() -> list[Pixels]:
    """427 × 640, of a palace and of a flower."""
    from sklearn.datasets import load_sample_images

    return list(load_sample_images().images)


@pytest.mark.parametrize("flip", [True, False])
@pytest.mark.parametrize("average", ["scores", "posteriors"])
@pytest.mark.parametrize("colour", COLOURS)
def test_it_is_the_protocol_written_out(
    colour: str, average: str, flip: bool, tmp_path: Path
) -> None:
    one = made(tmp_path, NETS["plain"], COLOURS[colour])
    options = CompileOptions(average=average, flip=flip)
    write_protocol_bundle([one], tmp_path / "b", options)
    channels = one[0].network.input.channels
    # Landscape, portrait, odd sides, smaller than any scale, and long.
    for size in [(45, 61), (61, 45), (33, 33), (19, 23), (24, 99)]:
        image, scales = picture(*size, channels), (24, 31, 40)
        expected = by_hand([one], image, scales, flip=flip, average=average)
        np.testing.assert_allclose(run(tmp_path / "b", image, scales), expected, atol=ROUNDING)


@pytest.mark.parametrize("body", NETS)
def test_any_net(body: str, tmp_path: Path) -> None:
    one = made(tmp_path, NETS[body])
    write_protocol_bundle([one], tmp_path / "b", CompileOptions())
    image = picture(52, 41, 3)
    expected = by_hand([one], image, (24, 33), flip=True, average="scores")
    np.testing.assert_allclose(run(tmp_path / "b", image, (24, 33)), expected, atol=ROUNDING)


def test_where_nothing_is_rescaled_only_rounding_is_left(tmp_path: Path) -> None:
    one = made(tmp_path, NETS["BN and LRN"])
    write_protocol_bundle([one], tmp_path / "b", CompileOptions())
    for size in [(24, 24), (25, 24), (24, 25), (31, 47), (64, 33)]:
        image = picture(*size, 3)
        expected = by_hand([one], image, [min(size)], flip=True, average="scores")
        np.testing.assert_allclose(run(tmp_path / "b", image, [min(size)]), expected, atol=ROUNDING)


def test_fused_nets_each_have_their_own_input(tmp_path: Path) -> None:
    nets = [
        made(tmp_path, NETS["plain"], COLOURS["RGB"], 0),
        made(tmp_path, NETS["BN and LRN"], COLOURS["BGR"], 1),
        made(tmp_path, NETS["gap"], COLOURS["scale"], 2),
    ]
    write_protocol_bundle(nets, tmp_path / "b", CompileOptions())
    image = picture(44, 57, 3)
    expected = by_hand(nets, image, (24, 37), flip=True, average="scores")
    np.testing.assert_allclose(run(tmp_path / "b", image, (24, 37)), expected, atol=ROUNDING)
    alone = [by_hand([one], image, (24, 37), flip=True, average="scores") for one in nets]
    assert np.abs(alone[0] - expected).max() > 0.01, "the nets differ"
    np.testing.assert_allclose(np.mean(alone, axis=0), expected, atol=ROUNDING)


def test_each_net_averages_as_its_spec_says(tmp_path: Path) -> None:
    nets = [
        made(tmp_path, NETS["map"], seed=0, test="test:\n  average posteriors"),
        made(tmp_path, NETS["map"], seed=1),
    ]
    write_protocol_bundle(nets, tmp_path / "b", CompileOptions())
    image = picture(24, 31, 3)
    ways = ("posteriors", "scores")
    expected = [
        by_hand([one], image, [24], flip=True, average=way)
        for one, way in zip(nets, ways, strict=True)
    ]
    np.testing.assert_allclose(
        run(tmp_path / "b", image, [24]), np.mean(expected, axis=0), atol=ROUNDING
    )
    members = open_bundle(tmp_path / "b").manifest.members
    assert tuple(member.average for member in members) == ways


@pytest.mark.parametrize("chosen", [{"stride": 2}, {"pool": "ceil"}], ids=["stride", "pool"])
def test_what_is_chosen_of_a_net_goes_into_the_protocol(
    chosen: dict[str, Any], tmp_path: Path
) -> None:
    lowered, weights = made(tmp_path, NETS["plain"])
    image = picture(25, 31, 3)
    plain = write_bundle(lowered, weights, tmp_path / "net", CompileOptions(**chosen))
    feed = normalise(image[np.newaxis], plain.manifest.input)
    expected = run_onnx(session(tmp_path / "net/1/model.onnx"), feed)["posteriors"][0]
    options = CompileOptions(flip=False, **chosen)
    write_protocol_bundle([(lowered, weights)], tmp_path / "b", options)
    found = run(tmp_path / "b", image, [25])
    np.testing.assert_allclose(found, expected, atol=ROUNDING)
    write_protocol_bundle([(lowered, weights)], tmp_path / "b", CompileOptions(flip=False))
    assert np.abs(found - run(tmp_path / "b", image, [25])).max() > ROUNDING
    manifest = open_bundle(tmp_path / "net").manifest
    assert (manifest.pool, manifest.options.stride) == (chosen.get("pool"), chosen.get("stride"))


# Rescaling.


def small_session(
    add: Callable[[OnnxGraph], str], inputs: list[onnx.ValueInfoProto], kind: int, axes: list[str]
) -> ort.InferenceSession:
    graph = OnnxGraph("part", {})
    output = tensor_info(add(graph), kind, axes)
    model = graph.model(inputs, [output], {}, "0")
    onnx.checker.check_model(model, full_check=True)
    return load(model.SerializeToString())


@pytest.fixture(scope="module")
def sizes() -> ort.InferenceSession:
    def add(graph: OnnxGraph) -> str:
        return Sizes(graph, "size").at(graph, "scale", "rescaled")

    inputs = [tensor_info("size", INT64, (2,)), tensor_info("scale", INT64, ())]
    return small_session(add, inputs, INT64, ["two"])


def rescaling_model(channels: int) -> onnx.ModelProto:
    graph = OnnxGraph("part", {})
    output = tensor_info(Rescaling(graph, "x").add(graph, "size"), FLOAT, (1, channels, "h", "w"))
    inputs = [tensor_info("x", UINT8, ("H", "W", channels)), tensor_info("size", INT64, (2,))]
    model = graph.model(inputs, [output], {}, "0")
    onnx.checker.check_model(model, full_check=True)
    return model


Rescale = Callable[[Pixels, tuple[int, int]], NDArray[np.float32]]


def by_onnxruntime(model: onnx.ModelProto) -> Rescale:
    loaded = load(model.SerializeToString())
    return lambda x, size: loaded.run(None, {"x": x, "size": np.array(size)})[0]


def by_the_reference(model: onnx.ModelProto) -> Rescale:
    """ONNX's own definition of each operator, in numpy."""
    loaded = ReferenceEvaluator(model)
    return lambda x, size: loaded.run(None, {"x": x, "size": np.array(size)})[0]


def by_openvino(model: onnx.ModelProto) -> Rescale:
    core = openvino()
    compiled = core.compile_model(core.read_model(model.SerializeToString()), "CPU")
    return lambda x, size: compiled({"x": x, "size": np.array(size)})[0]


RUNTIMES = {
    "onnxruntime": by_onnxruntime,
    "openvino": by_openvino,
    "reference": by_the_reference,
}


@pytest.fixture(scope="module")
def rescaling() -> Rescale:
    of = {channels: by_onnxruntime(rescaling_model(channels)) for channels in (1, 3)}
    return lambda x, size: of[x.shape[2]](x, size)


side = st.integers(1, 1 << 16)


@given(rows=side, columns=side, scale=side)
def test_sizes_are_rounded_half_up(
    sizes: ort.InferenceSession, rows: int, columns: int, scale: int
) -> None:
    feeds = {"size": np.array([rows, columns]), "scale": np.array(scale)}
    assert tuple(sizes.run(None, feeds)[0]) == size_at((rows, columns), scale)


def is_as_by_pillow(of: Rescale, image: Pixels, size: tuple[int, int]) -> bool:
    found = of(image, size)[0].transpose(1, 2, 0)
    return np.array_equal(found, resized(image, size))


@pytest.mark.parametrize("scale", [256, 384, 512])
def test_photographs_are_rescaled_to_the_byte_as_by_pillow(rescaling: Rescale, scale: int) -> None:
    for image in photographs():
        for turned in (image, np.ascontiguousarray(image.transpose(1, 0, 2))):
            assert is_as_by_pillow(rescaling, turned, size_at(turned.shape[:2], scale))


# One pixel, a block of output and one more or less, long, tall, larger, smaller, both, neither.
@pytest.mark.parametrize("size", [(375, 500), (97, 61), (301, 299), (1, 1), (1, 700), (45, 2)])
@pytest.mark.parametrize("channels", [1, 3])
def test_noise_is_rescaled_to_the_byte_as_by_pillow(
    rescaling: Rescale, size: tuple[int, int], channels: int
) -> None:
    image = picture(*size, channels)
    for rows in (1, 15, 16, 17, 45, 224, 375):
        for columns in (1, 32, 61, 225, 513):
            assert is_as_by_pillow(rescaling, image, (rows, columns)), (rows, columns)


@pytest.mark.parametrize("value", [0, 1, 254, 255])
def test_flat_pictures_stay_as_they_are(rescaling: Rescale, value: int) -> None:
    image = np.full((31, 47, 3), value, np.uint8)
    for scale in (7, 31, 90):
        assert np.all(rescaling(image, size_at((31, 47), scale)) == value)


@pytest.mark.parametrize("name", RUNTIMES)
def test_runtimes_agree_on_every_pixel(name: str) -> None:
    of = RUNTIMES[name](rescaling_model(3))
    for rows, columns in ((48, 64), (61, 37), (200, 31)):
        image = picture(rows, columns, 3)
        for scale in (24, 37, 50):
            size = size_at((rows, columns), scale)
            assert is_as_by_pillow(of, image, size), (rows, columns, size)


def test_openvino_gives_the_posteriors_of_the_protocol(tmp_path: Path) -> None:
    one = made(tmp_path, NETS["BN and LRN"])
    write_protocol_bundle([one], tmp_path / "b", CompileOptions())
    compiled = openvino().compile_model(str(tmp_path / "b/1/model.onnx"), "CPU")
    for size in ((45, 61), (80, 33)):
        image, scales = picture(*size, 3), (24, 31, 40)
        found = compiled({"picture": image, "scales": np.array(scales, np.int64)})[0]
        expected = by_hand([one], image, scales, flip=True, average="scores")
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_photographs_at_three_scales(tmp_path: Path) -> None:
    lowered = net(SMALL)
    weights = random_weights(lowered, tmp_path / "w.safetensors")
    write_protocol_bundle([(lowered, weights)], tmp_path / "b", CompileOptions())
    for image in photographs():
        expected = by_hand([(lowered, weights)], image, (64, 96, 128), flip=True, average="scores")
        found = run(tmp_path / "b", image, (64, 96, 128))
        np.testing.assert_allclose(found, expected, atol=ROUNDING)
        assert list(np.argsort(-found)[:5]) == list(np.argsort(-expected)[:5])


# What cannot be seen.


@pytest.mark.parametrize("scales", [[23], [40, 23], [0], [-24], []])
def test_what_is_smaller_than_the_window_fails(scales: list[int], tmp_path: Path) -> None:
    write_protocol_bundle([made(tmp_path, NETS["plain"])], tmp_path / "b", CompileOptions())
    with pytest.raises(Exception, match=GUARD):
        run(tmp_path / "b", picture(30, 40, 3), scales)


@pytest.mark.parametrize("size", [(0, 0, 3), (0, 5, 3), (5, 0, 3)])
def test_an_empty_picture_fails(size: tuple[int, ...], tmp_path: Path) -> None:
    write_protocol_bundle([made(tmp_path, NETS["plain"])], tmp_path / "b", CompileOptions())
    with pytest.raises(Exception, match=GUARD):
        run(tmp_path / "b", picture(*size), [24])


def test_the_least_size_is_that_of_the_net(tmp_path: Path) -> None:
    """Where poolings round up a net sees a little less than its window; of two nets both must."""
    ceil = made(tmp_path, NETS["ceil"])
    write_protocol_bundle([ceil], tmp_path / "b", CompileOptions())
    least = open_bundle(tmp_path / "b").manifest.input.size
    assert least[0] == least[1] < 24
    assert run(tmp_path / "b", picture(*least, 3), [least[0]]).sum() == pytest.approx(1)
    with pytest.raises(Exception, match=GUARD):
        run(tmp_path / "b", picture(*least, 3), [least[0] - 1])
    both = [ceil, made(tmp_path, NETS["plain"], seed=1)]
    write_protocol_bundle(both, tmp_path / "b", CompileOptions())
    assert open_bundle(tmp_path / "b").manifest.input.size == (24, 24)
    with pytest.raises(Exception, match=GUARD):
        run(tmp_path / "b", picture(*least, 3), [least[0]])


# The graph.


@pytest.mark.parametrize("number", [1, 2])
def test_the_checker_accepts_it_in_full(number: int, tmp_path: Path) -> None:
    nets = [made(tmp_path, NETS["BN and LRN"], seed=seed) for seed in range(number)]
    write_protocol_bundle(nets, tmp_path / "b", CompileOptions())
    path = tmp_path / "b/1/model.onnx"
    onnx.checker.check_model(str(path), full_check=True)
    model = onnx.load(path, load_external_data=False)
    inferred = shape_inference.infer_shapes(
        model, check_type=True, strict_mode=True, data_prop=True
    )
    (posteriors,) = inferred.graph.output
    assert [axis.dim_value for axis in posteriors.type.tensor_type.shape.dim] == [5]


def test_a_single_file_gives_the_same_numbers(tmp_path: Path) -> None:
    nets = [made(tmp_path, NETS["BN and LRN"], seed=seed) for seed in range(2)]
    write_protocol_bundle(nets, tmp_path / "b", CompileOptions())
    write_protocol_bundle(nets, tmp_path / "one", CompileOptions(single_file=True))
    assert {path.name for path in (tmp_path / "one/1").iterdir()} == {"model.onnx"}
    onnx.checker.check_model(str(tmp_path / "one/1/model.onnx"), full_check=True)
    manifest = open_bundle(tmp_path / "one", deep=True).manifest
    assert [member.weights for member in manifest.members] == [MODEL, MODEL]
    given = picture(40, 53, 3)
    np.testing.assert_array_equal(
        run(tmp_path / "one", given, [40, 32]), run(tmp_path / "b", given, [40, 32])
    )


def test_weights_too_large_for_one_file_are_counted_over_all_nets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nets = [made(tmp_path, NETS["plain"], seed=seed) for seed in range(2)]
    size = sum(4 * param.num_elements for param in nets[0][0].network.params())
    monkeypatch.setattr("vggspec.compiler.backends.onnx.model.MAX_EMBEDDED_BYTES", 2 * size - 1)
    options = CompileOptions(single_file=True)
    write_protocol_bundle(nets[:1], tmp_path / "b", options)
    with refused("VGG301"):
        write_protocol_bundle(nets, tmp_path / "two", options)
    assert not (tmp_path / "two").exists()


def test_weights_stand_once_and_outside_the_loop(tmp_path: Path) -> None:
    nets = [made(tmp_path, NETS["BN and LRN"], seed=seed) for seed in range(2)]
    write_protocol_bundle(nets, tmp_path / "b", CompileOptions())
    path = tmp_path / "b/1/model.onnx"
    assert path.stat().st_size < 28 << 10
    graph = onnx.load(path, load_external_data=False).graph
    external = {tensor.name for tensor in graph.initializer if tensor.external_data}
    params = {f"{low.network.name}/{p.name}" for low, _ in nets for p in low.network.params()}
    assert external == params
    (loop,) = (node for node in graph.node if node.op_type == "Loop")
    body = next(attribute.g for attribute in loop.attribute if attribute.name == "body")
    assert not any(tensor.external_data for tensor in body.initializer)
    names = [node.name for node in (*graph.node, *body.node)]
    outputs = [name for node in (*graph.node, *body.node) for name in node.output]
    tensors = [tensor.name for tensor in (*graph.initializer, *body.initializer)]
    for each in (names, [*outputs, *tensors]):
        assert len(set(each)) == len(each)


@pytest.mark.parametrize("single_file", [False, True])
def test_onnx_runtime_lays_out_the_convolutions_of_the_loop_as_those_of_a_bundle(
    tmp_path: Path, *, single_file: bool
) -> None:
    """In blocks of channels for vector units; weights must be constants of the body for that."""
    lowered, weights = made(tmp_path, "conv3-32\nconv3-32\nmaxpool\nFC-32\nFC-5\nsoft-max")
    write_bundle(lowered, weights, tmp_path / "plain", CompileOptions(form="dense"))
    write_protocol_bundle(
        [(lowered, weights)], tmp_path / "protocol", CompileOptions(single_file=single_file)
    )
    plain = optimised(tmp_path / "plain").graph
    (loop,) = (
        node for node in optimised(tmp_path / "protocol").graph.node if node.op_type == "Loop"
    )
    body = next(attribute.g for attribute in loop.attribute if attribute.name == "body")
    expected = sum(is_convolution_in_blocks(node) for node in plain.node)
    if expected == 0:
        pytest.skip("this processor has no vector units for which ONNX Runtime lays out in blocks")
    assert sum(is_convolution_in_blocks(node) for node in body.node) == expected


def test_large_fc_layers_are_products_that_read_their_weights_outside_the_loop(
    tmp_path: Path,
) -> None:
    one = made(tmp_path, NETS["large FC"])
    write_protocol_bundle([one], tmp_path / "b", CompileOptions())
    graph = onnx.load(tmp_path / "b/1/model.onnx", load_external_data=False).graph
    (loop,) = (node for node in graph.node if node.op_type == "Loop")
    body = next(attribute.g for attribute in loop.attribute if attribute.name == "body")
    outside = {tensor.name for tensor in graph.initializer if tensor.external_data}
    products = [node for node in body.node if node.op_type == "Gemm" and node.input[1] in outside]
    assert [node.input[1] for node in products] == [f"{one[0].network.name}/fc4.weight"]
    onnx.checker.check_model(str(tmp_path / "b/1/model.onnx"), full_check=True)


def optimised(bundle: Path) -> onnx.ModelProto:
    """The graph as ONNX Runtime runs it."""
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(bundle.parent / f"{bundle.name}-optimised.onnx")
    options.log_severity_level = 3  # it warns that such a file is for this processor
    ort.InferenceSession(str(bundle / "1/model.onnx"), options, providers=["CPUExecutionProvider"])
    return onnx.load(options.optimized_model_filepath, load_external_data=False)


def is_convolution_in_blocks(node: onnx.NodeProto) -> bool:
    return node.op_type == "Conv" and node.domain == "com.microsoft.nchwc"
