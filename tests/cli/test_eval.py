"""``vggspec eval``: errors on stdout, all else on stderr; interrupted and resumed to the digit."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from tests.cli.run import vggspec as process
from tests.conftest import ROOT
from tests.nets import net, random_weights
from tests.runtime.bundles import LABELS, make, rewrite, weights
from tests.studies.evaluation.pictures import write_pictures
from vggspec.base.recipe import TestProtocol
from vggspec.bundle.options import CompileOptions
from vggspec.cli import progress, run
from vggspec.compiler.bundling.graph import write_bundle
from vggspec.compiler.cost import cost
from vggspec.compiler.lower import load_network
from vggspec.runtime.predictor import Predictor
from vggspec.studies.evaluation.answers import Result, Tally

SPEC = """\
net tiny
input 16x16 RGB
conv3-4
maxpool
conv3-8
maxpool
FC-5
soft-max
test:
  scale 24
"""


@dataclass(frozen=True)
class Done:
    code: int
    out: str
    err: str

    @property
    def data(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def evaluate(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Done]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def call(*args: object) -> Done:
        code = run(["eval", *map(str, args)])
        out, err = capsys.readouterr()
        return Done(code, out, err)

    return call


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_pictures(tmp_path / "data")


@pytest.fixture
def made(tmp_path: Path) -> Path:
    return make(tmp_path / "a").path


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """A bundle as it is compiled, so that its cost is known and other forms can be had."""
    lowered = net(SPEC)
    write_bundle(
        lowered, random_weights(lowered, tmp_path / "w"), tmp_path / "tiny", CompileOptions()
    )
    rewrite(tmp_path / "tiny", {"labels": list(LABELS)})
    return tmp_path / "tiny"


def journals(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "cache").glob("vggspec/evals/*"))


def test_the_error_is_that_of_predict(made: Path, data: Path, evaluate: Any) -> None:
    wrong1 = wrong5 = 0
    files = sorted(data.glob("val/*/*.png"))
    with Predictor(made, device="cpu") as predictor:
        for file in files:
            labels = [label for label, _ in predictor(file).top(5)]
            names = [label.split(", ")[-1] for label in labels]
            wrong1 += names[0] != file.parent.name
            wrong5 += file.parent.name not in names
    done = evaluate(made, "--data", data, "--device", "cpu")
    assert done.code == 0
    header, row, last = done.out.splitlines()
    assert header.split() == ["net", "Q", "evaluation", "top-1", "error", "top-5", "error"]
    share = wrong1 / len(files)
    spread = (share * (1 - share) / len(files)) ** 0.5
    assert f"{100 * share:.2f} ± {100 * spread:.2f} %" in row
    assert row.split()[:3] == ["small", "24", "dense"]
    assert last == "20 images of 4 classes"
    assert wrong5 == 0
    assert "data:   " in done.err
    assert 0 < wrong1 < len(files)


def test_json_has_every_image(made: Path, data: Path, evaluate: Any) -> None:
    found = evaluate(made, "--data", data, "--json", "--scales", "24,30", "--no-flip").data
    assert found["images"] == len(found["results"]) == 20
    (setting,) = found["settings"]
    assert setting["name"] == "small, Q 24, 30, dense"
    results = found["results"]
    assert [Path(one["file"]).parent.name for one in results] == sorted(
        one["class"].split(", ")[-1] for one in results
    )
    with Predictor(made, device="cpu") as predictor:
        prediction = predictor(results[7]["file"], scales=(24, 30), flip=False)
    assert results[7]["top"] == [
        {"label": label, "index": LABELS.index(label), "posterior": value}
        for label, value in prediction.top(5)
    ]
    ranks = [one["ranks"][0] for one in results]
    assert setting["top1_errors"] == sum(rank > 0 for rank in ranks)
    assert sum(one["images"] for one in found["classes"]) == 20
    assert sum(one["images"] for one in found["confusions"]) == setting["top1_errors"]
    assert found["nets"][0]["protocol"]["flip"] is False


def test_scores_are_called_scores(tmp_path: Path, data: Path, evaluate: Any) -> None:
    scores = make(tmp_path / "scores", kind="scores").path
    (one, *_) = evaluate(scores, "--data", data, "--json").data["results"]
    assert set(one["top"][0]) == {"label", "index", "score"}
    assert one["score"] in [each["score"] for each in one["top"]]


def test_one_table_tells_scales_ways_and_fusion(
    made: Path, tmp_path: Path, data: Path, evaluate: Any
) -> None:
    other = make(tmp_path / "b", of=weights(1)).path
    args = ["--data", data, "--scales", "17,24", "--dense", "--crops", "2x2"]
    done = evaluate(made, other, *args, "--table")
    rows = [re.split(r"  +", line)[:3] for line in done.out.splitlines()[1:-1]]
    ways = ["dense", "crops 2×2", "dense, crops 2×2"]
    assert rows == [
        *([net, q, "dense"] for net in "ab" for q in ("17", "24")),
        *([net, "17, 24", way] for net in ("a", "b", "a + b") for way in ways),
    ]
    # Each row is what it is when it is asked for alone.
    lines = done.out.splitlines()[1:-1]
    alone = evaluate(other, "--data", data, "--scales", 24, "--dense").out.splitlines()[1]
    assert lines[3].split()[3:] == alone.split()[3:]
    alone = evaluate(made, other, *args).out.splitlines()[1]
    assert lines[-1].split() == alone.split()


@pytest.mark.parametrize(
    ("test", "options", "expected"),
    [
        (TestProtocol(scales=(24,), dense=False, crops=3), [], (False, 3)),
        (TestProtocol(scales=(24,)), ["--dense", "--crops", "3"], (True, 3)),
        (TestProtocol(scales=(24,), dense=False, crops=3), ["--dense"], (True, None)),
        (TestProtocol(scales=(24,)), ["--no-dense", "--crops", "2×2"], (False, 2)),
    ],
)
def test_what_is_not_written_comes_from_the_spec(
    tmp_path: Path,
    data: Path,
    evaluate: Any,
    test: TestProtocol,
    options: list[str],
    expected: tuple[bool, int | None],
) -> None:
    net = make(tmp_path / "net", test=test).path
    found = evaluate(net, "--data", data, "--limit", 2, "--json", *options).data
    protocol = found["nets"][0]["protocol"]
    assert (protocol["dense"], protocol["crops"]) == expected
    assert len(found["results"]) == 2


def test_recompiled_bundles_are_called_as_they_were_given(
    tiny: Path, tmp_path: Path, data: Path, evaluate: Any
) -> None:
    other = tmp_path / "other" / "tiny"
    shutil.copytree(tiny, other)
    done = evaluate(tiny, other, "--data", data, "--stride", "2", "--json")
    assert done.code == 0
    for key in ("name", "bundle"):
        assert [net[key] for net in done.data["nets"]] == [str(tiny), str(other)]


def test_average_pool_and_stride_recompile_the_net(
    tiny: Path, tmp_path: Path, data: Path, evaluate: Any
) -> None:
    args = ["--data", data, "--scales", "25,33", "--json"]
    as_it_is = evaluate(tiny, *args).data["results"]
    changes = [["--average", "posteriors"], ["--pool", "ceil"], ["--stride", "2"]]
    for change in changes:
        done = evaluate(tiny, *args, *change)
        assert done.code == 0, done.err
        assert done.data["results"] != as_it_is
    compiled = CompileOptions(average="posteriors")
    lowered = net(SPEC)
    write_bundle(lowered, random_weights(lowered, tmp_path / "w"), tmp_path / "b", compiled)
    rewrite(tmp_path / "b", {"labels": list(LABELS)})
    found = evaluate(tmp_path / "b", *args).data["results"]
    assert evaluate(tiny, *args, *changes[0]).data["results"] == found
    assert evaluate(tiny, *args, "--average", "scores").data["results"] == as_it_is
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_left_out_images_are_named(made: Path, tmp_path: Path, evaluate: Any) -> None:
    data = write_pictures(tmp_path / "many", 30)
    bad = data / "val" / "cat" / "3.png"
    bad.write_bytes(b"")
    done = evaluate(made, "--data", data, "--scales", 17, "--no-flip")
    assert done.code == 0
    assert f"1 image could not be read, left out:\n  {bad}: it is empty" in done.err
    assert done.out.splitlines()[-1] == "119 images of 4 classes"
    found = evaluate(made, "--data", data, "--scales", 17, "--no-flip", "--json").data
    assert found["left_out"] == [{"file": str(bad), "why": "it is empty"}]
    (data / "val" / "dog" / "3.png").write_bytes(b"")
    done = evaluate(made, "--data", data, "--scales", 17, "--no-flip")
    assert (done.code, done.out) == (1, "")
    assert "VGG426" in done.err
    assert "2 of 120 images" in done.err


def test_split_and_limit_say_which_images(made: Path, tmp_path: Path, evaluate: Any) -> None:
    write_pictures(tmp_path / "data", 5)
    write_pictures(tmp_path / "data", 2, split="test")
    found = evaluate(made, "--data", tmp_path / "data", "--split", "test", "--json").data
    assert found["images"] == 8
    found = evaluate(made, "--data", tmp_path / "data", "--limit", 4, "--json").data
    assert [one["class"].split(", ")[-1] for one in found["results"]] == [
        "ant",
        "cat",
        "dog",
        "honey bee",
    ]


def test_small_images_are_enlarged_or_refused(made: Path, data: Path, evaluate: Any) -> None:
    done = evaluate(made, "--data", data, "--scales", 12)
    assert (done.code, done.out) == (1, "")
    assert "VGG692" in done.err
    assert "--enlarge" in done.err
    enlarged = evaluate(made, "--data", data, "--scales", 12, "--enlarge", "--json").data
    at_window = evaluate(made, "--data", data, "--scales", 16, "--json").data
    assert enlarged["results"] == at_window["results"]


def test_a_report_is_written_beside_its_data(
    made: Path, tmp_path: Path, data: Path, evaluate: Any
) -> None:
    folder = tmp_path / "deep" / "report"
    folder.mkdir(parents=True)
    (folder / "mine.txt").write_text("kept")
    done = evaluate(made, "--data", data, "--report", folder, "--json")
    assert sorted(path.name for path in folder.iterdir()) == [
        "index.html",
        "mine.txt",
        "results.json",
    ]
    assert json.loads((folder / "results.json").read_text()) == done.data
    page = (folder / "index.html").read_text("utf-8")
    error = done.data["settings"][0]["top1_error"]
    assert f"{100 * error:.2f} %" in page
    assert f"report: {folder / 'index.html'}" in done.err


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("taken", "taken is not a folder"),
        ("taken/deep", "taken is not a folder"),
        pytest.param(
            "closed/report",
            "permission denied",
            marks=pytest.mark.skipif(
                sys.platform == "win32" or os.geteuid() == 0, reason="nothing is closed to root"
            ),
        ),
    ],
)
def test_a_report_that_cannot_be_written_is_told_before_it_runs(
    made: Path, tmp_path: Path, data: Path, evaluate: Any, name: str, words: str
) -> None:
    (tmp_path / "taken").write_text("mine")
    (tmp_path / "closed").mkdir(mode=0o500)
    done = evaluate(made, "--data", data, "--report", tmp_path / name)
    assert (done.code, done.out) == (1, "")
    assert "VGG511" in done.err
    assert words in done.err
    assert "data:" not in done.err
    assert (tmp_path / "taken").read_text() == "mine"


def test_a_report_that_fails_at_the_end_loses_nothing(
    made: Path, tmp_path: Path, data: Path, evaluate: Any
) -> None:
    (tmp_path / "report" / "index.html").mkdir(parents=True)
    done = evaluate(made, "--data", data, "--report", tmp_path / "report")
    assert done.code == 1
    assert "VGG511" in done.err
    assert done.out == evaluate(made, "--data", data).out


def test_processes_batches_and_order_change_no_digit(
    made: Path, tmp_path: Path, data: Path, evaluate: Any
) -> None:
    other = make(tmp_path / "b", of=weights(1)).path
    args = [made, other, "--data", data, "--scales", "17,24", "--table", "--json"]
    expected = evaluate(*args).out
    assert evaluate(*args, "--procs", 2).out == expected
    assert evaluate(*args, "--batch", 1, "--threads", 1).out == expected
    assert journals(tmp_path) == []


@pytest.mark.skipif(sys.platform == "win32", reason="a shell")
def test_without_standard_error_the_result_is_printed(
    made: Path, data: Path, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "vggspec", "eval", made, "--data", data]
    env = os.environ | {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    shell = ["sh", "-c", '"$@" 2>&-', "sh", *map(str, command)]
    done = subprocess.run(shell, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert done.stdout.splitlines()[-1] == "20 images of 4 classes"


def stop_after(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Interrupt evaluations after a number of images."""
    add = Tally.add

    def adding(self: Tally, result: Result) -> None:
        add(self, result)
        if self.done == number:
            raise KeyboardInterrupt

    monkeypatch.setattr(Tally, "add", adding)


