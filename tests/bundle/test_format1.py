"""Bundles that were written before manifests had ``options``: ``tests/bundle/format1``.

They were compiled by the last version that wrote format 1, from ``tiny.vgg`` there.
"""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import vggspec
from tests.cli.run import vggspec as run
from tests.conftest import ROOT
from vggspec.bundle.manifest import MANIFEST, read_manifest
from vggspec.bundle.opening import open_bundle
from vggspec.bundle.options import CompileOptions, EngineOptions
from vggspec.runtime.compatibility import compile_command

FOLDER = ROOT / "tests" / "bundle" / "format1"
OPTIONS = {
    "graph": CompileOptions(
        form="dense", average="posteriors", keep_map=True, pool="ceil", stride=2
    ),
    "half": CompileOptions(
        form="dense",
        average="scores",
        contract="raw",
        layer="conv2_1",
        precision="fp16",
        keep_fp32=("conv1_1",),
    ),
    "protocol": CompileOptions(form="dense", average="scores", protocol=True, flip=False),
    "engine": CompileOptions(
        form="dense",
        average="scores",
        engine=EngineOptions(flavour="tensorrt_rtx", max_batch=3, tf32=True, capabilities=("8.9",)),
    ),
}
COMMANDS = {
    "graph": "--average posteriors --map --pool ceil --stride 2",
    "half": "--input raw --layer conv2_1 --precision fp16 --keep-fp32 conv1_1",
    "protocol": "--dense --protocol --no-flip",
    "engine": "--trt --trt-flavor tensorrt_rtx --max-batch 3 --tf32 --capability 8.9",
}


@pytest.mark.parametrize("name", OPTIONS)
def test_its_options_are_reconstructed(name: str) -> None:
    text = (FOLDER / name / MANIFEST).read_text("utf-8")
    assert json.loads(text)["format"] == 1
    manifest = read_manifest(text, name)
    assert manifest.options == OPTIONS[name]
    again = manifest.to_json()
    assert json.loads(again)["format"] == 2
    assert read_manifest(again, name) == manifest
    _, line = compile_command(manifest, bundle=name)
    weights = f"--weights {name}/1/model.safetensors -o {name}-rebuilt"
    assert line == f"vggspec compile tiny.vgg {COMMANDS[name]} {weights}"


@pytest.mark.parametrize("name", ["graph", "protocol"])
def test_it_is_applied(name: str) -> None:
    image = np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8)
    with vggspec.load(FOLDER / name, device="cpu") as predictor:
        found = predictor(image)
    assert found.posteriors.sum() == pytest.approx(1, abs=1e-5)
    assert {label for label, _ in found.top(5)} == {"ant", "bee", "cat", "dog", "eel"}


@pytest.mark.parametrize("name", ["graph", "half", "protocol"])
def test_it_is_inspected_verified_and_compiled_again(name: str, tmp_path: Path) -> None:
    shutil.copytree(FOLDER / name, tmp_path / name)
    for command in (["inspect", name], ["verify", name, "--device", "cpu"]):
        done = run(*command, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    bundle = open_bundle(tmp_path / name, deep=True)
    shutil.copy(FOLDER / "tiny.vgg", tmp_path)
    words = compile_command(bundle.manifest, bundle=name)[1].split()[1:]
    assert run(*words, cwd=tmp_path).returncode == 0
    rebuilt = open_bundle(tmp_path / f"{name}-rebuilt").manifest
    assert rebuilt.options == bundle.manifest.options
    if name != "protocol":  # its graph has brought weights into the loop since
        assert rebuilt.files[0] == bundle.manifest.files[0], "the same graph, byte for byte"
