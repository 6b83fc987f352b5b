"""``vggspec predict``: results on stdout, mistakes on stderr, the right exit code."""

import csv
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.photos import write_photos
from tests.runtime.bundles import LABELS, Made, make, rewrite, weights
from tests.runtime.tensorrt.fake import FakeCuda, FakeTrt, make_plan
from tests.studies.localisation import localisers
from vggspec.cli import run
from vggspec.runtime.predictor import Prediction, Predictor
from vggspec.runtime.tensorrt import library as flavours
from vggspec.runtime.tensorrt import session as trt_session


@dataclass(frozen=True)
class Done:
    code: int
    out: str
    err: str


@pytest.fixture
def vggspec(capsys: pytest.CaptureFixture[str]) -> Callable[..., Done]:
    def call(*args: object) -> Done:
        code = run(["predict", *map(str, args)])
        out, err = capsys.readouterr()
        return Done(code, out, err)

    return call


@pytest.fixture
def photos(tmp_path: Path) -> list[Path]:
    return write_photos(tmp_path)


def test_classes_are_told_best_first(made: Made, photos: list[Path], vggspec: Any) -> None:
    done = vggspec(made.path, photos[0], "--top", 3)
    with Predictor(made.path) as predictor:
        expected = predictor(photos[0]).top(3)
    name, *lines = done.out.splitlines()
    assert (done.code, done.err, name) == (0, "", str(photos[0]))
    assert len(lines) == 3
    for line, (label, posterior) in zip(lines, expected, strict=True):
        assert line.startswith(f"{posterior:9.2%}  ")
        assert line.endswith(label)
    assert len({line.index(label) for line, (label, _) in zip(lines, expected, strict=True)}) == 1


def test_json_is_all_there_is_on_stdout(made: Made, photos: list[Path], vggspec: Any) -> None:
    done = vggspec(made.path, *photos, "--json", "--scales", "24, 30", "--no-flip", "--top", 2)
    results = json.loads(done.out)
    assert (done.code, done.err) == (0, "")
    assert [result["file"] for result in results] == [str(path) for path in photos]
    with Predictor(made.path) as predictor:
        prediction = predictor(photos[1], scales=(24, 30), flip=False)
    assert results[1] == {
        "file": str(photos[1]),
        "scales": [24, 30],
        "flip": False,
        "top": [
            {"label": label, "index": LABELS.index(label), "posterior": pytest.approx(value)}
            for label, value in prediction.top(2)
        ],
    }


def test_bad_images_do_not_cost_the_good_ones(
    made: Made, photos: list[Path], tmp_path: Path, vggspec: Any
) -> None:
    text = tmp_path / "text.jpg"
    text.write_text("no image")
    strip = tmp_path / "strip.png"
    Image.new("RGB", (30_000, 1)).save(strip)
    bundle = tmp_path / "small" / "manifest.json"
    images = [text, photos[0], tmp_path / "none.jpg", strip, photos[1], bundle]
    done = vggspec(made.path, *images, "--scales", 512)
    assert done.code == 1
    assert [line for line in done.out.splitlines() if line[0] != " "] == [
        str(photos[0]),
        str(photos[1]),
    ]
    codes = [line.split("]")[0][-6:] for line in done.err.splitlines() if line.startswith("error")]
    assert codes == ["VGG451", "VGG510", "VGG453", "VGG451"]
    for path in (text, tmp_path / "none.jpg", strip):
        assert f"--> {path}" in done.err
    assert len(json.loads(vggspec(made.path, *images, "--json").out)) == 2


def test_folders_stand_for_their_images(
    made: Made, photos: list[Path], tmp_path: Path, vggspec: Any
) -> None:
    folder = tmp_path / "photos"
    (folder / "deep").mkdir(parents=True)
    photos[0].rename(folder / "deep" / "c.png")
    photos[1].rename(folder / "b.png")
    (folder / "readme.txt").touch()
    done = vggspec(made.path, folder, photos[2], "--json")
    assert done.code == 0
    files = [folder / "b.png", folder / "deep" / "c.png", photos[2]]
    assert [each["file"] for each in json.loads(done.out)] == list(map(str, files))
    assert "readme.txt" in done.err
    (tmp_path / "empty").mkdir()
    done = vggspec(made.path, tmp_path / "empty")
    assert (done.code, done.out) == (2, "")
    assert "no images" in done.err


