"""Crops against plain Pillow and numpy, and their independence from everything but the seed."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from tests.photos import real_photo as photo
from tests.training.folders import picture, tiny, write_folder
from vggspec.base.recipe import TrainRecipe
from vggspec.compiler.ir import ImageInput
from vggspec.data.decode import BadImageError
from vggspec.runtime.preprocess import rescale, rescaled_size
from vggspec.training import resample
from vggspec.training.augment import (
    CentreCrops,
    Crop,
    Draw,
    TrainCrops,
    Unread,
    central_region,
    cut,
    cut_centre,
    draw,
    drawn_region,
    rescale_whole,
)
from vggspec.training.batches import Batch, Loader, Normalise, collate
from vggspec.training.dataset import open_data
from vggspec.training.images import Images
from vggspec.training.order import ShuffledBatches, Ticket

RECIPE = TrainRecipe(scale=(18, 22))
CPU = torch.device("cpu")


def test_a_crop_is_what_pillow_makes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resample, "_fast_image_resize", lambda: None)
    image = picture((120, 80, 40), (40, 60), 0)
    drawn = Draw(scale=20, top=0.3, left=0.99, is_mirrored=True, colours=np.zeros(3))
    small = image.resize((30, 20), Image.Resampling.BILINEAR)
    top, left = 1, 14  # of 5 and 15 places
    expected = small.crop((left, top, left + 16, top + 16)).transpose(
        Image.Transpose.FLIP_LEFT_RIGHT
    )
    np.testing.assert_array_equal(cut(np.asarray(image), drawn, 16, 16), expected)


@pytest.fixture(params=["Pillow", "fast_image_resize"])
def resampler(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "Pillow":
        monkeypatch.setattr(resample, "_fast_image_resize", lambda: None)
    else:
        pytest.importorskip("cykooz_resizer")
    return str(request.param)


@pytest.mark.parametrize("name", ["china.jpg", "flower.jpg"])
@pytest.mark.parametrize("size", [(500, 375), (375, 500), (97, 1000)])
def test_crops_are_those_of_whole_rescaled_photos(
    name: str, size: tuple[int, int], resampler: str
) -> None:
    """Pillow takes a box as 32-bit numbers, so that now and then a value is rounded otherwise;
    fast_image_resize begins with the other axis, and rounds between the two.
    """
    image = photo(name, size)
    pixels = np.asarray(image)
    differing = total = 0
    for index in range(12):
        drawn = draw(TrainRecipe(scale=(256, 512)), 3, 0, Ticket(1, index))
        rows, columns = rescaled_size(pixels.shape[:2], drawn.scale)
        top, left = int(drawn.top * (rows - 223)), int(drawn.left * (columns - 223))
        whole = image.resize((columns, rows), Image.Resampling.BILINEAR)
        expected = whole.crop((left, top, left + 224, top + 224))
        if drawn.is_mirrored:
            expected = ImageOps.mirror(expected)
        difference = np.abs(cut(pixels, drawn, 224, 224).astype(int) - np.asarray(expected))
        assert difference.max() <= 2
        differing += np.count_nonzero(difference)
        total += difference.size
    assert differing < (0.005 if resampler == "Pillow" else 0.25) * total


def test_any_part_of_any_image_is_rescaled_alike() -> None:
    pytest.importorskip("cykooz_resizer")
    random = np.random.default_rng(0)
    for index in range(200):
        size = *random.integers(1, 90, 2).tolist(), (1, 3)[index % 2]
        image = random.integers(0, 256, size, np.uint8)
        recipe = TrainRecipe(scale=(8, 40)) if index % 3 else TrainRecipe(area=(0.08, 1.0))
        region = drawn_region(image, draw(recipe, 3, 0, Ticket(1, index)), 8, 12)
        exact = region.cut(image).astype(int)
        mirrored = region.cut_drawn(image, is_mirrored=True)
        assert np.abs(mirrored[:, ::-1] - exact).max() <= 2


@pytest.mark.parametrize("scale", [40, 100, 224, 256, 375, 384, 750])
def test_central_crops_are_those_of_whole_rescaled_photos(scale: int) -> None:
    pixels = np.asarray(photo("china.jpg", (500, 375)))
    whole = rescale(pixels, scale)
    side = min(scale - 16, 224)
    top, left = (whole.shape[0] - side) // 2, (whole.shape[1] - side) // 2
    expected = whole[top : top + side, left : left + side].astype(int)
    found = cut_centre(pixels, scale, side, side)
    assert np.abs(found - expected).max() <= 1
    assert np.mean(found != expected) < 0.005
    gray = cut_centre(pixels[..., :1], scale, side, side)
    np.testing.assert_array_equal(gray, found[..., :1])


def test_an_image_far_too_thin_is_bad() -> None:
    with pytest.raises(BadImageError, match="at 256 pixels it would be 8388608 × 256"):
        cut_centre(np.zeros((1, 32768, 3), np.uint8), 256, 224, 224)


def test_a_central_crop_is_central() -> None:
    image = picture((120, 80, 40), (20, 27), 0)
    expected = image.crop((5, 2, 21, 18))
    np.testing.assert_array_equal(cut_centre(np.asarray(image), 20, 16, 16), expected)


def test_a_crop_that_is_longer_than_wide_fits() -> None:
    image = np.asarray(picture((0, 0, 0), (20, 20), 0))
    drawn = draw(RECIPE, 3, 0, Ticket(1, 1))
    assert cut(image, drawn, 16, 40).shape == (16, 40, 3)
    assert cut_centre(image, 18, 40, 16).shape == (40, 16, 3)


def test_draws_depend_on_seed_epoch_and_image_alone() -> None:
    def key(drawn: Draw) -> tuple[float, ...]:
        return (drawn.scale, drawn.top, drawn.left, drawn.is_mirrored, *drawn.colours)

    first = key(draw(RECIPE, 3, 5, Ticket(2, 7)))
    assert first == key(draw(RECIPE, 3, 5, Ticket(2, 7)))
    others = {
        key(draw(RECIPE, 3, seed, Ticket(epoch, index)))
        for seed, epoch, index in ((6, 2, 7), (5, 3, 7), (5, 2, 8), (5, 7, 2))
    }
    assert len(others | {first}) == 5


def test_draws_are_spread_as_the_paper_says() -> None:
    drawn = [draw(RECIPE, 3, 0, Ticket(1, index)) for index in range(4000)]
    scales = Counter(one.scale for one in drawn)
    assert scales.keys() == {18, 19, 20, 21, 22}  # both ends of the range
    assert min(scales.values()) > 700
    assert sum(one.is_mirrored for one in drawn) == pytest.approx(2000, abs=130)
    colours = np.array([one.colours for one in drawn])
    assert colours.std() == pytest.approx(RECIPE.colour_shift, rel=0.03)
    assert np.mean([one.top for one in drawn]) == pytest.approx(0.5, abs=0.02)
    still = draw(replace(RECIPE, flip=False, colour_shift=0.0), 3, 0, Ticket(1, 0))
    assert not still.is_mirrored
    assert not still.colours.any()


def test_the_colour_shift_is_along_the_axes(tmp_path: Path) -> None:
    data = open_data(write_folder(tmp_path), tiny().network)
    axes = np.array([[3.0, 0.0, 0.0], [0.0, 5.0, 0.0], [1.0, 0.0, 7.0]])
    images = Images(data.train, "RGB", RECIPE.scale, are_kept=False)
    crops = TrainCrops(images, ImageInput(height=16, width=16), RECIPE, axes, seed=0)
    crop = crops[Ticket(1, 0)]
    assert isinstance(crop, Crop)
    alphas = draw(RECIPE, 3, 0, Ticket(1, 0)).colours
    expected = alphas[0] * axes[:, 0] + alphas[1] * axes[:, 1] + alphas[2] * axes[:, 2]
    np.testing.assert_allclose(crop.shift, expected, rtol=1e-6)


def test_the_input_is_normalised_as_the_contract_says() -> None:
    image = ImageInput(height=2, width=2, std=(2.0, 4.0, 5.0), scale=3.0)
    pixels = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    shift, mean = np.array([1.0, -2.0, 0.5], np.float32), (10.0, 20.0, 30.0)
    batch = collate([Crop(pixels, shift, 1)])
    found = Normalise(image, mean)(batch).numpy()
    expected = (pixels + shift - np.array(mean)) * 3.0 / np.array([2.0, 4.0, 5.0])
    np.testing.assert_allclose(found[0], expected.transpose(2, 0, 1), rtol=1e-6)
    assert batch.labels.tolist() == [1]


@pytest.mark.parametrize("are_kept", [False, True])
def test_the_stream_does_not_depend_on_workers_or_memory(tmp_path: Path, *, are_kept: bool) -> None:
    lowered = tiny()
    data = open_data(write_folder(tmp_path), lowered.network)
    (tmp_path / "train" / "red" / "0.png").write_bytes(b"")
    image, recipe = lowered.network.input, lowered.experiment.train

    def stream(num_workers: int, *, are_kept: bool) -> list[Batch]:
        images = Images(data.train, "RGB", recipe.scale, are_kept=are_kept)
        crops = TrainCrops(images, image, recipe, np.eye(3), seed=1)
        order = ShuffledBatches(len(images), recipe.batch, seed=1)
        batches = Loader(crops, order, num_workers, CPU)
        found = []
        for order.epoch in (1, 2):
            found += [batch for (batch,) in batches]
        return found

    for one, other in zip(stream(0, are_kept=are_kept), stream(2, are_kept=False), strict=True):
        for tensor, twin in zip(one[:4], other[:4], strict=True):
            assert torch.equal(tensor, twin)
        assert one.unread == other.unread
        assert all(isinstance(bad, Unread) for bad in one.unread)
    lost = [bad.name for batch in stream(0, are_kept=are_kept) for bad in batch.unread]
    assert len(lost) == 2  # once in each epoch
    assert {Path(name).name for name in lost} == {"0.png"}


def test_validation_crops_are_not_shifted(tmp_path: Path) -> None:
    lowered = tiny()
    data = open_data(write_folder(tmp_path), lowered.network)
    images = Images(data.val, "RGB", (19, 19), are_kept=True)
    crops = CentreCrops(images, lowered.network.input, 19)
    first, again = crops[Ticket(0, 0)], crops[Ticket(0, 0)]
    assert isinstance(first, Crop)
    assert isinstance(again, Crop)
    np.testing.assert_array_equal(first.pixels, again.pixels)
    assert not first.shift.any()


def test_validation_may_see_torchvisions_crop() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (427, 640, 3), dtype=np.uint8)
    window = central_region(pixels, 256, 224, 224, "torchvision")
    assert (window.rows, window.columns, window.top, window.left) == (256, 383, 16, 80)
    whole = rescale(pixels, 256, "torchvision")[16:240, 80:304].astype(int)
    found = cut_centre(pixels, 256, 224, 224, "torchvision")
    assert np.abs(found - whole).max() <= 1
    assert rescale_whole(pixels, 256, 224, 224, "torchvision").shape == (256, 383, 3)
