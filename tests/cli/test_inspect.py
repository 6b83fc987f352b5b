"""``vggspec inspect``: everything of a bundle in words and as data, and nothing loaded."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.engines import CLASSIC, RTX, rewritten, stand_in
from tests.nets import SMALL, net, random_weights
from vggspec.bundle.manifest import LAYERS, MODEL, WEIGHTS, open_bundle
from vggspec.cli import run
from vggspec.cli.inspect import layers_of
from vggspec.compiler.backends.onnx.model import OnnxOptions
from vggspec.compiler.bundles.writer import write_bundle

ENGINE_LAYERS = json.dumps(
    {
        "from": "engine",
        "layers": [
            {
                "name": "conv1_1 + relu1_1 + a name that goes on for longer than any column",
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

Capture = pytest.CaptureFixture[str]


def write(folder: Path, text: str = SMALL, **options: Any) -> Path:
    lowered = net(text)
    weights = random_weights(lowered, folder / "weights.safetensors")
    write_bundle(lowered, weights, folder / "small", OnnxOptions(**options))
    return folder / "small"


def inspect(capsys: Capture, *args: object) -> str:
    assert run(["inspect", *map(str, args)]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return out


def test_a_graph_in_words(tmp_path: Path, capsys: Capture) -> None:
    out = inspect(capsys, write(tmp_path, keep_map=True))
    for words in (
        "net small, dense: a graph for ONNX Runtime in fp32",
        "image: float32 N × 3 × H × W, from 32 × 32 on",
        "RGB, (x - (120 115 100)) / (58 57 56) for x from 0 to 255",
        "posteriors: float32 N × 10",
        "score_map: float32 N × 10 × h × w",
        "32 × 32 pixels, 4 pixels from one to the next",
        "10, without labels",
        "1/model.safetensors",
        "layers, from the graph",
    ):
        assert words in out
    assert "\nprofiles\n" not in out
    assert "\nengine\n" not in out
    assert max(map(len, out.splitlines())) <= 100


def test_the_layers_of_a_graph(tmp_path: Path) -> None:
    found, layers = layers_of(open_bundle(write(tmp_path, precision="fp16")))
    by_name = {layer.name: layer for layer in layers}
    assert found == "graph"
    assert by_name["conv1_1"].precision == "fp16"
    assert by_name["conv1_1"].output == (-1, 8, -1, -1)
    assert by_name["bn1_1"].output == (-1, 8, -1, -1)
    assert by_name["norm2_1"].precision == "fp32"
    assert by_name["prob"].output == (-1, 10)
    # Weights and what is made of them alone are no layers.
    assert not any("weight" in layer.name for layer in layers)
    assert by_name["relu1_1"].reads == ("bn1_1",)


def test_layers_are_read_without_weights(tmp_path: Path) -> None:
    bundle = write(tmp_path)
    opened = open_bundle(bundle)
    whole = layers_of(opened)
    (bundle / WEIGHTS).unlink()
    assert layers_of(opened) == whole
    (tmp_path / "one").mkdir()
    assert layers_of(open_bundle(write(tmp_path / "one", single_file=True))) == whole


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"contract": "raw"}, "uint8 N × H × W × 3, from 32 × 32 on"),
        ({"contract": "raw"}, "RGB pixels as decoded; the graph computes (x - (120 115 100))"),
        ({"form": "crop"}, "float32 N × 3 × 32 × 32"),
        ({"form": "crop"}, "for crops of one size"),
        ({"precision": "fp16", "keep_fp32": ("conv1_1",)}, "fp16; conv1_1 in fp32"),
        ({"average": "posteriors"}, "posteriors averaged over space"),
    ],
)
def test_what_differs_is_said(
    options: dict[str, Any], words: str, tmp_path: Path, capsys: Capture
) -> None:
    assert words in inspect(capsys, write(tmp_path, **options))


def test_an_engine_in_words(tmp_path: Path, capsys: Capture) -> None:
    stand_in(tmp_path / "small", layers=ENGINE_LAYERS)
    out = inspect(capsys, tmp_path / "small")
    for words in (
        "net small, dense: an engine of TensorRT-RTX in fp16",
        "fp16; prob in fp32",
        "1 × 40 × 40  2 × 40 × 53  8 × 40 × 80",
        "TensorRT-RTX 1.7.1.116, CUDA 13, on linux-x86_64",
        "compute capability 8.0, 8.6, 8.9, 12.0 and later",
        "that version of TensorRT-RTX alone",
        "may be deleted",
        "layers, from the engine",
        "conv1_1 + relu1_1 + a n…",
        "and 1 layer of shapes",
        "N × 8 × h × w",
    ):
        assert words in out
    assert max(map(len, out.splitlines())) <= 100


def test_a_classic_engine_in_words(tmp_path: Path, capsys: Capture) -> None:
    engine = replace(CLASSIC, hardware="ampere_plus", is_version_compatible=True, refit="all")
    stand_in(tmp_path / "small", engine)
    out = inspect(capsys, tmp_path / "small")
    for words in ("NVIDIA L4", "8.9; Ampere and later", "and later ones", "refit     all"):
        assert words in out
    assert "layers" not in out.splitlines()


def test_a_plan_is_never_loaded(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vggspec.runtime.tensorrt import seam as trt

    def load(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(trt, "load", load)
    stand_in(tmp_path / "small")
    inspect(capsys, tmp_path / "small")


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"layers": 3}', '{"from": "engine", "layers": [{"name": "x"}]}', "[" * 9999],
)
def test_a_damaged_list_of_layers_is_reported(text: str, tmp_path: Path, capsys: Capture) -> None:
    stand_in(tmp_path / "small", layers=text)
    assert run(["inspect", str(tmp_path / "small")]) == 1
    err = capsys.readouterr().err
    assert "VGG524" in err
    assert LAYERS in err


def test_a_graph_that_is_none_is_reported(tmp_path: Path, capsys: Capture) -> None:
    from vggspec.bundle.manifest import file_entry

    bundle = write(tmp_path, single_file=True)
    manifest = open_bundle(bundle).manifest
    (bundle / MODEL).write_bytes(b"no graph at all")
    rewritten(bundle, manifest, files=(file_entry(bundle, MODEL),))
    assert run(["inspect", str(bundle)]) == 1
    assert "VGG527" in capsys.readouterr().err


def test_a_terminal_obeys_nothing_in_a_bundle(tmp_path: Path, capsys: Capture) -> None:
    bell = "\x07"
    layers = ENGINE_LAYERS.replace("engine", r"\u0007").replace("SoftMax", r"\u0007")
    engine = replace(RTX, gpu="\x1b[31mred", version=bell, platform=bell, capabilities=(bell,))
    manifest = stand_in(tmp_path / "small", engine, layers=layers)
    rewritten(tmp_path / "small", manifest, net=bell, labels=(bell,) * 10, tools={bell: bell})
    out = inspect(capsys, tmp_path / "small")
    assert run(["doctor", str(tmp_path / "small")]) == 3
    out += capsys.readouterr().out
    assert r"\u0007" in out
    assert "\x1b" not in out
    assert bell not in out


def test_json(tmp_path: Path, capsys: Capture) -> None:
    stand_in(tmp_path / "small", layers=ENGINE_LAYERS)
    found = json.loads(inspect(capsys, tmp_path / "small", "--json"))
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


def test_the_spec_comes_back(tmp_path: Path, capsys: Capture) -> None:
    bundle = write(tmp_path)
    spec = inspect(capsys, bundle, "--spec")
    assert spec == SMALL
    (tmp_path / "small.vgg").write_text(spec)
    assert run(["check", str(tmp_path / "small.vgg")]) == 0
    capsys.readouterr()
    assert run(["inspect", str(bundle), "--spec", "--json"]) == 2
