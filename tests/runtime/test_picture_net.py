"""A bundle whose graph holds the test protocol, in use: ``predict`` asks it as any other bundle."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.nets import SMALL, net, random_weights
from tests.refusals import refused
from tests.runtime.bundles import rewrite
from vggspec.base.diagnostic import ArgumentError, VggspecError
from vggspec.bundle.digests import digest
from vggspec.bundle.opening import open_bundle
from vggspec.bundle.options import CompileOptions
from vggspec.compiler.bundling.graph import write_bundle
from vggspec.compiler.bundling.protocol import write_protocol_bundle
from vggspec.runtime.net import BundleNet
from vggspec.runtime.open_session import open_session
from vggspec.runtime.predictor import Predictor

#: Posteriors by the graph and by the runtime, on noise: what resampling makes.
RESAMPLING = 2e-3


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``net``, an ordinary bundle, and ``protocol``, with the protocol in its graph."""
    folder = tmp_path_factory.mktemp("bundles")
    lowered = net(SMALL)
    weights = random_weights(lowered, folder / "w.safetensors")
    write_bundle(lowered, weights, folder / "net", CompileOptions())
    write_protocol_bundle([(lowered, weights)], folder / "protocol", CompileOptions())
    return folder


@pytest.fixture(scope="module")
def predictor(bundles: Path) -> Iterator[Predictor]:
    with Predictor(bundles / "protocol", device="cpu", threads=1) as found:
        yield found


def picture(*shape: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def refusal(predictor: Predictor, image: NDArray[np.uint8], *scales: int) -> str:
    with pytest.raises(VggspecError) as error:
        predictor(image, scales)
    (report,) = error.value.reports
    return f"{report.what.code}: {report.what.title()}"


def test_its_answer_is_that_of_the_runtime(bundles: Path, predictor: Predictor) -> None:
    with Predictor(bundles / "net", device="cpu", threads=1) as plain:
        for size in [(45, 61), (61, 45), (33, 32), (17, 90)]:
            image = picture(*size, 3)
            expected, found = plain(image, (32, 40, 51)), predictor(image, (32, 40, 51))
            np.testing.assert_allclose(found.posteriors, expected.posteriors, atol=RESAMPLING)
            assert (found.kind, found.labels) == (expected.kind, expected.labels)
            assert (found.scales, found.flip) == (expected.scales, expected.flip)
            assert (found.size, found.maps) == (expected.size, ())
        # Without being told, both take the spec's scales.
        usual = plain(image).posteriors
        np.testing.assert_allclose(predictor(image).posteriors, usual, atol=RESAMPLING)
    assert not predictor.gives_maps
    assert predictor.device == "cpu"


def test_mirror_images_are_fixed(predictor: Predictor) -> None:
    image = picture(40, 50, 3)
    assert np.array_equal(predictor(image, flip=True).posteriors, predictor(image).posteriors)
    with refused("VGG676") as error:
        predictor(image, flip=False)
    assert "--protocol --no-flip" in str(error.value.reports[0].what.help())


def test_what_cannot_be_seen_is_told_as_ever(predictor: Predictor) -> None:
    image = picture(40, 50, 3)
    assert refusal(predictor, image, 31) == (
        "VGG454: an image of 31 × 39 is smaller than the net's window of 32 × 32"
    )
    assert refusal(predictor, image, 40, 31).startswith("VGG454")
    assert refusal(predictor, picture(2, 4000, 3), 100).startswith("VGG453")
    assert refusal(predictor, np.zeros((32, 300_000, 3), np.uint8), 32).startswith("VGG453")
    with pytest.raises(ArgumentError, match="scales are whole numbers of pixels"):
        predictor(image, ())


def test_an_answer_that_is_no_number_is_refused(bundles: Path, tmp_path: Path) -> None:
    lowered = net(SMALL)
    weights = random_weights(lowered, tmp_path / "w.safetensors")
    bundle = tmp_path / "b"
    write_protocol_bundle([(lowered, weights)], bundle, CompileOptions())
    data = np.memmap(bundle / "1/model.safetensors", np.uint8, "r+")
    data[weights.data_start :] = 0xFF  # NaN
    data.flush()
    changed = digest(bundle / "1/model.safetensors", weights.data_start)
    rewrite(bundle, {"files.1.sha256": changed})
    with Predictor(bundle, device="cpu") as broken:
        assert refusal(broken, picture(32, 32, 3), 32).startswith("VGG528")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"outputs.0.channels": 11}, "no output `posteriors` of 11 classes"),
        ({"input.name": "photo"}, "it takes `picture` uint8"),
    ],
)
def test_a_graph_that_is_not_the_manifests(
    changes: dict[str, object], said: str, bundles: Path, tmp_path: Path
) -> None:
    lowered = net(SMALL)
    weights = random_weights(lowered, tmp_path / "w.safetensors")
    write_protocol_bundle([(lowered, weights)], tmp_path / "b", CompileOptions())
    rewrite(tmp_path / "b", changes)
    with refused("VGG527") as error:
        Predictor(tmp_path / "b", device="cpu")
    assert said in error.value.reports[0].what.title()


def test_who_wants_the_net_alone_is_told(bundles: Path) -> None:
    with refused("VGG677"):
        BundleNet(bundles / "protocol")


def test_tensorrt_is_refused(bundles: Path) -> None:
    with refused("TensorRT does not take the rescaling"):
        open_session(open_bundle(bundles / "protocol"), "tensorrt")
