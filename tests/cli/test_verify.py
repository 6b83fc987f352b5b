"""``vggspec verify``: its options, exit codes and text. The library's tests verify bundles."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.engines import stand_in
from tests.nets import SMALL, net, random_weights
from tests.runtime.bundles import make
from tests.runtime.test_compatibility import BARE
from vggspec.bundle.manifest import Manifest
from vggspec.bundle.options import CompileOptions
from vggspec.cli import run
from vggspec.cli.verify import HEADINGS, print_verification
from vggspec.compiler.bundling.graph import write_bundle
from vggspec.compiler.ranges import OutOfRange, Ranges
from vggspec.runtime import machine
from vggspec.studies.verification.arithmetic import ArithmeticCheck
from vggspec.studies.verification.comparison import Figures
from vggspec.studies.verification.verification import Comparison, Verification

Capture = pytest.CaptureFixture[str]

FIGURES = Figures(
    images=8, error=6.5e-4, max_abs=1.9e-4, mean_abs=9.2e-7, cosine=0.999999,
    top1=8, top5=8, tied=0, saturated=0, is_finite=True, errors={"score_map": 6.5e-4},
    where="score_map, image 0, class 3",
)  # fmt: skip


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return make(tmp_path_factory.mktemp("any") / "small", precision="fp16").manifest


@pytest.fixture
def verification(manifest: Manifest) -> Verification:
    shapes = [(0, "min", (1, 256, 256)), (0, "max", (8, 256, 512)), (1, "max", (8, 512, 256))]
    return Verification(
        bundle="bundles/of/quite/some/depth/D-fp16",
        manifest=manifest,
        against="onnxrt",
        device="cpu",
        tolerance=4.3e-3,
        comparisons=tuple(
            Comparison(profile=profile, point=point, shape=shape, figures=FIGURES)
            for profile, point, shape in shapes
        ),
        arithmetic=ArithmeticCheck(stated="fp16", layers=16, run=16),
        ranges=Ranges(beyond=(), small=(), keep_fp32=()),
    )


@pytest.fixture
def text_of(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    def text(found: Verification, columns: int = 80) -> str:
        monkeypatch.setenv("COLUMNS", str(columns))
        print_verification(found)
        out, err = capsys.readouterr()
        assert max(map(len, out.splitlines())) <= columns
        return err + out

    return text


def changed(found: Verification, **figures: object) -> Verification:
    """With other figures in the second comparison."""
    first, second, *rest = found.comparisons
    second = replace(second, figures=replace(second.figures, **figures))
    return replace(found, comparisons=(first, second, *rest))


def words(text: str) -> str:
    return " ".join(text.split())


def test_all_agree(verification: Verification, text_of: Callable[..., str]) -> None:
    out = text_of(verification)
    assert "D-fp16: its fp16 graph on the CPU against its fp32 graph in ONNX Runtime" in words(out)
    lines = out.splitlines()
    head = next(line for line in lines if line.startswith("profile"))
    assert head.split() == list(HEADINGS[:-1])
    assert "0 max    8 × 256 × 512  6.5e-04  1.9e-04  9.2e-07  0.999999  8/8    8/8    ok" in lines
    assert lines[-1] == "All 24 images agree: no error beyond 4.3e-03."
    assert "Not" not in out


def test_columns_that_do_not_fit_are_named(
    verification: Verification, text_of: Callable[..., str]
) -> None:
    tied = changed(verification, tied=2, saturated=3)
    out = text_of(tied)
    assert "ok, 2 tied, 3 saturated" in out
    assert "note:   2 columns left out: mean, largest; see --wide" in out
    assert "9.2e-07" not in out
    assert "9.2e-07" in text_of(tied, 120)
    assert "posteriors of all classes but one are too small to compare: compile" in words(out)
    assert "For 3 images" in out


def test_the_worst_is_placed(verification: Verification, text_of: Callable[..., str]) -> None:
    out = text_of(changed(verification, error=8e-3))
    assert "beyond" in out
    assert out.splitlines()[-2:] == [
        "1 of 3 rows beyond 4.3e-03. The worst is profile 0 at 8 × 256 × 512:",
        "score_map, image 0, class 3, error 8.0e-03",
    ]
    assert "agree" not in out
    out = text_of(changed(verification, error=math.inf, is_finite=False))
    assert "not finite" in out
    assert "error inf" in out


def test_arithmetic_that_was_not_run_is_not_certified(
    verification: Verification, text_of: Callable[..., str]
) -> None:
    part = replace(verification, arithmetic=ArithmeticCheck(stated="fp16", layers=16, run=4))
    out = words(text_of(part))
    assert "Not certified: fp16 arithmetic was not run." in out
    assert "ONNX Runtime computes 12 of the 16 fp16 layers in fp32 here." in out
    assert "No error beyond 4.3e-03 in 24 images, in the arithmetic that was run." in out
    assert "agree" not in out


def test_numbers_beyond_their_type_have_a_remedy(
    verification: Verification, text_of: Callable[..., str]
) -> None:
    beyond = tuple(
        OutOfRange(layer=f"conv{i}_1", what="output", largest=1.48e5, precision="fp16", limit=65504)
        for i in range(9)
    )
    kept = ("conv0_1", "conv1_1")
    found = replace(verification, ranges=Ranges(beyond=beyond, small=(), keep_fp32=kept))
    assert not found.passed
    out = text_of(found)
    assert "In fp32 `conv5_1` reaches 1.48e+05, and fp16 ends at 65504." in out
    assert "So do 3 more layers." in out
    assert "Compile it with `--keep-fp32 conv0_1 --keep-fp32 conv1_1`." in out


def test_pictures_have_no_shape(verification: Verification, text_of: Callable[..., str]) -> None:
    pictures = tuple(
        Comparison(profile=profile, point="a.jpg", shape=None, figures=FIGURES)
        for profile in (0, None)
    )
    out = text_of(replace(verification, comparisons=pictures))
    assert "\nnone     8 " in out
    failed = changed(replace(verification, comparisons=pictures), error=1.0)
    assert "The worst is a.jpg:" in text_of(failed)


def test_a_whole_run(tmp_path: Path, capsys: Capture) -> None:
    lowered = net(SMALL)
    weights = random_weights(lowered, tmp_path / "weights.safetensors")
    write_bundle(lowered, weights, tmp_path / "bundle", CompileOptions())
    bundle = str(tmp_path / "bundle")
    assert run(["verify", bundle, "--device", "cpu", "--seed", "3"]) == 0
    assert "images agree" in capsys.readouterr().out
    assert run(["verify", bundle, "--device", "cpu", "--tolerance", "1e-30", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert (found["bundle"], found["against"], found["device"]) == (bundle, "torch", "cpu")
    assert (found["tolerance"], found["passed"]) == (1e-30, False)
    assert [row["point"] for row in found["rows"]][:2] == ["min", "opt"]
    assert list(found) == [
        *("bundle", "against", "device", "tolerance", "rows", "passed", "arithmetic"),
        *("overflow", "out_of_range", "keep_fp32"),
    ]


def test_an_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    stand_in(tmp_path / "engine")
    monkeypatch.setattr(machine, "this_machine", lambda: BARE)
    assert run(["verify", str(tmp_path / "engine")]) == 3
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert "vggspec doctor" in err
    assert run(["verify", str(tmp_path / "engine"), "--device", "cpu"]) == 2
    assert "TensorRT engine" in capsys.readouterr().err
