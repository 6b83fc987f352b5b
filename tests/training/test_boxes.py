"""Nets that say where something is: their crops, their loss, what counts as wrong, their runs."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from tests.data.test_annotated import xml
from tests.refusals import refused
from tests.training.folders import HUES, TO_BOXES, TO_SHARED_BOXES, tiny, write_annotated
from tests.training.test_resume import go_on
from vggspec.base.catalogue import annotations
from vggspec.base.catalogue import data as catalogue
from vggspec.base.diagnostic import VggspecError
from vggspec.base.recipe import TrainRecipe
from vggspec.bundle.opening import open_bundle
from vggspec.bundle.options import CompileOptions
from vggspec.compiler.bundling.graph import write_bundle
from vggspec.compiler.ir import ImageInput
from vggspec.compiler.weights import open_weights
from vggspec.data.annotated import Examples, open_annotated
from vggspec.data.box_coding import Boxes, decode
from vggspec.training import box_crops
from vggspec.training.augment import Crop, Unread, draw
from vggspec.training.batches import Batch, Targets, collate
from vggspec.training.box_crops import CentreBoxCrops, TrainBoxCrops
from vggspec.training.dataset import DataSet, open_data
from vggspec.training.images import Images
from vggspec.training.loop import Options, fit
from vggspec.training.objective import Localisation
from vggspec.training.order import Ticket
from vggspec.training.trainable import training_network

AXES = np.zeros((3, 3))


# Crops


def examples(root: Path, size: tuple[int, int], *boxes: tuple[int, int, int, int]) -> Examples:
    """One image, black with white boxes."""
    pixels = np.zeros((*size, 3), np.uint8)
    for left, top, right, bottom in boxes:
        pixels[top:bottom, left:right] = 255
    (root / "val" / "box").mkdir(parents=True)
    Image.fromarray(pixels).save(root / "val" / "box" / "0.png")
    xml(root / "annotations/val/box/0.xml", size, [("box", *box) for box in boxes])
    return Examples(open_annotated(root))


def train_crops(
    of: Examples, window: tuple[int, int], scale: tuple[int, int], seed: int = 0
) -> TrainBoxCrops:
    image = ImageInput(height=window[0], width=window[1])
    images = Images(of, "RGB", scale, are_kept=True)
    return TrainBoxCrops(images, of, image, TrainRecipe(scale=scale), AXES, seed)


def white(crop: Crop) -> tuple[Boxes, NDArray[np.bool_]]:
    """Where a crop is white, to a fraction of a pixel, and which of the sides are not cut off.

    Of a row of pixels across the box each holds as much white as the box covers of it.
    """
    levels = crop.pixels[..., 0] / 255
    rows, columns = levels.max(axis=1), levels.max(axis=0)
    sides = []
    for line in (columns, rows):
        first = int(np.flatnonzero(line > 0.5)[0])
        last = int(np.flatnonzero(line > 0.5)[-1])
        near = first + 1 - line[: first + 1].sum()
        sides.append((near, last + line[last:].sum()))
    (left, right), (top, bottom) = sides
    height, width = levels.shape
    is_whole = np.array([left > 0.5, top > 0.5, right < width - 0.5, bottom < height - 0.5])
    return np.array([left, top, right, bottom]), is_whole


def said(crop: Crop, which: int = 0) -> Boxes:
    """The target in pixels of the crop."""
    assert crop.target is not None
    height, width = crop.pixels.shape[:2]
    return decode(crop.target.boxes[which], (0, 0, width, height))


@pytest.mark.parametrize("size", [(90, 120), (121, 83), (64, 64)])
@pytest.mark.parametrize("window", [(32, 32), (24, 32), (40, 24)])
def test_the_target_is_where_the_box_is_seen(
    size: tuple[int, int], window: tuple[int, int], tmp_path: Path
) -> None:
    """The white of a picture that was cropped, rescaled and mirrored, found in its pixels."""
    box = size[1] // 3, size[0] // 4, size[1] // 3 + 27, size[0] // 4 + 35
    crops = train_crops(examples(tmp_path, size, box), window, (41, 48))
    mirrored, compared = set(), 0
    for epoch in range(30):
        ticket = Ticket(epoch, 0)
        crop = crops[ticket]
        assert isinstance(crop, Crop)
        assert crop.pixels.shape == (*window, 3)
        found, is_whole = white(crop)
        np.testing.assert_allclose(found[is_whole], said(crop)[is_whole], atol=0.6)
        mirrored.add(draw(TrainRecipe(scale=(41, 48)), 3, 0, ticket).is_mirrored)
        compared += int(is_whole.sum())
    assert mirrored == {True, False}
    assert compared > 40


@pytest.mark.parametrize("size", [(90, 120), (121, 83)])
def test_the_central_crop_has_all_boxes_and_the_edge_of_the_image(
    size: tuple[int, int], tmp_path: Path
) -> None:
    boxes = (30, 40, 50, 60), (0, 0, 4, 5)
    of = examples(tmp_path, size, *boxes)
    images = Images(of, "RGB", (40, 40), are_kept=True)
    crop = CentreBoxCrops(images, of, ImageInput(height=32, width=32), 40)[Ticket(0, 0)]
    assert isinstance(crop, Crop)
    found, is_whole = white(crop)
    assert is_whole.all()
    np.testing.assert_allclose(found, said(crop), atol=0.6)
    scale = 40 / min(size)
    margins = np.array([round(side * scale) - 32 for side in reversed(size)]) // 2
    corner = np.tile(-margins, 2)
    assert crop.target is not None
    frame = decode(crop.target.frame, (0, 0, 32, 32))
    rescaled = [0, 0, *(round(side * scale) for side in reversed(size))]
    np.testing.assert_allclose(frame, corner + rescaled, atol=1e-4)
    np.testing.assert_allclose(said(crop, 1), corner + np.array(boxes[1]) * scale, atol=0.1)


def test_a_jpeg_that_is_decoded_small_keeps_its_boxes(tmp_path: Path) -> None:
    of = examples(tmp_path, (801, 1000), (300, 200, 650, 600))
    path = Path(of.name(0))
    with Image.open(path) as image:
        image.save(tmp_path / "val" / "box" / "0.jpg", quality=95)
    path.unlink()
    of = Examples(open_annotated(tmp_path))
    crop = train_crops(of, (32, 32), (40, 40))[Ticket(1, 0)]
    assert isinstance(crop, Crop)
    found, is_whole = white(crop)
    assert is_whole.sum() >= 2
    np.testing.assert_allclose(found[is_whole], said(crop)[is_whole], atol=0.6)


@pytest.mark.parametrize(
    "box", [(0, 0, 10, 10), (110, 80, 120, 90), (2, 2, 118, 88), (0, 40, 120, 50)]
)
def test_a_crop_shows_half_of_what_it_could(box: tuple[int, int, int, int], tmp_path: Path) -> None:
    """In a corner, larger than any crop, longer than any crop."""
    crops = train_crops(examples(tmp_path, (90, 120), box), (32, 32), (45, 45))
    places = set()
    for epoch in range(40):
        crop = crops[Ticket(epoch, 0)]
        assert isinstance(crop, Crop)
        left, top, right, bottom = said(crop)
        seen = (min(right, 32) - max(left, 0)) * (min(bottom, 32) - max(top, 0))
        could = min(right - left, 32) * min(bottom - top, 32)
        assert seen >= 0.5 * could - 1e-3
        places.add((left, top))
    assert len(places) > 5


def test_a_crop_that_no_draw_finds_has_the_object_in_its_middle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(box_crops, "MAX_DRAWS", 0)
    middle = train_crops(examples(tmp_path / "a", (90, 120), (50, 40, 60, 48)), (32, 32), (45, 45))
    crop = middle[Ticket(1, 0)]
    assert isinstance(crop, Crop)
    left, top, right, bottom = said(crop)
    assert ((left + right) / 2, (top + bottom) / 2) == pytest.approx((16, 16), abs=0.51)
    corner = train_crops(examples(tmp_path / "b", (90, 120), (0, 80, 10, 90)), (32, 32), (45, 45))
    crop = corner[Ticket(1, 0)]
    assert isinstance(crop, Crop)
    left, top, right, bottom = said(crop)
    assert (min(left, 32 - right), bottom) == pytest.approx((0, 32), abs=1e-4)


def test_each_box_of_a_class_has_its_turn(tmp_path: Path) -> None:
    of = examples(tmp_path, (60, 60), (10, 10, 20, 40), (30, 20, 60, 30))
    crops = train_crops(of, (32, 32), (32, 32))
    heights = []
    for epoch in range(60):
        crop = crops[Ticket(epoch, 0)]
        assert isinstance(crop, Crop)
        assert crop.target is not None
        assert crop.target.boxes.shape == (1, 4)
        heights.append(float(crop.target.boxes[0, 3]))
    assert set(np.round(heights, 4)) == {0.5, 0.1667}
    assert 15 < np.sum(np.round(heights, 4) == 0.5) < 45


def test_crops_depend_on_seed_epoch_and_image_alone(tmp_path: Path) -> None:
    of = examples(tmp_path, (90, 120), (0, 0, 12, 12), (60, 60, 72, 72))

    def targets(seed: int, epochs: list[int]) -> dict[int, list[float]]:
        crops = train_crops(of, (32, 32), (40, 45), seed)
        found = {}
        for epoch in epochs:
            crop = crops[Ticket(epoch, 0)]
            assert isinstance(crop, Crop)
            assert crop.target is not None
            found[epoch] = crop.target.boxes.ravel().tolist()
        return found

    there, back = targets(0, [1, 2, 3, 4]), targets(0, [4, 3, 2, 1])
    assert there == back
    assert targets(1, [1, 2, 3, 4]) != there
    assert len({tuple(one) for one in there.values()}) > 1


def test_an_image_of_another_size_is_unread(tmp_path: Path) -> None:
    of = examples(tmp_path, (90, 120), (0, 0, 12, 12))
    Image.new("RGB", (90, 120)).save(of.name(0))
    crop = train_crops(of, (32, 32), (40, 45))[Ticket(1, 0)]
    assert crop == Unread(of.name(0), "it has 90 × 120 pixels, its annotation says 120 × 90")


# Loss and error


def batch(labels: list[int], boxes: Tensor, frames: Tensor | None = None) -> Batch:
    number = len(labels)
    if frames is None:
        frames = torch.tensor([[0.0, 0.0, 9.0, 9.0]]).expand(number, 4)
    pixels, shifts = torch.zeros(number, 4, 4, 3), torch.zeros(number, 3)
    targets = Targets(boxes, frames)
    return Batch(pixels, shifts, torch.tensor(labels), torch.arange(number), [], targets)


def test_the_loss_is_half_the_squared_distance() -> None:
    random = torch.Generator().manual_seed(0)
    boxes = torch.randn(5, 1, 4, generator=random)
    outputs = torch.randn(5, 4, generator=random, requires_grad=True)
    loss = Localisation(is_shared=True).loss(outputs, batch([0, 2, 1, 1, 0], boxes))
    expected = nn.functional.mse_loss(outputs, boxes[:, 0], reduction="sum") / 2
    torch.testing.assert_close(loss, expected)
    (gradient,) = torch.autograd.grad(loss, outputs)
    torch.testing.assert_close(gradient, (outputs - boxes[:, 0]).detach())


def test_only_the_true_class_learns() -> None:
    random = torch.Generator().manual_seed(1)
    labels = [2, 0, 1]
    boxes = torch.randn(3, 1, 4, generator=random)
    outputs = torch.randn(3, 12, generator=random, requires_grad=True)
    loss = Localisation(is_shared=False).loss(outputs, batch(labels, boxes))
    rows = [outputs[i, 4 * label : 4 * label + 4] for i, label in enumerate(labels)]
    torch.testing.assert_close(
        loss, nn.functional.mse_loss(torch.stack(rows), boxes[:, 0], reduction="sum") / 2
    )
    (gradient,) = torch.autograd.grad(loss, outputs)
    is_true = torch.zeros(3, 12, dtype=torch.bool)
    for i, label in enumerate(labels):
        is_true[i, 4 * label : 4 * label + 4] = True
    assert torch.equal(gradient != 0, is_true)


def test_of_several_boxes_the_loss_is_the_mean() -> None:
    nan = float("nan")
    boxes = torch.tensor([[[1.0, 0, 0, 0], [0, 2, 0, 0]], [[0, 0, 4, 0], [nan, nan, nan, nan]]])
    outputs = torch.zeros(2, 4, requires_grad=True)
    loss = Localisation(is_shared=True).loss(outputs, batch([0, 0], boxes))
    assert loss.item() == (1 + 4) / 2 / 2 + 16 / 2
    (gradient,) = torch.autograd.grad(loss, outputs)
    assert gradient.tolist() == [[-0.5, -1, 0, 0], [0, 0, -4, 0]]


def test_a_rank_without_images_learns_nothing() -> None:
    none = collate([Unread("a.jpg", "it is damaged")])
    outputs = torch.zeros(0, 12, requires_grad=True)
    loss = Localisation(is_shared=False).loss(outputs, none)
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.item() == 0.0


@pytest.mark.parametrize(
    ("found", "is_wrong"),
    [
        ((0, 0, 1, 1), False),
        ((0, 0, 0.71, 0.71), False),  # 0.5041 of it
        ((0, 0, 0.7, 0.7), True),
        ((0, 0, 1, 0.5), True),  # half is not more than half
        ((0, 0, 1, -1), True),
        ((float("nan"), 0, 1, 1), True),
        ((0, 0, 1.6, 1), True),  # 1 of 1.6 would do, if 0.6 were not beside it
        ((0, 0, 1, 2.5), False),  # the image ends above and below
        ((3, 3, 1, 1), False),  # there is another one
    ],
)
def test_a_box_is_right_above_a_half(found: tuple[float, ...], *, is_wrong: bool) -> None:
    nan = [float("nan")] * 4
    boxes = torch.tensor([[[0.0, 0, 1, 1], [3, 3, 1, 1], nan]])
    if found == (0, 0, 1.6, 1):
        boxes[0, 0, 2:] = torch.tensor([0.75, 1.0])
    frames = torch.tensor([[0.0, 0.0, 9.0, 1.0]]) if found[3] == 2.5 else None
    wrong = Localisation(is_shared=True).wrong(
        torch.tensor([found]).float(), batch([0], boxes, frames)
    )
    assert {kind: one.tolist() for kind, one in wrong.items()} == {"localisation": [is_wrong]}


# Runs


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_annotated(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def data(root: Path) -> DataSet:
    return open_data(root, tiny(TO_BOXES).network)


def test_examples_are_images_and_the_classes_on_them(data: DataSet) -> None:
    assert data.classes == tuple(HUES)
    assert len(data.train) == 35  # 30 images, five of them with two colours
    assert data.train.labels.tolist()[:4] == [0, 1, 2, 0]
    assert isinstance(data.train, Examples)
    assert len(data.train.boxes(0)) == 2


@pytest.mark.curves
@pytest.mark.parametrize("head", [TO_BOXES, TO_SHARED_BOXES])
def test_a_net_of_boxes_learns(head: tuple[str, str], root: Path, tmp_path: Path) -> None:
    lowered = tiny(head, ("dropout 0.2", "dropout 0"), ("after 3 epochs", "after 20 epochs"))
    data = open_data(root, lowered.network)
    (tmp_path / "run").mkdir()
    result = fit(lowered, data, tmp_path / "run", Options(gpus=0))
    log = (tmp_path / "run" / "log.jsonl").read_text().splitlines()
    epochs = [line for line in map(json.loads, log) if "validation" in line]
    assert epochs[-1]["loss"] < 0.5 * epochs[0]["loss"]
    assert result.best is not None
    assert list(result.best.validation.errors) == ["localisation"]
    assert result.best.validation.error == min(
        epoch["validation"]["errors"]["localisation"] for epoch in epochs
    )
    assert result.best.validation.class_errors.keys() == set(HUES)
    assert (tmp_path / "run" / "curves.png").stat().st_size > 10_000
    weights = open_weights(result.run / "best.safetensors")
    assert weights.metadata.labels == tuple(HUES)
    write_bundle(lowered, weights, tmp_path / "bundle", CompileOptions(form="crop"))
    manifest = open_bundle(tmp_path / "bundle").manifest
    assert manifest.labels == tuple(HUES)
    assert (manifest.result.kind, manifest.result.channels) == (
        "boxes",
        4 if head[1][3] == "4" else 12,
    )


def test_a_run_in_parts_gives_the_bits_of_the_whole(
    data: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vggspec.training.meter.LOOK_SECONDS", 0.0)
    lowered = tiny(TO_BOXES, ("after 3 epochs", "after 6 epochs"))
    assert go_on(tmp_path / "whole", data, lowered).step == 30
    for stop_at in (1, 7, 13):
        assert go_on(tmp_path / "parts", data, lowered, stop_at).was_stopped
    assert not go_on(tmp_path / "parts", data, lowered).was_stopped
    for name in ("last.safetensors", "best.safetensors"):
        one, other = (tmp_path / run / name for run in ("whole", "parts"))
        assert one.read_bytes() == other.read_bytes()


def test_workers_change_nothing(data: DataSet, tmp_path: Path) -> None:
    for number in (0, 2):
        (tmp_path / f"{number}").mkdir()
        fit(tiny(TO_BOXES), data, tmp_path / f"{number}", Options(gpus=0, workers=number))
    one, other = (tmp_path / f"{number}" / "last.safetensors" for number in (0, 2))
    assert one.read_bytes() == other.read_bytes()


def test_per_class_boxes_are_as_many_as_the_classes(root: Path) -> None:
    lowered = tiny((TO_BOXES[0], "FC-20(linear)\nboxes(per-class)"))
    with refused(r"boxes\(per-class\)") as caught:
        open_data(root, lowered.network)
    (found,) = caught.value.reports
    assert found.what == annotations.BoxesMismatch(classes=3, boxes=5)
    assert found.span is not None
    assert found.source is not None
    assert found.source.text[found.span.start : found.span.end].startswith("boxes(per-class")


def test_what_cannot_be_trained_or_validated(data: DataSet, tmp_path: Path) -> None:
    with pytest.raises(VggspecError) as caught:
        fit(tiny(TO_BOXES), data, tmp_path, Options(gpus=0, validate="dense"))
    assert isinstance(caught.value.reports[0].what, annotations.BoxesOnCrops)
    with pytest.raises(VggspecError) as caught:
        training_network(tiny(("FC-8\nFC-3\nsoft-max", "conv3-4(linear)\nboxes(shared)")))
    assert isinstance(caught.value.reports[0].what, catalogue.NotTrainable)


def test_what_is_not_used_is_noted(root: Path, tmp_path: Path) -> None:
    write_annotated(tmp_path / "data", train=40, val=1)
    path = tmp_path / "data" / "annotations" / "instances_train.json"
    table = json.loads(path.read_text())
    table["annotations"][0]["bbox"] = [0, 0, 0, 5]
    table["annotations"][3]["bbox"] = [10, 5, 100, 5]
    last = table["images"][-1]["id"]
    table["annotations"] = [one for one in table["annotations"] if one["image_id"] != last]
    path.write_text(json.dumps(table))
    found = open_data(tmp_path / "data", tiny(TO_BOXES).network)
    without, clipped, left_out = found.notes
    assert without == "1 image of train without objects, skipped"
    assert clipped == "boxes on 1 image of train cut off at the edge"
    assert left_out.startswith("1 image of train left out, whose annotations cannot be true:\n")
    assert left_out.endswith("000.png: object 1, `blue`, has an empty box")