def test_csv_and_json_lines_are_files(
    made: Made, photos: list[Path], tmp_path: Path, vggspec: Any
) -> None:
    table, lines = tmp_path / "out" / "p.csv", tmp_path / "out" / "p.jsonl"
    bad = tmp_path / "bad.png"
    bad.write_text("no image")
    done = vggspec(made.path, *photos, bad, "--top", 2, "--csv", table, "--jsonl", lines, "--json")
    assert done.code == 1
    results = json.loads(done.out)
    assert [json.loads(line) for line in lines.read_text("utf-8").splitlines()] == results
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows == [
        {
            "file": result["file"],
            "rank": str(rank),
            "label": each["label"],
            "index": str(each["index"]),
            "posterior": str(each["posterior"]),
        }
        for result in results
        for rank, each in enumerate(result["top"], 1)
    ]
    assert sorted(path.name for path in table.parent.iterdir()) == ["p.csv", "p.jsonl"]
    done = vggspec(made.path, *photos, "--csv", table, "--jsonl", lines)
    assert (done.code, done.out) == (0, f"{table}\n{lines}\n")


def test_csv_and_json_lines_go_to_stdout_too(made: Made, photos: list[Path], vggspec: Any) -> None:
    results = json.loads(vggspec(made.path, *photos, "--json").out)
    done = vggspec(made.path, *photos, "--jsonl", "-")
    assert (done.code, done.err) == (0, "")
    assert [json.loads(line) for line in done.out.splitlines()] == results
    done = vggspec(made.path, photos[0], "--csv", "-", "--top", 1)
    first = results[0]["top"][0]
    assert done.out.splitlines() == [
        "file,rank,label,index,posterior",
        f"{photos[0]},1,{_quoted(first['label'])},{first['index']},{first['posterior']}",
    ]


def _quoted(text: str) -> str:
    return f'"{text}"' if "," in text else text


def test_a_file_that_is_not_finished_is_not_there(
    made: Made, photos: list[Path], tmp_path: Path, vggspec: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = tmp_path / "p.csv"
    table.write_text("before")

    def failing(*_args: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(Prediction, "as_data", failing)
    with pytest.raises(ZeroDivisionError):
        vggspec(made.path, *photos, "--csv", table)
    assert table.read_text() == "before"


def test_a_net_of_boxes_is_for_localise(tmp_path: Path, photos: list[Path], vggspec: Any) -> None:
    made = localisers.make(tmp_path / "net", "shared")
    done = vggspec(made.bundle.path, photos[0])
    assert (done.code, done.out) == (1, "")
    assert "VGG526" in done.err
    assert "vggspec localise" in done.err


def test_a_net_without_softmax_is_told_by_scores(
    tmp_path: Path, photos: list[Path], vggspec: Any
) -> None:
    made = make(tmp_path / "scores", kind="scores")
    done = vggspec(made.path, photos[0])
    assert "class scores: the net has no soft-max" in done.out
    assert "%" not in done.out
    (result,) = json.loads(vggspec(made.path, photos[0], "--json").out)
    assert set(result["top"][0]) == {"label", "index", "score"}


def test_control_characters_of_labels_do_not_reach_the_terminal(
    tmp_path: Path, photos: list[Path], vggspec: Any
) -> None:
    made = make(tmp_path / "odd", labels=("\x1b[31mred", "b\nc", "c", "d", "e"))
    done = vggspec(made.path, photos[0])
    assert "\x1b" not in done.out
    assert len(done.out.splitlines()) == 6


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--scales", "big"], "'big' is not sizes"),
        (["--scales", "256,,512"], "is not sizes"),
        (["--scales", "0"], "is not sizes"),
        (["--scales", "99999999999"], "is not sizes"),
        (["--top", "0"], "--top"),
        (["--threads", "0"], "--threads"),
        (["--class", "cat"], "`--heatmap FILE`"),
        (["--classes", "2"], "`--heatmap FILE`"),
        (["--heatmap", "h.png", "--class", "cat", "--classes", "2"], "not both"),
        (["--heatmap", "h.png", "--classes", "8"], "--classes"),
        (["--heatmap", "h.jpg"], "ends in .png"),
        (["--json", "--csv", "-"], "all print to stdout"),
        (["--jsonl", "-", "--csv", "-"], "all print to stdout"),
        (["--jsonl", "out", "--csv", "out"], "name the same file"),
        (["--heatmap", "h.png", "--class", "dgo"], "no class `dgo`. Did you mean `dog`?"),
        (["--heatmap", "h.png", "--class", "5"], "no class `5`"),
    ],
)
def test_wrong_usage_is_told_apart_from_wrong_input(
    made: Made, photos: list[Path], vggspec: Any, args: list[str], words: str
) -> None:
    done = vggspec(made.path, photos[0], *args)
    assert (done.code, done.out) == (2, "")
    assert words in done.err