@pytest.mark.parametrize("other", ["in its place", "elsewhere"])
def test_other_images_of_the_same_names_and_sizes_start_a_new_run(
    made: Path, tmp_path: Path, data: Path, evaluate: Any, other: str
) -> None:
    args = [made, "--data", data]
    with pytest.MonkeyPatch.context() as patch:
        stop_after(patch, 7)
        assert evaluate(*args).code == 130
    if other == "elsewhere":
        copy = shutil.copytree(data, tmp_path / "other", copy_function=shutil.copy2)
        done = evaluate(made, "--data", copy, "--resume")
    else:
        image = next(path for path in data.rglob("*") if path.is_file())
        written = image.stat().st_mtime_ns
        image.write_bytes(image.read_bytes()[::-1])
        os.utime(image, ns=(written, written + 1))
        done = evaluate(*args, "--resume")
    assert "none of 20 images were done before" in done.err


def test_without_a_cache_folder_it_says_so_and_goes_on(
    made: Path, tmp_path: Path, data: Path, evaluate: Any
) -> None:
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "vggspec").write_text("in the way")
    for more in ([], ["--resume"]):
        done = evaluate(made, "--data", data, *more)
        assert (done.code, done.out.splitlines()[-1]) == (0, "20 images of 4 classes")
        assert "note: results are not kept for --resume:" in " ".join(done.err.split())


