"""``vggspec check``: exit codes, forms of output, several files, and input meant to hurt."""

import json
import os
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.cli.run import vggspec
from vggspec.lang.loading import MAX_BYTES

resource = pytest.importorskip("resource", reason="limits are set with POSIX calls")

GOOD = "conv3-8\nmaxpool\nFC-10\nsoft-max\n"
BAD = "conv3-8\nmaxpol\nFC-10\nconv 3-8\n"

CPU_SECONDS = 60
MEMORY_BYTES = 1 << 30
LIMITS = {"RLIMIT_CPU": CPU_SECONDS, "RLIMIT_AS": MEMORY_BYTES}


def _limited(*args: str | Path, stdin: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
    """Run the command with bounded time and memory; past either, the system ends it."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))

    if stdin is None:
        done = vggspec("check", *args, limits=LIMITS)
        out, err = done.stdout.encode(), done.stderr.encode()
        return subprocess.CompletedProcess(done.args, done.returncode, out, err)
    command = [sys.executable, "-m", "vggspec", "check", *map(str, args)]
    return subprocess.run(command, input=stdin, capture_output=True, check=False, preexec_fn=limit)


def _codes_of(text: str, path: Path) -> list[str]:
    """The codes that a file's text is reported with, under limits."""
    path.write_text(text, "utf-8")
    result = _limited("--format", "json", path)
    assert result.returncode == 1, result.stderr.decode()
    assert result.stderr == b""
    return [report["code"] for report in json.loads(result.stdout)]


@pytest.fixture
def good(tmp_path: Path) -> Path:
    path = tmp_path / "good.vgg"
    path.write_text(GOOD)
    return path


@pytest.fixture
def bad(tmp_path: Path) -> Path:
    path = tmp_path / "bad.vgg"
    path.write_text(BAD)
    return path


def test_good(good: Path) -> None:
    result = vggspec("check", good)
    assert (result.returncode, result.stdout, result.stderr) == (0, f"{good}: good\n", "")


def test_bad(bad: Path) -> None:
    result = vggspec("check", bad)
    assert result.returncode == 1
    assert result.stderr == ""
    assert f" --> {bad}:2:1\n" in result.stdout
    assert result.stdout.endswith("\n2 mistakes\n")
    assert "\033[" not in result.stdout


def test_shipped_specs_are_good(specs: Path) -> None:
    paths = sorted(specs.glob("*.vgg"))
    result = vggspec("check", *paths)
    assert (result.returncode, result.stderr) == (0, "")
    assert len(result.stdout.splitlines()) == len(paths)
    assert "table1.vgg: A, A-LRN, B, C, D, E\n" in result.stdout


def test_several_files_are_all_reported(good: Path, bad: Path, tmp_path: Path) -> None:
    result = vggspec("check", bad, tmp_path / "none.vgg", good)
    assert result.returncode == 1
    assert result.stderr == ""
    assert result.stdout.startswith(f"{good}: good\n")
    assert "VGG010" in result.stdout
    assert result.stdout.endswith("\n3 mistakes\n")


def test_json(good: Path, bad: Path) -> None:
    result = vggspec("check", "--format", "json", good, bad)
    assert result.returncode == 1
    assert result.stderr == ""
    found = json.loads(result.stdout)
    assert [(one["code"], one["span"]["start"]) for one in found] == [
        ("VGG101", {"line": 2, "column": 1, "offset": 8}),
        ("VGG001", {"line": 4, "column": 6, "offset": 26}),
    ]
    assert {one["file"] for one in found} == {str(bad)}
    assert found[0]["help"] == "did you mean `maxpool`?"
    assert json.loads(vggspec("check", "--format", "json", good).stdout) == []


def test_github(bad: Path, good: Path) -> None:
    result = vggspec("check", "--format", "github", bad)
    assert result.returncode == 1
    first, second = result.stdout.splitlines()
    assert first.startswith(f"::error file={bad},line=2,col=1,endLine=2,endColumn=7,title=VGG101::")
    assert "line=4,col=6" in second
    assert vggspec("check", "--format", "github", good).stdout == ""


def test_standard_input() -> None:
    result = vggspec("check", "-", stdin=GOOD)
    assert (result.returncode, result.stdout) == (0, "-: stdin\n")
    result = vggspec("check", "-", stdin=BAD)
    assert result.returncode == 1
    assert " --> <stdin>:2:1\n" in result.stdout


def test_one_net_of_several(tmp_path: Path) -> None:
    path = tmp_path / "two.vgg"
    path.write_text("net A\nFC-10\nnet B\nmaxpol\n")
    assert vggspec("check", f"{path}:A").returncode == 0
    assert vggspec("check", f"{path}:b").returncode == 1
    result = vggspec("check", f"{path}:AA")
    assert result.returncode == 1
    assert "VGG122" in result.stdout
    assert "it has A, B" in result.stdout


def test_folder(tmp_path: Path, good: Path) -> None:
    result = vggspec("check", tmp_path)
    assert result.returncode == 1
    assert "VGG011" in result.stdout
    assert "such as `good.vgg`" in result.stdout


def test_missing_file(tmp_path: Path, good: Path) -> None:
    result = vggspec("check", "god.vgg", cwd=tmp_path)
    assert result.returncode == 1
    assert "VGG010" in result.stdout
    assert "did you mean `good.vgg`?" in result.stdout


def test_wrong_usage() -> None:
    assert vggspec("check").returncode == 2
    assert vggspec("check", "--format", "xml", "a.vgg").returncode == 2


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "VGG008"),
        (b"\n\n", "VGG008"),
        (b"\x89PNG\r\n\x1a\n\0\0", "VGG012"),
        (b"\xff\xfe", "VGG012"),
        (os.urandom(4096) + b"\xff", "VGG012"),
        (b"#" * (MAX_BYTES + 1), "VGG013"),
    ],
    ids=["empty", "blank", "picture", "utf-16", "random", "large"],
)
def test_bytes(data: bytes, code: str, tmp_path: Path) -> None:
    path = tmp_path / "x.vgg"
    path.write_bytes(data)
    for result in (_limited(path), _limited("-", stdin=data)):
        assert result.returncode == 1
        assert code.encode() in result.stdout
        assert b"Traceback" not in result.stderr


