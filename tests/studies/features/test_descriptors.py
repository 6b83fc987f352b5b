"""Descriptors against PyTorch's operators written out, and against themselves in another order."""

import io
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.nn import functional

from tests.nets import SMALL, net, random_weights
from tests.photos import png as photo
from vggspec.base.recipe import TestProtocol
from vggspec.bundle.opening import Bundle, open_bundle
from vggspec.bundle.options import CompileOptions
from vggspec.compiler.bundling.graph import write_bundle
from vggspec.compiler.weights import WeightsFile, describe, open_weights, save
from vggspec.data.decode import BadImageError
from vggspec.runtime.net import BundleNet
from vggspec.runtime.protocol import Look
from vggspec.studies.features import descriptors as features
from vggspec.studies.features.descriptors import Combination, unit, width
from vggspec.studies.pipeline import Applied, Seen, Sight

Floats = NDArray[np.float64]

MEAN, STD = (120.0, 115.0, 100.0), (58.0, 57.0, 56.0)
LAYERS = {"relu3": 24, "conv2_1": 16, "conv1_1": 8}
SCALES = (32, 41)
SIZES = [(43, 70), (61, 37), (43, 70), (33, 32)]


PHOTOS = [photo(size, seed) for seed, size in enumerate(SIZES)]


@dataclass(frozen=True)
class Made:
    bundle: Bundle
    weights: WeightsFile


def make(folder: Path, layer: str, seed: int = 0) -> Made:
    """SMALL up to a layer, its batch normalisation with statistics that matter."""
    folder.mkdir()
    lowered = net(SMALL)
    drawn = random_weights(lowered, folder / "drawn", seed)
    arrays = {name: drawn.read(name).copy() for name in drawn.tensors}
    rng = np.random.default_rng(seed)
    for name in arrays:
        if name.startswith("bn"):
            arrays[name] = rng.uniform(0.5, 1.5, arrays[name].shape).astype(np.float32)
    save(folder / "w", arrays, describe(lowered.network))
    weights = open_weights(folder / "w")
    write_bundle(lowered, weights, folder / "b", CompileOptions(layer=layer))
    return Made(open_bundle(folder / "b"), weights)


def by_torch(made: Made, layer: str, pixels: NDArray[np.uint8]) -> Floats:
    """What a layer of SMALL gives for one picture, averaged over space."""
    w = {name: torch.from_numpy(made.weights.read(name).copy()) for name in made.weights.tensors}
    image = (pixels.astype(np.float32) - MEAN) / np.array(STD)
    x = torch.from_numpy(image.transpose(2, 0, 1)[None].astype(np.float32).copy())
    x = functional.conv2d(x, w["conv1_1.weight"], w["conv1_1.bias"], padding=1)
    statistics = w["bn1_1.running_mean"], w["bn1_1.running_var"]
    x = functional.relu(functional.batch_norm(x, *statistics, w["bn1_1.weight"], w["bn1_1.bias"]))
    if layer != "conv1_1":
        x = functional.conv2d(x, w["conv1_2.weight"], w["conv1_2.bias"], padding=1)
        x = functional.max_pool2d(functional.relu(x), 2)
        x = functional.conv2d(x, w["conv2_1.weight"], w["conv2_1.bias"], padding=1, groups=2)
        x = functional.relu(x)
    if layer == "relu3":
        x = functional.local_response_norm(x, 5, alpha=5e-4, beta=0.75, k=2.0)
        x = functional.max_pool2d(x, 2)
        x = functional.conv2d(x, w["fc3.weight"].reshape(24, 16, 8, 8), w["fc3.bias"])
        x = functional.relu(x)
    found: Floats = x[0].double().mean(dim=(1, 2)).numpy()
    return found


def at_scale(data: bytes, scale: int) -> NDArray[np.uint8]:
    image = Image.open(io.BytesIO(data))
    factor = scale / min(image.size)
    sides = round(image.width * factor), round(image.height * factor)
    return np.asarray(image.resize(sides, Image.Resampling.BILINEAR))


def expected(
    made: Made, layer: str, data: bytes, scales: tuple[int, ...], flip: bool
) -> list[Floats]:
    """A descriptor for each scale."""
    found = []
    for scale in scales:
        pixels = at_scale(data, scale)
        views = [pixels, pixels[:, ::-1]] if flip else [pixels]
        found.append(np.mean([by_torch(made, layer, view) for view in views], axis=0))
    return found


def described(
    bundles: list[Bundle],
    combination: Combination,
    *,
    scales: tuple[int, ...] = SCALES,
    flip: bool = True,
    indices: list[int] | None = None,
    threads: int | None = None,
) -> list[NDArray[np.float32]]:
    protocol = TestProtocol(scales=scales, flip=flip)
    with ExitStack() as stack:
        applied = [
            Applied(stack.enter_context(BundleNet(each, device="cpu", threads=1)), protocol)
            for each in bundles
        ]
        order = list(range(len(PHOTOS))) if indices is None else indices
        found = list(
            features.describe(applied, PHOTOS.__getitem__, order, combination, threads=threads)
        )
    assert [one.index for one in found] == order
    vectors = [one.descriptor for one in found if one.descriptor is not None]
    assert len(vectors) == len(found)
    return vectors


