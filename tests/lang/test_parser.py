"""Text to syntax tree: every construct of the language, with its place."""

import re
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.conftest import ROOT
from tests.strategies import net_texts
from vggspec.base.diagnostic import Report, VggspecError
from vggspec.base.render import as_dict, as_github, as_json, as_text
from vggspec.base.source import Location, Source, Span
from vggspec.compiler.checking import check_source
from vggspec.lang.assembly import MAX_BLOCKS, MAX_NETS
from vggspec.lang.ast import (
    Branch,
    Cell,
    Claim,
    Document,
    From,
    Group,
    InputItem,
    LayerItem,
    Layers,
    Like,
    NetName,
    Quoted,
    SectionHead,
    Setting,
    SizeClaim,
    Spec,
    Statement,
    TableRow,
    Word,
)
from vggspec.lang.parser import MAX_WORD, parse, parse_leniently


def _document(text: str) -> Document:
    return parse(Source("t.vgg", text))


def _one(text: str) -> Statement:
    (statement,) = _document(text).statements()
    return statement


def _layer(text: str) -> LayerItem:
    statement = _one(text)
    assert isinstance(statement, Layers)
    (item,) = statement.items
    return item


def _spec(text: str) -> Spec:
    (spec,) = _document(text).specs
    return spec


def _mistakes(text: str) -> list[tuple[str, int, int]]:
    """Codes with their lines and columns."""
    source = Source("t.vgg", text)
    found = []
    for report in parse_leniently(source)[1].sorted():
        assert report.span is not None
        place = source.locate(report.span.start)
        found.append((report.what.code, place.line, place.column))
    return found


def _texts(words: tuple[Word | Quoted, ...]) -> list[str]:
    return [word.text for word in words]


def test_layer() -> None:
    item = _layer("  conv5-256/2(pad 2, groups 2, linear) x3 # why\n")
    assert item.word == Word("conv5-256/2", Span(0, 0))
    assert [_texts(option.words) for option in item.options] == [
        ["pad", "2"],
        ["groups", "2"],
        ["linear"],
    ]
    assert item.repeat is not None
    assert item.repeat.text == "x3"
    assert item.alias is None
    assert not item.bold


def test_layer_places() -> None:
    text = "maxpool\n\n  conv3-64(pad 1, linear) × 2\n"
    source = Source("t.vgg", text)
    second = list(parse(source).statements())[1]
    assert isinstance(second, Layers)
    (item,) = second.items
    assert source.slice(item.word.span) == "conv3-64"
    assert source.locate(item.word.span.start) == Location(3, 3)
    assert source.slice(item.options[0].span) == "pad 1"
    assert source.slice(item.options[0].values[0].span) == "1"
    assert source.locate(item.options[1].span.start) == Location(3, 19)
    assert item.repeat is not None
    assert source.slice(item.repeat.span) == "× 2"
    assert source.slice(item.span) == "conv3-64(pad 1, linear) × 2"


def test_alias() -> None:
    item = _layer("FC-10(linear) as out")
    assert item.alias == Word("out", Span(0, 0))
    assert item.span == Span(0, 20)


@pytest.mark.parametrize("text", ["x3", "x 3", "× 3", "×3", "X3"])
def test_repeats(text: str) -> None:
    item = _layer(f"conv3-64 {text}")
    assert item.repeat is not None
    assert re.sub(r"\D", "", item.repeat.text) == "3"


def _group(text: str) -> Group:
    statement = _one(text)
    assert isinstance(statement, Layers)
    (item,) = statement.items
    assert isinstance(item, Group)
    return item


def _written(branch: Branch) -> list[str]:
    assert all(isinstance(item, LayerItem) for item in branch.items)
    return [item.word.text for item in branch.items if isinstance(item, LayerItem)]


