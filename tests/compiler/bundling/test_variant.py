"""A bundle in another form answers as the same net compiled in that form."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.cli.run import vggspec
from tests.engines import stand_in
from tests.nets import SMALL, images, net, random_weights, run_onnx, session
from tests.refusals import refused
from vggspec.base.catalogue.artefacts import NotFinite
from vggspec.base.diagnostic import VggspecError
from vggspec.bundle.manifest import WEIGHTS
from vggspec.bundle.opening import Bundle, open_bundle
from vggspec.bundle.options import CompileOptions
from vggspec.compiler.backends.onnx.model import prepare
from vggspec.compiler.bundling.graph import write_bundle
from vggspec.compiler.bundling.net import lowered_of
from vggspec.compiler.bundling.variant import Changes, varied, write_variant
from vggspec.compiler.weights import Metadata, WeightsFile, open_weights, save
from vggspec.runtime.net import BundleNet

TEXT = f"{SMALL.replace('(mean 120 115 100, std 58 57 56)', '')}\ntest:\n  scale 36\n"
LABELS = tuple("abcdefghij")
MEAN = (99.0, 98.0, 97.5)

CHANGES = [
    Changes(average="posteriors"),
    Changes(keep_map=True),
    Changes(pool="ceil"),
    Changes(stride=2),
    Changes(stride=1, pool="ceil", average="posteriors", keep_map=True),
    Changes(layer="fc3"),
    Changes(form="crop"),
    Changes(layer="conv2_1", form="crop"),
]


def weights(folder: Path) -> WeightsFile:
    """Random ones, with labels and a mean of their own."""
    path = folder / "w.safetensors"
    made = random_weights(net(TEXT), path)
    arrays = {name: made.read(name).copy() for name in made.tensors}
    save(path, arrays, Metadata(labels=LABELS, mean=MEAN))
    return open_weights(path)


def written(folder: Path, options: CompileOptions) -> Bundle:
    write_bundle(net(TEXT), weights(folder), folder / "b", options)
    return open_bundle(folder / "b")


@pytest.mark.parametrize("changes", CHANGES, ids=str)
def test_it_answers_as_the_net_compiled_so(changes: Changes, tmp_path: Path) -> None:
    bundle = written(tmp_path, CompileOptions())
    variant = write_variant(bundle, tmp_path / "v", changes)
    assert variant == open_bundle(tmp_path / "v", deep=True)
    options = changes.applied(CompileOptions())
    direct = write_bundle(net(TEXT), weights(tmp_path), tmp_path / "d", options)
    assert variant.manifest == replace(direct.manifest, files=variant.manifest.files)
    size = (32, 32) if options.form == "crop" else (41, 45)
    x = images(2, 3, *size)
    found = run_onnx(session(variant.model), x)
    expected = run_onnx(session(tmp_path / "d/1/model.onnx"), x)
    assert list(found) == list(expected)
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array)
    # What its manifest says leads back to it.
    again = prepare(lowered_of(variant).network, variant.manifest.options)
    meant = prepare(lowered_of(bundle).network, options)
    assert again.outputs == meant.outputs
    assert [(a.name, a.op, a.inputs) for a in again.layers] == [
        (b.name, b.op, b.inputs) for b in meant.layers
    ]


def test_nothing_else_changes(tmp_path: Path) -> None:
    """Not what was edited in the manifest, and not the contract."""
    bundle = written(tmp_path, CompileOptions(contract="raw", average="posteriors"))
    manifest = bundle.manifest
    edited = replace(
        manifest,
        input=replace(manifest.input, mean=(1.0, 2.0, 3.0)),
        labels=tuple("klmnopqrst"),
        test=replace(manifest.test, scales=(48,)),
    )
    variant = write_variant(Bundle(bundle.path, edited), tmp_path / "v", Changes(stride=2))
    assert variant.manifest.input == edited.input
    assert variant.manifest.labels == edited.labels
    assert variant.manifest.test == edited.test
    assert variant.manifest.average == "posteriors"
    assert (variant.path / WEIGHTS).read_bytes() == (bundle.path / WEIGHTS).read_bytes()
    assert variant.model.stat().st_size < 16 << 10
    features = write_variant(Bundle(bundle.path, edited), tmp_path / "f", Changes(layer="fc4"))
    assert (features.manifest.labels, features.manifest.result.channels) == (None, 10)


@pytest.mark.parametrize(
    "changes", [Changes(), Changes(pool="floor"), Changes(stride=4), Changes(average="scores")]
)
def test_where_nothing_changes_it_is_the_bundle(changes: Changes, tmp_path: Path) -> None:
    bundle = written(tmp_path, CompileOptions())
    assert write_variant(bundle, tmp_path / "v", changes) is bundle
    assert not (tmp_path / "v").exists()


def test_it_goes_as_it_came(tmp_path: Path) -> None:
    bundle = written(tmp_path, CompileOptions())
    before = sorted(tmp_path.iterdir())
    with varied(bundle, Changes(stride=2)) as variant:
        assert open_bundle(variant.path).manifest.stride == (2, 2)
        assert (variant.path / WEIGHTS).resolve() == (bundle.path / WEIGHTS).resolve()
    assert not variant.path.exists()
    assert sorted(tmp_path.iterdir()) == before
    with refused("VGG660"), varied(bundle, Changes(stride=3)):
        pass
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("name", [None, "other"])
def test_its_weights_are_read_where_they_are(name: str | None, tmp_path: Path) -> None:
    """By the folder that its link leads to; in memory where they have another name there."""
    bundle = written(tmp_path, CompileOptions())
    if name is not None:
        (bundle.path / WEIGHTS).rename(tmp_path / name)
        (bundle.path / WEIGHTS).symlink_to(tmp_path / name)
    pixels = images(1, 32, 32, 3).astype(np.uint8)
    with varied(bundle, Changes(keep_map=True)) as variant:
        assert (variant.path / WEIGHTS).is_symlink()
        with BundleNet(variant, device="cpu") as found, BundleNet(bundle, device="cpu") as plain:
            seen, expected = found(pixels), plain(pixels)
    assert "score_map" in seen
    np.testing.assert_array_equal(seen["posteriors"], expected["posteriors"])


def test_errors_name_the_bundle_that_was_given(tmp_path: Path) -> None:
    made = random_weights(net(TEXT), tmp_path / "w.safetensors")
    arrays = {name: np.full_like(made.read(name), 1e38) for name in made.tensors}
    save(tmp_path / "w.safetensors", arrays, Metadata())
    write_bundle(
        net(TEXT), open_weights(tmp_path / "w.safetensors"), tmp_path / "b", CompileOptions()
    )
    bundle = open_bundle(tmp_path / "b")
    changes = Changes(average="posteriors", pool="ceil", stride=2)
    pixels = np.zeros((1, 40, 40, 3), np.uint8)
    with (  # noqa: PT012 (the block is the test)
        pytest.raises(VggspecError) as error,
        varied(bundle, changes) as variant,
        BundleNet(variant, device="cpu") as loaded,
    ):
        assert variant is not bundle
        list(loaded.apply_all([pixels]))
    (one,) = error.value.reports
    assert isinstance(one.what, NotFinite)
    assert one.path == str(tmp_path / "b")


def test_half_precision_stays_and_an_engine_becomes_a_graph(tmp_path: Path) -> None:
    options = CompileOptions(precision="fp16", keep_fp32=("conv1_1", "prob"))
    bundle = written(tmp_path, options)
    variant = write_variant(bundle, tmp_path / "v", Changes(layer="fc3"))
    assert (variant.manifest.precision, variant.manifest.fp32_layers) == ("fp16", ("conv1_1",))
    assert variant.reference is not None
    x = images(1, 3, 40, 44)
    found, exact = (run_onnx(session(p), x) for p in (variant.model, variant.reference))
    np.testing.assert_allclose(found["features"], exact["features"], rtol=0.02, atol=0.01)
    stand_in(tmp_path / "engine")
    engine = open_bundle(tmp_path / "engine")
    graph = write_variant(engine, tmp_path / "graph", Changes(stride=2))
    assert (graph.manifest.engine, graph.manifest.precision) == (None, "fp32")
    assert graph.manifest.score_map is not None
    expected = prepare(net(SMALL).network, CompileOptions(stride=2)).at(40, 44)
    maps = run_onnx(session(graph.model), x)["score_map"]
    assert maps.shape[2:] == (5, 7)
    assert expected.type_of(expected["average"].inputs[0]).size == (5, 7)


def test_a_bundle_without_its_weights_names_the_command(tmp_path: Path) -> None:
    bundle = written(tmp_path, CompileOptions(single_file=True))
    changes = Changes(stride=2, pool="ceil", keep_map=True, average="posteriors")
    with pytest.raises(VggspecError) as error:
        write_variant(bundle, tmp_path / "v", changes)
    what = error.value.reports[0].what
    assert what.code == "VGG665"
    words = "compile small.vgg --average posteriors --map --pool ceil --stride 2 -o"
    assert words in (what.help() or "")
    with refused(r"(?s)VGG665.*--layer fc3"):
        write_variant(bundle, tmp_path / "v", Changes(layer="fc3"))
    stand_in(tmp_path / "engine")
    (tmp_path / "engine" / WEIGHTS).unlink()
    with refused("VGG665"):
        write_variant(open_bundle(tmp_path / "engine"), tmp_path / "v", changes)


@pytest.mark.parametrize(
    ("options", "against"),
    [
        (CompileOptions(stride=2, pool="ceil", keep_map=True, precision="fp16"), "torch"),
        (CompileOptions(layer="conv2_1", stride=1, precision="fp16"), "onnxrt"),
        (CompileOptions(layer="conv2_1", form="crop"), "torch"),
    ],
    ids=["finer", "features", "crop"],
)
def test_it_is_verified_and_inspected(
    options: CompileOptions, against: str, tmp_path: Path
) -> None:
    written(tmp_path, options)
    done = vggspec("verify", "b", "-q", "--against", against, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    shown = vggspec("inspect", "b", cwd=tmp_path)
    assert shown.returncode == 0
    assert ("features" in shown.stdout) == (options.layer is not None)
    config = (tmp_path / "b/config.pbtxt").read_text()
    assert ("label_filename" in config) == (options.layer is None)
    assert not (tmp_path / "b/nvinfer.txt").exists()
