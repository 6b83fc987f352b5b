"""``vggspec localise``: boxes told and drawn, errors counted by hand, mistakes told apart."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.cli.test_predict import Done
from tests.photos import write_photos
from tests.studies.localisation.localisers import LABELS, Made, make
from tests.training.folders import HUES, write_annotated
from vggspec.base.recipe import TestProtocol
from vggspec.cli import run
from vggspec.data.box_coding import iou
from vggspec.data.decode import decode
from vggspec.runtime.net import BundleNet
from vggspec.studies.localisation.errors import LocalisationTally, Verdict
from vggspec.studies.localisation.localiser import MATCH, Localiser, Method

Call = Callable[..., Done]


@pytest.fixture
def vggspec(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Call:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def call(*args: object) -> Done:
        code = run(["localise", *map(str, args)])
        out, err = capsys.readouterr()
        return Done(code, out, err)

    return call


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Made]:
    folder = tmp_path_factory.mktemp("nets")
    return {
        "scr": make(folder / "scr", "shared", spread=0.02),
        "pcr": make(folder / "pcr", "per-class", seed=1, spread=0.02),
        "judge": make(folder / "judge", "classes", seed=2),
        "bare": make(folder / "bare", "classes", seed=2, keep_map=False),
        "corner": make(folder / "corner", "shared", numbers=(-0.25, -0.25, 0.5, 0.5), spread=0),
        "corners": make(
            folder / "corners", "per-class", numbers=(-0.25, -0.25, 0.5, 0.5), spread=0
        ),
    }


@pytest.fixture
def photos(tmp_path: Path) -> list[Path]:
    return write_photos(tmp_path)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Five squares of 32 pixels: the net ``corner`` says (0, 0, 16, 16) of each but for flips."""
    rng = np.random.default_rng(7)
    root = tmp_path / "data"
    (root / "annotations").mkdir(parents=True)
    (root / "val").mkdir()
    boxes = {
        "a.png": [("ant", [0, 0, 16, 16])],  # exactly there
        "b.png": [("ant", [0, 0, 16, 8])],  # half of it, which is not more than half
        "c.png": [("bee", [0, 0, 16, 9]), ("ant", [20, 20, 4, 4])],
        "d.png": [("cat", [16, 16, 16, 16]), ("cat", [0, 0, 15, 15])],  # any of them will do
        "e.png": [("cat", [16, 16, 16, 16])],
    }
    names = ("ant", "bee", "cat")
    for name in boxes:
        Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(root / "val" / name)
    listed = list(boxes)
    coco = {
        "images": [
            {"id": i, "file_name": name, "width": 32, "height": 32} for i, name in enumerate(listed)
        ],
        "annotations": [
            {"id": i, "image_id": image, "category_id": names.index(label), "bbox": box}
            for i, (image, label, box) in enumerate(
                (listed.index(name), label, box)
                for name, objects in boxes.items()
                for label, box in objects
            )
        ],
        "categories": [{"id": i, "name": name} for i, name in enumerate(names)],
    }
    (root / "annotations" / "instances_val.json").write_text(json.dumps(coco))
    return root


def test_a_box_is_told_as_text_and_as_data(
    made: dict[str, Made], photos: list[Path], vggspec: Call
) -> None:
    args = (made["scr"].bundle.path, *photos, "--scales", "24,30")
    done = vggspec(*args)
    assert (done.code, done.err) == (0, "")
    lines = done.out.splitlines()
    assert lines[::3] == [str(path) for path in photos]
    assert lines[1].split() == ["left", "top", "right", "bottom"]
    results = json.loads(vggspec(*args, "--json").out)
    with BundleNet(made["scr"].bundle, device="cpu") as net:
        localiser = Localiser([net], [], Method(protocol=TestProtocol(scales=(24, 30))))
        (found,) = localiser(lambda _: photos[1].read_bytes(), [0], lambda _: [None])
    box = found.asked[0].box
    assert box is not None
    assert results[1] == {
        "file": str(photos[1]),
        "width": 60,
        "height": 40,
        "boxes": [
            {
                "label": None,
                "index": None,
                "posterior": None,
                "score": None,
                "windows": 4,
                "box": pytest.approx(box.tolist()),
            }
        ],
    }
    assert [float(word) for word in lines[5].split()] == pytest.approx(box.tolist(), abs=0.051)