def test_bracket() -> None:
    text = "  [conv3-64/2(once) BN + shortcut] x2 as conv2 # why"
    source = Source("t.vgg", text)
    (statement,) = parse(source).statements()
    assert isinstance(statement, Layers)
    (group,) = statement.items
    assert isinstance(group, Group)
    assert group.join == "+"
    assert [_written(branch) for branch in group.branches] == [["conv3-64/2", "BN"], ["shortcut"]]
    assert (group.repeat, group.alias) == (Word("x2", group.span), Word("conv2", group.span))
    assert source.slice(group.span) == "[conv3-64/2(once) BN + shortcut] x2 as conv2"
    assert source.slice(group.branches[0].span) == "conv3-64/2(once) BN"


@pytest.mark.parametrize(
    ("text", "join", "branches"),
    [
        ("[a b]", None, [["a", "b"]]),
        ("[a&b&c d]", "&", [["a"], ["b"], ["c", "d"]]),
        ("[a + b + c]", "+", [["a"], ["b"], ["c"]]),
        ("[conv3-64+shortcut]x3", "+", [["conv3-64"], ["shortcut"]]),
        ("**[a & b]**", "&", [["a"], ["b"]]),
    ],
)
def test_branches(text: str, join: str | None, branches: list[list[str]]) -> None:
    group = _group(text)
    assert group.join == join
    assert [_written(branch) for branch in group.branches] == branches
    assert group.bold == text.startswith("**")


def test_brackets_in_brackets() -> None:
    outer = _group("[[a + b] x2 as c & d]")
    inner = outer.branches[0].items[0]
    assert isinstance(inner, Group)
    assert (inner.join, inner.alias, outer.alias) == ("+", Word("c", inner.span), None)


def test_bold_within_a_bracket() -> None:
    group = _group("[a **b [c]** d]")
    assert [item.bold for item in group.branches[0].items] == [False, True, True, False]


def test_from() -> None:
    statement = _one("from pool4 conv1-21 [from pool3 & from pool2 a]")
    assert isinstance(statement, Layers)
    start, layer, group = statement.items
    assert start == From(Word("pool4", start.span), start.span)
    assert isinstance(layer, LayerItem)
    assert isinstance(group, Group)
    first, second = group.branches
    assert first == Branch(Word("pool3", first.span), (), first.span)
    assert second.source == Word("pool2", first.span)
    assert _written(second) == ["a"]


def test_outputs_and_meaning_of_conv() -> None:
    spec = _spec("conv is BN ReLU conv(no-bias)\nconv3-8 FC-2\noutputs fc2 conv1_1\n")
    assert spec.outputs is not None
    assert _texts(spec.outputs.names) == ["fc2", "conv1_1"]
    assert spec.means is not None
    assert [item.word.text for item in spec.means.items] == ["BN", "ReLU", "conv"]
    assert [option.name.text for option in spec.means.items[2].options] == ["no-bias"]
    nets = _document("| A | B |\n| FC-2 | FC-3 |\n\nconv is conv ReLU\noutputs fc1\n").specs
    assert all(spec.means is not None and spec.outputs is not None for spec in nets)


@pytest.mark.parametrize("word", ["from", "outputs", "block", "is"])
def test_new_keywords_are_words_elsewhere(word: str) -> None:
    """`from` begins a line, `block` a head: anywhere else they are names and words."""
    text = f"net {word}\nconv3-8 as {word}\nFC-2 {word} is\nconv3-8(pad {word})\n"
    if word == "from":
        text = text.replace("FC-2 from is\n", "")
    (spec,) = _document(text + f"train:\n  {word} 1\n").specs
    assert spec.name is not None
    assert spec.name.text == word


def test_several_layers_and_bold() -> None:
    statement = _one("conv3-64 **conv3-64 LRN** maxpool")
    assert isinstance(statement, Layers)
    assert [(item.word.text, item.bold) for item in statement.items] == [
        ("conv3-64", False),
        ("conv3-64", True),
        ("LRN", True),
        ("maxpool", False),
    ]


@pytest.mark.parametrize(
    "text",
    [
        "input 224x224 RGB",
        "INPUT 224 × 224 rgb",
        "input (224 × 224 RGB image)",
        "input (224x224 RGB)",
        "input\u00a0224\u2009×\u2009224 RGB",
    ],
)
def test_input(text: str) -> None:
    item = _one(text)
    assert isinstance(item, InputItem)
    assert (item.height.text, item.width.text) == ("224", "224")
    assert item.color is not None
    assert item.color.text.upper() == "RGB"


