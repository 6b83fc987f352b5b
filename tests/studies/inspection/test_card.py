"""Model cards of bundles."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from tests.engines import stand_in
from tests.nets import SMALL, net, random_weights
from tests.refusals import refused
from vggspec import ArgumentError, card
from vggspec.bundle.manifest import MANIFEST
from vggspec.bundle.opening import open_bundle
from vggspec.bundle.options import CompileOptions
from vggspec.cli import run as command
from vggspec.compiler.bundling.graph import write_bundle
from vggspec.compiler.bundling.protocol import write_protocol_bundle

RECORD = {
    "settings": ["batch=16", "stop=after 2 epochs"],
    "seed": 3,
    "options": {"precision": "fp32"},
    "computed": {"device": "cpu", "ranks": 1},
    "started_from": [{"weights": "/home/me/A.safetensors", "data_sha256": "ab" * 32}],
    "data": {
        "folder": "/home/me/pictures",
        "classes": ["a", "b"],
        "train_images": 80,
        "val_images": 1,
        "fingerprint": "cd" * 32,
    },
    "versions": {"vggspec": "0.1.0", "torch": "2.13.0"},
    "result": {
        "best": {
            "epoch": 2,
            "step": 10,
            "validation": {"loss": 0.25, "errors": {"top-1": 0.125, "top-5": 0.0}},
        },
        "step": 20,
        "was_stopped": False,
        "seconds": 61.0,
        "num_left_out": 0,
        "left_out": [],
    },
}


def made(folder: Path, text: str = SMALL, **options: object) -> Path:
    lowered = net(text)
    weights = random_weights(lowered, folder / "best.safetensors")
    write_bundle(lowered, weights, folder / "small", CompileOptions(**options))  # type: ignore[arg-type]
    return folder / "small"


def trained(folder: Path, weights: Path, record: object = RECORD) -> Path:
    folder.mkdir()
    shutil.copy(weights, folder / "best.safetensors")
    (folder / "run.json").write_text(json.dumps(record))
    return folder


def cells(text: str) -> list[str]:
    """The text of all cells of its tables, as a reader of Markdown sees it."""
    tokens = MarkdownIt("commonmark", {"html": True}).enable("table").parse(text)
    inside, found = False, []
    for token in tokens:
        if token.type in ("td_open", "td_close"):
            inside = token.type == "td_open"
        elif inside and token.type == "inline":
            children = token.children or []
            assert not any(child.type.startswith(("html", "link", "image")) for child in children)
            found.append("".join(child.content for child in children))
    return found


def test_it_says_what_the_manifest_and_the_run_say(tmp_path: Path) -> None:
    bundle = made(tmp_path)
    run = trained(tmp_path / "run", tmp_path / "best.safetensors")
    text = card(bundle, run=run, licence="Apache-2.0")
    found = cells(text)
    versions = "vggspec 0.1.0, torch 2.13.0"
    for value in ("12.50 %", "0.25", "2, 10", "61 s", "fp32", versions):
        assert value in found, value
    assert "pictures: 80 images to train, 1 image to validate" in found
    assert f"A.safetensors, SHA-256 {'ab' * 32}" in found
    digests = [entry.sha256 for entry in open_bundle(bundle).manifest.files]
    assert all(digest in text for digest in digests)
    assert "/home/me" not in text
    assert text.startswith("---\nlibrary_name: vggspec\nlicense: apache-2.0\n")
    assert "the best weights of the run" in text
    assert SMALL.strip() in text


def test_results_of_label_maps_are_their_scores(tmp_path: Path) -> None:
    bundle = made(tmp_path)
    scores = {"mean IoU": 0.6525, "pixel accuracy": 0.9}
    best = {"epoch": 2, "step": 10, "validation": {"loss": 0.25, "errors": {}, "scores": scores}}
    record = RECORD | {"result": RECORD["result"] | {"best": best}}  # type: ignore[operator]
    run = trained(tmp_path / "run", tmp_path / "best.safetensors", record)
    text = card(bundle, run=run)
    assert "| mean IoU | 65.25 % |" in text
    assert "| pixel accuracy | 90.00 % |" in text


def test_what_nobody_knows_is_not_stated(tmp_path: Path) -> None:
    text = card(made(tmp_path))
    assert "license" not in text
    assert "## Licence\n\nNone is stated." in text
    assert "## Training" not in text


def test_last_weights_are_told_from_the_best(tmp_path: Path) -> None:
    bundle = made(tmp_path)
    run = trained(tmp_path / "run", tmp_path / "best.safetensors")
    (run / "best.safetensors").rename(run / "last.safetensors")
    assert "the last weights of the run" in card(bundle, run=run)
    inside = made(tmp_path, single_file=True)
    assert "were not compared" in card(inside, run=run)


def test_the_results_of_other_weights_are_refused(tmp_path: Path) -> None:
    bundle = made(tmp_path)
    other = random_weights(net(SMALL), tmp_path / "other.safetensors", seed=1).path
    with refused("VGG496"):
        card(bundle, run=trained(tmp_path / "run", other))


@pytest.mark.parametrize(
    ("record", "code"),
    [
        ({**RECORD, "data": {}}, "VGG494"),
        ({**RECORD, "result": {"best": {}, "step": 1}}, "VGG494"),
        ([], "VGG494"),
        (None, "VGG491"),
    ],
)
def test_a_bad_record_is_told(tmp_path: Path, record: object, code: str) -> None:
    bundle = made(tmp_path)
    run = trained(tmp_path / "run", tmp_path / "best.safetensors", record)
    if record is None:
        (run / "run.json").unlink()
    with refused(code):
        card(bundle, run=run)


def test_an_interrupted_run_has_no_results(tmp_path: Path) -> None:
    record = {key: value for key, value in RECORD.items() if key != "result"}
    bundle = made(tmp_path)
    run = trained(tmp_path / "run", tmp_path / "best.safetensors", record)
    assert "was interrupted" in card(bundle, run=run)


def test_labels_and_specs_are_no_markup(tmp_path: Path) -> None:
    text = SMALL.replace("net small", "# ```\n# <script>\nnet small")
    lowered = net(text)
    weights = random_weights(lowered, tmp_path / "w.safetensors")
    labels = ("<img src=x>", "a|b", "[c](http://d)", "`e", "*f*", "g_h", *"ijkl")
    weights = replace(weights, metadata=replace(weights.metadata, labels=labels))
    write_bundle(lowered, weights, tmp_path / "b", CompileOptions())
    found = MarkdownIt("commonmark", {"html": True}).enable("table").parse(card(tmp_path / "b"))
    inner = [child for token in found for child in token.children or ()]
    assert not any(token.type.startswith(("html", "link", "image")) for token in [*found, *inner])
    shown = "".join(child.content for child in inner)
    assert all(label in shown for label in labels)
    (spec,) = (token for token in found if token.type == "fence" and token.info == "text")
    assert spec.content.strip() == text.strip()


def test_every_kind_of_bundle_has_one(tmp_path: Path) -> None:
    lowered = net(SMALL)
    weights = random_weights(lowered, tmp_path / "w.safetensors")
    write_protocol_bundle([(lowered, weights)] * 2, tmp_path / "p", CompileOptions())
    assert "- small:" in card(tmp_path / "p")
    assert "net.outputs(" in card(made(tmp_path, layer="conv2_1"))
    stand_in(tmp_path / "engine")
    engine = card(tmp_path / "engine")
    assert "- tensorrt\n" in engine
    assert "## Profiles" in engine


@pytest.mark.parametrize("licence", ["", "MIT or so", "a\nb: c"])
def test_a_licence_is_an_identifier(tmp_path: Path, licence: str) -> None:
    bundle = made(tmp_path)
    with pytest.raises(ArgumentError, match="identifier"):
        card(bundle, licence=licence)


def test_the_command_prints_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bundle = made(tmp_path)
    assert command(["inspect", str(bundle), "--markdown", "--license", "mit"]) == 0
    assert capsys.readouterr().out == card(bundle, licence="mit")
    assert command(["inspect", str(bundle), "--run", "x"]) == 2
    assert "--markdown" in capsys.readouterr().err
    assert command(["inspect", str(bundle), "--markdown", "--json"]) == 2
    (bundle / MANIFEST).write_text("{")
    assert command(["inspect", str(bundle), "--markdown"]) == 1
