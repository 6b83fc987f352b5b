"""A bundle as something to call."""

import io
import json
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import vggspec
from tests.refusals import refused
from tests.runtime.bundles import (
    CLASSES,
    LABELS,
    MEAN,
    WINDOW,
    Made,
    make,
    rewrite,
    weights,
)
from tests.studies.localisation import localisers
from vggspec.base.diagnostic import ArgumentError, VggspecError
from vggspec.base.recipe import TestProtocol
from vggspec.base.watcher import Progress, Watcher
from vggspec.bundle.manifest import MANIFEST, OWN_SHA256
from vggspec.runtime.net import BundleNet
from vggspec.runtime.predicting import predict
from vggspec.runtime.predictor import Prediction, Predictor, load
from vggspec.studies.localisation.localise import Localiser, Method


@pytest.fixture
def image() -> Any:
    rng = np.random.default_rng(5)
    return np.array(
        Image.fromarray(rng.integers(0, 256, (4, 6, 3), dtype=np.uint8)).resize((60, 40))
    )


def predicted(made: Made, image: Any, **options: Any) -> Prediction:
    with Predictor(made.path, device="cpu", threads=1) as predictor:
        return predictor(image, **options)


def test_a_prediction_is_ranked_and_labelled(tmp_path: Path, image: Any) -> None:
    with vggspec.load(make(tmp_path / "small").path) as predictor:
        prediction = predictor(image)
    values = [value for _, value in prediction.top(CLASSES)]
    assert values == sorted(prediction.posteriors, reverse=True)
    best = int(np.argmax(prediction.posteriors))
    assert prediction.top(1) == [(LABELS[best], prediction.posteriors[best])]
    assert len(prediction.top(99)) == CLASSES
    assert (prediction.kind, prediction.scales, prediction.flip) == ("posteriors", (24,), True)
    assert prediction.size == (40, 60)


def test_of_equal_classes_the_first_is_first() -> None:
    prediction = Prediction(
        posteriors=np.array([0.2, 0.4, 0.4]),
        kind="posteriors",
        labels=("a", "b", "c"),
        scales=(1,),
        flip=False,
        maps=(),
        size=(1, 1),
    )
    assert prediction.ranking(3) == [1, 2, 0]
    with pytest.raises(ArgumentError, match="`k` must be at least 0, not -1"):
        prediction.top(-1)


def test_classes_without_labels_are_numbered(tmp_path: Path, image: Any) -> None:
    prediction = predicted(make(tmp_path / "small", labels=None), image)
    assert prediction.labels == tuple(f"class {i}" for i in range(CLASSES))


def test_scores_are_ranked_where_there_is_no_softmax(tmp_path: Path, image: Any) -> None:
    scored = predicted(make(tmp_path / "scores", kind="scores"), image, flip=False)
    normal = predicted(make(tmp_path / "posteriors"), image, flip=False)
    assert scored.kind == "scores"
    assert scored.ranking(CLASSES) == normal.ranking(CLASSES)
    powers = np.exp(scored.posteriors)
    np.testing.assert_allclose(powers / powers.sum(), normal.posteriors, atol=1e-5)


def test_every_contract_gives_the_same_answer(tmp_path: Path, image: Any) -> None:
    of = weights()
    reversed_input = {**of, "conv1.weight": np.ascontiguousarray(of["conv1.weight"][:, ::-1])}
    expected = predicted(make(tmp_path / "float", of=of), image).posteriors
    raw = predicted(make(tmp_path / "raw", of=of, contract="raw"), image).posteriors
    np.testing.assert_allclose(raw, expected, atol=1e-6)
    made = make(tmp_path / "bgr", of=reversed_input, color="BGR")
    rewrite(made.path, {"input.mean": MEAN[::-1]})
    np.testing.assert_allclose(predicted(made, image).posteriors, expected, atol=1e-6)


def test_a_gray_net_sees_colours_as_gray(tmp_path: Path, image: Any) -> None:
    made = make(tmp_path / "gray", color="gray")
    gray = np.array(Image.fromarray(image).convert("L"))
    expected = predicted(made, gray).posteriors
    np.testing.assert_array_equal(predicted(made, image).posteriors, expected)


