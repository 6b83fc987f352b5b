"""Canonical text: what it looks like, that it means the same, that it stays as it is."""

import re
from dataclasses import fields, is_dataclass
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.strategies import block_texts, bracket_texts, branch_texts, net_texts
from vggspec.base.source import Source
from vggspec.compiler.ops import spell
from vggspec.lang.ast import Document, Quoted, Word
from vggspec.lang.formatter import format_document
from vggspec.lang.parser import parse


def _parse(text: str) -> Document:
    return parse(Source("t.vgg", text))


def _format(text: str) -> str:
    return format_document(_parse(text), spell)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("NET  D", "net D"),
        ("INPUT 224 × 224 rgb", "input 224x224 RGB"),
        ("input (224 × 224 RGB image)", "input 224x224 RGB"),
        ("input 8X9 Grey", "input 8x9 gray"),
        ("input 8x8", "input 8x8"),
        ("input(8x8 bgr)( MEAN 1 2 3,STD 1E1 )", "input 8x8 BGR(mean 1 2 3, std 1e1)"),
        ("input 8x8 RGB(mean 1 std 2)", "input 8x8 RGB(mean 1 std 2)"),
        ("CONV3-64", "conv3-64"),
        ("conv1×7-64/2", "conv1x7-64/2"),
        ("Conv3-64 ( Pad 1 × 2 , GROUPS 2 )  × 3", "conv3-64(pad 1x2, groups 2) x3"),
        ("conv3-64()", "conv3-64"),
        ("fc-10 AS  Head", "FC-10 as Head"),
        ("lrn bn Maxpool SOFT-MAX", "LRN BN maxpool soft-max"),
        ("conv3-4 ** lrn   gap ** FC-4", "conv3-4 **LRN gap** FC-4"),
        ("**LRN** **gap** ", "**LRN gap**"),
        ("conv3-4   #why", "conv3-4  # why"),
        ("16  Weight   Layer", "16 weight layers"),
        ("1 weight layers", "1 weight layer"),
        ("138m PARAMETER", "138M parameters"),
        ('net X\nLIKE   "a b.vgg:Y"  UP TO  Fc7', 'net X\nlike "a b.vgg:Y" up to Fc7'),
        ("unheard-OF", "unheard-OF"),
        (
            "[ CONV3-64  conv3-64+Identity ]× 2 AS  Conv2",
            "[conv3-64 conv3-64 + Identity] x2 as Conv2",
        ),
        ("[a&b  &[c+d] x3 as e]", "[a & b & [c + d] x3 as e]"),
        ("[conv3-64]x2 [LRN]", "[conv3-64] x2 [LRN]"),
        ("**[a + b] x2** **lrn [c]** gap", "**[a + b] x2 LRN [c]** gap"),
        ("[**lrn** + FROM  Pool4]", "[**LRN** + from Pool4]"),
        ("From  Pool4 CONV1-21", "from Pool4 conv1-21"),
        ("FROM Pool4", "from Pool4"),
        ("OUTPUTS  Conv1_1  fc8", "outputs Conv1_1 fc8"),
        ("Conv IS conv( No-Bias ) bn", "conv is conv(no-bias) BN"),
        ("conv3-{ 4 * c }/{s}(Once, pad { p } )X{ n }", "conv3-{4*c}/{s}(once, pad {p}) x{n}"),
        ("CONV3-{ 4*C }(PAD {P}) X{N}", "conv3-{4*C}(pad {P}) x{N}"),
        ("22  Weight  LAYERS deep", "22 weight layers deep"),
        ("1 weight layers Deep", "1 weight layer deep"),
        ("1.8g mac", "1.8G MACs"),
        (
            "BLOCK Part( c,s=1 ) :\n # why\n\tconv3-{c}\n\n\t&from {x}\n\t# end\nFC-1",
            "block Part(c, s = 1):\n  # why\n  conv3-{c}\n\n  & from {x}\n  # end\nFC-1",
        ),
    ],
)
def test_a_statement(text: str, wanted: str) -> None:
    assert _format(text) == f"{wanted}\n"


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("BATCH 5", "batch 5"),
        ("Color-Shift 1E-1", "colour-shift 1e-1"),
        ("scale 1 , 2,3", "scale 1, 2, 3"),
        ("decay 10 on Plateau , 3 Times", "decay 10 on plateau, 3 times"),
        ("stop AFTER 370k iterations", "stop after 370K iterations"),
        (
            'start from "My Net.vgg" : FIRST 4 conv , last 3 fc',
            'start from "My Net.vgg": first 4 conv, last 3 FC',
        ),
        ("crops 5 × 5", "crops 5x5"),
    ],
)
def test_a_setting(text: str, wanted: str) -> None:
    assert _format(f"FC-2\ntrain :\n\t{text}") == f"FC-2\ntrain:\n  {wanted}\n"