@pytest.mark.parametrize("flip", [True, False])
@pytest.mark.parametrize("layer", LAYERS)
def test_a_descriptor_is_that_of_pytorch(layer: str, flip: bool, tmp_path: Path) -> None:
    made = make(tmp_path / "a", layer)
    combination = Combination(over_scales="stack", normalise=False)
    found = described([made.bundle], combination, flip=flip)
    for one, data in zip(found, PHOTOS, strict=True):
        wanted = np.concatenate(expected(made, layer, data, SCALES, flip))
        assert one.dtype == np.float32
        assert one.shape == (2 * LAYERS[layer],)
        np.testing.assert_allclose(one, wanted, rtol=1e-5, atol=1e-6 * wanted.max())


def test_scales_are_averaged_or_stacked_and_the_length_is_one(tmp_path: Path) -> None:
    made = make(tmp_path / "a", "relu3")
    at_scales = expected(made, "relu3", PHOTOS[0], SCALES, True)
    for over_scales, whole in (
        ("average", (at_scales[0] + at_scales[1]) / 2),
        ("stack", np.concatenate(at_scales)),
    ):
        combination = Combination(over_scales=over_scales)  # type: ignore[arg-type]
        found = described([made.bundle], combination)[0]
        wanted = whole / np.sqrt((whole**2).sum())
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


def test_each_of_several_nets_counts_the_same(tmp_path: Path) -> None:
    """Though the second one's numbers are others and its layer is wider."""
    one, other = make(tmp_path / "a", "conv1_1"), make(tmp_path / "b", "relu3", seed=1)
    bundles = [one.bundle, other.bundle]
    found = described(bundles, Combination(), scales=(32,))[1]
    assert found.shape == (32,)
    parts = [
        expected(made, layer, PHOTOS[1], (32,), True)[0]
        for made, layer in ((one, "conv1_1"), (other, "relu3"))
    ]
    wanted = np.concatenate([part / np.linalg.norm(part) for part in parts]) / np.sqrt(2)
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)
    plain = described(bundles, Combination(normalise=False), scales=(32,))[1]
    np.testing.assert_allclose(plain, np.concatenate(parts), rtol=1e-5, atol=1e-5)


def test_order_batches_and_threads_change_no_bit(tmp_path: Path) -> None:
    made = make(tmp_path / "a", "relu3")
    found = described([made.bundle], Combination(), threads=1)
    backwards = described([made.bundle], Combination(), indices=[3, 2, 1, 0, 0], threads=3)
    alone = [described([made.bundle], Combination(), indices=[i])[0] for i in range(len(PHOTOS))]
    for i, one in enumerate(found):
        np.testing.assert_array_equal(one, backwards[3 - i])
        np.testing.assert_array_equal(one, alone[i])
    np.testing.assert_array_equal(backwards[3], backwards[4])


def test_a_mirrored_picture_has_the_same_descriptor(tmp_path: Path) -> None:
    """At a width that the poolings divide; the sums are those of the same two halves."""
    made = make(tmp_path / "a", "conv2_1")
    pixels = np.asarray(Image.open(io.BytesIO(photo((32, 48), 7))))
    files = []
    for view in (pixels, pixels[:, ::-1]):
        file = io.BytesIO()
        Image.fromarray(view).save(file, "PNG")
        files.append(file.getvalue())
    protocol = TestProtocol(scales=(32,))
    with BundleNet(made.bundle, device="cpu") as loaded:
        applied = [Applied(loaded, protocol)]
        one, other = features.describe(applied, files.__getitem__, [0, 1], Combination())
    assert one.descriptor is not None
    assert other.descriptor is not None
    np.testing.assert_array_equal(one.descriptor, other.descriptor)


def test_an_image_that_cannot_be_read_has_a_reason(tmp_path: Path) -> None:
    made = make(tmp_path / "a", "relu3")

    def read(index: int) -> bytes:
        if index == 1:
            raise BadImageError("no such file")
        return {2: PHOTOS[0][:90], 3: photo((1, 60), 0)}.get(index, PHOTOS[0])

    with BundleNet(made.bundle, device="cpu") as loaded:
        applied = [Applied(loaded, TestProtocol(scales=(32,)))]
        found = list(features.describe(applied, read, range(4), Combination()))
    assert [one.descriptor is None for one in found] == [False, True, True, False]
    assert found[1].unread == "no such file"
    assert found[2].unread


def test_zeros_stay_zeros() -> None:
    np.testing.assert_array_equal(unit(np.zeros(3)), np.zeros(3))
    np.testing.assert_allclose(unit(np.array([3.0, 0.0, 4.0])), [0.6, 0, 0.8])
    look = Look(32, "dense")
    outputs = {"features": np.zeros((2, 5))}
    sights = (
        Sight(net=0, look=look, size=(32, 32), outputs=outputs),  # type: ignore[arg-type]
        Sight(net=1, look=look, size=(32, 32), outputs={"features": np.full((2, 1), 2.0)}),
    )
    seen = Seen(index=0, size=(32, 32), sights=sights)
    np.testing.assert_array_equal(features.descriptor(seen, 2, Combination()), [0, 0, 0, 0, 0, 1])


def test_the_width_is_counted_before_anything_runs() -> None:
    assert width((4096,), (3,), "average") == 4096
    assert width((4096,), (3,), "stack") == 12288
    assert width((4096, 512), (3, 5), "stack") == 3 * 4096 + 5 * 512
    assert width((4096, 512), (3, 5), "average") == 4608


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