def test_the_spec_s_protocol_holds_unless_told_otherwise(tmp_path: Path, image: Any) -> None:
    made = make(tmp_path / "small")
    rewrite(made.path, {"test.scales": [20, 30], "test.flip": False})
    prediction = predicted(made, image)
    assert (prediction.scales, prediction.flip) == ((20, 30), False)
    assert [one.scale for one in prediction.maps] == [20, 30]
    told = predicted(made, image, scales=[24], flip=True)
    assert (told.scales, told.flip) == ((24,), True)


@pytest.mark.parametrize("scales", [(), [], (0,), (24, -1), 0, 1 << 20])
def test_scales_that_are_no_sizes_are_a_mistake(tmp_path: Path, image: Any, scales: Any) -> None:
    with pytest.raises(ArgumentError, match="scales are whole numbers of pixels, as 256"):
        predicted(make(tmp_path / "small"), image, scales=scales)


@pytest.mark.parametrize("scales", [True, (24, True), 24.0, "24", ["24"], {24: 1}, np.array([2.5])])
def test_scales_that_are_no_numbers_are_a_mistake(tmp_path: Path, image: Any, scales: Any) -> None:
    with pytest.raises(TypeError, match="scales are whole numbers of pixels, as 256"):
        predicted(make(tmp_path / "small"), image, scales=scales)


def test_one_scale_need_not_be_a_sequence(tmp_path: Path, image: Any) -> None:
    with Predictor(make(tmp_path / "small").path, device="cpu", threads=1) as predictor:
        expected = predictor(image, (28,))
        for scales in (28, np.int64(28), [28], np.array([28]), iter([28])):
            found = predictor(image, scales)
            assert found.scales == (28,)
            assert all(type(scale) is int for scale in found.scales)
            np.testing.assert_array_equal(found.posteriors, expected.posteriors)


def test_other_arguments_of_another_type_are_a_mistake(tmp_path: Path, image: Any) -> None:
    made = make(tmp_path / "small")
    with pytest.raises(TypeError, match="`flip` is True or False, not 384"):
        predicted(made, image, scales=24, flip=384)
    with pytest.raises(ArgumentError, match=r"`resize` is .pytorch., not one of"):
        predicted(made, image, resize="pytorch")
    with pytest.raises(TypeError, match="an image is a path"):
        predicted(made, image.tolist())
    for threads in (0, -1, 100_000):
        with pytest.raises(ArgumentError, match="`threads` must be from 1 to 1024, not"):
            load(made.path, threads=threads)
    with pytest.raises(TypeError, match=r"`threads` is a whole number, not 1\.5"):
        load(made.path, threads=1.5)  # type: ignore[arg-type]


def test_the_sizes_may_be_torchvisions(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (427, 640, 3), dtype=np.uint8)
    with Predictor(make(tmp_path / "small").path, device="cpu", threads=1) as predictor:
        theirs = predictor(image, 256, resize="torchvision")
        ours = predictor(image, 256)
        small = np.array(Image.fromarray(image).resize((383, 256), Image.Resampling.BILINEAR))
        np.testing.assert_array_equal(theirs.posteriors, predictor(small, 256).posteriors)
    assert not np.array_equal(ours.posteriors, theirs.posteriors)


def test_a_net_of_features_does_not_classify(tmp_path: Path) -> None:
    made = make(tmp_path / "small")
    rewrite(made.path, {"outputs.0.kind": "features", "labels": None, "options.layer": "fc3"})
    with Predictor(made.path, device="cpu") as predictor:
        assert predictor.kind is None
        with refused("gives features, not classes") as error:
            predictor(np.zeros((24, 24, 3), np.uint8))
    assert error.value.reports[0].what.code == "VGG526"


# Nets that localise.