def test_what_cannot_be_read_cannot_be_gone_on_with(
    made: Path, tmp_path: Path, data: Path, evaluate: Any
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        stop_after(patch, 7)
        assert evaluate(made, "--data", data).code == 130
    (journal,) = journals(tmp_path)
    journal.unlink()
    journal.mkdir()
    assert evaluate(made, "--data", data).code == 0
    done = evaluate(made, "--data", data, "--resume")
    assert (done.code, done.out) == (1, "")
    assert "VGG511" in done.err


@pytest.mark.skipif(sys.platform == "win32", reason="resource limits")
def test_a_disk_that_gets_full_does_not_stop_it(
    made: Path, tmp_path: Path, data: Path, evaluate: Any
) -> None:
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        done = evaluate(made, "--data", data)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert (done.code, done.out.splitlines()[-1]) == (0, "20 images of 4 classes")
    err = " ".join(done.err.split())
    assert err.count("note: further results are not kept for --resume:") == 1
    assert journals(tmp_path) == []


@pytest.mark.parametrize("first", [1, 7, 19])
@pytest.mark.parametrize("cut", [0, 5])
def test_interrupted_and_resumed_is_as_if_it_had_not_been(
    made: Path,
    tmp_path: Path,
    data: Path,
    evaluate: Any,
    monkeypatch: pytest.MonkeyPatch,
    first: int,
    cut: int,
) -> None:
    args = [made, "--data", data, "--scales", "17,24", "--table", "--json"]
    expected = evaluate(*args).out
    add = Tally.add
    count = 0

    def adding(self: Tally, result: Result) -> None:
        nonlocal count
        add(self, result)
        count += 1
        if count == first:
            raise KeyboardInterrupt

    monkeypatch.setattr(Tally, "add", adding)
    done = evaluate(*args)
    assert (done.code, done.out) == (130, "")
    assert done.err.splitlines()[-1] == (
        f"interrupted after {first} of 20 images; --resume continues"
    )
    monkeypatch.setattr(Tally, "add", add)
    (journal,) = journals(tmp_path)
    if cut:
        journal.write_bytes(journal.read_bytes()[:-cut])
    done = evaluate(*args, "--resume")
    assert (done.code, done.out) == (0, expected)
    kept = first - (1 if cut else 0)
    assert f"{kept or 'none'} of 20 images were done before" in done.err
    assert journals(tmp_path) == []
    again = evaluate(*args, "--resume")
    assert again.out == expected
    assert "none of 20 images were done before" in again.err


def test_an_interrupted_run_is_not_dropped_in_silence(
    made: Path, tmp_path: Path, data: Path, evaluate: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Tally, result: Result) -> None:
        if self.done == 3:
            raise KeyboardInterrupt
        add(self, result)

    add = Tally.add
    monkeypatch.setattr(Tally, "add", full)
    assert evaluate(made, "--data", data).code == 130
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    note = "note:   an interrupted run is discarded; --resume would have resumed it"
    assert note in evaluate(made, "--data", data).err.splitlines()
    assert note not in evaluate(made, "--data", data).err.splitlines()


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
@pytest.mark.parametrize(
    "sent", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)]
)
def test_a_signal_ends_all_and_says_how_to_go_on(
    made: Path, tmp_path: Path, sent: signal.Signals
) -> None:
    data = write_pictures(tmp_path / "many", 60)
    args = [made, "--data", data, "--scales", "17,24,30", "--crops", "8x8", "--batch", "1"]
    command = [sys.executable, "-m", "vggspec", "eval", *map(str, args), "--procs", "2"]
    env = os.environ | {"XDG_CACHE_HOME": str(tmp_path / "cache"), "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        command, env=env, text=True, stderr=subprocess.PIPE, start_new_session=True
    ) as child:
        while not (found := journals(tmp_path)) or found[0].stat().st_size < 2000:
            assert child.poll() is None
            time.sleep(0.01)
        os.killpg(child.pid, sent) if sent is signal.SIGINT else child.send_signal(sent)
        _, err = child.communicate(timeout=60)
    assert child.returncode == 128 + sent
    last = err.splitlines()[-1]
    match = re.fullmatch(r"interrupted after (\d+) of 240 images(?:; --resume continues)?", last)
    assert match, err
    assert "Traceback" not in err, err
    # What is said to be done is written down.
    assert len(journals(tmp_path)[0].read_bytes().splitlines()) >= int(match[1]) > 0
    while True:  # until nobody is left; the helper of multiprocessing is the last
        try:
            os.killpg(child.pid, 0)
        except ProcessLookupError:
            break
        time.sleep(0.01)


