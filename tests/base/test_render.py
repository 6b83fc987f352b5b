"""Reports as text, JSON and GitHub's annotations, with invented mistakes."""

import json

import pytest

from vggspec.base.diagnostic import Diagnostic, Label, Report, Severity, report
from vggspec.base.render import MAX_LINE, as_github, as_json, as_text
from vggspec.base.source import Source, Span


class _Bad(Diagnostic):
    """Something is bad."""

    code = "VGG999"
    words: str = ""
    advice: str | None = None
    reason: str | None = None

    def title(self) -> str:
        return "something is bad"

    def label(self) -> str:
        return self.words

    def help(self) -> str | None:
        return self.advice

    def note(self) -> str | None:
        return self.reason


class _Warning(_Bad):
    severity: Severity = "warning"  # type: ignore[misc]


def _at(text: str, word: str, what: Diagnostic, *others: str) -> Report:
    def span(of: str) -> Span:
        start = text.index(of)
        return Span(start, start + len(of))

    labels = [Label(span(other), f"see {other}") for other in others]
    return report(what, Source("net.vgg", text), span(word), *labels)


def _lines(one: Report) -> list[str]:
    return as_text([one]).splitlines()


def test_place() -> None:
    assert _lines(_at("a\n  conv maxpol\n", "maxpol", _Bad())) == [
        "error[VGG999]: something is bad",
        " --> net.vgg:2:8",
        "  |",
        "2 |   conv maxpol",
        "  |        ^^^^^^",
    ]


def test_words() -> None:
    what = _Bad(words="this one", advice="do that\nand that", reason="because")
    assert _lines(_at("bad", "bad", what))[3:] == [
        "1 | bad",
        "  | ^^^ this one",
        "  = help: do that",
        "          and that",
        "  = note: because",
    ]


def test_warning() -> None:
    assert as_text([_at("bad", "bad", _Warning())]).startswith("warning[VGG999]: ")


def test_empty_span_at_the_end() -> None:
    source = Source("net.vgg", "conv(")
    lines = as_text([report(_Bad(words="here"), source, Span(5, 5))]).splitlines()
    assert lines[1] == " --> net.vgg:1:6"
    assert lines[3:] == ["1 | conv(", "  |      ^ here"]


def test_empty_text() -> None:
    lines = as_text([report(_Bad(), Source("net.vgg", ""), Span(0, 0))]).splitlines()
    assert lines[3:] == ["1 |", "  | ^"]


def test_span_over_several_lines_is_marked_on_its_first() -> None:
    assert _lines(_at("x one\ntwo", "one\ntwo", _Bad()))[3:] == ["1 | x one", "  |   ^^^"]


def test_two_places_far_apart_share_a_margin() -> None:
    text = "first\n" + "\n" * 10 + "second\n"
    assert _lines(_at(text, "second", _Bad(words="here"), "first")) == [
        "error[VGG999]: something is bad",
        "  --> net.vgg:12:1",
        "   |",
        " 1 | first",
        "   | ----- see first",
        "   .",
        "12 | second",
        "   | ^^^^^^ here",
    ]


def test_two_places_on_one_line_and_on_neighbouring_lines() -> None:
    assert _lines(_at("one two", "two", _Bad(), "one"))[3:] == [
        "1 | one two",
        "  | --- see one",
        "  |     ^^^",
    ]
    assert _lines(_at("one\ntwo", "one", _Bad(), "two"))[3:] == [
        "1 | one",
        "  | ^^^",
        "2 | two",
        "  | --- see two",
    ]


@pytest.mark.parametrize(
    ("text", "line", "mark"),
    [
        ("\tbad", "    bad", "    ^^^"),
        ("ab\tbad", "ab  bad", "    ^^^"),
        ("a\t\tbad", "a       bad", "        ^^^"),
        ("日本 bad", "日本 bad", "     ^^^"),
        ("é bad", "é bad", "  ^^^"),
        ("e\u0301 bad", "e\u0301 bad", "  ^^^"),
        ("\x1b[31m bad", "\\u001b[31m bad", "           ^^^"),
        (" " * 60 + "bad", " " * 60 + "bad", " " * 60 + "^^^"),
    ],
    ids=repr,
)
def test_columns_of_a_terminal(text: str, line: str, mark: str) -> None:
    assert _lines(_at(text, "bad", _Bad()))[3:] == [f"1 | {line}", f"  | {mark}"]


def test_wide_characters_are_underlined_whole() -> None:
    assert _lines(_at("a 日本 b", "日本", _Bad()))[4] == "  |   ^^^^"
    assert _lines(_at("a\tb", "\t", _Bad()))[4] == "  |  ^^^"


