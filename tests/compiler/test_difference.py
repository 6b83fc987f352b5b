"""What one net adds to another."""

from collections.abc import Iterable
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import vggspec.compiler.difference
from tests.strategies import net_texts
from vggspec.base.source import Source
from vggspec.compiler.difference import Change, Difference, Mark, difference
from vggspec.compiler.lower import load_network, lower
from vggspec.lang.parser import parse


def _between(first: str, second: str) -> Difference:
    return difference(*(lower(parse(Source("n.vgg", text)).specs[0]) for text in (first, second)))


def _of_specs(specs: Path, first: str, second: str) -> Difference:
    return difference(*(load_network(str(specs / f"{name}.vgg")) for name in (first, second)))


def _shown(found: Difference) -> list[str]:
    """``=conv3-64``, ``-conv1-256 +conv3-256``: one string a row."""
    lines = []
    for row in found.rows:
        if row.is_same and row.first:
            lines.append(f"={row.first.write()}")
            continue
        removed = f"-{row.first.write()}" if row.first else ""
        added = f"+{row.second.write()}" if row.second else ""
        lines.append(f"{removed} {added}".strip())
    return lines


def test_d_adds_a_conv_to_each_block_of_a(specs: Path) -> None:
    assert _shown(_of_specs(specs, "A", "D")) == [
        *("=conv3-64", "+conv3-64", "=maxpool"),
        *("=conv3-128", "+conv3-128", "=maxpool"),
        *("=conv3-256", "=conv3-256", "+conv3-256", "=maxpool"),
        *("=conv3-512", "=conv3-512", "+conv3-512", "=maxpool"),
        *("=conv3-512", "=conv3-512", "+conv3-512", "=maxpool"),
        *("=FC-4096", "=FC-4096", "=FC-1000", "=soft-max"),
    ]


def test_d_has_conv3_where_c_has_conv1(specs: Path) -> None:
    changed = [line for line in _shown(_of_specs(specs, "C", "D")) if line[0] != "="]
    assert changed == [
        "-conv1-256 +conv3-256",
        "-conv1-512 +conv3-512",
        "-conv1-512 +conv3-512",
    ]


def test_the_bold_of_table_1(specs: Path) -> None:
    """Each net of the table adds to the one at its left what the paper prints in bold."""
    document = parse(Source("table1.vgg", (specs / "table1.vgg").read_text("utf-8")))
    nets = {spec.name.text: spec for spec in document.specs if spec.name is not None}
    lowered = {name: lower(spec) for name, spec in nets.items()}
    for first, second in (("A", "A-LRN"), ("A", "B"), ("B", "C"), ("D", "E")):
        rows = difference(lowered[first], lowered[second]).rows
        added = [row.second.write() for row in rows if row.second and not row.is_same]
        assert added == [item.word.text for item in nets[second].layers if item.bold]


def test_names_do_not_matter_and_spellings_do_not(specs: Path) -> None:
    found = _between(
        "net a\ninput 8x8 gray\nconv3-4 as first maxpool2/2 LRN FC-2",
        "net b\ninput 8×8 GRAY\nCONV3-4(pad 1) maxpool LRN(n 5) FC-2 as last",
    )
    assert found.is_empty


def test_a_dropout_that_is_written_counts_and_an_implied_one_does_not() -> None:
    plain = "input 8x8 gray\nFC-4\nFC-2"
    assert _shown(_between(plain, "input 8x8 gray\nFC-4 dropout(0.3)\nFC-2")) == [
        "=FC-4",
        "+dropout(0.3)",
        "=FC-2",
    ]
    found = _between(plain, f"{plain}\ntrain:\n  dropout 0.3")
    assert found.changes == (Change("train", "dropout", "0.5", "0.3"),)
    assert all(row.is_same for row in found.rows)