def test_tables_fit_80_columns(
    made: Path, tmp_path: Path, data: Path, evaluate: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    other = make(tmp_path / "b", of=weights(1)).path
    scales = ",".join(map(str, range(17, 40)))
    args = [made, other, "--data", data, "--scales", scales, "--limit", 2]
    done = evaluate(*args)
    assert max(map(len, done.out.splitlines())) <= 80
    assert done.out.splitlines()[-1] == "2 images of 2 classes"
    assert "without their standard errors; see --wide" in done.err
    cells = "".join(done.out.split())
    wide = evaluate(*args, "--wide").out
    assert len(wide.splitlines()) == 3
    assert " ± " in wide
    assert " ± " not in done.out
    for scale in (17, 39):
        assert str(scale) in cells


def test_explain_runs_nothing_and_counts_as_the_cost_does(
    tiny: Path, tmp_path: Path, data: Path, evaluate: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    (tiny / "1" / "model.safetensors").chmod(0)  # what is not read may not be readable
    args = ["--data", data, "--scales", "17,24", "--dense", "--crops", "2x2", "--explain"]
    done = evaluate(tiny, *args, "--table")
    assert (done.code, done.err) == (0, "")
    assert journals(tmp_path) == []
    assert "40 × 24" in done.out  # the median is 61 × 37
    assert "8 × 16 × 16" in done.out
    lowered = load_network(str(_spec(tmp_path)))
    crop = cost(lowered.network).macs
    found = re.search(r"crops 2×2 +8 × 16 × 16 +1 +([\d.]+) k", done.out)
    assert found is not None
    assert float(found[1]) == pytest.approx(8 * crop / 1e3, rel=0.01)
    assert "20 inputs" in done.out
    assert max(map(len, done.out.splitlines())) <= 80


def test_cost_and_time_are_told_before_it_runs(tiny: Path, data: Path, evaluate: Any) -> None:
    done = evaluate(tiny, "--data", data, "--scales", "17,24")
    assert done.code == 0
    *_, cost_line, time_line = done.err.splitlines()
    assert re.fullmatch(r"cost:   [\d.]+ [kM]MAC an image, [\d.]+ MMAC in all", cost_line)
    assert re.fullmatch(
        r"time:   about 0 s, at [\d.]+ images/s as measured on one image", time_line
    )


def test_images_that_cannot_be_tried_are_still_tested(
    tiny: Path, data: Path, evaluate: Any
) -> None:
    for file in data.glob("val/*/*.png"):
        file.write_bytes(file.read_bytes()[:60])  # the header is whole
    done = evaluate(tiny, "--data", data)
    assert done.code == 1
    assert "cost:" in done.err
    assert "time:" not in done.err
    assert "error[VGG" in done.err


def _spec(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.vgg"
    path.write_text(SPEC)
    return path


def test_a_bundle_without_its_spec_runs_all_the_same(made: Path, data: Path, evaluate: Any) -> None:
    done = evaluate(made, "--data", data)
    assert done.code == 0
    assert "cost:" not in done.err


def test_on_a_terminal_a_line_moves(
    made: Path, data: Path, evaluate: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    screen = StringIO()
    console = Console(file=screen, force_terminal=True, width=80)
    monkeypatch.setattr("rich.console.Console", lambda **_: console)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setattr(progress, "MOVES_S", 0.0)
    done = evaluate(made, "--data", data)
    assert done.code == 0
    assert "20/20 images" in screen.getvalue()
    lines = re.split(r"[\r\n]+", re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", "", screen.getvalue()))
    assert max(map(len, lines)) <= 80


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--crops", "5x4"], "square grid"),
        (["--crops", "0"], "square grid"),
        (["--crops", "65"], "square grid"),
        (["--scales", "0"], "is not sizes"),
        (["--stride", "0"], "--stride"),
        (["--limit", "0"], "--limit"),
        (["--procs", "2", "--gpus", "2"], "not both"),
        (["--gpus", "1", "--device", "cpu"], "--device cpu"),
        (["--average", "both"], "--average"),
    ],
)
def test_wrong_usage(made: Path, data: Path, evaluate: Any, args: list[str], words: str) -> None:
    done = evaluate(made, "--data", data, *args)
    assert (done.code, done.out) == (2, "")
    assert words in done.err


def test_more_gpus_than_there_are_is_the_environments_lack(
    made: Path, data: Path, evaluate: Any
) -> None:
    done = evaluate(made, "--data", data, "--gpus", 999)
    assert (done.code, done.out) == (3, "")
    assert "999 GPUs asked for" in done.err


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"labels": ["ant", "bee", "dog", "cat", "eel"]}, "VGG670"),
        ({"outputs.0.kind": "boxes", "labels": None}, "VGG526"),
        ({"outputs.0.kind": "scores"}, "VGG690"),
    ],
)
def test_nets_that_do_not_go_together(
    made: Path, tmp_path: Path, data: Path, evaluate: Any, change: dict[str, Any], code: str
) -> None:
    other = make(tmp_path / "b").path
    rewrite(other, change)
    done = evaluate(made, other, "--data", data)
    assert (done.code, done.out) == (1, "")
    assert code in done.err
    assert str(other) in done.err


