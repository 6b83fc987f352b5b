"""The model folder is what Triton reads: the text is parsed with Triton's own schema."""

import importlib.util
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import text_format

from tests.compiler.bundling.manifests import engine, onnx, with_input, with_map
from vggspec.base.recipe import TestProtocol
from vggspec.bundle.manifest import Manifest, Member, OutputContract
from vggspec.bundle.profile import Profile
from vggspec.compiler.bundling import triton

LABELS = tuple(f"label {i}" for i in range(1000))
TENSORRT_MEMORY = "execution_context_allocation_strategy"


@pytest.fixture(scope="module")
def schema() -> Any:
    """Triton's schema, from the file alone: the package around it would load gRPC."""
    client = importlib.util.find_spec("tritonclient")
    assert client is not None, "tritonclient comes with the extra `dev`"
    assert client.submodule_search_locations
    path = Path(client.submodule_search_locations[0], "grpc", "model_config_pb2.py")
    spec = importlib.util.spec_from_file_location("model_config_pb2", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def read(schema: Any) -> Any:
    def parse(manifest: Manifest) -> Any:
        text = triton.config(manifest)
        assert text is not None
        return text_format.Parse(text, schema.ModelConfig())

    return parse


def shapes(found: Any) -> list[tuple[int, list[int]]]:
    """Batch and axes of each warm-up request."""
    return [(each.batch_size, list(each.inputs["image"].dims)) for each in found.model_warmup]


def test_a_graph_that_holds_the_test_protocol(read: Any, schema: Any) -> None:
    """A request is a picture and its scales: no batch, and nothing to be warmed up with."""
    manifest = with_input(onnx(labels=LABELS), contract="picture", name="picture")
    member = Member(
        name="D",
        net="D",
        spec_text="net D",
        spec_sha256="0" * 64,
        average="scores",
        input=onnx().input,
        weights="1/model.safetensors",
    )
    manifest = replace(manifest, members=(member,))
    found = read(manifest)
    assert (found.platform, found.max_batch_size) == ("onnxruntime_onnx", 0)
    picture, scales = found.input
    assert (picture.name, list(picture.dims)) == ("picture", [-1, -1, 3])
    assert (scales.name, list(scales.dims)) == ("scales", [-1])
    assert (picture.data_type, scales.data_type) == (schema.TYPE_UINT8, schema.TYPE_INT64)
    (posteriors,) = found.output
    assert (posteriors.name, list(posteriors.dims)) == ("posteriors", [1000])
    assert (posteriors.data_type, posteriors.label_filename) == (schema.TYPE_FP32, "labels.txt")
    assert not found.model_warmup
    assert not found.HasField("dynamic_batching")


def test_a_dense_graph(read: Any, schema: Any) -> None:
    found = read(onnx())
    assert found.name == ""
    assert found.platform == "onnxruntime_onnx"
    assert found.default_model_filename == "model.onnx"
    assert found.max_batch_size == 8
    assert found.HasField("dynamic_batching")
    (image,), (posteriors,) = found.input, found.output
    assert (image.name, list(image.dims)) == ("image", [3, -1, -1])
    assert image.data_type == schema.TYPE_FP32
    assert image.format == schema.ModelInput.FORMAT_NCHW
    assert (posteriors.name, list(posteriors.dims)) == ("posteriors", [1000])
    assert posteriors.data_type == schema.TYPE_FP32
    assert posteriors.label_filename == ""
    assert not found.instance_group
    assert not found.parameters


def test_a_graph_is_warmed_up_as_the_protocol_will_use_it(read: Any, schema: Any) -> None:
    found = read(onnx())
    assert shapes(found) == [
        (2, [3, 256, 341]),
        (2, [3, 341, 256]),
        (2, [3, 384, 512]),
        (2, [3, 512, 384]),
        (2, [3, 512, 683]),
        (2, [3, 683, 512]),
    ]
    names = [each.name for each in found.model_warmup]
    assert len(set(names)) == len(names)
    for each in found.model_warmup:
        assert each.inputs["image"].data_type == schema.TYPE_FP32
        assert each.inputs["image"].zero_data


def test_a_graph_of_one_size(read: Any) -> None:
    test = TestProtocol(scales=(256,), dense=False, crops=5)
    found = read(with_input(onnx(form="crop", test=test), is_dynamic=False))
    assert list(found.input[0].dims) == [3, 224, 224]
    assert found.max_batch_size == 10
    assert shapes(found) == [(10, [3, 224, 224])]


def test_a_graph_that_takes_pixels(read: Any, schema: Any) -> None:
    found = read(with_input(onnx(), contract="raw"))
    (image,) = found.input
    assert list(image.dims) == [-1, -1, 3]
    assert image.data_type == schema.TYPE_UINT8
    assert image.format == schema.ModelInput.FORMAT_NHWC
    assert shapes(found)[0] == (2, [256, 341, 3])
    assert found.model_warmup[0].inputs["image"].data_type == schema.TYPE_UINT8


def test_a_gray_graph(read: Any) -> None:
    found = read(with_input(onnx(), color="gray", mean=(117.0,)))
    assert list(found.input[0].dims) == [1, -1, -1]
    assert shapes(found)[0] == (2, [1, 256, 341])


def test_a_graph_with_a_map(read: Any) -> None:
    found = read(with_map(onnx(labels=LABELS)))
    posteriors, score_map = found.output
    assert (score_map.name, list(score_map.dims)) == ("score_map", [1000, -1, -1])
    assert posteriors.label_filename == "labels.txt"
    assert score_map.label_filename == ""


def test_boxes_have_no_labels(read: Any) -> None:
    boxes = OutputContract(name="boxes", kind="boxes", channels=4, is_map=True)
    manifest = onnx(outputs=(boxes,), labels=("a", "b", "c", "d"))
    (output,) = read(manifest).output
    assert list(output.dims) == [4, -1, -1]
    assert output.label_filename == ""
    assert triton.labels(manifest) is None


def test_an_engine_with_six_profiles(read: Any, schema: Any) -> None:
    found = read(engine())
    assert found.platform == "tensorrt_plan"
    assert found.default_model_filename == "model.plan"
    assert found.max_batch_size == 8
    (group,) = found.instance_group
    assert group.kind == schema.ModelInstanceGroup.KIND_GPU
    assert list(group.profile) == ["0", "1", "2", "3", "4", "5"]
    assert found.parameters[TENSORRT_MEMORY].string_value == "ON_PROFILE_CHANGE"
    assert len(found.model_warmup) == 6
    profiles = engine().engine.profiles  # type: ignore[union-attr]
    for (batch, dims), profile in zip(shapes(found), profiles, strict=True):
        assert profile.holds((batch, *dims[1:]))


def test_an_engine_with_one_profile(read: Any) -> None:
    found = read(engine(Profile((1, 256, 455), (1, 256, 455), (1, 256, 455))))
    assert found.max_batch_size == 1
    assert not found.HasField("dynamic_batching")
    assert list(found.instance_group[0].profile) == ["0"]
    assert not found.parameters


def test_a_batch_fits_every_profile(read: Any) -> None:
    """Triton forms it before it looks for one."""
    found = read(
        engine(
            Profile((1, 256, 256), (2, 256, 341), (8, 256, 512)),
            Profile((1, 224, 224), (10, 224, 224), (10, 224, 224)),
        )
    )
    assert found.max_batch_size == 8
    assert shapes(found) == [(2, [3, 256, 341]), (8, [3, 224, 224])]


def test_an_engine_that_takes_no_single_image(read: Any, schema: Any) -> None:
    """Its batch is an axis like the others, and Triton does not form any."""
    manifest = engine(
        Profile((1, 256, 256), (2, 256, 341), (8, 256, 512)),
        Profile((4, 224, 224), (10, 224, 224), (10, 224, 224)),
    )
    found = read(with_map(manifest))
    assert found.max_batch_size == 0
    assert not found.HasField("dynamic_batching")
    assert list(found.input[0].dims) == [-1, 3, -1, -1]
    assert found.input[0].format == schema.ModelInput.FORMAT_NONE
    assert [list(output.dims) for output in found.output] == [[-1, 1000], [-1, 1000, -1, -1]]
    assert shapes(found) == [(1, [2, 3, 256, 341]), (1, [10, 3, 224, 224])]


def test_a_protocol_below_the_window_says_nothing_of_sizes(read: Any) -> None:
    assert shapes(read(onnx(test=TestProtocol(scales=(128,))))) == [(1, [3, 224, 224])]


def test_a_version_compatible_engine_says_how_the_server_is_started() -> None:
    words = "version-compatible=true"
    assert words in (triton.config(engine(is_version_compatible=True)) or "")
    assert words not in (triton.config(engine()) or "")


@pytest.mark.parametrize("changes", [{"flavour": "tensorrt_rtx"}, {"is_stripped": True}])
def test_what_triton_cannot_serve_has_no_config(changes: dict[str, Any]) -> None:
    manifest = engine(**changes)
    assert triton.config(manifest) is None
    assert triton.why_not(manifest)
    assert triton.why_not(engine()) is None
    assert triton.why_not(onnx()) is None


def test_labels_are_a_line_each(read: Any) -> None:
    assert triton.labels(onnx()) is None
    names = ("tench, Tinca tinca", 'a "quoted" one', "two\nlines\r\nand\u2028more", "ünï", "")
    posteriors = replace(onnx().result, channels=5)
    manifest = onnx(outputs=(posteriors,), labels=names)
    text = triton.labels(manifest)
    assert text is not None
    assert text.splitlines() == [*names[:2], "two lines and more", "ünï", ""]
    assert read(manifest).output[0].label_filename == triton.LABELS


def test_names_are_quoted(read: Any) -> None:
    name = 'a "b" \\ c'
    assert read(with_input(onnx(), name=name)).input[0].name == name
