"""Files by links: weights that are named by one, and bundles as stores lay them out."""

import hashlib
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import vggspec
from tests.nets import SMALL, net, random_weights
from tests.refusals import refused
from vggspec.bundle.manifest import MANIFEST, MODEL, WEIGHTS
from vggspec.bundle.opening import open_bundle
from vggspec.bundle.options import CompileOptions
from vggspec.cli import run
from vggspec.compiler.bundling.graph import write_bundle
from vggspec.compiler.weights import open_weights

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="links")


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """Of the net in ``small.vgg`` beside it."""
    (tmp_path / "small.vgg").write_text(SMALL)
    return random_weights(net(SMALL), tmp_path / "store" / "real.safetensors").path


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    pixels = np.random.default_rng(0).integers(0, 256, (50, 40, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "x.png")
    return tmp_path / "x.png"


def as_hugging_face(bundle: Path, root: Path) -> Path:
    """A bundle as ``huggingface_hub`` keeps it: links into a store, named by content."""
    snapshot = root / "models--a--b" / "snapshots" / "0123abcd"
    blobs = root / "models--a--b" / "blobs"
    blobs.mkdir(parents=True)
    for path in sorted(path for path in bundle.rglob("*") if path.is_file()):
        blob = blobs / hashlib.sha256(path.read_bytes()).hexdigest()
        shutil.copyfile(path, blob)
        link = snapshot / path.relative_to(bundle)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(os.path.relpath(blob, link.parent))
    return snapshot


def weights_elsewhere(bundle: Path, root: Path) -> Path:
    """A bundle of files but for the weights, which are a link, as git-annex and DVC keep them."""
    shutil.copytree(bundle, root / "mixed")
    (root / "annex").mkdir()
    (root / "mixed" / WEIGHTS).rename(root / "annex" / "w")
    (root / "mixed" / WEIGHTS).symlink_to("../../annex/w")
    return root / "mixed"


def each_elsewhere(bundle: Path, root: Path) -> Path:
    """Model and weights as links to folders of their own."""
    folder = weights_elsewhere(bundle, root)
    (root / "models").mkdir()
    (folder / MODEL).rename(root / "models" / "m")
    (folder / MODEL).symlink_to("../../models/m")
    return folder


def linked_folder(bundle: Path, root: Path) -> Path:
    """A link to the whole bundle."""
    root.mkdir()
    (root / "b").symlink_to(bundle)
    return root / "b"


@pytest.mark.parametrize(
    "lay",
    [as_hugging_face, weights_elsewhere, each_elsewhere, linked_folder],
    ids=lambda f: f.__name__,
)
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_bundle_of_links_is_used_like_any_other(
    lay: Callable[[Path, Path], Path],
    precision: str,
    weights: Path,
    picture: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    options = CompileOptions(precision=precision)  # type: ignore[arg-type]
    lowered = net(SMALL)
    write_bundle(lowered, open_weights(weights), tmp_path / "plain", options)
    (tmp_path / "root").mkdir()
    laid = lay(tmp_path / "plain", tmp_path / "root" / "x")
    with vggspec.load(tmp_path / "plain") as plain, vggspec.load(laid) as linked:
        np.testing.assert_array_equal(plain(picture).posteriors, linked(picture).posteriors)
    for command in (["inspect"], ["verify", "--device", "cpu"], ["doctor"]):
        assert run([command[0], str(laid), *command[1:]]) == 0, capsys.readouterr()
    target = (laid / WEIGHTS).resolve()
    data = bytearray(target.read_bytes())
    data[-1] ^= 1
    target.write_bytes(data)
    assert run(["verify", str(laid)]) == 1
    assert "VGG524" in capsys.readouterr().err


@pytest.mark.parametrize(
    "options",
    [["--weights", "link.safetensors"], ["--weights", "link.safetensors", "--protocol"], []],
    ids=["weights", "protocol", "beside the spec"],
)
@pytest.mark.parametrize("link", [[], ["--link-weights"]], ids=["copy", "link"])
def test_weights_may_be_named_by_a_link(
    options: list[str],
    link: list[str],
    weights: Path,
    picture: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("link.safetensors").symlink_to("again.safetensors")
    Path("again.safetensors").symlink_to("store/real.safetensors")
    Path("small.safetensors").symlink_to("store/real.safetensors")
    assert run(["compile", "small.vgg", *options, *link, "-o", "other/b"]) == 0
    bundle = open_bundle("other/b", deep=True)
    assert not (bundle.path / WEIGHTS).is_symlink()
    assert (bundle.path / WEIGHTS).read_bytes() == weights.read_bytes()
    for name in ("link.safetensors", "again.safetensors", "small.safetensors"):
        Path(name).unlink()
    with vggspec.load("other/b") as predictor:
        assert predictor(picture).posteriors.shape == (10,)


def test_links_in_a_ring_are_no_weights(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], weights: Path
) -> None:
    (tmp_path / "ring.safetensors").symlink_to("ring.safetensors")
    spec, ring = str(tmp_path / "small.vgg"), str(tmp_path / "ring.safetensors")
    assert run(["compile", spec, "--weights", ring, "-o", str(tmp_path / "b")]) == 1
    assert "symbolic links" in capsys.readouterr().err
    assert weights.is_file()


@pytest.mark.parametrize("path", ["../model.onnx", "/etc/passwd", "1/../../x"])
def test_what_the_manifest_says_does_not_lead_out(path: str, weights: Path, tmp_path: Path) -> None:
    write_bundle(net(SMALL), open_weights(weights), tmp_path / "b", CompileOptions())
    manifest = tmp_path / "b" / MANIFEST
    manifest.write_text(manifest.read_text().replace(f'"{MODEL}"', f'"{path}"'))
    with refused("not a path inside the bundle"):
        open_bundle(tmp_path / "b")
