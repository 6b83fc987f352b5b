"""The contents of bundles; nothing is loaded."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.engines import CLASSIC, rewritten, stand_in
from tests.nets import SMALL, net, random_weights
from tests.refusals import refused
from vggspec.bundle.digests import file_entry
from vggspec.bundle.manifest import LAYERS, MODEL, WEIGHTS
from vggspec.bundle.opening import open_bundle
from vggspec.bundle.options import CompileOptions
from vggspec.compiler.bundling.graph import write_bundle
from vggspec.compiler.bundling.protocol import write_protocol_bundle
from vggspec.compiler.weights import open_weights
from vggspec.runtime.tensorrt import library as seam
from vggspec.studies.inspection.inspection import Inspection, inspect
from vggspec.studies.inspection.layers import read_layers

ENGINE_LAYERS = json.dumps(
    {
        "from": "engine",
        "layers": [
            {
                "name": "conv1_1 + relu1_1 + a name that is longer than any column",
                "op": "Convolution",
                "precision": "fp16",
                "output": [-1, 8, -1, -1],
                "reads": ["image"],
            },
            {
                "name": "shape",
                "op": "shape",
                "precision": "int64",
                "output": [4],
                "reads": ["conv1_1"],
            },
            {
                "name": "prob",
                "op": "SoftMax",
                "precision": "float",
                "output": [-1, 10],
                "reads": ["conv1_1"],
            },
        ],
    }
)


def write(folder: Path, text: str = SMALL, **options: Any) -> Path:
    lowered = net(text)
    weights = random_weights(lowered, folder / "weights.safetensors")
    write_bundle(lowered, weights, folder / "small", CompileOptions(**options))
    return folder / "small"


def text_of(found: Inspection) -> str:
    """All sections, a row a line."""
    lines = []
    for section in found.sections():
        lines += [section.title, *("  ".join(row) for row in section.rows)]
        assert len({len(row) for row in section.rows}) == 1
    return "\n".join(lines)


def test_a_graph_in_words(tmp_path: Path) -> None:
    found = inspect(write(tmp_path, keep_map=True))
    out = text_of(found)
    for words in (
        "net small, dense: a graph for ONNX Runtime in fp32",
        "image: float32 N × 3 × H × W, at least 32 × 32",
        "RGB, (x - (120 115 100)) / (58 57 56) for x from 0 to 255",
        "posteriors: float32 N × 10",
        "score_map: float32 N × 10 × h × w",
        "32 × 32 pixels, stride 4 pixels",
        "10, without labels",
        "1/model.safetensors",
    ):
        assert words in out
    assert [section.title for section in found.sections()][1:] == ["files"]
    assert found.layers_from == "graph"


def test_the_layers_of_a_graph(tmp_path: Path) -> None:
    source, layers = read_layers(open_bundle(write(tmp_path, precision="fp16")))
    by_name = {layer.name: layer for layer in layers}
    assert source == "graph"
    assert by_name["conv1_1"].precision == "fp16"
    assert by_name["conv1_1"].output == (-1, 8, -1, -1)
    assert by_name["conv1_1"].output_in_words == "N × 8 × h × w"
    assert by_name["bn1_1"].output == (-1, 8, -1, -1)
    assert by_name["norm2_1"].precision == "fp32"
    assert by_name["prob"].output == (-1, 10)
    # Weights, and nodes that compute on weights only, are no layers.
    assert not any("weight" in layer.name for layer in layers)
    assert by_name["relu1_1"].reads == ("bn1_1",)


def test_layers_are_read_without_weights(tmp_path: Path) -> None:
    bundle = write(tmp_path)
    opened = open_bundle(bundle)
    whole = read_layers(opened)
    (bundle / WEIGHTS).unlink()
    assert read_layers(opened) == whole
    (tmp_path / "one").mkdir()
    assert read_layers(open_bundle(write(tmp_path / "one", single_file=True))) == whole


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"contract": "raw"}, "uint8 N × H × W × 3, at least 32 × 32"),
        ({"contract": "raw"}, "RGB pixels as decoded; the graph computes (x - (120 115 100))"),
        ({"form": "crop"}, "float32 N × 3 × 32 × 32"),
        ({"form": "crop"}, "for crops of one size"),
        ({"precision": "fp16", "keep_fp32": ("conv1_1",)}, "fp16; conv1_1 in fp32"),
        ({"average": "posteriors"}, "posteriors averaged over space"),
    ],
)
def test_options_are_shown(options: dict[str, Any], words: str, tmp_path: Path) -> None:
    assert words in text_of(inspect(write(tmp_path, **options)))


def test_a_graph_with_the_test_protocol(tmp_path: Path) -> None:
    lowered = net(SMALL)
    random_weights(lowered, tmp_path / "w")
    nets = [(lowered, open_weights(tmp_path / "w"))] * 2
    write_protocol_bundle(nets, tmp_path / "fused", CompileOptions())
    found = inspect(tmp_path / "fused")
    assert found.specs == (SMALL,)
    nets_section = next(each for each in found.sections() if each.title == "nets")
    assert len(nets_section.rows) == 2
    assert "averaged over space" in nets_section.rows[0][1]
    assert "uint8 H × W × 3; scales: int64 K" in text_of(found)


def test_an_engine_in_words(tmp_path: Path) -> None:
    stand_in(tmp_path / "small", layers=ENGINE_LAYERS)
    found = inspect(tmp_path / "small")
    out = text_of(found)
    for words in (
        "net small, dense: an engine of TensorRT-RTX in fp16",
        "fp16; prob in fp32",
        "1 × 40 × 40  2 × 40 × 53  8 × 40 × 80",
        "TensorRT-RTX 1.7.1.116, CUDA 13, on linux-x86_64",
        "compute capability 8.0, 8.6, 8.9, 12.0 and later",
        "that version of TensorRT-RTX only",
        "may be deleted",
    ):
        assert words in out
    assert found.layers_from == "engine"
    assert [layer.computes_shapes for layer in found.layers] == [False, True, False]


def test_a_classic_engine_in_words(tmp_path: Path) -> None:
    engine = replace(CLASSIC, hardware="ampere_plus", is_version_compatible=True, refit="all")
    stand_in(tmp_path / "small", engine)
    found = inspect(tmp_path / "small")
    out = text_of(found)
    for words in ("NVIDIA L4", "8.9; Ampere and later", "and later versions", "refit  all"):
        assert words in out
    assert found.layers == ()


def test_a_plan_is_never_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(seam, "load", load)
    stand_in(tmp_path / "small")
    inspect(tmp_path / "small").sections()


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"layers": 3}', '{"from": "engine", "layers": [{"name": "x"}]}', "[" * 9999],
)
def test_a_damaged_list_of_layers_is_reported(text: str, tmp_path: Path) -> None:
    stand_in(tmp_path / "small", layers=text)
    with refused(f"VGG524.*{LAYERS}"):
        inspect(tmp_path / "small")


def test_a_file_that_is_not_a_graph_is_reported(tmp_path: Path) -> None:
    bundle = write(tmp_path, single_file=True)
    manifest = open_bundle(bundle).manifest
    (bundle / MODEL).write_bytes(b"no graph at all")
    rewritten(bundle, manifest, files=(file_entry(bundle, MODEL),))
    with refused("VGG527"):
        inspect(bundle)


def test_as_data(tmp_path: Path) -> None:
    stand_in(tmp_path / "small", layers=ENGINE_LAYERS)
    found = json.loads(json.dumps(inspect(tmp_path / "small").as_data()))
    assert found["net"] == "small"
    assert found["engine"]["capabilities"] == ["8.0", "8.6", "8.9", "12.0"]
    assert found["layers_from"] == "engine"
    assert found["layers"][2] == {
        "name": "prob",
        "op": "SoftMax",
        "precision": "fp32",
        "output": [-1, 10],
        "reads": ["conv1_1"],
    }
    assert len(found["test_profiles"]) == 4
