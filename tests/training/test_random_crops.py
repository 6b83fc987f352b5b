"""Padded crops, crops of a share of the area, what changes crops: against torchvision."""

from functools import cache
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps

from tests.peers import torchvision_models
from tests.photos import real_photo as photo
from tests.training.folders import picture, tiny, write_folder
from vggspec.base import optional
from vggspec.base.diagnostic import MissingLibraryError
from vggspec.base.recipe import TrainRecipe
from vggspec.compiler.ir import Color, ImageInput
from vggspec.training.augment import (
    Crop,
    Draw,
    Region,
    TrainCrops,
    cut,
    decoded_scale,
    draw,
    drawn_region,
)
from vggspec.training.changes import RandAugment, erase
from vggspec.training.dataset import open_data
from vggspec.training.images import Images
from vggspec.training.order import Ticket, stream

AREA = TrainRecipe(area=(0.08, 1.0))
PADDED = TrainRecipe(scale=(32, 32), crop_pad=4)


@cache
def transforms() -> ModuleType:
    torchvision_models()
    import torchvision.transforms

    return torchvision.transforms


def source(image: NDArray[np.uint8], region: Region) -> tuple[float, float, float, float]:
    """Top, left, height and width of what a region shows, in pixels of the image."""
    down, across = image.shape[0] / region.rows, image.shape[1] / region.columns
    box = region.top * down, region.left * across, region.height * down, region.width * across
    return tuple(round(number, 6) for number in box)  # type: ignore[return-value]


def test_padded_crops_are_torchvisions() -> None:
    """Each place of the crop, mirrored or not, as ``RandomCrop(32, padding=4)`` cuts it."""
    pad = transforms().Pad(4)
    image = picture((200, 120, 40), (32, 32), 0)
    places = set()
    for index in range(150):
        drawn = draw(PADDED, 3, 0, Ticket(1, index))
        top, left = int(drawn.top * 9), int(drawn.left * 9)
        places.add((top, left))
        expected = pad(image).crop((left, top, left + 32, top + 32))
        if drawn.is_mirrored:
            expected = ImageOps.mirror(expected)
        np.testing.assert_array_equal(cut(np.asarray(image), drawn, 32, 32), expected)
    assert {row for row, _ in places} == {column for _, column in places} == set(range(9))


def test_padding_is_around_the_rescaled_image() -> None:
    image = picture((200, 120, 40), (40, 60), 0)
    small = np.asarray(image.resize((30, 20), Image.Resampling.BILINEAR))
    corners = [(0.0, 0.0), (0.999, 0.999), (0.0, 0.999), (0.5, 0.2)]
    for top, left in corners:
        drawn = Draw(scale=20, top=top, left=left, is_mirrored=False, colours=np.zeros(3), pad=3)
        found = cut(np.asarray(image), drawn, 16, 16)
        padded = np.pad(small, ((3, 3), (3, 3), (0, 0)))
        row, column = int(top * (26 - 15)), int(left * (36 - 15))
        expected = padded[row : row + 16, column : column + 16]
        assert np.abs(found.astype(int) - expected).max() <= 1
        assert ((found == 0).all(2) == (expected == 0).all(2)).mean() > 0.99


@pytest.mark.parametrize("size", [(375, 500), (60, 600), (32, 32)])
def test_crops_of_the_area_are_distributed_as_torchvisions(size: tuple[int, int]) -> None:
    """Mean and spread of place and size over 2000 crops; the same bounds."""
    torch.manual_seed(0)
    image = torch.zeros((3, *size))
    get = transforms().RandomResizedCrop.get_params
    theirs = np.array([get(image, [0.08, 1.0], [3 / 4, 4 / 3]) for _ in range(2000)], np.float64)
    pixels = np.zeros((*size, 3), np.uint8)
    ours = np.array(
        [
            source(pixels, drawn_region(pixels, draw(AREA, 3, 0, Ticket(1, index)), 224, 224))
            for index in range(2000)
        ]
    )
    np.testing.assert_array_equal(ours, ours.round())  # whole pixels
    for column, side in zip(range(4), (*size, *size), strict=True):
        spread = theirs[:, column].std() + 1e-9
        error = abs(ours[:, column].mean() - theirs[:, column].mean())
        assert error <= 0.1 * spread + 0.01 * side
        assert ours[:, column].std() == pytest.approx(spread, rel=0.1, abs=0.01 * side)
    for measure in (lambda c: c[:, 2] * c[:, 3], lambda c: c[:, 3] / c[:, 2]):  # area, aspect
        mine, expected = measure(ours), measure(theirs)
        assert mine.min() == pytest.approx(expected.min(), rel=0.1)
        assert mine.max() == pytest.approx(expected.max(), rel=0.1)
    assert (ours[:, 0] + ours[:, 2] <= size[0]).all()
    assert (ours[:, 1] + ours[:, 3] <= size[1]).all()