def test_input_places_and_options() -> None:
    text = "input 28 x 32 gray(mean 33.3, std 78.6)"
    source = Source("t.vgg", text)
    (item,) = parse(source).statements()
    assert isinstance(item, InputItem)
    assert source.slice(item.height.span) == "28"
    assert source.slice(item.width.span) == "32"
    assert [_texts(option.words) for option in item.options] == [["mean", "33.3"], ["std", "78.6"]]


def test_input_without_colour() -> None:
    item = _one("input 8x9")
    assert isinstance(item, InputItem)
    assert item.color is None
    assert item.options == ()


@pytest.mark.parametrize(
    ("text", "kind", "number"),
    [
        ("16 weight layers", "weight layers", "16"),
        ("1 weight layer", "weight layers", "1"),
        ("138M parameters", "parameters", "138M"),
        ("138.4m Parameters", "parameters", "138.4m"),
        ("22 Weight Layers deep", "weight layers deep", "22"),
        ("1.8G MACs", "MACs", "1.8G"),
        ("569m mac", "MACs", "569m"),
        ("1 parameter", "parameters", "1"),
    ],
)
def test_claim(text: str, kind: str, number: str) -> None:
    claim = _one(text)
    assert isinstance(claim, Claim)
    assert (claim.kind, claim.number.text) == (kind, number)
    assert claim.span == Span(0, len(text))


def test_net_and_like() -> None:
    name, like = _document('net D-loc\nlike "a b.vgg" up to fc7\n').statements()
    assert isinstance(name, NetName)
    assert (name.name.text, name.name.span) == ("D-loc", Span(4, 9))
    assert isinstance(like, Like)
    assert (like.path.text, like.path.span) == ("a b.vgg", Span(15, 24))
    assert like.up_to == Word("fc7", Span(0, 0))


def test_like_without_up_to() -> None:
    spec = _spec('like "D.vgg"')
    assert spec.like is not None
    assert spec.like.up_to is None


def test_sections() -> None:
    spec = _spec(
        "FC-10\n"
        "train:\n"
        "  batch 256  # all devices\n"
        "\n"
        "# a remark\n"
        '    start from "A.vgg": first 4 conv, last 3 FC\n'
        "TEST :\n"
        "\tscale 256, 384\n"
        "soft-max\n"
    )
    assert [_texts(setting.words) for setting in spec.train] == [
        ["batch", "256"],
        ["start", "from", "A.vgg", ":", "first", "4", "conv", ",", "last", "3", "FC"],
    ]
    assert isinstance(spec.train[1].words[2], Quoted)
    assert [_texts(setting.words) for setting in spec.test] == [["scale", "256", ",", "384"]]
    assert [item.word.text for item in spec.layers] == ["FC-10", "soft-max"]


def test_setting_place() -> None:
    source = Source("t.vgg", "FC-10\ntrain:\n  weight-decay 5e-4  # L2\n")
    *_, head, setting = parse(source).statements()
    assert isinstance(head, SectionHead)
    assert head.kind == "train"
    assert isinstance(setting, Setting)
    assert source.slice(setting.span) == "weight-decay 5e-4"
    assert source.locate(setting.words[1].span.start) == Location(3, 16)


TABLE = """\
| A        | **B**                 |
|:---------|----------------------:|
|      input (8 × 8 gray image)      |
| conv3-8  | conv3-8 **conv3-8 x2** |
|          | LRN                   |
|              FC-10               |
| 2 weight layers | **4 weight layers** |
"""


def test_table() -> None:
    first, second = _document(TABLE).specs
    assert first.name is not None
    assert second.name is not None
    assert (first.name.text, second.name.text) == ("A", "B")
    assert [item.word.text for item in first.layers] == ["conv3-8", "FC-10"]
    assert [item.word.text for item in second.layers] == ["conv3-8", "conv3-8", "LRN", "FC-10"]
    assert [item.bold for item in second.layers] == [False, True, False, False]
    assert first.input == second.input
    assert first.input is not None
    assert [claim.number.text for claim in (*first.claims, *second.claims)] == ["2", "4"]


