"""Boxes by both protocols, against windows that are cut out one by one and run by PyTorch."""

import contextlib
import io
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from tests.studies.localisation.localisers import ENDS, LABELS, STRIDE, TRUNK, WINDOW, Made, make
from tests.studies.localisation.test_merge import slow_merge
from vggspec.base.catalogue import localising
from vggspec.base.catalogue.artefacts import NotFinite
from vggspec.base.diagnostic import VggspecError
from vggspec.base.recipe import TestProtocol
from vggspec.runtime.net import BundleNet
from vggspec.runtime.predictor import Predictor
from vggspec.runtime.preprocess import rescale
from vggspec.runtime.protocol import Look, View, grid
from vggspec.studies.localisation.localiser import (
    ClassBox,
    Localiser,
    Located,
    Method,
    boxes_of,
    windows,
)
from vggspec.studies.pipeline import Applied, Sight, see

Floats = NDArray[np.float64]
Pixels = NDArray[np.uint8]

#: Portrait, landscape, a window and a window and a pixel, and sizes that no stride divides.
SIZES = [(43, 70), (61, 37), (16, 16), (17, 16), (16, 17), (24, 25), (101, 33)]
CENTRAL = TestProtocol(scales=(24,), dense=False, crops=1)
DENSE = TestProtocol(scales=(19, 24))


def photo(size: tuple[int, int], seed: int = 0) -> Pixels:
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (5, 6, 3), dtype=np.uint8))
    return np.asarray(coarse.resize((size[1], size[0]), Image.Resampling.BICUBIC))


def as_file(pixels: Pixels) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Made]:
    folder = tmp_path_factory.mktemp("localisers")
    found = {end: make(folder / end, end, seed=seed) for seed, end in enumerate(ENDS)}
    found["other classes"] = make(folder / "other", "classes", seed=7)
    found["other per-class"] = make(folder / "pcr", "per-class", seed=8)
    return found


@contextlib.contextmanager
def opened(
    nets: Sequence[Made], classifiers: Sequence[Made], method: Method
) -> Iterator[Localiser]:
    with contextlib.ExitStack() as stack:
        loaded = [
            [stack.enter_context(BundleNet(one.bundle, device="cpu")) for one in some]
            for some in (nets, classifiers)
        ]
        yield Localiser(*loaded, method)


def locate(
    nets: Sequence[Made],
    classifiers: Sequence[Made],
    image: Pixels,
    asked: Sequence[int | None] = (),
    **method: Any,
) -> Located:
    method.setdefault("protocol", DENSE)
    with opened(nets, classifiers, Method(**method)) as localiser:
        (found,) = localiser(lambda _: as_file(image), [0], lambda _: asked)
    return found


def cut(
    image: Pixels, scale: int, crops: int | None, *, flip: bool
) -> Iterator[tuple[Pixels, int, int, bool, tuple[int, int]]]:
    """Each window of the image at a scale, as the net sees it: its pixels, its first row and column
    in the rescaled image or the mirror image of it, which one, and the rescaled size.
    """
    rescaled = rescale(image, scale)
    height, width = rescaled.shape[:2]
    if crops is None:
        tops = range(0, height - WINDOW + 1, STRIDE)
        lefts = range(0, width - WINDOW + 1, STRIDE)
        for is_mirrored in [False, True][: 1 + flip]:
            seen = rescaled[:, ::-1] if is_mirrored else rescaled
            for top in tops:
                for left in lefts:
                    pixels = seen[top : top + WINDOW, left : left + WINDOW]
                    yield pixels, top, left, is_mirrored, (height, width)
        return
    for top in grid(height, WINDOW, crops):
        for left in grid(width, WINDOW, crops):
            pixels = rescaled[top : top + WINDOW, left : left + WINDOW]
            yield pixels, top, left, False, (height, width)
            if flip:
                at = width - left - WINDOW  # of the same pixels in the mirror image
                yield pixels[:, ::-1], top, at, True, (height, width)


