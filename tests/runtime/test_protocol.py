"""The test protocol against the paper's words, spelled out with PyTorch and numpy."""

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from tests.photos import photo
from tests.runtime.bundles import CLASSES, STRIDE, WINDOW, Made, make, torch_scores
from vggspec.base import recipe
from vggspec.base.diagnostic import VggspecError
from vggspec.runtime.predictor import Predictor
from vggspec.runtime.preprocess import rescale
from vggspec.runtime.protocol import Answer, View, classify, grid

Pixels = NDArray[np.uint8]
LANDSCAPE, PORTRAIT = (43, 70), (61, 37)


def posteriors_by_torch(made: Made, image: Pixels) -> NDArray[np.float64]:
    """Of one image as it is: mean of the score map, then the soft-max."""
    mean = np.array(made.manifest.input.mean, np.float32)
    feed = (image.astype(np.float32) - mean).transpose(2, 0, 1)[np.newaxis]
    scores = torch_scores(np.ascontiguousarray(feed), made.weights).double()
    result: NDArray[np.float64] = scores.mean(dim=(2, 3)).softmax(dim=1)[0].numpy()
    return result


def dense_by_torch(made: Made, image: Pixels, scales: tuple[int, ...]) -> NDArray[np.float64]:
    total = np.zeros(CLASSES)
    for scale in scales:
        rescaled = rescale(image, scale)
        total += posteriors_by_torch(made, rescaled)
        total += posteriors_by_torch(made, np.fliplr(rescaled))
    return total / (2 * len(scales))


def crops_by_torch(made: Made, image: Pixels, scale: int, number: int) -> NDArray[np.float64]:
    rescaled = rescale(image, scale)
    tops, lefts = (
        np.floor(np.linspace(0, side - WINDOW, number) + 0.5).astype(int)
        for side in rescaled.shape[:2]
    )
    total = np.zeros(CLASSES)
    for top in tops:
        for left in lefts:
            crop = rescaled[top : top + WINDOW, left : left + WINDOW]
            total += posteriors_by_torch(made, crop) + posteriors_by_torch(made, np.fliplr(crop))
    return total / (2 * number**2)


@pytest.mark.parametrize("size", [LANDSCAPE, PORTRAIT, (24, 24), (17, 90)])
@pytest.mark.parametrize("scales", [(24,), (17, 24, 39)])
def test_dense_evaluation_averages_mirror_images_and_scales(
    tmp_path: Path, size: tuple[int, int], scales: tuple[int, ...]
) -> None:
    made, image = make(tmp_path / "small"), photo(size)
    with Predictor(made.path, device="cpu") as predictor:
        prediction = predictor(image, scales=scales)
    expected = dense_by_torch(made, image, scales)
    np.testing.assert_allclose(prediction.posteriors, expected, atol=1e-6)
    assert prediction.posteriors.dtype == np.float64
    assert prediction.posteriors.sum() == pytest.approx(1, abs=1e-6)
    assert np.ptp(expected) > 0.05  # else the test would see nothing


def test_without_flip_the_image_is_seen_alone(tmp_path: Path) -> None:
    made, image = make(tmp_path / "small"), photo(LANDSCAPE)
    with Predictor(made.path, device="cpu") as predictor:
        prediction = predictor(image, flip=False)
    expected = posteriors_by_torch(made, rescale(image, 24))
    np.testing.assert_allclose(prediction.posteriors, expected, atol=1e-6)


@pytest.mark.parametrize("is_dynamic", [True, False])
def test_crops_are_taken_on_a_regular_grid(tmp_path: Path, is_dynamic: bool) -> None:
    test = recipe.TestProtocol(scales=(30,), dense=False, crops=5)
    made = make(tmp_path / "small", is_dynamic=is_dynamic, test=test)
    image = photo(LANDSCAPE)
    with Predictor(made.path, device="cpu") as predictor:
        prediction = predictor(image)
    expected = crops_by_torch(made, image, 30, 5)
    np.testing.assert_allclose(prediction.posteriors, expected, atol=1e-6)
    assert prediction.maps == ()


def test_dense_and_crops_together_are_their_mean(tmp_path: Path) -> None:
    test = recipe.TestProtocol(scales=(24, 30), crops=3)
    made, image = make(tmp_path / "small", test=test), photo(PORTRAIT)
    with Predictor(made.path, device="cpu") as predictor:
        prediction = predictor(image)
    crops = [crops_by_torch(made, image, scale, 3) for scale in (24, 30)]
    expected = (np.mean(crops, axis=0) + dense_by_torch(made, image, (24, 30))) / 2
    np.testing.assert_allclose(prediction.posteriors, expected, atol=1e-6)


def test_a_net_of_one_size_sees_the_central_crop(tmp_path: Path) -> None:
    made, image = make(tmp_path / "small", is_dynamic=False), photo(LANDSCAPE)
    with Predictor(made.path, device="cpu") as predictor:
        prediction = predictor(image)
        assert not predictor.gives_maps
    rescaled = rescale(image, 24)
    top, left = (24 - WINDOW) // 2, (rescaled.shape[1] - WINDOW) // 2
    crop = rescaled[top : top + WINDOW, left : left + WINDOW]
    expected = posteriors_by_torch(made, crop) + posteriors_by_torch(made, np.fliplr(crop))
    np.testing.assert_allclose(prediction.posteriors, expected / 2, atol=1e-6)