def test_table_rows() -> None:
    rows = [one for one in _document(TABLE).statements() if isinstance(one, TableRow)]
    assert [row.is_rule for row in rows] == [False, True, *[False] * 5]
    assert [len(row.cells) for row in rows] == [2, 2, 1, 2, 2, 1, 2]
    assert rows[4].cells[0] == Cell((), False, Span(0, 0))
    source = Source("t.vgg", TABLE)
    assert source.slice(rows[3].cells[1].span) == " conv3-8 **conv3-8 x2** "


@pytest.mark.parametrize("indent", ["    ", "\t", " \t "])
def test_whole_block_may_be_indented(indent: str) -> None:
    text = f"{TABLE}train:\n  batch 2\n"
    moved = "".join(f"{indent}{line}\n" for line in text.splitlines())
    assert _document(moved).specs == _document(text).specs
    assert _document(moved).specs[1].train != ()


def test_table_has_layers_and_sections_below() -> None:
    specs = _document(f"{TABLE}\nsoft-max\ntrain:\n  batch 2\n").specs
    assert [spec.layers[-1].word.text for spec in specs] == ["soft-max"] * 2
    assert [len(spec.train) for spec in specs] == [1, 1]


def test_comments_do_not_end_a_table_and_blank_lines_do() -> None:
    (first,) = _document("| A |\n# the classes\n| FC-10 |\n").specs
    assert len(first.layers) == 1
    nets = _document("| A |\n| FC-10 |\n\n| B |\n| FC-10 |\n").specs
    assert [spec.name and spec.name.text for spec in nets] == ["A", "B"]


BLOCK = """\
block bottleneck(c, s = 1):
  conv1-{c}/{s}(once)   # reduce
  conv3-{ c }

# a remark
  & shortcut
  & from {skip} conv1-{4 * c} x{n}
  BN
"""


def test_block() -> None:
    source = Source("t.vgg", f"net A\nconv3-8\n{BLOCK}FC-2\nnet B\nFC-3\n")
    document = parse(source)
    (block,) = document.blocks
    assert source.slice(block.span) == "block bottleneck(c, s = 1):"
    assert source.slice(block.name.span) == "bottleneck"
    assert [one.name.text for one in block.parameters] == ["c", "s"]
    assert [one.default and one.default.text for one in block.parameters] == [None, "1"]
    assert block.join == "&"
    first, second, third = block.branches
    assert _written(first) == ["conv1-{c}/{s}", "conv3-{ c }"]
    assert source.slice(first.span).startswith("conv1-{c}/{s}(once)")
    assert (_written(second), second.source) == (["shortcut"], None)
    assert third.source == Word("{skip}", third.span)
    assert _written(third) == ["conv1-{4 * c}", "BN"]
    assert block.is_complete
    # It ends with the first line that is not indented, and belongs to all nets.
    assert [[item.word.text for item in _items(spec)] for spec in document.specs] == [
        ["conv3-8", "FC-2"],
        ["FC-3"],
    ]
    assert all(spec.blocks == document.blocks and spec.is_complete for spec in document.specs)


def _items(spec: Spec) -> list[LayerItem]:
    return [item for item in spec.layers if isinstance(item, LayerItem)]


@pytest.mark.parametrize(
    "text",
    [
        "block b:\n  BN\nconv3-8\nFC-2\n",
        "conv3-8\nblock b:\n  BN\nFC-2\n",
        "conv3-8\nFC-2\nblock b:\n  BN\n",
        "conv3-8\ntrain:\n  batch 2\nblock b:\n  BN\nFC-2\n",
        "block b:\n  BN\nnet a\nconv3-8\nFC-2\n",
        "block b:\n\tBN\n\n| a |\n| conv3-8 |\nblock c:\n BN\nFC-2\n",
    ],
)
def test_a_block_stands_anywhere(text: str) -> None:
    document = _document(text)
    (spec,) = document.specs
    assert [item.word.text for item in _items(spec)] == ["conv3-8", "FC-2"]
    assert spec.blocks == document.blocks != ()


