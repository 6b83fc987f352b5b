"""Labels of pixels, against torch's interpolation, and tiles against the whole."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.nn import functional

import vggspec
from tests.nets import random_weights
from tests.refusals import refused
from vggspec.base.recipe import TestProtocol
from vggspec.compiler.lower import load_network
from vggspec.runtime import label_maps
from vggspec.runtime.label_maps import LabelMap, segment
from vggspec.runtime.net import BundleNet
from vggspec.runtime.preprocess import normalise, rescale

INPUT = "input 32x32 RGB(mean 120 115 100, std 60)\n"
NETS = {
    "stride 1": "conv3-6 x2 conv1-5 soft-max(map)",
    "stride 4": "conv3-6 maxpool conv3-8 maxpool conv1-5 soft-max(map)",
    "uneven pooling": "conv3-6 maxpool3/2(ceil) conv3-8 maxpool3/2(pad 1) conv1-5 soft-max(map)",
    "without padding": "conv5-6(pad 0) maxpool conv3-8(pad 0) conv3-5(pad 0) soft-max(map)",
    "upconv": "conv3-6 maxpool conv3-8 maxpool conv1-5 upconv4-5/4(no-bias, pad 0) crop(image) "
    "soft-max(map)",
    "skip": "conv3-6 as first maxpool(ceil) conv3-8 maxpool(ceil) conv1-5(linear) "
    "[upconv4-5/2(no-bias) crop(pool1) + from pool1 conv1-5(linear)] as fuse "
    "upconv4-5/2(no-bias) crop(image) soft-max(map)",
    "u": "conv3-6(pad 0) as first maxpool conv3-8(pad 0) upconv2-6/2 as larger "
    "[identity & from first crop(larger)] conv3-5(pad 0) soft-max(map)",
    "some sizes": "conv3-6 maxpool [conv3-8/2 + maxpool conv1-8] conv1-5 soft-max(map)",
}
ONE = TestProtocol(scales=(48,), flip=False)


def opened(folder: Path, column: str, **options: object) -> BundleNet:
    spec = folder / "net.vgg"
    spec.write_text(f"net maps\n{INPUT}{column}\n", "utf-8")
    random_weights(load_network(str(spec)), folder / "w.safetensors")
    vggspec.compile(spec, weights=folder / "w.safetensors", out=folder / "b", **options)
    return BundleNet(folder / "b", device="cpu")


def picture(rows: int, columns: int, seed: int = 0) -> NDArray[np.uint8]:
    """Smooth colours, so that rescaling changes little, and some noise."""
    rng = np.random.default_rng(seed)
    coarse = torch.from_numpy(rng.uniform(0, 255, (1, 3, 6, 7)).astype(np.float32))
    smooth = functional.interpolate(coarse, (rows, columns), mode="bicubic")[0].permute(1, 2, 0)
    noisy = smooth.numpy() + rng.normal(0, 8, (rows, columns, 3))
    return np.clip(noisy, 0, 255).astype(np.uint8)


def kept(found: LabelMap) -> NDArray[np.float32]:
    assert found.posteriors is not None
    return found.posteriors


def test_the_map_is_interpolated_as_torch_does(tmp_path: Path) -> None:
    image = picture(60, 80)
    with opened(tmp_path, NETS["stride 4"]) as net:
        found = segment(net, image, ONE, keep_posteriors=True)
        rescaled = rescale(image, 48)
        (maps,) = net.arrays(rescaled[np.newaxis]).values()
    assert maps.shape[2:] == (12, 16)
    expected = functional.interpolate(torch.from_numpy(maps), (60, 80), mode="bilinear")[0]
    np.testing.assert_allclose(kept(found), expected.numpy(), atol=2e-6)
    np.testing.assert_array_equal(found.labels, kept(found).argmax(axis=0))
    np.testing.assert_array_equal(found.confidence, kept(found).max(axis=0))
    assert found.labels.dtype == np.uint8
    assert found.labels.shape == (60, 80)


def test_scales_and_mirror_images_are_averaged(tmp_path: Path) -> None:
    image = picture(50, 70)
    both = TestProtocol(scales=(40, 64), flip=True)
    with opened(tmp_path, NETS["uneven pooling"]) as net:
        found = kept(segment(net, image, both, keep_posteriors=True))
        each = []
        for scale in both.scales:
            one = replace(ONE, scales=(scale,))
            each.append(kept(segment(net, image, one, keep_posteriors=True)))
            turned = np.ascontiguousarray(image[:, ::-1])
            each.append(kept(segment(net, turned, one, keep_posteriors=True))[:, :, ::-1])
    # The mirror image of the rescaled image is the rescaled mirror image up to a level.
    np.testing.assert_allclose(found, np.mean(each, axis=0), atol=5e-3)
    np.testing.assert_allclose(found.sum(axis=0), 1, atol=1e-5)


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("tile", [16, 37])
def test_tiles_have_the_numbers_of_the_whole(name: str, tile: int, tmp_path: Path) -> None:
    image = picture(97, 131)
    protocol = TestProtocol(scales=(97, 61), flip=True)
    with opened(tmp_path, NETS[name]) as net:
        whole = segment(net, image, protocol, keep_posteriors=True)
        parts = segment(net, image, protocol, tile=tile, keep_posteriors=True)
    np.testing.assert_allclose(kept(parts), kept(whole), atol=2e-6)
    np.testing.assert_array_equal(parts.labels, whole.labels)


def test_memory_for_maps_and_posteriors_is_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = picture(97, 131)
    protocol = TestProtocol(scales=(97, 61), flip=True)
    with opened(tmp_path, NETS["skip"]) as net:
        whole = segment(net, image, protocol, keep_posteriors=True)
        sizes: list[tuple[int, ...]] = []
        run = net.arrays

        def watched(images: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
            sizes.append(images.shape)
            return run(images)

        monkeypatch.setattr(net, "arrays", watched)
        monkeypatch.setattr(label_maps, "MAP_BYTES", 4 * 5 * 4 * 40**2)
        monkeypatch.setattr(label_maps, "STRIP_BYTES", 4 * 5 * 131 * 3)
        parts = segment(net, image, protocol, keep_posteriors=True)
    assert len(sizes) > 4
    assert max(rows for _, rows, _, _ in sizes) < 97
    np.testing.assert_allclose(kept(parts), kept(whole), atol=2e-6)


def test_an_image_is_continued_where_the_map_does_not_reach(tmp_path: Path) -> None:
    image = picture(48, 48)
    with opened(tmp_path, NETS["without padding"]) as net:
        found = kept(segment(net, image, ONE, keep_posteriors=True))
        position = net.manifest.result.position
        assert position is not None
        assert position.place == (6.5, 6.5)
        margin = 6  # half a stride is no further than any other pixel
        around = np.pad(image, ((margin, margin), (margin, margin), (0, 0)), mode="reflect")
        (maps,) = net.arrays(around[np.newaxis]).values()
    # Position i lies at 6.5 + 2 i of what is continued, so at 0.5 + 2 i of the image.
    expected = functional.interpolate(torch.from_numpy(maps), (48, 48), mode="bilinear")[0]
    assert maps.shape[2:] == (24, 24)
    np.testing.assert_allclose(found, expected.numpy(), atol=2e-6)


@pytest.mark.parametrize("name", ["stride 4", "without padding"])
def test_a_net_of_one_size_takes_larger_images_in_tiles(name: str, tmp_path: Path) -> None:
    image = picture(70, 90)
    protocol = TestProtocol(scales=(70,), flip=False)
    with opened(tmp_path, NETS[name]) as net:
        whole = segment(net, image, protocol, keep_posteriors=True)
    with opened(tmp_path, NETS[name], form="crop") as net:
        assert not net.manifest.input.is_dynamic
        parts = segment(net, image, protocol, keep_posteriors=True)
        inner = (slice(None), slice(0, 48), slice(0, 64))  # the last tile is continued differently
        np.testing.assert_allclose(kept(parts)[inner], kept(whole)[inner], atol=2e-6)
        small = segment(net, picture(20, 30), replace(ONE, scales=(20,)))
        assert small.labels.shape == (20, 30)


def test_what_leaves_nothing_of_a_tile_is_refused(tmp_path: Path) -> None:
    wide = "conv11-6 x3 conv1-5 soft-max(map)"
    with opened(tmp_path, wide, form="crop") as net, refused("leaves nothing of a tile"):
        segment(net, picture(64, 64), ONE)


def test_an_image_of_one_pixel_has_a_label(tmp_path: Path) -> None:
    with opened(tmp_path, NETS["stride 4"]) as net:
        found = segment(net, picture(1, 1), replace(ONE, scales=(1,)))
    assert found.labels.shape == (1, 1)


def test_the_input_of_a_tile_is_the_net_s(tmp_path: Path) -> None:
    image = picture(48, 64)
    with opened(tmp_path, NETS["stride 1"], contract="raw") as net:
        raw = segment(net, image, ONE)
    with opened(tmp_path, NETS["stride 1"]) as net:
        assert normalise(image[np.newaxis], net.manifest.input).dtype == np.float32
        found = segment(net, image, ONE)
    np.testing.assert_allclose(raw.confidence, found.confidence, atol=2e-6)
