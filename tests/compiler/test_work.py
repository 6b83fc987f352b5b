"""What a spec may ask for: counted in work, since no test asserts times.

Each pattern fills a file; in each the work was once a product of two large numbers.
"""

from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest

from vggspec.base.diagnostic import Report
from vggspec.base.render import MAX_SHOWN, as_text
from vggspec.base.reports import MAX_REPORTS
from vggspec.base.source import Source
from vggspec.compiler import expand
from vggspec.compiler import lower as lowering
from vggspec.compiler.checking import check_source
from vggspec.compiler.ops.conv import Conv
from vggspec.lang.assembly import MAX_CLAIMS, MAX_NETS, MAX_SETTINGS
from vggspec.lang.loading import MAX_BYTES, read
from vggspec.lang.parser import MAX_WORDS, count_words

COLUMNS = "|" + "|".join(f"n{i}" for i in range(MAX_NETS)) + "|\n"


def _chain(layers: str, end: int) -> str:
    first = f"net n0\n{layers}FC-3\n"
    return first + "".join(f'net n{i}\nlike "x.vgg:n{i - 1}"\n' for i in range(1, end))


#: A text, and the most that is read of layers, settings and files for it.
PATTERNS = {
    "layers": "conv1-1 " * 32_000,
    "nets": "".join(f"net n{i}\nconv1-1 x4096\n" for i in range(MAX_NETS)),
    "errors": "cnv3\n" * 52_000,
    "errors within": "cnv3\n" * 4_000,
    "another error on each line": "".join(f"{i:b}q\nz{i:x}\n" for i in range(1_000)),
    "errors of one line": "cnv " * 65_000,
    "errors of a spanning column": COLUMNS + "|squiggle|\n" * 5_000,
    "a table": COLUMNS + ("|" + "|".join(["conv1-1 x64"] * MAX_NETS) + "|\n") * 60,
    "a spanning column": COLUMNS + "| conv1-1 x64 |\n" * 64,
    "claims": "net a\nFC-10\n" + "10M parameters\n" * 17_000,
    "claims within": "net a\nconv1-1 x4095\nFC-10\n" + "10M parameters\n" * 5_000,
    "claims of a table": COLUMNS + "|FC-10|\n" + "10M parameters\n" * 5_000,
    "settings": "net a\nFC-10\ntrain:\n" + "  rate 1e-2\n" * 20_000,
    "settings of a table": COLUMNS + "|FC-10|\ntrain:\n" + "  rate 1e-2\n" * 5_000,
    "options": "conv3-64(" + ", ".join(["pad 1"] * 30_000) + ")\n",
    "options of a table": COLUMNS + "|conv3-64(" + ", ".join(["q 1"] * 5_000) + ")|\n",
    "options of an input": COLUMNS + "|input 8x8 RGB(" + ", ".join(["q 1"] * 5_000) + ")|\n",
    "brackets": "conv3-64" + "(" * 200_000,
    "square brackets": "[" * 200_000,
    "brackets in brackets": "[" * 16 + "conv3-64 " * 16_000 + "]" * 16,
    "a bracket and spaces": "[1" + " " * 250_000,
    "branches": "[" + "conv3-64 + " * 8_000 + "conv3-64]",
    "brackets of a line": "[conv3-64 + identity] " * 3_000,
    "braces": "conv3-" + "{" * 200_000,
    "braces of a line": "conv3-{c} " * 5_000,
    "a brace": "conv3-{" + "c" * 200_000,
    "blocks": "".join(f"block b{i}:\n  conv3-64\n" for i in range(4_000)) + "FC-1\n",
    "blocks of blocks": "block b0:\n  conv1-1\n"
    + "".join(f"block b{i}:\n  b{i - 1} [b{i - 1} & b{i - 1}]\n" for i in range(1, 12))
    + "b11\nFC-1\n",
    "lines of a block": "block b:\n" + "  & conv3-64\n" * 5_000 + "b\nFC-1\n",
    "rows": "| layer | c |\n" + "| conv3-64 | 1 |\n" * 2_000,
    "columns": "| layer" + " | c" * 8_000 + " |\n",
    "named rows": "|name" + COLUMNS + "|c| conv3-64 BN |\n" * 2_000,
    "bold": "**" * 100_000,
    "quotes": 'like "' + '"' * 200_000,
    "bars": "|" * 250_000,
    "spaces": "conv3-64" + " " * 250_000 + "maxpool\n",
    "dashes": "conv3–64 " * 20_000,
    "comments": "#" * 250_000,
    "lines": "\n" * 260_000,
    "tabs": "\t" * 250_000 + "conv\n",
    "repeats": "conv3-64 x" + "9" * 190,
    "digits": "9" * 200_000,
    "marks": "cönv3-64" + "\u0301" * 120_000,
    "inputs": "input 224x224 RGB(mean 1 2 3)\n" * 8_000,
    "likes": _chain("conv1-1\n" * 4_000, 64),
    "likes of little": _chain("conv1-1\n" * 20, 64),
    "likes with a comment": _chain("conv1-1 x4000\n", 64) + "# " + "x" * 200_000,
}


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often a layer is read, counted and its shape inferred, and a file is read."""
    done: Counter[str] = Counter()

    def counted(name: str, call):  # type: ignore[no-untyped-def]
        def counting(*args):  # type: ignore[no-untyped-def]
            done[name] += 1
            return call(*args)

        return counting

    monkeypatch.setattr(lowering, "MAX_LAYERS_TOGETHER", 5000)  # a quarter: tests are to be quick
    monkeypatch.setattr(expand, "find", counted("words", expand.find))
    monkeypatch.setattr(expand.Expansion, "_counted", counted("lists", expand.Expansion._counted))
    monkeypatch.setattr(lowering, "read", counted("files", lowering.read))
    monkeypatch.setattr(Conv, "infer", counted("shapes", Conv.infer))
    return done


def _reports(path: Path) -> tuple[Report, ...]:
    return check_source(read(path)).reports


@pytest.mark.parametrize("name", PATTERNS)
def test_work_is_bounded(name: str, tmp_path: Path, work: Counter[str]) -> None:
    path = tmp_path / "x.vgg"
    path.write_text(PATTERNS[name][:MAX_BYTES])
    if path.stat().st_size > MAX_BYTES:
        path.write_bytes(path.read_bytes()[:200_000].decode("utf-8", "ignore").encode())
    reports = _reports(path)
    assert work["words"] <= MAX_WORDS
    assert work["lists"] <= MAX_WORDS
    assert work["shapes"] <= lowering.MAX_LAYERS_TOGETHER
    assert work["files"] <= 1
    assert len(reports) <= MAX_REPORTS + 1
    text = as_text(reports)
    assert text.count("error[") <= MAX_SHOWN
    assert len(text) < 200_000


def test_a_chain_is_read_once(tmp_path: Path, work: Counter[str]) -> None:
    """Of 16 nets that are like each other the one with layers is read once."""
    path = tmp_path / "x.vgg"
    path.write_text(_chain("conv1-1\n" * 100, 17))
    assert not _reports(path)
    del work["lists"]
    assert work == {"words": 101, "files": 1, "shapes": 17 * 100}


def test_layers_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lowering, "MAX_LAYERS_TOGETHER", 400)
    path = tmp_path / "x.vgg"
    path.write_text("".join(f"net n{i}\nconv1-1 x100\n" for i in range(4)))
    assert not _reports(path)
    path.write_text(path.read_text() + "net last\nconv1-1\n")
    (found,) = _reports(path)
    assert found.what.code == "VGG130"
    assert "401 layers, more than 400" in found.what.title()


def test_files_reached_by_like(tmp_path: Path) -> None:
    """Each file counts once, and all together are no more than one file may hold."""
    for i in range(3):
        (tmp_path / f"b{i}.vgg").write_text("FC-3\n" + f"# {'x' * 99_000}\n")
    path = tmp_path / "x.vgg"
    path.write_text("".join(f'net n{i}\nlike "b{i % 2}.vgg"\n' for i in range(20)))
    assert not _reports(path)
    path.write_text("".join(f'net n{i}\nlike "b{i}.vgg"\n' for i in range(3)))
    (found,) = _reports(path)
    assert found.what.code == "VGG131"
    assert f"bytes, more than {MAX_BYTES}" in found.what.title()


def test_a_long_chain_of_files(tmp_path: Path) -> None:
    for i in range(300):
        (tmp_path / f"{i}.vgg").write_text(f'like "{i + 1}.vgg"\n')
    assert [one.what.code for one in _reports(tmp_path / "0.vgg")] == ["VGG129"]


def test_too_long_a_chain_says_nothing_of_its_parts(tmp_path: Path) -> None:
    """What was found on the way through too many nets does not hold for a net on the way."""
    names = [f"n{i}" for i in range(20)]
    lines = [f'net {name}\nlike "x.vgg:{other}"\n' for name, other in pairwise(names)]
    path = tmp_path / "x.vgg"
    path.write_text("".join(lines) + "net n19\nFC-3\n")
    assert [one.what.code for one in _reports(path)] == ["VGG129"] * 3  # n0, n1 and n2


def test_words_are_counted_without_comments() -> None:
    text = 'conv3-64(pad 1) # a b c\n| a | **b** |\nlike "a b#c" up to fc7\n'
    assert count_words(Source("x.vgg", text)) == 5 + 7 + 5


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("FC-10\n" + "10 parameters\n" * (MAX_CLAIMS + 1), "VGG018"),
        ("FC-10\ntrain:\n" + "  rate 1\n" * (MAX_SETTINGS + 1), "VGG018"),
        ("maxpool\n" * (MAX_WORDS + 1), "VGG016"),
        ("conv3\n" * (MAX_REPORTS + 1), "VGG017"),
    ],
)
def test_a_limit_says_what_was_found(text: str, code: str) -> None:
    (found,) = [
        one.what for one in check_source(Source("x.vgg", text)).reports if one.what.code == code
    ]
    limit = found.limit  # type: ignore[attr-defined]
    assert str(limit) in found.title()
    assert code == "VGG017" or str(limit + 1) in found.title()