NAMED = """\
| name  | output   | A                   | B           |
|-------|----------|---------------------|-------------|
| conv1 | 4x4      |          conv3-8/2               |
| two   | 4x4x8    | conv3-8 [a + b] x2  | BN          |
|       | 1 x 1    |             gap                  |
| none  |          | conv3-8             |             |
|       |          | 2G MACs             | **3G MACs** |
"""


def test_a_table_with_names_and_sizes() -> None:
    first, second = _document(NAMED).specs
    conv, size, group, other_size, gap, last_size, none = first.layers
    assert isinstance(conv, LayerItem)
    assert conv.alias == Word("conv1", conv.span)
    assert size == SizeClaim(Word("4", size.span), Word("4", size.span), None, size.span)
    assert isinstance(group, Group)
    assert (group.join, group.alias) == (None, Word("two", group.span))
    assert [type(item) for item in group.branches[0].items] == [LayerItem, Group]
    assert isinstance(other_size, SizeClaim)
    assert other_size.channels == Word("8", other_size.span)
    assert isinstance(last_size, SizeClaim)
    assert isinstance(none, LayerItem)
    assert none.alias == Word("none", none.span)
    assert isinstance(gap, LayerItem)
    assert gap.alias is None
    assert [type(item) for item in second.layers] == [
        LayerItem, SizeClaim, LayerItem, SizeClaim, LayerItem, SizeClaim,
    ]  # fmt: skip
    assert second.layers[0] is conv  # one row, read once
    bn = second.layers[2]
    assert isinstance(bn, LayerItem)
    assert bn.alias == Word("two", bn.span)
    assert [claim.number.text for claim in (*first.claims, *second.claims)] == ["2G", "3G"]


def test_columns_of_names_and_sizes_stand_anywhere() -> None:
    (spec,) = _document("| A | output | name |\n| conv3-8 | 8x8 | c1 |\n").specs
    layer, size = spec.layers
    assert isinstance(layer, LayerItem)
    assert layer.alias == Word("c1", layer.span)
    assert isinstance(size, SizeClaim)


ROWS = """\
net A
conv3-8

| layer               | name | s1 | e3 | output |
|---------------------|------|----|----|--------|
| fire(scale 2)       | f1   | 16 | 64 | 8x8    |
| [a & b] x2 maxpool  | p    |    |    |        |
| **12 weight layers** |     |    |    |        |
| fire                |      |    | 32 |        |

FC-2
"""


def test_a_table_of_rows() -> None:
    source = Source("t.vgg", ROWS)
    (spec,) = parse(source).specs
    _, fire, size, group, other, fc = spec.layers
    assert isinstance(fire, LayerItem)
    assert [_texts(option.words) for option in fire.options] == [
        ["scale", "2"],
        ["s1", "16"],
        ["e3", "64"],
    ]
    assert source.slice(fire.options[1].span) == "16"
    assert fire.alias == Word("f1", fire.span)
    assert isinstance(size, SizeClaim)
    assert isinstance(group, Group)
    assert group.alias == Word("p", group.span)
    assert isinstance(other, LayerItem)
    assert [_texts(option.words) for option in other.options] == [["e3", "32"]]
    assert isinstance(fc, LayerItem)
    assert len(spec.claims) == 1


def test_a_table_of_rows_is_the_unnamed_net() -> None:
    (spec,) = _document("| layer | c |\n| conv3-8 | |\nFC-2\n").specs
    assert spec.name is None
    assert [item.word.text for item in _items(spec)] == ["conv3-8", "FC-2"]


def test_several_nets() -> None:
    first, second = _document("net A\nFC-10\ntrain:\n  batch 2\nnet B\nFC-20\nsoft-max\n").specs
    assert [item.word.text for item in first.layers] == ["FC-10"]
    assert [item.word.text for item in second.layers] == ["FC-20", "soft-max"]
    assert (len(first.train), len(second.train)) == (1, 0)


