"""``bench``: what is measured, joined with the layers, compared and refused."""

import math
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import vggspec
from tests.nets import SMALL, net, random_weights
from tests.refusals import refused
from tests.runtime.bundles import make
from vggspec.base.watcher import Progress, Watcher
from vggspec.bundle.opening import open_bundle
from vggspec.compiler.bundling.net import network_of
from vggspec.compiler.cost import cost
from vggspec.compiler.precision import number_types
from vggspec.runtime import ort_session
from vggspec.runtime.node_times import NodeTime, NodeTimes, node_times
from vggspec.studies.bench import bench as module
from vggspec.studies.bench.bench import _of_a_run
from vggspec.studies.bench.layers import layer_times
from vggspec.studies.bench.result import Bench, Measurement
from vggspec.studies.bench.shapes import shapes_for
from vggspec.studies.bench.turns import ratio, rounds
from vggspec.studies.bench.worker import Net, Worker


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """One net with two sets of weights."""
    folder = tmp_path_factory.mktemp("bench")
    (folder / "small.vgg").write_text(SMALL)
    found = []
    for seed in (0, 1):
        weights = folder / f"{seed}.safetensors"
        random_weights(net(SMALL), weights, seed)
        out = folder / f"b{seed}"
        vggspec.compile(folder / "small.vgg", weights=weights, out=out)
        found.append(str(out))
    return found[0], found[1]


