"""Nets that label positions: their crops, their loss, what counts, their runs."""

import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from tests.cli.run import vggspec
from tests.nets import net
from tests.refusals import refused
from tests.training.folders import LABELLING, write_masked
from tests.training.test_resume import assert_same, go_on
from tests.training.test_tensorboard_log import read
from vggspec.base.recipe import TrainRecipe
from vggspec.cli.train_progress import epoch_line
from vggspec.compiler.backends.torch.module import emit
from vggspec.compiler.ir import ImageInput
from vggspec.compiler.lower import Lowered
from vggspec.compiler.sizes import sizes
from vggspec.compiler.weights import open_weights
from vggspec.data.masked import Masked, open_masked
from vggspec.training.augment import Crop, Draw, Unread, drawn_region
from vggspec.training.batches import Batch, Normalise, collate, collate_by_size
from vggspec.training.data_report import data_report
from vggspec.training.dataset import DataSet, open_data
from vggspec.training.images import Pairs
from vggspec.training.loop import Options, fit
from vggspec.training.mask_crops import CentreMaskCrops, TrainMaskCrops, WholeMasks
from vggspec.training.objective import LabelMaps, objective_of
from vggspec.training.order import Ticket
from vggspec.training.progress import TrainResult
from vggspec.training.ranks import Ranks
from vggspec.training.rehearse import dry_run
from vggspec.training.state import Plateau
from vggspec.training.step import Stepper
from vggspec.training.train import train
from vggspec.training.trainable import training_network

AXES = np.zeros((3, 3))
CPU = Options(gpus=0)
EACH = LabelMaps(place=(0, 0), stride=(1, 1), size=(0, 0))


def labelling(*changes: tuple[str, str]) -> Lowered:
    text = LABELLING
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    return net(text, "labelling.vgg")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_masked(tmp_path_factory.mktemp("masked"))


@pytest.fixture(scope="module")
def data(root: Path) -> DataSet:
    return open_data(root, labelling().network)


# Crops


def halves(root: Path, size: tuple[int, int]) -> Masked:
    """One picture, black with a white part, and its mask, with a label for each quarter."""
    pixels, mask = np.zeros((*size, 3), np.uint8), np.zeros(size, np.uint8)
    middle = size[0] // 3, size[1] // 2
    mask[middle[0] :] += 1
    mask[:, middle[1] :] += 2
    pixels[mask == 3] = 255
    for place in ("images", "masks"):
        (root / place / "val").mkdir(parents=True)
    Image.fromarray(pixels).save(root / "images" / "val" / "0.png")
    Image.fromarray(mask).save(root / "masks" / "val" / "0.png")
    (root / "classes.txt").write_text("a\nb\nc\nd")
    return open_masked(root)