@pytest.mark.parametrize("end", ["shared", "per-class"])
@pytest.mark.parametrize("flip", [True, False])
def test_a_net_of_boxes_gives_those_of_localise(tmp_path: Path, end: str, flip: bool) -> None:
    made = localisers.make(tmp_path / "net", end, seed=3)
    pixels = np.random.default_rng(1).integers(0, 256, (43, 70, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    protocol = TestProtocol(scales=(19, 24), flip=flip)
    with BundleNet(made.bundle, device="cpu") as net:
        localiser = Localiser([net], [], Method(protocol=protocol))
        labels = list(range(localiser.num_classes or 0)) or [None]
        (expected,) = localiser(lambda _: file.getvalue(), [0], lambda _: labels)
    with vggspec.load(made.bundle.path, device="cpu") as predictor:
        found = predictor(pixels, (19, 24), flip)
    assert (found.kind, found.top(), found.posteriors.shape) == ("boxes", [], (0,))
    assert len(found.labels) == (len(labels) if labels != [None] else 0)
    assert found.boxes is not None
    assert found.boxes.shape == (len(labels), 4)
    for box, place in zip(found.boxes, expected.asked, strict=True):
        none = np.full(4, np.nan)
        np.testing.assert_allclose(box, none if place.box is None else place.box, rtol=1e-12)
    data = found.as_data()
    assert [each["label"] for each in data["boxes"]] == list(found.labels or [None])
    assert json.loads(json.dumps(data)) == data


def test_boxes_of_other_than_four_numbers_are_refused(tmp_path: Path) -> None:
    made = make(tmp_path / "small")
    rewrite(made.path, {"outputs.0.kind": "boxes", "labels": None})
    with refused("boxes are four numbers each, the manifest says 5"):
        Predictor(made.path)


# Images of every kind, and many of them.


def test_every_kind_of_image_is_taken(tmp_path: Path, image: Any) -> None:
    torch = pytest.importorskip("torch")
    path = tmp_path / "photo.png"
    Image.fromarray(image).save(path)
    tensor = torch.from_numpy(image).permute(2, 0, 1)
    images = [path, str(path), path.read_bytes(), Image.open(path), image, tensor, tensor / 255]
    with Predictor(make(tmp_path / "small").path, device="cpu", threads=1) as predictor:
        found = predictor(images)
        assert predictor([]) == []
        (alone,) = predictor((image,))
        expected = predictor(image)
    assert [one.file for one in found] == [str(path), str(path), *[None] * 5]
    for one in (*found, alone):
        np.testing.assert_array_equal(one.posteriors, expected.posteriors)


class Heard(Watcher):
    def __init__(self) -> None:
        self.steps: list[tuple[str, int, int, str]] = []
        self.notes: list[str] = []

    def progress(self, now: Progress) -> None:
        self.steps.append((now.doing, now.done, now.total, now.unit))

    def note(self, text: str) -> None:
        self.notes.append(text)


def test_predict_reads_folders_and_reports_progress(tmp_path: Path, image: Any) -> None:
    made = make(tmp_path / "small")
    folder = tmp_path / "photos"
    (folder / "more").mkdir(parents=True)
    for name in ("b.png", "a.png", "more/c.png"):
        Image.fromarray(image).save(folder / name)
    (folder / "readme.txt").touch()
    (folder / "bad.png").write_bytes(b"no image")
    heard, errors = Heard(), list[VggspecError]()
    found = list(
        predict(made.path, [folder, image], device="cpu", watch=heard, on_error=errors.append)
    )
    names = ["a.png", "b.png", "more/c.png"]
    assert [one.file for one in found] == [*(str(folder / name) for name in names), None]
    assert [error.reports[0].path for error in errors] == [str(folder / "bad.png")]
    assert heard.steps == [("predicting", done, 5, "images") for done in range(1, 6)]
    assert heard.notes == [f"skipped in {folder}: 1 file without an image's ending (readme.txt)"]
    with refused("VGG451"):
        list(predict(made.path, folder, device="cpu"))
    with pytest.raises(TypeError, match="an image is a path"):
        list(predict(made.path, [None], device="cpu"))  # type: ignore[list-item]


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_answers_that_are_not_numbers_are_reported(tmp_path: Path, bad: float) -> None:
    of = weights()
    of["fc3.bias"][2] = bad
    path = tmp_path / "photo.png"
    Image.new("RGB", (30, 30)).save(path)
    with refused("not finite") as error:
        predicted(make(tmp_path / "small", of=of), path)
    (report,) = error.value.reports
    assert (report.what.code, report.path) == ("VGG528", str(path))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"input.name": "picture"}, r"it takes `image` float32 \(any, 3, any, any\)"),
        ({"input.contract": "raw"}, r"the manifest says `image` uint8 \(any, any, any, 3\)"),
        ({"input.color": "gray", "input.mean": [120.0]}, r"`image` float32 \(any, 1, any, any\)"),
        ({"outputs.0.name": "probabilities"}, "it has no output `probabilities`"),
        ({"labels": None, "outputs.0.channels": 1 << 20}, r"`posteriors` is float32 \(any, 5\)"),
        ({"outputs.1.channels": 4}, r"`score_map` is .*, the manifest says 4 channels"),
    ],
)
def test_a_manifest_that_contradicts_the_graph_is_refused(
    tmp_path: Path, change: dict[str, Any], words: str
) -> None:
    made = make(tmp_path / "small")
    rewrite(made.path, change)
    with refused(words) as error:
        Predictor(made.path)
    assert error.value.reports[0].what.code == "VGG527"