def test_where_no_shape_fits_the_crop_is_torchvisions() -> None:
    """The largest central one at an allowed aspect: both libraries after ten tries that fail."""
    get = transforms().RandomResizedCrop.get_params
    for size in ((10, 300), (300, 10), (1, 40)):
        pixels = np.zeros((*size, 3), np.uint8)
        (expected,) = {get(torch.zeros((3, *size)), [1.0, 1.0], [3 / 4, 4 / 3]) for _ in range(3)}
        recipe = TrainRecipe(area=(1.0, 1.0))
        found = source(pixels, drawn_region(pixels, draw(recipe, 3, 0, Ticket(1, 0)), 64, 64))
        assert found == expected


def test_crops_of_the_area_are_the_rescaled_part_of_the_photo() -> None:
    """Inside they are torchvision's ``resized_crop``; at the edge ours knows the pixels beyond."""
    resized_crop = transforms().functional.resized_crop
    image = photo("china.jpg", (500, 375))
    pixels = np.asarray(image)
    for index in range(8):
        drawn = draw(AREA, 3, 0, Ticket(1, index))
        top, left, height, width = map(int, source(pixels, drawn_region(pixels, drawn, 96, 96)))
        expected = resized_crop(image, top, left, height, width, [96, 96])
        if drawn.is_mirrored:
            expected = ImageOps.mirror(expected)
        difference = np.abs(cut(pixels, drawn, 96, 96).astype(int) - np.asarray(expected))
        assert difference[2:-2, 2:-2].max() <= 1
        assert difference.mean() < 0.5


def test_crops_of_the_area_keep_the_aspect_of_the_input() -> None:
    pixels = np.zeros((400, 400, 3), np.uint8)
    for index in range(200):
        drawn = draw(AREA, 3, 0, Ticket(1, index))
        _, _, height, width = source(pixels, drawn_region(pixels, drawn, 32, 64))
        assert 1.4 < width / height < 2.8


def test_a_small_share_of_the_area_is_decoded_large_enough() -> None:
    image = ImageInput(height=224, width=224)
    low, high = decoded_scale(AREA, image)
    assert low == 224
    worst = (0.08 * 3 / 4) ** 0.5  # the shorter side of the smallest crop, of the image's
    assert high * worst == pytest.approx(224, rel=0.01)
    assert decoded_scale(TrainRecipe(scale=(256, 512)), image) == (256, 512)


def test_the_papers_crops_are_what_they_were() -> None:
    """The stream of today's recipes has a checksum; new settings draw from streams of their own."""
    recipe = TrainRecipe(scale=(18, 22))
    drawn = [draw(recipe, 3, 7, Ticket(2, index)) for index in range(50)]
    with_area = [
        draw(TrainRecipe(scale=(18, 22), area=(0.5, 1.0), crop_pad=2), 3, 7, Ticket(2, index))
        for index in range(50)
    ]
    for one, other in zip(drawn, with_area, strict=True):
        assert (one.scale, one.top, one.left, one.is_mirrored) == (
            other.scale, other.top, other.left, other.is_mirrored,
        )  # fmt: skip
        np.testing.assert_array_equal(one.colours, other.colours)
    random = np.random.Generator(
        np.random.Philox(key=np.array([7, 0], np.uint64), counter=np.array([0, 0, 2, 3], np.uint64))
    )
    scale, top, left, mirror = random.random(4)
    assert drawn[3].scale == 18 + int(scale * 5)
    assert (drawn[3].top, drawn[3].left, drawn[3].is_mirrored) == (top, left, mirror < 0.5)