def test_a_class_is_named_or_a_classifier_tells_it(
    made: dict[str, Made], photos: list[Path], vggspec: Call
) -> None:
    pcr, judge = made["pcr"].bundle.path, made["judge"].bundle.path
    told = vggspec(pcr, photos[0])
    assert (told.code, told.out) == (1, "")
    assert "error[VGG704]" in told.err
    assert "`ant`, `bee, honey bee` or `cat`" in told.err
    for word in ("honey bee", "1", "Bee"):
        done = vggspec(pcr, photos[0], "--class", word)
        assert done.out.splitlines()[2].endswith("bee, honey bee")
    (likeliest,) = json.loads(vggspec(pcr, photos[0], "--classifier", judge, "--json").out)
    assert len(likeliest["boxes"]) == 1
    args = (pcr, photos[0], "--classifier", judge, "--classes", 3, "--json")
    (ranked,) = json.loads(vggspec(*args).out)
    assert ranked["boxes"][0] == likeliest["boxes"][0]
    posteriors = [box["posterior"] for box in ranked["boxes"]]
    assert sum(posteriors) == pytest.approx(1)
    assert posteriors == sorted(posteriors, reverse=True)
    (named,) = json.loads(
        vggspec(pcr, photos[0], "--classifier", judge, "--class", "cat", "--json").out
    )
    assert named["boxes"] == [box for box in ranked["boxes"] if box["label"] == "cat"]


def test_a_classifier_without_map_gets_one(
    made: dict[str, Made], photos: list[Path], vggspec: Call
) -> None:
    outs = [
        vggspec(made["pcr"].bundle.path, *photos, "--classifier", made[name].bundle.path, "--json")
        for name in ("judge", "bare")
    ]
    assert [done.code for done in outs] == [0, 0]
    assert outs[0].out == outs[1].out
    beside = {path.name for path in made["bare"].bundle.path.parent.iterdir()}
    assert not any(name.startswith(".bare") for name in beside)


def test_several_nets_and_crops_and_thresholds_change_what_is_merged(
    made: dict[str, Made], photos: list[Path], vggspec: Call
) -> None:
    pcr, scr, judge = (made[name].bundle.path for name in ("pcr", "scr", "judge"))
    args = (pcr, photos[0], "--classifier", judge, "--json")

    def windows(*more: object, match: int = 9) -> int:
        (result,) = json.loads(vggspec(*args, "--match", match, *more).out)
        found: int = result["boxes"][0]["windows"]
        return found

    alone = windows()
    assert windows("--with", scr) == 2 * alone  # all that there are, at a threshold of 9
    assert windows("--no-flip") == alone / 2
    assert windows("--crops", "3x3") == 18
    assert windows("--stride", 1) > 3 * alone
    assert windows(match=0) < alone
    assert windows("--literal") < alone


def test_boxes_are_drawn(
    made: dict[str, Made], photos: list[Path], tmp_path: Path, vggspec: Call
) -> None:
    args = (made["pcr"].bundle.path, *photos, "--classifier", made["judge"].bundle.path)
    done = vggspec(*args, "--classes", 2, "-o", tmp_path / "boxes" / "{name}.png")
    assert (done.code, done.err) == (0, "")
    for path in photos:
        picture = decode((tmp_path / "boxes" / f"{path.stem}.png").read_bytes(), "RGB")
        assert max(picture.shape) == 800
        plain = np.asarray(Image.open(path).resize((800, 533), Image.Resampling.LANCZOS))
        assert (picture != plain).any()


def test_bad_images_do_not_cost_the_good_ones(
    made: dict[str, Made], photos: list[Path], tmp_path: Path, vggspec: Call
) -> None:
    text = tmp_path / "text.jpg"
    text.write_text("no image")
    scr = made["scr"].bundle.path
    images = [text, photos[0], tmp_path / "none.jpg", tmp_path, scr, photos[1]]
    done = vggspec(scr, *images)
    assert done.code == 1
    assert [line for line in done.out.splitlines() if line[0] != " "] == [*map(str, photos[:2])]
    assert done.err.count("error[VGG706]") == 4
    assert "name further nets with `--with`" in done.err
    small = vggspec(scr, photos[0], "--scales", 15)
    assert (small.code, small.out) == (1, "")
    assert "smaller than the net's window" in small.err
    assert vggspec(scr, photos[0], "--scales", 15, "--enlarge").code == 0