def test_blank_lines_and_comments() -> None:
    text = (
        "\n\n#odd\n#    continued\n#!kept\n##\n#\n  # stray\n\n\nconv3-4 # one\n"
        "maxpool3/2   #   two\nFC-2\nFC-3 # alone\n\n \n\t\n# end\n\n"
    )
    assert _format(text) == (
        "# odd\n#    continued\n#!kept\n##\n#\n# stray\n\nconv3-4     # one\n"
        "maxpool3/2  # two\nFC-2\nFC-3  # alone\n\n# end\n"
    )


def test_comments_of_sections() -> None:
    text = (
        "FC-2\n train:\n# first\n    batch 5\n\n#between\n    rate 1\n      #   inside\n"
        " # outside\n# still\ntest:\n    # alone\n"
    )
    assert _format(text) == (
        "FC-2\ntrain:\n  # first\n  batch 5\n\n  # between\n  rate 1\n  #   inside\n"
        "# outside\n# still\ntest:\n  # alone\n"
    )


def test_a_table() -> None:
    text = """\
|A|lrn|   B |  # names stay
# why
|:--|:-:|--:|
|11 weight layers| **11 Weight Layer** |13 weight layers|
| input (224 × 224 RGB image) |
|CONV3-64|conv3-64 **lrn**|conv3-64 **conv3-64**   |
|||LRN|
|maxpool|# half
|  |

|X|
|-|
|FC-2|
"""
    assert (
        _format(text)
        == """\
| A                | lrn                  | B                     |  # names stay
# why
|------------------|----------------------|-----------------------|
| 11 weight layers | **11 weight layers** | 13 weight layers      |
|                        input 224x224 RGB                        |
| conv3-64         | conv3-64 **LRN**     | conv3-64 **conv3-64** |
|                  |                      | LRN                   |
|                             maxpool                             |  # half
|                                                                 |

| X    |
|------|
| FC-2 |
"""
    )


def test_a_table_with_names_and_sizes() -> None:
    text = """\
|NAME|A|B|Output|
|-|-|-|-|
|LRN|conv3-64|[conv3-64+identity]x2|56 × 56 × 64|
||maxpool||
||**1.8g macs**|2 weight layers deep||
"""
    assert (
        _format(text)
        == """\
| name | A             | B                        | output   |
|------|---------------|--------------------------|----------|
| LRN  | conv3-64      | [conv3-64 + identity] x2 | 56x56x64 |
|      |                 maxpool                  |          |
|      | **1.8G MACs** | 2 weight layers deep     |          |
"""
    )


def test_a_table_of_rows() -> None:
    text = """\
block Fire(c, N):
 conv3-{c} x{N}
|LAYER|c|Output|Name|N|
|-|-|-|-|-|
|fire|64|56x56|lrn|2|
|MAXPOOL bn|||||
"""
    assert (
        _format(text)
        == """\
block Fire(c, N):
  conv3-{c} x{N}
| layer      | c  | output | name | N |
|------------|----|--------|------|---|
| fire       | 64 | 56x56  | lrn  | 2 |
| maxpool BN |    |        |      |   |
"""
    )