def slow_boxes(one: Made, image: Pixels, scale: int, crops: int | None, *, flip: bool) -> Floats:
    """``(n, K, 4)``: one window after the other, a number after the other."""
    found = list(cut(image, scale, crops, flip=flip))
    said = one.of_windows(np.stack([pixels for pixels, *_ in found]))
    boxes = []
    for numbers, (_, top, left, is_mirrored, (height, width)) in zip(said, found, strict=True):
        of_window = []
        for x, y, w, h in numbers.reshape(-1, 4):
            centre = left + WINDOW / 2 + WINDOW * x, top + WINDOW / 2 + WINDOW * y
            middle = width - centre[0] if is_mirrored else centre[0]
            sides = [
                (middle - WINDOW * w / 2) * image.shape[1] / width,
                (centre[1] - WINDOW * h / 2) * image.shape[0] / height,
                (middle + WINDOW * w / 2) * image.shape[1] / width,
                (centre[1] + WINDOW * h / 2) * image.shape[0] / height,
            ]
            of_window.append(sides)
        boxes.append(of_window)
    return np.array(boxes)


def slow_rates(one: Made, image: Pixels, scale: int, crops: int | None, *, flip: bool) -> Floats:
    """``(n, K)``: the class posteriors of each window."""
    return one.of_windows(np.stack([each[0] for each in cut(image, scale, crops, flip=flip)]))


@pytest.mark.parametrize("flip", [True, False])
@pytest.mark.parametrize("crops", [None, 1, 3])
@pytest.mark.parametrize("end", ["shared", "per-class"])
@pytest.mark.parametrize("size", SIZES)
def test_a_window_gives_what_it_gives_cut_out(
    made: dict[str, Made], size: tuple[int, int], end: str, crops: int | None, flip: bool
) -> None:
    image = photo(size)
    protocol = TestProtocol(scales=(WINDOW, 23), dense=crops is None, crops=crops, flip=flip)
    with BundleNet(made[end].bundle, device="cpu") as net:
        (seen,) = see([Applied(net, protocol)], lambda _: as_file(image), [0])
        assert seen.size == size
        for sight in seen.sights:
            found = boxes_of(sight, net.view, protocol, seen.size)
            expected = slow_boxes(made[end], image, sight.look.scale, crops, flip=flip)
            assert found.shape == expected.shape
            np.testing.assert_allclose(found, expected, atol=1e-3)


def test_the_windows_of_a_mirror_image_begin_at_the_other_end() -> None:
    sight = Sight(net=0, look=Look(37, "dense"), size=(37, 70), outputs={})
    view = View(least=(32, 32), is_dynamic=True, window=(32, 32), stride=(32, 32))
    found = windows(sight, view, TestProtocol(), (1, 2))
    np.testing.assert_array_equal(found[0, 0], [[0, 0, 32, 32], [32, 0, 64, 32]])
    np.testing.assert_array_equal(found[1, 0], [[38, 0, 70, 32], [6, 0, 38, 32]])


@pytest.mark.parametrize(("stride", "positions"), [(32, (2, 3)), (16, (3, 5)), (8, (5, 9))])
def test_windows_of_poolings_that_round_up_begin_at_the_corner(
    stride: int, positions: tuple[int, int]
) -> None:
    """The last one reaches past the edge, by less than the net's own stride of 32."""
    sight = Sight(net=0, look=Look(37, "dense"), size=(37, 70), outputs={})
    view = View(least=(32, 32), is_dynamic=True, window=(32, 32), stride=(stride, stride))
    found = windows(sight, view, TestProtocol(), positions)
    np.testing.assert_array_equal(found[0, -1, -1], [64, 32, 96, 64])
    np.testing.assert_array_equal(found[1, 0, 0], [38, 0, 70, 32])


def assert_place(found: ClassBox, label: int | None, box: Floats | None) -> None:
    assert found.label == label
    if box is None:
        assert found.box is None
    else:
        assert found.box is not None
        np.testing.assert_allclose(found.box, box, atol=2e-3)


def clipped(box: Floats, size: tuple[int, int]) -> Floats | None:
    left, right = (min(max(float(x), 0), size[1]) for x in (box[0], box[2]))
    top, bottom = (min(max(float(y), 0), size[0]) for y in (box[1], box[3]))
    return np.array([left, top, right, bottom]) if right > left and bottom > top else None


def is_box(boxes: Floats) -> NDArray[np.bool_]:
    return np.asarray((boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1]))