def test_errors_are_those_counted_by_hand(made: dict[str, Made], data: Path, vggspec: Call) -> None:
    args = (made["corner"].bundle.path, "--data", data, "--scales", 16, "--no-flip")
    found = json.loads(vggspec(*args, "--json").out)
    given = {
        (Path(result["file"]).name, place["index"]): place["is_right"]
        for result in found["results"]
        for place in result["class_given"]
    }
    assert given == {
        ("a.png", 0): True,
        ("b.png", 0): False,
        ("c.png", 0): False,
        ("c.png", 1): True,
        ("d.png", 2): True,
        ("e.png", 2): False,
    }
    assert found["class_given_error"] == 0.5
    assert found["classes"] == [
        {"label": "ant", "index": 0, "images": 3, "errors": 2},
        {"label": "bee", "index": 1, "images": 1, "errors": 0},
        {"label": "cat", "index": 2, "images": 2, "errors": 1},
    ]
    assert "top1_error" not in found
    done = vggspec(*args)
    lines = [line.split() for line in done.out.splitlines()]
    assert ["ant", "3", "66.67", "±", "27.22", "%"] in lines
    assert ["16", "central", "50.00", "±", "20.41", "%"] in lines
    assert lines[-1] == ["5", "images", "of", "3", "classes"]
    stricter = json.loads(vggspec(*args, "--json", "--iou", 0.9).out)
    assert stricter["class_given_error"] == pytest.approx(5 / 6)
    laxer = json.loads(vggspec(*args, "--json", "--iou", 0.49).out)
    assert laxer["class_given_error"] == pytest.approx(2 / 6)
    fewer = json.loads(vggspec(*args, "--json", "--limit", 2).out)
    assert [Path(one["file"]).name for one in fewer["results"]] == ["a.png", "c.png"]


def test_the_error_of_the_likeliest_classes_is_what_their_boxes_say(
    made: dict[str, Made], data: Path, vggspec: Call
) -> None:
    args = (made["corners"].bundle.path, "--classifier", made["judge"].bundle.path, "--data", data)
    found = json.loads(vggspec(*args, "--scales", "16,20", "--json").out)
    truth = json.loads((data / "annotations" / "instances_val.json").read_text())
    ids = {image["file_name"]: image["id"] for image in truth["images"]}
    wrong = {"top1": 0, "top5": 0}
    for result in found["results"]:
        assert len(result["likeliest"]) == 3
        right = []
        for place in result["likeliest"]:
            boxes = [
                (left, top, left + width, top + height)
                for one in truth["annotations"]
                if one["image_id"] == ids[Path(result["file"]).name]
                and one["category_id"] == place["index"]
                for left, top, width, height in [one["bbox"]]
            ]
            right.append(any(iou(place["box"], box) > 0.5 for box in boxes))
            assert place["is_right"] == right[-1]
        wrong["top1"] += not right[0]
        wrong["top5"] += not any(right)
    assert found["top1_error"] == wrong["top1"] / 5
    assert found["top5_error"] == wrong["top5"] / 5
    told = vggspec(*args, "--scales", "16,20").out
    assert "top-1 error" in told
    assert "top-3 error" in told  # of three classes


def test_images_that_are_not_those_annotated_are_too_many(
    made: dict[str, Made], data: Path, vggspec: Call
) -> None:
    Image.new("RGB", (40, 32)).save(data / "val" / "c.png")
    done = vggspec(made["scr"].bundle.path, "--data", data)
    assert (done.code, done.out) == (1, "")
    assert "error[VGG426]" in done.err
    assert "40 × 32 pixels, its annotation says 32 × 32" in done.err


def test_classes_of_the_data_are_found_by_name(
    made: dict[str, Made], data: Path, vggspec: Call
) -> None:
    path = data / "annotations" / "instances_val.json"
    text = path.read_text()
    found = json.loads(vggspec(made["pcr"].bundle.path, "--data", data, "--json").out)
    assert [one["label"] for one in found["classes"]] == list(LABELS)
    path.write_text(text.replace('"bee"', '"wasp"'))
    done = vggspec(made["pcr"].bundle.path, "--data", data)
    assert (done.code, done.out) == (1, "")
    assert "error[VGG691]" in done.err
    assert "`wasp`" in done.err
    # One box for all classes does not care what they are called.
    assert vggspec(made["scr"].bundle.path, "--data", data).code == 0


def journals(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "cache").glob("vggspec/evals/*"))