def test_a_spanning_row_widens_the_columns() -> None:
    rows = _format("|A|B|\n|LRN(n 5, k 2, alpha 1e-4)|\n|gap|FC-2|").splitlines()
    assert rows[1] == "| LRN(n 5, k 2, alpha 1e-4) |"
    assert {len(row) for row in rows} == {len(rows[1])}


def test_the_specs_are_canonical(specs: Path) -> None:
    for path in sorted(specs.glob("*.vgg")):
        text = path.read_text("utf-8")
        assert _format(text) == text, path.name


def test_a_large_file_takes_no_longer_than_its_length() -> None:
    """Nothing in it is looked at again and again: these take minutes if comments are."""
    text = "FC-2\ntrain:\n" + "# note\n" * 40_000 + "  batch 5\n"
    assert _format(text).count("  # note\n") == 40_000


def _meaning(node: object) -> object:
    """A syntax tree without what formatting may change: the case and the signs of words."""
    if isinstance(node, Word):
        word = "".join(node.text.split()).casefold().replace("×", "x")
        return word.replace("grey", "gray").replace("color", "colour")
    if isinstance(node, Quoted):
        return ("file", node.text)
    if is_dataclass(node):
        return tuple(_meaning(getattr(node, one.name)) for one in fields(node) if one.compare)
    return tuple(map(_meaning, node)) if isinstance(node, tuple) else node


#: Words whose case is their own: a name follows these.
_NAMING = ("net", "as", "from")
_TIMES = re.compile(r"(?<![a-z])x(?=\d)")
_TOKEN = re.compile(r'"[^"]*"|\*\*|(?:[^\s(),:|*\[\]+&{}]|\{[^{}]*\})+|[(),:|\[\]+&]')
_MARKS = "(),:|[]+&"


@st.composite
def _roughened(draw: st.DrawFn, lines: list[str]) -> str:
    """The same lines with odd spacing, case and signs, blank lines and comments."""
    rough: list[str] = []
    for line in lines:
        if not line:
            rough.append("")
            continue
        if draw(st.integers(0, 5)) == 0:
            rough.append(draw(st.sampled_from(("", "  ", "#note", "   #   note", "#"))))
            if "|" in line and not rough[-1].strip():
                rough.pop()  # a blank line would end the table
        indent = line[: len(line) - len(line.lstrip())]
        indent += draw(st.sampled_from(("", " ", "\t"))) if indent else ""
        text, previous = indent, ""
        for token in _TOKEN.findall(line):
            is_name = previous in _NAMING or token[0] == '"' or "|" in line
            if not is_name and draw(st.booleans()):
                token = token.upper() if draw(st.booleans()) else _TIMES.sub("×", token)
            # Spaces part words, and around punctuation they are free.
            free = not text.strip() or token in _MARKS or previous in _MARKS
            text += draw(st.sampled_from(("", " ", "  "))) if free and text.strip() else ""
            text += draw(st.sampled_from((" ", "   "))) if not free else ""
            text += token
            previous = token.casefold()
        rough.append(text + draw(st.sampled_from(("", "", " ", "#c", "  #  c #"))))
    return "\n".join(rough) + draw(st.sampled_from(("", "\n", "\n\n\n")))


_CELLS = (
    "",
    "conv3-64",
    "conv3-64 **LRN**",
    "maxpool3/2(ceil)",
    "FC-10 x2",
    "**12 weight layers**",
    "[conv3-64 + identity] x2 as part",
    "**[conv1-8 & LRN]** conv3-8",
    "1.8G MACs",
)
_SETTINGS = (
    "scale 256..512",
    "batch 5",
    "colour-shift 0.1",
    "decay 10 on plateau of 5 epochs, 3 times",
    'start from "A.vgg": first 4 conv, last 3 FC',
)