@pytest.mark.parametrize("ending", [b"\r\n", b"\r", b"\n"])
def test_line_endings(ending: bytes, tmp_path: Path) -> None:
    path = tmp_path / "x.vgg"
    path.write_bytes(b"\xef\xbb\xbf" + ending.join([b"conv3-8", b"maxpol", b"FC-10"]))
    assert f"{path}:2:1" in _limited(path).stdout.decode()


def test_devices_and_pipes_do_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.vgg")
    for path in ("/dev/zero", "/dev/stdin", tmp_path / "pipe.vgg"):
        result = _limited(path, stdin=b"")
        assert result.returncode == 1
        assert b"VGG014" in result.stdout


def test_endless_standard_input() -> None:
    with open("/dev/zero", "rb") as zero:
        result = subprocess.run(
            [sys.executable, "-m", "vggspec", "check", "-"], stdin=zero, capture_output=True
        )
    assert result.returncode == 1
    assert b"VGG013" in result.stdout


def test_links_in_a_circle(tmp_path: Path) -> None:
    (tmp_path / "a.vgg").symlink_to("a.vgg")
    result = _limited(tmp_path / "a.vgg")
    assert result.returncode == 1
    assert b"VGG015" in result.stdout


def test_name_of_undecodable_bytes(tmp_path: Path) -> None:
    path = os.fsencode(tmp_path) + b"/\xff.vgg"
    for text, form in ((BAD, "text"), (BAD, "json"), (BAD, "github"), (GOOD, "text")):
        with open(path, "w") as file:
            file.write(text)
        command = [sys.executable, "-m", "vggspec", "check", "--format", form, path]
        result = subprocess.run(command, capture_output=True, check=False)
        assert result.returncode == (text == BAD)
        assert b"Traceback" not in result.stderr


MISTAKES = [
    "maxpol", "conv 3-8", "FC 10", "softmax", "conv3–8", "conv3-8(padding 1)", "conv0-8",
    "conv3-8(pad 1", "max pool", "conv3-8 x0", "conv8", "LRN(n 4)", "conv2-8", "**conv3-8",
    "like D.vgg", "input 8", "20 layers", "dropout 0.5", "conv3-8 as {}x", "batch 64", "tanh",
]  # fmt: skip


def test_a_thousand_lines_with_fifty_mistakes(tmp_path: Path) -> None:
    """Each is reported once, at its line, and nothing else is."""
    lines = ["conv3-8"] * 940 + ["# a comment", ""] * 5 + ["FC-10(linear)"] * 50
    rng = random.Random(1409_1556)
    wrong = sorted(rng.sample(range(len(lines)), 50))
    for i, number in enumerate(wrong):
        lines[number] = MISTAKES[i % len(MISTAKES)].format(i)
    path = tmp_path / "long.vgg"
    path.write_text("\n".join(lines), "utf-8")
    result = vggspec("check", "--format", "json", path)
    assert result.returncode == 1
    found = Counter(report["span"]["start"]["line"] for report in json.loads(result.stdout))
    assert found == Counter(number + 1 for number in wrong)
    assert vggspec("check", path).stdout.endswith("\n50 mistakes\n")