def test_quotes_and_comments() -> None:
    spec = _spec('like "a#b.vgg"  # not "quoted\nFC-10 # "\n')
    assert spec.like is not None
    assert spec.like.path.text == "a#b.vgg"
    assert [line.comment for line in _document("FC-10 # a # b\n#\n").lines] == ["a # b", ""]


@pytest.mark.parametrize("word", ["net", "input", "like", "as", "up", "to", "weight"])
def test_keywords_end_where_a_word_ends(word: str) -> None:
    statement = _one(f"{word}ed")
    assert isinstance(statement, Layers)
    assert statement.items[0].word.text == f"{word}ed"


def test_claims_and_input_may_stand_anywhere() -> None:
    spec = _spec("2 weight layers\nFC-10 FC-10\n100 parameters\ninput 1x1 gray\n")
    assert len(spec.claims) == 2
    assert spec.input is not None


@pytest.mark.parametrize(
    ("text", "mistakes"),
    [
        ("conv3-64(pad 1", [("VGG001", 1, 15)]),
        ("FC-10\n  conv 3-64", [("VGG001", 2, 8)]),
        ("\t\tconv–64", [("VGG002", 1, 7)]),
        ("conv3–64 FC–10", [("VGG002", 1, 6), ("VGG002", 1, 12)]),
        ("FC-10 \u200b", [("VGG003", 1, 7)]),
        ("\x1b[31mFC-10", [("VGG003", 1, 1)]),
        ('FC-10\nlike "D.vgg # no', [("VGG004", 2, 6)]),
        ("**FC-10", [("VGG005", 1, 1)]),
        ("| A | B |\n| **FC-10 | FC-10 |", [("VGG005", 2, 3)]),
        ("| A | B |\n| x | x | x |", [("VGG006", 2, 1)]),
        ("net 3\nFC-10", [("VGG007", 1, 5)]),
        ("| A | 3x |\n| FC-10 |", [("VGG007", 1, 7)]),
        ("| A |\n| 16 |", [("VGG001", 2, 3)]),
        ("| A |\n| 56x56 |\n| FC-1 |", [("VGG001", 2, 3)]),
        ("| A | x-1 y |\n| FC-10 |", [("VGG007", 1, 7)]),
        ("", [("VGG008", 1, 1)]),
        ("\n\n# no\n", [("VGG008", 1, 1)]),
        ("FC-10\nnet B\nFC-10", [("VGG009", 1, 1)]),
        ("FC-10\n| B |\n| FC-10 |", [("VGG009", 1, 1)]),
        ("batch 256", [("VGG020", 1, 1)]),
        ("test:\n  dense\nFC-10", [("VGG021", 1, 1)]),
        ("FC-10\ntest:\ntest:", [("VGG022", 3, 1)]),
        ('FC-10\nlike "a"\nlike "b"', [("VGG126", 2, 1), ("VGG022", 3, 1)]),
        ("f" * (MAX_WORD + 1), [("VGG024", 1, 1)]),
        ("FC-10\ntrain: batch 2", [("VGG025", 2, 8)]),
        ("| A | B\n| FC-10 |", [("VGG026", 1, 8)]),
        ("net A\nFC-10\nnet a\nFC-10", [("VGG121", 3, 5)]),
        ("[a, b]\n[a + b & c]\nFC-1", [("VGG030", 1, 3), ("VGG031", 2, 8)]),
        ("[a + ]\n[]\nFC-1", [("VGG032", 1, 6), ("VGG032", 2, 2)]),
        ("[a\nb]\nFC-1", [("VGG033", 1, 1), ("VGG034", 2, 2)]),
        ("|A|B|\n|[a|b]|", [("VGG033", 2, 2)]),
        ("FC-1 [a + b\nx3 [a]\n3x [a]", [("VGG033", 1, 6), ("VGG035", 2, 1), ("VGG035", 3, 1)]),
        ("a + b\n[a & b] & c", [("VGG036", 1, 3), ("VGG036", 2, 9)]),
        ("[" * 16 + "a" + "]" * 16, []),
        ("[" * 17 + "a" + "]" * 17, [("VGG037", 1, 17)]),
        ("conv is BN\nconv is conv conv BN\nFC-1", [("VGG038", 1, 1), ("VGG038", 2, 14)]),
        ("conv is [conv + BN]\nFC-1", [("VGG001", 1, 9)]),
        ("conv3-{c\nFC-1", [("VGG039", 1, 7)]),
        ("from\noutputs\nFC-1", [("VGG001", 1, 5), ("VGG001", 2, 8)]),
        ("block b:\n  a\n  from p a\nFC-1", [("VGG040", 3, 3)]),
        ("block b:\n  a\n  + c\n  & d\nFC-1", [("VGG031", 4, 3)]),
        ("block b:\n  + a\n  + \nFC-1", [("VGG032", 2, 3), ("VGG032", 3, 4)]),
        ("block b:\nFC-1\nblock B:\n  BN", [("VGG041", 1, 1), ("VGG042", 3, 7)]),
        ("block conv3:\n  BN\nFC-1", [("VGG043", 1, 7)]),
        ("block b\n  BN\n  [a, b]\nFC-1", [("VGG044", 1, 8), ("VGG030", 3, 5)]),
        ("block b[:\n  BN\nFC-1", [("VGG033", 1, 8)]),
        ("block b(in, c, c):\n  BN\nFC-1", [("VGG045", 1, 9), ("VGG045", 1, 16)]),
        ("| layer | 3 | c | c |\n| a | 1 | | |", [("VGG045", 1, 11), ("VGG045", 1, 19)]),
        ("| layer | c |\n| a b | 1 |\n| a | b |", [("VGG046", 2, 9), ("VGG047", 3, 7)]),
        ("| layer | c |\n| a |", [("VGG006", 2, 1)]),
        ("| layer | c( |\n| a | 1 | 2 |\n| a, |", [("VGG001", 1, 14), ("VGG001", 3, 4)]),
        ("| name | output |\n| a | 3 |", [("VGG007", 1, 3)]),
        ("|name|A|B|\n|x|BN|\n|x|BN|BN|BN|", [("VGG006", 3, 1)]),
        ("|A|name|B|\n|BN|x|", [("VGG006", 2, 1)]),
        ("|name|output|A|\n|1|2|BN|", [("VGG047", 2, 2), ("VGG047", 2, 4)]),
        ("|name|A|\n|x|BN as y|\n|x|2G MACs|", [("VGG048", 2, 2), ("VGG048", 3, 2)]),
    ],
)  # fmt: skip
def test_mistake(text: str, mistakes: list[tuple[str, int, int]]) -> None:
    assert _mistakes(text) == mistakes


