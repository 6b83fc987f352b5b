"""Crops against plain Pillow and numpy, and their independence from everything but the seed."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.train.folders import picture, tiny, write_folder
from vggspec.compiler.ir import ImageInput
from vggspec.recipe import TrainRecipe
from vggspec.train.augment import (
    CentreCrops,
    Crop,
    Draw,
    Images,
    TrainCrops,
    Unread,
    cut,
    cut_centre,
    draw,
    fit_in_memory,
)
from vggspec.train.batches import Batch, Normalise, collate, loader
from vggspec.train.images import open_folder
from vggspec.train.order import ShuffledBatches, Ticket

RECIPE = TrainRecipe(scale=(18, 22))
CPU = torch.device("cpu")


def test_a_crop_is_what_pillow_makes() -> None:
    image = picture((120, 80, 40), (40, 60), 0)
    drawn = Draw(scale=20, top=0.3, left=0.99, is_mirrored=True, colours=np.zeros(3))
    small = image.resize((30, 20), Image.Resampling.BILINEAR)
    top, left = 1, 14  # of 5 and 15 places
    expected = small.crop((left, top, left + 16, top + 16)).transpose(
        Image.Transpose.FLIP_LEFT_RIGHT
    )
    np.testing.assert_array_equal(cut(np.asarray(image), drawn, 16, 16), expected)


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
    folder = open_folder(write_folder(tmp_path), tiny().network)
    axes = np.array([[3.0, 0.0, 0.0], [0.0, 5.0, 0.0], [1.0, 0.0, 7.0]])
    images = Images(folder.train, "RGB", RECIPE.scale, are_kept=False)
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
    folder = open_folder(write_folder(tmp_path), lowered.network)
    (tmp_path / "train" / "red" / "0.png").write_bytes(b"")
    image, recipe = lowered.network.input, lowered.experiment.train

    def stream(num_workers: int, *, are_kept: bool) -> list[Batch]:
        images = Images(folder.train, "RGB", recipe.scale, are_kept=are_kept)
        crops = TrainCrops(images, image, recipe, np.eye(3), seed=1)
        order = ShuffledBatches(len(images), recipe.batch, seed=1)
        batches = loader(crops, order, num_workers, CPU)
        found = []
        for order.epoch in (1, 2):
            found += list(batches)
        return found

    for one, other in zip(stream(0, are_kept=are_kept), stream(2, are_kept=False), strict=True):
        for tensor, twin in zip(one[:4], other[:4], strict=True):
            assert torch.equal(tensor, twin)
        assert one.unread == other.unread
        assert all(isinstance(bad, Unread) for bad in one.unread)
    lost = [bad.path for batch in stream(0, are_kept=are_kept) for bad in batch.unread]
    assert len(lost) == 2  # once in each epoch
    assert {Path(path).name for path in lost} == {"0.png"}


def test_only_small_data_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = open_folder(write_folder(tmp_path), tiny().network)
    fixed = 30 * 20 * 24 * 3, 12 * 19 * 23 * 3  # about, and the sides once rescaled
    monkeypatch.setattr("vggspec.train.augment.KEPT_BYTES", int(sum(fixed) * 1.2))
    assert fit_in_memory(folder, "RGB", (20, 20), (19, 19))
    monkeypatch.setattr("vggspec.train.augment.KEPT_BYTES", int(sum(fixed) * 0.8))
    assert not fit_in_memory(folder, "RGB", (20, 20), (19, 19))


def test_validation_crops_are_not_shifted(tmp_path: Path) -> None:
    lowered = tiny()
    folder = open_folder(write_folder(tmp_path), lowered.network)
    images = Images(folder.val, "RGB", (19, 19), are_kept=True)
    crops = CentreCrops(images, lowered.network.input, 19)
    first, again = crops[Ticket(0, 0)], crops[Ticket(0, 0)]
    assert isinstance(first, Crop)
    assert isinstance(again, Crop)
    np.testing.assert_array_equal(first.pixels, again.pixels)
    assert not first.shift.any()