@pytest.mark.parametrize(
    ("text", "codes"),
    [
        ("conv3-999999999\n", {"VGG103"}),
        ("input 100000x100000\nFC-4096\n", {"VGG103"}),
        ("input 65536x65536\nFC-4096\n", {"VGG206"}),
        ("conv3-1048576 x2\n", {"VGG206"}),
        ("conv3-8 x1000000000\nFC-10\n", {"VGG111"}),
        ("conv3-8 x" + "9" * 150 + "\nFC-10\n", {"VGG111"}),
        ("conv3-" + "9" * 100_000 + "\n", {"VGG024"}),
        ("FC-10\n" + "9" * 100_000 + " parameters\n", {"VGG024"}),
        ("input 8x8(mean " + "1" * 100_000 + ")\nFC-10\n", {"VGG024"}),
        ("FC-10\ntrain:\n  rate " + "1" * 100_000 + "\n", {"VGG024"}),
        ("FC-10\ntrain:\n  batch " + "1" * 190 + "\n", {"VGG403", "VGG402"}),
        ('like "' + "../" * 30_000 + 'D.vgg"\n', {"VGG024"}),
        ("conv3-8 " * 16_000, {"VGG111"}),
        ("conv3-8 " * 30_000, {"VGG016"}),
        ("q " * 16_000, {"VGG101", "VGG017"}),
        ("q " * 60_000, {"VGG016"}),
        ("maxpool1\n" * 16_000, {"VGG111"}),
        ("a(\n" * 8_000, {"VGG001", "VGG017"}),
        ("|" * 16_000, {"VGG007"}),
        ("|" * 200_000, {"VGG016"}),
        ("conv3-8(" + "pad 1," * 5_000, {"VGG001"}),
        ("#\n" * 100_000, {"VGG008"}),
        (" " * 200_000 + "q", {"VGG101"}),
        ("conv" + " " * 200_000 + "3-8", {"VGG001", "VGG020"}),
        ('"' * 16_001, {"VGG001"}),
        ('"' * 200_001, {"VGG016"}),
        ("(" * 16_000, {"VGG001"}),
        ("*" * 16_000, {"VGG001"}),
        ("FC-10\ntrain:\n" + "  lr 1\n" * 8_000, {"VGG401", "VGG018"}),
        ("FC-10\ntrain:\n  scale " + "1," * 8_000, {"VGG402"}),
        ("FC-10\n" + "2 weight layers\n" * 5_000, {"VGG117", "VGG018"}),
        ("|" + "|".join(f"n{i}" for i in range(5000)) + "|\n|FC-10|\n", {"VGG023"}),
        ("\n".join(f"net n{i}\nFC-10" for i in range(5000)), {"VGG023"}),
        ("x" * (MAX_BYTES * 4), {"VGG013"}),
        ("conv3-8\n" * 60_000, {"VGG013"}),
    ],
    ids=lambda value: repr(value)[:30] if isinstance(value, str) else "",
)  # fmt: skip
def test_absurd_sizes(text: str, codes: set[str], tmp_path: Path) -> None:
    found = set(_codes_of(text, tmp_path / "x.vgg"))
    assert found
    assert found <= codes


def test_a_table_of_many_long_nets(tmp_path: Path) -> None:
    """The largest work that a file can ask for: 64 nets of a spanning column."""
    names = "|".join(f"n{i}" for i in range(64))
    path = tmp_path / "x.vgg"
    path.write_text(f"|{names}|\n" + "|maxpool1|\n" * 250 + "|FC-10|\n")
    assert _limited(path).returncode == 0
    found = _codes_of(f"|{names}|\n" + "|squiggle|\n" * 5_000, path)
    assert set(found) == {"VGG101", "VGG017"}


def test_long_reports_are_short(tmp_path: Path) -> None:
    """The text of a mistake does not grow with the line that it is on."""
    path = tmp_path / "x.vgg"
    path.write_text("conv3-8 " * 1000 + "q " * 500)
    assert len(_limited(path).stdout) < 500 * 1000


def test_like_oneself(tmp_path: Path) -> None:
    assert _codes_of('like "a.vgg"\n', tmp_path / "a.vgg") == ["VGG124"]


def test_like_in_a_circle_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "b.vgg").symlink_to("a.vgg")
    assert _codes_of('like "b.vgg"\nFC-10\n', tmp_path / "a.vgg") == ["VGG124"]


def test_like_in_a_circle_of_three(tmp_path: Path) -> None:
    for name, other in (("a", "b"), ("b", "c"), ("c", "b")):
        (tmp_path / f"{name}.vgg").write_text(f'like "{other}.vgg"\nFC-10\n')
    for name in "abc":
        result = _limited(tmp_path / f"{name}.vgg")
        assert result.returncode == 1
        assert b"VGG124" in result.stdout


def test_like_for_ever(tmp_path: Path) -> None:
    for i in range(40):
        (tmp_path / f"n{i}.vgg").write_text(f'like "n{i + 1}.vgg"\nFC-10\n')
    (tmp_path / "n40.vgg").write_text("FC-10\n")
    assert b"VGG129" in _limited(tmp_path / "n0.vgg").stdout
    assert _limited(tmp_path / "n30.vgg").returncode == 0


def test_like_special_files(tmp_path: Path) -> None:
    for path in ("/dev/zero", "."):
        assert _codes_of(f'like "{path}"\nFC-10\n', tmp_path / "a.vgg") == ["VGG127"]


def test_reader_that_has_seen_enough(tmp_path: Path) -> None:
    """``vggspec check ... | head -1`` ends without a traceback."""
    path = tmp_path / "x.vgg"
    path.write_text("q\n" * 4000)
    process = subprocess.Popen(
        [sys.executable, "-m", "vggspec", "check", "--format", "json", path],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr is not None
    assert b"Traceback" not in process.stderr.read()
    process.stderr.close()
    process.wait()