def test_input_and_recipes() -> None:
    found = _between(
        "input 8x8 gray\nFC-2\ntrain:\n  scale 8..16\n  stop after 5 epochs\ntest:\n  crops 3x3",
        'input 9x8 gray(mean 1)\nFC-2\ntrain:\n  scale 12\n  start from "A.vgg": last 1 FC',
    )
    assert found.changes == (
        Change("", "input", "8x8 gray", "9x8 gray"),
        Change("", "mean", "measured", "1"),
        Change("train", "scale", "8..16", "12"),
        Change("train", "stop", "after 5 epochs", "after 370000 iterations"),
        Change("train", "start from", "nothing", '"A.vgg": last 1 FC'),
        Change("test", "dense", "off", "on"),
        Change("test", "crops", "3x3", "off"),
    )


COLUMN = "net a\ninput 32x32 RGB\nconv3-8 conv3-8 maxpool conv3-16 conv3-16 FC-2"


def test_a_shortcut_around_layers_is_all_that_it_adds() -> None:
    graph = COLUMN.replace("conv3-8 conv3-8", "[conv3-8 conv3-8 + shortcut]")
    assert _shown(_between(COLUMN, graph)) == [
        *("+[", "=conv3-8", "=conv3-8", "++ shortcut", "+]"),
        *("=maxpool", "=conv3-16", "=conv3-16", "=FC-2"),
    ]
    assert _between(COLUMN, graph).rows[1].depths == (0, 1)


def test_brackets_go_by_their_names() -> None:
    net = "input 32x32 RGB\nconv3-8\n[conv3-8 conv3-8 + identity] x2 as a\nconv3-4 FC-2"
    other = net.replace("[conv3-8 conv3-8 +", "[conv1-8 conv3-8 conv1-8 +")
    bracket = ["=[", "-conv3-8 +conv1-8", "=conv3-8", "+conv1-8", "=+ identity", "=]"]
    rest = ["=conv3-4", "=FC-2"]
    assert _shown(_between(net, other)) == ["=conv3-8", *bracket, *bracket, *rest]
    another = net.replace("x2 as a", "as a_2")
    bracket = ["[", "conv3-8", "conv3-8", "+ identity", "]"]
    assert _shown(_between(another, net)) == [
        *("=conv3-8", *(f"+{one}" for one in bracket), *(f"={one}" for one in bracket), *rest)
    ]


def test_what_a_conv_stands_for_and_what_is_an_output() -> None:
    means = f"{COLUMN}\nconv is conv(no-bias) BN ReLU\nfrom pool1\nFC-3 as head\noutputs head fc3"
    found = _between(COLUMN, means)
    assert _shown(found)[-2:] == ["+from pool1", "+FC-3"]
    assert found.changes == (
        Change("", "conv is", "conv ReLU", "conv(no-bias) BN ReLU"),
        Change("", "outputs", "", "head fc3"),
    )


@settings(max_examples=40, deadline=None)
@given(net_texts(), net_texts())
def test_every_layer_stands_in_one_row(first: str, second: str) -> None:
    found = _between(first, second)
    alone = [_between(text, text) for text in (first, second)]
    assert all(one.is_empty for one in alone)
    assert [row.first for row in found.rows if row.first] == [row.first for row in alone[0].rows]
    assert [row.second for row in found.rows if row.second] == [row.first for row in alone[1].rows]
    back = _between(second, first)
    assert sum(row.is_same for row in back.rows) == sum(row.is_same for row in found.rows)