@pytest.mark.parametrize("flip", [True, False])
@pytest.mark.parametrize("size", SIZES[:2])
@pytest.mark.parametrize("ends", [["shared"], ["per-class"], ["shared", "per-class"]])
def test_centrally_the_box_is_the_mean_of_the_central_windows(
    made: dict[str, Made], ends: list[str], size: tuple[int, int], flip: bool
) -> None:
    image = photo(size)
    protocol = replace(DENSE, flip=flip)  # what is dense becomes the central crop
    nets = [made[end] for end in ends]
    found = locate(nets, [], image, asked=(2, 0), protocol=protocol)
    assert (found.likeliest, found.unread, found.size) == ((), None, size)
    for place, label in zip(found.asked, (2, 0), strict=True):
        boxes = np.concatenate(
            [
                all_boxes[:, label if all_boxes.shape[1] > 1 else 0]
                for one in nets
                for scale in protocol.scales
                for all_boxes in [slow_boxes(one, image, scale, 1, flip=flip)]
            ]
        )
        kept = boxes[is_box(boxes)]
        assert place.windows == len(kept)
        assert_place(place, label, clipped(kept.mean(axis=0), size) if len(kept) else None)


@pytest.mark.parametrize(
    ("ends", "classifiers"),
    [
        (["shared"], ["classes"]),
        (["per-class"], ["classes"]),
        (["per-class", "other per-class"], ["classes", "other classes"]),
        (["shared", "per-class"], ["other classes"]),
    ],
)
@pytest.mark.parametrize(("crops", "size"), [(None, SIZES[0]), (2, SIZES[1])])
def test_densely_it_is_the_best_of_the_merged_boxes(
    made: dict[str, Made],
    ends: list[str],
    classifiers: list[str],
    crops: int | None,
    size: tuple[int, int],
) -> None:
    image = photo(size, seed=1)
    protocol = TestProtocol(scales=(16, 18), dense=crops is None, crops=crops)
    nets, judges = [made[end] for end in ends], [made[end] for end in classifiers]
    found = locate(nets, judges, image, asked=(1,), protocol=protocol, top=2, match=0.5)

    looks = [(scale, crops) for scale in protocol.scales]
    rates = [
        np.mean([slow_rates(one, image, *look, flip=True) for one in judges], axis=0)
        for look in looks
    ]
    every = np.concatenate([*rates] * len(nets))
    expected = []
    for label in range(len(LABELS)):
        boxes = np.concatenate(
            [
                all_boxes[:, label if all_boxes.shape[1] > 1 else 0]
                for one in nets
                for look in looks
                for all_boxes in [slow_boxes(one, image, *look, flip=True)]
            ]
        )
        kept = is_box(boxes)
        merged = slow_merge(boxes[kept], every[kept, label], 0.5, literal=False)
        best = int(np.argmax(merged.scores))
        expected.append((merged.boxes[best], merged.scores[best], merged.sources[best]))
    assert len(found.likeliest) == 2
    posteriors = [place.posterior or 0 for place in found.likeliest]
    assert posteriors == sorted(posteriors, reverse=True)
    for place in (*found.likeliest, *found.asked):
        assert place.label is not None
        box, score, number = expected[place.label]
        assert_place(place, place.label, clipped(box, size))
        assert place.score == pytest.approx(score, abs=1e-4)
        assert place.windows == number
    assert [place.label for place in found.asked] == [1]


def test_the_likeliest_classes_are_those_of_predict(made: dict[str, Made]) -> None:
    image = photo((43, 70), seed=2)
    found = locate([made["shared"]], [made["classes"]], image)
    with Predictor(made["classes"].bundle.path, device="cpu") as predictor:
        prediction = predictor(image, scales=DENSE.scales)
    assert [place.label for place in found.likeliest] == prediction.ranking(3)
    np.testing.assert_allclose(
        [place.posterior for place in found.likeliest],
        prediction.posteriors[prediction.ranking(3)],
        atol=1e-7,
    )


