"""What every mistake looks like: one golden text a case, found by folder."""

import re
from collections import Counter
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from tests.conftest import GOLDEN
from vggspec.base.catalogue import by_code
from vggspec.base.diagnostic import Diagnostic, Report
from vggspec.base.render import as_text
from vggspec.base.source import Source
from vggspec.compiler.checking import check_source, check_target

FOLDER = GOLDEN / "diagnostics"
CASES = sorted(FOLDER.glob("*.vgg"))
CODES = by_code()

#: What a spec alone can provoke; the rest is about files, options, or weights.
OF_A_SPEC = [code for code in CODES if re.match(r"VGG(00|02|03|04|1|2|40)", code)]
NEED_MORE = {
    "VGG122": "a net named on the command line; in `like` it is VGG127",
    "VGG123": "a command that wants one net; in `like` it is VGG127",
    "VGG132": "another file; see tests/lang/test_loading.py",
    "VGG209": "another input size",
    "VGG158": "another file with a block of the same name",
    "VGG261": "a compiled net; see tests/compiler/test_sizes.py",
    "VGG262": "an image",
    "VGG263": "a profile",
    "VGG264": "a graph with the test protocol",
    "VGG160": "a net to merge, and its weights; see tests/compiler/merging",
    "VGG161": "as VGG160",
    "VGG131": "another file, larger than a golden should be",
    **dict.fromkeys(
        ("VGG243", "VGG270", "VGG271", "VGG272", "VGG273", "VGG274"),
        "an option of a compilation; see tests/compiler/passes/test_graphs.py",
    ),
    "VGG407": "the other net, which training opens",
    "VGG408": "weights named on the command line",
}


@cache
def _reports(path: Path) -> tuple[Report, ...]:
    return check_target(str(path)).reports


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_golden(path: Path, golden: Callable[[str, str], None]) -> None:
    text = as_text(_reports(path)).replace(str(path), "$FILE").replace(str(FOLDER), "$FOLDER")
    assert path.name[:6] in text
    golden(f"diagnostics/{path.stem}.txt", f"{text}\n")


def test_goldens_have_cases() -> None:
    assert {path.stem for path in FOLDER.glob("*.txt")} == {path.stem for path in CASES}


@pytest.mark.parametrize("code", [code for code in OF_A_SPEC if code not in NEED_MORE])
def test_every_code_has_a_case(code: str) -> None:
    assert any(path.name.startswith(code) for path in CASES)


def test_codes_are_unique() -> None:
    def below(kind: type[Diagnostic]) -> list[type[Diagnostic]]:
        return [kind, *(one for child in kind.__subclasses__() for one in below(child))]

    kinds = [kind for kind in below(Diagnostic) if "code" in vars(kind)]
    ours = [kind for kind in kinds if kind.__module__.startswith("vggspec.")]
    assert [code for code, n in Counter(kind.code for kind in ours).items() if n > 1] == []
    assert {kind.code for kind in ours} == set(CODES)
    assert all(re.fullmatch(r"VGG\d{3}", code) for code in CODES)


@pytest.mark.parametrize("code", CODES)
def test_page(code: str) -> None:
    """A page begins with a sentence, and its examples are set apart from the prose."""
    kind = CODES[code]
    assert kind.__doc__, "the docstring is the page"
    assert kind.summary().endswith((".", ":"))
    assert len(kind.summary()) <= 200
    examples = [
        line for line in kind.page().splitlines() if re.search(r"\S {2,}(wrong|right)\b", line)
    ]
    assert all(line.startswith("    ") for line in examples)


@pytest.mark.parametrize("code", [code for code in OF_A_SPEC if code != "VGG128"])
def test_page_has_an_example(code: str) -> None:
    limits = {"VGG003", "VGG023", "VGG024", "VGG129"}  # nothing that could be shown
    if code not in limits:
        assert re.search(r"^    \S", CODES[code].page(), re.MULTILINE)


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_words(path: Path) -> None:
    """A title states a fact in lower case; nobody is asked, begged or called invalid."""
    for report in _reports(path):
        title, what = report.what.title(), report.what
        assert title
        first = title.split()[0]
        assert (
            first[0] in "`U" or first in ("BN", "LRN") or first[0].islower() or first[0].isdigit()
        )
        assert not title.endswith(".")
        words = " ".join(filter(None, (title, what.label(), what.help(), what.note())))
        assert not re.search(r"\b(invalid|illegal|please|we|sorry|oops)\b", words, re.IGNORECASE)


@pytest.mark.parametrize(
    "path",
    [
        golden.with_suffix(".vgg")
        for golden in sorted(FOLDER.glob("*.txt"))
        if re.search(r"(?m)help: write `[^`]+`$", golden.read_text("utf-8"))
    ],
    ids=lambda path: path.stem,
)
def test_suggestion_can_be_typed(path: Path) -> None:
    """What the help says to write is a line of a column, or a setting, without mistakes."""
    found = [
        (report, match[1])
        for report in _reports(path)
        if (match := re.fullmatch(r"write `([^`]+)`", report.what.help() or ""))
    ]
    assert found
    for report, text in found:
        _assert_can_be_typed(report, text)


def _assert_can_be_typed(report: Report, text: str) -> None:
    assert report.source is not None
    assert report.span is not None
    line = report.source.line_text(report.source.locate(report.span.start).line)
    if report.what.code not in ("VGG001", "VGG401", "VGG402", "VGG403"):
        return
    if text in ("#", "|") or re.fullmatch(r"x\d+", text):
        return  # it stands before or after something
    head = "test:" if "test:" in report.source.text[: report.span.start] else "train:"
    below = f"{head}\n  {text}\n" if line.startswith(" ") else f"{text}\n"
    found = check_source(Source("corrected.vgg", f"conv3-64\n{below}")).reports
    # A claim is another one's, `like` names a net that is not there, `net` comes too late.
    assert {one.what.code for one in found} <= {
        "VGG117",
        "VGG118",
        "VGG126",
        "VGG127",
        "VGG009",
        "VGG119",
    }