def inner(mask: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Where all neighbours have the same label: elsewhere the picture is gray."""
    found = np.ones_like(mask, bool)
    for axis in (0, 1):
        same = np.diff(mask.astype(int), axis=axis) == 0
        edge = [(0, 0), (0, 0)]
        edge[axis] = (1, 0)
        before = np.pad(same, edge, constant_values=True)
        edge[axis] = (0, 1)
        found &= before & np.pad(same, edge, constant_values=True)
    return found


@pytest.mark.parametrize("size", [(90, 120), (121, 83), (64, 64)])
@pytest.mark.parametrize("window", [(32, 32), (40, 24)])
def test_labels_lie_where_their_pixels_lie(
    size: tuple[int, int], window: tuple[int, int], tmp_path: Path
) -> None:
    masked = halves(tmp_path, size)
    image = ImageInput(height=window[0], width=window[1])
    pairs = Pairs(masked, "RGB", are_kept=True)
    crops = TrainMaskCrops(pairs, image, TrainRecipe(scale=(41, 130)), AXES, 0)
    seen: set[int] = set()
    mirrored = set()
    for epoch in range(20):
        crop = crops[Ticket(epoch, 0)]
        assert isinstance(crop, Crop)
        assert crop.mask is not None
        assert crop.mask.shape == window
        where = inner(crop.mask)
        np.testing.assert_array_equal((crop.pixels[..., 0] > 127)[where], (crop.mask == 3)[where])
        seen |= set(np.unique(crop.mask).tolist())
        rows = crop.mask.astype(int)
        mirrored |= set(np.unique(np.sign(np.diff(rows, axis=1))).tolist())
    assert seen == {0, 1, 2, 3}
    assert mirrored == {-1, 0, 1}


@pytest.mark.parametrize("is_mirrored", [False, True])
def test_labels_are_those_of_the_nearest_pixels(is_mirrored: bool) -> None:
    """Pillow's nearest of the whole mask, of which the crop is then cut."""
    random = np.random.default_rng(5)
    mask = random.integers(0, 256, (57, 83)).astype(np.uint8)
    image = np.zeros((57, 83, 3), np.uint8)
    for scale in (29, 57, 100):
        drawn = Draw(scale=scale, top=0.3, left=0.8, is_mirrored=is_mirrored, colours=np.zeros(3))
        region = drawn_region(image, drawn, 20, 24)
        size = region.columns, region.rows
        whole = np.asarray(Image.fromarray(mask).resize(size, Image.Resampling.NEAREST))
        wanted = whole[region.top : region.top + 20, region.left : region.left + 24]
        found = region.cut_mask(mask, is_mirrored=is_mirrored)
        np.testing.assert_array_equal(found, wanted[:, ::-1] if is_mirrored else wanted)


def test_what_lies_outside_of_the_picture_is_ignored() -> None:
    mask = np.arange(12, dtype=np.uint8).reshape(3, 4)
    region = drawn_region(
        np.zeros((3, 4, 3), np.uint8),
        Draw(scale=3, top=0, left=0, is_mirrored=False, colours=np.zeros(3)),
        3,
        4,
    )
    found = region._replace(top=-1, left=1, height=5, width=4).cut_mask(mask)
    wanted = np.pad(mask[:, 1:], ((1, 1), (0, 1)), constant_values=255)
    np.testing.assert_array_equal(found, wanted)


def test_pictures_that_do_not_go_with_their_mask_are_left_out(tmp_path: Path) -> None:
    masked = halves(tmp_path, (40, 50))
    Image.new("L", (40, 50)).save(masked.path_of_mask(0))
    pairs = Pairs(masked, "RGB", are_kept=False)
    image = ImageInput(height=32, width=32)
    for crops in (
        TrainMaskCrops(pairs, image, TrainRecipe(), AXES, 0),
        CentreMaskCrops(pairs, image, 40),
    ):
        unread = crops[Ticket(0, 0)]
        assert isinstance(unread, Unread)
        assert unread.why == "its mask: it has 40 × 50 pixels, the picture 50 × 40"


JOINED_MAPS = """\
net joined
input 32x32 RGB
conv3-4 as fine
maxpool
conv3-4
[identity & from fine conv3-2/2]
conv1-4(linear)
soft-max(map)
"""


def test_whole_pictures_are_continued_where_branches_do_not_meet(tmp_path: Path) -> None:
    fitting = sizes(training_network(net(JOINED_MAPS)))
    assert str(fitting.sizes) == "multiples of 2"
    pairs = Pairs(halves(tmp_path, (41, 51)), "RGB", are_kept=True)
    image = ImageInput(height=32, width=32)
    crop = WholeMasks(pairs, image, 41, fitting=fitting)[Ticket(0, 0)]
    assert isinstance(crop, Crop)
    assert crop.mask is not None
    assert crop.pixels.shape == (42, 52, 3)
    pixels, mask = pairs.read(0)
    np.testing.assert_array_equal(crop.pixels[:41, :51], pixels)
    np.testing.assert_array_equal(crop.pixels[41, :51], pixels[39])
    np.testing.assert_array_equal(crop.mask[:41, :51], mask)
    assert (crop.mask[41] == 255).all()
    assert (crop.mask[:, 51] == 255).all()


# Loss


def batch(masks: NDArray[np.uint8], seed: int = 3) -> Batch:
    random = torch.Generator().manual_seed(seed)
    number, rows, columns = masks.shape
    pixels = torch.randint(0, 256, (number, rows, columns, 3), dtype=torch.uint8, generator=random)
    none = torch.zeros(number, dtype=torch.int64)
    rows_of = torch.arange(number)
    shifts = torch.zeros(number, 3)
    return Batch(pixels, shifts, none, rows_of, [], masks=torch.from_numpy(masks))


def some_masks(number: int, rows: int, columns: int, classes: int = 3) -> NDArray[np.uint8]:
    random = np.random.default_rng(number)
    masks = random.integers(0, classes + 1, (number, rows, columns)).astype(np.uint8)
    masks[masks == classes] = 255
    masks[0, : rows // 2] = 255
    return masks


@pytest.mark.parametrize("weights", [None, (1.0, 0.25, 4.0)])
@pytest.mark.parametrize("smooth", [0.0, 0.1])
def test_the_loss_is_torchs(weights: tuple[float, ...] | None, smooth: float) -> None:
    masks = some_masks(4, 6, 5)
    scores = torch.randn(4, 3, 6, 5, generator=torch.Generator().manual_seed(1))
    objective = LabelMaps(place=(0, 0), stride=(1, 1), size=(6, 5), smooth=smooth, weights=weights)
    wanted = functional.cross_entropy(
        scores,
        torch.from_numpy(masks).long(),
        weight=None if weights is None else torch.tensor(weights),
        ignore_index=255,
        reduction="sum",
        label_smoothing=smooth,
    )
    torch.testing.assert_close(objective.loss(scores, batch(masks)), wanted)
    assert objective.number(batch(masks)) == (masks != 255).sum()


@pytest.mark.parametrize(
    ("place", "stride", "rows"),
    [
        (0, 2, [0, 2, 4, 6]),
        (3, 2, [3, 5, 7, 9]),
        (Fraction(1, 2), 2, [1, 3, 5, 7]),  # as near to the pixel before
        (Fraction(-5, 2), 4, [-2, 2, 6, 10]),
        (Fraction(-1, 4), Fraction(1, 2), [0, 0, 1, 1]),
    ],
)
def test_a_position_has_the_label_of_its_pixel(
    place: Fraction, stride: Fraction, rows: list[int]
) -> None:
    masks = some_masks(2, 10, 3)
    objective = LabelMaps(place=(place, 0), stride=(stride, 1), size=(4, 3))
    found = objective.labels(batch(masks), (4, 3)).numpy()
    for i, row in enumerate(rows):
        wanted = masks[:, row] if 0 <= row < 10 else np.full((2, 3), 255)
        np.testing.assert_array_equal(found[:, i], wanted)


def test_the_net_says_where_its_positions_lie() -> None:
    found = objective_of(training_network(labelling()))
    # Pooling has its first position between two pixels, the conv one of its steps further.
    half = Fraction(1, 2)
    assert found == LabelMaps(place=(half + 2, half + 2), stride=(2, 2), size=(8, 10))


@pytest.mark.parametrize("at_a_time", [2, 3, 8])
def test_a_step_is_that_of_torch(at_a_time: int) -> None:
    """The mean over labelled positions of the whole batch, in whichever parts it is computed."""
    lowered = labelling((" BN", ""), (" dropout\n", "\n"))
    network = training_network(lowered)
    torch.manual_seed(2)
    model = emit(network).train()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.1)
    theirs = nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 8, 3),
        nn.ReLU(),
        nn.Conv2d(8, 3, 1),
    )
    theirs.load_state_dict(dict(zip(theirs.state_dict(), model.state_dict().values(), strict=True)))
    masks = some_masks(8, 20, 24)
    given = batch(masks)
    normalise = Normalise(network.input, (100.0, 110.0, 120.0))
    stepper = Stepper(
        model,
        normalise,
        lowered.experiment.train,
        Ranks(),
        seed=0,
        precision="fp32",
        at_a_time=at_a_time,
    )
    objective = objective_of(network)
    stepper.add_gradients(given, objective.number(given), 1)
    labels = torch.from_numpy(masks[:, 3:19:2, 3:23:2]).long()
    functional.cross_entropy(theirs(normalise(given)), labels, ignore_index=255).backward()
    for own, other in zip(model.parameters(), theirs.parameters(), strict=True):
        assert own.grad is not None
        torch.testing.assert_close(own.grad, other.grad, rtol=1e-4, atol=1e-6)