def test_no_class_is_needed_where_boxes_are_shared(made: dict[str, Made]) -> None:
    with opened([made["shared"]], [], Method(protocol=CENTRAL)) as localiser:
        assert not localiser.needs_class
        assert localiser.num_classes is None
    found = locate([made["shared"]], [], photo((43, 70)), asked=(None,), protocol=CENTRAL)
    assert found.asked[0].label is None
    with opened([made["per-class"]], [], Method(protocol=CENTRAL)) as localiser:
        assert localiser.needs_class
        assert (localiser.num_classes, localiser.labels) == (3, LABELS)
    both = [made["shared"], made["classes"]]
    with opened(both[:1], both[1:], Method(protocol=DENSE)) as localiser:
        assert not localiser.needs_class
        assert localiser.labels == LABELS


def test_nets_of_one_size_see_crops(made: dict[str, Made], tmp_path: Path) -> None:
    fixed = make(tmp_path / "fixed", "shared", seed=0, form="crop")
    judge = make(tmp_path / "judge", "classes", seed=2, form="crop")
    image = photo((43, 70))
    for classifier in (judge, made["classes"]):
        found = locate([fixed], [classifier], image)
        assert all(place.windows <= 2 * len(DENSE.scales) for place in found.likeliest)
    # The same weights: the dense net told to look by the central crop.
    expected = locate(
        [made["shared"]], [made["classes"]], image, protocol=replace(CENTRAL, scales=DENSE.scales)
    )
    for one, other in zip(found.likeliest, expected.likeliest, strict=True):
        assert other.box is not None
        assert_place(one, other.label, other.box)


def constant(folder: Path, numbers: Sequence[float]) -> Made:
    """A net that says the same of every window."""
    return make(folder, "shared", numbers=numbers, spread=0)


def test_a_box_turned_inside_out_is_no_place(made: dict[str, Made], tmp_path: Path) -> None:
    image = photo((40, 40))
    inside_out = constant(tmp_path / "negative", [0, 0, -0.5, 0.5])
    central = locate([inside_out], [], image, asked=(None,), protocol=CENTRAL)
    assert (central.asked[0].box, central.asked[0].windows) == (None, 0)
    dense = locate([inside_out], [made["classes"]], image)
    assert all(place.box is None and place.score is None for place in dense.likeliest)
    # Of two nets the other one's counts.
    good = constant(tmp_path / "good", [0, 0, 0.5, 0.5])
    both = locate([inside_out, good], [], image, asked=(None,), protocol=CENTRAL)
    assert_place(
        both.asked[0], None, np.array([20 - 20 / 3, 20 - 20 / 3, 20 + 20 / 3, 20 + 20 / 3])
    )
    assert both.asked[0].windows == 2  # the image and its mirror image


def test_what_lies_outside_of_the_image_is_cut_off(tmp_path: Path) -> None:
    image = photo((40, 40))
    large = constant(tmp_path / "large", [0.25, 0, 9, 9])
    found = locate([large], [], image, asked=(None,), protocol=replace(CENTRAL, flip=False))
    assert_place(found.asked[0], None, np.array([0, 0, 40, 40]))
    beyond = constant(tmp_path / "beyond", [9, 0, 1, 1])
    found = locate([beyond], [], image, asked=(None,), protocol=replace(CENTRAL, flip=False))
    assert found.asked[0].box is None


def test_rescaling_rounds_and_boxes_do_not(tmp_path: Path) -> None:
    """100 × 33 at Q 16 is 48 × 16, so a pixel is 100/48 rows high and 33/16 columns wide."""
    whole_window = constant(tmp_path / "whole", [0, 0, 1, 1])
    image = photo((100, 33))
    protocol = TestProtocol(scales=(16,), dense=False, crops=1, flip=False)
    found = locate([whole_window], [], image, asked=(None,), protocol=protocol)
    assert_place(found.asked[0], None, np.array([0, 16 * 100 / 48, 33, 32 * 100 / 48]))


def test_numbers_that_are_none_are_told(tmp_path: Path) -> None:
    bad = make(tmp_path / "inf", "shared", spread=1e38)  # finite weights, infinite numbers
    with pytest.raises(VggspecError) as raised:
        locate([bad], [], photo((40, 40)), asked=(None,), protocol=CENTRAL)
    (report,) = raised.value.reports
    assert report.what == NotFinite(output="boxes")


