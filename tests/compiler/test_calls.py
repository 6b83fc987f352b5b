"""The library calls behind the small commands, as a notebook makes them."""

from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from tests.nets import SMALL
from tests.refusals import refused
from vggspec.base.catalogue import explain
from vggspec.base.diagnostic import ArgumentError
from vggspec.base.watcher import Watcher
from vggspec.compiler.checking import check
from vggspec.compiler.difference import diff
from vggspec.compiler.formatting import format_spec, format_text
from vggspec.compiler.importing.converting import ImportOptions, import_weights
from vggspec.compiler.initialise import initialise
from vggspec.compiler.summary import packaged_specs, summarise
from vggspec.compiler.weights import open_weights


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("small.vgg").write_text(SMALL)
    return tmp_path


def test_check() -> None:
    assert check("D") == ()
    (report,) = check("mine.vgg", text="FC-10\nmaxpol\n")
    assert str(report) == "mine.vgg:2:1: error[VGG101]: unknown layer `maxpol`"
    assert [each.what.code for each in check("nothing.vgg")] == ["VGG010"]


def test_summarise() -> None:
    found = summarise("D", at=(384, 512), dense=True)
    assert found.cost.macs == 67_551_756_288
    assert found.batch is None
    assert len(found.layers()) < len(found.layers(implied=True))
    assert summarise("D").batch == 256


def test_diff() -> None:
    found = diff("A", "D")
    assert [row.second.write() for row in found.rows if row.first is None and row.second] == [
        "conv3-64", "conv3-128", "conv3-256", "conv3-512", "conv3-512",
    ]  # fmt: skip


def test_format(here: Path) -> None:
    assert format_text("NET  X\nfc-2\n") == "net X\nFC-2\n"
    with refused("VGG001"):
        format_text("conv3-64(pad 1\n")
    Path("x.vgg").write_text("NET  X\nfc-2\n")
    found = format_spec("x.vgg")
    assert found.is_changed
    found.write()
    assert Path("x.vgg").read_text() == found.after == "net X\nFC-2\n"


def test_explain() -> None:
    assert explain("231") == explain("vgg231")
    with pytest.raises(LookupError, match="Did you mean VGG231"):
        explain("VGG2311")


def test_packaged_specs() -> None:
    (spec,) = [each for each in packaged_specs() if each.name == "D"]
    assert spec.title == 'Configuration D, "VGG-16"'
    assert len(spec.nets[0].weight_layers) == 16


def test_initialise_and_import_weights(here: Path) -> None:
    assert initialise("small.vgg", out="first.safetensors", seed=3) == "first.safetensors"
    with refused("VGG512"):
        initialise("small.vgg", out="first.safetensors")
    arrays = safetensors.numpy.load_file("first.safetensors")
    np.savez("checkpoint.npz", **arrays, steps=np.arange(3))
    notes: list[str] = []

    class Notes(Watcher):
        def note(self, text: str) -> None:
            notes.append(text)

    options = ImportOptions(source="spec")
    found = import_weights(
        "small.vgg", "checkpoint.npz", out=here / "w", options=options, watch=Notes()
    )
    assert notes == ["left out 1 tensor without floating point numbers: `steps`"]
    assert set(found.matched.arrays) == set(arrays)
    weights = open_weights(found.path)
    for name, array in arrays.items():
        np.testing.assert_array_equal(weights.read(name), array)
    import_weights("small.vgg", "checkpoint.npz", out="w", options=options, watch=Notes())
    assert notes[1:] == [notes[0], "w existed and was replaced"]
    with pytest.raises(ArgumentError, match="`w` is a file that is read"):
        import_weights("small.vgg", "w", out="w", options=options)
