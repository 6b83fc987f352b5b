"""``vggspec inspect``: its options and its tables. The library's tests read bundles."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tests.engines import RTX, rewritten, stand_in
from tests.nets import SMALL, net, random_weights
from tests.studies.inspection.test_inspection import ENGINE_LAYERS
from vggspec.bundle.manifest import LAYERS
from vggspec.bundle.options import CompileOptions
from vggspec.cli import run
from vggspec.compiler.bundling.graph import write_bundle

Capture = pytest.CaptureFixture[str]


def inspect(capsys: Capture, *args: object) -> str:
    assert run(["inspect", *map(str, args)]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return out


@pytest.fixture
def engine(tmp_path: Path) -> Path:
    stand_in(tmp_path / "small", layers=ENGINE_LAYERS)
    return tmp_path / "small"


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    lowered = net(SMALL)
    weights = random_weights(lowered, tmp_path / "weights.safetensors")
    write_bundle(lowered, weights, tmp_path / "small", CompileOptions(keep_map=True))
    return tmp_path / "small"


def test_a_graph(graph: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    out = inspect(capsys, graph)
    assert out.startswith("net small, dense: a graph for ONNX Runtime in fp32\n\ninput  ")
    assert "\nlayers, from the graph\n  layer " in out
    assert "\nprofiles\n" not in out
    assert "\nengine\n" not in out
    assert max(map(len, out.splitlines())) <= 80


@pytest.mark.parametrize("columns", [80, 100])
def test_lines_fit_the_terminal(
    columns: int, engine: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    out = inspect(capsys, engine)
    assert max(map(len, out.splitlines())) <= columns
    for title in ("profiles", "engine", "files", "layers, from the engine"):
        assert f"\n\n{title}\n" in out
    assert "conv1_1 + relu1_1 + a n…" in out
    assert "and 1 layer of shapes" in out


def test_columns_that_do_not_fit_are_named(
    engine: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "70")
    assert run(["inspect", str(engine)]) == 0
    assert "1 column left out: reads; see --wide" in capsys.readouterr().err
    out = inspect(capsys, engine, "--wide")
    assert "conv1_1 + relu1_1 + a name that is longer than any column" in out


def test_an_engine_without_layers(tmp_path: Path, capsys: Capture) -> None:
    stand_in(tmp_path / "small")
    assert "\nlayers" not in inspect(capsys, tmp_path / "small")


def test_a_damaged_list_of_layers(tmp_path: Path, capsys: Capture) -> None:
    stand_in(tmp_path / "small", layers="{}")
    assert run(["inspect", str(tmp_path / "small")]) == 1
    assert LAYERS in capsys.readouterr().err
    assert inspect(capsys, tmp_path / "small", "--spec").startswith(SMALL)


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


def test_json(engine: Path, capsys: Capture) -> None:
    found = json.loads(inspect(capsys, engine, "--json"))
    assert list(found)[-3:] == ["test_profiles", "layers_from", "layers"]
    assert found["layers_from"] == "engine"


def test_the_spec_comes_back(graph: Path, tmp_path: Path, capsys: Capture) -> None:
    spec = inspect(capsys, graph, "--spec")
    assert spec == SMALL
    (tmp_path / "small.vgg").write_text(spec)
    assert run(["check", str(tmp_path / "small.vgg")]) == 0
    capsys.readouterr()
    assert run(["inspect", str(graph), "--spec", "--json"]) == 2
