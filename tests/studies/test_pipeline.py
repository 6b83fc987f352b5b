"""Many images at once give what each gives alone, whatever the batches, threads and shapes."""

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.photos import png as photo
from tests.runtime.bundles import WINDOW, make, weights
from vggspec.base import recipe
from vggspec.bundle.opening import open_bundle
from vggspec.data.decode import BadImageError, decode
from vggspec.data.decode_limits import Room
from vggspec.runtime.net import BundleNet, Outputs
from vggspec.runtime.predictor import Predictor
from vggspec.runtime.protocol import Answer, Look, View, classify
from vggspec.studies import pipeline
from vggspec.studies.pipeline import Applied, Seen, enlarged_scale, see

SIZES = [(43, 70), (61, 37), (43, 70), (24, 24), (70, 43), (43, 70), (24, 25)]
BOTH = recipe.TestProtocol(scales=(17, 24, 30), crops=3)

Pixels = NDArray[np.uint8]


PHOTOS = [photo(size, seed) for seed, size in enumerate(SIZES)]


class Recorded:
    """A net that remembers the batches it was given."""

    color = "RGB"
    device = "cpu"

    def __init__(self, net: BundleNet) -> None:
        self._net = net
        self.view = net.view
        self.shapes: list[tuple[int, ...]] = []

    def apply_all(self, batches: Iterable[Pixels]) -> Iterator[Outputs]:
        for images in batches:
            self.shapes.append(images.shape)
            yield self._net(images)


def posteriors(seen: Seen, net: int = 0) -> NDArray[np.float64]:
    found = [one.outputs["posteriors"].mean(axis=0) for one in seen.sights if one.net == net]
    result: NDArray[np.float64] = np.mean(found, axis=0)
    return result


@pytest.mark.parametrize("flip", [True, False])
@pytest.mark.parametrize(
    "protocol",
    [
        recipe.TestProtocol(scales=(24,)),
        recipe.TestProtocol(scales=(24, 17, 30)),
        recipe.TestProtocol(scales=(24, 24)),
        replace(BOTH, dense=False),
        BOTH,
    ],
    ids=["one scale", "scales", "a scale twice", "crops", "both"],
)
@pytest.mark.parametrize("batch_pixels", [1, 24 * 39 * 5, 1 << 20])
def test_an_image_among_many_gives_what_it_gives_alone(
    tmp_path: Path, protocol: recipe.TestProtocol, batch_pixels: int, flip: bool
) -> None:
    protocol = replace(protocol, flip=flip)
    made = make(tmp_path / "small", test=protocol)
    with Predictor(made.path, device="cpu") as predictor:
        alone = [predictor(image).posteriors for image in PHOTOS]
    with BundleNet(made.path, device="cpu") as net:
        found = list(
            see(
                [Applied(net, protocol)],
                PHOTOS.__getitem__,
                range(len(PHOTOS)),
                batch_pixels=batch_pixels,
            )
        )
    assert [one.index for one in found] == list(range(len(PHOTOS)))
    assert [one.size for one in found] == SIZES
    for one, expected in zip(found, alone, strict=True):
        np.testing.assert_array_equal(posteriors(one), expected)  # to the bit


def test_equal_shapes_and_mirror_images_share_batches(tmp_path: Path) -> None:
    made = make(tmp_path / "small")
    protocol = recipe.TestProtocol(scales=(24,))
    with BundleNet(made.path, device="cpu") as net:
        recorded = Recorded(net)
        list(see([Applied(recorded, protocol)], PHOTOS.__getitem__, range(len(PHOTOS))))
    shapes = {shape[1:3]: shape[0] for shape in recorded.shapes}
    assert len(recorded.shapes) == len(shapes)  # one batch a shape
    # 43 × 70 three times, and 61 × 37, 70 × 43, and the squares, each with its mirror image.
    assert shapes == {(24, 39): 6, (40, 24): 2, (24, 24): 2, (39, 24): 2, (24, 25): 2}


def test_an_image_stays_with_its_mirror_image(tmp_path: Path) -> None:
    made = make(tmp_path / "small")
    with BundleNet(made.path, device="cpu") as net:
        recorded = Recorded(net)
        applied = Applied(recorded, recipe.TestProtocol(scales=(24,)))
        list(see([applied], lambda _: PHOTOS[0], range(7), batch_pixels=3 * 24 * 39))
    assert [shape[0] for shape in recorded.shapes] == [2] * 7


