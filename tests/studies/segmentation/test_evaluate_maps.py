"""Label maps on a data set, against scikit-learn, and against what ``predict`` gives."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import vggspec
from tests.cli.run import vggspec as run
from tests.nets import net, random_weights
from tests.refusals import refused
from tests.studies.tasks.rank_threads import by_ranks
from tests.training.folders import LABELLING, write_masked
from vggspec.base.fields import BadFieldError, Fields
from vggspec.base.recipe import TestProtocol
from vggspec.bundle.opening import Bundle, open_bundle
from vggspec.compiler.weights import open_weights
from vggspec.compiler.weights import write as write_weights
from vggspec.data.confusion import STRIP, counted
from vggspec.data.masked import Masked, open_masked
from vggspec.studies.segmentation import evaluate_maps as module
from vggspec.studies.segmentation.evaluate_maps import MapEvaluation, evaluate_maps
from vggspec.studies.segmentation.task import Compared, Comparing

NAMES = ("ground", "blue", "red")
ONE = TestProtocol(scales=(22,), flip=False)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_masked(tmp_path_factory.mktemp("masked"), 1, 6)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("net")
    spec = folder / "labelling.vgg"
    text = LABELLING.replace("RGB(std", "RGB(mean 120 115 100, std")
    spec.write_text(text)
    random_weights(net(text), folder / "w.safetensors")
    found = open_weights(folder / "w.safetensors")
    write_weights(
        folder / "named.safetensors",
        {name: tensor.shape for name, tensor in found.tensors.items()},
        lambda name: iter([np.array(found.read(name))]),
        replace(found.metadata, labels=NAMES),
    )
    vggspec.compile(spec, weights=folder / "named.safetensors", out=folder / "b")
    return folder / "b"


def masks_of(data: Path) -> list[np.ndarray]:
    return [np.asarray(Image.open(path)) for path in sorted((data / "masks/val").iterdir())]


@pytest.mark.parametrize("options", [{}, {"scales": (22, 31), "flip": False}])
def test_against_scikit_learn(options: dict[str, object], bundle: Path, data: Path) -> None:
    """The labels that ``predict`` gives, compared pixel by pixel."""
    from sklearn import metrics

    found = evaluate_maps(bundle, data, **options)
    pictures = sorted((data / "images/val").iterdir())
    named = [
        one.label_map.labels
        for one in vggspec.predict(bundle, pictures, **options)
        if one.label_map is not None
    ]
    truth = masks_of(data)
    where = [mask != 255 for mask in truth]
    y, z = (
        np.concatenate([each[w] for each, w in zip(of, where, strict=True)])
        for of in (truth, named)
    )
    wanted = metrics.confusion_matrix(y, z, labels=range(3))
    np.testing.assert_array_equal(found.confusion.counts, wanted)
    assert (wanted.sum(axis=0) > 0).sum() > 1
    ious = metrics.jaccard_score(y, z, average="macro")
    assert found.mean_iou == pytest.approx(ious)
    assert found.pixel_accuracy == pytest.approx(metrics.accuracy_score(y, z))
    assert found.mean_accuracy == pytest.approx(metrics.balanced_accuracy_score(y, z))
    assert found.images == 6
    assert found.labels == NAMES
    table = found.as_data()
    assert table["mean_iou"] == found.mean_iou
    assert [one["pixels"] for one in table["classes"]] == wanted.sum(axis=1).tolist()
    json.dumps(table, allow_nan=False)


def test_confused_classes_are_in_order() -> None:
    counts = np.array([[5, 1, 0], [7, 5, 2], [0, 0, 0]])
    found = MapEvaluation(
        bundle="b",
        protocol=ONE,
        labels=("a", "b", "c"),
        confusion=module.Confusion(counts),
        images=1,
        left_out=(),
    )
    assert found.confused == (("b", "a", 7), ("b", "c", 2), ("a", "b", 1))
    classes = found.as_data()["classes"]
    assert classes[2] == {"label": "c", "pixels": 0, "iou": 0.0, "accuracy": None}


def test_pixels_are_counted_in_strips() -> None:
    random = np.random.default_rng(1)
    mask = random.integers(0, 4, (5, STRIP // 2)).astype(np.uint8)
    mask[mask == 3] = 255
    named = random.integers(0, 5, mask.shape).astype(np.uint16)
    classes = np.array([4, 0, 2])
    found = counted(mask, named, classes, 5)
    wanted = np.zeros((5, 5), np.int64)
    for label in range(3):
        for other in range(5):
            wanted[classes[label], other] = ((mask == label) & (named == other)).sum()
    np.testing.assert_array_equal(found, wanted)


def test_classes_are_matched_by_name(bundle: Path, data: Path, tmp_path: Path) -> None:
    """The same masks with labels in another order, and a class fewer than the net has."""
    found = evaluate_maps(bundle, data)
    other = write_masked(tmp_path / "other", 1, 6)
    (other / "classes.txt").write_text("red\nground\nblue\n")
    order = np.array([1, 2, 0, *range(3, 256)], np.uint8)
    for path in (other / "masks/val").iterdir():
        mask = np.asarray(Image.open(path))
        Image.fromarray(order[mask]).save(path)
    np.testing.assert_array_equal(
        evaluate_maps(bundle, other).confusion.counts, found.confusion.counts
    )
    (other / "classes.txt").write_text("red\nground\ngreen\n")
    with refused("VGG691"):
        evaluate_maps(bundle, other)


def test_pictures_without_a_mask_of_their_own(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = write_masked(tmp_path / "data", 1, 5)
    (data / "images/val/001.png").write_bytes(b"no picture")
    Image.new("L", (4, 4)).save(data / "masks/val/002.png")
    with refused("VGG442(?s:.*)1 of 5 pictures cannot be used with their masks"):
        evaluate_maps(bundle, data)
    monkeypatch.setattr("vggspec.data.left_out.MAX_SHARE", 0.5)
    found = evaluate_maps(bundle, data)
    assert found.images == 3
    one, other = found.left_out
    assert one.endswith("001.png: it is not an image")
    assert "002.png: its mask: it has 4 × 4 pixels" in other


def test_an_interrupted_call_is_resumed(
    bundle: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = evaluate_maps(bundle, data)
    done = []

    def failing(*args: object, **options: object) -> object:
        done.append(1)
        if len(done) == 4:
            raise KeyboardInterrupt
        return segment(*args, **options)

    segment = vggspec.runtime.label_maps.segment
    monkeypatch.setattr("vggspec.studies.segmentation.task.segment", failing)
    with pytest.raises(KeyboardInterrupt):
        evaluate_maps(bundle, data)
    found = evaluate_maps(bundle, data, resume=True)
    assert len(done) == 4 + 3
    np.testing.assert_array_equal(found.confusion.counts, whole.confusion.counts)


def test_a_journal_holds_what_was_found(bundle: Path, data: Path) -> None:
    opened: Bundle = open_bundle(bundle)
    masked: Masked = open_masked(data)
    task = Comparing(
        bundle=opened,
        protocol=ONE,
        data=masked,
        classes=(0, 1, 2),
        indices=np.arange(6),
    )
    for result in (
        Compared(index=2, pixels=((0, 1, 5), (2, 2, 7))),
        Compared(index=3, unread="it is damaged"),
    ):
        text = json.dumps(task.as_data(result))
        assert task.from_data(Fields(json.loads(text))) == result
    for wrong in ({"pixels": [[0, 3, 1]]}, {"index": 6}, {"pixels": []}, {"unread": "x"}):
        table = {"index": 0, "pixels": [[0, 0, 1]], "unread": None} | wrong
        with pytest.raises(BadFieldError):
            task.from_data(Fields(table))
    assert task.digest() != replace(task, classes=(1, 0, 2)).digest()
    assert task.digest() == task.with_threads(1).digest()


def test_nets_that_do_not_label_pixels(data: Path, bundle: Path, tmp_path: Path) -> None:
    text = "net small\ninput 16x16 RGB(mean 120 115 100)\nconv3-4 maxpool FC-3\nsoft-max\n"
    (tmp_path / "small.vgg").write_text(text)
    random_weights(net(text), tmp_path / "w.safetensors")
    vggspec.compile(tmp_path / "small.vgg", weights=tmp_path / "w.safetensors", out=tmp_path / "b")
    with refused("VGG592"):
        evaluate_maps(tmp_path / "b", data)
    with refused("VGG591"):
        vggspec.evaluate(bundle, data)


def test_the_command(bundle: Path, data: Path) -> None:
    said = run("eval", bundle, "--data", data, "--scales", "22")
    assert said.returncode == 0, said.stderr
    lines = said.stdout.splitlines()
    assert lines[0].split() == ["class", "pixels", "IoU", "accuracy"]
    assert [line.split()[0] for line in lines[1:6]] == [*NAMES, "mean", "all"]
    assert lines[-1] == "6 pictures"
    found = evaluate_maps(bundle, data, scales=22)
    assert f"{100 * found.mean_iou:.2f} %" in lines[4]
    table = run("eval", bundle, "--data", data, "--scales", "22", "--json", "--procs", "1").stdout
    assert json.loads(table)["mean_iou"] == found.mean_iou
    said = run("eval", bundle, "--data", data, "--crops", "5x5")
    assert said.returncode == 2
    assert "`--crops` is for nets that classify images" in said.stderr
    assert run("eval", bundle, bundle, "--data", data).returncode == 2


def test_ranks_count_what_one_process_counts(
    bundle: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    alone = evaluate_maps(bundle, data, device="cpu").as_data()
    found = by_ranks(3, lambda _: evaluate_maps(bundle, data, device="cpu"), monkeypatch)
    assert [one.as_data() for one in found] == [alone] * 3