@pytest.fixture
def small_product(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SIDE", {"cpu": 64})


def test_two_bundles(bundles: tuple[str, str], small_product: None, tmp_path: Path) -> None:
    for i in range(3):
        pixels = np.random.default_rng(i).integers(0, 256, (40, 50, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{i}.png")
    found = vggspec.bench(
        bundles, device="cpu", sizes=[(40, 32)], batches=[2], runs=12, data=tmp_path,
        layers=True, plot=tmp_path / "bench.png", threads=1,
    )  # fmt: skip
    first, second = found.measurements
    assert found.is_complete
    assert found.recorded == ()
    assert len(first.seconds) >= 12
    # Two images: the cost of the spec, counted for one.
    assert first.macs == 2 * cost(network_of(open_bundle(bundles[0])).at(40, 32)).macs
    assert first.agreement is None
    assert second.agreement is not None
    assert second.agreement.images == 3
    # Other weights give other posteriors, by the predictor's session too.
    assert second.agreement.max_difference == pytest.approx(
        _difference(bundles, tmp_path), rel=1e-3
    )
    assert not second.agreement.is_same
    assert second.share_of_peak is not None
    assert second.layers is not None
    assert sum(layer.macs for layer in second.layers.layers) == second.macs
    with Image.open(tmp_path / "bench.png") as picture:
        assert picture.size[0] == 9 * 144
    assert 0 < found.candidates[0].idle_bytes < found.candidates[0].peak_bytes
    assert found.as_data()["measurements"][0]["speedup"] == 1


def _difference(bundles: tuple[str, str], folder: Path) -> float:
    from PIL import ImageOps

    from vggspec.runtime.net import BundleNet

    images = np.stack(
        [
            np.asarray(ImageOps.fit(Image.open(path), (32, 40), Image.Resampling.BILINEAR))
            for path in sorted(folder.glob("?.png"))
        ]
    )
    given = []
    for bundle in bundles:
        with BundleNet(bundle, device="cpu") as loaded:
            given.append(loaded(images)["posteriors"])
    return float(np.abs(given[0] - given[1]).max())


def test_a_picture_that_cannot_be_written_is_noticed_before(
    bundles: tuple[str, str], tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder.png").mkdir()
    for plot in (tmp_path / "folder.png", tmp_path / "file" / "bench.png"):
        with refused("VGG511"):
            vggspec.bench(bundles[0], plot=plot, watch=Untouched())


class Untouched(Watcher):
    def progress(self, now: Progress) -> None:
        raise AssertionError(now)


def test_sizes_of_numpy_and_the_result_before_it_is_drawn(
    bundles: tuple[str, str],
    small_product: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plot, heard = tmp_path / "bench.png", []

    def finish(found: Bench) -> None:
        heard.append(found)
        assert not plot.exists()

    sizes: Any = np.array([[32, 40]])
    found = vggspec.bench(
        bundles[0], device="cpu", sizes=sizes, batches=np.array([2]), runs=1, plot=plot,
        finish=finish,
    )  # fmt: skip
    assert heard == [found]
    assert plot.exists()
    assert [each.shape for each in found.measurements] == [(2, 32, 40)]
    assert all(type(side) is int for side in found.measurements[0].shape)


class Interrupting(Watcher):
    def progress(self, now: Progress) -> None:
        if now.doing == "measuring" and now.done == 1:
            raise KeyboardInterrupt


def test_an_interruption_keeps_what_was_measured(
    bundles: tuple[str, str], small_product: None
) -> None:
    found = vggspec.bench(bundles[0], device="cpu", batches=[1, 2], runs=1, watch=Interrupting())
    assert not found.is_complete
    assert [each.shape for each in found.measurements] == [(1, 32, 32)]


@pytest.mark.slow
def test_the_faster_engine_is_recorded(
    bundles: tuple[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    found = vggspec.bench(bundles[0], device=("cpu", "openvino"), batches=[1], seconds=0.2)
    (record,) = found.recorded
    assert record.seconds.keys() == {"cpu", "openvino"}
    assert [each.device for each in found.candidates] == ["cpu", "openvino"]
    agreement = found.measurements[1].agreement
    assert agreement is not None
    assert agreement.max_difference < 1e-5
    auto = vggspec.bench(bundles[0], batches=[1], runs=1).candidates[0]
    if not vggspec.doctor().machine.gpus:
        assert auto.device == record.device


@pytest.mark.parametrize("device", ["cpu", "openvino"])
def test_every_layer_has_a_node(bundles: tuple[str, str], device: str) -> None:
    """Both engines fuse ReLU into convs, each with its own names for it."""
    bundle = open_bundle(bundles[0])
    network = network_of(bundle).at(32, 32)
    images = np.random.default_rng(0).normal(0, 1, (2, 3, 32, 32)).astype(np.float32)
    times = node_times(bundle.model, device, {"image": images}, threads=1, runs=2)  # type: ignore[arg-type]
    found = layer_times(times, network, number_types(network, "fp32"), 2)
    named = [name for layer in found.layers for name in layer.layers]
    assert sorted([*named, *found.untimed]) == sorted(layer.name for layer in network.layers)
    assert sum(layer.macs for layer in found.layers) == 2 * cost(network).macs
    spent = sum(layer.seconds for layer in found.layers) + sum(found.others.values())
    assert spent + found.between_s == pytest.approx(found.run_s)


def test_nodes_and_layers() -> None:
    """Names as ONNX Runtime writes them."""
    network = net("net n\ninput 8x8 RGB(mean 0)\nconv3-4\nmaxpool\nFC-5\nsoft-max\n").network
    names = [layer.name for layer in network.layers]
    assert names[:3] == ["conv1_1", "relu1_1", "pool1"]
    types = number_types(network, "fp32")
    nodes = (
        NodeTime(names=("ReorderInput",), kind="ReorderInput", seconds=1.0),
        NodeTime(names=("relu1_1_nchwc",), kind="Conv", seconds=2.0),
        NodeTime(names=("pool1_nchwc",), kind="MaxPool", seconds=3.0),
        NodeTime(names=("fc2_token_7",), kind="Gemm", seconds=4.0),
        NodeTime(names=("pool1",), kind="Cast", seconds=0.5),
    )
    found = layer_times(NodeTimes(nodes, 12.0), network, types, 2)
    conv, pool, _fc = found.layers
    assert conv.layers == ("conv1_1", "relu1_1")
    assert pool.layers == ("pool1",)
    assert conv.macs == 2 * 8 * 8 * 4 * 27
    # Image and map in, weights and bias once; the map between conv and ReLU stays inside.
    assert conv.bytes == 4 * (2 * (3 * 64 + 4 * 64) + 4 * 27 + 4)
    assert conv.flops_a_second == 2 * conv.macs / 2.0
    assert found.others == {"ReorderInput": 1.0, "Cast": 0.5}
    assert found.between_s == 1.5
    assert found.untimed == ("flatten", "prob")


def measurement(*seconds: float) -> Measurement:
    return Measurement(
        candidate=0, shape=(1, 8, 8), first_s=1.0, turns=(seconds,), cpu_s=1.0, macs=1,
        peak_flops=None, share_of_peak=None,
    )  # fmt: skip


def test_percentiles() -> None:
    """As numpy's, and none of so few runs that it would be the longest."""
    seconds = np.random.default_rng(0).gamma(2, 1, 250)
    found = measurement(*seconds)
    assert found.p90_s == np.percentile(seconds, 90, method="inverted_cdf")
    assert found.p99_s == np.percentile(seconds, 99, method="inverted_cdf")
    assert found.median_s == np.median(seconds)
    assert found.is_noisy
    few = measurement(*seconds[:9])
    assert (few.p90_s, few.p99_s) == (None, None)
    assert not measurement(1.0, 1.1, 1.2).is_noisy


def test_ratios_are_taken_turn_by_turn() -> None:
    """A machine that becomes slower does not change them."""
    speeds = iter((1.0, 1.0, 3.0, 3.0, 9.0, 9.0))
    turns = {"a": lambda: 2 * next(speeds), "b": lambda: next(speeds)}
    taken = list(islice(rounds(turns), 3))
    a, b = ([each[name] for each in taken] for name in "ab")
    assert ratio(a, b) == 2
    assert math.isclose(ratio(b, a), 0.5)


def test_shapes(tmp_path: Path) -> None:
    make(tmp_path / "dense")
    make(tmp_path / "crop", is_dynamic=False)
    dense, crop = open_bundle(tmp_path / "dense"), open_bundle(tmp_path / "crop")

    def shapes(bundle: object, **given: object) -> tuple[object, ...]:
        chosen = {"sizes": None, "batches": None} | given
        return shapes_for(bundle, is_engine=False, **chosen)  # type: ignore[arg-type]

    assert shapes(dense) == ((1, 16, 16), (8, 16, 16), (1, 384, 512))
    assert shapes(crop) == ((1, 16, 16), (8, 16, 16))
    both = shapes(dense, sizes=[(20, 30)], batches=[3, 3, 1])
    assert both == ((3, 20, 30), (1, 20, 30))
    with refused("VGG575(.|\n)*--shape 16x16"):
        shapes(crop, sizes=[(20, 30)])
    with refused("VGG575"):
        shapes(dense, sizes=[(15, 30)])
    with pytest.raises(vggspec.ArgumentError, match="1 GiB"):
        shapes(dense, sizes=[(20000, 20000)])


def test_what_cannot_be_measured(
    bundles: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = Path(bundles[0]).parent / "small.vgg"
    weights = spec.parent / "0.safetensors"
    fused = vggspec.compile(spec, weights=weights, out=tmp_path / "p", protocol=True)
    with refused("VGG576"):
        vggspec.bench(fused, device="cpu")
    (tmp_path / "none").mkdir()
    with refused("VGG579"):
        vggspec.bench(bundles[0], data=tmp_path / "none")
    with pytest.raises(vggspec.ArgumentError, match="a bundle contains its own"):
        vggspec.bench(bundles[0], weights=weights, device="cpu")
    monkeypatch.setattr(ort_session, "lacking_cuda", lambda: None)
    with refused("VGG577"):
        vggspec.bench(bundles[0], device="cuda", layers=True)
    monkeypatch.setitem(__import__("sys").modules, "openvino", None)
    with pytest.raises(vggspec.MissingLibraryError, match=r"pip install .vggspec\[openvino\]"):
        vggspec.bench(bundles[0], device="openvino")


def test_a_process_that_is_killed(bundles: tuple[str, str]) -> None:
    with Worker(Net(open_bundle(bundles[0]), "cpu", 1), "b0") as worker:
        worker._process.kill()
        with refused("VGG578") as told:
            worker.load()
    assert "SIGKILL" in str(told.value)


def test_every_shape_counts_the_same_for_auto() -> None:
    """However long its runs take, and whatever one turn was disturbed by."""
    small = [1e-3, 1e-3, 9e-3], [2e-3, 2e-3, 18e-3]
    large = [1.0, 1.0, 1.0], [0.9, 0.9, 7.0]
    found = _of_a_run([small, large])
    assert found["cpu"] == pytest.approx((1e-3 * 1.0) ** 0.5)
    assert found["openvino"] / found["cpu"] == pytest.approx((2 * 0.9) ** 0.5)
    assert _of_a_run([([1.0, 1.0], [0.5])])["openvino"] == 0.5


def test_a_large_fc_layer_has_the_time_of_its_product(tmp_path: Path) -> None:
    """Slices, a Gemm and what changes form, of which the last alone has the layer's name."""
    text = (
        "input 32x32 RGB(mean 0)\nconv3-64 maxpool conv3-16 maxpool maxpool FC-4200 FC-3 soft-max\n"
    )
    (tmp_path / "n.vgg").write_text(text)
    random_weights(net(text), tmp_path / "w.safetensors")
    vggspec.compile(tmp_path / "n.vgg", weights=tmp_path / "w.safetensors", out=tmp_path / "b")
    bundle = open_bundle(tmp_path / "b")
    network = network_of(bundle).at(32, 32)
    images = np.zeros((1, 3, 32, 32), np.float32)
    times = node_times(bundle.model, "cpu", {"image": images}, threads=1, runs=2)
    assert any("/product/" in name for node in times.nodes for name in node.names)
    found = layer_times(times, network, number_types(network, "fp32"), 1)
    assert sum(layer.macs for layer in found.layers) == cost(network).macs
    (fc,) = (layer for layer in found.layers if "fc4" in layer.layers)
    assert fc.seconds > max(node.seconds for node in times.nodes if node.kind == "Slice")
    assert "Gemm" not in found.others
    spent = sum(layer.seconds for layer in found.layers) + sum(found.others.values())
    assert spent + found.between_s == pytest.approx(found.run_s)
