"""Rescaling and normalising, against PyTorch and plain numpy."""

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.nn import functional

from tests.photos import small_photo as photo
from vggspec.base.diagnostic import VggspecError
from vggspec.base.recipe import Resize, TestProtocol
from vggspec.bundle.manifest import InputContract
from vggspec.runtime.preprocess import normalise, rescale, rescaled_size
from vggspec.runtime.protocol import View, grid, inputs

Pixels = NDArray[np.uint8]


def code(error: pytest.ExceptionInfo[VggspecError]) -> str:
    return error.value.reports[0].what.code


@pytest.mark.parametrize(
    ("size", "scale", "expected"),
    [
        ((480, 640), 256, (256, 341)),  # 341.33
        ((640, 480), 256, (341, 256)),
        ((3, 5), 7, (7, 12)),  # 11.67
        ((2, 3), 1, (1, 2)),  # 1.5, a half, goes up
        ((100, 100), 224, (224, 224)),
        ((1, 30_000), 1, (1, 30_000)),
    ],
)
def test_the_smallest_side_is_the_scale(
    size: tuple[int, int], scale: int, expected: tuple[int, int]
) -> None:
    assert rescaled_size(size, scale) == expected


@pytest.mark.parametrize("size", [(97, 131), (131, 97), (500, 333), (40, 30)])
@pytest.mark.parametrize("channels", [1, 3])
def test_rescaling_is_bilinear_with_antialiasing(size: tuple[int, int], channels: int) -> None:
    image = np.random.default_rng(1).integers(0, 256, (*size, channels), dtype=np.uint8)
    found = rescale(image, 64)
    expected = functional.interpolate(
        torch.from_numpy(image).permute(2, 0, 1)[np.newaxis].float(),
        size=rescaled_size(size, 64),
        mode="bilinear",
        antialias=True,
        align_corners=False,
    )[0].permute(1, 2, 0)
    # Pillow rounds to whole numbers after each of its two passes.
    assert np.abs(found - expected.numpy()).max() <= 1.01


def test_an_image_of_the_right_size_is_left_alone() -> None:
    image = photo(24, 36)
    assert rescale(image, 24) is image


@pytest.mark.parametrize("scale", [1, 256])
@pytest.mark.parametrize("size", [(1, 9_000_000), (9_000_000, 1)])
def test_a_long_strip_is_refused_before_it_takes_memory(size: tuple[int, int], scale: int) -> None:
    with pytest.raises(VggspecError) as error:
        rescale(np.zeros((*size, 3), np.uint8), scale)
    assert code(error) == "VGG453"


# Normalising.


def contract(**changes: Any) -> InputContract:
    values: dict[str, Any] = {
        "contract": "float",
        "color": "RGB",
        "mean": (123.68, 116.779, 103.939),
        "std": None,
        "scale": 1.0,
        "size": (16, 16),
        "is_dynamic": True,
    }
    return InputContract(**values | changes)


@pytest.mark.parametrize(
    "of",
    [
        contract(),
        contract(std=(58.4, 57.1, 57.4)),
        contract(scale=1 / 255, mean=(124.0, 117.0, 104.0), std=(0.229, 0.224, 0.225)),
        contract(color="BGR", mean=(103.939, 116.779, 123.68)),
        contract(color="gray", mean=(120.0,), std=(60.0,)),
    ],
    ids=["mean", "std", "scale", "BGR", "gray"],
)
def test_the_feed_is_the_formula(of: InputContract) -> None:
    channels = len(of.mean)
    images = np.random.default_rng(2).integers(0, 256, (2, 7, 9, channels), dtype=np.uint8)
    feed = normalise(images, of)
    assert feed.shape == (2, channels, 7, 9)
    assert feed.dtype == np.float32
    assert feed.flags.c_contiguous
    for c in range(channels):
        source = images[..., channels - 1 - c] if of.color == "BGR" else images[..., c]
        expected = (source.astype(np.float64) - of.mean[c]) * of.scale / (of.std or [1] * 3)[c]
        np.testing.assert_allclose(feed[:, c], expected, rtol=1e-6, atol=1e-5)


def test_raw_pixels_are_passed_on() -> None:
    images = np.random.default_rng(3).integers(0, 256, (2, 7, 9, 3), dtype=np.uint8)
    mirrored = images[:, :, ::-1]
    feed = normalise(mirrored, contract(contract="raw"))
    assert feed.flags.c_contiguous
    np.testing.assert_array_equal(feed, mirrored)


# As torchvision has it.


def torchvisions(image: Image.Image, size: int, crop: int) -> Pixels:
    """``Resize(size)`` and ``CenterCrop(crop)`` as torchvision 0.28 computes them on Pillow images:
    ``_compute_resized_output_size``, ``_functional_pil.resize``, ``center_crop``.
    """
    w, h = image.size
    short, long = (w, h) if w <= h else (h, w)
    new_short, new_long = size, int(size * long / short)
    new_w, new_h = (new_short, new_long) if w <= h else (new_long, new_short)
    if [new_h, new_w] != [h, w]:
        image = image.resize((new_w, new_h), Image.Resampling.BILINEAR)
    top = int(round((new_h - crop) / 2.0))  # noqa: RUF046 (as it stands there)
    left = int(round((new_w - crop) / 2.0))  # noqa: RUF046
    return np.asarray(image.crop((left, top, left + crop, top + crop)))


def centre(image: Pixels, scale: int, crop: int, resize: Resize) -> Pixels:
    view = View(least=(crop, crop), is_dynamic=False, window=(crop, crop), stride=(32, 32))
    protocol = TestProtocol(scales=(scale,), dense=False, crops=1, flip=False, resize=resize)
    (found,) = inputs(rescale(image, scale, resize), "crops", view, protocol)
    return found


def test_torchvisions_pixels_come_out_to_the_last_one() -> None:
    random = np.random.default_rng(0)
    others = 0
    for _ in range(300):
        height, width = random.integers(30, 200, 2)
        scale, crop = ((64, 56), (58, 56), (47, 32), (86, 75))[random.integers(4)]
        image = random.integers(0, 256, (height, width, 3), dtype=np.uint8)
        expected = torchvisions(Image.fromarray(image), scale, crop)
        np.testing.assert_array_equal(centre(image, scale, crop, "torchvision"), expected)
        others += not np.array_equal(centre(image, scale, crop, "rounded"), expected)
    assert others > 100  # ours are others


def test_torchvisions_sizes_and_places_are_its_own_for_every_size() -> None:
    for short in range(1, 500, 7):
        for long in range(short, 1500, 11):
            sides = 256, int(256 * long / short)
            assert rescaled_size((short, long), 256, "torchvision") == sides
            assert rescaled_size((long, short), 256, "torchvision") == sides[::-1]
    for length in range(224, 2000):
        place = int(round((length - 224) / 2.0))  # noqa: RUF046
        assert grid(length, 224, 1, "torchvision") == [place]
    assert rescaled_size((427, 640), 256) == (256, 384)
    assert (grid(383, 224, 1), grid(383, 224, 1, "torchvision")) == ([79], [80])