def test_nets_share_the_decoded_image_and_its_rescalings(tmp_path: Path) -> None:
    color = make(tmp_path / "color")
    other = make(tmp_path / "other", of=weights(seed=1))
    gray = make(tmp_path / "gray", color="gray")
    reads: list[int] = []

    def read(index: int) -> bytes:
        reads.append(index)
        return PHOTOS[index]

    protocols = [
        recipe.TestProtocol(scales=(24, 30)),
        recipe.TestProtocol(scales=(30, 17), crops=2),
        recipe.TestProtocol(scales=(24,), flip=False),
    ]
    made = [color, other, gray]
    nets = [BundleNet(one.path, device="cpu") for one in made]
    applied = [Applied(net, protocol) for net, protocol in zip(nets, protocols, strict=True)]
    found = list(see(applied, read, range(len(PHOTOS))))
    assert sorted(reads) == list(range(len(PHOTOS)))
    ways = [(one.net, one.look) for one in found[0].sights]
    assert ways == [
        (0, Look(24, "dense")),
        (0, Look(30, "dense")),
        (1, Look(30, "dense")),
        (1, Look(30, "crops")),
        (1, Look(17, "dense")),
        (1, Look(17, "crops")),
        (2, Look(24, "dense")),
    ]
    for i, (one, protocol) in enumerate(zip(made, protocols, strict=True)):
        bundle = open_bundle(one.path)
        assert bundle.manifest.test != protocol
        alone = list(see([applied[i]], PHOTOS.__getitem__, range(len(PHOTOS))))
        for together, by_itself in zip(found, alone, strict=True):
            np.testing.assert_array_equal(posteriors(together, i), posteriors(by_itself))
    for net in nets:
        net.close()


@pytest.mark.parametrize("threads", [1, 3])
def test_images_come_in_order_and_not_all_at_once(tmp_path: Path, threads: int) -> None:
    made = make(tmp_path / "small")
    asked = threading.Semaphore(0)
    number = 4000

    def read(index: int) -> bytes:
        asked.release()
        return PHOTOS[index % len(PHOTOS)]

    with BundleNet(made.path, device="cpu") as net:
        applied = Applied(net, recipe.TestProtocol(scales=(17,), flip=False))
        seen = see([applied], read, range(number), threads=threads)
        assert next(seen).index == 0
        seen.close()
    # Rescaled images wait, but no more than two rounds of them.
    reads = 0
    while asked.acquire(blocking=False):
        reads += 1
    assert reads < number / 2


def test_no_more_waits_than_memory_is_given_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make(tmp_path / "small")
    monkeypatch.setattr(pipeline, "AHEAD_BYTES", 5 * 24 * 39 * 3)  # five images at Q = 24
    started: list[int] = []

    def read(index: int) -> bytes:
        started.append(index)
        return PHOTOS[0]

    with BundleNet(made.path, device="cpu") as net:
        applied = Applied(net, recipe.TestProtocol(scales=(24,)))
        seen = see([applied], read, range(100), threads=1, batch_pixels=1)
        for number in range(1, 10):
            next(seen)
            assert len(started) <= number + 5
        seen.close()


def test_what_cannot_be_read_is_told_and_the_others_are_seen(tmp_path: Path) -> None:
    made = make(tmp_path / "small")
    damaged = PHOTOS[0][:200]

    def read(index: int) -> bytes:
        if index == 1:
            raise BadImageError("no such file")
        return {0: b"", 2: damaged, 3: photo((1, 9000), 0)}.get(index, PHOTOS[0])

    protocol = recipe.TestProtocol(scales=(24,), crops=2)
    with BundleNet(made.path, device="cpu") as net:
        found = list(see([Applied(net, protocol)], read, [4, 0, 1, 2, 5]))
        assert [one.unread is None for one in found] == [True, False, False, False, True]
        assert found[1].unread == "it is empty"
        assert found[2].unread == "no such file"
        assert found[1].sights == ()
        np.testing.assert_array_equal(posteriors(found[0]), posteriors(found[-1]))
        (strip,) = see([Applied(net, recipe.TestProtocol(scales=(2000,)))], read, [3])
        assert strip.unread is not None
        assert "18000000" in strip.unread.replace(",", "") or "×" in strip.unread


