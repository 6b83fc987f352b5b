"""Dense FC layers as matrix products give what their convolutions give."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from onnx import helper

import vggspec
from tests.nets import net, random_weights
from vggspec.base.diagnostic import VggspecError
from vggspec.bundle.opening import open_bundle
from vggspec.compiler.initialise import write_initial
from vggspec.runtime.fc_products import (
    place_of,
    replace_dense_fc,
    weights_of,
    with_products,
    worth_rows,
)
from vggspec.runtime.ort_session import OrtSession, profiled

#: Its first FC layer has a window of 8 × 12 over 24 channels; the next ones see single positions.
SPEC = """\
net wide
input 64x96 RGB(mean 0)
conv3-64 maxpool conv3-24 maxpool maxpool
FC-460 FC-32 FC-5
soft-max
train:
  start he
"""

SIZES = ((1, 64, 96), (2, 64, 97), (3, 87, 96), (2, 120, 161))


@pytest.fixture(scope="module", params=("fp32", "fp16"))
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The graph of a bundle."""
    folder = tmp_path_factory.mktemp(request.param)
    lowered = net(SPEC)
    write_initial(str(folder / "w"), lowered.network, lowered.experiment.train, 0)
    (folder / "wide.vgg").write_text(SPEC)
    vggspec.compile(
        folder / "wide.vgg", weights=folder / "w", out=folder / "b", precision=request.param
    )
    return open_bundle(folder / "b").model


def images(size: tuple[int, ...]) -> NDArray[np.float32]:
    number, rows, columns = size
    return np.random.default_rng(0).normal(0, 1, (number, 3, rows, columns)).astype(np.float32)


def test_the_answers_are_the_same(model: Path) -> None:
    graph = with_products(model)
    assert graph is not None
    kinds = [node.op_type for node in onnx.load_from_string(graph).graph.node]
    assert (kinds.count("MatMul"), kinds.count("Conv")) == (1, 4)
    written = model.read_bytes()
    with OrtSession(model, "cpu", graph=written) as file, OrtSession(model, "cpu") as products:
        assert products.inputs == file.inputs
        assert products.outputs == file.outputs
        for size in SIZES:
            expected, found = (each.run({"image": images(size)}) for each in (file, products))
            for name, array in expected.items():
                tolerance = 1e-6 if array.dtype == np.float32 and "fp32" in str(model) else 2e-3
                np.testing.assert_allclose(found[name], array, atol=tolerance)


@pytest.mark.parametrize("threads", [1, 2])
def test_on_a_cpu_an_image_has_the_same_bits_in_every_batch(model: Path, threads: int) -> None:
    for _, rows, columns in SIZES:
        batch = images((5, rows, columns))
        with OrtSession(model, "cpu", threads) as session, OrtSession(model, "cpu", 1) as alone:
            together = session.run({"image": batch})
            for i in range(5):
                for name, array in alone.run({"image": batch[i : i + 1]}).items():
                    np.testing.assert_array_equal(together[name][i : i + 1], array)


@pytest.mark.parametrize("is_for_cpu", [True, False])
def test_the_checker_takes_it(model: Path, *, is_for_cpu: bool) -> None:
    places = {
        place_of(each) for each in onnx.load(model, load_external_data=False).graph.initializer
    }
    graph = with_products(model, {each for each in places if each} if is_for_cpu else None)
    assert graph is not None
    (model.parent / "products.onnx").write_bytes(graph)
    onnx.checker.check_model(str(model.parent / "products.onnx"), full_check=True)


BY_ROWS = pytest.mark.parametrize("by_rows", [False, True])


def convolution(shape: tuple[int, ...] = (256, 64, 8, 8), **facts: object) -> onnx.ModelProto:
    """One convolution with a bias."""
    rng = np.random.default_rng(0)
    weight = rng.normal(0, 0.01, shape).astype(np.float32)
    node = helper.make_node("Conv", ["x", "w", "b"], ["y"], "fc", **facts)  # type: ignore[arg-type]
    initial = [
        onnx.numpy_helper.from_array(weight, "w"),
        onnx.numpy_helper.from_array(np.ones(shape[0], np.float32), "b"),
    ]
    channels = shape[1] * int(facts.get("group", 1))  # type: ignore[call-overload]
    floats = onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        [node],
        "one",
        [helper.make_tensor_value_info("x", floats, ["n", channels, "h", "w"])],
        [helper.make_tensor_value_info("y", floats, None)],
        initial,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


@pytest.mark.parametrize(
    "made",
    [
        lambda: convolution(pads=[1, 1, 1, 1]),
        lambda: convolution(strides=[2, 2]),
        lambda: convolution(dilations=[2, 2]),
        lambda: convolution(auto_pad="SAME_UPPER"),
        lambda: convolution(group=2),
        lambda: convolution((16, 64, 8, 8)),
        lambda: convolution((16, 4, 1, 65536)),
    ],
)
def test_what_is_no_fc_layer_stays(made: Callable[[], onnx.ModelProto], tmp_path: Path) -> None:
    onnx.save(made(), tmp_path / "m.onnx")
    assert with_products(tmp_path / "m.onnx") is None
    for by_rows in (False, True):
        graph = made().graph
        assert not replace_dense_fc(graph, weights_of(graph), {"w"}, by_rows=by_rows)
        assert graph == made().graph


