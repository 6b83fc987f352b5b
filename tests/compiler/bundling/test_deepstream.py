"""What DeepStream is told is what the runtime does: the same floats, bit for bit, or no file."""

from configparser import ConfigParser
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.compiler.bundling.manifests import MEAN, engine, onnx, with_input, with_map
from vggspec.base.recipe import TestProtocol
from vggspec.bundle.manifest import Manifest
from vggspec.bundle.profile import Profile
from vggspec.compiler.bundling import deepstream
from vggspec.runtime.preprocess import normalise

LABELS = tuple(f"label {i}" for i in range(1000))


def read(manifest: Manifest) -> dict[str, str]:
    text = deepstream.config(manifest)
    assert text is not None
    parser = ConfigParser(interpolation=None)
    parser.read_string(text)
    assert parser.sections() == ["property"]
    return dict(parser["property"])


def numbers(text: str) -> list[float]:
    return [float(word) for word in text.split(";")]


@given(
    color=st.sampled_from(["RGB", "BGR", "gray"]),
    mean=st.lists(st.floats(0, 255), min_size=3, max_size=3),
    scale=st.floats(1e-4, 4),
    std=st.none() | st.floats(0.1, 255),
    seed=st.integers(0, 99),
)
def test_the_arithmetic_is_that_of_the_runtime(
    color: Any, mean: list[float], scale: float, std: float | None, seed: int
) -> None:
    channels = 1 if color == "gray" else 3
    manifest = with_input(
        onnx(),
        color=color,
        mean=tuple(mean[:channels]),
        scale=scale,
        std=None if std is None else (std,) * channels,
    )
    found = read(manifest)
    pixels = np.random.default_rng(seed).integers(0, 256, (1, 8, 9, channels), np.uint8)
    order = {"0": [0, 1, 2], "1": [2, 1, 0], "2": [0]}[found["model-color-format"]]
    planes = pixels.transpose(0, 3, 1, 2)[:, order].astype(np.float32)
    offsets = np.array(numbers(found["offsets"]), np.float32).reshape(-1, 1, 1)
    feed = np.float32(float(found["net-scale-factor"])) * (planes - offsets)
    np.testing.assert_array_equal(feed, normalise(pixels, manifest.input))


def test_the_paper_s_net() -> None:
    found = read(onnx())
    assert found["onnx-file"] == "1/model.onnx"
    assert "model-engine-file" not in found
    assert found["network-mode"] == "0"
    assert found["network-type"] == "1"
    assert found["model-color-format"] == "0"
    assert found["net-scale-factor"] == "1.0"
    assert numbers(found["offsets"]) == list(MEAN)
    assert "labelfile-path" not in found


def test_a_graph_s_size_is_that_of_video_at_the_first_scale() -> None:
    assert read(onnx())["infer-dims"] == "3;256;455"
    assert read(onnx(test=TestProtocol(scales=(512, 256))))["infer-dims"] == "3;512;910"
    assert read(onnx(test=TestProtocol(scales=(128,))))["infer-dims"] == "3;224;398"
    assert read(with_input(onnx(), is_dynamic=False))["infer-dims"] == "3;224;224"
    gray = with_input(onnx(), color="gray", mean=(117.0,))
    assert read(gray)["infer-dims"] == "1;256;455"


def test_an_engine_s_size_is_the_first_profile_s() -> None:
    found = read(engine())
    assert found["model-engine-file"] == "1/model.plan"
    assert "onnx-file" not in found
    assert "network-mode" not in found
    assert found["infer-dims"] == "3;256;341"
    assert found["batch-size"] == "1"
    video = Profile((4, 256, 455), (6, 256, 455), (8, 256, 455))
    found = read(engine(video, Profile((1, 256, 256), (1, 341, 256), (1, 512, 256))))
    assert found["infer-dims"] == "3;256;455"
    assert found["batch-size"] == "4"


def test_a_graph_in_half_precision_may_be_built_in_it() -> None:
    assert read(onnx(precision="fp16"))["network-mode"] == "2"


@pytest.mark.parametrize(
    ("manifest", "word"),
    [
        (with_input(onnx(), std=(58.4, 57.1, 57.4)), "deviations"),
        (with_input(onnx(), contract="raw"), "pixels"),
        (with_map(onnx()), "posteriors"),
        (onnx(outputs=(replace(onnx().result, name="scores", kind="scores"),)), "posteriors"),
        (engine(flavour="tensorrt_rtx"), "TensorRT-RTX"),
        (engine(is_stripped=True), "weights"),
    ],
    ids=["std", "raw", "map", "scores", "rtx", "stripped"],
)
def test_what_cannot_be_expressed_is_not_written(manifest: Manifest, word: str) -> None:
    assert deepstream.config(manifest) is None
    assert deepstream.labels(replace(manifest, labels=LABELS)) is None
    assert word in (deepstream.why_not(manifest) or "")


@pytest.mark.parametrize("manifest", [onnx(), engine(), with_input(onnx(), std=(58.0,) * 3)])
def test_what_can_is(manifest: Manifest) -> None:
    assert deepstream.why_not(manifest) is None
    assert deepstream.config(manifest)


def test_labels_are_on_one_line() -> None:
    assert deepstream.labels(onnx()) is None
    manifest = onnx(labels=("tench, Tinca tinca", "one; or\ntwo", "ünï"))
    assert deepstream.labels(manifest) == "tench, Tinca tinca;one, or two;ünï\n"
    assert read(onnx(labels=LABELS))["labelfile-path"] == deepstream.LABELS