def test_number_of_nets() -> None:
    row = "|".join(f"n{i}" for i in range(MAX_NETS))
    assert len(_document(f"|{row}|\n| FC-10 |").specs) == MAX_NETS
    assert [code for code, _, _ in _mistakes(f"|{row}|z|\n| FC-10 |")] == ["VGG023"]


def test_parse_raises_all_mistakes() -> None:
    with pytest.raises(VggspecError) as error:
        _document("conv 3\nFC 10\n**\n")
    assert len(error.value.reports) == 3


@pytest.mark.parametrize(
    ("text", "codes"),
    [
        # No names, so no nets to check.
        ("| A | B( |\n| FC-10 | FC-10 |\n| 3 weight layers |", ["VGG001"]),
        ("| conv3-8 | FC-10 |\n| FC-10 | squiggle |\n| 3 weight layers |", ["VGG007"]),
        ("| A |\n| FC-10 |\n\n| FC-10 |\n| 2 weight layers |", ["VGG007"]),
        ("| A | B |\n| FC-10 |  |  |\n| 3 weight layers |", ["VGG006"]),
        ("net A\nnet my net\nFC-10\n3 weight layers", ["VGG119", "VGG001"]),
        ("conv3-64(pad\nFC-10\n3 weight layers\n99 parameters", ["VGG001"]),
        ("input 8\nFC-10\ntrain:\n  crop 99\n  scale 3", ["VGG001"]),
        ("input 0x8\nFC-10\ntrain:\n  crop 99\n  scale 3", ["VGG103"]),
        ('like "nowhere.vgg"\nBN\nFC-10\n8 weight layers', ["VGG127"]),
        ("FC-10\ntrain\n  batch 2", ["VGG001"]),
        ("FC-10\ntrain:\n  batch (2)\n3 weight layers", ["VGG001", "VGG117"]),
        ("conv3-64 x2 as c\nFC-10\n8 weight layers", ["VGG110"]),
    ],
)
def test_nothing_is_reported_that_only_follows(text: str, codes: list[str]) -> None:
    assert [one.what.code for one in check_source(Source("t.vgg", text)).reports] == codes