def test_the_grid_ends_at_both_edges() -> None:
    assert grid(256, 224, 5) == [0, 8, 16, 24, 32]
    assert grid(341, 224, 5) == [0, 29, 59, 88, 117]
    assert grid(224, 224, 5) == [0] * 5
    assert grid(341, 224, 1) == [58]


@pytest.mark.parametrize(("dense", "crops"), [(True, None), (False, 2)])
def test_an_image_smaller_than_the_window_is_refused(
    tmp_path: Path, dense: bool, crops: int | None
) -> None:
    test = recipe.TestProtocol(scales=(24, WINDOW - 1), dense=dense, crops=crops)
    made = make(tmp_path / "small", test=test)
    Image.fromarray(photo((30, 60))).save(tmp_path / "photo.png")
    with Predictor(made.path, device="cpu") as predictor, pytest.raises(VggspecError) as error:
        predictor(tmp_path / "photo.png")
    (report,) = error.value.reports
    assert report.what.code == "VGG454"
    assert "15 × 30" in report.what.title()
    assert report.path == str(tmp_path / "photo.png")


def test_batches_stay_small() -> None:
    sizes = []

    def net(images: Pixels) -> Answer:
        sizes.append(images.shape)
        return Answer(np.full((len(images), 2), 0.5))

    view = View(least=(16, 16), is_dynamic=True, window=(16, 16), stride=(4, 4))
    classify(net, photo(LANDSCAPE), view, recipe.TestProtocol(scales=(24,), crops=5))
    assert sizes[0] == (2, 24, 39, 3)
    assert sizes[1:] == [(10, 16, 16, 3)] * 5


# The map.


def test_the_map_holds_posteriors_at_each_position(tmp_path: Path) -> None:
    made, image = make(tmp_path / "small"), photo(LANDSCAPE)
    with Predictor(made.path, device="cpu") as predictor:
        (one,) = predictor(image, flip=False).maps
    rescaled = rescale(image, 24)
    assert one.posteriors.shape == (CLASSES, 3, 6)
    assert (one.scale, one.size, one.origin) == (24, (24, 39), (0.0, 0.0))
    feed = rescaled.astype(np.float32) - np.array(made.manifest.input.mean, np.float32)
    scores = torch_scores(feed.transpose(2, 0, 1)[np.newaxis].copy(), made.weights)
    expected = torch.softmax(scores[0].double(), dim=0)
    np.testing.assert_allclose(one.posteriors, expected.numpy(), atol=1e-5)


@pytest.mark.parametrize("width", [39, 40, 41, 42, 43])
def test_a_mirror_image_has_the_mirrored_map(tmp_path: Path, width: int) -> None:
    made, image = make(tmp_path / "small"), photo((24, width))
    with Predictor(made.path, device="cpu") as predictor:
        ours, theirs = predictor(image), predictor(np.ascontiguousarray(np.fliplr(image)))
    np.testing.assert_allclose(ours.posteriors, theirs.posteriors, atol=1e-6)
    (one,), (other,) = ours.maps, theirs.maps
    np.testing.assert_allclose(one.posteriors, other.posteriors[:, :, ::-1], atol=1e-6)
    # The outer centres are equally far from the edges.
    columns = one.posteriors.shape[2]
    first = one.origin[1] + WINDOW / 2
    assert width - (first + STRIDE * (columns - 1)) == first


@pytest.mark.parametrize("width", [32, 33, 37, 43])
@pytest.mark.parametrize("flip", [True, False])
def test_positions_of_the_map_are_where_they_say(width: int, flip: bool) -> None:
    """A net that gives the mean of each window, on an image whose pixels tell their column."""
    window, stride = 16, 8
    image = np.broadcast_to(
        np.arange(width, dtype=np.uint8)[np.newaxis, :, np.newaxis], (24, width, 1)
    )

    def net(images: Pixels) -> Answer:
        starts = range(0, width - window + 1, stride)
        means = [images[:, 0, s : s + window, 0].mean(axis=1) for s in starts]
        maps = np.stack(means, axis=1)[:, np.newaxis, np.newaxis, :]
        return Answer(np.ones((len(images), 1)), maps)

    view = View(
        least=(window, window), is_dynamic=True, window=(window, window), stride=(stride, stride)
    )
    protocol = recipe.TestProtocol(scales=(24,), flip=flip)
    _, (one,) = classify(net, image, view, protocol)
    values = one.posteriors[0, 0]
    # Column x covers x to x + 1, so the mean of a window is its centre less a half.
    centres = one.origin[1] + window / 2 + stride * np.arange(len(values))
    np.testing.assert_allclose(values, centres - 0.5)


@pytest.mark.parametrize("flip", [True, False])
@pytest.mark.parametrize("finer", [1, 2, 4])
def test_windows_that_reach_past_the_edge_begin_at_the_corner(flip: bool, finer: int) -> None:
    """Where poolings round up, as Caffe's do: 24 × 37 pixels have 3 × 7 windows of 16, and a finer
    stride multiplies the steps between them.
    """
    positions = 2 * finer + 1, 6 * finer + 1

    def net(images: Pixels) -> Answer:
        return Answer(np.ones((len(images), 1)), np.ones((len(images), 1, *positions)))

    stride = 4 // finer
    view = View(least=(16, 16), is_dynamic=True, window=(16, 16), stride=(stride, stride))
    protocol = recipe.TestProtocol(scales=(24,), flip=flip)
    _, (one,) = classify(net, photo((24, 37)), view, protocol)
    # Of 37 columns, 16 + 4 · 6 = 40 are seen: three past the edge, half on each side of the mean.
    assert one.origin == (0.0, -1.5 if flip else 0.0)