def test_rectangles_are_erased_as_torchvision_erases_them() -> None:
    """How often, how large and where, over 2000 crops."""
    pixels = np.full((40, 60, 3), 77, np.uint8)
    found = []
    for index in range(2000):
        erased = erase(pixels, stream(0, "erase", Ticket(1, index)), 0.4)
        rows, columns = np.nonzero((erased != 77).any(2))
        if len(rows):
            found.append((rows[0], columns.min(), np.ptp(rows) + 1, np.ptp(columns) + 1))
            inside = erased[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
            assert (inside != 77).mean() > 0.9  # all of the rectangle, with random values
    assert len(found) / 2000 == pytest.approx(0.4, abs=0.03)
    torch.manual_seed(0)
    image = torch.zeros((3, 40, 60))
    get = transforms().RandomErasing.get_params
    drawn = (get(image, (0.02, 0.33), (0.3, 3.3), [0.0]) for _ in range(2000))
    theirs = np.array([one[:4] for one in drawn if one[2:4] != (40, 60)], np.float64)
    ours = np.array(found, np.float64)
    for column, side in enumerate((40, 60, 40, 60)):
        assert abs(ours[:, column].mean() - theirs[:, column].mean()) < 0.025 * side
        assert abs(ours[:, column].std() - theirs[:, column].std()) < 0.025 * side
    assert not (pixels != 77).any()  # the crop itself may be kept in memory


@pytest.mark.parametrize("color", ["RGB", "BGR", "gray"])
def test_randaugment_is_torchvisions(color: Color) -> None:
    """The same picture as the library's from the same seed; PyTorch's generator stays as it was."""
    library = transforms().RandAugment(2, 9)
    image = picture((200, 120, 40), (24, 24), 1)
    image = image.convert("L") if color == "gray" else image
    pixels = np.asarray(image).reshape(24, 24, -1)
    ours = RandAugment(2, 9, color)
    torch.manual_seed(3)
    before = torch.get_rng_state()
    changed = 0
    for index in range(20):
        found = ours(
            pixels[..., ::-1] if color == "BGR" else pixels,
            stream(1, "randaugment", Ticket(1, index)),
        )
        assert torch.equal(torch.get_rng_state(), before)
        seed = int(stream(1, "randaugment", Ticket(1, index)).integers(1 << 63))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            expected = np.asarray(library(image)).reshape(pixels.shape)
        np.testing.assert_array_equal(found[..., ::-1] if color == "BGR" else found, expected)
        changed += bool((expected != pixels).any())
    assert changed > 10


def test_randaugment_needs_torchvision(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> ModuleType:
        raise ModuleNotFoundError(name, name=name)

    def broken(name: str) -> ModuleType:
        raise RuntimeError("operator torchvision::nms does not exist")

    outcomes = (
        (missing, r'`randaugment` needs torchvision: pip install "vggspec\[augment\]"'),
        (broken, "needs a torchvision that fits torch: operator torchvision::nms does not exist"),
    )
    for load, message in outcomes:
        monkeypatch.setattr(optional, "importlib", SimpleNamespace(import_module=load))
        with pytest.raises(MissingLibraryError, match=message):
            RandAugment(2, 9, "RGB")


def test_a_crop_is_changed_by_its_own_draws_alone(tmp_path: Path) -> None:
    """Another epoch, image, turn or seed gives another crop; a second look the same."""
    transforms()
    data = open_data(write_folder(tmp_path), tiny().network)
    recipe = TrainRecipe(
        scale=(18, 20), area=(0.3, 1.0), erase=1.0, randaugment=(2, 9), colour_shift=0.0
    )
    images = Images(data.train, "RGB", (16, 40), are_kept=True)

    def crop(seed: int, ticket: Ticket) -> bytes:
        crops = TrainCrops(images, ImageInput(height=16, width=16), recipe, np.eye(3), seed)
        found = crops[ticket]
        assert isinstance(found, Crop)
        return found.pixels.tobytes()

    first = crop(0, Ticket(1, 0))
    assert first == crop(0, Ticket(1, 0, row=5))
    others = [
        crop(0, Ticket(2, 0)), crop(0, Ticket(1, 1)), crop(0, Ticket(1, 0, turn=1)),
        crop(1, Ticket(1, 0)),
    ]  # fmt: skip
    assert len({first, *others}) == 5