def test_wrong_input_is_told(made: Path, tmp_path: Path, data: Path, evaluate: Any) -> None:
    done = evaluate(made, "--data", tmp_path / "none")
    assert (done.code, "VGG696" in done.err) == (1, True)
    done = evaluate(tmp_path / "none", "--data", data)
    assert (done.code, "VGG521" in done.err) == (1, True)
    (data / "val" / "cats").mkdir()
    done = evaluate(made, "--data", data)
    assert (done.code, "VGG691" in done.err) == (1, True)
    assert "the label most like `cats` is `cat`" in done.err


def test_a_net_that_answers_nan_is_named(tmp_path: Path, data: Path, evaluate: Any) -> None:
    broken = weights()
    broken["fc3.bias"] = np.full(5, np.nan, np.float32)
    path = make(tmp_path / "broken", of=broken).path
    done = evaluate(path, "--data", data)
    assert (done.code, done.out) == (1, "")
    assert "VGG528" in done.err
    assert str(path) in done.err


def test_it_runs_as_a_process_of_its_own(made: Path, data: Path, tmp_path: Path) -> None:
    """With child processes, which load the program again."""
    env = {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    done = process("eval", made, "--data", data, "--procs", "2", env=env)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "20 images of 4 classes"


def test_scores_of_each_class(made: Path, data: Path, evaluate: Any) -> None:
    done = evaluate(made, "--data", data, "--per-class")
    lines = done.out.splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith("class"))
    assert lines[at].split() == ["class", "images", "precision", "recall", "F1"]
    assert lines[-2].startswith("mean of the classes")
    assert lines[-1].startswith("calibration error")