def test_an_image_smaller_than_the_window_is_enlarged_or_told(tmp_path: Path) -> None:
    made = make(tmp_path / "small")
    protocol = recipe.TestProtocol(scales=(WINDOW - 1,))
    with BundleNet(made.path, device="cpu") as net:
        applied = [Applied(net, protocol)]
        (told,) = see(applied, PHOTOS.__getitem__, [0])
        assert told.unread is not None
        assert "15 ×" in told.unread
        (enlarged,) = see(applied, PHOTOS.__getitem__, [0], enlarge=True)
        (at_window,) = see(
            [replace(applied[0], protocol=replace(protocol, scales=(WINDOW,)))],
            PHOTOS.__getitem__,
            [0],
        )
    assert enlarged.sights[0].look == Look(WINDOW - 1, "dense")
    assert enlarged.sights[0].size == at_window.sights[0].size
    np.testing.assert_array_equal(posteriors(enlarged), posteriors(at_window))


@pytest.mark.parametrize(
    ("size", "scale", "least", "expected"),
    [
        ((300, 400), 256, (224, 224), 256),
        ((300, 400), 200, (224, 224), 224),
        ((300, 400), 200, (224, 500), 375),
        ((300, 400), 223, (223, 298), 224),  # 223 gives 297 columns
        ((1, 1), 1, (3, 2), 3),
    ],
)
def test_the_enlarged_scale_is_the_least_that_fits(
    size: tuple[int, int], scale: int, least: tuple[int, int], expected: int
) -> None:
    assert enlarged_scale(size, scale, least) == expected


def test_maps_come_with_the_posteriors(tmp_path: Path) -> None:
    made = make(tmp_path / "small")
    with BundleNet(made.path, device="cpu") as net:
        (one,) = see([Applied(net, recipe.TestProtocol(scales=(24,)))], PHOTOS.__getitem__, [0])
    (sight,) = one.sights
    assert sight.size == (24, 39)
    assert sight.outputs["score_map"].shape == (2, 5, 3, 6)
    scores = sight.outputs["score_map"].mean(axis=(2, 3))
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    np.testing.assert_allclose(
        sight.outputs["posteriors"], powers / powers.sum(axis=1, keepdims=True), atol=1e-6
    )


def test_the_view_is_the_manifest_s(tmp_path: Path) -> None:
    made = make(tmp_path / "small")
    with BundleNet(made.path, device="cpu") as net:
        assert net.view == View(
            least=(WINDOW, WINDOW), is_dynamic=True, window=(WINDOW, WINDOW), stride=(4, 4)
        )
        assert (net.color, net.device) == ("RGB", "cpu")


def test_nets_may_be_rescaled_for_in_their_own_ways(tmp_path: Path) -> None:
    made = make(tmp_path / "small")
    ways = [
        recipe.TestProtocol(scales=(24, 30), dense=False, crops=1, resize="torchvision"),
        recipe.TestProtocol(scales=(24, 30), dense=False, crops=1),
        recipe.TestProtocol(scales=(24, 17), resize="torchvision"),
    ]
    with BundleNet(made.path, device="cpu") as net:
        found = list(see([Applied(net, way) for way in ways], PHOTOS.__getitem__, range(3)))
        for i, way in enumerate(ways):
            for one in found:
                image = decode(PHOTOS[one.index], "RGB")
                alone, _ = classify(answers(net), image, net.view, way)
                np.testing.assert_allclose(posteriors(one, i), alone, atol=1e-6)
    assert not np.allclose(posteriors(found[0], 0), posteriors(found[0], 1), atol=1e-6)


def answers(net: BundleNet) -> Callable[[Pixels], Answer]:
    return lambda images: Answer(net(images)["posteriors"])


def test_threads_share_the_room_for_decoded_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until an image is rescaled, its pixels count; here there is room for one image at a time."""
    lock, inside, most = threading.Lock(), 0, 0
    prepared = pipeline.Preparing._prepared

    def counted(*given: Any) -> pipeline.PreparedImage:
        nonlocal inside, most
        with lock:
            inside += 1
            most = max(most, inside)
        time.sleep(0.005)
        with lock:
            inside -= 1
        return prepared(*given)

    monkeypatch.setattr(pipeline.Preparing, "_prepared", counted)
    gray = make(tmp_path / "gray", color="gray")
    with BundleNet(make(tmp_path / "small").path, device="cpu") as net:
        protocol = recipe.TestProtocol(scales=(24,))
        for total in (1 << 30, 1):
            monkeypatch.setattr("vggspec.data.decode_limits.SMALL_BYTES", 0)
            monkeypatch.setattr("vggspec.data.decode.room", Room(total))
            most = 0
            with BundleNet(gray.path, device="cpu") as other:
                both = [Applied(net, protocol), Applied(other, protocol)]
                assert len(list(see(both, PHOTOS.__getitem__, range(7), threads=4))) == 7
            assert (most == 1) == (total == 1)