def test_processes_and_batches_change_no_digit(
    made: dict[str, Made], data: Path, tmp_path: Path, vggspec: Call
) -> None:
    pcr, scr, judge = (made[name].bundle.path for name in ("pcr", "scr", "judge"))
    args = (pcr, "--with", scr, "--data", data, "--scales", "16,20", "--json")
    for more in ((), ("--classifier", judge, "--stride", 1)):
        expected = vggspec(*args, *more).out
        assert json.loads(expected)["images"] == 5
        assert vggspec(*args, *more, "--procs", 2).out == expected
        assert vggspec(*args, *more, "--batch", 1, "--threads", 1).out == expected
    assert journals(tmp_path) == []


@pytest.mark.parametrize("first", [1, 4])
@pytest.mark.parametrize("cut", [0, 5])
def test_interrupted_and_resumed_is_as_if_it_had_not_been(
    made: dict[str, Made],
    data: Path,
    tmp_path: Path,
    vggspec: Call,
    monkeypatch: pytest.MonkeyPatch,
    first: int,
    cut: int,
) -> None:
    pcr, judge = made["pcr"].bundle.path, made["judge"].bundle.path
    args = (pcr, "--classifier", judge, "--stride", 1, "--data", data, "--scales", "16,20")
    args = (*args, "--json")
    expected = vggspec(*args).out
    add = LocalisationTally.add
    count = 0

    def adding(self: LocalisationTally, verdict: Verdict, name: str) -> None:
        nonlocal count
        add(self, verdict, name)
        count += 1
        if count == first:
            raise KeyboardInterrupt

    monkeypatch.setattr(LocalisationTally, "add", adding)
    done = vggspec(*args)
    assert (done.code, done.out) == (130, "")
    assert done.err.splitlines()[-1] == f"interrupted after {first} of 5 images; --resume continues"
    monkeypatch.setattr(LocalisationTally, "add", add)
    (journal,) = journals(tmp_path)
    journal.write_bytes(journal.read_bytes()[: -cut or None])
    # Another question begins from the start, and leaves this one's results alone.
    assert "none of 5" in vggspec(*args, "--match", 0.5, "--resume").err
    # What counts as right changes no box.
    done = vggspec(*args, "--iou", 0.5, "--resume")
    assert (done.code, done.out) == (0, expected)
    kept = first - (1 if cut else 0)
    assert f"{kept or 'none'} of 5 images were done before" in done.err
    assert journals(tmp_path) == []


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_a_process_that_is_interrupted_is_gone_on_with_by_others(
    made: dict[str, Made], tmp_path: Path, vggspec: Call
) -> None:
    data = write_annotated(tmp_path / "many", train=1, val=12)
    path = data / "annotations" / "instances_val.json"
    text = path.read_text()
    for hue, name in zip(HUES, ("ant", "bee", "cat"), strict=True):
        text = text.replace(f'"{hue}"', f'"{name}"')
    path.write_text(text)
    scr, judge = made["scr"].bundle.path, made["judge"].bundle.path
    args = [scr, "--classifier", judge, "--data", data, "--scales", "40"]
    args += ["--crops", "5x5", "--batch", "1", "--json"]
    expected = vggspec(*args).out
    command = [sys.executable, "-m", "vggspec", "localise", *map(str, args), "--procs", "2"]
    with subprocess.Popen(
        command, text=True, stderr=subprocess.PIPE, start_new_session=True
    ) as child:
        while not (found := journals(tmp_path)) or not found[0].stat().st_size:
            assert child.poll() is None
            time.sleep(0.01)
        os.killpg(child.pid, signal.SIGINT)
        _, err = child.communicate(timeout=60)
    assert child.returncode == 130
    last = err.splitlines()[-1]
    match = re.fullmatch(r"interrupted after (\d+) of 36 images(?:; --resume continues)?", last)
    assert match, err
    done = vggspec(*args, "--resume")
    assert (done.code, done.out) == (0, expected)
    assert "36 images were done before" in done.err
    assert "none of" not in done.err