# What counts


def test_results_are_of_all_pixels_together() -> None:
    """scikit-learn's numbers of all labelled pixels; a mean over pictures would be another."""
    from sklearn import metrics

    masks = np.concatenate([some_masks(3, 8, 8, 2), some_masks(2, 8, 8, 4)])
    scores = torch.randn(5, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    parts = [(slice(0, 1), 1), (slice(1, 4), 3), (slice(4, 5), 1)]
    counts = EACH.none(4)
    for rows, _ in parts:
        counts += EACH.counts(scores[rows], batch(masks).part(rows), 4)
    validation = EACH.judged(counts, 12.0, ("a", "b", "c", "d"))
    where = masks != 255
    truth, named = masks[where], scores.argmax(dim=1).numpy()[where]
    np.testing.assert_array_equal(counts, metrics.confusion_matrix(truth, named))
    ious = metrics.jaccard_score(truth, named, average=None)
    assert validation.scores["mean IoU"] == pytest.approx(ious.mean())
    accuracy = metrics.accuracy_score(truth, named)
    assert validation.scores["pixel accuracy"] == pytest.approx(accuracy)
    assert validation.class_scores == pytest.approx(dict(zip("abcd", ious, strict=True)))
    assert validation.loss == pytest.approx(12.0 / where.sum())
    assert validation.error == pytest.approx(1 - ious.mean())


def test_a_rank_without_pictures_counts_nothing() -> None:
    empty = collate([])
    outputs = torch.zeros(0, 3, 8, 10, requires_grad=True)
    assert EACH.number(empty) == 0
    assert EACH.loss(outputs, empty).item() == 0
    assert EACH.none(3).sum() == 0


def test_a_plateau_waits_for_a_larger_mean_iou() -> None:
    plateau = Plateau(rate=1.0, decay=10.0, decays_left=1, patience=2)

    def validated(mean_iou: float) -> float:
        counts = torch.tensor([[round(1000 * mean_iou), 1000 - round(1000 * mean_iou)], [0, 0]])
        found = EACH.judged(counts, 0.0, ("a", "b"))
        return plateau.after(1 - found.error)

    assert [validated(iou) for iou in (0.5, 0.6, 0.7)] == [1.0, 1.0, 1.0]
    assert [validated(iou) for iou in (0.6, 0.5)] == [1.0, 0.1]


# Runs


@pytest.fixture(scope="module")
def trained(data: DataSet, tmp_path_factory: pytest.TempPathFactory) -> TrainResult:
    run = tmp_path_factory.mktemp("trained")
    return fit(labelling(("after 3 epochs", "after 20 epochs")), data, run, CPU)


def test_training_and_its_record(trained: TrainResult) -> None:
    log = (trained.run / "log.jsonl").read_text().splitlines()
    epochs = [line for line in map(json.loads, log) if "validation" in line]
    assert epochs[-1]["loss"] < 0.6 * epochs[0]["loss"]
    best = trained.best
    assert best is not None
    assert list(best.validation.scores) == ["mean IoU", "pixel accuracy"]
    ious = [epoch["validation"]["scores"]["mean IoU"] for epoch in epochs]
    assert best.validation.scores["mean IoU"] == max(ious) > 0.6
    assert max(ious) > ious[0]
    assert best.validation.class_scores.keys() == {"ground", "blue", "red"}
    assert (trained.run / "curves.png").stat().st_size > 10_000
    assert open_weights(trained.weights).metadata.labels == ("ground", "blue", "red")
    record = json.loads((trained.run / "run.json").read_text())
    assert record["result"]["best"]["validation"]["scores"] == best.validation.scores
    tags = read(trained.run)
    assert [value for _, value in tags["score/mean IoU"]] == pytest.approx(ious)
    assert "score/pixel accuracy" in tags
    line = epoch_line(best)
    assert f"mean IoU {max(ious):6.2%} *  rate" in line
    assert best.validation.in_words().startswith(f"mean IoU {max(ious):.2%} (pixel accuracy ")


def test_validation_is_what_the_net_says_of_central_crops(
    trained: TrainResult, data: DataSet
) -> None:
    """The best weights, applied to the crops by modules written out, judged by scikit-learn."""
    from sklearn import metrics

    weights = open_weights(trained.weights)
    state = {name: torch.from_numpy(np.array(weights.read(name))) for name in weights.tensors}
    model = nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 8, 3),
        nn.ReLU(),
        nn.Conv2d(8, 3, 1),
    ).eval()
    names = [name for name in model.state_dict() if "tracked" not in name]
    network = training_network(labelling())
    own = [param.name for param in network.params()]
    model.load_state_dict(dict(zip(names, map(state.get, own), strict=True)), strict=False)
    mean = json.loads((trained.run / "run.json").read_text())["statistics"]["mean"]
    assert isinstance(data.val, Masked)
    pairs = Pairs(data.val, "RGB", are_kept=False)
    crops = CentreMaskCrops(pairs, network.input, 22)
    truth, named = [], []
    for i in range(len(crops)):
        crop = crops[Ticket(0, i)]
        assert isinstance(crop, Crop)
        assert crop.mask is not None
        x = (torch.from_numpy(crop.pixels.copy()).float() - torch.tensor(mean)) / 64
        with torch.no_grad():
            of_positions: Tensor = model(x.permute(2, 0, 1)[None]).argmax(dim=1)[0]
        labels = crop.mask[3:19:2, 3:23:2]
        truth.append(labels[labels != 255])
        named.append(of_positions.numpy()[labels != 255])
    ious = metrics.jaccard_score(np.concatenate(truth), np.concatenate(named), average="macro")
    assert trained.best is not None
    assert trained.best.validation.scores["mean IoU"] == pytest.approx(ious, abs=2e-3)