def test_a_graph_of_one_size_is_not_taken_for_a_dense_one(tmp_path: Path) -> None:
    made = make(tmp_path / "small", is_dynamic=False)
    rewrite(made.path, {"input.is_dynamic": True})
    with refused(r"\(any, 3, 16, 16\), the manifest says"):
        Predictor(made.path)


def test_outputs_that_are_called_by_each_other_s_name_are_noticed(
    tmp_path: Path, image: Any
) -> None:
    made = make(tmp_path / "small")
    rewrite(made.path, {"outputs.0.name": "score_map", "outputs.1.name": "posteriors"})
    with refused(r"`score_map` came out as \(2, 5, 3, 6\)"):
        predicted(made, image)


def test_what_is_wrong_with_an_image_names_it(tmp_path: Path) -> None:
    path = tmp_path / "strip.png"
    Image.new("RGB", (30_000, 1)).save(path)
    with pytest.raises(VggspecError) as error:
        predicted(make(tmp_path / "small"), path, scales=(256,))
    (report,) = error.value.reports
    assert (report.what.code, report.path) == ("VGG453", str(path))


def test_threads_may_share_a_predictor(tmp_path: Path, image: Any) -> None:
    found: list[Any] = []
    with Predictor(make(tmp_path / "small").path, device="cpu") as predictor:
        expected = predictor(image).posteriors
        threads = [
            threading.Thread(target=lambda: found.append(predictor(image).posteriors))
            for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(found) == 8
    for posteriors in found:
        np.testing.assert_array_equal(posteriors, expected)


def test_the_manifest_says_whose_sizes_they_are(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (427, 640, 3), dtype=np.uint8)
    protocol = TestProtocol(scales=(256,), dense=False, crops=1, flip=False, resize="torchvision")
    made = make(tmp_path / "small", test=protocol)
    theirs = predicted(made, image).posteriors
    rounded = predicted(made, image, resize="rounded").posteriors
    assert not np.array_equal(theirs, rounded)
    small = np.array(Image.fromarray(image).resize((383, 256), Image.Resampling.BILINEAR))
    left = round((383 - WINDOW) / 2)
    crop = small[120 : 120 + WINDOW, left : left + WINDOW]
    np.testing.assert_array_equal(theirs, predicted(made, crop, scales=WINDOW).posteriors)

    data = json.loads((made.path / MANIFEST).read_text("utf-8"))
    del data["test"]["resize"], data[OWN_SHA256]  # as in one of an earlier version
    (made.path / MANIFEST).write_text(json.dumps(data), "utf-8")
    np.testing.assert_array_equal(predicted(made, image).posteriors, rounded)
    rewrite(made.path, {"test.resize": "opencv"})
    with refused(r"`test\.resize` is not one of rounded, torchvision"):
        predicted(made, image)