def start_ranks(hosts: list[Path], *args: object) -> list[subprocess.Popen[str]]:
    """``vggspec eval`` as a rank on each host: a folder of its own, and a cache of its own."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return [
        subprocess.Popen(
            [sys.executable, "-m", "vggspec", "eval", *map(str, args)],
            cwd=host,
            env={
                **os.environ,
                "RANK": str(rank),
                "WORLD_SIZE": str(len(hosts)),
                "LOCAL_RANK": "0",
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": str(port),
                "XDG_CACHE_HOME": str(host / "cache"),
                "PYTHONPATH": str(ROOT),
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank, host in enumerate(hosts)
    ]


def hosts_with(net: Path, data: Path, tmp_path: Path, number: int) -> list[Path]:
    hosts = [tmp_path / f"host-{rank}" for rank in range(number)]
    for host in hosts:
        shutil.copytree(net, host / "tiny")
        shutil.copytree(data, host / "data")
    return hosts


def test_ranks_without_a_shared_disk_say_what_one_process_says(
    tiny: Path, data: Path, evaluate: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ["tiny", "--data", "data", "--device", "cpu", "--json"]
    hosts = hosts_with(tiny, data, tmp_path, 2)
    ranks = start_ranks(hosts, *options)
    found = [rank.communicate(timeout=120) for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0, 0], found
    assert found[1][0] == ""
    assert "data" not in found[1][1]  # rank 0 says it
    assert "net:    tiny" in found[0][1]
    monkeypatch.chdir(hosts[0])
    assert found[0][0] == evaluate(*options).out
    assert list(tmp_path.glob("host-*/cache/vggspec/evals/*")) == []


@pytest.mark.slow
def test_a_rank_that_is_killed_lacks_until_resume(
    tiny: Path, tmp_path: Path, evaluate: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = write_pictures(tmp_path / "data", 60)
    options = ["tiny", "--data", "data", "--device", "cpu", "--json", "--scales", "200,300"]
    hosts = hosts_with(tiny, data, tmp_path, 3)
    ranks = start_ranks(hosts, *options)
    journal = hosts[2] / "cache/vggspec/evals"
    while not any(each.stat().st_size for each in journal.glob("*.jsonl")):
        assert ranks[2].poll() is None
        time.sleep(0.05)
    ranks[2].kill()
    found = [rank.communicate(timeout=300) for rank in ranks]
    assert [rank.returncode for rank in ranks] == [1, 1, -signal.SIGKILL]
    assert re.search(r"VGG560(.|\n)* lack; lost: rank 2 \(silent for 6\d s\)", found[0][1])
    assert "VGG561" in found[1][1]

    ranks = start_ranks(hosts[:2], *options, "--resume")
    found = [rank.communicate(timeout=300) for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0, 0], found
    assert re.search(r"[1-9]\d* of 240 images were done before", found[0][1])
    monkeypatch.chdir(hosts[0])
    assert found[0][0] == evaluate(*options).out