def test_a_run_in_parts_gives_the_bits_of_the_whole(
    data: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vggspec.training.meter.LOOK_SECONDS", 0.0)
    lowered = labelling(("after 3 epochs", "after 4 epochs"))
    assert go_on(tmp_path / "whole", data, lowered).step == 16
    for stop_at in (1, 6, 7):
        assert go_on(tmp_path / "parts", data, lowered, stop_at).was_stopped
    assert not go_on(tmp_path / "parts", data, lowered).was_stopped
    assert_same(tmp_path / "whole", tmp_path / "parts", lowered)


def test_workers_and_whole_pictures(data: DataSet, tmp_path: Path) -> None:
    found = []
    for number in (0, 2):
        (tmp_path / f"{number}").mkdir()
        options = Options(gpus=0, workers=number, validate="dense")
        found.append(fit(labelling(), data, tmp_path / f"{number}", options))
    one, other = (result.run / "last.safetensors" for result in found)
    assert one.read_bytes() == other.read_bytes()
    one_best, other_best = (result.best for result in found)
    assert one_best is not None
    assert other_best is not None
    assert one_best.validation == other_best.validation


def test_sizes_of_pictures_go_into_batches_of_their_own(data: DataSet) -> None:
    assert isinstance(data.val, Masked)
    fitting = sizes(training_network(labelling()))
    pairs = Pairs(data.val, "RGB", are_kept=True)
    crops = WholeMasks(pairs, labelling().network.input, 22, fitting=fitting)
    batches = collate_by_size([crops[Ticket(0, i)] for i in range(len(crops))])
    assert len(batches) > 1
    for each in batches:
        assert each.masks is not None
        assert each.masks.shape == each.pixels.shape[:3]


@pytest.mark.slow  # parts of a batch are those of ranks: see the step above
def test_three_ranks_do_as_one(root: Path, data: DataSet, tmp_path: Path) -> None:
    spec = tmp_path / "labelling.vgg"
    spec.write_text(LABELLING)
    (tmp_path / "one").mkdir()
    one = fit(labelling(), data, tmp_path / "one", CPU)
    three = train(spec, data=root, run=tmp_path / "three", procs=3, workers=0)
    weights, others = (open_weights(result.run / "last.safetensors") for result in (one, three))
    for name in weights.tensors:
        np.testing.assert_allclose(weights.read(name), others.read(name), rtol=1e-3, atol=1e-4)
    assert one.best is not None
    assert three.best is not None
    assert one.best.validation.scores == pytest.approx(three.best.validation.scores, abs=5e-3)
    assert one.best.loss == pytest.approx(three.best.loss, rel=1e-4)


def test_the_net_and_its_masks_must_agree(root: Path) -> None:
    with refused("VGG439(?s:.*)the masks have 3 classes, the net labels 5(?s:.*)`ground`, `blue`"):
        open_data(root, labelling(("conv1-3", "conv1-5")).network)


@pytest.mark.parametrize(
    ("setting", "named"),
    [
        ("mixup 0.2", "mixup"),
        ("cutmix 1", "cutmix"),
        ("randaugment 2 magnitude 9", "randaugment"),
        ("classes balanced", "classes balanced"),
        ("class weights balanced", "class weights balanced"),
    ],
)
def test_what_is_for_labels_of_images_is_refused(setting: str, named: str) -> None:
    with refused(f"it labels positions, and `{named}` is for labels of images"):
        training_network(labelling(("train:\n", f"train:\n  {setting}\n")))


def test_more_of_a_recipe(data: DataSet, tmp_path: Path) -> None:
    """Crops of a share of the area, parts erased, weights of classes; resumed to the same bits."""
    lowered = labelling(
        (
            "scale 20..26\n",
            'scale 30%..100% of area\n  erase 0.5\n  class weights "red" 2, "ground" 0.5\n',
        ),
        ("rate 3e-2", "rate 3e-2\n  smooth labels 0.1\n  average weights 0.9"),
    )
    assert go_on(tmp_path / "whole", data, lowered).step == 12
    assert go_on(tmp_path / "parts", data, lowered, 5).was_stopped
    assert not go_on(tmp_path / "parts", data, lowered).was_stopped
    assert_same(tmp_path / "whole", tmp_path / "parts", lowered)


@pytest.mark.parametrize("change", [{"crop_pad": 9}, {"area": (0.2, 0.9)}])
def test_other_crops_keep_pictures_and_masks_together(
    change: dict[str, object], tmp_path: Path
) -> None:
    masked = halves(tmp_path, (60, 80))
    pairs = Pairs(masked, "RGB", are_kept=True)
    recipe = replace(TrainRecipe(scale=(41, 60)), **change)  # type: ignore[arg-type]
    crops = TrainMaskCrops(pairs, ImageInput(height=40, width=40), recipe, AXES, 0)
    outside = 0
    for epoch in range(20):
        crop = crops[Ticket(epoch, 0)]
        assert isinstance(crop, Crop)
        assert crop.mask is not None
        where = inner(crop.mask) & (crop.mask != 255)
        np.testing.assert_array_equal((crop.pixels[..., 0] > 127)[where], (crop.mask == 3)[where])
        assert (crop.pixels[crop.mask == 255] == 0).all()
        outside += int((crop.mask == 255).sum())
    assert (outside > 0) == ("crop_pad" in change)


def test_rehearsals(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one that counts images by their one class is refused."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "labelling.vgg").write_text(LABELLING)
    said = vggspec("train", "labelling.vgg", "--data", root, "--overfit", "4")
    assert said.returncode == 1
    assert "VGG443]: this net is not rehearsed so: it labels positions, and `--overfit`" in (
        " ".join(said.stderr.split())
    )
    found = dry_run("labelling.vgg", data=root)
    assert found.trial is not None
    assert found.trial.loss_of_chance is None
    begun = train("labelling.vgg", data=root, settings=["stop=after 1 iterations"], gpus=0)
    first = json.loads((begun.run / "log.jsonl").read_text().splitlines()[0])
    assert found.trial.loss == pytest.approx(first["loss"], rel=1e-6)
    assert found.crops is not None
    with Image.open(found.crops) as sheet:
        assert len(np.unique(np.asarray(sheet).reshape(-1, 3), axis=0)) > 100


def test_pixels_of_classes_are_reported(root: Path, tmp_path: Path) -> None:
    found = data_report(root, sheet=tmp_path / "sheet.png")
    assert found.classes == ("ground", "blue", "red")
    for split in found.splits:
        masks = [np.asarray(Image.open(path)) for path in (root / "masks" / split.name).iterdir()]
        counts = sum(np.bincount(mask.ravel(), minlength=256) for mask in masks)
        assert split.pixels == dict(zip(found.classes, counts[:3].tolist(), strict=True))
        assert split.ignored == counts[255]
        shown = {
            name: sum(label in mask for mask in masks) for label, name in enumerate(split.classes)
        }
        assert dict(split.classes) == shown
        assert split.images == len(masks)
    assert not found.refused
    printed = " ".join(vggspec("data", root).stdout.split())
    assert "class train val pixels of train pixels of val" in printed
    assert "are to be ignored" in printed


def test_broken_masks_are_reported(tmp_path: Path) -> None:
    root = write_masked(tmp_path / "data", 10, 4)
    Image.new("L", (9, 9)).save(root / "masks" / "train" / "003.png")
    (tmp_path / "labelling.vgg").write_text(LABELLING)
    found = data_report(root, tmp_path / "labelling.vgg")
    (why,) = found.splits[0].broken.values()
    assert why == "its mask: it has 9 × 9 pixels, the picture 30 × 27"
    assert found.refused


def test_too_many_bad_masks_end_the_run(tmp_path: Path) -> None:
    root = write_masked(tmp_path / "data", 10, 4)
    for i in (3, 4):
        Image.new("L", (9, 9)).save(root / "masks" / "train" / f"{i:03}.png")
    lowered = labelling()
    data = open_data(root, lowered.network)
    (tmp_path / "run").mkdir()
    with refused("VGG442(?s:.*)its mask: it has 9 × 9 pixels"):
        fit(lowered, data, tmp_path / "run", CPU)