@settings(max_examples=40, deadline=None)
@given(net_texts(), net_texts())
def test_every_layer_stands_in_one_row_of_pieces_too(first: str, second: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vggspec.compiler.difference, "EXACT", 1)
        found = _between(first, second)
        assert all(_between(text, text).is_empty for text in (first, second))
    exact = _between(first, second)
    assert [row.first for row in found.rows if row.first] == [
        r.first for r in exact.rows if r.first
    ]
    assert [row.second for row in found.rows if row.second] == [
        row.second for row in exact.rows if row.second
    ]
    assert exact.in_pieces == 0


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(1, 4), max_size=12), st.lists(st.integers(1, 4), max_size=12))
def test_layers_are_aligned_by_a_longest_common_subsequence(
    first: list[int], second: list[int]
) -> None:
    mine, others = ([Mark(str(one)) for one in each] for each in (first, second))
    pairs = list(vggspec.compiler.difference._pairs_of_layers(mine, others))
    assert [one for one, _ in pairs if one] == mine
    assert [other for _, other in pairs if other] == others
    common = [one for one, other in pairs if one and other]
    assert all(one == other for one, other in pairs if one and other)
    assert len(common) == len(_longest(tuple(first), tuple(second)))


@cache
def _longest(first: tuple[int, ...], second: tuple[int, ...]) -> tuple[int, ...]:
    """By its definition."""
    if not first or not second:
        return ()
    found = max(_longest(first[1:], second), _longest(first, second[1:]), key=len)
    if first[0] == second[0]:
        found = max(found, (first[0], *_longest(first[1:], second[1:])), key=len)
    return found


def _brackets(kernel: int, widths: Iterable[int]) -> str:
    lines = (f"[conv{kernel}-{width} conv3-8 + conv1-8]" for width in widths)
    return "conv3-8\n" + "\n".join(lines) + "\ngap FC-10"


@pytest.mark.parametrize("kernel", [3, 5])
def test_large_nets_take_time_in_proportion_to_their_size(
    kernel: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Brackets are compared with a few others each, with nearly the result of comparing them with
    all; with the same where anchors are found.
    """
    compared = 0

    def counted(first, second):  # type: ignore[no-untyped-def]
        nonlocal compared
        compared += 1
        return inside(first, second)

    inside = vggspec.compiler.difference._inside
    monkeypatch.setattr(vggspec.compiler.difference, "_inside", counted)
    monkeypatch.setattr(vggspec.compiler.difference, "EXACT", 1 << 10)
    texts = _brackets(3, range(8, 108)), _brackets(kernel, [*range(9, 60), *range(61, 109)])
    found = _between(*texts)
    assert compared < 100 * 30
    assert bool(found.in_pieces) is (kernel == 5)
    monkeypatch.setattr(vggspec.compiler.difference, "EXACT", 1 << 30)
    exact = _between(*texts)
    assert compared > 100 * 99
    assert exact.in_pieces == 0
    alike = [sum(row.is_same for row in each.rows) for each in (found, exact)]
    assert alike[0] == alike[1] if kernel == 3 else alike[0] > 0.95 * alike[1]


def test_large_nets_go_by_names(monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"[conv3-{8 + i} conv3-8 + conv1-8] as part{i}" for i in range(20)]
    net = "\n".join(["conv3-8", *names, "gap FC-2"])
    other = net.replace("conv3-", "conv5-").replace("conv5-8 +", "conv3-8 +")
    other = "\n".join(line for line in other.splitlines() if not line.endswith(("part3", "part4")))
    exact = _between(net, other)
    monkeypatch.setattr(vggspec.compiler.difference, "EXACT", 1)
    found = _between(net, other)
    assert found.rows == exact.rows
    assert found.in_pieces == 0


def test_brackets_are_compared_without_a_table_each(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 40 brackets that are all unlike, each is compared with 40 others: tables are made of those
    alone that end in one row.
    """
    made: list[int] = []

    def counted(rows, width):  # type: ignore[no-untyped-def]
        made.append(width)
        return table(rows, width)

    table = vggspec.compiler.difference._table
    monkeypatch.setattr(vggspec.compiler.difference, "_table", counted)
    texts = [
        "conv3-8\n"
        + "".join(f"[conv3-{16 + i} conv{kernel}-8 + identity]\n" for i in range(40))
        + "FC-10"
        for kernel in (3, 5)
    ]
    found = _between(*texts)
    assert [row.is_same for row in found.rows].count(False) == 40
    assert len(made) < 10 * 40