@pytest.mark.parametrize("before", [0, 10, 5000])
@pytest.mark.parametrize("after", [0, 10, 5000])
def test_long_line_is_cut_around_the_place(before: int, after: int) -> None:
    text = "x" * before + " bad " + "y" * after
    lines = _lines(_at(text, "bad", _Bad(words="here")))
    assert all(len(line) <= MAX_LINE + 20 for line in lines)
    start = lines[3].index(" bad ") if after else lines[3].index(" bad")
    assert lines[4] == "  |" + " " * (start - 2) + "^^^ here"
    assert ("…" in lines[3]) == (before + after > MAX_LINE)


def test_long_span_is_cut_too() -> None:
    lines = _lines(_at("z" * 5000, "z" * 5000, _Bad()))
    assert lines[4].count("^") == MAX_LINE


def test_two_places_of_a_long_line() -> None:
    text = "one" + " " * 1000 + "two"
    lines = _lines(_at(text, "two", _Bad(), "one"))
    assert lines[3].startswith("1 | one")
    assert lines[5].endswith(" two")
    assert lines[6].rstrip().endswith("^^^")


def test_color() -> None:
    text = as_text([_at("bad", "bad", _Bad(words="w", advice="a"))], color=True)
    assert "\033[1;31merror[VGG999]\033[0m" in text
    assert "\033[1;31m^^^ w\033[0m" in text
    assert "\033[1;34m1 |\033[0m bad" in text
    import re

    assert re.sub(r"\033\[[\d;]*m", "", text) == as_text(
        [_at("bad", "bad", _Bad(words="w", advice="a"))]
    )
    warning = as_text([_at("bad", "bad", _Warning())], color=True)
    assert "\033[1;33mwarning" in warning


def test_what_a_file_says_cannot_move_the_cursor() -> None:
    what = _Bad(words="\x1b[2J", advice="\x07")
    text = as_text([report(what, Source("a\x1b[1m.vgg", "\x1b[0mbad"), Span(0, 3))])
    assert "\x1b" not in text
    assert "\x07" not in text
    assert "\\u001b[2J" in text


def test_file_without_a_place() -> None:
    assert _lines(report(_Bad(advice="a"), path="D.vgg")) == [
        "error[VGG999]: something is bad",
        " --> D.vgg",
        "  = help: a",
    ]
    assert _lines(report(_Bad())) == ["error[VGG999]: something is bad"]


def test_several_reports_are_set_apart() -> None:
    text = as_text([report(_Bad(), path="a"), report(_Bad(), path="b")])
    assert text.count("\n\nerror") == 1
    assert as_text([]) == ""


def test_json() -> None:
    one = _at("×\n bad", "bad", _Bad(words="w", advice="a", reason="n"), "×")
    (found,) = json.loads(as_json([one]))
    assert found == {
        "code": "VGG999",
        "severity": "error",
        "title": "something is bad",
        "label": "w",
        "help": "a",
        "note": "n",
        "file": "net.vgg",
        "span": {
            "start": {"line": 2, "column": 2, "offset": 3},
            "end": {"line": 2, "column": 5, "offset": 6},
        },
        "others": [
            {
                "span": {
                    "start": {"line": 1, "column": 1, "offset": 0},
                    "end": {"line": 1, "column": 2, "offset": 1},
                },
                "label": "see ×",
            }
        ],
    }
    assert as_json([one]).isascii()
    assert json.loads(as_json([])) == []


def test_json_without_a_place() -> None:
    (found,) = json.loads(as_json([report(_Bad(), path="D.vgg")]))
    assert (found["file"], found["span"], found["help"]) == ("D.vgg", None, None)


def test_github() -> None:
    one = _at("a\n bad", "bad", _Bad(words="100%", advice="a\nb"))
    assert as_github([one]) == (
        "::error file=net.vgg,line=2,col=2,endLine=2,endColumn=5,title=VGG999::"
        "something is bad%0A100%25%0Ahelp: a%0Ab"
    )


def test_github_names_and_places() -> None:
    source = Source("a,b:c.vgg", "one\ntwo")
    assert "file=a%2Cb%3Ac.vgg,line=1,col=1,endLine=2,title" in as_github(
        [report(_Bad(), source, Span(0, 6))]
    )
    empty = as_github([report(_Warning(), source, Span(3, 3))])
    assert empty.startswith("::warning ")
    assert "col=4,endLine=1,endColumn=5" in empty
    assert as_github([report(_Bad(), path="D.vgg")]) == (
        "::error file=D.vgg,title=VGG999::something is bad"
    )