def test_broken_line_does_not_hide_the_next() -> None:
    text = "conv 3-64\nmaxpol\nFC-10\ntrain:\n  batch (2)\n  lr 3\n"
    codes = [one.what.code for one in check_source(Source("t.vgg", text)).reports]
    assert codes == ["VGG001", "VGG101", "VGG001", "VGG401"]


def _within(report: Report, source: Source) -> None:
    spans = [report.span, *(other.span for other in report.others)]
    for span in spans:
        if span is not None:
            assert 0 <= span.start <= span.end <= len(source.text)


def _check(text: str) -> None:
    source = Source("t.vgg", text)
    reports = check_source(source).reports
    for report in reports:
        assert report.source == source
        _within(report, source)
        assert as_dict(report)["code"]
    as_text(reports)
    as_json(reports)
    as_github(reports)


@settings(deadline=None, max_examples=300)
@given(st.text(max_size=200))
@example("|")
@example("**")
@example("conv\u0663-64")
@example("train:\n x")
@example("input 8x8(std 1/0)\nFC-1")
@example("dropout(²)")
@example("| |\n| a |")
def test_any_text_is_checked(text: str) -> None:
    _check(text.replace("\r", "\n"))


def test_number_of_blocks() -> None:
    blocks = [f"block b{i}:\n  BN\n" for i in range(MAX_BLOCKS)]
    assert len(_document("FC-1\n" + "".join(blocks)).blocks) == MAX_BLOCKS
    found = _mistakes("FC-1\n" + "".join(blocks) + "block last:\n  BN\n")
    assert found == [("VGG018", 2 + 2 * MAX_BLOCKS, 1)]


WORDS_OF_THE_LANGUAGE = """
    conv3-64 conv FC-10 FC maxpool3/2 BN LRN soft-max boxes gap dropout net input like train: as
    test: x2 × up to ( ) , : | ** 224x224 16 138M weight layers parameters RGB mean 1 0.5 1/0 -1 pad
    linear scale batch 256..512 first last start from – # "D.vgg" "t.vgg" "
    [ ] + & [conv3-8 {c} { } {in/2} identity shortcut once outputs conv1_1 is block part(c): layer
    name output 8x8x8 deep MACs ReLU dwconv3 x{n}
"""
WORDS = st.sampled_from([*WORDS_OF_THE_LANGUAGE.split(), "\n", "\n", "\n  ", "\t", " "])


SPECS = [
    path.read_text("utf-8")
    for folder in (ROOT / "specs", Path(__file__).parent / "graphs")
    for path in sorted(folder.glob("*.vgg"))
]


@settings(deadline=None, max_examples=150)
@given(st.sampled_from(SPECS), st.data())
def test_mutated_specs_are_checked(text: str, data: st.DataObject) -> None:
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(text)))
        end = min(len(text), start + data.draw(st.integers(0, 6)))
        text = text[:start] + data.draw(st.one_of(st.text(max_size=3), WORDS)) + text[end:]
    _check(text.replace("\r", "\n"))


@settings(deadline=None, max_examples=100)
@given(net_texts())
def test_generated_nets_parse(text: str) -> None:
    assert not parse_leniently(Source("t.vgg", text))[1]


def test_what_follows_a_head_is_one_word() -> None:
    """A line of any length makes a message of a few words."""
    _, reports = parse_leniently(Source("t.vgg", "FC-10\n" + "train:" * 2_000 + "\n"))
    assert len(reports) == 1
    assert max(map(len, as_text(reports.sorted()).splitlines())) < 500