@st.composite
def _rows(draw: st.DrawFn) -> list[str]:
    """A table whose rows are layers."""
    lines = ["", "|Layer|c|name|s2|output|", "|-|-|-|-|-|"]
    for _ in range(draw(st.integers(0, 3))):
        layer = draw(st.sampled_from(("fire", "conv3-64(pad 1)", "**LRN**")))
        number, name, size = (draw(st.sampled_from(("", one))) for one in ("64", "F1", "7 x 7"))
        lines.append(f"|{layer}|{number}|{name}||{size}|")
    return [*lines, "|[conv3-8 + shortcut] x2 maxpool||M||7x7x8|", ""]


@st.composite
def _files(draw: st.DrawFn) -> str:
    """A file of columns, tables and sections, written carelessly."""
    lines: list[str] = []
    for number in range(draw(st.integers(1, 3))):
        if draw(st.booleans()):
            column = draw(net_texts()).replace("net sample", f"net N{number}")
            lines += column.splitlines()
            if draw(st.booleans()):
                lines.append(draw(st.one_of(bracket_texts(), branch_texts())))
            if draw(st.booleans()):
                lines += ["conv is conv(no-bias) BN ReLU", "outputs conv1_1 Head"]
            if draw(st.booleans()):
                lines += draw(_rows())
        else:
            width = draw(st.integers(1, 3))
            extra = draw(st.sampled_from(((), ("name",), ("output",), ("Name", "output"))))
            lines.append("")  # the table is not to go on with the one above
            heads = [*extra, *(f"T{number}{i}" for i in range(width))]
            lines.append("|" + "|".join(heads) + "|")
            lines.append("|---" * len(heads) + "|")
            for _ in range(draw(st.integers(0, 4))):
                cells = draw(st.lists(st.sampled_from(_CELLS), min_size=width, max_size=width))
                row = cells if draw(st.booleans()) else cells[:1]
                names = {"name": "", "output": draw(st.sampled_from(("", "56 x 56", "7×7×64")))}
                if not any(re.search(r" as |weight|MACs", cell) for cell in row) and any(row):
                    names["name"] = draw(st.sampled_from(("", "Row")))
                row = [*(names[one.lower()] for one in extra), *row]
                lines.append("|" + "|".join(row) + "|")
        if draw(st.integers(0, 2)) == 0:
            lines += draw(block_texts(f"part{number}")).splitlines()
        for section in draw(st.sampled_from(((), ("train",), ("train", "test")))):
            lines.append(f"{section}:")
            lines += (f"  {one}" for one in draw(st.lists(st.sampled_from(_SETTINGS), max_size=3)))
    return draw(_roughened(lines))


@settings(max_examples=60, deadline=None)
@given(_files())
@example("net A\n|B|\n\n|A2|\n")
def test_formatting_keeps_the_meaning_and_is_done_once(text: str) -> None:
    document = _parse(text)
    formatted = format_document(document, spell)
    again = _parse(formatted)
    assert _meaning(again.specs) == _meaning(document.specs)
    assert [line.comment for line in again.lines if line.comment is not None] == [
        line.comment for line in document.lines if line.comment is not None
    ]
    assert format_document(again, spell) == formatted
    assert not re.search(r"[ \t]\n|\n\n\n|^\n|[^\n]\Z", formatted)


GRAPHS = sorted((Path(__file__).parent / "graphs").glob("*.vgg"))


@pytest.mark.parametrize("path", GRAPHS, ids=lambda path: path.stem)
def test_specs_of_papers_are_canonical(path: Path) -> None:
    text = path.read_text("utf-8")
    assert _format(text) == text


@settings(max_examples=60, deadline=None)
@given(net_texts())
def test_canonical_words_stay_as_they_are(text: str) -> None:
    document = _parse(text)
    assert _parse(format_document(document, spell)).specs == document.specs