def test_nets_that_do_not_go_together_are_told_before_they_run(
    made: dict[str, Made], data: Path, vggspec: Call
) -> None:
    args = ("--data", data, "--procs", 2)
    done = vggspec(made["judge"].bundle.path, *args)
    assert (done.code, "error[VGG700]" in done.err) == (1, True)
    done = vggspec(made["scr"].bundle.path, "--classifier", made["scr"].bundle.path, *args)
    assert (done.code, "error[VGG701]" in done.err) == (1, True)


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ([], "`--data DIR`"),
        (["PHOTO", "--data", "DIR"], "one too many"),
        (["PHOTO", "--iou", "0.5"], "go with `--data DIR`"),
        (["PHOTO", "--limit", "1"], "go with `--data DIR`"),
        (["PHOTO", "--resume"], "go with `--data DIR`"),
        (["PHOTO", "--procs", "2"], "go with `--data DIR`"),
        (["PHOTO", "--gpus", "1"], "go with `--data DIR`"),
        (["--data", "DIR", "--gpus", "1", "--procs", "2"], "not both"),
        (["--data", "DIR", "-o", "a.png"], "not with `--data`"),
        (["--data", "DIR", "--iou", "1"], "--iou"),
        (["PHOTO", "--classes", "2"], "`--classifier BUNDLE`"),
        (["PHOTO", "--match", "1"], "`--classifier BUNDLE`"),
        (["PHOTO", "--stride", "8"], "`--classifier BUNDLE`"),
        (["PHOTO", "--crops", "5x5"], "`--classifier BUNDLE`"),
        (["PHOTO", "--classifier", "JUDGE", "--crops", "5x4"], "not a square grid"),
        (["PHOTO", "--classifier", "JUDGE", "--literal"], "`--match T`, in pixels"),
        (["PHOTO", "--classifier", "JUDGE", "--class", "a", "--classes", "1"], "not both"),
        (["PHOTO", "--classifier", "JUDGE", "--class", "caat"], "Did you mean `cat`?"),
        (["PHOTO", "--class", "cat"], "one box for all classes"),
        (["PHOTO", "-o", "a.jpg"], "ends in .png"),
        (["PHOTO", "PHOTO", "-o", "a.png"], "need 2 pictures"),
        (["PHOTO", "-o", "PHOTO"], "is a file that is read"),
    ],
)
def test_wrong_usage(
    made: dict[str, Made],
    photos: list[Path],
    data: Path,
    vggspec: Call,
    args: list[str],
    words: str,
) -> None:
    places: dict[str, Any] = {
        "PHOTO": photos[0],
        "DIR": data,
        "JUDGE": made["judge"].bundle.path,
    }
    done = vggspec(made["scr"].bundle.path, *(places.get(word, word) for word in args))
    assert (done.code, done.out) == (2, "")
    assert words in " ".join(done.err.split())


def test_nets_of_the_wrong_kind_are_told(
    made: dict[str, Made], photos: list[Path], vggspec: Call
) -> None:
    done = vggspec(made["judge"].bundle.path, photos[0])
    assert (done.code, done.out) == (1, "")
    assert "error[VGG700]" in done.err
    assert "after `--classifier`" in done.err
    done = vggspec(photos[0], made["scr"].bundle.path)
    assert done.code == 1
    assert "error[VGG521]" in done.err


def test_the_help_names_the_threshold_that_is_used(vggspec: Call) -> None:
    assert f"[default: {MATCH}]" in " ".join(vggspec("--help").out.split())


def test_it_fits_80_columns(
    data: Path, tmp_path: Path, vggspec: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With names of classes as long as ImageNet's."""
    monkeypatch.setenv("COLUMNS", "80")
    names = {name: f"{name}, {name} of the southern seas, Carcharodon {name}" for name in "abc"}
    path = data / "annotations" / "instances_val.json"
    text = path.read_text()
    for short, label in zip(("ant", "bee", "cat"), names.values(), strict=True):
        text = text.replace(f'"{short}"', json.dumps(label))
    path.write_text(text)
    labels = tuple(names.values())
    pcr = make(tmp_path / "pcr", "per-class", labels=labels).bundle.path
    judge = make(tmp_path / "judge", "classes", seed=2, labels=labels).bundle.path
    scales = ",".join(map(str, range(16, 32)))
    for args in (
        (pcr, "--classifier", judge, "--data", data, "--scales", scales, "--crops", "3x3"),
        (pcr, "--classifier", judge, data / "val" / "a.png", "--classes", 3),
    ):
        done = vggspec(*args)
        assert done.code == 0, done.err
        assert max(map(len, done.out.splitlines())) <= 80
        notes = [line for line in done.err.splitlines() if str(tmp_path) not in line]
        assert max(map(len, notes), default=0) <= 80