def test_an_image_that_cannot_be_read_is_told_and_the_others_are_located(
    made: dict[str, Made],
) -> None:
    files = [as_file(photo((40, 40))), b"no image", as_file(photo((40, 40), seed=1))]
    with opened([made["shared"]], [made["classes"]], Method(protocol=DENSE)) as localiser:
        found = list(localiser(files.__getitem__, [2, 1, 0]))
    assert [one.index for one in found] == [2, 1, 0]
    assert [one.unread for one in found] == [None, "it is not an image", None]
    assert (found[1].likeliest, found[1].size) == ((), (0, 0))


def refused(nets: Sequence[Made], classifiers: Sequence[Made], **method: Any) -> Any:
    with pytest.raises(VggspecError) as raised:
        locate(nets, classifiers, photo((40, 40)), **method)
    (report,) = raised.value.reports
    return report


def test_nets_that_cannot_work_together_are_told(made: dict[str, Made], tmp_path: Path) -> None:
    shared, classes, per_class = (made[end] for end in ("shared", "classes", "per-class"))
    report = refused([classes], [])
    assert report.what == localising.NoBoxes(gives="posteriors")
    assert report.path == str(classes.bundle.path)
    assert refused([shared], [shared]).what == localising.NoPosteriorsForBoxes(gives="boxes")
    what = refused([shared], [made["scores"]]).what
    assert what == localising.NoPosteriorsForBoxes(gives="scores")

    renamed = make(tmp_path / "renamed", "classes", labels=("ant", "wasp", "cat"))
    how = "class 1 is `wasp`, and there `bee, honey bee`"
    report = refused([per_class], [renamed])
    assert report.what == localising.OtherClassesThanBoxes(other="per-class", how=how)
    locate([shared], [renamed], photo((40, 40)))  # one box for all has no classes to differ in
    nameless = make(tmp_path / "nameless", "classes", labels=None)
    assert locate([per_class], [nameless], photo((40, 40))).likeliest

    fewer = make(tmp_path / "fewer", "FC-2\nsoft-max\n", labels=None)
    what = localising.OtherClassesThanBoxes(other="per-class", how="2, and there 3")
    assert refused([per_class], [fewer]).what == what

    coarse = TRUNK.replace("FC-16", "maxpool\nFC-16")
    far = make(tmp_path / "far", "classes", spec=coarse)
    strides = (4, 4), (2, 2)
    what = refused([shared], [far]).what
    assert what == localising.OtherWindows(
        other="far", windows=((16, 16), (16, 16)), strides=strides
    )
    assert "--stride" in (what.help() or "")
    locate([shared], [far], photo((40, 40)), protocol=CENTRAL)  # crops have no stride
    rounding = make(tmp_path / "rounding", "classes", pool="ceil")
    odd = TestProtocol(scales=(25,))
    what = refused([shared], [classes, rounding], protocol=odd).what
    assert isinstance(what, localising.OtherWindows)
    larger = make(tmp_path / "larger", "classes", spec=TRUNK.replace("16x16", "20x20"))
    assert refused([shared], [larger]).what.windows == ((20, 20), (16, 16))
    bare = make(tmp_path / "bare", "classes", keep_map=False)
    assert refused([shared], [bare]).what == localising.NoMapToRate()
    locate([shared], [bare], photo((40, 40)), protocol=CENTRAL)


def test_a_net_that_averages_over_space_is_applied_by_crops(
    made: dict[str, Made], tmp_path: Path
) -> None:
    averaging = make(tmp_path / "gap", "shared", spec=TRUNK.replace("FC-16", "gap\nFC-16"))
    image = photo((40, 40))
    assert refused([averaging], [made["classes"]]).what == localising.OneBoxForAll()
    by_crops = TestProtocol(scales=(24,), dense=False, crops=2)
    assert locate([averaging], [made["classes"]], image, protocol=by_crops).likeliest
    assert locate([averaging], [], image, asked=(None,)).asked[0].label is None


def test_the_window_of_a_net_without_fc_is_what_a_position_of_its_map_sees(
    tmp_path: Path,
) -> None:
    spec = "net {name}\ninput 16x16 RGB\nconv3-6(pad 0)\nmaxpool\nconv3-8(pad 0)\n"
    made = make(tmp_path / "conv", "conv1-4(linear)\nboxes(shared)\n", spec=spec, spread=0)
    manifest = made.bundle.manifest
    # 16 pixels, 14, 7, 5: five positions, two pixels apart.
    assert (manifest.window, manifest.stride) == ((8, 8), (2, 2))