def test_a_broken_bundle_is_reported_once(tmp_path: Path, photos: list[Path], vggspec: Any) -> None:
    done = vggspec(tmp_path / "none", *photos)
    assert (done.code, done.out) == (1, "")
    assert done.err.count("error[") == 1
    assert "VGG521" in done.err


def test_cuda_that_is_not_there_is_the_environment_s_lack(
    made: Made, photos: list[Path], vggspec: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vggspec.runtime import ort_session

    monkeypatch.setattr(ort_session, "has_gpu", lambda: False)
    done = vggspec(made.path, photos[0], "--device", "cuda")
    assert (done.code, done.out) == (3, "")
    assert "cuda" in done.err


def test_tensorrt_that_is_not_there_is_the_environment_s_lack(
    made: Made, photos: list[Path], vggspec: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vggspec.runtime import ort_session

    monkeypatch.setattr(ort_session, "has_gpu", lambda: False)
    done = vggspec(made.path, photos[0], "--device", "tensorrt")
    assert (done.code, done.out) == (3, "")
    assert "the device `tensorrt` is not available" in done.err


def test_an_engine_is_loaded_only_by_name(
    tmp_path: Path, photos: list[Path], vggspec: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without its name nothing is loaded; its reference runs anywhere."""
    made = make_plan(tmp_path / "engine")
    done = vggspec(made.path, photos[0])
    assert (done.code, done.out) == (1, "")
    assert "VGG630" in done.err
    assert "`--device tensorrt`" in done.err
    done = vggspec(made.path, photos[0], "--device", "cpu")
    assert (done.code, done.err) == (0, "")
    cuda = FakeCuda()
    library = FakeTrt("11.4", cuda)
    monkeypatch.setattr(flavours, "load", lambda flavour, purpose: library)
    monkeypatch.setattr(trt_session, "PyCuda", lambda: cuda)
    assert vggspec(made.path, photos[0], "--device", "tensorrt") == done
    cuda.check_empty()


def test_an_image_that_the_engine_does_not_take_costs_no_other(
    tmp_path: Path, photos: list[Path], vggspec: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make_plan(tmp_path / "engine")
    cuda = FakeCuda()
    library = FakeTrt("11.4", cuda)
    monkeypatch.setattr(flavours, "load", lambda flavour, purpose: library)
    monkeypatch.setattr(trt_session, "PyCuda", lambda: cuda)
    wide = tmp_path / "wide.png"
    Image.new("RGB", (200, 40)).save(wide)
    done = vggspec(made.path, wide, photos[0], "--device", "tensorrt")
    assert done.code == 1
    assert f"--> {wide}" in done.err
    assert "VGG634" in done.err
    assert done.out.startswith(str(photos[0]))


def test_values_that_are_not_numbers_are_an_error(
    tmp_path: Path, photos: list[Path], vggspec: Any
) -> None:
    of = weights()
    of["fc3.bias"][:] = np.nan
    done = vggspec(make(tmp_path / "nan", of=of).path, photos[0])
    assert (done.code, done.out) == (1, "")
    assert "VGG528" in done.err


# Heat maps.


@pytest.mark.parametrize(
    "wanted", [[], ["--class", "Honey Bee"], ["--class", "3"], ["--classes", 3]]
)
def test_a_heat_map_is_drawn(
    made: Made, photos: list[Path], tmp_path: Path, vggspec: Any, wanted: list[object]
) -> None:
    target = tmp_path / "maps" / "heat.png"
    done = vggspec(made.path, photos[0], "--heatmap", target, *wanted)
    assert (done.code, done.err) == (0, "")
    with Image.open(target) as picture:
        assert picture.format == "PNG"
        assert picture.width > 800
    assert [path.name for path in target.parent.iterdir()] == ["heat.png"]


def test_each_image_has_its_heat_map(
    made: Made, photos: list[Path], tmp_path: Path, vggspec: Any
) -> None:
    done = vggspec(made.path, *photos, "--heatmap", tmp_path / "maps" / "{name}-heat.png")
    assert done.code == 0
    drawn = sorted(path.name for path in (tmp_path / "maps").iterdir())
    assert drawn == [f"photo{k}-heat.png" for k in range(3)]


def test_several_images_do_not_share_a_heat_map(
    made: Made, photos: list[Path], tmp_path: Path, vggspec: Any
) -> None:
    done = vggspec(made.path, *photos, "--heatmap", "heat.png")
    assert done.code == 2
    assert "`{name}`" in done.err
    twin = tmp_path / "other" / photos[0].name
    done = vggspec(made.path, photos[0], twin, "--heatmap", tmp_path / "{name}.png")
    assert done.code == 2
    assert "Two images" in done.err


@pytest.mark.parametrize("option", ["--csv", "--jsonl"])
def test_no_file_of_the_bundle_is_written_over(
    made: Made, photos: list[Path], vggspec: Any, option: str, tmp_path: Path
) -> None:
    manifest = made.path / "manifest.json"
    (tmp_path / "link").symlink_to(manifest)
    before = manifest.read_bytes()
    for target in (manifest, tmp_path / "link"):
        done = vggspec(made.path, photos[0], option, target)
        assert (done.code, done.out) == (2, "")
        assert "is a file that is read; name another one" in " ".join(done.err.split())
    assert manifest.read_bytes() == before


@pytest.mark.parametrize("pattern", ["photo1.png", "{name}.png", "link.png"])
def test_no_heat_map_is_drawn_over_an_image(
    made: Made, photos: list[Path], vggspec: Any, pattern: str
) -> None:
    os.link(photos[1], photos[1].parent / "link.png")
    before = [photo.read_bytes() for photo in photos]
    images = photos if "{" in pattern else photos[1:2]
    done = vggspec(made.path, *images, "--heatmap", photos[1].parent / pattern)
    assert (done.code, done.out) == (2, "")
    assert "is a file that is read; name another one" in " ".join(done.err.split())
    assert [photo.read_bytes() for photo in photos] == before


def test_a_bundle_without_a_map_draws_none(
    tmp_path: Path, photos: list[Path], vggspec: Any
) -> None:
    made = make(tmp_path / "mapless", with_map=False)
    done = vggspec(made.path, photos[0], "--heatmap", tmp_path / "heat.png")
    assert (done.code, done.out) == (1, "")
    assert "VGG525" in done.err
    assert not (tmp_path / "heat.png").exists()


def test_a_heat_map_that_cannot_be_written_leaves_nothing(
    made: Made, photos: list[Path], tmp_path: Path, vggspec: Any
) -> None:
    (tmp_path / "file").write_text("")
    done = vggspec(made.path, photos[0], "--heatmap", tmp_path / "file" / "heat.png")
    assert done.code == 1
    assert "VGG511" in done.err


def test_a_gray_net_draws_on_the_coloured_image(
    tmp_path: Path, photos: list[Path], vggspec: Any
) -> None:
    made = make(tmp_path / "gray", color="gray")
    rewrite(made.path, {"test.scales": [24, 32]})
    done = vggspec(made.path, photos[0], "--heatmap", tmp_path / "heat.png", "--classes", 2)
    assert done.code == 0


# The process.


def test_output_without_unicode_has_bars_too(made: Made, photos: list[Path]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "vggspec", "predict", str(made.path), str(photos[0])],
        capture_output=True,
        check=True,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
    )
    assert b"#" in done.stdout
    assert done.stderr == b""


def test_help_imports_no_engine() -> None:
    code = (
        "import sys\n"
        "class Block:\n"
        "    def find_spec(self, name, *rest):\n"
        "        if name.split('.')[0] in {'numpy', 'onnxruntime', 'PIL', 'torch', 'onnx'}:\n"
        "            raise AssertionError(name)\n"
        "sys.meta_path.insert(0, Block())\n"
        "from vggspec.cli import run\n"
        "sys.exit(run(['predict', '--help']))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "--heatmap" in done.stdout