def test_without_the_file_only_large_windows_are_taken_for_fc_layers(tmp_path: Path) -> None:
    onnx.save(convolution((1024, 1024, 3, 3)), tmp_path / "m.onnx")
    assert with_products(tmp_path / "m.onnx") is None
    assert with_products(tmp_path / "m.onnx", {("weights", 0)}) is None


@pytest.mark.parametrize("facts", [{}, {"auto_pad": "VALID"}, {"kernel_shape": [8, 8]}])
@BY_ROWS
def test_a_window_that_sees_all_of_the_map(facts: dict[str, object], *, by_rows: bool) -> None:
    is_as_convolved(convolution(**facts), by_rows=by_rows)


@BY_ROWS
@pytest.mark.parametrize("window", [(1, 1), (3, 3), (1, 8), (8, 1), (2, 5)])
def test_windows_of_all_shapes(window: tuple[int, int], *, by_rows: bool) -> None:
    channels = -(-(1 << 20) // (1000 * window[0] * window[1]))
    is_as_convolved(convolution((1000, channels, *window)), channels, by_rows=by_rows)


def is_as_convolved(model: onnx.ModelProto, channels: int = 64, *, by_rows: bool) -> None:
    x = np.random.default_rng(1).normal(0, 1, (2, channels, 8, 9)).astype(np.float32)
    expected = ort.InferenceSession(model.SerializeToString()).run(None, {"x": x})[0]
    weights = weights_of(model.graph)
    assert replace_dense_fc(model.graph, weights, {"w"}, by_rows=by_rows) == {"w", "b"}
    found = ort.InferenceSession(model.SerializeToString()).run(None, {"x": x})[0]
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_session_on_the_cpu_computes_products(model: Path) -> None:
    events = profiled(model, "cpu", {"image": images(SIZES[0])})
    kinds = Counter(event.get("args", {}).get("op_name") for event in events)
    assert kinds["Gemm"] == 1


@pytest.mark.parametrize(
    ("before", "is_product"),
    [("conv3-64 maxpool maxpool conv3-16 maxpool", True), ("conv3-16 maxpool", False)],
)
def test_windows_that_would_take_more_memory_than_the_net_stay(
    before: str, *, is_product: bool, tmp_path: Path
) -> None:
    """An FC layer on a fine map has a window for each few pixels of an image."""
    text = f"input 32x32 RGB(mean 0)\n{before}\nFC-4200 FC-3\nsoft-max\n"
    (tmp_path / "n.vgg").write_text(text)
    random_weights(net(text), tmp_path / "w.safetensors")
    vggspec.compile(tmp_path / "n.vgg", weights=tmp_path / "w.safetensors", out=tmp_path / "b")
    model = open_bundle(tmp_path / "b").model
    events = profiled(model, "cpu", {"image": np.zeros((1, 3, 40, 32), np.float32)})
    kinds = Counter(event.get("args", {}).get("op_name") for event in events)
    assert kinds["Gemm"] == is_product


def test_weights_that_two_layers_read_stay(tmp_path: Path) -> None:
    model = convolution()
    model.graph.node.append(helper.make_node("Conv", ["x", "w", "b"], ["z"], "other"))
    onnx.save(model, tmp_path / "m.onnx")
    assert with_products(tmp_path / "m.onnx") is None


def circle(model: onnx.ModelProto) -> None:
    model.graph.node.insert(0, helper.make_node("Relu", ["x1"], ["x1"], "circle"))
    model.graph.node[-1].input[0] = "x1"


def without_stride(model: onnx.ModelProto) -> None:
    model.graph.node.insert(0, helper.make_node("MaxPool", ["x"], ["x1"], "pool", strides=[0, 0]))
    model.graph.node[-1].input[0] = "x1"


def without_weights(model: onnx.ModelProto) -> None:
    model.graph.node.insert(0, helper.make_node("Conv", [], ["x1"], "none"))
    model.graph.node[-1].input[0] = "x1"


def other_attributes(model: onnx.ModelProto) -> None:
    model.graph.node[-1].attribute.extend(
        [helper.make_attribute("strides", 1.5), helper.make_attribute("group", "two")]
    )


@pytest.mark.parametrize("broken", [circle, without_stride, without_weights, other_attributes])
def test_a_broken_graph_is_left_to_the_engine(
    broken: Callable[[onnx.ModelProto], None], tmp_path: Path
) -> None:
    """Whatever is wrong with it: it neither raises nor loops before the engine has seen it."""
    model = convolution()
    broken(model)
    assert worth_rows(model.graph, weights_of(model.graph), {"w"}) == set()
    onnx.save(model, tmp_path / "m.onnx")
    with pytest.raises(VggspecError, match="VGG"):
        OrtSession(tmp_path / "m.onnx", "cpu")


def test_a_place_of_too_many_digits_is_none() -> None:
    weights = onnx.TensorProto(data_location=onnx.TensorProto.EXTERNAL)
    for key, value in (("location", "w"), ("offset", "9" * 5000)):
        weights.external_data.add(key=key, value=value)
    assert place_of(weights) is None


def test_no_graph_is_left_to_the_engine(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"no graph")
    assert with_products(tmp_path / "m.onnx") is None
    assert with_products(tmp_path / "none.onnx") is None
