"""``vggspec bench``: its options and text. The library's tests measure."""

import os
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.runtime.bundles import make
from vggspec.base.catalogue.artefacts import CannotWrite
from vggspec.base.diagnostic import VggspecError, report
from vggspec.base.watcher import Progress, Watcher
from vggspec.cli import run
from vggspec.cli.bench_shown import print_bench
from vggspec.studies.bench.layers import LayerTime, LayerTimes
from vggspec.studies.bench.plot import draw
from vggspec.studies.bench.result import (
    Agreement,
    Bench,
    Candidate,
    Conditions,
    Measurement,
    Recorded,
)

Capture = pytest.CaptureFixture[str]
GOLDEN = Path(__file__).parents[1] / "golden" / "bench" / "two-engines.txt"


def candidate(device: str) -> Candidate:
    return Candidate(
        name="bundles/of/quite/some/depth/D", device=device, net="D", precision="fp32",  # type: ignore[arg-type]
        is_random=False, load_s=0.0631, idle_bytes=80 << 20, peak_bytes=1200 << 20,
    )  # fmt: skip


def measured(index: int, factor: float, **more: object) -> Measurement:
    turns = tuple((factor * (0.1 + 0.0001 * i),) for i in range(120))
    return Measurement(
        candidate=index, shape=(1, 224, 224), first_s=0.2, turns=turns, cpu_s=0.2 * factor,
        macs=15_470_264_320, peak_flops=4.5e11, share_of_peak=0.61 / factor, **more,  # type: ignore[arg-type]
    )  # fmt: skip


LAYERS = LayerTimes(
    layers=(
        LayerTime(
            layers=("conv1_1", "relu1_1"), kind="Conv", seconds=2e-3, macs=86704128, bytes=14 << 20
        ),
        LayerTime(layers=("pool1",), kind="MaxPool", seconds=1e-3, macs=0, bytes=15 << 20),
    ),
    others={"ReorderOutput": 1e-5}, between_s=1e-4, run_s=3.11e-3, untimed=("drop6",),
)  # fmt: skip


@pytest.fixture
def found() -> Bench:
    same = Agreement(against=0, images=8, top1=8, max_difference=1.5e-7, is_finite=True)
    return Bench(
        conditions=Conditions(
            processor="Some CPU, avx2", processors=2, threads=None, load=0.1, versions={},
            images="synthetic",
        ),
        candidates=(candidate("cpu"), candidate("openvino")),
        measurements=(measured(0, 1.0, layers=LAYERS), measured(1, 0.8, agreement=same)),
        recorded=(Recorded(name="D", seconds={"cpu": 0.1, "openvino": 0.08}, device="openvino"),),
        is_complete=True,
    )  # fmt: skip


def test_the_tables(
    found: Bench, capsys: Capture, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    print_bench(found)
    out, err = capsys.readouterr()
    assert max(map(len, out.splitlines())) <= 80
    if request.config.getoption("--update-golden"):
        GOLDEN.parent.mkdir(exist_ok=True)
        GOLDEN.write_text(out + err, "utf-8")
    assert out + err == GOLDEN.read_text("utf-8")


def test_what_is_doubtful_is_said(found: Bench, capsys: Capture) -> None:
    first, second = found.measurements
    assert second.agreement is not None
    few = replace(first, turns=((0.1,), (0.2,), (0.1,)))
    wrong = replace(second, agreement=replace(second.agreement, top1=5), turns=second.turns[:3])
    conditions = replace(found.conditions, load=3.2, images="photos")
    print_bench(replace(found, measurements=(few, wrong), conditions=conditions))
    out = " ".join(capsys.readouterr().out.split())
    assert "100?" in out
    assert "p90 takes 10 runs" in out
    assert "5/8" in out
    assert "Other classes or no finite numbers: bundles/of/quite/some/depth/D on openvino" in out
    assert "on pictures of photos" in out
    assert "The machine is busy: 3.2 processes" in out


def test_a_name_that_is_no_text_is_drawn(found: Bench, tmp_path: Path) -> None:
    first, second = found.candidates
    odd = replace(second, name=os.fsdecode(b"bundles/caf\xe9\x01"))
    draw(replace(found, candidates=(first, odd)), tmp_path / "bench.svg")
    ET.parse(tmp_path / "bench.svg")


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--shape", "224"], "rows x columns"),
        (["--batch", "1,x"], "numbers of images"),
        (["--device", "cpu,gpu"], "'gpu' is not one of auto, cpu"),
        (["--device", "cpu,cpu"], "a device is named twice"),
        (["--device", "cpu", "--plot", "bench.jpg"], "PNG, PDF or SVG"),
    ],
)
def test_usage(args: list[str], said: str, tmp_path: Path, capsys: Capture) -> None:
    make(tmp_path / "b")
    assert run(["bench", str(tmp_path / "b"), *args]) == 2
    assert said in " ".join(capsys.readouterr().err.split())


def test_the_table_is_printed_before_the_picture_is_drawn(
    found: Bench, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def bench(bundles: object, *, finish: Any, watch: Watcher, **_: object) -> Bench:
        watch.progress(Progress(doing="measuring", done=1, total=2, unit="turns"))
        finish(found)
        raise VggspecError(report(CannotWrite(reason="no space left"), path="bench.png"))

    monkeypatch.setattr("vggspec.studies.bench.bench.bench", bench)
    assert run(["bench", "b", "--plot", str(tmp_path / "bench.png")]) == 1
    out, err = capsys.readouterr()
    assert "images/s" in out
    assert "no space left" in err


def test_no_such_bundle(tmp_path: Path, capsys: Capture) -> None:
    assert run(["bench", str(tmp_path / "none"), "--device", "cpu"]) == 1
    assert "VGG" in capsys.readouterr().err
